/*
 * What the door can do here, tried for real: for `ringfold doctor`. Each answer is 0 or -errno, and opens nothing that a
 * target controls.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct door;

/* A file through /proc/PID/map_files, which is how deleted and replaced programs are read (fs/proc/base.c wants
 * CAP_CHECKPOINT_RESTORE, CAP_SYS_ADMIN before Linux 5.9). */
int door_probe_map_files(void);

/* A file whose mode lets nobody read it: CAP_DAC_READ_SEARCH. */
int door_probe_unreadable(void);

/* A file inside a process's root without leaving it: openat2, Linux 5.6. */
int door_probe_openat2(const struct door *door);

/* The end of a process told without a race: pidfd_open, Linux 5.3. */
int door_probe_pidfd(void);

/* A seccomp filter, in a child that ends: what the jail needs. */
int door_probe_jail(void);

/* How many processes there are, and of how many the maps may not be read. 0 or -errno. */
int door_probe_processes(struct door *door, size_t *ret_all, size_t *ret_denied);

/* Capabilities by their kernel number (linux/capability.h): whether this process has it in force. */
bool door_probe_capability(int cap);
