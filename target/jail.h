/*
 * The jails of the recorder and of the parser: no capability, none to be had by exec, no core, no ptrace by others, and a
 * seccomp filter that knows no open, no socket, no exec, no fork, no ptrace. What is open stays open; what is needed
 * later comes as a descriptor: to the recorder from the broker (target/broker.h), to the parser from the recorder.
 */
#pragma once

#include <sys/types.h>

/* The sanitizers start helpers and read /proc when the process ends: the filter is a small one then. */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define JAIL_SANITIZED 1
#else
#define JAIL_SANITIZED 0
#endif

struct err;

/* For good. `child` may be signalled (0: nobody). 0 or -errno; -ENOSYS where the kernel has no seccomp filters. */
int jail_enter(pid_t child, struct err *err);
/*
 * The parser's: it may read what it is sent, and send answers over the socket it has. Memory is limited to
 * JAIL_PARSER_BYTES, what a section of DWARF that inlining may read (ELF_MAX_CONTENT) needs twice.
 */
enum { JAIL_PARSER_BYTES = 768 << 20 };
int jail_enter_parser(struct err *err);
