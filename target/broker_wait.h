/* The process of the broker that waits: it forks the others, replaces and ends them. For broker.c. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum broker_control_op {
	CONTROL_REPLACE, /* the one that opens hangs: replace it. Answered when that is done */
	CONTROL_DIED,    /* an answer that nobody asked for: it died by itself and was replaced */
	CONTROL_PARSER,  /* end the parser if there is one and start another; its socket comes along */
	CONTROL_USAGE,   /* what all of these processes have used so far */
	CONTROL_LOOK,    /* what the one that opens does (target/broker_hang.h), or the parser with that pid */
};

/* Both ways, over a SOCK_SEQPACKET pair. Fields that an operation does not need are 0. */
struct broker_control {
	uint32_t op;
	int32_t result;    /* 0 or -errno; of CONTROL_LOOK: 1 = it runs or waits for a CPU, else 0 */
	int32_t pid;       /* of the parser; 0 = who opens */
	int32_t ended;     /* how the one before it ended, as wait() tells */
	uint64_t cpu_ns;   /* of CONTROL_LOOK: with what it waited for a CPU */
	uint64_t peak_kib; /* of resident memory; the largest of each added up, pages of files only for the recorder */
};

struct broker_events;

struct broker_wait {
	int sock;    /* for the process that opens */
	int control; /* to the program */
	const char *const *outputs; /* see broker_start */
	size_t num_outputs;
	void (*parser)(int sock); /* NULL = there is none */
	struct broker_events *events;
};

/* Ends with the program. */
_Noreturn void broker_wait_for_end(const struct broker_wait *opts);
