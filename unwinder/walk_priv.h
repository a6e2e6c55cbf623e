/*
 * Inside of the walk: what its files share. walk.c goes from frame to frame by their rules, walk_go.c where Go changes
 * stacks. Steps return true when the walk stands at the caller, false when it ended: ret's class and reason tell how.
 */
#pragma once

#include "unwinder/unwinder_priv.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct walk {
	struct unwinder *u;
	const struct arch *arch;
	const struct unwind_input *in;
	const uint8_t *stack;
	size_t stack_bytes;
	size_t here; /* of them, what is there; what is beyond comes by need() */
	uint64_t base; /* address of stack[0]: the sampled stack pointer */
	uint64_t sp;   /* of this frame; a lower bound when the register itself is not known */
	struct regs regs;
	bool regs_taken; /* all that were sampled; before, only the stack and the frame pointer */
	uint64_t ra_at;            /* where this frame's return address into it lay; 0 = nowhere */
	uint64_t wanted_at;        /* where the one lies that could not be read */
	const struct mapping *map; /* the last two looked up; never NULL */
	const struct mapping *map2;
	struct space_frames *own; /* the generation's; NULL until needed */
	uint64_t fetched; /* so far the copy was asked for (an address of ours); see fetch_lines */
	struct known_stack *known; /* that this one may have begun as; NULL = none */
	size_t outer;              /* frames of it that may be met; see meet_known */
	bool outer_there;          /* they were looked at and are as they were */
	size_t stale; /* plain frames from here on have not loaded what they saved; see walk_plain */
	size_t end_stale;
	/*
	 * Caller-saved registers whose old value still stands in regs.v though calls may change them: assembly calls its
	 * own helpers without saving anything (libcrypto counts a CFA from rax across such a call).
	 */
	uint64_t likely;
	bool activation; /* the pc is exact: the sampled frame, or one a signal interrupted */
	bool first;      /* the sampled frame */
	uint64_t sampled_fp; /* 0 = not known */
	size_t root_at;      /* so many frames in, the stack could as well have ended; 0 = nowhere */
	bool altstack;   /* a signal frame led to a stack that is not in the copy */
	uint32_t *frames;
	struct unwind_result *ret;
};

/* ---- ways to end; all return false, as nothing follows ---- */

static inline bool stop(struct walk *w, enum unwind_reason reason)
{
	w->ret->class = UNWIND_BROKEN;
	w->ret->reason = reason;
	return false;
}

static inline bool complete(struct walk *w)
{
	w->ret->class = UNWIND_COMPLETE;
	w->ret->reason = REASON_NONE;
	return false;
}

/* ---- places ---- */

static inline bool map_holds(const struct mapping *m, uint64_t addr)
{
	return addr - m->start < m->end - m->start;
}

/* The executable mapping that holds addr. Successive frames mostly alternate between two. */
static inline const struct mapping *map_at(struct walk *w, uint64_t addr)
{
	const struct mapping *m = w->map;

	if (map_holds(m, addr))
		return m;
	m = w->map2;
	if (!map_holds(m, addr))
		m = addrspace_find(w->in->space, addr);
	if (!m)
		return NULL;
	w->map2 = w->map;
	w->map = m;
	return m;
}

static inline struct frame_entry *own_entry(struct walk *w, enum frame_where where, uint64_t pc)
{
	if (!w->own)
		w->own = frames_space(&w->u->frames, w->in->space->id);
	return w->own ? frames_in_space(&w->u->frames, w->own, where, pc) : NULL;
}

static inline struct frame_entry *entry_at(struct walk *w, const struct mapping *m, uint64_t pc)
{
	uint64_t offset = pc - m->start + m->pgoff;
	struct frame_entry *e;

	if (!m->file)
		return own_entry(w, FRAME_IN_JIT, pc);
	e = frames_find_in_file(&w->u->frames, m->file->id, offset);
	if (e)
		return e;
	return frames_in_file(&w->u->frames, &w->u->exts, m->file->id, offset);
}

/* ---- the copy ---- */

/* Has the copy's first `bytes` there; what cannot be read is not in it afterwards. */
void walk_fetch(struct walk *w, uint64_t bytes);

/* Whatever of the copy lies below addr is there afterwards. */
static inline void need(struct walk *w, uint64_t addr)
{
	if (__builtin_expect(addr - w->base > w->here && w->here < w->stack_bytes, 0))
		walk_fetch(w, addr - w->base);
}

static inline bool word_at(struct walk *w, uint64_t addr, uint64_t *ret)
{
	need(w, addr + sizeof(*ret));
	return stack_word(w->stack, w->here, w->base, addr, ret);
}

/* Stands at the caller; its registers are set already, but for these. */
static inline void enter_caller(struct walk *w, uint64_t pc, uint64_t sp, uint64_t ra_at,
				bool activation)
{
	w->regs.pc = pc & w->arch->ra_mask;
	w->regs.v[w->arch->sp] = sp;
	w->regs.valid |= 1ull << w->arch->sp;
	w->sp = sp;
	w->ra_at = ra_at;
	w->activation = activation;
	w->first = false;
}

/* ---- walk.c ---- */

/* By the frame pointer; by what the code at an exact pc says where that is known. */
bool walk_step_fp(struct walk *w, const struct mapping *m);
/*
 * The caller of code that has pushed nothing: the return address is on top of the stack, or in the link register; keeps
 * the registers of the mask `keep`. False, and nothing done, when that is no address of code.
 */
bool walk_step_from_entry(struct walk *w, uint64_t keep);

enum { CALL_REL32 = 0xe8, JUMP_REL32 = 0xe9, REL32_BYTES = 5 }; /* opcodes: Intel SDM volume 2, CALL and JMP */

/* Where the instruction that ends at `end` goes to, if it has that opcode; 0 = it has not. */
uint64_t walk_named_by(struct walk *w, uint64_t end, uint8_t opcode);

/* ---- walk_go.c ---- */

/* Behind what the runtime calls the first frame; kind: enum elf_root. */
bool walk_go_root(struct walk *w, const struct mapping *m, uint32_t kind);
/* The walk stopped at the end of the stack that a signal handler runs on: the rest by the kernel's chain, where it is proved. */
void walk_go_behind_signal(struct walk *w);
