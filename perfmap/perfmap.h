/*
 * /tmp/perf-PID.map: symbols that JIT runtimes write (Linux tools/perf/Documentation/jit-interface.txt).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct door;
struct err;
struct intern;
struct symbol_source;

/* The parsed map: later lines override earlier ones where they overlap. Immutable between appends. */
struct perfmap;

struct perfmap_limits {
	size_t max_entries; /* 0 = 4,000,000 */
	size_t max_line;    /* bytes; 0 = 16384: longer lines are skipped and counted */
};

struct perfmap *perfmap_new(const struct perfmap_limits *limits);
void perfmap_free(struct perfmap *m);
/*
 * Adds text: "START SIZE NAME" with hex numbers (optional 0x), NAME to the end of the line. Only whole lines
 * are taken: returns the bytes consumed (give the rest again with more behind it). Bad lines are skipped and
 * counted. After the caps nothing more is kept. Memory trouble latches perfmap_failed.
 */
size_t perfmap_append(struct perfmap *m, const char *text, size_t len);
/* Name at addr (borrowed until the next append); start of its range in *start. NULL when none. */
const char *perfmap_find(struct perfmap *m, uint64_t addr, uint64_t *start);
/* How many bytes of [start, end) have a name. */
uint64_t perfmap_named_bytes(struct perfmap *m, uint64_t start, uint64_t end);
size_t perfmap_count(const struct perfmap *m);
size_t perfmap_bad_lines(const struct perfmap *m);
bool perfmap_failed(const struct perfmap *m);

/*
 * Names from each process's own map, opened through the door when its first JIT frame is seen, held open,
 * read again when it has grown; shared by no two generations.
 */
int perfmap_source_new(struct door *door, struct intern *strings, struct symbol_source *ret,
		       struct err *err);

/* The same after the fact, for the processes of a recording: which maps are believed, target/offline.h tells. */
struct offline;
int perfmap_recorded_source_new(struct offline *offline, struct intern *strings,
				struct symbol_source *ret, struct err *err);
