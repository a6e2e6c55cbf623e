/*
 * What `ringfold trap` waits for: "cpu(pid=17)>80%/2s". Parsing and deciding alone; what the numbers are is measured by
 * app/trap_watch.h.
 *
 *	cpu [(pid=N | comm=NAME | container=ID | cgroup=PATH)]   share of one CPU; without an argument of all CPUs
 *	psi (cpu | memory | io [, full] [, cgroup=PATH])         share of the time that tasks were held up
 *	runq                                                     tasks that run or wait for a CPU
 *	start (comm=NAME), exit (pid=N | comm=NAME)              a program begins; a process ends
 *	status (COMMAND)                                         its exit status, asked every so often
 *
 * Behind the first three and status stand < <= > >= == or !=, a number, with % where it is a share, and after a '/' over how
 * long: a rule holds when the mean of that time fits. Once it held, it is armed again when it did not hold for
 * twice as long: after a dip the mean needs one window to come back.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct err;

enum trap_metric { TRAP_CPU, TRAP_PSI, TRAP_RUNQ, TRAP_START, TRAP_EXIT, TRAP_STATUS };
enum trap_whose { TRAP_MACHINE, TRAP_PID, TRAP_COMM, TRAP_CONTAINER, TRAP_CGROUP };
enum trap_resource { TRAP_PSI_CPU, TRAP_PSI_MEMORY, TRAP_PSI_IO };
enum trap_compare { TRAP_LESS, TRAP_LESS_EQUAL, TRAP_MORE, TRAP_MORE_EQUAL, TRAP_EQUAL, TRAP_OTHER_THAN };

struct trap_rule {
	char text[256];         /* as given */
	enum trap_metric metric;
	enum trap_whose whose;
	enum trap_resource resource;
	bool full;              /* psi: all tasks were held up, not just some */
	char name[200];         /* comm, container, cgroup or command */
	pid_t pid;
	enum trap_compare compare;
	double value;           /* percent, tasks, or a status */
	uint64_t window_ns;     /* 0 for start and exit */
};

int trap_rule_parse(const char *text, struct trap_rule *ret, struct err *err);
bool trap_rule_is_event(const struct trap_rule *rule); /* start and exit: it happens, and has no value */

/* The values of the last window, and whether the rule holds. Zero at first. */
enum { TRAP_POINTS = 64 };
struct trap_state {
	struct { uint64_t time_ns; double value; } points[TRAP_POINTS]; /* value: since the point before */
	size_t num, next;
	uint64_t event_ns;      /* when it last happened; 0 = never */
	uint64_t unfit_ns;      /* since when it has not held; 0 = it holds */
	uint64_t gone_ns;       /* since when there is nothing to measure; 0 = there is */
	bool holds;
	bool spent;             /* it held, and is not armed again */
	double mean;
};
/* How often a value is wanted, so that the window has enough of them and no more than TRAP_POINTS. */
uint64_t trap_rule_period(const struct trap_rule *rule);
void trap_state_value(struct trap_state *state, const struct trap_rule *rule, uint64_t now_ns, double value);
void trap_state_event(struct trap_state *state, uint64_t now_ns);
/* What it is about is not there any more. */
void trap_state_gone(struct trap_state *state, uint64_t now_ns);
/* Whether it holds now; an event does for 5 s, and so does what held when what it is about went. */
bool trap_state_holds(const struct trap_state *state, const struct trap_rule *rule, uint64_t now_ns);
/* It does not hold and never will: the process it is about has ended. */
bool trap_state_over(const struct trap_state *state, const struct trap_rule *rule, uint64_t now_ns);

/*
 * All of them (or any of them) hold, and not all of those (any of those) that do are spent: a capture is due. Those that
 * hold are spent then.
 */
bool trap_due(const struct trap_rule *rules, struct trap_state *states, size_t num, bool any, uint64_t now_ns);
