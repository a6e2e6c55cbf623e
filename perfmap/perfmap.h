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
struct worker;

/*
 * Names of one process's code as time goes by. What was published comes with a time and waits; it counts from that
 * time on, when perfmap_apply is told so: the newer wins where they overlap.
 */
struct perfmap;

struct perfmap_limits {
	size_t max_entries; /* 0 = 4,000,000 */
	size_t max_line;    /* bytes; 0 = 16384: longer lines are skipped and counted */
	size_t max_names;   /* bytes of all names; 0 = 512 MiB */
};

/* Who published: the times of each lane never fall (an earlier one is taken for that of the one before it). */
enum perfmap_lane { PERFMAP_TEXT, PERFMAP_DUMP, PERFMAP_NUM_LANES };

struct perfmap *perfmap_new(const struct perfmap_limits *limits);
void perfmap_free(struct perfmap *m);
/*
 * Adds text: "START SIZE NAME" with hex numbers (optional 0x), NAME to the end of the line. Only whole lines
 * are taken: returns the bytes consumed (give the rest again with more behind it). Bad lines are skipped and
 * counted. After the caps nothing more is kept. Memory trouble latches perfmap_failed.
 */
size_t perfmap_append_at(struct perfmap *m, const char *text, size_t len, uint64_t time_ns);
/* The same, counting at once. */
size_t perfmap_append(struct perfmap *m, const char *text, size_t len);
enum { PERFMAP_MAX_CFI = 8 << 10 }; /* bytes of one range's; longer ones are left out */
/*
 * One range [start, end). False when it is none, or beyond the caps. With its call-frame information: an .eh_frame section that is read as if it began at `end`, or at
 * the next address whose distance from `start` is a multiple of 8 (jitdump-specification.txt and util/genelf.c of perf
 * say so). NULL and 0 = none.
 */
bool perfmap_add_cfi(struct perfmap *m, enum perfmap_lane lane, uint64_t time_ns, uint64_t start, uint64_t end,
		     const char *name, size_t name_len, const uint8_t *cfi, size_t cfi_len);

/* The code at `from`, where that has a name, is at `to` from then on. */
void perfmap_move(struct perfmap *m, enum perfmap_lane lane, uint64_t time_ns, uint64_t from, uint64_t to,
		  uint64_t size);

/* The earliest time that waits; UINT64_MAX = nothing does. */
uint64_t perfmap_next(const struct perfmap *m);
/*
 * Where what waits until `time_ns` gives another name, or begins elsewhere, than what counts now: appended to *ret, in
 * no order, may overlap. Whoever remembers places there has to forget them before perfmap_apply. False when out of
 * memory.
 */
struct code_ranges;
bool perfmap_changes(struct perfmap *m, uint64_t time_ns, struct code_ranges *ret);
void perfmap_apply(struct perfmap *m, uint64_t time_ns);

/* Name at addr (borrowed until the next append or add); start of its range in *start. NULL when none. */
const char *perfmap_find(struct perfmap *m, uint64_t addr, uint64_t *start);
/* The call-frame information of what is at addr. Borrowed as the name. False when none. */
struct jit_cfi;
bool perfmap_find_cfi(struct perfmap *m, uint64_t addr, struct jit_cfi *ret);
bool perfmap_has_cfi(const struct perfmap *m); /* anything has */
/* How many bytes of [start, end) have a name. */
uint64_t perfmap_named_bytes(struct perfmap *m, uint64_t start, uint64_t end);
size_t perfmap_count(const struct perfmap *m); /* entries kept; a line that says what is known already is none */
size_t perfmap_bad_lines(const struct perfmap *m);
bool perfmap_full(const struct perfmap *m); /* there was more than is kept */
bool perfmap_failed(const struct perfmap *m);

/*
 * Names from each process's own map, opened through the door when its first JIT frame is seen, held open,
 * read on when it has grown; shared by no two generations. In `map_dir` (absolute; NULL = none) lie maps and jitdumps
 * that somebody copied, by the pids that we see; what the process itself publishes is newer. `worker` (borrowed) takes
 * the bytes apart (published.h); NULL = that is done here.
 */
int perfmap_source_new(struct door *door, struct worker *worker, const char *map_dir, struct intern *strings,
		       struct symbol_source *ret, struct err *err);

/* The same after the fact, for the processes of a recording: which maps are believed, target/offline.h tells. */
struct offline;
int perfmap_recorded_source_new(struct offline *offline, struct intern *strings,
				struct symbol_source *ret, struct err *err);
