/*
 * Every allocation of the folder fails once: each call says so or succeeds, nothing leaks (ASan watches) and
 * what could be written is right. Linked with --wrap, so that only our own calls fail, not libc's.
 */
#include "base/err.h"
#include "base/strbuf.h"
#include "output/diff.h"
#include "output/format.h"
#include "output/quality.h"
#include "output/stacks.h"
#include "test/check.h"
#include "test/output/fixture.h"

#include <errno.h>

static long left = -1; /* allocations until one fails; -1 = none does */

static bool fails(void)
{
	return left >= 0 && left-- == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t num, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t num, size_t size);
void *__wrap_realloc(void *old, size_t size);

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

/* Adds and merges; false when either was refused. What was refused was not counted. */
static bool use_stacks(void)
{
	struct stacks *s = stacks_new();
	uint32_t ids[3] = { 1, 2, 3 };
	uint64_t added = 0;
	bool ok = s;

	for (uint32_t i = 0; ok && i < 200; i++) {
		ids[0] = i;
		ok = stacks_add(s, ids, 3, 1);
		added += ok;
	}
	if (s) {
		CHECK(stacks_total(s) == added);
		CHECK(stacks_distinct(s) == added);
	}
	stacks_free(s);
	return ok;
}

static bool use_profile(void)
{
	struct profile *p = NULL;
	struct err err = { 0 };
	int r = profile_new(&p, &err);

	CHECK(r == 0 || (r == -ENOMEM && err.code == ENOMEM && !p));
	profile_free(p);
	return r == 0;
}

static const struct profile *fixture;
static const struct format *writer;

static bool use_writer(void)
{
	FILE *out = fopen("/dev/null", "w");
	struct err err = { 0 };
	int r;

	if (writer)
		r = writer->write(fixture, &(struct profile_view){ 0 }, out, &err);
	else
		r = stats_write_json(fixture, out, &err);
	CHECK(r == 0 || (r == -ENOMEM && err.code == ENOMEM));
	fclose(out);
	return r == 0;
}

static bool use_diff(void)
{
	static const char text[] = "a;b;c 3\na;b;b 4\n";
	FILE *out = fopen("/dev/null", "w");
	struct diff *diff = NULL;
	struct err err = { 0 };
	int r = diff_new(&diff, &err);

	if (!r)
		r = diff_add(diff, DIFF_BEFORE, "x", text, sizeof(text) - 1, &err);
	if (!r)
		r = diff_add(diff, DIFF_AFTER, "y", text + 8, sizeof(text) - 9, &err);
	if (!r)
		r = diff_count(diff, &err);
	for (int i = 0; !r && i < 3; i++) {
		static const char *const formats[] = { "text", "collapsed", "html" };

		r = diff_format_find(formats[i])->write(diff, 0, out, &err);
	}
	CHECK(r == 0 || (r == -ENOMEM && err.code == ENOMEM));
	diff_free(diff);
	fclose(out);
	return r == 0;
}

/* Fails the first allocation, then the second, and so on until all is well; that takes at least `min`. */
static void run(const char *name, bool (*use)(void), long min)
{
	long failed = 0;

	for (;; failed++) {
		bool ok;

		left = failed;
		ok = use();
		if (left >= 0) {
			CHECK_MSG(ok, "%s fails without a reason", name);
			break;
		}
		CHECK_MSG(!ok, "%s does not notice that allocation %ld failed", name, failed);
	}
	left = -1;
	CHECK_MSG(failed >= min, "%s: only %ld allocations", name, failed);
}

int main(int argc, char **argv)
{
	const struct format *const *list;
	size_t num = format_list(&list);
	struct profile *p;
	char path[4096];

	CHECK(argc == 2);
	run("stacks", use_stacks, 10);
	run("profile", use_profile, 3);
	snprintf(path, sizeof(path), "%s/timeline.profile", argv[1]);
	fixture = p = fixture_load(path);
	for (size_t i = 0; i < num; i++) {
		writer = list[i];
		run(writer->name, use_writer, writer->needs_samples ? 1 : 10);
	}
	run("diff", use_diff, 20);
	writer = NULL;
	run("stats", use_writer, 1);
	profile_free(p);
	return check_done();
}
