/*
 * Every fixture through every format of format_list and every view, held against the bytes in
 * test/data/golden/FIXTURE.FORMAT[.VIEW]. A format without its expected file fails.
 *
 * usage: test_golden DATA_DIR FIXTURE.. (UPDATE_GOLDEN=1 writes the files: scripts/update-golden.sh)
 */
#include "output/format.h"
#include "test/check.h"
#include "test/output/fixture.h"

#include <errno.h>

static const struct {
	const char *name; /* with its dot; "" = as it comes */
	struct profile_view view;
} views[] = {
	{ "", { 0 } },
	{ ".annotate", { .annotate = true } },
	{ ".kernel", { .kernel_only = true } },
	{ ".user", { .user_only = true } },
};

static char *read_file(const char *path, size_t *ret_len)
{
	FILE *in = fopen(path, "r");
	char *ret = NULL;
	FILE *copy;
	int c;

	if (!in)
		return NULL;
	copy = open_memstream(&ret, ret_len);
	while (copy && (c = getc(in)) != EOF)
		putc(c, copy);
	if (copy)
		fclose(copy);
	fclose(in);
	return ret;
}

static void update(const char *path, const char *got, size_t len)
{
	FILE *out = fopen(path, "w");

	CHECK_MSG(out, "%s: %s", path, strerror(errno));
	if (!out)
		return;
	CHECK(fwrite(got, 1, len, out) == len);
	CHECK(!fclose(out));
}

/* The first line that differs, as people look for it. */
static void show_difference(const char *path, const char *want, const char *got)
{
	unsigned int line = 1;
	size_t start = 0;

	for (size_t i = 0; want[i] && want[i] == got[i]; i++) {
		if (want[i] == '\n') {
			line++;
			start = i + 1;
		}
	}
	fprintf(stderr, "%s:%u:\n- %.*s\n+ %.*s\n", path, line, (int)strcspn(want + start, "\n"), want + start,
		(int)strcspn(got + start, "\n"), got + start);
}

/* Takes `got`. */
static void hold(const char *path, char *got, size_t len)
{
	size_t want_len;
	char *want;

	if (getenv("UPDATE_GOLDEN")) {
		update(path, got, len);
		free(got);
		return;
	}
	want = read_file(path, &want_len);
	CHECK_MSG(want, "%s is missing: run scripts/update-golden.sh and review what it wrote", path);
	if (want) {
		CHECK(want_len == len && !memcmp(want, got, len));
		if (want_len != len || memcmp(want, got, len))
			show_difference(path, want, got);
	}
	free(want);
	free(got);
}

/* What stands between the marks is cut out, wherever both are found. */
static void cut(char *text, size_t *len, const char *from, const char *to)
{
	char *start = text;

	while ((start = strstr(start, from))) {
		char *end = strstr(start + strlen(from), to);

		if (!end)
			return;
		start += strlen(from);
		memmove(start, end, *len - (size_t)(end - text) + 1);
		*len -= (size_t)(end - start);
	}
}

/* Of the page its data: its script and style are held by what they do (test_html.py). */
static void keep_data(char *text, size_t *len)
{
	cut(text, len, "'sha256-", "'");
	cut(text, len, "<style>", "</style>");
	cut(text, len, "<script>", "</script>");
}

static void hold_fixture(const char *dir, const char *fixture)
{
	const struct format *const *formats;
	size_t num = format_list(&formats), len;
	struct profile *profile;
	char path[4096];
	char *got;

	snprintf(path, sizeof(path), "%s/%s.profile", dir, fixture);
	profile = fixture_load(path);
	for (size_t i = 0; i < num * (sizeof(views) / sizeof(views[0])); i++) {
		const struct format *format = formats[i % num];

		if (format->binary)
			continue; /* of which a library decides the bytes; see test_other_formats.py */
		snprintf(path, sizeof(path), "%s/golden/%s.%s%s", dir, fixture, format->name,
			 views[i / num].name);
		got = fixture_render(profile, format, &views[i / num].view, &len);
		if (!strcmp(format->name, "html"))
			keep_data(got, &len);
		hold(path, got, len);
	}
	snprintf(path, sizeof(path), "%s/golden/%s.stats", dir, fixture);
	got = fixture_stats(profile, &len);
	hold(path, got, len);
	profile_free(profile);
}

int main(int argc, char **argv)
{
	CHECK(argc > 2);
	unsetenv("COLUMNS");
	for (int i = 2; i < argc; i++)
		hold_fixture(argv[1], argv[i]);
	return check_done();
}
