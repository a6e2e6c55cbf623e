#include "unwinder/rules_serve.h"

#include "symbols/elf_file.h"
#include "symbols/elf_serve.h"
#include "symbols/symbols.h"
#include "unwinder/rules_wire.h"
#include "unwinder/unwinder_priv.h"

#include <errno.h>

static int serve_rules(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	struct elf_file *f = elf_serve_file(state, r);
	uint8_t record[RULES_MAX_RECORD];

	if (!f)
		return -ENOEXEC;
	while (reader_left(r)) {
		struct rules_answer answer = { .vaddr = reader_u64(r) };
		size_t len;

		if (r->failed)
			return -EBADMSG;
		answer.rule = rule_from_cfi(arch_host(), f, answer.vaddr, &answer.start, &answer.end, &answer.ext);
		len = rules_encode(&answer, record);
		if (answer.rule.kind == RULE_EXT)
			rule_ext_deinit(&answer.ext);
		if (!worker_answer(call, record, len))
			return -EPIPE;
	}
	return 0;
}

static int serve_jit(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	struct jit_cfi cfi = { .vaddr = reader_u64(r) };
	struct rules_answer answer = { .vaddr = reader_u64(r) };
	uint8_t record[RULES_MAX_RECORD];

	cfi.size = reader_left(r);
	cfi.bytes = reader_bytes(r, cfi.size);
	if (r->failed)
		return -EBADMSG;
	if (!rule_from_jit(arch_host(), &cfi, answer.vaddr, &answer.rule))
		answer.rule = (struct rule){ .kind = RULE_FP };
	return worker_answer(call, record, rules_encode(&answer, record)) ? 0 : -EPIPE;
}

const struct worker_service rules_services[] = {
	{ RULES_ASK, serve_rules },
	{ RULES_JIT, serve_jit },
	{ 0 },
};
