/*
 * Perf maps and jitdumps by way of the parser. The first byte tells what the rest is: 't' a text and 'd' a jitdump, which
 * must give the same names as when they are taken here; 'a' an answer of a parser that was taken over.
 */
#include "perfmap/published.h"

#include <stdlib.h>
#include <string.h>

enum { PLACES = 4096 };

static const struct worker_services services[] = { { published_services, NULL }, { 0 } };
static const struct worker_server server = { .services = services };

static struct published_answer *answer_to(uint16_t kind, const void *body, size_t size)
{
	struct published_answer *a = published_answer_new();
	int result;

	if (!a)
		return NULL;
	if (!worker_serve_one(&server, kind, body, size, -1, published_take, a, &result) || result)
		abort();
	return a;
}

static void compare(struct perfmap *a, struct perfmap *b)
{
	perfmap_apply(a, UINT64_MAX);
	perfmap_apply(b, UINT64_MAX);
	for (uint64_t addr = 0; addr < PLACES; addr++) {
		uint64_t start_a = 0, start_b = 0;
		const char *x = perfmap_find(a, addr, &start_a), *y = perfmap_find(b, addr, &start_b);

		if (!x != !y || (x && (strcmp(x, y) || start_a != start_b)))
			abort();
	}
	if (perfmap_count(a) != perfmap_count(b))
		abort();
}

static void text(struct perfmap *here, struct perfmap *there, const uint8_t *data, size_t size)
{
	const uint32_t max_line = PERFMAP_MAX_LINE;
	uint8_t *body = calloc(1, size + 5);
	struct published_answer *a;
	uint64_t used;

	if (!body)
		return;
	memcpy(body, &max_line, 4);
	memcpy(body + 5, data, size);
	a = answer_to(PUBLISHED_TEXT, body, size + 5);
	if (a && (!published_apply(a, there, PERFMAP_TEXT, &used) ||
		  used != perfmap_append_at(here, (const char *)data, size, 0)))
		abort();
	if (a)
		compare(here, there);
	published_answer_free(a);
	free(body);
}

static void dump(struct perfmap *here, struct perfmap *there, const uint8_t *data, size_t size)
{
	const uint64_t left = size, stamp_ns = 1000;
	uint8_t *body = calloc(1, size + 17);
	struct jitdump *j = jitdump_new();
	struct published_answer *a = NULL;
	uint64_t used;

	if (body && j) {
		memcpy(body + 1, &left, 8);
		memcpy(body + 9, &stamp_ns, 8);
		memcpy(body + 17, data, size);
		a = answer_to(PUBLISHED_DUMP, body, size + 17);
	}
	if (a && (!published_apply(a, there, PERFMAP_DUMP, &used) ||
		  used != jitdump_append(j, data, size, left, here, stamp_ns)))
		abort();
	if (a)
		compare(here, there);
	published_answer_free(a);
	jitdump_free(j);
	free(body);
}

static void lies(struct perfmap *m, const uint8_t *data, size_t size)
{
	struct published_answer *a = published_answer_new();
	struct reader r = reader_init(data, size);
	uint64_t used, start;

	while (a && reader_left(&r) && published_take(a, &r) && !r.failed)
		;
	if (a)
		published_apply(a, m, PERFMAP_TEXT, &used);
	perfmap_apply(m, UINT64_MAX);
	for (uint64_t addr = 0; addr < PLACES; addr += 16)
		perfmap_find(m, addr, &start);
	published_answer_free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct perfmap_limits limits = { .max_entries = 10000 };
	struct perfmap *here = perfmap_new(&limits), *there = perfmap_new(&limits);

	if (here && there && size && *data == 't')
		text(here, there, data + 1, size - 1);
	else if (here && there && size && *data == 'd')
		dump(here, there, data + 1, size - 1);
	else if (here && there && size && *data == 'a')
		lies(here, data + 1, size - 1);
	perfmap_free(here);
	perfmap_free(there);
	return 0;
}
