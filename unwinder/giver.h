/*
 * Who tells how to step from a frame to its caller. The unwinder asks a short list in order: the managed
 * runtimes of the process first, then the file's CFI, then the frame pointer. A giver answers with a rule and
 * says how long it holds, or takes the step itself, or passes.
 */
#pragma once

#include "unwinder/arch.h"
#include "unwinder/rule.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct addrspace;
struct mapping;

/* Memory of the target that is not in the sample. */
enum memory_answer { MEMORY_OK, MEMORY_NOT_NOW, MEMORY_NEVER };
struct memory_part {
	uint64_t addr;
	void *buf;
	size_t len;
	size_t got;                /* out: how much of it was read; with MEMORY_OK, len */
	enum memory_answer answer; /* out */
};
struct memory_reader {
	enum memory_answer (*read)(void *data, const struct addrspace *space, uint64_t addr, void *buf,
				   size_t len);
	void *data;
	/* Many at once, for the price of one. May be NULL: ask for one after the other. */
	void (*read_parts)(void *data, const struct addrspace *space, struct memory_part *parts, size_t num);
};

struct give_query {
	const struct addrspace *space;  /* with its generation, space->id */
	const struct mapping *mapping;  /* that holds pc; NULL when none does */
	uint64_t pc;                    /* for look-up: of a caller, the return address - 1 */
	bool activation;                /* pc is exact: the sampled frame, or one a signal interrupted */
	bool first;                     /* the sampled frame itself */
	const struct regs *regs;
	const uint8_t *stack;           /* the copy, from the sampled sp upwards; give_stack_word reads it */
	size_t stack_bytes;
	uint64_t stack_base;            /* address of stack[0] */
	void (*need)(void *data, uint64_t addr); /* what lies below addr is to be there; NULL = all is */
	void *need_data;
	const struct memory_reader *memory;
};

/* The word at addr; false when not all of it is in the copy. */
static inline bool give_stack_word(const struct give_query *q, uint64_t addr, uint64_t *ret)
{
	uint64_t at = addr - q->stack_base;

	if (q->stack_bytes < sizeof(*ret) || at > q->stack_bytes - sizeof(*ret))
		return false;
	if (q->need)
		q->need(q->need_data, addr + sizeof(*ret));
	memcpy(ret, q->stack + at, sizeof(*ret));
	return true;
}

enum give {
	GIVE_PASS,     /* not my code: ask the next */
	GIVE_RULE,     /* answer.rule */
	GIVE_STEP,     /* answer.regs is the caller already */
	GIVE_STOP,     /* answer.reason */
	GIVE_LATER,    /* memory said "not now": this sample stays without, nothing is remembered */
};

enum give_life {
	GIVE_ONCE,       /* asked again for the next sample */
	GIVE_WITH_CODE,  /* until unwinder_drop_ranges covers pc, or the generation ends; for code in a file: once */
	GIVE_WITH_FILE,  /* as long as the file: for every process, by (file, offset); without a file: once */
};

struct give_answer {
	struct rule rule;         /* GIVE_RULE; not RULE_EXT */
	enum give_life life;
	struct regs regs;         /* GIVE_STEP: registers and pc of the caller */
	bool caller_activation;   /* GIVE_STEP: the caller's pc is exact */
	uint8_t reason;           /* GIVE_STOP: enum unwind_reason */
};

struct unwind_giver {
	const char *name;
	bool files_only; /* passes on all that is in no file: not asked for it */
	enum give (*give)(void *data, const struct give_query *query, struct give_answer *ret);
	void *data;
};
