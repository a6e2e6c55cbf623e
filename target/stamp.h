/*
 * Names of outputs that differ only in when they were written: "spike-\001.html" stands for "spike-20261121-182233.html" and
 * the like. What a trap writes and removes, and what its broker lets it write.
 */
#pragma once

#include <stdbool.h>

enum {
	STAMP_MARK = '\001', /* in a name: where the stamp stands, 20261121-182233, or with the number it has in its second behind it */
	STAMP_MAX = 40,
};

/* Whether `path` is such a name with a stamp in it, which goes to `ret` (room for STAMP_MAX + 1; may be NULL). */
bool stamp_take(const char *name, const char *path, char *ret);
/* The name with its stamp, the caller's; NULL when out of memory. */
char *stamp_put(const char *name, const char *stamp);
