#include "base/strbuf.h"
#include "output/profile.h"
#include "output/quality.h"
#include "output/stacks.h"
#include "output/text_priv.h"
#include "test/check.h"

#include <math.h>

static void test_new(void)
{
	struct profile *p = NULL;

	CHECK(profile_new(&p, NULL) == 0);
	CHECK(p->stacks && p->strings);
	CHECK(p->frames.len == 1);
	CHECK(stacks_num_nodes(p->stacks) == 0);
	profile_free(p);
	profile_free(NULL);
}

static const struct {
	struct profile_frame frame;
	const char *plain, *annotated;
} texts[] = {
	{ { .name = "main", .module = "app", .kind = FRAME_NATIVE }, "main", "main" },
	{ { .name = "vfs_read", .kind = FRAME_KERNEL }, "vfs_read", "vfs_read_[k]" },
	{ { .name = "run", .kind = FRAME_JIT }, "run", "run_[j]" },
	{ { .name = "move", .kind = FRAME_INLINED }, "move", "move_[i]" },
	{ { .module = "[kernel]", .kind = FRAME_KERNEL }, "[kernel]", "[kernel]_[k]" },
	{ { .module = "[vdso]", .kind = FRAME_NATIVE }, "[vdso]", "[vdso]" },
	{ { .module = "libc.so.6", .kind = FRAME_NATIVE }, "[libc.so.6]", "[libc.so.6]" },
	{ { .module = "/a/b/libz.so", .kind = FRAME_NATIVE }, "[libz.so]", "[libz.so]" },
	{ { .path = "/a/b/c.so", .kind = FRAME_NATIVE }, "[c.so]", "[c.so]" },
	{ { .module = "a/", .kind = FRAME_NATIVE }, "[unknown]", "[unknown]" },
	{ { .module = "[]", .kind = FRAME_NATIVE }, "[[]]", "[[]]" },
	{ { .module = "[", .kind = FRAME_NATIVE }, "[[]", "[[]" },
	{ { .kind = FRAME_UNKNOWN }, "[unknown]", "[unknown]" },
	{ { .kind = FRAME_JIT }, "[unknown]", "[unknown]_[j]" },
	{ { .name = "", .kind = FRAME_NATIVE }, "[unknown]", "[unknown]" },
	{ { .name = "Web Content", .kind = FRAME_LABEL }, "Web_Content", "Web_Content" },
	{ { .name = "f(int, char)", .kind = FRAME_NATIVE }, "f(int, char)", "f(int, char)" },
	{ { .name = "a;b", .kind = FRAME_NATIVE }, "a:b", "a:b" },
	{ { .name = "a\nb", .kind = FRAME_NATIVE }, "a?b", "a?b" },
	{ { .name = "f 12", .kind = FRAME_NATIVE }, "f_12", "f_12" },
	{ { .name = "f 12", .kind = FRAME_KERNEL }, "f_12", "f_12_[k]" },
	{ { .name = "f  1.5", .kind = FRAME_NATIVE }, "f _1.5", "f _1.5" },
	{ { .name = "f 1.", .kind = FRAME_NATIVE }, "f_1.", "f_1." },
	{ { .name = "f 1 2", .kind = FRAME_NATIVE }, "f 1_2", "f 1_2" },
	{ { .name = "f x12", .kind = FRAME_NATIVE }, "f x12", "f x12" },
	{ { .name = "12", .kind = FRAME_NATIVE }, "12", "12" },
	{ { .name = "1.2.3", .kind = FRAME_NATIVE }, "1.2.3", "1.2.3" },
	{ { .name = " ", .kind = FRAME_NATIVE }, "_", "_" },
	{ { .name = " a ", .kind = FRAME_NATIVE }, "_a_", "_a_" },
	{ { .name = "[truncated]", .kind = FRAME_MARK }, "[truncated]", "[truncated]" },
};

