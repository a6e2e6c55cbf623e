/*
 * jitdump: what a JIT compiler tells of its code, with times (Linux tools/perf/Documentation/jitdump-specification.txt).
 * The runtime maps the file executable, which is how its readers learn of it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Whether a mapped path is that of a jitdump, ".../jit-PID.dump" (or "... (deleted)"); its pid in *ret. */
bool jitdump_is_path(const char *path, size_t len, pid_t *ret);
