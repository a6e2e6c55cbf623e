/* What holds for every format, and what each must do beyond its golden bytes. */
#include "base/err.h"
#include "base/intern.h"
#include "output/format.h"
#include "output/stacks.h"
#include "test/check.h"
#include "test/output/fixture.h"

#include <errno.h>

static void test_list(void)
{
	const struct format *const *list;
	size_t num = format_list(&list);

	CHECK(num >= 2);
	for (size_t i = 0; i < num; i++) {
		CHECK(format_find(list[i]->name) == list[i]);
		CHECK(list[i]->description && list[i]->extensions && list[i]->write);
		for (const char *const *ext = list[i]->extensions; *ext; ext++) {
			char path[256];

			snprintf(path, sizeof(path), "/tmp/x.y%s", *ext);
			CHECK(format_for_path(path) == list[i]);
		}
	}
	CHECK(!format_find("nonsense"));
	CHECK(!strcmp(format_for_path("a.folded")->name, "collapsed"));
	CHECK(!strcmp(format_for_path("a.collapsed")->name, "collapsed"));
	CHECK(!strcmp(format_for_path("a.txt")->name, "collapsed"));
	CHECK(!format_for_path("folded"));
	CHECK(!format_for_path(".folded"));
	CHECK(!format_for_path(""));
}

/* A full disk is an error of every format that names its cause. */
static void test_full_disk(const struct profile *profile)
{
	const struct format *const *list;
	size_t num = format_list(&list);

	for (size_t i = 0; i <= num; i++) {
		FILE *out = fopen("/dev/full", "w");
		struct err err = { 0 };
		int r;

		CHECK(out);
		if (i < num && list[i]->needs_samples && !profile->samples.len) {
			fclose(out);
			continue; /* nothing to write */
		}
		if (i < num)
			r = list[i]->write(profile, &(struct profile_view){ 0 }, out, &err);
		else
			r = stats_write_json(profile, out, &err);
		CHECK(r == -ENOSPC);
		CHECK(err.code == ENOSPC);
		CHECK(strstr(err.msg, "No space left"));
		fclose(out);
	}
}

/* The lines of collapsed text, and the sum of their counts. */
static uint64_t sum_lines(const char *text, size_t *lines)
{
	uint64_t sum = 0;

	*lines = 0;
	for (const char *end; (end = strchr(text, '\n')); text = end + 1) {
		const char *count = end;

		while (count > text && count[-1] >= '0' && count[-1] <= '9')
			count--;
		CHECK(count > text + 1 && count[-1] == ' ' && count < end);
		sum += strtoull(count, NULL, 10);
		++*lines;
	}
	CHECK(!*text);
	return sum;
}

static void check_sorted(const char *text)
{
	const char *before = NULL;

	for (const char *end; (end = strchr(text, '\n')); before = text, text = end + 1) {
		size_t len = (size_t)(end - text);

		if (!before)
			continue;
		/* Both end in '\n', which is less than all else in them. */
		for (size_t i = 0; i <= len; i++) {
			if (before[i] == text[i])
				continue;
			CHECK_MSG((unsigned char)before[i] < (unsigned char)text[i], "%.*s", (int)len, text);
			break;
		}
	}
}

/* Whatever the view leaves out, every sample stays. */
static void test_sums(const struct profile *profile)
{
	const struct format *collapsed = format_find("collapsed");

	for (int i = 0; i < 8; i++) {
		struct profile_view view = { .annotate = i & 1, .kernel_only = i & 2, .user_only = i & 4 };
		size_t len, lines;
		char *text = fixture_render(profile, collapsed, &view, &len);

		CHECK(strlen(text) == len);
		CHECK(sum_lines(text, &lines) == stacks_total(profile->stacks));
		CHECK(lines > 0 && lines <= stacks_distinct(profile->stacks));
		check_sorted(text);
		free(text);
	}
}

static uint32_t add_frame(struct profile *p, const char *name, const char *module, enum frame_kind kind)
{
	struct profile_frame frame = { .name = name, .module = module, .kind = kind };

	CHECK(vec_push(&p->frames, frame));
	return (uint32_t)p->frames.len - 1;
}