static void test_texts(void)
{
	struct strbuf text = { 0 };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		strbuf_clear(&text);
		profile_frame_text(&texts[i].frame, &(struct profile_view){ 0 }, &text);
		CHECK_STR(text.data, texts[i].plain);
		strbuf_clear(&text);
		strbuf_str(&text, "1 "); /* what stands before is left alone */
		profile_frame_text(&texts[i].frame, &(struct profile_view){ .annotate = true }, &text);
		CHECK(!strncmp(text.data, "1 ", 2));
		CHECK_STR(text.data + 2, texts[i].annotated);
	}
	strbuf_deinit(&text);
}

static void test_shown(void)
{
	static const bool kernel[] = { true, false, true, false, false, false, false };
	static const bool user[] = { true, true, false, true, true, true, true };

	for (int kind = FRAME_LABEL; kind <= FRAME_MARK; kind++) {
		struct profile_frame frame = { .kind = (enum frame_kind)kind };

		CHECK(profile_frame_shown(&frame, &(struct profile_view){ 0 }));
		CHECK(profile_frame_shown(&frame, &(struct profile_view){ .kernel_only = true }) ==
		      kernel[kind]);
		CHECK(profile_frame_shown(&frame, &(struct profile_view){ .user_only = true }) == user[kind]);
	}
}

static void test_numbers(void)
{
	struct strbuf text = { 0 };

	text_count(&text, 0);
	strbuf_char(&text, ' ');
	text_count(&text, 999);
	strbuf_char(&text, ' ');
	text_count(&text, 1000);
	strbuf_char(&text, ' ');
	text_count(&text, UINT64_MAX);
	CHECK_STR(text.data, "0 999 1,000 18,446,744,073,709,551,615");
	strbuf_clear(&text);
	text_percent(&text, 0, 0);
	text_percent(&text, 0, 5);
	text_percent(&text, 1, 100000);
	text_percent(&text, 1, 3);
	text_percent(&text, 99999, 100000);
	text_percent(&text, 7, 7);
	text_percent(&text, UINT64_MAX, UINT64_MAX);
	CHECK_STR(text.data, "0.0 %0.0 %<0.1 %33.3 %99.9 %100.0 %100.0 %");
	strbuf_clear(&text);
	text_seconds(&text, 5.0021);
	strbuf_char(&text, ' ');
	text_seconds(&text, NAN);
	strbuf_char(&text, ' ');
	text_seconds(&text, -1);
	CHECK_STR(text.data, "5.002 0.000 0.000");
	strbuf_deinit(&text);
}

static void test_cells(void)
{
	struct strbuf text = { 0 };

	text_left(&text, "abcdef", 6, true);
	text_left(&text, "|abc", 6, true);
	text_left(&text, "|abcdefg", 7, true);
	text_left(&text, "|\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad", 6, true); /* three wide characters */
	text_right(&text, "|12", 5);
	CHECK_STR(text.data, "abcdef|abc  |abc...|\xe4\xb8\xad...  |12");
	CHECK(text_columns("caf\xc3\xa9 \xf0\x9f\x92\xa9") == 7);
	strbuf_clear(&text);
	text_name(&text, "a::b", 6, true);
	text_name(&text, "|System.Text.Json::Write", 13, true);
	text_name(&text, "|\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad", 7, true);
	text_name(&text, "|abcdefg", 3, false);
	CHECK_STR(text.data, "a::b  |Syst...Write|...\xe4\xb8\xad ...");
	strbuf_clear(&text);
	text_wrap(&text, "> ", "aaaa bbbb cccc dddd eeee ffff gggg", 34, 24);
	CHECK_STR(text.data, "> aaaa bbbb cccc dddd\n    eeee ffff gggg\n");
	strbuf_deinit(&text);
}

