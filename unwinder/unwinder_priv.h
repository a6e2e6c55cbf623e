/*
 * Inside of the unwinder: shared by the walk (unwinder.c), its parts, and the second opinion
 * (libunwind.c).
 */
#pragma once

#include "base/blocks.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/vec.h"
#include "symbols/addrspace.h"
#include "unwinder/arch.h"
#include "unwinder/giver.h"
#include "unwinder/rule.h"
#include "unwinder/unwinder.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
	RULE_GIVEN = 2, /* in rule.flags: a runtime's answer, it is not asked again */
	DEFAULT_MAX_FRAMES = 1024,
	STACK_PAGE = 4096,      /* "the last page of its stack" */
	KERNEL_MAX_STACK = 127, /* default of kernel.perf_event_max_stack (PERF_MAX_STACK_DEPTH) */
};

/* ---- frames.c: place -> (id, rule), and back ---- */

enum { FRAME_ID_BITS = 29 };

/* What an id stands for (struct unwind_frame), and its rule. They lie in the order of their ids, and never move. */
struct frame_entry {
	uint64_t place;
	uint32_t owner;
	uint32_t id : FRAME_ID_BITS;
	uint32_t where : 32 - FRAME_ID_BITS; /* enum frame_where */
	struct rule rule;
};
_Static_assert(sizeof(struct frame_entry) == 32, "two entries fill a cache line");

/*
 * A slot of a table: which entry has that key, and all that a walk wants of a plain frame, so that it is one cache line.
 * Offsets count from the stack or frame pointer, in words of 8 bytes.
 */
struct frame_hot {
	uint64_t key;     /* frame_key; where another place may have the same the kind is HOT_NOT */
	uint32_t id;      /* 0 = the slot is empty */
	int16_t ra_off8;  /* where the return address is saved */
	uint8_t fp_slot;  /* as in the rule; never SLOT_UNDEFINED */
	uint8_t kind : 2; /* enum hot_kind */
	uint8_t ra_slot : 6; /* as in the rule; never SLOT_SAME */
};
_Static_assert(sizeof(struct frame_hot) == 16, "four fill a cache line");

enum { HOT_MAX_RA_SLOT = 63 };

enum hot_kind {
	HOT_NOT, /* no plain frame: its rule must be looked at */
	HOT_SP,  /* a plain frame whose CFA counts from the stack pointer */
	HOT_FP,  /* from the frame pointer */
	HOT_END, /* the stack ends here */
};

/* Open addressing, a power of two slots, at most half full. All zero = empty. */
struct frame_table {
	struct frame_hot *hot; /* aligned to a cache line */
	size_t mask;           /* slots - 1; 0 = nothing allocated */
	size_t len;
	unsigned int shift; /* 64 - log2(slots) */
};

/* Frames of one generation that are in no file. Its ids are given out again when the generation
 * ends. */
struct space_frames {
	uint32_t space_id;
	struct frame_table table;
	VEC(uint32_t) retired; /* ids of code that was dropped: still in finished stacks */
};
struct space_slot {
	uint32_t space_id;
	struct space_frames *frames; /* owned */
};
HTAB(space_map, struct space_slot, uint32_t, hash_u64(key), slot->space_id == key,
     hash_u64(slot->space_id));

struct frames {
	BLOCKS(struct frame_entry) by_id; /* the first is no frame */
	struct frame_table files;  /* by (file id, offset) */
	struct frame_table global; /* kernel addresses and the user's numbers */
	struct space_map spaces;
	VEC(uint32_t) free_ids;
	VEC(uint64_t)
	gone_files; /* bit per file id: its entries go when the table is next rebuilt */
	uint32_t version; /* grows when a rule of the table of files changes that walks went by */
};

/* Offsets of 40 bits in files with ids of 24 have keys of their own: all but those of files that no disk holds. */
enum { KEY_PLACE_BITS = 40 };

static inline bool frame_has_key(uint32_t owner, uint64_t place)
{
	return place >> KEY_PLACE_BITS == 0 && owner >> (64 - KEY_PLACE_BITS) == 0;
}

static inline uint64_t frame_key(uint32_t owner, uint64_t place)
{
	return ((uint64_t)owner << KEY_PLACE_BITS) + place;
}

/*
 * Fibonacci hashing (Knuth, TAOCP 6.4): a product with 2^64 / golden ratio, whose upper bits are
 * the index.
 */
static inline uint64_t frame_table_hash(uint64_t key)
{
	return key * 0x9e3779b97f4a7c15u;
}

/* NULL when absent. */
static inline struct frame_entry *frame_table_find(const struct frames *f, const struct frame_table *t,
						   enum frame_where where, uint32_t owner, uint64_t place)
{
	const uint64_t key = frame_key(owner, place);

