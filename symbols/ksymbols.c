#include "symbols/ksymbols.h"

#include "base/vec.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_KSYMBOLS = 1 << 16 };

/* By address; they do not overlap. */
struct ksymbols {
	VEC(struct ksymbol) list;
};

/* The first that ends above addr. */
static size_t first_above(const struct ksymbols *k, uint64_t addr)
{
	size_t low = 0, high = k->list.len;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (k->list.data[mid].end <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

bool ksymbols_add(struct ksymbols **ret, const struct ksymbol *symbol)
{
	struct ksymbols *k = *ret = *ret ? *ret : calloc(1, sizeof(**ret));
	struct ksymbol sum = *symbol;
	size_t at, num = 0;

	if (!k)
		return false;
	if (sum.start >= sum.end)
		return true;
	at = first_above(k, sum.start);
	for (; at + num < k->list.len && k->list.data[at + num].start < sum.end; num++) {
		const struct ksymbol *there = &k->list.data[at + num];

		if (!sum.name || !there->name || strcmp(sum.name, there->name) || sum.start != there->start ||
		    sum.end != there->end)
			sum.name = NULL;
		sum.start = there->start < sum.start ? there->start : sum.start;
		sum.end = there->end > sum.end ? there->end : sum.end;
	}
	if (num) {
		k->list.data[at] = sum;
		vec_remove(&k->list, at + 1, num - 1);
		return true;
	}
	if (k->list.len == MAX_KSYMBOLS)
		return true;
	return vec_insert(&k->list, at, sum);
}

const struct ksymbol *ksymbols_find(const struct ksymbols *k, uint64_t addr)
{
	size_t at = k ? first_above(k, addr) : 0;

	return k && at < k->list.len && k->list.data[at].start <= addr ? &k->list.data[at] : NULL;
}

void ksymbols_free(struct ksymbols *k)
{
	if (!k)
		return;
	vec_deinit(&k->list);
	free(k);
}
