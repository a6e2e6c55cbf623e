#include "symbols/symtab.h"

#include "test/check.h"

#include <stdint.h>

struct row {
	uint64_t vaddr, size, limit;
	const char *name;
	enum symtab_bind bind;
};

struct question {
	uint64_t vaddr;
	const char *name; /* "-": none */
};

/* struct symtab_namer: numbered as the rows are. */
static const char *row_name(void *data, uint64_t number, size_t *ret_len)
{
	const struct row *rows = data;

	*ret_len = strlen(rows[number].name);
	return rows[number].name;
}

static struct symtab *ask(const struct row *rows, size_t num_rows, bool backwards,
			  const uint64_t *vaddrs, size_t num)
{
	const struct symtab_namer namer = { row_name, (void *)rows };
	struct symtab *t = symtab_new(vaddrs, num);

	if (!t)
		abort();
	for (size_t i = 0; i < num_rows; i++) {
		size_t at = backwards ? num_rows - 1 - i : i;
		const struct row *r = &rows[at];
		const struct symtab_function f = { r->vaddr, r->size, r->limit, r->bind, at };

		symtab_offer(t, &f, &namer);
	}
	CHECK(symtab_finish(t));
	return t;
}

static void check_answer(const struct symtab *t, size_t at, const struct question *q)
{
	struct symtab_entry e = { .name = "-" };
	bool found = symtab_answer(t, at, &e);

	CHECK(found == (strcmp(q->name, "-") != 0));
	CHECK(e.start <= q->vaddr);
	CHECK_MSG(!strcmp(e.name, q->name), "%#lx: %s, not %s", (unsigned long)q->vaddr, e.name,
		  q->name);
}

/* All questions at once and each alone must be answered the same. */
static void check_questions(const struct row *rows, size_t num_rows, bool backwards,
			    const struct question *questions, size_t num)
{
	uint64_t vaddrs[64];
	struct symtab *t;

	if (num > 64)
		abort();
	for (size_t i = 0; i < num; i++)
		vaddrs[i] = questions[i].vaddr;
	t = ask(rows, num_rows, backwards, vaddrs, num);
	for (size_t i = 0; i < num; i++)
		check_answer(t, i, &questions[i]);
	symtab_free(t);
	for (size_t i = 0; i < num; i++) {
		t = ask(rows, num_rows, backwards, &vaddrs[i], 1);
		check_answer(t, 0, &questions[i]);
		symtab_free(t);
	}
}

#define LEN(array) (sizeof(array) / sizeof((array)[0]))

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
	static const struct question questions[] = {
		{ 0xfff, "-" },
		{ 0x1000, "first" },
		{ 0x100f, "first" },
		{ 0x1010, "-" },
		{ 0x103f, "label" },
		{ 0x105f, "second" },
		{ 0x1060, "-" },
		{ 0x1fff, "last" },
		{ 0x2000, "-" },
		{ 0x3000, "-" },
		{ 0x407f, "cut" },
		{ 0x4080, "-" },
		{ UINT64_MAX - 2, "-" },
	};

	check_questions(rows, LEN(rows), backwards, questions, LEN(questions));
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
	static const struct question questions[] = {
		{ 0x1008, "read" },
		{ 0x1010, "-" }, /* the label does not stretch what has a size */
		{ 0x2fff, "plain" },
		{ 0x3008, "short" },
		{ 0x3010, "long" },
	};

	check_questions(rows, LEN(rows), backwards, questions, LEN(questions));
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
	static const struct question questions[] = {
		{ 0x100f, "outer" },
		{ 0x101f, "middle" },
		{ 0x1027, "inner" },
		{ 0x1028, "middle" },
		{ 0x1050, "outer" },
		{ 0x10ff, "tail" },
		{ 0x1100, "-" }, /* a label inside a function ends with it */
		{ 0x201f, "left" },
		{ 0x2020, "right" },
		{ 0x205f, "right" },
		{ 0x2060, "-" },
		{ 0x3000, "far" },
	};

	check_questions(rows, LEN(rows), backwards, questions, LEN(questions));
}

