/* The recorder's side. An answer is kept until it is whole: a parser that dies has changed nothing. */
#include "base/strbuf.h"
#include "base/vec.h"
#include "perfmap/published.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	CPU_MS = 2000, /* of 256 KiB */
	WALL_MS = 5000,
	MAX_NAME = 16 << 10,
	MAX_ITEMS = 1 << 20,
};

struct item {
	uint8_t what;
	uint64_t time_ns;
	uint64_t a, b;        /* start and end, or from and to */
	uint64_t size;        /* of what moved, or of the name */
	size_t name;          /* offset in names */
	size_t cfi;           /* offset in names too */
	uint16_t cfi_len;     /* 0 = none */
};

struct published_answer {
	VEC(struct item) items;
	struct strbuf names;
	bool ended;
	uint64_t used;
	uint32_t bad;
	uint8_t flags;
};

struct published_answer *published_answer_new(void)
{
	return calloc(1, sizeof(struct published_answer));
}

void published_answer_free(struct published_answer *a)
{
	if (!a)
		return;
	vec_deinit(&a->items);
	strbuf_deinit(&a->names);
	free(a);
}

static void forget(void *answer)
{
	struct published_answer *a = answer;

	a->items.len = 0;
	strbuf_clear(&a->names);
	a->ended = false;
}

static bool take_item(struct published_answer *a, uint8_t what, struct reader *r)
{
	struct item item = { .what = what, .name = a->names.len };
	const void *name;

	item.time_ns = reader_u64(r);
	item.a = reader_u64(r);
	item.b = reader_u64(r);
	if (what == PUBLISHED_MOVE) {
		item.size = reader_u64(r);
	} else {
		item.size = reader_u16(r);
		name = item.size <= MAX_NAME ? reader_bytes(r, (size_t)item.size) : NULL;
		if (!name || !item.size)
			return false;
		strbuf_add(&a->names, name, (size_t)item.size);
	}
	return !r->failed && a->items.len < MAX_ITEMS && vec_push(&a->items, item);
}

/* Of the range before it. */
static bool take_cfi(struct published_answer *a, struct reader *r)
{
	struct item *last = a->items.len ? &a->items.data[a->items.len - 1] : NULL;
	const size_t len = reader_u16(r);
	const void *bytes = len <= PERFMAP_MAX_CFI ? reader_bytes(r, len) : NULL;

	if (!bytes || !len || !last || last->what != PUBLISHED_RANGE || last->cfi_len)
		return false;
	last->cfi = a->names.len;
	last->cfi_len = (uint16_t)len;
	strbuf_add(&a->names, bytes, len);
	return true;
}

bool published_take(void *answer, struct reader *r)
{
	struct published_answer *a = answer;
	uint8_t what = reader_u8(r);

	if (a->ended)
		return false;
	if (what == PUBLISHED_RANGE || what == PUBLISHED_MOVE)
		return take_item(a, what, r);
	if (what == PUBLISHED_CFI)
		return take_cfi(a, r);
	if (what != PUBLISHED_END)
		return false;
	a->ended = true;
	a->used = reader_u64(r);
	a->bad = reader_u32(r);
	a->flags = reader_u8(r);
	return true;
}

static size_t apply(const struct published_answer *a, struct perfmap *m, enum perfmap_lane lane, const uint64_t *time_ns)
{
	size_t count = 0;

	for (size_t i = 0; i < a->items.len && !a->names.failed; i++) {
		const struct item *item = &a->items.data[i];
		uint64_t at_ns = time_ns ? *time_ns : item->time_ns;

		if (item->what == PUBLISHED_MOVE)
			perfmap_move(m, lane, at_ns, item->a, item->b, item->size);
		else
			count += perfmap_add_cfi(m, lane, at_ns, item->a, item->b, a->names.data + item->name,
						 (size_t)item->size, (const uint8_t *)a->names.data + item->cfi,
						 item->cfi_len);
	}
	return count;
}

bool published_apply(const struct published_answer *a, struct perfmap *m, enum perfmap_lane lane, uint64_t *used)
{
	apply(a, m, lane, NULL);
	*used = a->used;
	return a->ended;
}

/* The answer to head and bytes; NULL = there is none. */
static struct published_answer *ask(struct worker *w, uint16_t kind, const uint8_t *head, size_t head_len,
				    const void *bytes, size_t len, uint64_t max_used, bool *aside)
{
	struct published_answer *a = published_answer_new();
	uint8_t *body = malloc(head_len + len);
	struct worker_request request = {
		.kind = kind,
		.body = body,
		.size = head_len + len,
		.fd = -1,
		.cpu_ms = CPU_MS,
		.wall_ms = WALL_MS,
		.restart = forget,
		.take = published_take,
		.data = a,
	};
	enum worker_status status = WORKER_NONE;

	if (a && body) {
		memcpy(body, head, head_len);
		memcpy(body + head_len, bytes, len);
		status = worker_ask(w, &request);
	}
	*aside = status == WORKER_REFUSED;
	free(body);
	if (status == WORKER_DONE && !request.result && a->ended && a->used <= max_used)
		return a;
	published_answer_free(a);
	return NULL;
}

size_t published_text(struct worker *w, struct perfmap *m, const char *text, size_t len, uint64_t time_ns, bool *aside)
{
	struct perfmap_lines *lines = perfmap_lines_of(m);
	const uint32_t max_line = (uint32_t)lines->max_line;
	uint8_t head[4 + 1];
	struct published_answer *a;
	size_t used;

	memcpy(head, &max_line, 4);
	head[4] = lines->skipping;
	a = ask(w, PUBLISHED_TEXT, head, sizeof(head), text, len, len, aside);
	if (!a)
		return 0;
	apply(a, m, PERFMAP_TEXT, &time_ns);
	lines->skipping = a->flags & PUBLISHED_SKIPPING;
	lines->bad += a->bad;
	used = (size_t)a->used;
	published_answer_free(a);
	return used;
}

uint64_t published_dump(struct worker *w, struct jitdump *j, const uint8_t *bytes, size_t len, uint64_t left,
			struct perfmap *m, uint64_t stamp_ns, bool *aside)
{
	struct jitdump_state *state = jitdump_state_of(j);
	uint8_t head[1 + 2 * 8];
	struct published_answer *a;
	uint64_t used;

	*aside = false;
	if (state->failed)
		return 0;
	head[0] = (uint8_t)((state->begun ? PUBLISHED_BEGUN : 0) | (state->foreign_clock ? PUBLISHED_FOREIGN : 0));
	memcpy(head + 1, &left, 8);
	memcpy(head + 9, &stamp_ns, 8);
	a = ask(w, PUBLISHED_DUMP, head, sizeof(head), bytes, len, left, aside);
	if (!a)
		return 0;
	jitdump_counted(j, apply(a, m, PERFMAP_DUMP, NULL));
	*state = (struct jitdump_state){ .begun = a->flags & PUBLISHED_BEGUN,
					 .foreign_clock = a->flags & PUBLISHED_FOREIGN,
					 .failed = a->flags & PUBLISHED_FAILED };
	used = a->used;
	published_answer_free(a);
	return used;
}