	if (!t->mask)
		return NULL;
	for (size_t i = frame_table_hash(key) >> t->shift;; i = (i + 1) & t->mask) {
		const struct frame_hot *hot = &t->hot[i];
		struct frame_entry *e;

		if (!hot->id)
			return NULL;
		if (hot->key != key)
			continue;
		e = blocks_at(&f->by_id, hot->id);
		if (e->place == place && e->owner == owner && e->where == where)
			return e;
	}
}

struct file;
struct rule_exts;

bool frames_init(struct frames *f); /* false when out of memory; deinit is due either way */
void frames_deinit(struct frames *f);
void frames_forget_files(struct frames *f);
/* Of a place in a file; NULL when absent. */
static inline struct frame_entry *frames_find_in_file(const struct frames *f, uint32_t file_id, uint64_t offset)
{
	return frame_table_find(f, &f->files, FRAME_IN_FILE, file_id, offset);
}
/* Finds or makes; NULL when out of memory. A new entry has RULE_UNSET. `exts` loses the side
 * records of entries that go when the table grows. */
struct frame_entry *frames_in_file(struct frames *f, struct rule_exts *exts, uint32_t file_id,
				   uint64_t offset);
/* where: FRAME_IN_JIT or FRAME_NOWHERE. */
struct frame_entry *frames_in_space(struct frames *f, struct space_frames *s, enum frame_where where,
				    uint64_t addr);
/* Of an entry of the table of files. */
void frames_set_rule(struct frames *f, const struct arch *arch, struct frame_entry *e,
		     struct rule rule);
/* where: FRAME_IN_KERNEL, of an address, or FRAME_OTHER, of a number as owner. FRAME_ID_NONE when out of memory. */
uint32_t frames_global(struct frames *f, enum frame_where where, uint32_t owner, uint64_t place);
struct space_frames *frames_space(struct frames *f,
				  uint32_t space_id); /* NULL when out of memory */
/* Ranges sorted and without overlap; each() may be NULL. */
struct code_range;
void frames_drop_code(struct frames *f, uint32_t space_id, const struct code_range *ranges, size_t num,
		      void (*each)(void *data, uint32_t id), void *data);
void frames_space_gone(struct frames *f, uint32_t space_id);
void frames_file_gone(struct frames *f, uint32_t file_id);

/* ---- known.c: the stacks that were walked last ---- */

struct trace;

enum {
	KNOWN_FRAMES = 192, /* outermost ones of a stack */
	KNOWN_NEW = 8,      /* of one walk; those further in are mostly others the next time */
	KNOWN_SETS = 8,     /* processes share a set by their ids */
	KNOWN_WAYS = 4,
};

struct known_frame {
	uint64_t pc, sp; /* of the frame, as in struct trace */
	uint64_t ra_at;  /* where that pc was read */
	uint64_t fp;     /* of the frame */
	uint64_t fp_at;  /* where that was read, if it matters; 0 = the callee left it alone */
	uint32_t id;
	bool needs_fp;   /* the way on depends on fp */
};

struct known_stack {
	uint32_t space_id, space_version, rules_version;
	uint32_t num;                             /* at least 1 */
	struct known_frame frames[KNOWN_FRAMES]; /* outermost first */
};

struct known_stacks {
	struct known_stack *sets[KNOWN_SETS][KNOWN_WAYS]; /* NULL until needed; owned */
	uint8_t next[KNOWN_SETS];                         /* to be replaced */
};

/* The one that a stack with that stack pointer may have begun as; NULL = none. */
struct known_stack *known_find(struct known_stacks *k, const struct frames *f, const struct addrspace *space,
			       uint64_t base);
/*
 * How many of its frames, from the outermost on, are in the copy as they were: whoever comes to one of them, or to the one
 * behind them, with its pc and registers goes through all that lie further out.
 */
size_t known_outer(const struct known_stack *s, const uint8_t *stack, size_t bytes, uint64_t base, uint64_t ra_mask);
/*
 * Remembers a walk to the end: `outer` frames of s (NULL = a new one), and before them those of the trace from `from` to
 * `to` - 1, all of them plain. trace[to] is the innermost of the outer ones.
 */
void known_add(struct known_stacks *k, const struct frames *f, const struct addrspace *space, struct known_stack *s,
	       size_t outer, const struct trace *trace, const uint32_t *ids, size_t from, size_t to);
void known_deinit(struct known_stacks *k);

/* ---- exts.c: rows that do not fit 16 bytes ---- */

struct ext_slot {
	uint64_t hash;
	uint32_t index;
};
HTAB(ext_map, struct ext_slot, uint64_t, key, slot->hash == key, slot->hash);

