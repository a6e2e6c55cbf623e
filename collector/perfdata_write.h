/*
 * The writing side of perf.data: decoded records in, a file or stream out that perf, samply and perfdata.h read.
 * Layout: tools/perf/Documentation/perf.data-file-format.txt, tools/perf/util/header.c.
 *
 *	file header (104 bytes) | ids | attrs | records ... | table of features | features
 *
 * A file is readable whenever its writer is killed: everything before the records is written at once, and after each
 * flush the header's size of the records is brought up to date, so that it never counts what is not there. The
 * features come last and their bits are set when they are whole: a file without any is one that was not finished.
 * For the same reason it is written under its own name from the start, unlike other outputs: after a kill, a temporary
 * name would hide what was saved.
 *
 * What is left out: the part of each stack dump that the kernel did not fill (it writes as much as was asked for,
 * mostly stale bytes), the user part of callchains beside a stack dump but where record_sample.user_chain names it (see
 * perfdata_chain.h), and fields of samples that struct record does not hold.
 */
#pragma once

#include "collector/record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct perf_event_attr;
struct perfdata_writer;

/* Far from those of perf (30 by version 6), which leaves out what it does not know (tools/perf/util/header.c). */
enum { PERFDATA_FEATURE_RUNTIMES = 200 };

struct perfdata_write_event {
	const struct perf_event_attr *attr; /* as opened */
	const char *name;                   /* "cycles", "cpu-clock:u" */
};

/* All borrowed until the end of the writing, but for `events`: until begin returns. */
struct perfdata_write_opts {
	const struct perfdata_write_event *events;
	size_t num_events; /* 1 to 64 */
	bool stream;       /* nothing is sought back to: what `perf record -o -` writes */
	const char *version;
	const char *program; /* the command line begins with it; NULL = it is not told */
	char *const *argv;   /* and goes on with these; NULL ends */
	const char *cpu;   /* its name; NULL = not known */
	uint64_t mem_kib;  /* of the machine; 0 = not known */
};

/* Takes fd, also when it fails. A file must be empty. */
int perfdata_write_begin(int fd, const struct perfdata_write_opts *opts, struct perfdata_writer **ret,
			 struct err *err);

/*
 * One record; in time order, but records without a time may come at any moment. Copies it into a buffer; only when
 * that is full (each 2 MiB) it makes a system call. A failure to write is kept for perfdata_write_flush, and all later
 * records are dropped. Types that struct record does not hold the insides of are left out.
 */
void perfdata_write_record(struct perfdata_writer *w, const struct record *rec, size_t event);

/*
 * What was handed over so far goes to the file and is counted in its header, when it is much or `now`. Everything up
 * to here is older than what is yet to come (FINISHED_ROUND). Returns the first failure of any write so far, each time.
 */
int perfdata_write_flush(struct perfdata_writer *w, bool now, struct err *err);

/* Samples that the kernel counted as lost, when more exactly known than from LOST records; before the end. */
void perfdata_write_lost(struct perfdata_writer *w, uint64_t lost, size_t event);

/*
 * A build-id among the records, for readers of a file that was not finished: perf takes it from then on, and perfdata.h
 * looks for it before anything else. Not in a stream, where it would come behind the mappings. False when out of memory.
 */
bool perfdata_write_build_id_now(struct perfdata_writer *w, bool kernel, const uint8_t *id, size_t id_len,
				 const char *path);

/* For the table of build-ids; before the end. False when out of memory. */
bool perfdata_write_build_id(struct perfdata_writer *w, bool kernel, const uint8_t *id, size_t id_len,
			     const char *path);

/*
 * What managed runtimes said of their code, for our own reading: a feature of a number that perf does not know and skips.
 * Before the end; not in a stream. False when out of memory.
 */
bool perfdata_write_runtimes(struct perfdata_writer *w, const void *bytes, size_t size);

/*
 * Completes it: flush, features, their bits. After a failure to write, the file stays as the last good flush left it.
 */
int perfdata_write_end(struct perfdata_writer *w, struct err *err);
/* Without perfdata_write_end before it, the file stays unfinished. NULL is fine. */
void perfdata_writer_free(struct perfdata_writer *w);

/* Bytes in the file so far. */
uint64_t perfdata_written(const struct perfdata_writer *w);
