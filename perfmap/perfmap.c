#include "perfmap/perfmap.h"

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "perfmap/published.h"
#include "symbols/symbols.h"

#include <stdlib.h>
#include <string.h>

enum {
	/* Added entries are few at a time while a runtime compiles: so many are searched as they
	   came. */
	MAX_PENDING = 64,
	/* And so many wait beside the big table, and a sixteenth of it, before it is built anew. */
	MIN_RECENT = 4096,
	/* A range that lies over more others than this changes as a whole. */
	MAX_PARTS = 64,
	MAX_LATEST = 4096,
};

static const size_t default_max_entries = 4000000;
static const size_t default_max_names = 512u << 20;
static const size_t max_cfi_bytes = 16u << 20; /* what comes later has names only */
static const uint64_t kernel_half = UINT64_C(1) << 63;

struct range {
	uint64_t start, end; /* end exclusive */
	uint32_t name;       /* offset in names */
	uint32_t cut;        /* bytes that later ranges took from its front */
};

struct ranges {
	VEC(struct range) v;
};

struct waiting {
	uint64_t time_ns;
	struct range range;
};

/* In order of time: data[head] is the next. */
struct queue {
	VEC(struct waiting) v;
	size_t head;
	uint64_t low, high; /* all that wait lie between */
};

/* What a range is unwound with, found by its name's offset, which no other that was added has. */
struct cfi {
	uint32_t name;
	uint32_t at, size;      /* in cfi_bytes */
	uint32_t code_bytes;    /* of the range, rounded up to 8 */
};

/*
 * Three ages: `pending` in the order of lines, `recent` and `base` sorted without overlap. The
 * younger wins, so a look-up asks them in that order, and a line costs about as much in a map of a
 * million as in a small one.
 */
struct perfmap {
	struct perfmap_limits limits;
	struct ranges base, recent, pending;
	struct queue queues[PERFMAP_NUM_LANES];
	struct strbuf names; /* NUL after each */
	VEC(struct cfi) cfis; /* by name, ascending */
	VEC(uint8_t) cfi_bytes;
	size_t count;
	struct perfmap_lines lines; /* where the text stands */
	bool full;
	bool failed;
};

struct perfmap *perfmap_new(const struct perfmap_limits *limits)
{
	struct perfmap *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	if (limits)
		m->limits = *limits;
	if (!m->limits.max_entries)
		m->limits.max_entries = default_max_entries;
	m->lines.max_line = m->limits.max_line ? m->limits.max_line : PERFMAP_MAX_LINE;
	if (!m->limits.max_names || m->limits.max_names > default_max_names)
		m->limits.max_names = default_max_names;
	return m;
}

void perfmap_free(struct perfmap *m)
{
	if (!m)
		return;
	vec_deinit(&m->base.v);
	vec_deinit(&m->recent.v);
	vec_deinit(&m->pending.v);
	for (int lane = 0; lane < PERFMAP_NUM_LANES; lane++)
		vec_deinit(&m->queues[lane].v);
	strbuf_deinit(&m->names);
	vec_deinit(&m->cfis);
	vec_deinit(&m->cfi_bytes);
	free(m);
}

/* --- Ranges without overlap --- */

struct key {
	uint64_t start;
	uint32_t index; /* in the input: the higher is the later */
};

/*
 * Stable sort by start, a byte at a time; bytes that are equal in all keys cost one pass to count.
 * Returns the one of the two arrays that holds the result.
 */
static struct key *sort_keys(struct key *keys, struct key *spare, size_t num)
{
	for (unsigned int shift = 0; shift < 64; shift += 8) {
		size_t counts[256] = { 0 }, sum = 0;
		struct key *swap = keys;

		for (size_t i = 0; i < num; i++)
			counts[keys[i].start >> shift & 0xff]++;
		if (counts[keys[0].start >> shift & 0xff] == num)
			continue;
		for (size_t byte = 0; byte < 256; byte++) {
			size_t count = counts[byte];

			counts[byte] = sum;
			sum += count;
		}
		for (size_t i = 0; i < num; i++)
			spare[counts[keys[i].start >> shift & 0xff]++] = keys[i];
		keys = spare;
		spare = swap;
	}
	return keys;
}

static bool is_sorted(const struct key *keys, size_t num)
{
	for (size_t i = 1; i < num; i++) {
		if (keys[i - 1].start > keys[i].start)
			return false;
	}
	return true;
}

