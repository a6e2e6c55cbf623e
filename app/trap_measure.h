/* One number that a rule is about, read from /proc and cgroups again and again. For trap_hand.c, outside the jail. */
#pragma once

#include <stdint.h>

struct door;
struct err;
struct trap_measure;
struct trap_rule;

/* TRAP_GONE: the process or container that it is about is not there. */
enum trap_measured { TRAP_NOTHING, TRAP_MEASURED, TRAP_HAPPENED, TRAP_GONE };

/* `door` (without a broker) and `rule` are borrowed. -ENOENT, -ESRCH when what it is about is not there. */
int trap_measure_new(struct door *door, const struct trap_rule *rule, struct trap_measure **ret, struct err *err);
void trap_measure_free(struct trap_measure *m); /* NULL is fine */

/*
 * Since the last time: percent of one CPU (of all CPUs for the machine), percent of time, or tasks. TRAP_NOTHING the first
 * time, and while it cannot be read.
 */
enum trap_measured trap_measure(struct trap_measure *m, uint64_t now_ns, double *ret);
