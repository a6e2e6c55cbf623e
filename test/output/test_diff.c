/* Reading collapsed stacks, and what is said to be chance. */
#include "base/err.h"
#include "output/collapsed.h"
#include "output/diff.h"
#include "test/check.h"

#include <errno.h>
#include <math.h>

static char seen[4096];

static bool note(void *data, const struct collapsed_frame *frames, size_t num, uint64_t count)
{
	size_t len = strlen(seen);

	for (size_t i = 0; i < num; i++)
		len += (size_t)snprintf(seen + len, sizeof(seen) - len, "%.*s%c%c,", (int)frames[i].len, frames[i].name,
					frames[i].suffix ? '/' : ' ', frames[i].suffix ? frames[i].suffix : ' ');
	snprintf(seen + len, sizeof(seen) - len, "=%llu;", (unsigned long long)count);
	return true;
}

static void test_line(const char *line, const char *want)
{
	struct collapsed_stats stats = { 0 };
	struct err err = { 0 };
	int r;

	seen[0] = '\0';
	r = collapsed_parse(line, strlen(line), note, NULL, &stats, &err);
	CHECK_STR(seen, want ? want : "");
	CHECK(want ? r == 0 : r == -EBADMSG);
}

static void test_parse(void)
{
	test_line("a;b;c 12\n", "a  ,b  ,c  ,=12;");
	test_line("a;b 3", "a  ,b  ,=3;");
	test_line("a;f(int, char const*) 4\r\n", "a  ,f(int, char const*)  ,=4;");
	test_line("a;k_[k];j_[j] 1\n", "a  ,k/k,j/j,=1;");
	test_line("a;b 1.5\na;c 1.4\n", "a  ,b  ,=2;a  ,c  ,=1;");
	test_line("a;b 7 9\n", "a  ,b  ,=9;");
	test_line("a;;b; 2\n", "a  ,b  ,=2;");
	test_line("\n# comment 5\n  \na 0\n", "");
	test_line("x 99999999999999999999999\n", "x  ,=18446744073709551615;");
	test_line("name 12 inside 5\n", "name 12 inside  ,=5;");
	test_line("a;b\t5\n", "a  ,b  ,=5;");
	test_line("no count\n", NULL);
	test_line("12\n 5\n;; 4\n", NULL);
	test_line("", "");
}

static void close_to(double got, double want)
{
	CHECK_MSG(fabs(got - want) <= want * 1e-9, "%.12g, not %.12g", got, want);
}

/* Against exact binomials (Python's math.comb). */
static void test_chance(void)
{
	close_to(diff_chance(1, 10, 11, 14), 0.002759456185220083);
	close_to(diff_chance(0, 1000, 10, 1000), 0.001909465165341615);
	close_to(diff_chance(10, 1000, 0, 1000), 0.001909465165341615);
	close_to(diff_chance(20, 1000, 45, 1200), 0.020578594975222513);
	close_to(diff_chance(900, 1000, 980, 1000), 1.0159720788384658e-14);
	close_to(diff_chance(3, 50000, 9, 40000), 0.06518456149311327);
	CHECK(diff_chance(5, 100, 5, 100) == 1);
	CHECK(diff_chance(100, 100, 200, 200) == 1);
	CHECK(diff_chance(0, 100, 0, 200) == 1);
	CHECK(diff_chance(5, 0, 5, 10) == 1);
	/* The share of a million samples, changed by a thousandth: its spread is 0.0005 (binomial), so 1.4 of them. */
	CHECK(diff_chance(500000, 1000000, 501000, 1000000) > 0.1);
	CHECK(diff_chance(500000, 1000000, 510000, 1000000) < 1e-40);
}

static uint64_t line_count(const char *text, const char *line)
{
	const char *at = strstr(text, line);

	CHECK_MSG(at, "%s is not in\n%s", line, text);
	return at != NULL;
}

/* Twice the samples of the same profile is no change; recursion counts once; what is new and what is gone is told. */
static void test_tables(void)
{
	static const char before[] = "p;main;a 500\np;main;b;b;b 400\np;gone 100\n";
	static const char after[] = "p;main;a 1000\np;main;b;b;b 600\np;main;new 400\n";
	struct diff *diff;
	char *text = NULL;
	size_t len;
	FILE *out;

	CHECK(diff_new(&diff, NULL) == 0);
	CHECK(diff_add(diff, DIFF_BEFORE, "x", before, sizeof(before) - 1, NULL) == 0);
	CHECK(diff_add(diff, DIFF_AFTER, "y", after, sizeof(after) - 1, NULL) == 0);
	CHECK(diff_count(diff, NULL) == 0);
	CHECK(diff_samples(diff, DIFF_BEFORE) == 1000 && diff_samples(diff, DIFF_AFTER) == 2000);
	out = open_memstream(&text, &len);
	CHECK(diff_format_find("text")->write(diff, 100, out, NULL) == 0);
	fclose(out);
	line_count(text, "1 function grew and 2 shrank by more than the chance of sampling explains; 0 changed within it (~)\n");
	line_count(text, "Grew by self\n    points   before    after  before   after  function\n"
			 "    +20.00    0.0 %   20.0 %       0     400  new\n");
	line_count(text, "Shrank by self\n    points   before    after  before   after  function\n"
			 "    -10.00   40.0 %   30.0 %     400     600  b\n"
			 "    -10.00   10.0 %    0.0 %     100       0  gone\n");
	line_count(text, "    +10.00   90.0 %  100.0 %     900   2,000  main\n");
	CHECK(!strstr(text, "  a\n"));
	free(text);
	out = open_memstream(&text, &len);
	CHECK(diff_format_find("collapsed")->write(diff, 0, out, NULL) == 0);
	fclose(out);
	CHECK_STR(text, "p;gone 200 0\np;main;a 1000 1000\np;main;b;b;b 800 600\np;main;new 0 400\n");
	free(text);
	diff_free(diff);
}

int main(void)
{
	test_parse();
	test_chance();
	test_tables();
	CHECK(diff_format_for_path("a.html") == diff_format_find("html"));
	CHECK(diff_format_for_path("a.folded") == diff_format_find("collapsed"));
	CHECK(!diff_format_for_path("a.svg") && !diff_format_for_path(".html"));
	return check_done();
}
