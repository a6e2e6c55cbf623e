/* Sums of samples. They stop at their end: a forged count in a file must not wrap them. */
#pragma once

#include <stdint.h>

static inline uint64_t count_add(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}