/* A binary heap of indices, the highest on top. */
struct heap {
	uint32_t *data;
	size_t len;
};

static void heap_push(struct heap *h, uint32_t index)
{
	size_t at = h->len++;

	for (; at && h->data[(at - 1) / 2] < index; at = (at - 1) / 2)
		h->data[at] = h->data[(at - 1) / 2];
	h->data[at] = index;
}

static void heap_pop(struct heap *h)
{
	uint32_t moved = h->data[--h->len];
	size_t at = 0, child;

	while ((child = 2 * at + 1) < h->len) {
		if (child + 1 < h->len && h->data[child + 1] > h->data[child])
			child++;
		if (h->data[child] <= moved)
			break;
		h->data[at] = h->data[child];
		at = child;
	}
	h->data[at] = moved;
}

static bool emit(struct ranges *out, const struct range *in, uint64_t start, uint64_t end)
{
	uint64_t cut = in->cut + (start - in->start);
	struct range *last = out->v.len ? &out->v.data[out->v.len - 1] : NULL;
	struct range range = { start, end, in->name,
			       cut < UINT32_MAX ? (uint32_t)cut : UINT32_MAX };

	if (last && last->end == start && last->name == range.name) {
		last->end = end;
		return true;
	}
	return vec_push(&out->v, range);
}

/*
 * Walks the addresses upwards with all ranges that hold the current one in a heap; the latest of
 * them wins. Each step takes a range in or leaves one behind, so there are at most two per range.
 */
static bool sweep(struct ranges *out, const struct range *in, const struct key *keys, size_t num,
		  struct heap *open)
{
	uint64_t at = 0;
	size_t next = 0;

	while (next < num || open->len) {
		const struct range *top;
		uint64_t end;

		if (!open->len)
			at = keys[next].start;
		while (next < num && keys[next].start <= at)
			heap_push(open, keys[next++].index);
		top = &in[open->data[0]];
		if (top->end <= at) {
			heap_pop(open);
			continue;
		}
		end = next < num && keys[next].start < top->end ? keys[next].start : top->end;
		if (!emit(out, top, at, end))
			return false;
		at = end;
	}
	return true;
}

/* Replaces `older` by the two of them; `younger` is emptied. Without memory both stay as they are.
 */
static bool merge(struct ranges *older, struct ranges *younger)
{
	size_t num = older->v.len + younger->v.len;
	struct key *keys = malloc(num * sizeof(*keys)), *spare = malloc(num * sizeof(*spare)),
		   *sorted;
	struct heap heap = { .data = malloc(num * sizeof(*heap.data)) };
	struct ranges in = { 0 }, out = { 0 };
	bool ok = keys && spare && heap.data && vec_reserve(&in.v, num);

	if (ok) {
		if (older->v.len)
			memcpy(in.v.data, older->v.data, older->v.len * sizeof(struct range));
		memcpy(in.v.data + older->v.len, younger->v.data,
		       younger->v.len * sizeof(struct range));
		for (size_t i = 0; i < num; i++)
			keys[i] = (struct key){ in.v.data[i].start, (uint32_t)i };
		sorted = is_sorted(keys, num) ? keys : sort_keys(keys, spare, num);
		ok = sweep(&out, in.v.data, sorted, num, &heap);
	}
	if (ok) {
		vec_deinit(&older->v);
		*older = out;
		younger->v.len = 0;
	} else {
		vec_deinit(&out.v);
	}
	vec_deinit(&in.v);
	free(keys);
	free(spare);
	free(heap.data);
	return ok;
}

static void settle(struct perfmap *m)
{
	struct ranges *pending = &m->pending, *recent = &m->recent, *base = &m->base;

	if (pending->v.len <= MAX_PENDING)
		return;
	if (!merge(recent, pending)) {
		m->failed = true;
		return;
	}
	if (recent->v.len > MIN_RECENT + base->v.len / 16 && !merge(base, recent))
		m->failed = true;
	if (!recent->v.len)
		vec_deinit(&recent->v);
	if (pending->v.cap > MIN_RECENT)
		vec_deinit(&pending->v);
}

/* --- Looking up --- */

