/* Which differences are more than the luck of sampling. */
#include "output/diff_priv.h"

#include "base/cleanup.h"
#include "output/stacks.h"

#include <math.h>
#include <stdlib.h>

/* Of what is said to have changed, at most this part is chance (Benjamini and Hochberg 1995). */
static const double FALSE_PART = 0.01;

/* log of n! */
static double log_factorial(double n)
{
	int sign;

	return lgamma_r(n + 1, &sign);
}

static double log_choose(double n, double k)
{
	return log_factorial(n) - log_factorial(k) - log_factorial(n - k);
}

/*
 * Of `n` samples of both profiles that show it, `b` fell into the first, which has `all_b` of `all` samples: the
 * hypergeometric probability of this or of anything further from the mean on its side. Terms shrink outwards, so the
 * sum ends when they no longer count; that takes some square roots of n steps.
 */
static double tail(double b, double n, double all_b, double all)
{
	double all_a = all - all_b;
	double term = exp(log_choose(all_b, b) + log_choose(all_a, n - b) - log_choose(all, n));
	double sum = term;
	double step = b * all > n * all_b ? 1 : -1;

	for (int i = 0; i < 10000000 && term > sum * 1e-17; i++) {
		if (step > 0)
			term *= (all_b - b) / (b + 1) * (n - b) / (all_a - n + b + 1);
		else
			term *= b / (all_b - b + 1) * (all_a - n + b) / (n - b + 1);
		b += step;
		sum += term;
	}
	return sum;
}

double diff_chance(uint64_t before, uint64_t before_all, uint64_t after, uint64_t after_all)
{
	double n = (double)before + (double)after, all = (double)before_all + (double)after_all;
	double p;

	if (before > before_all || after > after_all || !before_all || !after_all || n <= 0 || n >= all)
		return 1;
	p = 2 * tail((double)before, n, (double)before_all, all);
	return p < 1 ? p : 1;
}

struct test {
	double chance;
	size_t index;
};

static int by_chance(const void *a, const void *b)
{
	const struct test *x = a, *y = b;

	if (x->chance != y->chance)
		return x->chance < y->chance ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

/* What was in neither profile is not tested. */
static bool mark(const struct diff *diff, struct diff_count *counts, size_t num, bool self)
{
	_cleanup_free_ struct test *tests = calloc(num + 1, sizeof(*tests));
	size_t num_tests = 0, changed = 0;

	if (!tests)
		return false;
	for (size_t i = 1; i < num; i++) {
		const uint64_t *pair = self ? counts[i].self : counts[i].total;

		if (!pair[DIFF_BEFORE] && !pair[DIFF_AFTER])
			continue;
		tests[num_tests++] = (struct test){
			diff_chance(pair[DIFF_BEFORE], diff->samples[DIFF_BEFORE], pair[DIFF_AFTER],
				    diff->samples[DIFF_AFTER]),
			i,
		};
	}
	qsort(tests, num_tests, sizeof(*tests), by_chance);
	for (size_t i = 0; i < num_tests; i++) {
		if (tests[i].chance <= FALSE_PART * (double)(i + 1) / (double)num_tests)
			changed = i + 1;
	}
	for (size_t i = 0; i < changed; i++) {
		struct diff_count *count = &counts[tests[i].index];

		*(self ? &count->self_changed : &count->total_changed) = true;
	}
	return true;
}

bool diff_mark_changes(struct diff *diff)
{
	size_t nodes = stacks_num_nodes(diff->tree.stacks) + 1, functions = diff->tree.frames.len;

	return mark(diff, diff->nodes, nodes, false) && mark(diff, diff->functions, functions, false) &&
	       mark(diff, diff->functions, functions, true);
}
