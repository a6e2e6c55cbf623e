/* How large rings and stack copies are: plain arithmetic, so that it can be tested and told. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * perf_sample_ustack_size (kernel/events/core.c) shrinks a copy that would push a record past header.size, which
 * has 16 bits: this is the longest record there is.
 */
enum { SHAPE_MAX_RECORD = 65528 };

struct shape_wish {
	uint32_t num_regs;    /* registers in a sample; 0 = no registers and no stack */
	uint32_t max_chain;   /* callchain entries the kernel may write, markers included */
	uint32_t stack_bytes; /* asked for; 0 = the largest that fits */
	uint32_t rate_hz;     /* samples per second and CPU */
	uint32_t num_cpus;    /* rings of each kind */
	uint32_t page_bytes;
	uint64_t mem_bytes;      /* of the machine; 0 = not known */
	uint64_t max_ring_bytes; /* all rings; 0 = 256 MiB or 1 % of memory */
	uint64_t ring_limit;     /* one sample ring, after the kernel refused more; 0 = none */
};

struct shape {
	uint32_t stack_bytes;
	uint32_t full_stack_bytes; /* what it would be with enough ring memory */
	uint32_t record_bytes;     /* the longest sample */
	uint32_t slack_records;    /* records to hold: 100 ms at the rate, and no fewer than 8 */
	uint64_t ring_bytes;       /* a sample ring, without its control page */
	uint64_t side_bytes;       /* a side-band ring, likewise */
	uint64_t all_bytes;        /* all rings with their control pages */
	uint64_t cap_bytes;        /* what all rings may have */
	bool capped;               /* stack_bytes was more than a record can hold */
};

struct shape shape_compute(const struct shape_wish *wish);

/* The smallest sample ring that is still worth having. */
enum { SHAPE_MIN_RING = 64 * 1024 };
