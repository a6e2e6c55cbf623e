#include "base/err.h"
#include "base/opts.h"
#include "test/check.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

struct values {
	uint64_t freq;
	bool all;
	int verbose;
	char outputs[64];
};

static int set_freq(void *data, const char *arg, struct err *err)
{
	return opts_u64(arg, 1, 10000, &((struct values *)data)->freq, err);
}

static int set_all(void *data, const char *arg, struct err *err)
{
	((struct values *)data)->all = true;
	return arg ? err_set(err, EINVAL, "a flag got a value") : 0;
}

static int set_verbose(void *data, const char *arg, struct err *err)
{
	((struct values *)data)->verbose++;
	return 0;
}

static int set_output(void *data, const char *arg, struct err *err)
{
	char *list = ((struct values *)data)->outputs;

	strcat(strcat(list, arg), ",");
	return 0;
}

static const struct opt table[] = {
	{ 'F', "freq", "HZ", "samples per second;\n99", set_freq },
	{ 'a', "all", NULL, "every process", set_all },
	{ 'v', "verbose", NULL, "say more", set_verbose },
	{ 'o', "output", "FILE", "where to write", set_output },
	{ 0, "a-name-too-long-for-its-column", "X", "long only", set_output },
	{ 0, "allow", NULL, "shares a prefix with --all", set_verbose },
	{ 0 },
};

enum { MAX_ARGS = 16 };

/* Splits `line` at spaces; argv[0] is the command. */
static int parse(const char *line, struct values *values, struct err *err, char **argv)
{
	static char copy[256];
	int argc = 0;

	snprintf(copy, sizeof(copy), "record %s", line);
	for (char *word = strtok(copy, " "); word && argc < MAX_ARGS - 1; word = strtok(NULL, " "))
		argv[argc++] = word;
	argv[argc] = NULL;
	*values = (struct values){ 0 };
	*err = (struct err){ 0 };
	return opts_parse(table, argc, argv, values, err);
}

static void test_parse(void)
{
	char *argv[MAX_ARGS];
	struct values v;
	struct err err;
	int r;

	CHECK(parse("", &v, &err, argv) == 1);
	CHECK(parse("-F 99 -a -vv --output=x -o y", &v, &err, argv) == 8);
	CHECK(v.freq == 99 && v.all && v.verbose == 2);
	CHECK_STR(v.outputs, "x,y,");
	CHECK(parse("-avF7 --output z", &v, &err, argv) == 4);
	CHECK(v.freq == 7 && v.all && v.verbose == 1);

	/* Operands go to the back; "--" ends our options for good. */
	r = parse("file -F 5 other", &v, &err, argv);
	CHECK(r == 3 && v.freq == 5);
	CHECK_STR(argv[r], "file");
	CHECK_STR(argv[r + 1], "other");
	r = parse("-F 5 -- ls -a --help", &v, &err, argv);
	CHECK(r == 4 && !v.all);
	CHECK_STR(argv[r], "ls");
	CHECK_STR(argv[r + 1], "-a");
	CHECK_STR(argv[r - 1], "--");
	r = parse("-o -", &v, &err, argv);
	CHECK(r == 3);
	CHECK_STR(v.outputs, "-,");
	/* An unambiguous abbreviation is taken, an exact name wins over a longer one. */
	CHECK(parse("--fr 8 --all", &v, &err, argv) == 4 && v.freq == 8 && v.all);
}

static void test_errors(void)
{
	static const struct {
		const char *line, *msg;
	} rows[] = {
		{ "-F", "-F: needs a value: HZ" },
		{ "--freq", "--freq: needs a value: HZ" },
		{ "-F 0", "-F: \"0\" is not a whole number from 1 to 10000" },
		{ "--freq=10001", "--freq: \"10001\" is not a whole number from 1 to 10000" },
		{ "-x", "-x: no such option" },
		{ "-ax", "-x: no such option" },
		{ "--nope=3", "--nope: no such option" },
		{ "--all=3", "--all: takes no value" },
		{ "--help=3", "--help: takes no value" },
		{ "--al", "--al: could be --all or --allow" },
		{ "file --nope", "--nope: no such option" },
	};
	char *argv[MAX_ARGS];
	struct values v;
	struct err err;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CHECK_MSG(parse(rows[i].line, &v, &err, argv) == -EINVAL, "%s", rows[i].line);
		CHECK_STR(err.msg, rows[i].msg);
	}
	CHECK(parse("--help", &v, &err, argv) == -ECANCELED && err.code == 0);
	CHECK(parse("-a -h -x", &v, &err, argv) == -ECANCELED && v.all);
	/* A failure in the middle of "-vx..." leaves nothing behind for the next call. */
	CHECK(parse("-vxvv", &v, &err, argv) == -EINVAL);
	CHECK(parse("-a", &v, &err, argv) == 2 && v.all && v.verbose == 0);
}

