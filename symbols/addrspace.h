/*
 * What lies where in each process, at the time of the record being handled. Feed side-band records in time
 * order. A process is (pid, generation): exec and pid reuse make a new `struct addrspace`.
 */
#pragma once

#include "symbols/mappings.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct addrspaces;
struct door;
struct err;
struct file;
struct files;
struct intern;

/* addr - vaddr; of files parsed elsewhere a question, so not for every sample. */
uint64_t mapping_bias(const struct mapping *m);

struct addrspace {
	pid_t pid;
	uint32_t id;           /* unique over the run: the generation */
	uint32_t version;      /* grows with every change of `maps` */
	struct mappings maps;
	uid_t uid;             /* real uid when last looked at, (uid_t)-1 = not known; see addrspaces_uid */
	pid_t ppid;
	uint64_t exec_ns;      /* CLOCK_MONOTONIC of the exec that began it; 0 = none was seen */
	bool compat;           /* a 32-bit program */
	bool denied;           /* the kernel let nobody read its maps */
	bool dead;             /* its EXIT was handled, or another program follows; space_gone is due */
	bool left;             /* its EXIT was handled: kept for samples that come behind it, see addrspaces_exit */
	void *user;            /* the session's; starts NULL (not copied by fork) */
	void *names;           /* the perf map source's; starts NULL */
	uint64_t names_next_ns; /* when names of its code change next, see symbols_jit_advance; 0 = it must be asked */
};

/*
 * What was read from /proc: a process that no record had told of, or not all, or the name of a thread. Whoever writes records
 * down has to tell just that, as what /proc says a moment later may be something else, or nothing.
 */
struct addrspaces_learned {
	pid_t pid, ppid;
	pid_t tid;        /* whose name it is; 0 = it is of a process */
	const char *comm; /* of that thread, else of the process's first one; "" = that has ended */
	const struct addrspaces_thread {
		pid_t tid;
		const char *comm;
	} *threads;       /* of a process: the others; with opts.all_names */
	size_t num_threads;
	const char *maps; /* of a process: the text of /proc/PID/maps, with how many bytes */
	size_t maps_bytes;
	bool born;        /* a process that was not known at all */
	bool same;        /* it is still the generation that it was */
	bool ended;       /* it is gone, and no record told so; the only other thing that is told then is `comm` */
};

struct addrspaces_opts {
	struct files *files;    /* borrowed */
	struct door *door;      /* borrowed; NULL: records alone are believed, /proc is not read (a saved file) */
	struct intern *strings; /* borrowed: comms live there as ids */
	/* Called once before a generation ends (10 ms behind its exit; exec, pid reuse, shutdown). May be NULL. */
	void (*space_gone)(void *data, struct addrspace *space);
	/* Not told of processes that a scan finds. True: it was put down where records are. May be NULL. */
	bool (*learned)(void *data, const struct addrspaces_learned *learned);
	bool all_names;         /* read the names of a learned process's threads at once, not when a sample asks */
	void *data;
	uint32_t first_id;      /* addrspace.id begins above it */
};

int addrspaces_new(const struct addrspaces_opts *opts, struct addrspaces **ret, struct err *err);
void addrspaces_free(struct addrspaces *a); /* calls space_gone for each */

/*
 * The process `pid` as of now. Unknown pids are read from /proc (status, maps, task) once; when that fails
 * an empty space is made (a few dozen of those are kept, as no EXIT will come for them). NULL only when out
 * of memory. The pointer holds until the next call that takes a record or gets another process. Where records
 * may be missing it is read once more, see addrspaces_lost.
 */
struct addrspace *addrspaces_get(struct addrspaces *a, pid_t pid);
struct addrspace *addrspaces_peek(struct addrspaces *a, pid_t pid); /* NULL when not known */
/*
 * Real uid; (uid_t)-1 = not known. No record tells of a setuid, so it is read again from /proc when it may have
 * changed: after a fork or an exec, and when the last look is a quarter of a second older than `time_ns`, the
 * time of a sample.
 */
uid_t addrspaces_uid(struct addrspaces *a, struct addrspace *space, uint64_t time_ns);
/* Every running process, before recording starts. */
int addrspaces_scan(struct addrspaces *a, struct err *err);
/* The same for the processes of these tasks alone; one that is gone is none. */
int addrspaces_scan_tasks(struct addrspaces *a, const pid_t *tids, size_t num, struct err *err);

/* Interned id (intern_get(strings, id)) of the thread's comm; read from /proc when unknown. */
uint32_t addrspaces_comm(struct addrspaces *a, pid_t pid, pid_t tid);

/*
 * Records. `time_ns` is the record's; a space read from /proc at T ignores those older than T.
 */
struct mmap_record {
	pid_t pid, tid;
	uint64_t start, len, pgoff;
	uint32_t maj, min;
	uint64_t ino, ino_generation;
	const uint8_t *build_id; /* where it is told */
	size_t build_id_len;
	bool build_id_of_path; /* as in struct door_mapping */
	bool executable;
	const char *path;
	size_t path_len;
};
void addrspaces_mmap(struct addrspaces *a, const struct mmap_record *m, uint64_t time_ns);
void addrspaces_fork(struct addrspaces *a, pid_t pid, pid_t ppid, pid_t tid, pid_t ptid,
		     uint64_t time_ns);
/* A task that is there already, and was forked long ago: what lies in its process is told next. */
void addrspaces_found(struct addrspaces *a, pid_t pid, pid_t ppid, pid_t tid, uint64_t time_ns);
void addrspaces_comm_changed(struct addrspaces *a, pid_t pid, pid_t tid, const char *comm, size_t len,
			     bool exec, uint64_t time_ns);
/*
 * A process ends with its last task. Since Linux 6.16 that is told before its memory goes (kernel/exit.c, do_exit), and
 * samples come behind it with stacks to be walked: so what lay in it is kept for another 10 ms, unless a record tells of
 * another process of the same number. Records let go what is older than that; samples do by addrspaces_advance.
 */
void addrspaces_exit(struct addrspaces *a, pid_t pid, pid_t tid, uint64_t time_ns);
void addrspaces_advance(struct addrspaces *a, uint64_t time_ns);
/*
 * Whether a record of that process and time tells nothing new, as opts.learned has put down what is true since: it must not
 * come behind that.
 */
bool addrspaces_overtook(const struct addrspaces *a, pid_t pid, uint64_t time_ns);
/*
 * Some of those records, written until then, may have been lost: an exec may be known without what it mapped, a fork without its exec.
 * Each process is read again from /proc when addrspaces_get is next asked for it. It remains the same generation if some file
 * still lies where it lay; one that has ended remains what it was. This is given a tenth of the time, and 0.2 s at once, so
 * that whoever loses records all the time still samples; without a door nothing can be done.
 */
void addrspaces_lost(struct addrspaces *a, uint64_t until_ns);
/*
 * Now and then: those whose EXIT may have been lost, and that were not in /proc any more twice, some seconds apart, are let go
 * of, and opts.learned is told. Does nothing where none was lost.
 */
void addrspaces_sweep(struct addrspaces *a);

/* The mapping that holds addr, or NULL. */
const struct mapping *addrspace_find(const struct addrspace *space, uint64_t addr);

size_t addrspaces_count(const struct addrspaces *a);
