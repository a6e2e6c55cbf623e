/*
 * Everything that allocates, with the first, second, third ... allocation failing: an error comes back,
 * nothing crashes and (says the leak checker) nothing is left behind. Linked with --wrap.
 */
#include "base/blocks.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/intern.h"
#include "base/opts.h"
#include "base/outfile.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "test/check.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t num, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t num, size_t size);
void *__wrap_realloc(void *old, size_t size);

static long until_failure = -1; /* negative = never */

static bool fails(void)
{
	if (until_failure < 0)
		return false;
	return until_failure == 0 || until_failure-- == 0;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t num, size_t size)
{
	return fails() ? NULL : __real_calloc(num, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

struct slot {
	uint64_t key;
};

HTAB(table, struct slot, uint64_t, hash_u64(key), slot->key == key, hash_u64(slot->key));

static bool use_vec(void)
{
	VEC(int) v = { 0 };
	bool ok = true;

	for (int i = 0; ok && i < 20; i++)
		ok = vec_push(&v, i);
	for (size_t i = 0; i < v.len; i++)
		CHECK(v.data[i] == (int)i);
	vec_deinit(&v);
	return ok;
}

static bool use_blocks(void)
{
	BLOCKS(int) b = { 0 };
	bool ok = true;

	for (int i = 0; ok && i < 3 * BLOCK_LEN; i++)
		ok = blocks_push(&b, i);
	for (size_t i = 0; i < b.len; i++)
		CHECK(*blocks_at(&b, i) == (int)i);
	blocks_deinit(&b);
	return ok;
}

static bool use_htab(void)
{
	struct table t = { 0 };
	bool ok = true;

	for (uint64_t key = 1; ok && key < 40; key++) {
		struct slot *slot = table_add(&t, key, NULL);

		ok = slot;
		if (slot)
			slot->key = key;
	}
	for (uint64_t key = 1; key <= t.len; key++)
		CHECK(table_find(&t, key));
	table_deinit(&t);
	return ok;
}

static bool use_intern(void)
{
	struct intern *t = intern_new();
	static char text[20000];
	bool ok = t;

	for (unsigned int i = 1; ok && i < 40; i++) {
		memset(text, 'a', sizeof(text) - 1);
		ok = intern_id(t, text, i * 400) == i - 1;
		if (!ok)
			CHECK(intern_count(t) == i - 1); /* no half-entered string */
	}
	intern_free(t);
	return ok;
}

static bool use_strbuf(void)
{
	struct strbuf b = { 0 };
	bool ok;

	strbuf_str(&b, "x");
	for (int i = 0; i < 100; i++)
		strbuf_printf(&b, "%100d", i);
	ok = !b.failed;
	CHECK(!ok || b.len == 10001);
	strbuf_deinit(&b);
	return ok;
}

static int set_nothing(void *data, const char *arg, struct err *err)
{
	return 0;
}

static bool use_opts(void)
{
	static const struct opt opts[] = { { 'a', "all", NULL, "all", set_nothing }, { 0 } };
	char name[] = "x", flag[] = "-a";
	char *argv[] = { name, flag, NULL };
	struct err err = { 0 };
	int r = opts_parse(opts, 2, argv, NULL, &err);

	CHECK(r == 2 || (r == -ENOMEM && err.code == ENOMEM));
	return r == 2;
}

static bool use_outfile(void)
{
	struct outfile *f = NULL;
	struct err err = { 0 };
	int r = outfile_open("/dev/null", &f, &err);

	CHECK(r == 0 || (r == -ENOMEM && err.code == ENOMEM && !f));
	return r == 0 && outfile_commit(f, &err) == 0;
}

static void fail_each(const char *name, bool (*use)(void))
{
	bool ok = false;
	long nth;

	for (nth = 0; !ok && nth < 1000; nth++) {
		until_failure = nth;
		ok = use();
		until_failure = -1;
	}
	/* At least one failure was seen, and with enough memory it works. */
	CHECK_MSG(ok && nth > 1, "%s: ok %d after %ld", name, ok, nth);
}

int main(void)
{
	fail_each("vec", use_vec);
	fail_each("blocks", use_blocks);
	fail_each("htab", use_htab);
	fail_each("intern", use_intern);
	fail_each("strbuf", use_strbuf);
	fail_each("opts", use_opts);
	fail_each("outfile", use_outfile);
	return check_done();
}
