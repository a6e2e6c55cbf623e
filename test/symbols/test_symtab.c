#include "symbols/symtab.h"

#include "test/check.h"

#include <stdint.h>

struct row {
	uint64_t vaddr, size, limit;
	const char *name;
	enum symtab_bind bind;
};

static struct symtab *build(const struct row *rows, size_t num, bool backwards)
{
	struct symtab_builder *b = symtab_builder_new();

	for (size_t i = 0; i < num; i++) {
		const struct row *r = &rows[backwards ? num - 1 - i : i];

		CHECK(symtab_builder_add(b, r->vaddr, r->size, r->limit, r->name, strlen(r->name),
					 r->bind));
	}
	return symtab_builder_finish(b);
}

static const char *name_at(const struct symtab *t, uint64_t vaddr)
{
	struct symtab_entry e;

	if (!symtab_find(t, vaddr, &e))
		return "-";
	CHECK(e.start <= vaddr && vaddr < e.end);
	return e.name;
}

static void check_end(const struct symtab *t, uint64_t vaddr, uint64_t start, uint64_t end)
{
	struct symtab_entry e = { 0 };

	CHECK(symtab_find(t, vaddr, &e));
	CHECK_MSG(e.start == start && e.end == end, "%#lx..%#lx", (unsigned long)e.start,
		  (unsigned long)e.end);
}

static void test_gaps_and_sizes(bool backwards)
{
	static const struct row rows[] = {
		{ 0x1000, 0x10, 0x2000, "first", SYMTAB_GLOBAL },
		{ 0x1020, 0, 0x2000, "label", SYMTAB_GLOBAL },
		{ 0x1040, 0x20, 0x2000, "second", SYMTAB_LOCAL },
		{ 0x1f00, 0, 0x2000, "last", SYMTAB_GLOBAL },
		{ 0x3000, 0, 0, "nowhere", SYMTAB_GLOBAL },
		{ 0x4000, 0x100, 0x4080, "cut", SYMTAB_GLOBAL },
		{ UINT64_MAX - 4, 16, 0, "wraps", SYMTAB_GLOBAL },
	};
	struct symtab *t = build(rows, sizeof(rows) / sizeof(rows[0]), backwards);

	CHECK(symtab_count(t) == 5);
	CHECK_STR(name_at(t, 0xfff), "-");
	CHECK_STR(name_at(t, 0x1000), "first");
	CHECK_STR(name_at(t, 0x100f), "first");
	CHECK_STR(name_at(t, 0x1010), "-");
	CHECK_STR(name_at(t, 0x103f), "label");
	check_end(t, 0x1020, 0x1020, 0x1040);
	CHECK_STR(name_at(t, 0x105f), "second");
	CHECK_STR(name_at(t, 0x1060), "-");
	CHECK_STR(name_at(t, 0x1fff), "last");
	check_end(t, 0x1f00, 0x1f00, 0x2000);
	CHECK_STR(name_at(t, 0x2000), "-");
	CHECK_STR(name_at(t, 0x3000), "-");
	CHECK_STR(name_at(t, 0x407f), "cut");
	CHECK_STR(name_at(t, 0x4080), "-");
	CHECK_STR(name_at(t, UINT64_MAX - 2), "-");
	symtab_free(t);
}

static void test_aliases(bool backwards)
{
	static const struct row rows[] = {
		{ 0x1000, 0x10, 0, "aaa_local", SYMTAB_LOCAL },
		{ 0x1000, 0x10, 0, "aab_weak", SYMTAB_WEAK },
		{ 0x1000, 0x10, 0, "__libc_read", SYMTAB_GLOBAL },
		{ 0x1000, 0x10, 0, "read", SYMTAB_GLOBAL },
		{ 0x1000, 0x10, 0, "ready", SYMTAB_GLOBAL },
		{ 0x1000, 0, 0x5000, "a_label", SYMTAB_GLOBAL },
		{ 0x2000, 0, 0x5000, "_under", SYMTAB_GLOBAL },
		{ 0x2000, 0, 0x5000, "plain", SYMTAB_GLOBAL },
		{ 0x3000, 0x10, 0x5000, "short", SYMTAB_LOCAL },
		{ 0x3000, 0x40, 0x5000, "long", SYMTAB_GLOBAL },
	};
	struct symtab *t = build(rows, sizeof(rows) / sizeof(rows[0]), backwards);

	CHECK(symtab_count(t) == 4);
	CHECK_STR(name_at(t, 0x1008), "read");
	CHECK_STR(name_at(t, 0x1010), "-"); /* the label does not stretch what has a size */
	CHECK_STR(name_at(t, 0x2fff), "plain");
	CHECK_STR(name_at(t, 0x3008), "short");
	CHECK_STR(name_at(t, 0x3010), "long");
	symtab_free(t);
}

