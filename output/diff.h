/* Two profiles held against each other: what grew, what shrank, and what may be chance. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct diff;
struct err;

enum diff_side { DIFF_BEFORE, DIFF_AFTER };

int diff_new(struct diff **ret, struct err *err);
void diff_free(struct diff *diff); /* NULL is fine */

/* Adds collapsed stacks (collapsed.h) to one side. `name` is what that is called in the output: borrowed. */
int diff_add(struct diff *diff, enum diff_side side, const char *name, const char *text, size_t len, struct err *err);
/* Once all is added: sums, and which differences are more than chance. */
int diff_count(struct diff *diff, struct err *err);
uint64_t diff_samples(const struct diff *diff, enum diff_side side);

/*
 * The probability that two profiles of `before_all` and `after_all` samples differ at least so much in what `before`
 * and `after` of them show, if its share is the same in both: Fisher's exact test, two-sided by doubling. Samples
 * are taken to be independent.
 */
double diff_chance(uint64_t before, uint64_t before_all, uint64_t after, uint64_t after_all);

struct diff_format {
	const char *name;
	const char *const *extensions; /* NULL ends */
	/* `columns` as in struct profile_view. */
	int (*write)(const struct diff *diff, unsigned int columns, FILE *out, struct err *err);
};
const struct diff_format *diff_format_find(const char *name);
const struct diff_format *diff_format_for_path(const char *path); /* NULL = its end tells none */
