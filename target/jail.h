/*
 * The jail of whoever parses what targets control: no capability, none to be had by exec, and a seccomp filter that
 * knows no open, no socket, no exec, no ptrace. What is open stays open; what is needed later comes as a
 * descriptor from the broker (target/broker.h).
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
