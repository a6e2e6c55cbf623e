/* A refusal of the kernel as one sentence: the cause, and what exactly undoes it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct door;
struct err;

enum explain_step {
	EXPLAIN_OPEN, /* perf_event_open */
	EXPLAIN_MMAP, /* the ring */
};

/* What this process may do here; -1 = not known. */
struct explain_rights {
	int paranoid; /* perf_event_paranoid: may be -1 and known */
	bool paranoid_known;
	bool cap_perfmon; /* CAP_PERFMON or CAP_SYS_ADMIN, effective */
	bool cap_ipc_lock;
	int seccomp;            /* 0 none, 1 strict, 2 filter */
	char lockdown[32];      /* "none", "integrity", "confidentiality"; "" = not known */
	int64_t mlock_kb;       /* perf_event_mlock_kb, per CPU */
	uint64_t memlock_bytes; /* RLIMIT_MEMLOCK */
	uint32_t max_rate_hz;   /* perf_event_max_sample_rate; 0 = not known */
};

struct explain_case {
	enum explain_step step;
	int code;          /* positive errno */
	const char *event; /* name */
	bool hardware;     /* the event needs a PMU */
	bool all;          /* every process was asked for */
	bool cgroup;       /* a cgroup was asked for, by its directory */
	bool kernel;       /* kernel mode was asked for */
	pid_t pid;         /* > 0: the process or thread that was asked for */
	int cpu;           /* -1 = none in particular */
	uint32_t freq_hz;  /* 0 = not by frequency */
	uint32_t num_cpus;
	uint64_t need_bytes; /* all rings together, for EXPLAIN_MMAP */
	uint64_t nofile;     /* RLIMIT_NOFILE, for EMFILE */
};

void explain_gather(struct door *door, struct explain_rights *ret);
/* Returns -c->code, so that failing is one line. */
int explain(const struct explain_case *c, const struct explain_rights *rights, struct err *err);
