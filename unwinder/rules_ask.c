/* Rules of files that are parsed elsewhere. */
#include "base/cleanup.h"
#include "symbols/elf_remote.h"
#include "symbols/file.h"
#include "symbols/symbols.h"
#include "unwinder/rules_serve.h"
#include "unwinder/rules_wire.h"
#include "unwinder/unwinder_priv.h"

#include <stdlib.h>
#include <string.h>

enum {
	/* A sample waits for it, and the rings fill up meanwhile. A section of 256 MiB is read in a fraction of that. */
	RULES_CPU_MS = 1000,
	RULES_WALL_MS = 2000,
};

struct taken {
	const struct arch *arch;
	struct rows **rows;
	uint32_t file;
	const uint64_t *vaddrs;
	size_t num, next;
	struct rules_answer first;
};

static void forget(void *data)
{
	struct taken *t = data;

	if (t->next)
		rule_ext_deinit(&t->first.ext);
	t->next = 0;
}

static bool take(void *data, struct reader *r)
{
	struct taken *t = data;
	struct rules_answer answer;

	if (!rules_decode(t->arch, r, &answer))
		return false;
	if (t->next == t->num || answer.vaddr != t->vaddrs[t->next]) {
		rule_ext_deinit(&answer.ext);
		return false;
	}
	if (!t->next++) {
		t->first = answer;
		return true;
	}
	rows_add(t->rows, t->file, answer.vaddr, answer.end, &answer.rule);
	rule_ext_deinit(&answer.ext);
	return true;
}

struct rule rules_ask(struct unwinder *u, const struct file *file, const uint64_t *vaddrs, size_t num, uint64_t *start,
		      uint64_t *end, struct rule_ext *ext)
{
	struct taken taken = {
		.arch = u->arch, .rows = &u->rows, .file = file->id, .vaddrs = vaddrs, .num = num,
	};
	const struct elf_remote_question question = {
		.kind = RULES_ASK,
		.vaddrs = vaddrs,
		.num = num,
		.cpu_ms = RULES_CPU_MS,
		.wall_ms = RULES_WALL_MS,
		.take = take,
		.restart = forget,
		.data = &taken,
	};
	int r = elf_remote_ask(file->elf, &question);

	if (r < 0)
		forget(&taken);
	if (!taken.next)
		taken.first = (struct rules_answer){ .rule.kind = RULE_FP };
	*start = taken.first.start;
	*end = taken.first.end;
	*ext = taken.first.ext;
	return taken.first.rule;
}

/* ---- of code that is in no file ---- */

struct jit_taken {
	const struct arch *arch;
	uint64_t addr;
	struct rule rule;
	bool done;
};

static void forget_jit(void *data)
{
	((struct jit_taken *)data)->done = false;
}

static bool take_jit(void *data, struct reader *r)
{
	struct jit_taken *t = data;
	struct rules_answer answer;

	if (!rules_decode(t->arch, r, &answer))
		return false;
	rule_ext_deinit(&answer.ext);
	t->rule = answer.rule;
	if (t->done || answer.vaddr != t->addr || answer.rule.kind == RULE_EXT)
		return false;
	t->done = true;
	return true;
}

bool rule_from_jit_by(struct worker *w, const struct arch *arch, const struct jit_cfi *cfi, uint64_t addr,
		      struct rule *ret, bool *aside)
{
	_cleanup_free_ uint8_t *body = malloc(2 * sizeof(uint64_t) + cfi->size);
	struct jit_taken taken = { .arch = arch, .addr = addr };
	struct worker_request request = {
		.kind = RULES_JIT,
		.body = body,
		.size = 2 * sizeof(uint64_t) + cfi->size,
		.fd = -1,
		.cpu_ms = RULES_CPU_MS,
		.wall_ms = RULES_WALL_MS,
		.take = take_jit,
		.restart = forget_jit,
		.data = &taken,
	};
	enum worker_status status;

	*aside = false;
	if (!body)
		return false;
	memcpy(body, &cfi->vaddr, sizeof(uint64_t));
	memcpy(body + sizeof(uint64_t), &addr, sizeof(uint64_t));
	memcpy(body + 2 * sizeof(uint64_t), cfi->bytes, cfi->size);
	status = worker_ask(w, &request);
	*aside = status == WORKER_REFUSED;
	*ret = taken.rule;
	return status == WORKER_DONE && !request.result && taken.done &&
	       (taken.rule.kind == RULE_CFA || taken.rule.kind == RULE_END);
}
