/*
 * The insides of symbols/addrspace.h: processes and what lies in them (addrspace.c), their tasks and what those are called
 * (addrspace_tasks.c), and what /proc says of them (addrspace_proc.c).
 */
#pragma once

#include "symbols/addrspace.h"

#include "base/hash.h"
#include "base/htab.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "target/proc_text.h"

struct door_mapping;

enum {
	MAX_GHOSTS = 64,
	MAX_ENDED = 256,
};

static const uint64_t address_half = UINT64_C(1) << 63; /* the kernel's addresses begin there */

struct space {
	struct addrspace pub; /* first: the outside knows only this */
	uint64_t read_ns; /* CLOCK_MONOTONIC before it was read from /proc; 0 = its maps were not */
	uint64_t sure_ns; /* records since then have told all that changed in it, unless some were lost */
	bool put_down;    /* what was read is where records are: opts.learned said so */
	VEC(pid_t) tids;  /* its known live tasks */
	pid_t through;    /* whose /proc tells of it: its leader, or a thread when the leader has ended */
	bool class_known; /* pub.compat was decided by a mapped ELF file */
	uint64_t uid_ns;  /* CLOCK_MONOTONIC when uid was read; 0 = a fork or an exec came since */
	bool ghost;       /* no EXIT will come for it */
	uint8_t missed;   /* so often addrspaces_sweep did not find it in /proc */
};

/*
 * A task's name. Strings live as long as the run, so a name becomes one only when a sample asks for it: programs that
 * rename themselves without end are not to fill the memory.
 */
struct comm {
	uint32_t id;   /* of the string, or one of: */
	char text[16]; /* TASK_COMM_LEN of include/linux/sched.h; with COMM_IN_TEXT */
};

enum { COMM_IN_PROC = UINT32_MAX, COMM_IN_TEXT = UINT32_MAX - 1 };

static const struct comm comm_in_proc = { .id = COMM_IN_PROC };

struct task {
	pid_t tid, pid;
	struct comm comm;
	uint32_t index; /* in the space's tids */
	bool ask;       /* /proc knows its name better, if it is still there */
	bool listed;    /* by read_task, since the flag was cleared */
};

struct space_slot {
	pid_t pid;
	struct space *space;
};

HTAB(spaces, struct space_slot, pid_t, hash_u64((uint32_t)key), slot->pid == key,
     hash_u64((uint32_t)slot->pid));
HTAB(tasks, struct task, pid_t, hash_u64((uint32_t)key), slot->tid == key,
     hash_u64((uint32_t)slot->tid));

/* A task that ended lately, or one that is not worth a place in the table. */
struct ended {
	pid_t pid, tid; /* 0 = free */
	struct comm comm;
	bool was_process; /* its process ended with it */
};

/* A process that ended, if the space of that pid is still that one. */
struct leaving {
	pid_t pid;
	uint32_t id;
	uint64_t until_ns;
};

struct addrspaces {
	struct addrspaces_opts opts;
	VEC(struct leaving) leaving; /* in the order of their ends; those before first_leaving are gone */
	size_t first_leaving;
	struct spaces spaces;
	struct tasks tasks;
	pid_t ghosts[MAX_GHOSTS]; /* a ring; 0 = free */
	size_t next_ghost;
	struct ended ended[MAX_ENDED]; /* a ring */
	size_t next_ended;
	uint32_t next_id;
	uint32_t comm_unknown, comm_idle;
	bool scanning;
	uint64_t swept_ns; /* CLOCK_MONOTONIC of the last addrspaces_sweep that looked */
	bool sweep_again;  /* which missed some for the first time */
	uint64_t lost_ns;  /* CLOCK_MONOTONIC: records may be missing that were written until then; 0 = none are */
	int64_t allow_ns;  /* time left for looking again, as of allowed_ns; below 0 = overdrawn */
	uint64_t allowed_ns;
};

/* --- addrspace.c --- */

struct space *space_of(struct addrspace *space);
/* NULL = not known. */
struct space *space_peek(const struct addrspaces *a, pid_t pid);
/* An executable mapping as told by a record or by /proc. */
void space_add_mapping(struct addrspaces *a, struct space *s, const struct door_mapping *dm, uint64_t pgoff,
		       uint32_t generation);
/* An EXIT did come for it, or it is about to be freed. */
void space_forget_ghost(struct addrspaces *a, struct space *s);
/* Tells opts.space_gone, and frees it. */
void space_end(struct addrspaces *a, struct space *s);
/* Empty; the number must be free. NULL = out of memory. */
struct space *space_add(struct addrspaces *a, pid_t pid);
/* For a process that is gone already, so that its late samples have a place. A new one pushes an old one out. */
void space_make_ghost(struct addrspaces *a, struct space *s);

/* --- addrspace_tasks.c --- */

/* Nothing when there is none of that number. */
void task_remove(struct addrspaces *a, pid_t tid);
/* The task of that number, new or known, of that process from now on; NULL = out of memory. */
struct task *task_add(struct addrspaces *a, struct space *s, pid_t tid, struct comm comm);
void ended_remember(struct addrspaces *a, pid_t pid, pid_t tid, struct comm comm, bool was_process);
/* The same of a task whose name is known; else nothing. */
void ended_remember_task(struct addrspaces *a, const struct task *task);
/* The latest that had these numbers; that of a thread may since be another process's. */
struct ended *ended_find(struct addrspaces *a, pid_t pid, pid_t tid);
/* Without the memory of the caller. */
struct comm comm_of(struct addrspaces *a, const char *text, size_t len);
/* What the process is called, by what is known of its leader: the best guess for a thread that nobody told of. */
struct comm process_comm(struct addrspaces *a, pid_t pid);
const char *comm_text(const struct addrspaces *a, const struct comm *comm);
/* False: it is gone. */
bool task_read_name(struct addrspaces *a, struct task *task);
void space_forget_tasks(struct addrspaces *a, struct space *s);
/* Of those that have ended samples are still to come; the others are told next. */
void space_remember_tasks(struct addrspaces *a, const struct space *s);

/* --- addrspace_proc.c --- */

/* That process; if nothing is known of it, as /proc has it; else a ghost. NULL = out of memory. */
struct space *space_get(struct addrspaces *a, pid_t pid);
