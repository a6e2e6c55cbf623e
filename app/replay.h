/*
 * A recording as a profile: which of its events and samples are wanted, where it was made, its records through the
 * session, what it says about itself. One for each command that takes a recording.
 */
#pragma once

#include "app/session.h"
#include "base/opts.h"
#include "base/vec.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct err;
struct profile;
struct replay;

enum { REPLAY_MAX_CPUS = 8192 };

/* Which samples and files; what REPLAY_ROWS sets. `struct replay_args` follows `struct outputs` in the arguments. */
struct replay_args {
	VEC(const char *) events; /* -e; none = the first event that has samples */
	VEC(pid_t) pids, tids;
	VEC(const char *) comms;
	uint8_t cpus[REPLAY_MAX_CPUS / 8];
	bool have_cpus;
	const char *time; /* --time, as given; NULL = all */
	const char *symfs, *kallsyms, *vmlinux, *map_dir;
};

void replay_args_deinit(struct replay_args *a);

int replay_set_event(void *data, const char *arg, struct err *err);
int replay_set_pids(void *data, const char *arg, struct err *err);
int replay_set_tids(void *data, const char *arg, struct err *err);
int replay_set_comms(void *data, const char *arg, struct err *err);
int replay_set_cpus(void *data, const char *arg, struct err *err);
int replay_set_time(void *data, const char *arg, struct err *err);
int replay_set_symfs(void *data, const char *arg, struct err *err);
int replay_set_kallsyms(void *data, const char *arg, struct err *err);
int replay_set_vmlinux(void *data, const char *arg, struct err *err);
int replay_set_map_dir(void *data, const char *arg, struct err *err);
int replay_set_no_debuginfod(void *data, const char *arg, struct err *err);

#define REPLAY_ROWS                                                                          \
	{ 'e', "event", "NAME", "repeatable; only samples of this event, or \"all\"\n"        \
	  "(default: the first that has samples)", replay_set_event },                       \
	{ 'p', "pid", "PID,..", "only samples of these processes", replay_set_pids },        \
	{ 't', "tid", "TID,..", "only samples of these threads", replay_set_tids },          \
	{ 0, "comm", "NAME", "repeatable; only samples of threads of this name",             \
	  replay_set_comms },                                                                \
	{ 'C', "cpu", "LIST", "only samples of these CPUs, such as 0-3,7", replay_set_cpus }, \
	{ 0, "time", "FROM,TO", "only samples between these times of the recording, in seconds;\n" \
	  "either may be left out; or 10%-20% of it", replay_set_time },                     \
	{ 0, "symfs", "DIR", "look for files below DIR", replay_set_symfs },                 \
	{ 0, "kallsyms", "FILE", "the recorded kernel's symbols", replay_set_kallsyms },     \
	{ 'k', "vmlinux", "FILE", "the recorded kernel itself", replay_set_vmlinux },        \
	{ 0, "map-dir", "DIR", "where maps of the recorded processes are, as perf-PID.map\nor jit-PID.dump",     \
	  replay_set_map_dir },                                                              \
	{ 0, "no-debuginfod", NULL, "do not ask the servers of $DEBUGINFOD_URLS",            \
	  replay_set_no_debuginfod }

struct replay_opts { /* all borrowed until replay_free */
	const char *path; /* a file, a directory, or "-" */
	const struct replay_args *args;
	struct session_opts session; /* how stacks are made and shown; the rest is filled in */
};

int replay_open(const struct replay_opts *opts, struct replay **ret, struct err *err);
void replay_free(struct replay *r); /* NULL is fine */
static inline void replay_freep(struct replay **r)
{
	replay_free(*r);
}

/*
 * Reads all of it. What cannot be read to its end is an error, told by *err, but what came before it is there: then 1
 * is returned.
 */
int replay_run(struct replay *r, struct err *err);
/* The last that is asked for. Names are left out once stop(data) says so; stop may be NULL. */
int replay_profile(struct replay *r, bool (*stop)(void *data), void *data, struct profile **ret,
		   struct err *err);
