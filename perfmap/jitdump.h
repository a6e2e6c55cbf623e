/*
 * jitdump: what a JIT compiler tells of its code, with times (Linux tools/perf/Documentation/jitdump-specification.txt).
 * The runtime maps the file executable, which is how its readers learn of it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct jitdump;
struct perfmap;

/* Whether a mapped path is that of a jitdump, ".../jit-PID.dump" (or "... (deleted)"); its pid in *ret. */
bool jitdump_is_path(const char *path, size_t len, pid_t *ret);

/* Where a reader stands in one of them. */
struct jitdump *jitdump_new(void); /* NULL when out of memory */
void jitdump_free(struct jitdump *j); /* NULL is fine */
/*
 * Takes `len` bytes that lie where the last call ended, of `left` that the file has from there on. Code that was loaded or
 * moved becomes ranges of the map, at the time the record tells (CLOCK_MONOTONIC); `stamp_ns` where it is counted by another
 * clock. Returns how far to go on: more than `len` where what follows need not be read; 0 = what there is is not whole
 * yet, or it is no jitdump. Of a name 4 KiB count.
 */
uint64_t jitdump_append(struct jitdump *j, const uint8_t *bytes, size_t len, uint64_t left, struct perfmap *map,
			uint64_t stamp_ns);
size_t jitdump_count(const struct jitdump *j); /* code loads so far */
bool jitdump_failed(const struct jitdump *j);  /* it is no jitdump, or is damaged: nothing more is taken */
