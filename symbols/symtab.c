#include "symbols/symtab.h"

#include "base/cleanup.h"
#include "base/vec.h"

#include <stdlib.h>
#include <string.h>

/*
 * Ranges may nest (an assembly function inside another, a cold part inside its parent) and may
 * overlap. `outer` is the nearest symbol before this one that ends later: whatever else covers an
 * address behind our end is found by following it.
 */
struct sym {
	uint64_t start, end;
	uint32_t name;  /* in names */
	uint32_t outer; /* index, or NO_OUTER */
};

static const uint32_t NO_OUTER = UINT32_MAX;

struct symtab {
	struct sym *syms;
	size_t num;
	char *names;
};

/* A symbol as it was added. */
struct raw {
	uint64_t start, size, limit;
	uint32_t name;
	uint8_t bind;
	uint8_t underscores; /* leading ones */
};

struct symtab_builder {
	VEC(struct raw) raws;
	VEC(char) names;
};

struct symtab_builder *symtab_builder_new(void)
{
	return calloc(1, sizeof(struct symtab_builder));
}

void symtab_builder_free(struct symtab_builder *b)
{
	if (!b)
		return;
	vec_deinit(&b->raws);
	vec_deinit(&b->names);
	free(b);
}

static void symtab_builder_freep(struct symtab_builder **b)
{
	symtab_builder_free(*b);
}

void symtab_free(struct symtab *t)
{
	if (!t)
		return;
	free(t->syms);
	free(t->names);
	free(t);
}

static void symtab_freep(struct symtab **t)
{
	symtab_free(*t);
}

bool symtab_builder_add(struct symtab_builder *b, uint64_t vaddr, uint64_t size, uint64_t limit,
			const char *name, size_t name_len, enum symtab_bind bind)
{
	struct raw raw = { .start = vaddr, .size = size, .limit = limit, .bind = (uint8_t)bind };
	size_t end;

	if (__builtin_add_overflow(b->names.len, name_len, &end) || end >= UINT32_MAX ||
	    b->raws.len >= NO_OUTER - 1 || !vec_reserve(&b->names, end + 1))
		return false;
	while (raw.underscores < name_len && raw.underscores < UINT8_MAX &&
	       name[raw.underscores] == '_')
		raw.underscores++;
	raw.name = (uint32_t)b->names.len;
	if (!vec_push(&b->raws, raw))
		return false;
	if (name_len)
		memcpy(b->names.data + b->names.len, name, name_len);
	b->names.data[end] = 0;
	b->names.len = end + 1;
	return true;
}

/* By start, the longest first; then the better name first. */
static int raw_compare(const void *pa, const void *pb, void *names)
{
	const struct raw *a = pa, *b = pb;

	if (a->start != b->start)
		return a->start < b->start ? -1 : 1;
	if (a->size != b->size)
		return a->size > b->size ? -1 : 1;
	if (a->bind != b->bind)
		return a->bind < b->bind ? -1 : 1;
	if (a->underscores != b->underscores)
		return a->underscores < b->underscores ? -1 : 1;
	return strcmp((const char *)names + a->name, (const char *)names + b->name);
}

/*
 * Where a symbol ends; not behind its start means that it is dropped. `next` is the start of the
 * next other symbol, `covered` the end of what sized symbols before it cover.
 */
static uint64_t raw_end(const struct raw *raw, uint64_t next, uint64_t covered)
{
	uint64_t end;

	if (raw->size) {
		if (__builtin_add_overflow(raw->start, raw->size, &end))
			return 0;
		return raw->limit > raw->start && raw->limit < end ? raw->limit : end;
	}
	end = raw->limit < next ? raw->limit : next;
	return covered > raw->start && covered < end ? covered : end;
}

/*
 * One entry for each range, in order. Symbols without a size count only where no sized one starts.
 */
static void resolve(const struct raw *raws, size_t num, struct symtab *t)
{
	uint64_t covered = 0;

	for (size_t i = 0; i < num;) {
		size_t group = i, kept = t->num;
		uint64_t next, last_end = 0;

		while (group < num && raws[group].start == raws[i].start)
			group++;
		next = group < num ? raws[group].start : UINT64_MAX;
		for (; i < group; i++) {
			uint64_t end = raw_end(&raws[i], next, covered);

			if (end <= raws[i].start || end == last_end)
				continue;
			if (!raws[i].size && t->num > kept)
				continue;
			t->syms[t->num++] = (struct sym){ .start = raws[i].start,
							  .end = end,
							  .name = raws[i].name };
			last_end = end;
		}
		if (t->num > kept && raws[group - 1].start == t->syms[kept].start &&
		    t->syms[kept].end > covered)
			covered = t->syms[kept].end;
	}
}

static void link_outer(struct symtab *t)
{
	for (size_t i = 0; i < t->num; i++) {
		uint32_t outer = i ? (uint32_t)(i - 1) : NO_OUTER;

		while (outer != NO_OUTER && t->syms[outer].end <= t->syms[i].end)
			outer = t->syms[outer].outer;
		t->syms[i].outer = outer;
	}
}

struct symtab *symtab_builder_finish(struct symtab_builder *builder)
{
	_cleanup_(symtab_builder_freep) struct symtab_builder *b = builder;
	_cleanup_(symtab_freep) struct symtab *t = calloc(1, sizeof(*t));
	struct sym *smaller;
	char *names;

	if (!t)
		return NULL;
	if (b->raws.len) {
		t->syms = calloc(b->raws.len, sizeof(*t->syms));
		if (!t->syms)
			return NULL;
		qsort_r(b->raws.data, b->raws.len, sizeof(*b->raws.data), raw_compare,
			b->names.data);
		resolve(b->raws.data, b->raws.len, t);
		link_outer(t);
		smaller = realloc(t->syms, (t->num ? t->num : 1) * sizeof(*t->syms));
		if (smaller)
			t->syms = smaller;
	}
	t->names = steal_ptr(b->names.data);
	names = realloc(t->names, b->names.len ? b->names.len : 1);
	if (names)
		t->names = names;
	return steal_ptr(t);
}

bool symtab_find(const struct symtab *t, uint64_t vaddr, struct symtab_entry *ret)
{
	size_t low = 0, high = t ? t->num : 0;
	uint32_t at;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (t->syms[mid].start <= vaddr)
			low = mid + 1;
		else
			high = mid;
	}
	at = low ? (uint32_t)(low - 1) : NO_OUTER;
	while (at != NO_OUTER && t->syms[at].end <= vaddr)
		at = t->syms[at].outer;
	if (at == NO_OUTER)
		return false;
	*ret = (struct symtab_entry){ .start = t->syms[at].start,
				      .end = t->syms[at].end,
				      .name = t->names + t->syms[at].name };
	return true;
}

size_t symtab_count(const struct symtab *t)
{
	return t ? t->num : 0;
}
