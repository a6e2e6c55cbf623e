/*
 * Files of a recording, looked for on this machine after the fact. The recording says by which path a file was mapped
 * and, mostly, its build-id. Where it does, only a file with that build-id will do, wherever it is found: under the
 * recorded path, in perf's cache (~/.debug), in the distribution's build-id directories, at a debuginfod server.
 * This finds candidates; whoever asked reads their build-id and asks for the next one if it is another.
 *
 * Where the recording has no build-id the path alone must do, and a wrong name is worse than none:
 *  - the file must not have been written since the recording ended, and
 *  - it must be the very inode that was mapped (device and number, as the kernel recorded them), by its path or
 *    through the process while that lives (in a container, say), or, where the recording does not tell the inode,
 *    have kept its inode unchanged since then (ctime) on the machine that was recorded.
 * With --symfs the user vouches for the tree: there a path is enough.
 */
#pragma once

#include "target/door.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct offline;

struct offline_opts {
	struct door *door;   /* borrowed: our own root */
	const char *symfs;   /* a tree to look in instead of our own root; NULL = none */
	int64_t end_ns;      /* CLOCK_REALTIME when the recording ended; INT64_MAX = it has not */
	const char *map_dir; /* where perf maps are looked for, and nowhere else; NULL = by the rule below */
};

/* Where the recording was made, as far as it tells. */
enum offline_origin {
	OFFLINE_ELSEWHERE,    /* on another machine: paths prove nothing here */
	OFFLINE_THIS_MACHINE, /* but another boot, or nobody knows which */
	OFFLINE_THIS_BOOT,
};

int offline_new(const struct offline_opts *opts, struct offline **ret, struct err *err);
void offline_free(struct offline *o); /* NULL is fine */
/* OFFLINE_THIS_MACHINE until the recording has told. `clock_ns`: CLOCK_REALTIME minus the time of its records. */
void offline_set_origin(struct offline *o, enum offline_origin origin, int64_t clock_ns);

/*
 * A recording that does not tell its machine was made on a kernel that lay where ours does: if it was written since
 * this boot, it was made on it.
 */
void offline_lay_here(struct offline *o);

/* What the recording says of a file. */
struct offline_wish {
	const char *path; /* as it was mapped; "[vdso]" too */
	const uint8_t *build_id;
	size_t build_id_len; /* 0 = the recording does not tell it */
	uint32_t maj, min;   /* with ino 0: not told */
	uint64_t ino;
	const struct door_mapping *mapping; /* of a process that may live yet; NULL = none */
};

enum offline_kind {
	OFFLINE_ELF,      /* the file itself */
	OFFLINE_DEBUG,    /* its separate debug file; needs a build-id */
	OFFLINE_KALLSYMS, /* perf's copy of a kernel's list of symbols, which its build-id in the path names */
};

/*
 * perf reads a build-id when the recording has ended, by path. Was the mapped file replaced by then, so that the
 * build-id is another one's? It was, if the path leads to another inode than the mapped one, which was there
 * before the recording ended; one that came later is but a new copy.
 */
bool offline_was_replaced(const struct offline *o, const struct offline_wish *wish);

/*
 * Place number `place` (0, 1, 2, ...) where it may be. False: there are no more places. *ret is written with
 * DOOR_OK only, and its descriptor is the caller's.
 */
enum { OFFLINE_PLACE_PROCESS = 1 }; /* what the process of wish->mapping has mapped, which lives yet */
bool offline_find(struct offline *o, enum offline_kind kind, const struct offline_wish *wish,
		  size_t place, enum door_refusal *refusal, struct door_file *ret);

/* A debug file by a path of the recorded machine (debuglink). */
enum door_refusal offline_open_debug(struct offline *o, const char *path, struct door_file *ret);

/*
 * The map of JIT symbols of a process, perf-PID.map in /tmp. Pids are used again and maps stay behind, so it must fit
 * the recording, which must be of this boot of this machine:
 *  - while the process lives, its own map (door_open_perfmap), if it started before the recording ended;
 *  - when it has ended, a map that belongs to us or to root, as perf has it, and was last written no earlier than
 *    the program started (`exec_ns`, a time of records; 0 = before the recording began: then no earlier than
 *    the machine) and no later than the recording ended. Times of records and files are a few seconds apart,
 *    so 10 s are allowed for on both sides.
 * `ended`: the recording saw it end, so what lives under its pid now is another one. Whatever else there is:
 * --map-dir says where the maps are that are meant, and those are taken as they are.
 */
struct offline_process {
	pid_t pid;
	uint64_t exec_ns;
	bool ended;
};
enum door_refusal offline_open_perfmap(struct offline *o, const struct offline_process *process,
				       struct door_file *ret);

/* The jitdump of a process in --map-dir, jit-PID.dump. */
enum door_refusal offline_open_given_dump(struct offline *o, pid_t pid, struct door_file *ret);

/* A sentence that must be told once: what could not be asked; NULL = nothing. */
const char *offline_note(const struct offline *o);
