/*
 * `ringfold doctor`: what works here. Each check tries the thing itself and says what its absence costs a profile and what
 * exactly undoes it. Adding a check is a function and a line in a table (doctor_checks.c, doctor_process.c).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct door;

enum doctor_state {
	DOCTOR_OK,
	DOCTOR_LESS, /* a profile is made, and lacks something */
	DOCTOR_NO,   /* this cannot be recorded */
	DOCTOR_INFO, /* neither: a fact worth knowing */
};

/* What a pod must be given for it, as Kubernetes calls them. */
enum doctor_need {
	NEED_NOTHING,
	NEED_PERFMON,
	NEED_SYS_PTRACE,
	NEED_SYSLOG,
	NEED_CHECKPOINT_RESTORE,
	NEED_DAC_READ_SEARCH,
	NEED_IPC_LOCK,
	NEED_NUM_CAPS,
	NEED_HOST_PID = NEED_NUM_CAPS,
	NEED_SECCOMP,
	NEED_LOGS,    /* /var/log/containers */
	NEED_TRACEFS,
	NEED_HOST,    /* nothing in a pod helps: the node's own settings */
	NEED_NUM,
};
const char *doctor_cap_name(enum doctor_need need); /* "PERFMON"; NULL for what is no capability */

struct doctor_finding {
	char topic[48];            /* "every process" */
	enum doctor_state state;
	char what[400];            /* what was found, with the cause where it fails */
	char cost[200];            /* what a profile then lacks; "" = nothing */
	char fix[400];             /* the exact line that changes it; "" = none */
	enum doctor_need need;
};

/* The findings as they come; `found` copies. */
struct doctor {
	struct door *door;
	void (*found)(void *data, const struct doctor_finding *finding);
	void *data;
};

void doctor_check_machine(const struct doctor *d);
/* 0, or -ESRCH. */
int doctor_check_process(const struct doctor *d, pid_t pid);
