/*
 * The jail of whoever parses what targets control: no capability, none to be had by exec, and a seccomp filter that
 * knows no open, no socket, no exec, no ptrace. What is open stays open; what is needed later comes as a
 * descriptor from the broker (target/broker.h).
 */
#pragma once

#include <sys/types.h>

struct err;

/* For good. `child` may be signalled (0: nobody). 0 or -errno; -ENOSYS where the kernel has no seccomp filters. */
int jail_enter(pid_t child, struct err *err);
