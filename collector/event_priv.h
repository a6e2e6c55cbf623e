/* Which event samples, and how it is asked for. */
#pragma once

#include <linux/perf_event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct collector_opts;
struct door;
struct err;

struct event_choice {
	char name[160]; /* as given, without modifiers */
	uint32_t type;  /* PERF_TYPE_* */
	uint64_t config;
	bool tracepoint;
	bool exclude_user;   /* :k */
	bool exclude_kernel; /* :u */
};

/* Finds a name ("cycles", "cpu-clock:u", "sched:sched_switch"). 0, -EINVAL for an unknown one, or what the door says. */
int event_parse(const char *text, struct door *door, struct event_choice *ret, struct err *err);

/* The event that samples, not counting yet. `stack_bytes` and `watermark_bytes` as computed; freq_hz is not 0. */
void event_sample_attr(const struct event_choice *choice, const struct collector_opts *opts,
		       uint32_t freq_hz, uint32_t stack_bytes, uint32_t watermark_bytes,
		       struct perf_event_attr *ret);
/* The one that tells of programs: counts nothing, works at once. */
void event_side_attr(const struct collector_opts *opts, uint32_t watermark_bytes,
		     struct perf_event_attr *ret);
/* One that does nothing but run on a CPU: reading it interrupts that CPU. */
void event_barrier_attr(struct perf_event_attr *ret);

/* The descriptor or -errno. cpu -1 = any, pid -1 = every process. */
int event_open(const struct perf_event_attr *attr, pid_t pid, int cpu);
/* Of a cgroup, by its directory; -EBADF or -ENOENT when perf_event does not count by that hierarchy. */
int event_open_cgroup(const struct perf_event_attr *attr, int dir_fd, int cpu);
