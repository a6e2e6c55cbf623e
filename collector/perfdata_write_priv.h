/* The insides of the perf.data writer: a buffer, the file behind it, and what the features need. */
#pragma once

#include "base/err.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "collector/perfdata_write.h"

#include <linux/perf_event.h>

enum {
	WRITE_BUFFER = 2 << 20,
	WRITE_MUCH = 256 << 10,    /* worth a system call */
	WRITE_ROUND = 256 << 10,   /* what a reader must hold to put it in order: two or three of these */
	WRITE_RECORD_MAX = 65528,  /* header.size has 16 bits, and records are multiples of 8 */
	WRITE_EVENTS_MAX = 64,
	PERFDATA_FINISHED_ROUND = 68, /* tools/lib/perf/include/perf/event.h */
	WRITE_NAME_ALIGN = 64,     /* NAME_ALIGN of header.c: strings are padded to it */
};

struct write_event {
	struct perf_event_attr attr;
	char name[128];
	uint64_t id; /* of our own giving, so that CPUs may come and go: an event has one, whatever the kernel gave */
};

struct perfdata_writer {
	struct perfdata_write_opts opts;
	int fd;
	VEC(struct write_event) events;
	uint8_t *buf;
	size_t len;          /* of buf */
	uint64_t records_at; /* offset of the first record */
	uint64_t size;       /* of the records in the file, as its header says */
	uint64_t end;        /* of the file; more than records_at + size only within a flush */
	uint64_t flushed_ns;
	uint64_t first_ns, last_ns; /* of samples */
	size_t round_bytes;  /* of records since the last FINISHED_ROUND */
	struct strbuf build_ids;
	struct strbuf runtimes;
	bool writing_buffer; /* `end` grows by what is at the beginning of buf */
	bool failing;        /* the file is being left as it can be read */
	struct err failure;
};

/* perfdata_write.c */
/* Appends to the file; what fails is kept in w->failure, and false from then on. */
bool write_out(struct perfdata_writer *w, const void *bytes, size_t size);
bool write_at(struct perfdata_writer *w, const void *bytes, size_t size, uint64_t offset);

/* perfdata_write_header.c */
/* Into the file, up to where records begin. */
int write_header(struct perfdata_writer *w, struct err *err);
/* The size of the records, as it now is. */
bool write_size(struct perfdata_writer *w);
/* Behind the records, and their bits in the header. */
bool write_features(struct perfdata_writer *w);
