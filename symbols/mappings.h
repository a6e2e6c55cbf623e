/*
 * The executable mappings of one process: sorted by address, never overlapping. They lie in runs of limited length, so
 * that one comes or goes at the cost of a search and of moving a few, whatever the order that they are told of in.
 * Pointers to one hold until the next change.
 */
#pragma once

#include "base/vec.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct file;
struct files;

/* An executable mapping. Only these are kept. */
struct mapping {
	uint64_t start, end;   /* addresses in the process */
	uint64_t pgoff;        /* offset in the file of `start`; for code without a file equals start */
	struct file *file;     /* NULL: code without a file (anonymous, memfd, /dev/zero, SysV): JIT */
	uint64_t bias;         /* addr - vaddr; 0 without ELF. To be had from mapping_bias */
	bool bias_later;       /* it is not known yet, as the file is parsed elsewhere: most are never asked about */
};

enum {
	MAX_RUN = 128,      /* mappings; a run that is full is divided */
	MAX_MAPS = 1 << 17, /* of a process: vm.max_map_count is 65,530 by default */
};

struct map_run {
	uint64_t end; /* of its last mapping */
	VEC(struct mapping) maps; /* never empty */
};

/* Open, as tests make some of their own. All zero = empty. */
struct mappings {
	VEC(struct map_run) runs;
	size_t num; /* mappings in all of them */
};

/* The first that ends above addr, or NULL: it holds addr, or lies above. With the end of one it is the one behind that. */
const struct mapping *mappings_next(const struct mappings *m, uint64_t addr);
/* The last that ends at or below addr, or NULL. */
const struct mapping *mappings_before(const struct mappings *m, uint64_t addr);

#define mappings_for_each(map, m)                                                     \
	for (const struct mapping *map = mappings_next((m), 0); map; map = mappings_next((m), map->end))

/* These take and give references to files. True when anything changed. */

/* Makes [start, end) free, unless memory is out. */
bool mappings_cut(struct mappings *m, struct files *files, uint64_t start, uint64_t end);
/* Takes the place of what lies there, and the reference that `map` holds; joins code without a file to what touches it. */
bool mappings_add(struct mappings *m, struct files *files, struct mapping map);

/* `to` is empty, and remains so when memory is out. */
void mappings_copy(struct mappings *to, struct files *files, const struct mappings *from);
void mappings_deinit(struct mappings *m, struct files *files);
