/* What door.c and door_open.c share. */
#pragma once

#include "target/door.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct err;
struct strbuf;

struct broker;
struct door_mapping;

struct door {
	struct broker *broker; /* who answers instead; NULL: we, and the rest is ours */
	int proc_fd;       /* O_PATH of /proc */
	int root_fd;       /* O_PATH of our own root: the host's for an agent on the host */
	struct door_refused *refused; /* NULL = nothing yet */
	char missing_rights[80]; /* see door_missing_rights */
	bool have_openat2; /* Linux 5.6; also false where a seccomp filter forbids it */
};

/* O_PATH of /proc, or -errno where that is not what is mounted there. */
int door_open_proc_root(struct err *err);

/*
 * O_PATH descriptor of /proc/PID, or -errno (-ESRCH when there is no such process). It stays bound
 * to that very process: when the pid is used again, what is looked up below it fails instead of
 * telling of the new one. This is why nothing here has to compare start times.
 */
int door_process(const struct door *door, pid_t pid);

/* /proc/PID/NAME, and the directory /proc (pid 0) or /proc/PID/task: descriptors, or -errno. Names as door_read_proc. */
int door_open_proc(struct door *door, pid_t pid, const char *name, struct err *err);
int door_open_tasks(struct door *door, pid_t pid, struct err *err);
/* One of the directories of door_each_container_log; -ENOENT where there is none. */
int door_open_logs(struct door *door, unsigned int which);

/* When the process (a descriptor of /proc/PID) started: nanoseconds of CLOCK_BOOTTIME, in clock ticks. 0 or -errno. */
int door_start_time(int process, uint64_t *ret_ns);

/* The text of one file below a directory descriptor. 0 or -errno. */
int door_read_at(int dir, const char *name, size_t cap, struct strbuf *ret, bool *cut);

/* A door whose own root is a directory that a person named. */
int door_new_below(const char *dir, struct door **ret, struct err *err);

void door_note_rights(struct door *door); /* while this process still has its privileges */

/* Counts it once for this process and file (see door_refused), and hands it on. */
enum door_refusal door_note_refusal(struct door *door, pid_t pid, const char *what, enum door_refusal refusal);
/*
 * A file system that does not answer costs 2 s: once. door_note_slow: so it was, DOOR_SLOW. From then on files of the
 * mapping's device, or with NULL by path in that process, are not asked for.
 */
bool door_is_slow(const struct door *door, pid_t pid, const struct door_mapping *mapping, struct err *err);
enum door_refusal door_note_slow(struct door *door, pid_t pid, const struct door_mapping *mapping);
void door_refused_free(struct door_refused *r); /* NULL is fine */

/* Whether a process (a descriptor of /proc/PID) sees the very tree that we see. */
bool door_shares_our_root(const struct door *door, int process);
