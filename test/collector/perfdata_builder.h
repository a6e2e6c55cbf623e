/*
 * Writes perf.data files by hand, for tests: every field can be made wrong. A file is put together in memory and
 * handed over as a descriptor, of a file or of a pipe.
 */
#pragma once

#include "base/vec.h"

#include <linux/perf_event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
	VEC(uint8_t) v;
};

void bytes_add(struct bytes *b, const void *data, size_t len);
void bytes_u16(struct bytes *b, uint16_t value);
void bytes_u32(struct bytes *b, uint32_t value);
void bytes_u64(struct bytes *b, uint64_t value);
void bytes_set_u64(struct bytes *b, size_t at, uint64_t value);
void bytes_pad(struct bytes *b, size_t multiple);
void bytes_deinit(struct bytes *b);

/* Where the fields of struct perf_file_header are. */
enum {
	AT_HEADER_SIZE = 8,
	AT_ATTR_SIZE = 16,
	AT_ATTRS_OFFSET = 24,
	AT_ATTRS_SIZE = 32,
	AT_DATA_OFFSET = 40,
	AT_DATA_SIZE = 48,
	AT_FEATURES = 72,
	FILE_HEADER_BYTES = 104,
};

/* An event with ids first_id, first_id + 1, ... */
struct built_event {
	struct perf_event_attr attr;
	uint64_t first_id;
	size_t num_ids;
};
struct perf_event_attr plain_attr(uint64_t sample_type, uint64_t regs, uint32_t stack);

struct feature {
	unsigned int bit;
	struct bytes bytes;
};

/* A finished file: header, ids, attrs, records, features by ascending bit. */
void build_file(struct bytes *out, const struct built_event *events, size_t num_events,
		const struct bytes *records, const struct feature *features, size_t num_features);
/* A string as features hold it: u32 length, bytes, padding to 64. */
void feature_string(struct bytes *out, const char *str);

/* Records. `begin` returns where the header is; `end` sets its size. */
size_t record_begin(struct bytes *b, uint32_t type, uint16_t misc);
void record_end(struct bytes *b, size_t begin);

struct built_sample {
	uint64_t id, ip, time_ns;
	uint32_t pid, tid, cpu;
	const uint64_t *chain;
	size_t num_chain;
	const uint64_t *regs; /* NULL: abi 0 */
	size_t num_regs;
	const void *stack;
	size_t stack_bytes, stack_size; /* dyn_size, size */
};
/* Of the fields IDENTIFIER, IP, TID, TIME, CPU, CALLCHAIN, REGS_USER and STACK_USER those in `type`. */
void add_sample(struct bytes *b, uint64_t type, const struct built_sample *s);
/* With a trailer of what is in `type` (sample_id_all). */
void add_trailer(struct bytes *b, uint64_t type, const struct built_sample *s);
void add_comm(struct bytes *b, uint64_t type, const struct built_sample *s, const char *comm);

/* The bytes as a file (memfd), or as a pipe that holds all of them (at most 1 MiB). */
int bytes_file(const struct bytes *b);
int bytes_pipe(const struct bytes *b);
