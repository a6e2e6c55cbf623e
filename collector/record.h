/*
 * One decoded perf record, whatever it came from: a live ring or a perf.data file. Layouts:
 * include/uapi/linux/perf_event.h (enum perf_event_type), kernel/events/core.c perf_output_sample.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum record_type {
	RECORD_SAMPLE,
	RECORD_MMAP,       /* MMAP and MMAP2 */
	RECORD_COMM,
	RECORD_FORK,
	RECORD_EXIT,
	RECORD_LOST,       /* ring overflow */
	RECORD_THROTTLE,
	RECORD_UNTHROTTLE,
	RECORD_SWITCH,     /* SWITCH and SWITCH_CPU_WIDE */
	RECORD_KSYMBOL,    /* code of the kernel's own making came, or went */
	RECORD_OTHER,      /* known to be harmless: skipped and counted */
};

/* CPU mode of a sample: misc & PERF_RECORD_MISC_CPUMODE_MASK. */
enum record_mode { MODE_UNKNOWN, MODE_KERNEL, MODE_USER, MODE_HYPERVISOR, MODE_GUEST_KERNEL, MODE_GUEST_USER };

/* A stack copy of which only the beginning, nearest to the stack pointer, was read as yet. */
struct stack_rest {
	size_t here; /* bytes that are there */
	/* Reads on, in place, until `bytes` of the copy are there, or fewer where it cannot be read. Returns here. */
	size_t (*fetch)(struct stack_rest *rest, size_t bytes);
};

struct record_sample {
	uint64_t ip;
	uint64_t period;
	enum record_mode mode;
	const uint64_t *chain;   /* callchain with PERF_CONTEXT_* markers; borrowed */
	size_t num_chain;
	uint64_t regs_abi;       /* PERF_SAMPLE_REGS_ABI_*; 0 = no registers */
	const uint64_t *regs;    /* NULL when abi is 0 */
	size_t num_regs;
	const uint8_t *stack;    /* dyn_size valid bytes; NULL when none was copied */
	size_t stack_bytes;      /* dyn_size */
	struct stack_rest *rest; /* NULL = all stack_bytes are there; borrowed */
	size_t stack_size;       /* size: what was asked for, or less where the record would not fit */
	const uint64_t *user_chain; /* its user part where that is told apart (perfdata_chain.h), else NULL */
	size_t num_user_chain;
	bool chain_missing;      /* its user callchain was to come in a record of its own, which did not */
	/*
	 * What the events of its group had counted (PERF_SAMPLE_READ with PERF_FORMAT_GROUP and PERF_FORMAT_ID): num_group times
	 * group_words numbers, the first two of which are value and id. Borrowed; NULL = none.
	 */
	const uint64_t *group;
	size_t num_group, group_words;
};

struct record {
	enum record_type type;
	uint32_t raw_type;   /* PERF_RECORD_* */
	uint16_t misc;
	uint64_t time_ns;    /* 0 when the record carries none */
	uint64_t id;         /* of the event (PERF_SAMPLE_IDENTIFIER), 0 = none */
	uint32_t cpu;        /* UINT32_MAX = not told */
	pid_t pid, tid;      /* -1 = not told (tasks that ended say -1, foreign namespaces 0) */
	union {
		struct record_sample sample;
		struct {
			uint64_t start, len, pgoff;
			uint32_t maj, min;
			uint64_t ino, ino_generation;
			uint32_t prot, flags;
			const uint8_t *build_id; /* instead of maj..ino_generation; borrowed; NULL = none */
			size_t build_id_len;     /* <= 20 */
			bool executable;
			const char *path;        /* NUL-terminated, borrowed */
			size_t path_len;
		} mmap;
		struct { const char *comm; size_t len; bool exec; } comm;
		/* FORK, EXIT; `found`: no fork but a task that perf found, whose mappings are told next */
		struct { pid_t ppid, ptid; bool found; } task;
		/* Before this. `side`: of a live ring that holds no samples; a `count` of 0 there: it is full, some may be lost by now */
		struct { uint64_t id, count; bool side; } lost;
		struct { bool out, preempt; pid_t other_pid, other_tid; } switching;
		struct {
			uint64_t start;
			uint32_t len;
			uint16_t type, flags; /* PERF_RECORD_KSYMBOL_TYPE_*, _FLAGS_UNREGISTER: it went */
			const char *name;     /* NUL-terminated, borrowed */
			size_t name_len;
		} ksymbol;
	};
};

/* How an event's records are laid out: a copy of the few attr fields that decide it. */
struct record_format {
	uint64_t sample_type;  /* PERF_SAMPLE_* */
	uint64_t read_format;  /* PERF_FORMAT_* */
	uint64_t regs_user;    /* mask */
	uint64_t regs_intr;
	uint64_t branch_type;  /* attr.branch_sample_type */
	bool sample_id_all;
};

/*
 * `bytes` is one whole record with its header, aligned to 8; size == header.size. 0, or -EBADMSG when lengths
 * inside do not fit: the record is then worthless, the stream is not. Borrows `bytes`.
 */
int record_decode(const struct record_format *format, const void *bytes, size_t size, struct record *ret);

/* The user part of a sample's callchain: after PERF_CONTEXT_USER, markers left out. Number of entries. */
size_t record_user_chain(const struct record_sample *s, const uint64_t **ret);
/* Whether the user part comes in a record of its own, with that cookie (PERF_CONTEXT_USER_DEFERRED). */
bool record_deferred_chain(const struct record_sample *s, uint64_t *ret_cookie);
/* The kernel part, leaf first. */
size_t record_kernel_chain(const struct record_sample *s, const uint64_t **ret);
