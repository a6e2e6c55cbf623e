/*
 * Whether one kind of event opens here, tried for real and closed again: what `ringfold doctor` shows. A refusal is
 * the same sentence that a recording would end with.
 */
#pragma once

#include <stdbool.h>

struct door;
struct err;

struct probe_case {
	const char *event;   /* "cpu-clock", "cycles", "sched:sched_switch" */
	bool all;            /* every process on one CPU, else this process */
	bool kernel;         /* kernel frames as well */
	int cgroup;          /* open directory of a cgroup to count by; -1 = none */
};

/* 0, or -errno with the cause and its remedy in `err`. */
int collector_probe(struct door *door, const struct probe_case *what, struct err *err);

/* Whether the kernel counts what a ring lost (PERF_FORMAT_LOST, Linux 6.0). */
bool collector_probe_lost(void);