static void test_empty(void)
{
	const struct symtab_namer namer = { row_name, NULL };
	const struct symtab_function f = { 0x1000, 0x10, 0, SYMTAB_GLOBAL, 0 };
	struct symtab *t = symtab_new(NULL, 0);

	if (!t)
		abort();
	symtab_offer(t, &f, &namer); /* nobody asks, so its name is not read */
	CHECK(symtab_finish(t));
	CHECK(symtab_first_at(t, 5) == 0);
	symtab_free(t);
	symtab_free(NULL);
}

/* A function without a name is none: what lies around it answers. */
static const char *no_name(void *data, uint64_t number, size_t *ret_len)
{
	*ret_len = 5;
	(*(int *)data)++;
	return number ? "outer" : NULL;
}

static void test_nameless(void)
{
	static const uint64_t vaddrs[] = { 0x1010, 0x1011, 0x1012 };
	int asked = 0;
	const struct symtab_namer namer = { no_name, &asked };
	const struct symtab_function inner = { 0x1008, 0x10, 0, SYMTAB_GLOBAL, 0 };
	const struct symtab_function outer = { 0x1000, 0x100, 0, SYMTAB_GLOBAL, 1 };
	struct symtab *t = symtab_new(vaddrs, LEN(vaddrs));
	struct symtab_entry e;

	if (!t)
		abort();
	symtab_offer(t, &inner, &namer);
	symtab_offer(t, &outer, &namer);
	CHECK(asked == 2); /* once each, however many ask */
	CHECK(symtab_finish(t));
	for (size_t i = 0; i < LEN(vaddrs); i++)
		CHECK(symtab_answer(t, i, &e) && e.start == 0x1000 && !strcmp(e.name, "outer"));
	symtab_free(t);
}

static void test_first_at(void)
{
	enum { NUM = 5000 };
	uint64_t *vaddrs = malloc(NUM * sizeof(*vaddrs)), seed = 3, at = 100;
	struct symtab *t;

	if (!vaddrs)
		abort();
	for (size_t i = 0; i < NUM; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		at += seed >> (i % 50 ? 56 : 20); /* dense crowds with wide gaps, some equal */
		vaddrs[i] = at;
	}
	t = symtab_new(vaddrs, NUM);
	if (!t)
		abort();
	CHECK(symtab_first_at(t, 0) == 0);
	CHECK(symtab_first_at(t, UINT64_MAX) == NUM);
	for (size_t i = 0; i < NUM; i++) {
		size_t first = symtab_first_at(t, vaddrs[i]), next = symtab_first_at(t, vaddrs[i] + 1);

		CHECK(first <= i && vaddrs[first] == vaddrs[i] && (!first || vaddrs[first - 1] < vaddrs[i]));
		CHECK(next > i && (next == NUM || vaddrs[next] > vaddrs[i]));
	}
	symtab_free(t);
	free(vaddrs);
}

/* Every address of a crowd of random ranges, against the definition. */
static void test_against_definition(void)
{
	enum { NUM = 60, SPAN = 400, ASKED = SPAN + 70 };
	struct row rows[NUM];
	uint64_t vaddrs[ASKED], seed = 7;
	char names[NUM][8];
	struct symtab *t;

	for (size_t i = 0; i < NUM; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		snprintf(names[i], sizeof(names[i]), "f%02zu", i);
		rows[i] = (struct row){ .vaddr = 1 + (seed >> 33) % SPAN,
					.size = 1 + (seed >> 50) % 60,
					.name = names[i] };
	}
	for (size_t at = 0; at < ASKED; at++)
		vaddrs[at] = at;
	t = ask(rows, NUM, false, vaddrs, ASKED);
	for (size_t at = 0; at < ASKED; at++) {
		const struct row *best = NULL;
		struct symtab_entry e = { 0 };

		for (size_t i = 0; i < NUM; i++) {
			const struct row *r = &rows[i];

			if (r->vaddr > at || r->vaddr + r->size <= at)
				continue;
			if (!best || r->vaddr > best->vaddr ||
			    (r->vaddr == best->vaddr && r->size < best->size))
				best = r;
		}
		CHECK(symtab_answer(t, at, &e) == (best != NULL));
		if (best)
			CHECK(e.start == best->vaddr && !strcmp(e.name, best->name));
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
	test_nameless();
	test_first_at();
	test_against_definition();
	return check_done();
}
