/* The collector's insides, shared by its files. */
#pragma once

#include "collector/collector.h"

#include "base/hash.h"
#include "base/htab.h"
#include "collector/event_priv.h"
#include "collector/explain_priv.h"
#include "collector/order_priv.h"
#include "collector/shape_priv.h"

/* CPUs beyond this are not looked at; the kernel's own limit is 8192 (CONFIG_NR_CPUS of arch/x86/Kconfig). */
enum { MAX_CPUS = 8192 };

enum stream_kind { STREAM_SIDE, STREAM_SAMPLES, NUM_STREAMS };

/* One perf event. The first of its CPU and kind owns the ring, the others write into it. */
struct event {
	int fd;
	pid_t tid; /* it was attached to; -1 = none: all processes, or a cgroup's */
	uint32_t slot;
	enum stream_kind kind;
};

/* One ring and what polls for it. */
struct stream {
	struct ring ring;
	int owner_fd;      /* borrowed from the events */
	int poll_fd;       /* borrowed: an event that still lives; -1 = every one has hung up */
	size_t next_event; /* all events before this index have hung up */
};

/* One CPU. */
struct slot {
	int cpu;
	bool gone;    /* went offline */
	bool refused; /* came back, and may not be opened */
	int barrier_fd; /* reading it interrupts the CPU; borrowed from the events when own_barrier is false */
	bool own_barrier;
	uint64_t enabled_ns; /* how long barrier_fd had been counting at the last look */
	struct stream streams[NUM_STREAMS];
};

/* A target that is awaited. */
struct awaited {
	pid_t pid;
	int fd; /* pidfd; -1 = the kernel has none */
	bool ended;
};

/* Which attached thread an event id stands for. */
struct id_slot {
	uint64_t id;
	pid_t tid;
};
HTAB(id_table, struct id_slot, uint64_t, hash_u64(key), slot->id == key, hash_u64(slot->id));

/*
 * Which attached thread's events count for a thread: its own, or those it inherited. A thread born while its process
 * is attached to may have both.
 */
struct owner_slot {
	pid_t tid;
	pid_t owner;
};
HTAB(owner_table, struct owner_slot, pid_t, hash_u64((uint64_t)key), slot->tid == key,
     hash_u64((uint64_t)slot->tid));

struct collector {
	struct collector_opts opts; /* pids and cpus are NULL: the copies are below */
	VEC(pid_t) pids;
	bool all_cpus; /* none were chosen: new ones are opened */
	struct collector_info info;
	size_t num_notes;
	struct record_format format;
	struct explain_rights rights;

	struct event_choice choice;
	char event_name[sizeof(((struct event_choice *)0)->name) + 2]; /* with what it was restricted to */
	bool auto_event;       /* cycles, unless they do not open */
	bool no_format_lost;   /* before Linux 6.0 */
	bool no_exclude_guest; /* refused by this PMU */
	bool no_ksymbol;       /* a kernel before 5.1 */
	bool user_only;        /* the kernel is forbidden */
	uint32_t freq_hz;
	uint32_t page_bytes;
	uint32_t max_chain;
	uint64_t mem_bytes;
	uint64_t ring_limit;        /* after EPERM; 0 = none */
	uint64_t wished_ring_bytes; /* before it */
	bool mmap_refused;          /* EPERM came from a ring */
	bool cgroup_refused;        /* what failed was the event of a cgroup */
	bool by_broker;             /* events of CPUs that come later may be opened by the broker */
	struct shape shape;
	struct perf_event_attr attrs[NUM_STREAMS];

	VEC(struct slot) slots;
	VEC(struct event) events;
	VEC(struct ring *)
	rings; /* scratch of a drain: all side-band rings, then all sample rings */
	size_t num_side_rings;
	struct id_table ids;
	struct owner_table owners;
	struct order order;

	int epoll_fd, timer_fd;
	int wake_fd; /* borrowed, in the epoll set; -1 = none */
	VEC(struct awaited) awaited;
	size_t num_ended;
	uint64_t uncounted_ns; /* since then nothing counts the command any more; 0 = something does */
	bool told_uncounted;
	bool ended;
	bool cpu_wide; /* every slot has a barrier_fd */
	bool enabled;
	uint64_t enabled_ns;

	const struct collector_sink *sink; /* during a drain */
	uint64_t proven_ns;                /* everything up to here has been handed out */
	uint64_t last_ns;                  /* latest record so far */
	struct collector_counts counts;
	uint64_t closed_lost[NUM_STREAMS]; /* by events that are closed */
};

/* collector.c */
void collector_note(struct collector *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Explains -code of an open for `tid` (-1 none) on `cpu` (-1 none). */
int collector_explain(struct collector *c, int r, pid_t tid, int cpu, struct err *err);
/* Opens one event and ties it to its ring. 0, -errno (plain -ESRCH and -ENODEV leave err alone). */
int collector_add_event(struct collector *c, uint32_t slot, enum stream_kind kind, pid_t tid,
			struct err *err);
/* The same for what runs in one of the chosen cgroups. */
int collector_add_cgroup(struct collector *c, uint32_t slot, size_t cgroup, struct err *err);
/* Whether the events are CPU-wide: of all processes or of cgroups. */
bool collector_cpu_wide(const struct collector *c);

/* targets.c */
/* Opens every event of the chosen targets. */
int targets_attach(struct collector *c, struct err *err);
/* Both events of every process on one CPU. */
int targets_attach_cpu(struct collector *c, uint32_t slot, struct err *err);
/* Raises our own limit of open files; true when so many would not fit. */
bool targets_need_filter(struct collector *c);

/* wait.c */
int wait_open(struct collector *c, struct err *err);
int wait_add_slot(struct collector *c, uint32_t slot, struct err *err);
void wait_remove_slot(struct collector *c, uint32_t slot);
int wait_add_targets(struct collector *c, struct err *err);
void wait_close(struct collector *c);

/* barrier.c */
void barrier_open(struct collector *c);
/* Every CPU passes a point after the call began. False when there is no way to make them. */
bool barrier_pass(struct collector *c);
