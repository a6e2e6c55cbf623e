/* A compiled rule as it travels (rules_serve.h has the layout). Both sides; for this folder, and who tests it. */
#pragma once

#include "base/reader.h"
#include "unwinder/rule.h"

enum {
	RULES_MAX_OPS = 256,
	RULES_WHERE_BYTES = 1 + 1 + 4 + 8,
	RULES_OP_BYTES = 1 + 3 * 8,
	RULES_MAX_RECORD = 3 * 8 + 16 + 1 + 1 + 2 + (1 + ARCH_MAX_REGS) * RULES_WHERE_BYTES + RULES_MAX_OPS * RULES_OP_BYTES,
};

struct rules_answer {
	uint64_t vaddr, start, end; /* end 0 = it holds for vaddr alone */
	struct rule rule;
	struct rule_ext ext; /* RULE_EXT: owned */
};

/* Bytes used; `to` has room for RULES_MAX_RECORD. */
size_t rules_encode(const struct rules_answer *answer, uint8_t *to);
/*
 * Every number is held to what the walk relies on: registers of the CPU, operations that are there. False: malformed,
 * or memory is out; nothing is owned then.
 */
bool rules_decode(const struct arch *arch, struct reader *r, struct rules_answer *ret);
