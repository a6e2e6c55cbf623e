/* Text in, names out: the lines that real runtimes write, and the ones that nobody should. */
#include "perfmap/perfmap.h"

#include "base/clock.h"
#include "test/check.h"

#include <inttypes.h>
#include <stdint.h>

static struct perfmap *parse(const char *text)
{
	struct perfmap *m = perfmap_new(NULL);

	if (!m || perfmap_append(m, text, strlen(text)) != strlen(text))
		abort();
	return m;
}

/* "NAME+offset", or "-". */
static const char *name_at(struct perfmap *m, uint64_t addr)
{
	static char text[300];
	uint64_t start = 0;
	const char *name = perfmap_find(m, addr, &start);

	if (!name)
		return "-";
	snprintf(text, sizeof(text), "%s+0x%" PRIx64, name, addr - start);
	return text;
}

static void test_runtimes(void)
{
	static const char text[] =
		/* .NET 10, Node 20, Java 17, CPython 3.12, LuaJIT */
		"0x7f8e12340080 4c int32 [Shop] Shop.Cart::Total(int32[])[OptimizedTier1]\n"
		"0x7f8e12340100 20 stub GenerateResolveStub<GenerateResolveStub>\n"
		"3a1c0000 1f4 JS:*handler /srv/app one.js:12:30\n"
		"0x00007f0a90000000 0x0000000000000200 void demo.Main.spin(int)\n"
		"0x00007f0a90000200 0x0000000000000040 I2C/C2I adapters(0xbbb)\n"
		"7fb1c0d0 b py::<module>:/opt/my app/x.py\n"
		"7fb1c0e0 b py::_find_spec:<frozen importlib._bootstrap>\r\n"
		"55aa0000 30 TRACE_7::bench.lua:4\n";
	struct perfmap *m = parse(text);

	CHECK(perfmap_count(m) == 8);
	CHECK(perfmap_bad_lines(m) == 0);
	CHECK_STR(name_at(m, 0x7f8e12340080),
		  "int32 [Shop] Shop.Cart::Total(int32[])[OptimizedTier1]+0x0");
	CHECK_STR(name_at(m, 0x7f8e123400cb),
		  "int32 [Shop] Shop.Cart::Total(int32[])[OptimizedTier1]+0x4b");
	CHECK_STR(name_at(m, 0x7f8e123400cc), "-");
	CHECK_STR(name_at(m, 0x7f8e12340100), "stub GenerateResolveStub<GenerateResolveStub>+0x0");
	CHECK_STR(name_at(m, 0x3a1c0010), "JS:*handler /srv/app one.js:12:30+0x10");
	CHECK_STR(name_at(m, 0x7f0a900001ff), "void demo.Main.spin(int)+0x1ff");
	CHECK_STR(name_at(m, 0x7f0a90000200), "I2C/C2I adapters(0xbbb)+0x0");
	CHECK_STR(name_at(m, 0x7fb1c0d0), "py::<module>:/opt/my app/x.py+0x0");
	CHECK_STR(name_at(m, 0x7fb1c0e1), "py::_find_spec:<frozen importlib._bootstrap>+0x1");
	CHECK_STR(name_at(m, 0x55aa002f), "TRACE_7::bench.lua:4+0x2f");
	perfmap_free(m);
}

static void test_bad_lines(void)
{
	static const char text[] = "1000 10 good\n"
				   "\n"
				   "hello\n"
				   "2000\n"
				   "2000 10\n"
				   "2000 10 \n"
				   "2000 10 \r\n"
				   "2000 zz name\n"
				   "0x 10 name\n"
				   "2000 0 empty\n"
				   "11112222333344445 10 too-many-digits\n"
				   "ffffffffffffffff 10 wraps\n"
				   "ffffffff81000000 10 kernel\n"
				   "7ffffffffffffff0 20 into-the-kernel-half\n"
				   "0X2000 0X10 capital prefix\n";
	struct perfmap *m = parse(text);

	CHECK(perfmap_count(m) == 2);
	CHECK(perfmap_bad_lines(m) == 13);
	CHECK_STR(name_at(m, 0x1000), "good+0x0");
	CHECK_STR(name_at(m, 0x200f), "capital prefix+0xf");
	CHECK_STR(name_at(m, 0x2010), "-");
	CHECK(!perfmap_failed(m));
	perfmap_free(m);
}