/* A side record, shared by all places whose row reads the same. */
struct ext_record {
	struct rule_ext ext;
	uint64_t hash;
	uint32_t refs; /* 0 = free */
	bool indexed;  /* in the map by its hash */
};
struct rule_exts {
	VEC(struct ext_record *) records; /* owned; an element is NULL when it is free */
	VEC(uint32_t) free_indexes;
	struct ext_map map;
	size_t len;
};

/* Takes ext's operations, whatever happens; UINT32_MAX when out of memory. */
uint32_t exts_add(struct rule_exts *exts, struct rule_ext *ext);
void exts_unref(struct rule_exts *exts, uint32_t index);
void exts_deinit(struct rule_exts *exts);

/* ---- expr.c ---- */

enum expr_status {
	EXPR_OK,
	EXPR_BAD,         /* an operation that means nothing here, stack misuse, too many steps */
	EXPR_UNKNOWN_REG, /* needs a register that is not valid */
	EXPR_OUTSIDE,     /* read of memory that is not in the copy; env->bad_addr */
};

struct expr_env {
	const struct arch *arch;
	const struct regs *regs;
	const uint8_t *stack; /* the copy */
	size_t stack_bytes;
	uint64_t stack_base; /* address of stack[0] */
	uint64_t cfa;        /* for DW_OP_call_frame_cfa */
	bool has_cfa;
	uint64_t bad_addr; /* out */
};

enum expr_status expr_eval(struct expr_env *env, const struct rule_op *ops, size_t num_ops,
			   uint64_t *ret);

/* ---- the copied stack ---- */

/* The word at addr; false when not all of it is in the copy. */
static inline bool stack_word(const uint8_t *stack, size_t bytes, uint64_t base, uint64_t addr,
			      uint64_t *ret)
{
	uint64_t at = addr - base; /* huge when addr is below */

	if (bytes < sizeof(*ret) || at > bytes - sizeof(*ret))
		return false;
	memcpy(ret, stack + at, sizeof(*ret));
	return true;
}

/* ---- entry_stack.c ---- */

/*
 * Whether a program was started with its stack pointer at `sp`, or up to 16 words above: there stand argc, argv, the
 * environment and the auxiliary vector, as the kernel puts them (fs/binfmt_elf.c, create_elf_tables), up to the copy's end.
 * Between them and the end of the stack lies what they point to, and up to 8 KiB that differ from run to run.
 */
bool entry_stack_at(const uint8_t *stack, size_t bytes, uint64_t base, uint64_t sp);

/* ---- unwinder.c ---- */

/* What the walk remembers of each frame: for splicing, for registers that are loaded only when asked for, and for
 * unwinder_frame_addr. */
struct trace {
	uint64_t pc;    /* exact: the return address for callers; the other two are those of walk.c's frames alone */
	uint64_t ra_at; /* where that return address was read; 0 = not from the stack */
	uint64_t sp;    /* of the frame; its CFA is the next frame's */
	/* Of plain frames alone, for as long as the table of files stays as it is: */
	uint64_t fp; /* the frame pointer */
	const struct frame_hot *hot;
};

struct libunwind_state; /* owned by libunwind.c */

/*
 * rows.c: rows that were compiled lately. NULL is an empty one; free() frees it. A row holds from the
 * vaddr it was asked for to `end`: where it starts libdw does not know for certain, as with
 * DW_CFA_restore_state it takes back the start as well.
 */
struct rows;
const struct rule *rows_find(const struct rows *rows, uint32_t file, uint64_t vaddr);
void rows_add(struct rows **rows, uint32_t file, uint64_t vaddr, uint64_t end,
	      const struct rule *rule);

/* code.c: `len` bytes of a file's code, remembered, as elf_file_read_vaddr reads them. free() frees what is remembered. */
enum { CODE_MAX = 16 };
struct code;
bool unwinder_code(struct unwinder *u, const struct file *file, uint64_t vaddr, void *buf, size_t len);

/*
 * rules_ask.c: rules of a file that is parsed elsewhere, at vaddrs[0] as rule_from_cfi says; the rows of the others are
 * only remembered. RULE_FP also when there is no answer.
 */
enum { RULES_MANY = 32 };
struct rule rules_ask(struct unwinder *u, const struct file *file, const uint64_t *vaddrs, size_t num, uint64_t *start,
		      uint64_t *end, struct rule_ext *ext);