static void test_quality(void)
{
	struct profile_stats stats = { .samples = 4981, .complete = 4971, .truncated = 3, .broken = 7,
				       .user_stacks = 4981, .stack_bytes = 32768 };
	struct strbuf text = { 0 };

	stats.broken_by[0] = (struct profile_count){ "no_cfi", 6 };
	stats.broken_by[1] = (struct profile_count){ "outside", 1 };
	quality_lines(&stats, &text);
	CHECK_STR(text.data,
		  "4,981 samples, 0 lost, throttled 0 times, 99.8 % of user stacks complete\n"
		  "truncated: 3 stacks (0.1 %) went on beyond the 32,768 bytes copied; "
		  "a larger --stack-bytes copies more\n"
		  "broken: 7 stacks (0.1 %): no_cfi 6, outside 1\n");
	strbuf_clear(&text);
	quality_lines(&(struct profile_stats){ .samples = 1, .idle = 1, .lost = 1 }, &text);
	CHECK_STR(text.data, "1 sample, 1 lost (50.0 %), throttled 0 times\nidle: 1 sample (100.0 %) of the idle task\n");
	strbuf_deinit(&text);
}

/* Which runtimes leave code without names, and what would help with those alone. */
static void test_runtimes(void)
{
	struct profile_stats stats = { .samples = 10, .jit_frames = 1300, .jit_named = 1100 };
	struct strbuf text = { 0 };

	stats.runtimes[0] = (struct profile_runtime){ .name = "node", .advice = "start it so", .frames = 1000, .named = 900 };
	stats.runtimes[1] = (struct profile_runtime){ .name = "java", .advice = "run that", .frames = 200, .named = 200 };
	stats.runtimes[2] = (struct profile_runtime){ .name = "bun", .advice = "ask for \x1b it", .frames = 100 };
	/* What it compiles is named; in files nothing that it could be told would help. */
	stats.runtimes[3] = (struct profile_runtime){ .name = "dotnet", .advice = "do not", .frames = 90, .named = 80,
						      .precompiled = 40, .precompiled_named = 30 };
	stats.jit[0] = "node 7 (node): 90.0 % of 1000 frames named, by its perf map";
	quality_lines(&stats, &text);
	CHECK_STR(text.data, "10 samples, 0 lost, throttled 0 times\n"
			     "JIT: node 7 (node): 90.0 % of 1000 frames named, by its perf map\n"
			     "unnamed: 200 of 1,300 JIT frames; for node: start it so. For bun: ask for ? it\n");
	strbuf_deinit(&text);
}

static void test_count_runtime(void)
{
	struct profile_stats stats = { 0 };
	const struct profile_frame jit = { .name = "f", .kind = FRAME_JIT, .runtime = "dotnet" };
	const struct profile_frame unnamed = { .kind = FRAME_JIT, .runtime = "node" };
	const struct profile_frame file = { .name = "g", .kind = FRAME_NATIVE, .runtime = "dotnet" };
	const struct profile_frame native = { .name = "h", .kind = FRAME_NATIVE };

	profile_count_runtime(&stats, &unnamed, 2);
	profile_count_runtime(&stats, &jit, 3);
	profile_count_runtime(&stats, &file, 4);
	profile_count_runtime(&stats, &native, 5);
	profile_count_runtime(&stats, &jit, 0);
	CHECK_STR(stats.runtimes[0].name, "node");
	CHECK(stats.runtimes[0].frames == 2 && !stats.runtimes[0].named && !stats.runtimes[0].precompiled);
	CHECK_STR(stats.runtimes[1].name, "dotnet");
	CHECK(stats.runtimes[1].frames == 7 && stats.runtimes[1].named == 7);
	CHECK(stats.runtimes[1].precompiled == 4 && stats.runtimes[1].precompiled_named == 4);
	CHECK(!stats.runtimes[2].name);
}

int main(void)
{
	test_new();
	test_texts();
	test_shown();
	test_numbers();
	test_cells();
	test_quality();
	test_runtimes();
	test_count_runtime();
	return check_done();
}
