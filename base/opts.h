/*
 * Options from one table per command: parsing and --help come from the same rows.
 *
 * The values land in a caller's struct through `set`, which validates at once and names in `err` the
 * value and what was expected; the option's name is put in front by opts_parse.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct err;

struct opt {
	char letter;       /* 0 = long only */
	const char *name;  /* long name without dashes; NULL ends the table */
	const char *arg;   /* NULL = a flag; else the word shown in --help */
	const char *help;  /* one sentence; '\n' continues in the help column */
	int (*set)(void *data, const char *arg, struct err *err); /* arg NULL for a flag */
};

/*
 * Parses argv[1..] up to the first operand after "--" or the end. Operands are permuted to the back as
 * getopt does, except that a bare "--" ends our options for good. Returns the index of the first operand,
 * or -EINVAL (or what a setter returned) with err set; -ECANCELED when --help, or -h where the table has
 * no such letter, was asked (nothing printed yet). Not for several threads at once: getopt has one state.
 */
int opts_parse(const struct opt *opts, int argc, char **argv, void *data, struct err *err);
void opts_help(const struct opt *opts, FILE *out);

/* Helpers for setters: whole string must be consumed. */
int opts_u64(const char *arg, uint64_t min, uint64_t max, uint64_t *ret, struct err *err);
int opts_seconds(const char *arg, double *ret, struct err *err); /* "5", "0.5", "2m", "1h", "250ms" */
/* The next of a list such as "17,42": *pos goes behind it and its comma. False for anything else, and below `least`. */
bool opts_next_id(const char **pos, pid_t least, pid_t *ret);
int opts_bytes(const char *arg, uint64_t *ret, struct err *err); /* "65536", "64K", "1M", "2G" */
