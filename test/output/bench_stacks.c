/*
 * Prints what adding a known stack of 37 frames costs (the mean depth of a C++ compiler's stacks): the best of many
 * rounds in CPU time, as other programs of the machine are no concern of the table.
 */
#include "base/clock.h"
#include "output/stacks.h"

#include <stdio.h>
#include <stdlib.h>

enum { DEPTH = 37, STACKS = 3000, ROUNDS = 1000 };

int main(void)
{
	uint32_t(*ids)[DEPTH] = calloc(STACKS, sizeof(*ids));
	struct stacks *s = stacks_new();
	uint64_t start, ns;

	if (!ids || !s)
		return 1;
	/* Stacks that share their outer part, as real ones do. */
	for (uint32_t i = 0; i < STACKS; i++) {
		for (uint32_t k = 0; k < DEPTH; k++)
			ids[i][k] = k < 4 ? i * 4 + k + 1 : (i >> (40 - k) / 4) + k * 100000;
		if (!stacks_add(s, ids[i], DEPTH, 1))
			return 1;
	}
	for (uint32_t set = 1; set <= STACKS; set *= 50) {
		uint64_t best = UINT64_MAX;

		for (uint32_t round = 0; round < ROUNDS; round++) {
			start = clock_cpu_ns();
			for (uint32_t i = 0; i < STACKS; i++) {
				if (!stacks_add(s, ids[i % set], DEPTH, 1))
					return 1;
			}
			ns = clock_cpu_ns() - start;
			best = ns < best ? ns : best;
		}
		printf("%u stacks in turn: %.1f ns each (%zu nodes)\n", set, (double)best / STACKS,
		       stacks_num_nodes(s));
	}
	stacks_free(s);
	free(ids);
	return 0;
}
