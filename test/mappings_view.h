/* An address space's mappings from an array of the test's own: sorted, at least one, and never given to mappings_deinit. */
#pragma once

#include "symbols/mappings.h"

static inline struct mappings mappings_view(struct map_run *run, struct mapping *maps, size_t num)
{
	*run = (struct map_run){ .end = maps[num - 1].end, .maps = { maps, num, num } };
	return (struct mappings){ .runs = { run, 1, 1 }, .num = num };
}
