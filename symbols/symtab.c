#include "symbols/symtab.h"

#include "base/vec.h"

#include <stdlib.h>
#include <string.h>

enum {
	MAX_BUCKETS = 4096,
	/* Of names that were the best answer for a while: a hostile table could make every name one. */
	MAX_NAME_BYTES = 64 << 20,
};

static const uint32_t NO_NAME = UINT32_MAX;

/* A function as an answer. */
struct candidate {
	uint64_t start, end; /* equal: nothing yet. A label's end is that of its section. */
	uint32_t name;       /* in names */
	uint8_t bind;
	uint8_t underscores; /* leading ones */
};

/* What starts behind the question before and at or before this one. */
struct slot {
	uint64_t nearest; /* the last start of them all */
	uint64_t covered; /* where the last of the sized ones ends */
	struct candidate label; /* the best without a size at `nearest` */
	bool any;         /* something starts here */
	bool sized;       /* something with a size starts at `nearest` */
};

/*
 * A function with a size answers a range of questions. Rather than noting it at each of them it is
 * noted at the few nodes of a segment tree that make up the range, and a question looks at the
 * nodes above it in the end: functions that hold everything, a million of them, stay affordable.
 */
struct symtab {
	const uint64_t *vaddrs;
	size_t num;
	struct slot *slots;
	struct candidate *nodes; /* 2 * num; the leaf of question i is num + i; 1 is the root */
	/* The first question of each stretch of 1 << shift addresses. */
	uint32_t *buckets;
	unsigned int shift;
	VEC(char) names;
	bool oom;
};

static bool fill_buckets(struct symtab *t)
{
	uint64_t span = t->vaddrs[t->num - 1] - t->vaddrs[0];
	size_t num;

	while (span >> t->shift >= MAX_BUCKETS)
		t->shift++;
	num = (size_t)(span >> t->shift) + 2;
	t->buckets = malloc(num * sizeof(*t->buckets));
	if (!t->buckets)
		return false;
	for (size_t bucket = 0, at = 0; bucket < num; bucket++) {
		while (at < t->num && (t->vaddrs[at] - t->vaddrs[0]) >> t->shift < bucket)
			at++;
		t->buckets[bucket] = (uint32_t)at;
	}
	return true;
}

struct symtab *symtab_new(const uint64_t *vaddrs, size_t num)
{
	struct symtab *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->vaddrs = vaddrs;
	t->num = num;
	if (!num)
		return t;
	if (num < UINT32_MAX) {
		t->slots = calloc(num, sizeof(*t->slots));
		t->nodes = calloc(num, 2 * sizeof(*t->nodes));
	}
	if (t->slots && t->nodes && fill_buckets(t))
		return t;
	symtab_free(t);
	return NULL;
}

void symtab_free(struct symtab *t)
{
	if (!t)
		return;
	free(t->slots);
	free(t->nodes);
	free(t->buckets);
	vec_deinit(&t->names);
	free(t);
}

