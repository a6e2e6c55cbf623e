/*
 * What programs publish of their JIT code, taken apart: perf maps line by line, jitdumps record by record. Here or in the
 * parser (base/worker.h): the recorder then reads the files and hands their bytes over, and gets ranges back.
 */
#pragma once

#include "base/worker.h"
#include "perfmap/jitdump.h"
#include "perfmap/perfmap.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where it goes. Names are borrowed, and not NUL-terminated. */
struct perfmap_sink {
	/* `cfi`: as in perfmap_add_cfi; cfi_len 0 = none. */
	void (*add)(void *data, enum perfmap_lane lane, uint64_t time_ns, uint64_t start, uint64_t end, const char *name,
		    size_t name_len, const uint8_t *cfi, size_t cfi_len);
	void (*move)(void *data, enum perfmap_lane lane, uint64_t time_ns, uint64_t from, uint64_t to, uint64_t size);
	void *data;
};
struct perfmap_sink perfmap_sink(struct perfmap *m); /* into the map */

enum { PERFMAP_MAX_LINE = 16384 }; /* bytes; longer lines are skipped and counted */

struct perfmap_lines {
	size_t max_line;
	size_t bad;
	bool skipping; /* inside a line that is too long */
};
struct perfmap_lines *perfmap_lines_of(struct perfmap *m);
/* As perfmap_append_at. */
size_t perfmap_lines_take(struct perfmap_lines *l, const char *text, size_t len, uint64_t time_ns,
			  const struct perfmap_sink *sink);

/* What is known of a jitdump once its header was read. */
struct jitdump_state {
	bool begun;
	bool foreign_clock; /* times are the CPU's own counter */
	bool failed;
};
struct jitdump_state *jitdump_state_of(struct jitdump *j);
void jitdump_counted(struct jitdump *j, size_t num); /* so many more loads went into the map */
/* As jitdump_append. */
uint64_t jitdump_take(struct jitdump_state *s, const uint8_t *bytes, size_t len, uint64_t left, uint64_t stamp_ns,
		      const struct perfmap_sink *sink);

/* ---- by the parser ---- */

/*
 *	PUBLISHED_TEXT  u32 max_line, u8 skipping, bytes           -> ranges; end
 *	PUBLISHED_DUMP  u8 flags, u64 left, u64 stamp_ns, bytes    -> ranges and moves; end
 *
 * range: u8 0, u64 time_ns, start, end, u16 length, name    move: u8 1, u64 time_ns, from, to, size
 * cfi, of the range before it: u8 3, u16 length, .eh_frame
 * end:   u8 2, u64 used, u32 bad lines, u8 flags (1 skipping, 2 begun, 4 foreign clock, 8 failed)
 */
enum {
	PUBLISHED_TEXT = WORKER_KIND(WORKER_PERFMAP, 1),
	PUBLISHED_DUMP = WORKER_KIND(WORKER_PERFMAP, 2),
};
enum { PUBLISHED_RANGE, PUBLISHED_MOVE, PUBLISHED_END, PUBLISHED_CFI };
enum { PUBLISHED_SKIPPING = 1, PUBLISHED_BEGUN = 2, PUBLISHED_FOREIGN = 4, PUBLISHED_FAILED = 8 };
extern const struct worker_service published_services[]; /* without state */

/*
 * As perfmap_append_at and jitdump_append, by the worker. 0 too when there is no answer to be had; *aside: because the
 * bytes ended two workers in a row, and are not to be shown to a third.
 */
size_t published_text(struct worker *w, struct perfmap *m, const char *text, size_t len, uint64_t time_ns, bool *aside);
uint64_t published_dump(struct worker *w, struct jitdump *j, const uint8_t *bytes, size_t len, uint64_t left,
			struct perfmap *m, uint64_t stamp_ns, bool *aside);

/* For fuzzing: takes an answer; false: it is malformed. */
struct published_answer;
struct published_answer *published_answer_new(void); /* NULL when out of memory */
void published_answer_free(struct published_answer *a);
bool published_take(void *answer, struct reader *r);
/* Into a map; whether there was an end, and how much was used. */
bool published_apply(const struct published_answer *a, struct perfmap *m, enum perfmap_lane lane, uint64_t *used);
