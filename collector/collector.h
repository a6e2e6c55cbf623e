/*
 * perf events and their rings, one per CPU, drained into a sink in one time order. Knows nothing about
 * symbols or unwinding.
 *
 * Order is proven, not waited for: a drain notes the time T, makes every CPU pass a point after T (reading a
 * CPU-wide event interrupts its CPU; where there is none, membarrier waits for an RCU grace period), then
 * reads the heads of all rings. A sample's handler runs with interrupts off, so every sample older than T is
 * in its ring by then; side-band records a sample depends on were finished before that sample was taken.
 * Records up to T are merged and handed out, the rest waits for the next drain. See ARCHITECTURE.md.
 */
#pragma once

#include "base/vec.h"
#include "collector/record.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct collector;
struct door;
struct err;
struct perf_event_attr;

enum collector_target {
	TARGET_ALL,      /* every process */
	TARGET_PIDS,     /* all threads of these, and what they start */
	TARGET_TIDS,     /* these threads alone */
	TARGET_COMMAND,  /* pids[0] is a child that waits before its exec: counts from there */
	TARGET_CGROUP,   /* what runs in these cgroups and below them */
};

struct collector_opts {
	enum collector_target target;
	const pid_t *pids;         /* TARGET_PIDS, _TIDS, _COMMAND; borrowed during open */
	size_t num_pids;
	const int *cgroups;        /* TARGET_CGROUP: open directories, none below another; borrowed as long as the
				    * collector lives. 0 of them = all processes, the caller filters */
	size_t num_cgroups;
	const uint8_t *cpus;       /* bit set from cpulist_parse; NULL = all online */
	size_t num_cpu_bits;
	const char *event;         /* NULL = cycles if they open, else cpu-clock; "SUBSYS:NAME" tracepoint */
	uint32_t freq_hz;          /* samples per second and CPU; 0 = 99; no meaning for tracepoints */
	uint64_t period;           /* instead of freq_hz: every n-th event; 0 = by frequency */
	uint64_t user_regs;        /* PERF_REG_* mask; 0 = no registers and no stacks (-K, --unwinder fp) */
	uint32_t stack_bytes;      /* per sample; 0 = the largest that fits */
	bool no_kernel;            /* -U: no kernel frames asked for */
	bool no_user_chain;        /* no frame-pointer chain of user space */
	bool switches;             /* SWITCH records as well */
	bool data_maps;            /* MMAP records of what is not executable as well */
	uint64_t max_ring_bytes;   /* all rings; 0 = 256 MiB or 1 % of memory, whichever is less */
	struct door *door;         /* borrowed */
};

/* What was really opened; borrowed strings live as long as the collector. */
struct collector_info {
	const char *event;         /* "cycles", "cpu-clock:u", "sched:sched_switch"; what it counts, not what was asked for */
	uint32_t freq_hz;
	uint32_t stack_bytes;
	uint32_t num_cpus;
	uint64_t ring_bytes;       /* of one sample ring */
	uint64_t all_ring_bytes;   /* pinned in all */
	bool kernel;               /* kernel frames are in the samples */
	bool filtered;             /* opened for all processes: the caller must filter by target */
	const char *notes[8];      /* what is less than asked for, a sentence each; NULL ends */
};

struct collector_sink {
	/* Every record in time order; borrowed until the call returns. */
	void (*record)(void *data, const struct record *record);
	void *data;
};

struct collector_counts {
	uint64_t samples;      /* delivered */
	uint64_t lost;         /* by PERF_FORMAT_LOST where the kernel has it, else by LOST records */
	uint64_t lost_records; /* sum of LOST records of the sample rings, for comparison */
	uint64_t side_lost;    /* side-band records lost: address spaces may be incomplete */
	uint64_t throttled;    /* THROTTLE records */
	uint64_t malformed;    /* records that did not decode */
	uint64_t duplicates;   /* samples of a thread that two of our events counted: dropped */
	uint64_t disorder;     /* records older than one already delivered */
	bool lost_exact;       /* from PERF_FORMAT_LOST */
};

int collector_open(const struct collector_opts *opts, struct collector **ret, struct err *err);
void collector_close(struct collector *c); /* NULL is fine */
const struct collector_info *collector_info(const struct collector *c);
/* How the events were opened: the one that samples, and the one that tells of processes. */
const struct perf_event_attr *collector_sample_attr(const struct collector *c);
const struct perf_event_attr *collector_side_attr(const struct collector *c);

/* Counting begins (TARGET_COMMAND: at the exec). */
int collector_enable(struct collector *c, struct err *err);
int collector_disable(struct collector *c, struct err *err);

/*
 * Waits until a ring passes its watermark, the drain timer fires, `wake_fd` (>= 0) is readable or every
 * target has ended. 1 = drain now, 2 = wake_fd, 3 = all targets ended; -errno. EINTR is 1.
 */
int collector_wait(struct collector *c, int wake_fd, struct err *err);
/* Period of the drain timer; default 100 ms, may change at any time. */
int collector_set_period(struct collector *c, uint64_t period_ns, struct err *err);
/* Hands out everything that is proven to be complete; `all` after disable: everything. */
int collector_drain(struct collector *c, const struct collector_sink *sink, bool all, struct err *err);

struct collector_counts collector_counts(struct collector *c);
/*
 * Opens what newly came online since, or was away, when all CPUs are recorded; called about once a second. Who may open no
 * events any more has the door's broker do it. A CPU that may not be opened is told of in the notes and left out.
 */
int collector_rescan_cpus(struct collector *c, struct err *err);
