/* /proc/kallsyms: small texts, exact answers. */
#include "symbols/kallsyms.h"

#include "base/clock.h"
#include "test/check.h"

#include <inttypes.h>

static const char sample[] = "0000000000000000 A fixed_percpu_data\n"
			     "ffffffff81000000 T _stext\n"
			     "ffffffff81000000 T startup_64\n"
			     "ffffffff81000000 T _text\n"
			     "ffffffff81000100 t __pfx_do_one\n"
			     "ffffffff81000110 t do_one\n"
			     "ffffffff81000200 W weak_one\n"
			     "ffffffff81000200 t local_one\n"
			     "ffffffff81000300 t b_twin\n"
			     "ffffffff81000300 t a_twin\n"
			     "ffffffff81000400 T last_one\n"
			     "ffffffff81000500 T _etext\n"
			     "ffffffff81000600 D some_data\n"
			     "ffffffff82000000 T init_one\n"
			     "ffffffff82000040 T _einittext\n"
			     "ffffffffc0200000 t mod_b_func\t[mod_b]\n"
			     "ffffffffc0100000 t mod_a_func\t[mod_a]\n"
			     "ffffffffc0100080 t mod_a_last\t[mod_a]\n"
			     "ffffffffc0180000 t bpf_prog_6deef7357e7b4530_x\t[bpf]\n"
			     "not a line\n"
			     "ffffffffc0300000\n"
			     "ffffffffc0300000 t\n"
			     "zz t name\n"
			     "11112222333344445 t too_long\n"
			     "ffffffffc0200100 r mod_b_rodata\t[mod_b]";

struct question {
	uint64_t addr;
	const char *name; /* "NAME+offset [module]", or "-" */
};

static struct kallsyms *ask(const char *text, size_t len, const uint64_t *addrs, size_t num, size_t piece)
{
	struct kallsyms *k = kallsyms_new(addrs, num);

	if (!k)
		abort();
	for (size_t at = 0; at < len; at += piece) {
		if (!kallsyms_feed(k, text + at, len - at < piece ? len - at : piece))
			break;
	}
	CHECK(kallsyms_finish(k));
	return k;
}

static const char *name_at(const struct kallsyms *k, size_t at, uint64_t addr)
{
	static char text[200];
	struct kallsyms_entry e;

	if (!kallsyms_answer(k, at, &e))
		return "-";
	snprintf(text, sizeof(text), "%s+0x%" PRIx64 "%s%s", e.name, addr - e.start,
		 e.module ? " " : "", e.module ? e.module : "");
	return text;
}

static const struct question questions[] = {
	{ 0, "-" },
	{ 0xffffffff80ffffff, "-" },
	{ 0xffffffff81000000, "startup_64+0x0" },
	{ 0xffffffff810000ff, "startup_64+0xff" },
	{ 0xffffffff81000110, "do_one+0x0" },
	{ 0xffffffff81000201, "weak_one+0x1" },
	{ 0xffffffff81000300, "a_twin+0x0" },
	{ 0xffffffff810004ff, "last_one+0xff" },
	{ 0xffffffff81000500, "-" },
	{ 0xffffffff81000600, "-" },
	{ 0xffffffff8200003f, "init_one+0x3f" },
	{ 0xffffffff82000040, "-" },
	{ 0xffffffffc010007f, "mod_a_func+0x7f mod_a" },
	{ 0xffffffffc0100100, "mod_a_last+0x80 mod_a" },
	/* Where a module ends nobody says: 64 KiB behind its last function at most. */
	{ 0xffffffffc011007f, "mod_a_last+0xffff mod_a" },
	{ 0xffffffffc0110080, "-" },
	{ 0xffffffffc0180010, "bpf_prog_6deef7357e7b4530_x+0x10 bpf" },
	{ 0xffffffffc01fffff, "-" },
	{ 0xffffffffc02000ff, "mod_b_func+0xff mod_b" },
	{ 0xffffffffc0200100, "-" },
	{ UINT64_MAX, "-" },
};
enum { NUM = sizeof(questions) / sizeof(questions[0]) };

/* In pieces cut anywhere, all questions at once or each alone: the same answers. */
static void test_find(void)
{
	static const size_t pieces[] = { 1, 7, 64, 100000 };
	uint64_t addrs[NUM];

	for (size_t i = 0; i < NUM; i++)
		addrs[i] = questions[i].addr;
	for (size_t p = 0; p < 4; p++) {
		struct kallsyms *k = ask(sample, strlen(sample), addrs, NUM, pieces[p]);

		CHECK(!kallsyms_hidden(k));
		for (size_t i = 0; i < NUM; i++)
			CHECK_STR(name_at(k, i, addrs[i]), questions[i].name);
		kallsyms_free(k);
	}
	for (size_t i = 0; i < NUM; i++) {
		struct kallsyms *k = ask(sample, strlen(sample), &addrs[i], 1, 100000);

		CHECK_STR(name_at(k, 0, addrs[i]), questions[i].name);
		kallsyms_free(k);
	}
}

static void test_hidden(void)
{
	static const char zeros[] = "0000000000000000 T startup_64\n0000000000000000 t x\t[mod]\n";
	const uint64_t addr = 0xffffffff81000000;
	struct kallsyms *k = ask(zeros, strlen(zeros), &addr, 1, 100);

	CHECK(kallsyms_hidden(k));
	CHECK_STR(name_at(k, 0, addr), "-");
	kallsyms_free(k);

	k = ask("", 0, &addr, 1, 100);
	CHECK(!kallsyms_hidden(k));
	CHECK_STR(name_at(k, 0, addr), "-");
	kallsyms_free(k);
}

/* What is asked lies in the kernel itself: once past it, the rest of the text is not wanted. */
static void test_enough(void)
{
	static const char text[] = "ffffffff81000000 T one\nffffffff81000100 T two\n"
				   "ffffffff81000200 T three\n";
	const uint64_t addr = 0xffffffff81000010;
	struct kallsyms *k = kallsyms_new(&addr, 1);

	if (!k)
		abort();
	CHECK(!kallsyms_feed(k, text, strlen(text)));
	CHECK(kallsyms_finish(k));
	CHECK_STR(name_at(k, 0, addr), "one+0x10");
	kallsyms_free(k);
}

static void test_large(void)
{
	enum { LINES = 200000 };
	const uint64_t addr = 0xffffffff81000000ull + 123456u * 64u + 5;
	char *text = malloc((size_t)LINES * 60), *pos = text;
	struct kallsyms *k;
	uint64_t start_ns, ns;

	if (!text)
		abort();
	for (int i = 0; i < LINES; i++)
		pos += sprintf(pos, "%016llx t some_kernel_function_%d%s\n",
			       0xffffffff81000000ull + (unsigned int)i * 64u, i,
			       i >= LINES / 2 ? "\t[module_x]" : "");
	start_ns = clock_cpu_ns();
	k = ask(text, (size_t)(pos - text), &addr, 1, 64 << 10);
	ns = clock_cpu_ns() - start_ns;
	fprintf(stderr, "200,000 symbols in %.1f ms\n", (double)ns / 1e6);
	CHECK_STR(name_at(k, 0, addr), "some_kernel_function_123456+0x5 module_x");
	CHECK(ns < 4000u * 1000000u); /* 20 ms are usual; sanitizers are slow */
	kallsyms_free(k);
	free(text);
}

int main(void)
{
	test_find();
	test_hidden();
	test_enough();
	test_large();
	return check_done();
}
