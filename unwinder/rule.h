/*
 * How to get from a frame to its caller: 16 bytes, compiled once from a CFI row (or given by a runtime) and
 * remembered. Rows that do not fit point to a side record (struct rule_ext).
 */
#pragma once

#include "unwinder/arch.h"

#include <stdbool.h>
#include <stdint.h>

struct elf_file;
struct jit_cfi;
struct worker;

enum rule_kind {
	RULE_UNSET = 0,  /* not asked yet */
	RULE_CFA,        /* CFA = cfa_reg + cfa_off8 * 8; registers by slots */
	RULE_EXT,        /* the index of a side record is in `ext` */
	RULE_FP,         /* no CFI here: step by the frame pointer, all guards */
	RULE_END,        /* return address undefined: the stack ends here */
	RULE_ROOT,       /* the known first frame of a thread or process; `ext` = enum elf_root, 0 = nothing behind it */
	RULE_BAD,        /* CFI is there but cannot be used (`ext` = enum unwind_reason) */
	RULE_NEXT,       /* as RULE_FP, but for callers the stack ends in the function that follows; `ext` 1: it goes on */
};

enum {
	RULE_SIGNAL = 1,    /* a signal frame: the caller was interrupted, its pc is exact */
	SLOT_SAME = 0,      /* the register keeps its value */
	/* 1..0xfd: saved at CFA - 8 * slot */
	SLOT_UNDEFINED = 0xfe,
	SLOT_MAX = 0xfd,
};

/*
 * slot[i] belongs to arch->tracked[i]. The layout is 2 + 2 + 12 bytes, so that every CPU's callee-saved
 * registers fit.
 */
struct rule {
	uint8_t kind : 4;  /* enum rule_kind */
	uint8_t flags : 4;
	uint8_t cfa_reg;   /* DWARF number */
	int16_t cfa_off8;  /* in words of 8 bytes */
	union {
		uint8_t slot[ARCH_MAX_TRACKED];
		uint32_t ext; /* RULE_EXT: index of the side record; RULE_BAD: enum unwind_reason; or as above */
	};
};
_Static_assert(sizeof(struct rule) == 16, "a rule is 16 bytes");

/* One operation of a DWARF expression (DWARF 5, 2.5): opcode and operands as libdw decodes them. */
struct rule_op {
	uint8_t atom;
	uint64_t number, number2, offset;
};

enum rule_how {
	HOW_SAME,
	HOW_UNDEFINED,
	HOW_AT_CFA,     /* saved at CFA + value */
	HOW_CFA_PLUS,   /* is CFA + value */
	HOW_REGISTER,   /* is in register `value` */
	HOW_AT_EXPR,    /* saved where the expression says */
	HOW_EXPR,       /* is what the expression says */
};

struct rule_where {
	uint8_t how;        /* enum rule_how */
	uint8_t num_ops;
	uint32_t first_op;  /* into rule_ext.ops */
	int64_t value;
};

/* The general row: every register, every kind of rule. */
struct rule_ext {
	bool signal;
	uint8_t cfa_reg;    /* with cfa.how == HOW_REGISTER: CFA = cfa_reg + cfa.value */
	struct rule_where cfa;   /* HOW_REGISTER or HOW_EXPR */
	struct rule_where reg[ARCH_MAX_REGS]; /* by DWARF number; arch->ra is the return address */
	struct rule_op *ops;     /* owned */
	uint32_t num_ops;        /* at most 256 */
};

/*
 * Full row of f at vaddr from .eh_frame, else .debug_frame. It holds from vaddr to *end; *start is where
 * it began, or an earlier row that DW_CFA_restore_state went back to. RULE_CFA when it fits 16 bytes, else
 * RULE_EXT with *ext filled (owned by the caller: rule_ext_deinit). Go code without CFI goes by Go's own
 * table. RULE_FP when nothing covers vaddr.
 */
struct rule rule_from_cfi(const struct arch *arch, struct elf_file *f, uint64_t vaddr,
			  uint64_t *start, uint64_t *end, struct rule_ext *ext);
void rule_ext_deinit(struct rule_ext *ext);

/*
 * The rule at addr by what was published with the code (symbols/symbols.h). False: it tells nothing of that place, or nothing
 * that fits 16 bytes. For x86-64.
 */
bool rule_from_jit(const struct arch *arch, const struct jit_cfi *cfi, uint64_t addr, struct rule *ret);
/* The same by the worker; *aside: it ended two workers in a row, and is not to be shown to a third. */
bool rule_from_jit_by(struct worker *w, const struct arch *arch, const struct jit_cfi *cfi, uint64_t addr,
		      struct rule *ret, bool *aside);