static void test_nul_in_name(void)
{
	static const char text[] = "1000 10 first\0second\n2000 10 \0x\n";
	struct perfmap *m = perfmap_new(NULL);

	CHECK(perfmap_append(m, text, sizeof(text) - 1) == sizeof(text) - 1);
	CHECK_STR(name_at(m, 0x1000), "first+0x0");
	CHECK(perfmap_bad_lines(m) == 1);
	perfmap_free(m);
}

static void test_override(void)
{
	struct perfmap *m = parse("1000 100 a\n"
				  "1040 10 b\n" /* inside a */
				  "10f0 20 c\n" /* over a's end */
				  "ff0 20 d\n"  /* over a's start */
				  "2000 10 old\n"
				  "2000 10 new\n" /* the same range */
				  "3008 8 in\n"
				  "3000 20 over\n"); /* hides what is below */

	CHECK(perfmap_count(m) == 8);
	CHECK_STR(name_at(m, 0xfef), "-");
	CHECK_STR(name_at(m, 0xff0), "d+0x0");
	CHECK_STR(name_at(m, 0x100f), "d+0x1f");
	CHECK_STR(name_at(m, 0x1010), "a+0x10");
	CHECK_STR(name_at(m, 0x103f), "a+0x3f");
	CHECK_STR(name_at(m, 0x1040), "b+0x0");
	CHECK_STR(name_at(m, 0x1050), "a+0x50");
	CHECK_STR(name_at(m, 0x10ef), "a+0xef");
	CHECK_STR(name_at(m, 0x10f0), "c+0x0");
	CHECK_STR(name_at(m, 0x110f), "c+0x1f");
	CHECK_STR(name_at(m, 0x1110), "-");
	CHECK_STR(name_at(m, 0x2008), "new+0x8");
	CHECK_STR(name_at(m, 0x3008), "over+0x8");
	CHECK(perfmap_append(m, "1000 100 e\n", 11) == 11);
	CHECK_STR(name_at(m, 0x1045), "e+0x45");
	CHECK_STR(name_at(m, 0xff1), "d+0x1");
	CHECK_STR(name_at(m, 0x1100), "c+0x10");
	perfmap_free(m);
}

/* Lines in pieces: only whole ones are taken. */
static void test_partial(void)
{
	struct perfmap *m = perfmap_new(NULL);

	CHECK(perfmap_append(m, "1000 10 one\n2000 10 tw", 22) == 12);
	CHECK_STR(name_at(m, 0x2000), "-");
	CHECK(perfmap_append(m, "2000 10 two", 11) == 0);
	CHECK(perfmap_append(m, "2000 10 two\n", 12) == 12);
	CHECK_STR(name_at(m, 0x2000), "two+0x0");
	CHECK(perfmap_append(m, "", 0) == 0);
	perfmap_free(m);
}