static void test_help(void)
{
	static const char want[] = "  -F, --freq HZ             samples per second;\n"
				   "                            99\n"
				   "  -a, --all                 every process\n"
				   "  -v, --verbose             say more\n"
				   "  -o, --output FILE         where to write\n"
				   "      --a-name-too-long-for-its-column X\n"
				   "                            long only\n"
				   "      --allow               shares a prefix with --all\n"
				   "  -h, --help                show this\n";
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	CHECK(out);
	opts_help(table, out);
	fclose(out);
	CHECK_STR(text, want);
	free(text);
}

static void test_u64(void)
{
	static const char *const bad[] = { "",   " 1",   "1 ",  "-1",
					   "+1", "0x10", "1e3", "18446744073709551616",
					   "4" };
	uint64_t value = 42;
	struct err err;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_MSG(opts_u64(bad[i], 5, UINT64_MAX, &value, &err) == -EINVAL, "%s", bad[i]);
	CHECK_STR(err.msg, "\"4\" is not a whole number from 5 up");
	CHECK(value == 42);
	CHECK(opts_u64("18446744073709551615", 0, UINT64_MAX, &value, &err) == 0);
	CHECK(value == UINT64_MAX);
	CHECK(opts_u64("007", 7, 7, &value, &err) == 0 && value == 7);
}

static void test_seconds(void)
{
	static const struct {
		const char *arg;
		double want;
	} rows[] = { { "5", 5 },        { "0.5", 0.5 },  { "2m", 120 },   { "1h", 3600 },
		     { "250ms", 0.25 }, { "1.5s", 1.5 }, { ".25", 0.25 }, { "10.", 10 },
		     { "0", 0 },        { "1.5m", 90 } };
	static const char *const bad[] = {
		"",       ".",  "s",   "-1",  "nan", "inf",        "0x5",
		"5 ",     "5x", "5mm", "1,5", "1e3", "1000000001", "99999999999999999999",
		"300000h"
	};
	double value = 42;
	struct err err;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CHECK_MSG(opts_seconds(rows[i].arg, &value, &err) == 0, "%s", rows[i].arg);
		CHECK_MSG(value > rows[i].want - 1e-9 && value < rows[i].want + 1e-9, "%s",
			  rows[i].arg);
	}
	value = 42;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_MSG(opts_seconds(bad[i], &value, &err) == -EINVAL, "%s", bad[i]);
	CHECK(value == 42);
	CHECK_STR(err.msg, "\"300000h\" is not a time such as 5, 0.5, 250ms, 2m or 1h");
}

static void test_bytes(void)
{
	static const struct {
		const char *arg;
		uint64_t want;
	} rows[] = { { "65536", 65536 },
		     { "64K", 65536 },
		     { "64k", 65536 },
		     { "1M", 1 << 20 },
		     { "2G", UINT64_C(2) << 30 },
		     { "3T", UINT64_C(3) << 40 },
		     { "0", 0 } };
	static const char *const bad[] = { "",     "K",  "-1",        "1KB", "1 K",
					   "1.5K", "1P", "16777216T", "0x10" };
	uint64_t value = 42;
	struct err err;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CHECK_MSG(opts_bytes(rows[i].arg, &value, &err) == 0, "%s", rows[i].arg);
		CHECK_MSG(value == rows[i].want, "%s", rows[i].arg);
	}
	value = 42;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_MSG(opts_bytes(bad[i], &value, &err) == -EINVAL, "%s", bad[i]);
	CHECK(value == 42);
}

int main(void)
{
	test_parse();
	test_errors();
	test_help();
	test_u64();
	test_seconds();
	test_bytes();
	return check_done();
}
