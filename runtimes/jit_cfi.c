#include "runtimes/jit_cfi.h"

#include "base/vec.h"
#include "symbols/addrspace.h"
#include "symbols/symbols.h"
#include "unwinder/rule.h"

#include <stdlib.h>

struct jit_cfi_giver {
	struct jit_cfi_opts opts;
	VEC(uint32_t) aside; /* ids of generations */
};

struct jit_cfi_giver *jit_cfi_new(const struct jit_cfi_opts *opts)
{
	struct jit_cfi_giver *g = calloc(1, sizeof(*g));

	if (g)
		g->opts = *opts;
	return g;
}

void jit_cfi_free(struct jit_cfi_giver *g)
{
	if (!g)
		return;
	vec_deinit(&g->aside);
	free(g);
}

uint64_t jit_cfi_aside(const struct jit_cfi_giver *g)
{
	return g ? g->aside.len : 0;
}

static bool is_aside(const struct jit_cfi_giver *g, uint32_t space_id)
{
	for (size_t i = 0; i < g->aside.len; i++) {
		if (g->aside.data[i] == space_id)
			return true;
	}
	return false;
}

static bool rule_at(struct jit_cfi_giver *g, const struct give_query *q, struct rule *ret)
{
	struct jit_cfi cfi;
	bool aside = false, ok;

	if (!symbols_jit_cfi(g->opts.symbols, q->space, q->pc, &cfi) || is_aside(g, q->space->id))
		return false;
	if (!g->opts.worker)
		return rule_from_jit(g->opts.arch, &cfi, q->pc, ret);
	ok = rule_from_jit_by(g->opts.worker, g->opts.arch, &cfi, q->pc, ret, &aside);
	if (aside)
		(void)vec_push(&g->aside, q->space->id); /* without memory it is asked again */
	return ok;
}

static enum give give(void *data, const struct give_query *q, struct give_answer *ret)
{
	if (!q->mapping || q->mapping->file || !rule_at(data, q, &ret->rule))
		return GIVE_PASS;
	ret->life = GIVE_WITH_CODE;
	return GIVE_RULE;
}

struct unwind_giver jit_cfi_giver(struct jit_cfi_giver *g)
{
	return (struct unwind_giver){ .name = "jit cfi", .give = give, .data = g };
}