/* Stacks without a label keep their samples where nothing of them is shown. */
static void test_left_out(void)
{
	struct profile_view view = { .kernel_only = true };
	struct profile *p;
	uint32_t frame;
	size_t len;
	char *text;

	CHECK(profile_new(&p, NULL) == 0);
	frame = add_frame(p, "main", "app", FRAME_NATIVE);
	CHECK(stacks_add(p->stacks, &frame, 1, 3));
	text = fixture_render(p, format_find("collapsed"), &view, &len);
	CHECK_STR(text, "[left_out] 3\n");
	free(text);
	profile_free(p);
}

/* fib inside fib is one fib; another module's fib is another function. */
static void test_recursion(void)
{
	struct profile *p;
	uint32_t label, fib, fib_again, other;
	size_t len;
	char *text;

	CHECK(profile_new(&p, NULL) == 0);
	label = add_frame(p, "sh", NULL, FRAME_LABEL);
	fib = add_frame(p, "fib", "app", FRAME_NATIVE);
	fib_again = add_frame(p, "fib", "app", FRAME_NATIVE);
	other = add_frame(p, "fib", "lib", FRAME_NATIVE);
	CHECK(stacks_add(p->stacks, (uint32_t[]){ fib, fib_again, fib, label }, 4, 60));
	CHECK(stacks_add(p->stacks, (uint32_t[]){ other, fib, label }, 3, 30));
	CHECK(stacks_add(p->stacks, (uint32_t[]){ fib_again, other, label }, 3, 10));
	text = fixture_render(p, format_find("report"), &(struct profile_view){ 0 }, &len);
	CHECK(strstr(text, "   70.0 %  100.0 %       70  fib  "));
	CHECK(strstr(text, "   30.0 %   40.0 %       30  fib  "));
	CHECK(strstr(text, "   70.0 %  100.0 %      100  fib  "));
	CHECK(strstr(text, "  100.0 %      100  sh\n"));
	free(text);
	profile_free(p);
}

static size_t line_columns(const char *line, const char *end)
{
	size_t ret = 0;

	for (; line < end; line++)
		ret += ((unsigned char)*line & 0xc0) != 0x80;
	return ret;
}

static void test_width(const struct profile *profile)
{
	for (int width = 60; width <= 240; width += 4) {
		size_t limit = width < 80 ? 80 : width > 200 ? 200 : (size_t)width, len;
		char number[16], *text;

		snprintf(number, sizeof(number), "%d", width);
		setenv("COLUMNS", number, 1);
		text = fixture_render(profile, format_find("report"), &(struct profile_view){ 0 }, &len);
		for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1)
			CHECK_MSG(line_columns(line, end) <= limit, "%d: %.*s", width, (int)(end - line), line);
		free(text);
	}
	unsetenv("COLUMNS");
}

static void test_empty(void)
{
	struct profile *p;
	size_t len;
	char *text;

	CHECK(profile_new(&p, NULL) == 0);
	text = fixture_render(p, format_find("collapsed"), &(struct profile_view){ 0 }, &len);
	CHECK(len == 0);
	free(text);
	text = fixture_render(p, format_find("report"), &(struct profile_view){ 0 }, &len);
	CHECK(strstr(text, "No stacks."));
	CHECK(strstr(text, "0 samples, 0 lost, throttled 0 times\n"));
	free(text);
	profile_free(p);
}

/* Names that could not be listed still count: the classes must add up for whoever reads the file. */
static void test_stats_other(void)
{
	struct profile *p;
	size_t len;
	char *text;

	CHECK(profile_new(&p, NULL) == 0);
	p->stats.broken = 5;
	p->stats.broken_by[0] = (struct profile_count){ "no_cfi", 2 };
	text = fixture_stats(p, &len);
	CHECK(strstr(text, "\"broken\": {\n    \"no_cfi\": 2,\n    \"other\": 3\n  },\n"));
	free(text);
	profile_free(p);
}

int main(int argc, char **argv)
{
	static const char *const fixtures[] = { "basic", "hostile", "timeline" };
	char path[4096];

	CHECK(argc == 2);
	unsetenv("COLUMNS");
	test_list();
	test_left_out();
	test_recursion();
	test_empty();
	test_stats_other();
	for (size_t i = 0; i < sizeof(fixtures) / sizeof(fixtures[0]); i++) {
		struct profile *profile;

		snprintf(path, sizeof(path), "%s/%s.profile", argv[1], fixtures[i]);
		profile = fixture_load(path);
		test_full_disk(profile);
		test_sums(profile);
		test_width(profile);
		profile_free(profile);
	}
	return check_done();
}
