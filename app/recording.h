/*
 * A recording of this machine from its options to its records: broker, targets, events, session, jail. What becomes of it
 * is its command's business (cmd_record.c, cmd_trap.c).
 */
#pragma once

#include "app/events.h"
#include "app/launch.h"
#include "app/outputs.h"
#include "app/session.h"
#include "base/vec.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct collector;
struct containers;
struct door;
struct worker;
struct err;
struct managed;
struct memory;
struct profile_stats;
struct record;
struct saving;

enum { MAX_CPUS = 8192 }; /* NR_CPUS of the largest distribution kernels */

/* The command line. */
struct record_args {
	struct outputs out; /* first: the setters of its rows take this for it */
	bool all;
	VEC(pid_t) pids;
	VEC(pid_t) tids;
	VEC(const char *) containers; /* --container; borrowed from argv, as are the next */
	VEC(const char *) cgroups;
	bool by_uid;
	uid_t uid;
	uint8_t cpus[MAX_CPUS / 8];
	bool have_cpus;
	const char *event;
	uint32_t freq;
	uint64_t period;
	double duration;
	uint64_t stack_bytes;
	uint64_t ring_bytes;
	bool no_dotnet; /* .NET runtimes are not asked */
	char *map_dir; /* absolute; NULL = none */
	bool symbols;   /* bundle: the files of sampled code go in */
	char **command; /* after "--"; NULL = none */
};

struct recording {
	struct record_args *args; /* borrowed */
	struct door *door;
	struct memory *memory; /* of the processes */
	struct worker *parser;
	struct events events;
	struct launch launch;
	struct containers *containers; /* NULL where they are not asked for */
	bool seen_alive;               /* of the containers and cgroups, something ran once */
	unsigned int ticks;
	bool targets_ended;            /* by themselves */
	struct collector *collector;
	struct session *session;
	struct session_opts session_opts; /* of it, for one like it */
	struct managed *managed; /* NULL = no runtimes are asked, see recording_ask_runtimes */
	struct saving *saving; /* NULL = no perf.data is wanted */
	const struct record *record; /* at hand; NULL = none, but one that was held back */
	uint64_t record_ns;          /* time of the last */
	bool lost_side;              /* records of processes were lost */
	char **argv;
	char targets[256];
	char command_line[1024];
	uint64_t start_ns, end_ns; /* CLOCK_MONOTONIC */
	int nice; /* ours, to return to */
};

#define RECORDING_INIT                                                                       \
	{                                                                                    \
		.events = { .epoll_fd = -1, .signal_fd = -1, .duration_fd = -1, .tick_fd = -1 }, \
		.launch = { .go_fd = -1, .fail_fd = -1 },                                    \
	}

void record_args_deinit(struct record_args *args);
bool recording_has_target(const struct record_args *args);
bool recording_by_containers(const struct record_args *args); /* containers or cgroups are the target */
/* Exactly one kind of target, and what excludes each other. -EINVAL is wrong usage. */
int recording_check_targets(struct record_args *args, struct err *err);

/*
 * Everything up to the first record, and into the jail. `outputs` are what the broker may write, see broker_start; NULL =
 * those of the arguments. `keep_samples`: see session_opts, beyond what the outputs need.
 */
struct recording_opts {
	const char *const *outputs;
	size_t num_outputs;
	bool keep_samples;
};
int recording_open(struct recording *r, const struct recording_opts *opts, struct err *err);
void recording_close(struct recording *r);

/*
 * The runtimes of those that are there already tell their methods (app/managed.h), which takes some 100 ms and is waited
 * for or not. Between recording_open and recording_start, or for a new session.
 */
int recording_ask_runtimes(struct recording *r, bool wait, struct err *err);

/* The processes that are there already, into a session like the recording's own. */
int recording_scan(struct recording *r, struct session *session, struct err *err);

/* Counting begins, and so does the command. */
int recording_start(struct recording *r, double duration, uint64_t tick_ns, struct err *err);
/* Counting ends. */
int recording_stop(struct recording *r, struct err *err);

/* Once the records are in, there is no hurry any more. */
void recording_restore_priority(const struct recording *r);

/* Containers are over when nothing runs in them any more: then events.stop is set. About once a second. */
void recording_look_for_containers(struct recording *r);

/* What the session does not know: loss, times, what was asked for. */
void recording_complete_stats(struct recording *r, struct profile_stats *stats);

/* Rows of option tables */

int recording_set_all(void *data, const char *arg, struct err *err);
int recording_set_pids(void *data, const char *arg, struct err *err);
int recording_set_tids(void *data, const char *arg, struct err *err);
int recording_set_container(void *data, const char *arg, struct err *err);
int recording_set_cgroup(void *data, const char *arg, struct err *err);
int recording_set_uid(void *data, const char *arg, struct err *err);
int recording_set_cpus(void *data, const char *arg, struct err *err);
int recording_set_event(void *data, const char *arg, struct err *err);
int recording_set_freq(void *data, const char *arg, struct err *err);
int recording_set_period(void *data, const char *arg, struct err *err);
int recording_set_duration(void *data, const char *arg, struct err *err);
int recording_set_stack_bytes(void *data, const char *arg, struct err *err);
int recording_set_ring_bytes(void *data, const char *arg, struct err *err);
int recording_set_no_dotnet(void *data, const char *arg, struct err *err);
int recording_set_map_dir(void *data, const char *arg, struct err *err);

#define TARGET_ROWS                                                                          \
	{ 'a', "all", NULL, "every process of the machine", recording_set_all },             \
	{ 'p', "pid", "PID,..", "these processes: all threads, and what they start",         \
	  recording_set_pids },                                                              \
	{ 't', "tid", "TID,..", "these threads alone", recording_set_tids },                 \
	{ 0, "container", "ID", "what runs in a container: the start of its id, or its name;\n" \
	  "repeatable, a list too", recording_set_container },                               \
	{ 'G', "cgroup", "CGROUP", "what runs in a cgroup and below it; repeatable, a list too", \
	  recording_set_cgroup },                                                            \
	{ 'u', "uid", "USER", "every process of a user (id or name)", recording_set_uid },   \
	{ 'C', "cpu", "LIST", "only these CPUs, such as 0-3,7; alone: every process there", recording_set_cpus }

#define EVENT_ROWS                                                                           \
	{ 'c', "count", "N", "a sample every N events, instead of -F", recording_set_period }, \
	{ 'e', "event", "NAME", "cycles, cpu-clock, page-faults, ... or SUBSYS:TRACEPOINT\n" \
	  "(default: cycles where they open, else cpu-clock)", recording_set_event }

#define COPY_ROWS                                                                            \
	{ 0, "stack-bytes", "N", "user stack copied per sample (the largest that fits)",     \
	  recording_set_stack_bytes },                                                       \
	{ 0, "ring-bytes", "N", "most memory for all rings (256M or 1 % of memory)",         \
	  recording_set_ring_bytes },                                                        \
	{ 0, "map-dir", "DIR", "where maps lie that were copied, as perf-PID.map or jit-PID.dump", \
	  recording_set_map_dir }