/* Index of the first that ends above addr. */
static size_t first_above(const struct ranges *r, uint64_t addr)
{
	size_t low = 0, high = r->v.len;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (r->v.data[mid].end <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static const struct range *find_sorted(const struct ranges *r, uint64_t addr)
{
	size_t i = first_above(r, addr);

	return i < r->v.len && r->v.data[i].start <= addr ? &r->v.data[i] : NULL;
}

static const struct range *find_last(const struct ranges *r, uint64_t addr)
{
	for (size_t i = r->v.len; i-- > 0;) {
		if (r->v.data[i].start <= addr && addr < r->v.data[i].end)
			return &r->v.data[i];
	}
	return NULL;
}

/* What counts now. */
static const struct range *range_at(struct perfmap *m, uint64_t addr)
{
	const struct range *range;

	settle(m);
	range = find_last(&m->pending, addr);
	if (!range)
		range = find_sorted(&m->recent, addr);
	return range ? range : find_sorted(&m->base, addr);
}

/* --- What waits for its time --- */

/* Ranges of the map that [start, end) touches. */
struct overlap {
	uint64_t start, end;
	const struct range *only; /* of them all, when there is but one */
	size_t num;
	struct code_ranges *ret;  /* NULL: they are only counted */
	bool failed;
};

static bool overlap_add(struct overlap *o, const struct range *r)
{
	struct code_range part = { r->start > o->start ? r->start : o->start,
				   r->end < o->end ? r->end : o->end };

	if (part.start >= part.end)
		return true;
	o->num++;
	o->only = r;
	if (o->num > MAX_PARTS) { /* all of it then */
		part = (struct code_range){ o->start, o->end };
		o->failed |= o->ret && !vec_push(&o->ret->v, part);
		return false;
	}
	o->failed |= o->ret && !vec_push(&o->ret->v, part);
	return true;
}

static bool overlap_sorted(struct overlap *o, const struct ranges *r)
{
	for (size_t i = first_above(r, o->start); i < r->v.len && r->v.data[i].start < o->end; i++) {
		if (!overlap_add(o, &r->v.data[i]))
			return false;
	}
	return true;
}

static void overlap_find(const struct perfmap *m, struct overlap *o)
{
	for (size_t i = 0; i < m->pending.v.len; i++) {
		if (!overlap_add(o, &m->pending.v.data[i]))
			return;
	}
	if (overlap_sorted(o, &m->recent))
		overlap_sorted(o, &m->base);
}

/* NULL when that range has none. */
static const struct cfi *find_cfi(const struct perfmap *m, uint32_t name)
{
	size_t low = 0, high = m->cfis.len;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (m->cfis.data[mid].name < name)
			low = mid + 1;
		else
			high = mid;
	}
	return low < m->cfis.len && m->cfis.data[low].name == name ? &m->cfis.data[low] : NULL;
}

static bool is_same_cfi(const struct perfmap *m, uint32_t name, const uint8_t *cfi, size_t cfi_len)
{
	const struct cfi *known = find_cfi(m, name);

	if (!known || !cfi_len)
		return !known && !cfi_len;
	return known->size == cfi_len && !memcmp(m->cfi_bytes.data + known->at, cfi, cfi_len);
}

/* Says what is known already: the whole range, and nothing newer inside it. */
static bool is_known(const struct perfmap *m, const struct range *range, const char *name, size_t len,
		     const uint8_t *cfi, size_t cfi_len)
{
	struct overlap o = { .start = range->start, .end = range->end };

	overlap_find(m, &o);
	return o.num == 1 && o.only->start == range->start && o.only->end == range->end && !o.only->cut &&
	       !strncmp(m->names.data + o.only->name, name, len) && !m->names.data[o.only->name + len] &&
	       is_same_cfi(m, o.only->name, cfi, cfi_len);
}

static bool anything_waits(const struct perfmap *m, const struct range *range)
{
	for (int lane = 0; lane < PERFMAP_NUM_LANES; lane++) {
		const struct queue *q = &m->queues[lane];

		if (q->head < q->v.len && range->start < q->high && range->end > q->low)
			return true;
	}
	return false;
}

static bool queue_add(struct queue *q, uint64_t time_ns, const struct range *range)
{
	if (q->head == q->v.len) {
		q->head = q->v.len = 0;
		q->low = UINT64_MAX;
		q->high = 0;
	} else if (q->v.data[q->v.len - 1].time_ns > time_ns) {
		time_ns = q->v.data[q->v.len - 1].time_ns;
	}
	if (!vec_push(&q->v, ((struct waiting){ time_ns, *range })))
		return false;
	q->low = range->start < q->low ? range->start : q->low;
	q->high = range->end > q->high ? range->end : q->high;
	return true;
}

/* Of what is about to be added. Where it is too much, the range goes without. */
static bool add_cfi(struct perfmap *m, const struct range *range, const uint8_t *bytes, size_t len)
{
	uint64_t code_bytes = (range->end - range->start + 7) & ~UINT64_C(7);
	struct cfi cfi = { .name = range->name, .at = (uint32_t)m->cfi_bytes.len, .size = (uint32_t)len,
			   .code_bytes = (uint32_t)code_bytes };

	if (!len || len > PERFMAP_MAX_CFI || code_bytes > UINT32_MAX || m->cfi_bytes.len + len > max_cfi_bytes)
		return true;
	if (!vec_reserve(&m->cfi_bytes, m->cfi_bytes.len + len) || !vec_push(&m->cfis, cfi))
		return false;
	memcpy(m->cfi_bytes.data + m->cfi_bytes.len, bytes, len);
	m->cfi_bytes.len += len;
	return true;
}

bool perfmap_add_cfi(struct perfmap *m, enum perfmap_lane lane, uint64_t time_ns, uint64_t start, uint64_t end,
		     const char *name, size_t name_len, const uint8_t *cfi, size_t cfi_len)
{
	struct range range = { .start = start, .end = end, .name = (uint32_t)m->names.len };

	if (start >= end || end > kernel_half || !name_len || m->failed)
		return false;
	settle(m);
	if (!anything_waits(m, &range) && is_known(m, &range, name, name_len, cfi, cfi_len))
		return true;
	if (m->count >= m->limits.max_entries || m->names.len + name_len >= m->limits.max_names) {
		m->full = true;
		return false;
	}
	strbuf_add(&m->names, name, name_len);
	strbuf_char(&m->names, '\0');
	if (m->names.failed || !add_cfi(m, &range, cfi, cfi_len) || !queue_add(&m->queues[lane], time_ns, &range)) {
		m->failed = true;
		return false;
	}
	m->count++;
	return true;
}

/* What is at addr, of what waits too: of the last few, as what moves has mostly been there for longer. */
static const struct range *latest(struct perfmap *m, uint64_t addr)
{
	for (int lane = 0; lane < PERFMAP_NUM_LANES; lane++) {
		const struct queue *q = &m->queues[lane];

		for (size_t i = q->v.len; i > q->head && q->v.len - i < MAX_LATEST; i--) {
			const struct range *r = &q->v.data[i - 1].range;

			if (r->start <= addr && addr < r->end)
				return r;
		}
	}
	return range_at(m, addr);
}

void perfmap_move(struct perfmap *m, enum perfmap_lane lane, uint64_t time_ns, uint64_t from, uint64_t to,
		  uint64_t size)
{
	_cleanup_free_ char *name = NULL;
	_cleanup_free_ uint8_t *bytes = NULL;
	const struct range *known = m->failed ? NULL : latest(m, from);
	const struct cfi *cfi = known ? find_cfi(m, known->name) : NULL;
	uint64_t end;
	size_t len = 0;

	/* Copies, as adding it may move all that there are. */
	if (!known || __builtin_add_overflow(to, size, &end))
		return;
	name = strdup(m->names.data + known->name);
	if (cfi && cfi->code_bytes == ((size + 7) & ~UINT64_C(7)) && (bytes = malloc(cfi->size))) {
		len = cfi->size;
		memcpy(bytes, m->cfi_bytes.data + cfi->at, len);
	}
	if (name)
		perfmap_add_cfi(m, lane, time_ns, to, end, name, strlen(name), bytes, len);
}

static const struct waiting *queue_next(const struct queue *q)
{
	return q->head < q->v.len ? &q->v.data[q->head] : NULL;
}

uint64_t perfmap_next(const struct perfmap *m)
{
	uint64_t ret = UINT64_MAX;

	for (int lane = 0; lane < PERFMAP_NUM_LANES; lane++) {
		const struct waiting *w = queue_next(&m->queues[lane]);

		if (w && w->time_ns < ret)
			ret = w->time_ns;
	}
	return ret;
}

bool perfmap_changes(struct perfmap *m, uint64_t time_ns, struct code_ranges *ret)
{
	struct overlap o = { .ret = ret };

	settle(m);
	for (int lane = 0; lane < PERFMAP_NUM_LANES; lane++) {
		const struct queue *q = &m->queues[lane];

		for (size_t i = q->head; i < q->v.len && q->v.data[i].time_ns <= time_ns; i++) {
			const struct range *range = &q->v.data[i].range;
			const char *name = m->names.data + range->name;
			const struct cfi *cfi = find_cfi(m, range->name);

			if (is_known(m, range, name, strlen(name), cfi ? m->cfi_bytes.data + cfi->at : NULL,
				     cfi ? cfi->size : 0))
				continue;
			o.start = range->start;
			o.end = range->end;
			o.num = 0;
			overlap_find(m, &o);
		}
	}
	return !o.failed;
}

void perfmap_apply(struct perfmap *m, uint64_t time_ns)
{
	while (!m->failed && perfmap_next(m) <= time_ns) {
		struct queue *q = &m->queues[0];

		for (int lane = 1; lane < PERFMAP_NUM_LANES; lane++) {
			struct queue *other = &m->queues[lane];
			const struct waiting *a = queue_next(q), *b = queue_next(other);

			if (b && (!a || b->time_ns < a->time_ns))
				q = other;
		}
		if (perfmap_next(m) == UINT64_MAX)
			return;
		if (!vec_push(&m->pending.v, queue_next(q)->range))
			m->failed = true;
		q->head++;
	}
}

/* --- Lines --- */

/* struct perfmap_sink */
static void sink_add(void *data, enum perfmap_lane lane, uint64_t time_ns, uint64_t start, uint64_t end,
		     const char *name, size_t name_len, const uint8_t *cfi, size_t cfi_len)
{
	perfmap_add_cfi(data, lane, time_ns, start, end, name, name_len, cfi, cfi_len);
}

static void sink_move(void *data, enum perfmap_lane lane, uint64_t time_ns, uint64_t from, uint64_t to, uint64_t size)
{
	perfmap_move(data, lane, time_ns, from, to, size);
}

struct perfmap_sink perfmap_sink(struct perfmap *m)
{
	return (struct perfmap_sink){ sink_add, sink_move, m };
}

struct perfmap_lines *perfmap_lines_of(struct perfmap *m)
{
	return &m->lines;
}

size_t perfmap_append_at(struct perfmap *m, const char *text, size_t len, uint64_t time_ns)
{
	const struct perfmap_sink sink = perfmap_sink(m);

	return perfmap_lines_take(&m->lines, text, len, time_ns, &sink);
}

size_t perfmap_append(struct perfmap *m, const char *text, size_t len)
{
	size_t used = perfmap_append_at(m, text, len, 0);

	perfmap_apply(m, 0);
	return used;
}

/* --- Answers --- */

const char *perfmap_find(struct perfmap *m, uint64_t addr, uint64_t *start)
{
	const struct range *range = range_at(m, addr);

	if (!range)
		return NULL;
	*start = range->start - range->cut;
	return m->names.data + range->name;
}

bool perfmap_find_cfi(struct perfmap *m, uint64_t addr, struct jit_cfi *ret)
{
	const struct range *range = m->cfis.len ? range_at(m, addr) : NULL;
	const struct cfi *cfi = range ? find_cfi(m, range->name) : NULL;

	if (!cfi)
		return false;
	*ret = (struct jit_cfi){ .bytes = m->cfi_bytes.data + cfi->at,
				 .size = cfi->size,
				 .vaddr = range->start - range->cut + cfi->code_bytes };
	return true;
}

bool perfmap_has_cfi(const struct perfmap *m)
{
	return m->cfis.len;
}

uint64_t perfmap_named_bytes(struct perfmap *m, uint64_t start, uint64_t end)
{
	uint64_t ret = 0;

	if ((m->pending.v.len && !merge(&m->recent, &m->pending)) ||
	    (m->recent.v.len && !merge(&m->base, &m->recent)))
		return 0;
	for (size_t i = 0; i < m->base.v.len; i++) {
		const struct range *r = &m->base.v.data[i];
		uint64_t low = r->start > start ? r->start : start, high = r->end < end ? r->end : end;

		ret += high > low ? high - low : 0;
	}
	return ret;
}

size_t perfmap_count(const struct perfmap *m)
{
	return m->count;
}

size_t perfmap_bad_lines(const struct perfmap *m)
{
	return m->lines.bad;
}

bool perfmap_full(const struct perfmap *m)
{
	return m->full;
}

bool perfmap_failed(const struct perfmap *m)
{
	return m->failed;
}
