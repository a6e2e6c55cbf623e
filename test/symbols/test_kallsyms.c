/* /proc/kallsyms: small texts, exact answers. */
#include "symbols/kallsyms.h"

#include <inttypes.h>

#include "base/clock.h"
#include "test/check.h"

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

/* "NAME+offset [module]", or "-". */
static const char *name_at(const struct kallsyms *k, uint64_t addr)
{
	static char text[200];
	const char *module = NULL, *name;
	uint64_t start = 0;

	name = kallsyms_find(k, addr, &start, &module);
	if (!name)
		return "-";
	snprintf(text, sizeof(text), "%s+0x%" PRIx64 "%s%s", name, addr - start, module ? " " : "",
		 module ? module : "");
	return text;
}

static void test_find(void)
{
	struct kallsyms *k = kallsyms_parse(sample, strlen(sample));

	CHECK(!kallsyms_hidden(k));
	CHECK(kallsyms_count(k) == 11);
	CHECK_STR(name_at(k, 0), "-");
	CHECK_STR(name_at(k, 0xffffffff80ffffff), "-");
	CHECK_STR(name_at(k, 0xffffffff81000000), "startup_64+0x0");
	CHECK_STR(name_at(k, 0xffffffff810000ff), "startup_64+0xff");
	CHECK_STR(name_at(k, 0xffffffff81000110), "do_one+0x0");
	CHECK_STR(name_at(k, 0xffffffff81000201), "weak_one+0x1");
	CHECK_STR(name_at(k, 0xffffffff81000300), "a_twin+0x0");
	CHECK_STR(name_at(k, 0xffffffff810004ff), "last_one+0xff");
	CHECK_STR(name_at(k, 0xffffffff81000500), "-");
	CHECK_STR(name_at(k, 0xffffffff81000600), "-");
	CHECK_STR(name_at(k, 0xffffffff8200003f), "init_one+0x3f");
	CHECK_STR(name_at(k, 0xffffffff82000040), "-");
	CHECK_STR(name_at(k, 0xffffffffc010007f), "mod_a_func+0x7f mod_a");
	CHECK_STR(name_at(k, 0xffffffffc0100100), "mod_a_last+0x80 mod_a");
	/* Where a module ends nobody says: 64 KiB behind its last function at most. */
	CHECK_STR(name_at(k, 0xffffffffc011007f), "mod_a_last+0xffff mod_a");
	CHECK_STR(name_at(k, 0xffffffffc0110080), "-");
	CHECK_STR(name_at(k, 0xffffffffc0180010), "bpf_prog_6deef7357e7b4530_x+0x10 bpf");
	CHECK_STR(name_at(k, 0xffffffffc01fffff), "-");
	CHECK_STR(name_at(k, 0xffffffffc02000ff), "mod_b_func+0xff mod_b");
	CHECK_STR(name_at(k, 0xffffffffc0200100), "-");
	CHECK_STR(name_at(k, UINT64_MAX), "-");
	kallsyms_free(k);
}

static void test_hidden(void)
{
	static const char zeros[] = "0000000000000000 T startup_64\n0000000000000000 t x\t[mod]\n";
	struct kallsyms *k = kallsyms_parse(zeros, strlen(zeros));

	CHECK(kallsyms_hidden(k) == 1);
	CHECK(kallsyms_count(k) == 0);
	CHECK_STR(name_at(k, 0xffffffff81000000), "-");
	kallsyms_free(k);

	k = kallsyms_parse("", 0);
	CHECK(kallsyms_hidden(k) == 0);
	CHECK(kallsyms_count(k) == 0);
	kallsyms_free(k);
}

static void test_large(void)
{
	enum { LINES = 200000 };
	char *text = malloc((size_t)LINES * 60), *pos = text;
	struct kallsyms *k;
	uint64_t start_ns, ns;

	if (!text)
		abort();
	for (int i = 0; i < LINES; i++)
		pos += sprintf(pos, "%016llx t some_kernel_function_%d%s\n",
			       0xffffffff81000000ull + (unsigned int)i * 64u, i,
			       i >= LINES / 2 ? "\t[module_x]" : "");
	start_ns = clock_monotonic_ns();
	k = kallsyms_parse(text, (size_t)(pos - text));
	ns = clock_monotonic_ns() - start_ns;
	fprintf(stderr, "200,000 symbols in %.1f ms\n", (double)ns / 1e6);
	CHECK(kallsyms_count(k) == LINES);
	CHECK_STR(name_at(k, 0xffffffff81000000ull + 123456u * 64u + 5),
		  "some_kernel_function_123456+0x5 module_x");
	CHECK(ns < 2000u * 1000000u); /* 20 ms are usual; sanitizers are slow */
	kallsyms_free(k);
	free(text);
}

int main(void)
{
	test_find();
	test_hidden();
	test_large();
	return check_done();
}
