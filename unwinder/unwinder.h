/*
 * From registers and stack bytes to frames. One walk per sample, in place, no allocation except on the first
 * sight of a pc, no system call except then.
 *
 * A frame is a 32-bit id: the same (file, offset) has the same id in every process and the whole run; code
 * without a file has one per (generation, code version, address) and gives it up with them. For callers the
 * place is the return address - 1, inside the call.
 */
#pragma once

#include "unwinder/arch.h"
#include "unwinder/giver.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct addrspace;
struct err;
struct file;
struct unwinder;

enum unwind_class {
	UNWIND_COMPLETE,   /* the walk ended where the stack ends */
	UNWIND_TRUNCATED,  /* the copy was full and the walk left it at its upper end */
	UNWIND_BROKEN,     /* see reason */
	UNWIND_NUM_CLASSES,
};

enum unwind_reason {
	REASON_NONE,
	REASON_NO_REGS,        /* the kernel gave no user registers */
	REASON_COMPAT,         /* a 32-bit task */
	REASON_NO_MAPPING,     /* a return address in no executable mapping */
	REASON_NO_FILE,        /* the mapped file could not be opened, and the frame pointer led nowhere */
	REASON_NO_CFI,         /* no CFI for this code, and the frame pointer led nowhere */
	REASON_NO_FP,          /* JIT code without a followable frame pointer */
	REASON_BAD_CFI,        /* libdw refused the row, or an expression failed or ran too long */
	REASON_UNKNOWN_REG,    /* the row needs a register nobody saved */
	REASON_OUTSIDE,        /* the row points outside the copy, which does hold the whole stack */
	REASON_ALTSTACK,       /* a signal handler's own stack: the interrupted one is not in the copy */
	REASON_NO_PROGRESS,    /* CFA did not grow, or the same frame again */
	REASON_TOO_DEEP,       /* more frames than asked for */
	REASON_NOT_NOW,        /* a giver needed memory it could not have in time */
	REASON_GIVER,          /* a giver stopped the walk */
	REASON_NO_CHAIN,       /* the callchain was to come in a record of its own, which is missing; its reader says so */
	REASON_NUM,
};
const char *unwind_reason_name(enum unwind_reason reason); /* "no_mapping", ... keys of --stats */

enum unwind_method { UNWIND_CFI, UNWIND_LIBUNWIND, UNWIND_FP };

struct unwind_opts {
	const struct arch *arch;
	enum unwind_method method;
	size_t max_frames;     /* 0 = 1024 */
	struct memory_reader memory; /* read may be NULL: always "never" */
};

int unwinder_new(const struct unwind_opts *opts, struct unwinder **ret, struct err *err);
void unwinder_free(struct unwinder *u);
/* No walk follows: what only walks need of files, most of what there is, is given back. Ids go on meaning what they mean. */
void unwinder_forget_rules(struct unwinder *u);
/* Givers are asked in the order they were added, before CFI and frame pointer. */
int unwinder_add_giver(struct unwinder *u, const struct unwind_giver *giver, struct err *err);

struct unwind_input {
	const struct addrspace *space;
	const uint64_t *perf_regs;   /* values in bit order of the mask asked for; NULL = none (abi 0) */
	uint64_t perf_mask;          /* 0 = no registers were asked for: the chain below is all there is */
	bool compat;                 /* abi says 32 bit */
	const uint8_t *stack;        /* dyn_size bytes, from sp upwards */
	size_t stack_bytes;          /* dyn_size */
	size_t stack_here;           /* of them, what is there already; the rest: fetch() */
	size_t (*fetch)(void *data, size_t bytes); /* until so many are there; how many are. NULL = all are */
	void *fetch_data;
	bool stack_full;             /* dyn_size == size: the stack may go on beyond the copy */
	const uint64_t *chain;       /* the kernel's frame-pointer chain, user part, leaf first; may be NULL */
	size_t num_chain;
};

struct unwind_result {
	enum unwind_class class;
	enum unwind_reason reason;
	size_t num_frames;     /* written to `frames`, leaf first */
	size_t num_jit;        /* of them in code without a file */
	size_t num_unknown;    /* of them in no mapping at all */
	bool spliced;          /* the kernel's chain supplied the outer part */
	bool switched;         /* it goes on on another stack, to which nothing leads: ends where that was left */
};

/* `frames` has room for max_frames. */
void unwinder_walk(struct unwinder *u, const struct unwind_input *in, uint32_t *frames,
		   struct unwind_result *ret);

enum frame_where {
	FRAME_IN_FILE,    /* file_id, offset (in the file) */
	FRAME_IN_JIT,     /* space_id, addr */
	FRAME_IN_KERNEL,  /* addr */
	FRAME_NOWHERE,    /* space_id, addr: in no executable mapping */
	FRAME_OTHER,      /* number given by the user of unwinder_other_frame */
};
struct unwind_frame {
	enum frame_where where;
	uint32_t owner;     /* file id, space id or the number */
	uint64_t place;     /* offset in the file, or address */
};
/* What an id stands for. */
struct unwind_frame unwinder_frame(const struct unwinder *u, uint32_t id);
/*
 * The address of frame `num` of the last walk, which is in a file: a program may map one more than once. 0 = it is not where
 * the walk stood, as of a frame that was put right afterwards.
 */
uint64_t unwinder_frame_addr(const struct unwinder *u, const struct addrspace *space, size_t num,
			     const struct unwind_frame *frame);
uint32_t unwinder_num_frames(const struct unwinder *u); /* ids are below this */
/* Ids from the same numbers for the kernel's frames and for the session's own labels. */
uint32_t unwinder_kernel_frame(struct unwinder *u, uint64_t addr);
uint32_t unwinder_other_frame(struct unwinder *u, uint32_t number);
enum { FRAME_ID_NONE = 0 }; /* never a frame; also what an id is when memory is out */

/*
 * Code in these ranges, which are put in order, moved or went away: its rules and frame ids are not used again. each()
 * (may be NULL) is told of every such id.
 */
struct code_ranges;
void unwinder_drop_ranges(struct unwinder *u, const struct addrspace *space, struct code_ranges *ranges,
			  void (*each)(void *data, uint32_t id), void *data);
/* The generation ends: ids of its JIT frames may be given out again. */
void unwinder_space_gone(struct unwinder *u, const struct addrspace *space);
/* The file left the table (its ids stay what they are, its rules go). */
void unwinder_file_gone(struct unwinder *u, uint32_t file_id);

/* For --stats and the benchmark. */
struct unwind_counts {
	uint64_t walks, frames, rule_misses;
	uint64_t rules_cached, ext_records;
};
struct unwind_counts unwinder_counts(const struct unwinder *u);