static void test_nested(bool backwards)
{
	static const struct row rows[] = {
		{ 0x1000, 0x100, 0, "outer", SYMTAB_GLOBAL },
		{ 0x1010, 0x40, 0, "middle", SYMTAB_GLOBAL },
		{ 0x1020, 0x08, 0, "inner", SYMTAB_GLOBAL },
		{ 0x1080, 0, 0x9000, "tail", SYMTAB_LOCAL },
		{ 0x2000, 0x40, 0, "left", SYMTAB_GLOBAL },
		{ 0x2020, 0x40, 0, "right", SYMTAB_GLOBAL },
		{ 0x3000, 0x10, 0, "far", SYMTAB_GLOBAL },
	};
	struct symtab *t = build(rows, sizeof(rows) / sizeof(rows[0]), backwards);

	CHECK_STR(name_at(t, 0x100f), "outer");
	CHECK_STR(name_at(t, 0x101f), "middle");
	CHECK_STR(name_at(t, 0x1027), "inner");
	CHECK_STR(name_at(t, 0x1028), "middle");
	CHECK_STR(name_at(t, 0x1050), "outer");
	CHECK_STR(name_at(t, 0x10ff), "tail");
	CHECK_STR(name_at(t, 0x1100), "-"); /* a label inside a function ends with it */
	CHECK_STR(name_at(t, 0x201f), "left");
	CHECK_STR(name_at(t, 0x2020), "right");
	CHECK_STR(name_at(t, 0x205f), "right");
	CHECK_STR(name_at(t, 0x2060), "-");
	CHECK_STR(name_at(t, 0x3000), "far");
	symtab_free(t);
}

static void test_empty(void)
{
	struct symtab *t = symtab_builder_finish(symtab_builder_new());
	struct symtab_entry e;

	CHECK(t);
	CHECK(symtab_count(t) == 0);
	CHECK(!symtab_find(t, 0, &e));
	CHECK(!symtab_find(NULL, 0, &e));
	symtab_free(t);
	symtab_free(NULL);
	symtab_builder_free(NULL);
	symtab_builder_free(symtab_builder_new());
}

/* Every address of a crowd of random ranges, against the definition. */
static void test_against_definition(void)
{
	enum { NUM = 60, SPAN = 400 };
	uint64_t start[NUM], end[NUM], seed = 7;
	struct symtab_builder *b = symtab_builder_new();
	struct symtab *t;

	for (size_t i = 0; i < NUM; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		start[i] = 1 + (seed >> 33) % SPAN;
		end[i] = start[i] + 1 + (seed >> 50) % 60;
		CHECK(symtab_builder_add(b, start[i], end[i] - start[i], 0, "f", 1, SYMTAB_GLOBAL));
	}
	t = symtab_builder_finish(b);
	for (uint64_t at = 0; at < SPAN + 70; at++) {
		struct symtab_entry e = { 0 };
		uint64_t best = 0, best_end = UINT64_MAX;

		for (size_t i = 0; i < NUM; i++) {
			if (start[i] > at || end[i] <= at || start[i] < best)
				continue;
			if (start[i] > best || end[i] < best_end)
				best_end = end[i];
			best = start[i];
		}
		CHECK(symtab_find(t, at, &e) == (best != 0));
		if (best)
			CHECK(e.start == best && e.end == best_end);
	}
	symtab_free(t);
}

int main(void)
{
	for (int backwards = 0; backwards < 2; backwards++) {
		test_gaps_and_sizes(backwards);
		test_aliases(backwards);
		test_nested(backwards);
	}
	test_empty();
	test_against_definition();
	return check_done();
}
