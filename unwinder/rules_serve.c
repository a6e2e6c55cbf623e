#include "unwinder/rules_serve.h"

#include <errno.h>

#include "symbols/elf_file.h"
#include "symbols/elf_serve.h"
#include "unwinder/rules_wire.h"
#include "unwinder/unwinder_priv.h"

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

const struct worker_service rules_services[] = {
	{ RULES_ASK, serve_rules },
	{ 0 },
};
