/*
 * Rows that were compiled lately, by the code they are for. A row of call-frame information mostly covers the whole body
 * of a function, and samples are at many places in it: libdw is asked for the first of them only.
 */
#include "unwinder/unwinder_priv.h"

#include "base/hash.h"

enum {
	ROW_SETS = 512,
	ROW_WAYS = 4,
	ROW_GRAIN = 9, /* 512 bytes of code share a set; a row is remembered where it was asked for */
};

struct row {
	uint64_t start, end; /* vaddr */
	uint32_t file;       /* id, never used again for another file; 0 = empty */
	struct rule rule;
};

struct rows {
	struct row sets[ROW_SETS][ROW_WAYS];
	uint8_t next[ROW_SETS]; /* to be replaced */
};

static size_t set_of(uint32_t file, uint64_t vaddr)
{
	return (size_t)(hash_two(file, vaddr >> ROW_GRAIN) % ROW_SETS);
}

const struct rule *rows_find(const struct rows *rows, uint32_t file, uint64_t vaddr)
{
	const struct row *set;

	if (!rows)
		return NULL;
	set = rows->sets[set_of(file, vaddr)];
	for (size_t i = 0; i < ROW_WAYS; i++) {
		if (set[i].file == file && vaddr >= set[i].start && vaddr < set[i].end)
			return &set[i].rule;
	}
	return NULL;
}

void rows_add(struct rows **rows, uint32_t file, uint64_t vaddr, uint64_t end,
	      const struct rule *rule)
{
	size_t at = set_of(file, vaddr);

	/* A side record belongs to one place, and rows without bounds hold for that place alone. */
	if (rule->kind == RULE_EXT || rule->kind == RULE_UNSET || vaddr >= end)
		return;
	if (!*rows)
		*rows = calloc(1, sizeof(**rows));
	if (!*rows)
		return; /* it only saves time */
	(*rows)->sets[at][(*rows)->next[at]] =
		(struct row){ .start = vaddr, .end = end, .file = file, .rule = *rule };
	(*rows)->next[at] = ((*rows)->next[at] + 1) % ROW_WAYS;
}
