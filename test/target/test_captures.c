/* Which files are a trap's captures, and which of them a quota removes. */
#include "target/captures.h"

#include "base/err.h"
#include "target/stamp.h"
#include "test/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[] = "/tmp/ringfold-captures-XXXXXX";

static void test_stamps(void)
{
	static const char name[] = "a/spike-\001.html";
	static const char *const right[] = { "a/spike-20261121-182233.html", "a/spike-20261121-182233-2.html",
					     "a/spike-20261121-182233-17.html" };
	static const char *const wrong[] = {
		"a/spike-baseline.html", "a/spike-web-20261121-182233.html", "a/spike-.html", "a/spike.html",
		"a/spike-20261121-182233-.html", "a/spike-20261121-18223.html", "a/spike-20261121_182233.html",
		"a/spike-20261121-182233-2x.html", "a/spike-20261121-182233.svg", "b/spike-20261121-182233.html",
		"a/spike-2026112x-182233.html", "a/spike-20261121-182233-00000000000000000000000000000.html",
	};
	char stamp[STAMP_MAX + 1], *made;

	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
		CHECK_MSG(stamp_take(name, right[i], stamp), "%s", right[i]);
		made = stamp_put(name, stamp);
		CHECK_STR(made, right[i]);
		free(made);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CHECK_MSG(!stamp_take(name, wrong[i], NULL), "%s", wrong[i]);
}

static char *make(const char *name, size_t bytes)
{
	char *path = NULL;
	FILE *out;

	CHECK(asprintf(&path, "%s/%s", dir, name) > 0);
	out = fopen(path, "w");
	CHECK(out != NULL);
	for (size_t i = 0; i < bytes; i++)
		putc('x', out);
	CHECK(!fclose(out));
	return path;
}

/* What an earlier run left goes, the oldest first; what only looks like it stays. */
static void test_quota(void)
{
	char *oldest = make("spike-20260101-000000.html", 60), *old = make("spike-20260102-000000.html", 60);
	char *baseline = make("spike-baseline.html", 60), *web = make("spike-web-20250101-000000.html", 60);
	char *newest = make("spike-20260103-000000-2.html", 60), *name = NULL;
	const char *names[1];
	struct captures *c = NULL;
	size_t removed;
	struct err err = { 0 };

	CHECK(asprintf(&name, "%s/spike-\001.html", dir) > 0);
	names[0] = name;
	CHECK(captures_new(names, 1, 100, &c, &err) == 0);
	CHECK(!captures_make_room(c, 101, &removed) && removed == 0 && !access(oldest, F_OK));
	CHECK(captures_make_room(c, 40, &removed) && removed == 2);
	CHECK(captures_bytes(c) == 60);
	CHECK(access(oldest, F_OK) && access(old, F_OK));
	CHECK(!access(newest, F_OK) && !access(baseline, F_OK) && !access(web, F_OK));
	/* What others write and remove meanwhile counts. */
	free(old);
	old = make("spike-20260104-000000.html", 30);
	CHECK(captures_make_room(c, 10, &removed) && removed == 0 && captures_bytes(c) == 90);
	CHECK(!unlink(newest));
	CHECK(captures_make_room(c, 70, &removed) && removed == 0 && captures_bytes(c) == 30);
	CHECK(captures_make_room(c, 100, &removed) && removed == 1 && captures_bytes(c) == 0);
	CHECK(access(old, F_OK) && !access(baseline, F_OK));
	captures_free(c);
	CHECK(captures_new(names, 1, 0, &c, &err) == 0);
	CHECK(captures_make_room(c, 1000, &removed) && removed == 0);
	captures_free(c);
	unlink(baseline);
	unlink(web);
	free(oldest);
	free(old);
	free(newest);
	free(baseline);
	free(web);
	free(name);
}

int main(void)
{
	CHECK(mkdtemp(dir) != NULL);
	test_stamps();
	test_quota();
	CHECK(!rmdir(dir));
	return check_done();
}
