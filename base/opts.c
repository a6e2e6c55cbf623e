#include "base/opts.h"

#include "base/cleanup.h"
#include "base/err.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* getopt_long's value of row i when the long name was used; letters are below it. */
enum { LONG_BASE = 256 };

/* What getopt_long wants, made from the table plus --help. */
struct parser {
	const struct opt *opts;
	size_t num;
	char *letters;
	struct option *longs;
};

static void parser_deinit(struct parser *p)
{
	free(p->letters);
	free(p->longs);
}

static const struct opt *row_of_letter(const struct parser *p, int letter)
{
	for (size_t i = 0; letter && i < p->num; i++) {
		if (p->opts[i].letter == letter)
			return &p->opts[i];
	}
	return NULL;
}

static const struct opt *row_of_value(const struct parser *p, int value)
{
	if (value >= LONG_BASE && (size_t)(value - LONG_BASE) < p->num)
		return &p->opts[value - LONG_BASE];
	return value > 0 && value < LONG_BASE ? row_of_letter(p, value) : NULL;
}

static bool parser_init(struct parser *p, const struct opt *opts)
{
	char *letter;

	p->opts = opts;
	while (opts[p->num].name)
		p->num++;
	p->letters = malloc(2 * p->num + 3);
	p->longs = calloc(p->num + 2, sizeof(p->longs[0]));
	if (!p->letters || !p->longs)
		return false;

	letter = p->letters;
	*letter++ = ':'; /* tell a missing argument from an unknown option, and print nothing */
	for (size_t i = 0; i < p->num; i++) {
		p->longs[i] = (struct option){
			.name = opts[i].name,
			.has_arg = opts[i].arg ? required_argument : no_argument,
			.val = LONG_BASE + (int)i,
		};
		if (opts[i].letter)
			*letter++ = opts[i].letter;
		if (opts[i].letter && opts[i].arg)
			*letter++ = ':';
	}
	p->longs[p->num] = (struct option){ .name = "help", .val = LONG_BASE + (int)p->num };
	if (!row_of_letter(p, 'h'))
		*letter++ = 'h';
	*letter = '\0';
	return true;
}

static bool is_help(const struct parser *p, int value)
{
	return value == LONG_BASE + (int)p->num || (value == 'h' && !row_of_letter(p, 'h'));
}

static int prefix_option(const struct opt *opt, int value, struct err *err)
{
	if (value < LONG_BASE)
		return err_prefix(err, "-%c", value);
	return err_prefix(err, "--%s", opt->name);
}

static int missing_argument(const struct parser *p, struct err *err)
{
	const struct opt *opt = row_of_value(p, optopt);

	err_set(err, EINVAL, "needs a value%s%s", opt ? ": " : "", opt ? opt->arg : "");
	return opt ? prefix_option(opt, optopt, err) : -EINVAL;
}

/* An unknown long option, or an abbreviation of several. */
static int bad_long(const struct parser *p, const char *word, struct err *err)
{
	size_t len = strcspn(word, "=");
	const char *first = NULL;

	for (size_t i = 0; len > 2 && i <= p->num; i++) {
		const char *name = p->longs[i].name;

		if (strncmp(name, word + 2, len - 2))
			continue;
		if (first)
			return err_set(err, EINVAL, "%.*s: could be --%s or --%s", (int)len, word,
				       first, name);
		first = name;
	}
	return err_set(err, EINVAL, "%.*s: no such option", (int)len, word);
}

static int bad_option(const struct parser *p, char **argv, struct err *err)
{
	const struct opt *opt = row_of_value(p, optopt);

	if (optopt >= LONG_BASE) /* known, so the complaint is about "=value" */
		return err_set(err, EINVAL, "--%s: takes no value", opt ? opt->name : "help");
	if (optopt)
		return err_set(err, EINVAL, "-%c: no such option", optopt);
	return bad_long(p, argv[optind - 1], err);
}

static int set_value(const struct parser *p, int value, void *data, struct err *err)
{
	const struct opt *opt = row_of_value(p, value);
	int r;

	if (!opt)
		return err_set(err, EINVAL, "option %d is in no table", value);
	r = opt->set(data, opt->arg ? optarg : NULL, err);
	if (r < 0)
		prefix_option(opt, value, err);
	return r < 0 ? r : 0;
}

int opts_parse(const struct opt *opts, int argc, char **argv, void *data, struct err *err)
{
	_cleanup_(parser_deinit) struct parser p = { 0 };
	int value, r;

	if (!parser_init(&p, opts))
		return err_oom(err);
	opterr = 0;
	optind = 0; /* glibc: start over, also in the middle of an earlier argv */
	while ((value = getopt_long(argc, argv, p.letters, p.longs, NULL)) != -1) {
		if (is_help(&p, value))
			return -ECANCELED;
		if (value == ':')
			return missing_argument(&p, err);
		if (value == '?')
			return bad_option(&p, argv, err);
		r = set_value(&p, value, data, err);
		if (r < 0)
			return r;
	}
	return optind;
}

