/*
 * Files that a trap has written: how much room they take, and the oldest removed when that is too much. A capture is
 * the files whose names have the same stamp (target/stamp.h), which sorts by time; also those of an earlier run.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct captures;
struct err;

/* Names with STAMP_MARK in them, borrowed; `quota` in bytes, 0 = none. */
int captures_new(const char *const *names, size_t num, uint64_t quota, struct captures **ret, struct err *err);
void captures_free(struct captures *c); /* NULL is fine */

/* A file was written; false when its name is none of ours, or it is not there. */
bool captures_add(struct captures *c, const char *path);
/*
 * Before a capture of that size is written: looks again at what is there, as others may write captures of that name as well, and
 * removes the oldest until it fits. False: it alone does not, and nothing was removed. *removed: captures.
 */
bool captures_make_room(struct captures *c, uint64_t bytes, size_t *removed);
uint64_t captures_bytes(const struct captures *c);
