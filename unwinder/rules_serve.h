/* Rules compiled in another process: what the parser answers (base/worker.h). For rules_ask in unwinder_priv.h. */
#pragma once

#include "base/worker.h"

/*
 * u32 id of the file, u64 vaddr.. -> for each, in order: u64 vaddr, start, end, struct rule as it is, and for RULE_EXT
 * u8 signal, u8 cfa_reg, u16 num_ops, CFA and registers as u8 how, u8 num_ops, u32 first_op, i64 value, and the
 * operations as u8 atom, u64 number, number2, offset.
 * u64 vaddr of an .eh_frame, u64 addr, its bytes -> the same for addr; RULE_FP when it tells nothing of that.
 */
enum {
	RULES_ASK = WORKER_KIND(WORKER_UNWINDER, 1),
	RULES_JIT = WORKER_KIND(WORKER_UNWINDER, 2),
};

/* For struct worker_server; their state is a struct elf_serve (symbols/elf_serve.h). */
extern const struct worker_service rules_services[];