size_t symtab_first_at(const struct symtab *t, uint64_t vaddr)
{
	size_t low, high, bucket;

	if (!t->num || vaddr <= t->vaddrs[0])
		return 0;
	if (vaddr > t->vaddrs[t->num - 1])
		return t->num;
	bucket = (size_t)((vaddr - t->vaddrs[0]) >> t->shift);
	low = t->buckets[bucket];
	high = t->buckets[bucket + 1];
	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (t->vaddrs[mid] < vaddr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* A function being offered, whose name is read at most once. */
struct offer {
	struct symtab *t;
	const struct symtab_function *function;
	const struct symtab_namer *namer;
	struct candidate candidate;
	bool refused;
};

static bool load_name(struct offer *o)
{
	struct symtab *t = o->t;
	const char *name;
	size_t len = 0, end;

	if (o->candidate.name != NO_NAME || o->refused)
		return !o->refused;
	o->refused = true;
	name = o->namer->get(o->namer->data, o->function->name, &len);
	if (!name || !len || __builtin_add_overflow(t->names.len, len, &end) ||
	    end >= MAX_NAME_BYTES)
		return false;
	if (!vec_reserve(&t->names, end + 1)) {
		t->oom = true;
		return false;
	}
	while (o->candidate.underscores < len && o->candidate.underscores < UINT8_MAX &&
	       name[o->candidate.underscores] == '_')
		o->candidate.underscores++;
	o->candidate.name = (uint32_t)t->names.len;
	memcpy(t->names.data + t->names.len, name, len);
	t->names.data[end] = 0;
	t->names.len = end + 1;
	o->refused = false;
	return true;
}

/* Which of two functions of one range has the better name; negative: a. Both are loaded. */
static int compare_names(const struct symtab *t, const struct candidate *a,
			 const struct candidate *b)
{
	if (a->underscores != b->underscores)
		return a->underscores < b->underscores ? -1 : 1;
	return strcmp(t->names.data + a->name, t->names.data + b->name);
}

static int compare_ranges(const struct candidate *a, const struct candidate *b)
{
	if (a->start != b->start)
		return a->start > b->start ? -1 : 1;
	if (a->end != b->end)
		return a->end < b->end ? -1 : 1;
	return (int)a->bind - (int)b->bind;
}

/* Takes the offer if it is the better one. */
static void improve(struct offer *o, struct candidate *best)
{
	int order = -1;

	if (best->start != best->end) {
		order = compare_ranges(&o->candidate, best);
		if (order > 0)
			return;
	}
	if (!load_name(o))
		return;
	if (order < 0 || compare_names(o->t, &o->candidate, best) < 0)
		*best = o->candidate;
}

/* To the questions [low, high). */
static void improve_range(struct offer *o, size_t low, size_t high)
{
	low += o->t->num;
	high += o->t->num;
	for (; low < high && !o->refused; low >>= 1, high >>= 1) {
		if (low & 1)
			improve(o, &o->t->nodes[low++]);
		if (high & 1)
			improve(o, &o->t->nodes[--high]);
	}
}

/* Where a function with a size ends; not behind its start: it wraps. */
static uint64_t sized_end(const struct symtab_function *f)
{
	uint64_t end;

	if (__builtin_add_overflow(f->vaddr, f->size, &end))
		return 0;
	return f->limit > f->vaddr && f->limit < end ? f->limit : end;
}

/* Nothing nearer to the questions of the slot starts. */
static void note_start(struct offer *o, struct slot *slot, bool sized)
{
	uint64_t start = o->candidate.start;

	if (!slot->any || start > slot->nearest) {
		slot->any = true;
		slot->nearest = start;
		slot->sized = false;
		slot->label = (struct candidate){ 0 };
	}
	if (sized)
		slot->sized = true;
	else if (!slot->sized && o->candidate.end > start)
		improve(o, &slot->label);
}

void symtab_offer(struct symtab *t, const struct symtab_function *f,
		  const struct symtab_namer *namer)
{
	const uint64_t end = f->size ? sized_end(f) : f->limit;
	const bool sized = f->size && end > f->vaddr;
	size_t low = symtab_first_at(t, f->vaddr);
	bool holds, starts;
	struct slot *slot;
	struct offer o;

	if (low == t->num || t->oom)
		return;
	slot = &t->slots[low];
	if (sized && end > slot->covered)
		slot->covered = end;
	holds = sized && end > t->vaddrs[low];
	starts = !slot->any || f->vaddr >= slot->nearest;
	if (!holds && !starts) /* most functions */
		return;
	o = (struct offer){ .t = t, .function = f, .namer = namer };
	/* One that wraps has no end, but does end a label before it. */
	o.candidate = (struct candidate){ .start = f->vaddr,
					  .end = f->size && !sized ? 0 : end,
					  .name = NO_NAME,
					  .bind = (uint8_t)f->bind };
	if (holds)
		improve_range(&o, low, symtab_first_at(t, end));
	if (starts)
		note_start(&o, slot, sized);
}

/* A label that lies in a sized function ends with it. */
static bool label_holds(const struct slot *slot, uint64_t vaddr)
{
	if (slot->sized || vaddr >= slot->label.end)
		return false;
	return slot->covered <= slot->nearest || vaddr < slot->covered;
}

/* The best sized function of a question, from its leaf up to the root. */
static struct candidate best_sized(const struct symtab *t, size_t at)
{
	struct candidate best = { 0 };

	for (size_t node = t->num + at; node; node >>= 1) {
		const struct candidate *c = &t->nodes[node];
		int order;

		if (c->start == c->end)
			continue;
		order = best.start == best.end ? -1 : compare_ranges(c, &best);
		if (order < 0 || (!order && compare_names(t, c, &best) < 0))
			best = *c;
	}
	return best;
}

/* What starts before a question is also before the next one. */
static void inherit(struct slot *slot, const struct slot *before)
{
	if (!slot->any)
		*slot = *before;
	else if (before->covered > slot->covered)
		slot->covered = before->covered;
}

bool symtab_finish(struct symtab *t)
{
	if (t->oom)
		return false;
	for (size_t i = 0; i < t->num; i++) {
		struct candidate best = best_sized(t, i);

		if (i)
			inherit(&t->slots[i], &t->slots[i - 1]);
		if (label_holds(&t->slots[i], t->vaddrs[i]))
			best = t->slots[i].label;
		t->nodes[t->num + i] = best; /* a leaf: no other question looks there */
	}
	return true;
}

bool symtab_answer(const struct symtab *t, size_t at, struct symtab_entry *ret)
{
	const struct candidate *best = &t->nodes[t->num + at];

	if (best->start == best->end)
		return false;
	*ret = (struct symtab_entry){ .start = best->start, .name = t->names.data + best->name };
	return true;
}