static void test_limits(void)
{
	struct perfmap_limits limits = { .max_entries = 3, .max_line = 20 };
	struct perfmap *m = perfmap_new(&limits);
	static const char long_start[] = "1000 10 aaaaaaaaaaaaaaaaaaaaaaaa";

	/* A line without end is not asked for again. */
	CHECK(perfmap_append(m, long_start, sizeof(long_start) - 1) == sizeof(long_start) - 1);
	CHECK(perfmap_bad_lines(m) == 1);
	CHECK(perfmap_append(m, "aaaa", 4) == 4);
	CHECK(perfmap_append(m, "a\n1 1 x\n2 1 y\n", 14) == 14);
	CHECK(perfmap_count(m) == 2);
	CHECK(perfmap_bad_lines(m) == 1);
	CHECK(perfmap_append(m, "1000 10 123456789012\n", 21) == 21);
	CHECK(perfmap_append(m, "1000 10 1234567890123\n", 22) == 22);
	CHECK(perfmap_bad_lines(m) == 2);
	CHECK(perfmap_append(m, "9 1 z\n", 6) == 6);
	CHECK(perfmap_count(m) == 3);
	CHECK_STR(name_at(m, 9), "-");
	CHECK(!perfmap_failed(m));
	CHECK(perfmap_full(m));
	perfmap_free(m);
	/* What is known already takes no place. */
	limits = (struct perfmap_limits){ .max_names = 10 };
	m = perfmap_new(&limits);
	perfmap_append(m, "10 10 abcd\n", 11);
	perfmap_append(m, "10 10 abcd\n20 10 efg\n", 21);
	CHECK(perfmap_count(m) == 2 && !perfmap_full(m));
	perfmap_append(m, "30 10 h\n", 8);
	CHECK(perfmap_count(m) == 2 && perfmap_full(m));
	perfmap_free(m);
}

static uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

/* Against the simplest model: one owner per address, written line by line. */
static void test_model(void)
{
	enum { SPACE = 5000, LINES = 12000 };
	static int owner[SPACE], start_of[SPACE];
	struct perfmap *m = perfmap_new(NULL);
	uint64_t state = 42;

	memset(owner, 0xff, sizeof(owner));
	for (int i = 0; i < LINES; i++) {
		unsigned int start = next_random(&state) % (SPACE - 1);
		unsigned int size = 1 + next_random(&state) % (i % 50 ? 40 : 900);
		char line[64];
		int len;

		if (start + size > SPACE)
			size = SPACE - start;
		len = snprintf(line, sizeof(line), "%x %x n%d\n", start + 0x1000, size, i);
		CHECK(perfmap_append(m, line, (size_t)len) == (size_t)len);
		for (unsigned int at = start; at < start + size; at++) {
			owner[at] = i;
			start_of[at] = (int)start;
		}
		if (i % 37 && i != LINES - 1)
			continue; /* lookups settle what is pending: at odd places */
		for (unsigned int at = 0; at < SPACE; at += i == LINES - 1 ? 1 : 61) {
			uint64_t found = 0;
			const char *name = perfmap_find(m, at + 0x1000, &found);
			char want[16];

			snprintf(want, sizeof(want), "n%d", owner[at]);
			CHECK((name != NULL) == (owner[at] >= 0));
			if (name) {
				CHECK_STR(name, want);
				CHECK(found == (uint64_t)start_of[at] + 0x1000);
			}
		}
	}
	perfmap_free(m);
}

static void test_million(void)
{
	enum { LINES = 1000000, LINE_BYTES = 40 };
	char *text = malloc((size_t)LINES * LINE_BYTES), *pos = text;
	struct perfmap *m = perfmap_new(NULL);
	uint64_t state = 7, start_ns, ns;

	if (!text)
		abort();
	for (int i = 0; i < LINES; i++)
		pos += sprintf(pos, "7f%08x %x method%d\n", next_random(&state), 0x40, i);
	start_ns = clock_cpu_ns();
	CHECK(perfmap_append(m, text, (size_t)(pos - text)) == (size_t)(pos - text));
	CHECK_STR(name_at(m, 0x10), "-");
	ns = clock_cpu_ns() - start_ns;
	fprintf(stderr, "1,000,000 lines in %.3f s\n", (double)ns / 1e9);
	CHECK(perfmap_count(m) == LINES);
	/* Generous, as sanitizers and busy machines are slow; a quadratic step would take minutes.
	 */
	CHECK_MSG(ns < UINT64_C(10000000000), "%" PRIu64 " ns", ns);
	perfmap_free(m);
	free(text);
}

int main(void)
{
	test_runtimes();
	test_bad_lines();
	test_nul_in_name();
	test_override();
	test_partial();
	test_limits();
	test_model();
	test_million();
	return check_done();
}