/* Prints `text` after `used` columns, its later lines in the help column. */
static void put_help(FILE *out, int used, const char *text)
{
	const int column = 28;

	if (used + 2 > column) {
		fputc('\n', out);
		used = 0;
	}
	for (;;) {
		int len = (int)strcspn(text, "\n");

		fprintf(out, "%*s%.*s\n", column - used, "", len, text);
		if (!text[len])
			return;
		text += len + 1;
		used = 0;
	}
}

static void put_row(FILE *out, char letter, const char *name, const char *arg, const char *help)
{
	int used;

	if (letter)
		used = fprintf(out, "  -%c, --%s", letter, name);
	else
		used = fprintf(out, "      --%s", name);
	if (arg)
		used += fprintf(out, " %s", arg);
	put_help(out, used, help);
}

void opts_help(const struct opt *opts, FILE *out)
{
	bool h_taken = false;

	for (; opts->name; opts++) {
		put_row(out, opts->letter, opts->name, opts->arg, opts->help);
		h_taken |= opts->letter == 'h';
	}
	put_row(out, h_taken ? 0 : 'h', "help", NULL, "show this");
}

/* Decimal digits; false without any or on overflow. strtoull would take signs and spaces. */
static bool digits(const char **pos, uint64_t *ret)
{
	uint64_t value = 0;

	if (!isdigit((unsigned char)**pos))
		return false;
	for (; isdigit((unsigned char)**pos); (*pos)++) {
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(**pos - '0'), &value))
			return false;
	}
	*ret = value;
	return true;
}

int opts_u64(const char *arg, uint64_t min, uint64_t max, uint64_t *ret, struct err *err)
{
	const char *pos = arg;
	uint64_t value;

	if (!digits(&pos, &value) || *pos || value < min || value > max) {
		if (max == UINT64_MAX)
			return err_set(err, EINVAL, "\"%s\" is not a whole number from %llu up",
				       arg, (unsigned long long)min);
		return err_set(err, EINVAL, "\"%s\" is not a whole number from %llu to %llu", arg,
			       (unsigned long long)min, (unsigned long long)max);
	}
	*ret = value;
	return 0;
}

int opts_seconds(const char *arg, double *ret, struct err *err)
{
	static const struct {
		const char *suffix;
		double seconds;
	} units[] = { { "", 1 }, { "s", 1 }, { "ms", 0.001 }, { "m", 60 }, { "h", 3600 } };
	const double longest = 1e9; /* some 31 years: fits every clock in nanoseconds */
	const char *pos = arg;
	uint64_t whole = 0;
	double value, scale = 0.1;
	bool ok = *pos == '.' ? isdigit((unsigned char)pos[1]) : digits(&pos, &whole);

	/* Not strtod: it obeys the locale and takes "nan" and "0x". */
	value = (double)whole;
	if (ok && *pos == '.') {
		for (pos++; isdigit((unsigned char)*pos); pos++, scale /= 10)
			value += (*pos - '0') * scale;
	}
	for (size_t i = 0; ok && i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(pos, units[i].suffix))
			continue;
		if (value * units[i].seconds > longest)
			break;
		*ret = value * units[i].seconds;
		return 0;
	}
	return err_set(err, EINVAL, "\"%s\" is not a time such as 5, 0.5, 250ms, 2m or 1h", arg);
}

int opts_bytes(const char *arg, uint64_t *ret, struct err *err)
{
	static const char units[] = "KMGT";
	const char *pos = arg, *unit;
	uint64_t value;

	if (digits(&pos, &value)) {
		unit = *pos ? strchr(units, toupper((unsigned char)*pos)) : NULL;
		if (unit &&
		    !__builtin_mul_overflow(value, UINT64_C(1) << 10 * (unit - units + 1), &value))
			pos++;
		if (!*pos) {
			*ret = value;
			return 0;
		}
	}
	return err_set(err, EINVAL, "\"%s\" is not a size such as 65536, 64K, 1M or 2G", arg);
}

bool opts_next_id(const char **pos, pid_t least, pid_t *ret)
{
	char *end;
	long id;

	errno = 0;
	id = strtol(*pos, &end, 10);
	if (end == *pos || (*end && *end != ',') || errno || id < least || id > INT32_MAX)
		return false;
	*ret = (pid_t)id;
	*pos = *end ? end + 1 : end;
	return true;
}