struct unwinder {
	const struct arch *arch;
	enum unwind_method method;
	size_t max_frames;
	struct memory_reader memory; /* read is never NULL */
	VEC(struct unwind_giver) givers;
	size_t num_jit_givers; /* of them, those for code without a file */
	struct frames frames;
	struct rule_exts exts;
	struct rows *rows;
	struct code *code;
	struct known_stacks known;
	struct trace *trace; /* max_frames; owned */
	/* Of the last walk, behind `last_inner` frames of the trace: so many of the stack's outermost. */
	const struct known_stack *last_known;
	size_t last_outer, last_inner;
	struct arch_layout layout; /* of the last sample's registers */
	struct unwind_counts counts;
	/* While a rule is looked for: the copied stack from the frame upwards, where its callers' addresses lie. */
	const uint8_t *ahead;
	size_t ahead_bytes;
	struct libunwind_state *libunwind; /* NULL until first used */
};

/*
 * The id of the place that holds `pc` (for callers: the return address - 1) and what it is;
 * counts it in ret->num_jit or num_unknown. FRAME_ID_NONE when out of memory.
 */
uint32_t unwinder_intern(struct unwinder *u, const struct addrspace *space, uint64_t pc,
			 struct unwind_result *ret);
/*
 * The rule at `pc`, which lies in `m`, by CFI and root functions alone (no givers), remembered.
 * RULE_FP when there is no CFI or no file; RULE_UNSET when memory is out.
 */
struct rule unwinder_native_rule_in(struct unwinder *u, const struct mapping *m, uint64_t pc);
/*
 * True when `ra`, in that mapping, stands behind a call instruction of a file: an address that a call may have
 * left. *root: in a function that is the first of a process or thread.
 */
bool unwinder_is_entered_from(struct unwinder *u, const struct mapping *m, uint64_t ra, bool *root);

/*
 * That rule proves that a stack is complete at `pc`. Where a return address, by RULE_NEXT, does not
 * lie behind a call, *pc becomes the place it stands for.
 */
bool unwinder_ends_at(struct unwinder *u, const struct addrspace *space, uint64_t *pc, bool exact);

/* ---- walk.c ---- */

void unwind_by_cfi(struct unwinder *u, const struct unwind_input *in, uint32_t *frames,
		   struct unwind_result *ret);

/* ---- chain.c ---- */

/* The whole stack as the kernel walked it. */
void unwind_by_chain(struct unwinder *u, const struct unwind_input *in, uint32_t *frames,
		     struct unwind_result *ret);
/*
 * Appends entries of in->chain from `first` on to the ret->num_frames frames; class and reason
 * tell how that ended: complete at a root function, broken otherwise.
 */
void chain_append(struct unwinder *u, const struct unwind_input *in, size_t first, uint32_t *frames,
		  struct unwind_result *ret);

/* ---- fp.c ---- */

enum fp_status {
	FP_OK,
	FP_OUTSIDE, /* the frame pointer leads out of the copy at its upper end */
	FP_END,     /* the frame pointer is null */
	FP_NOT,     /* the register is no frame pointer */
};

struct fp_frame {
	uint64_t fp;       /* as saved: the caller's */
	uint64_t ra;       /* masked */
	uint64_t ra_at;    /* where it lies */
	uint64_t sp;       /* of the caller, as far as the frame record tells */
	bool fp_plausible; /* the saved one is above this one, or null */
};

/*
 * Reads the frame record {saved fp, return address} that the frame pointer points to; x86-64
 * psABI 3.2.2 and AAPCS64 6.4.6 lay it out alike. Checks everything but where `ra` leads. The
 * frame pointer cannot lie below `sp`. ret->ra_at is also set with FP_OUTSIDE.
 */
enum fp_status fp_read(const struct arch *arch, const struct regs *regs, uint64_t sp,
		       const uint8_t *stack, size_t stack_bytes, uint64_t stack_base,
		       struct fp_frame *ret);

/* ---- splice.c ---- */

/*
 * The walk ended after num_frames frames because the return address of the last lies at
 * `wanted_at`, beyond the copy. Returns the first entry of in->chain that continues the stack
 * there, or 0 when that is not proved. `fp` is the sampled frame pointer.
 */
size_t splice_find(const struct unwind_input *in, uint64_t stack_base, uint64_t fp,
		   const struct trace *trace, size_t num_frames, uint64_t wanted_at,
		   uint64_t ra_mask);

/* ---- libunwind.c ---- */

void unwind_by_libunwind(struct unwinder *u, const struct unwind_input *in, uint32_t *frames,
			 struct unwind_result *ret);
/* Called by unwinder_free, unwinder_space_gone and unwinder_file_gone; u->libunwind may be NULL. */
void libunwind_free(struct unwinder *u);
void libunwind_space_gone(struct unwinder *u, const struct addrspace *space);
void libunwind_file_gone(struct unwinder *u, uint32_t file_id);
