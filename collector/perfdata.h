/*
 * perf.data: what `perf record` (or ringfold) wrote, as the same decoded records a live machine gives, in time
 * order. Layout: tools/perf/Documentation/perf.data-file-format.txt, tools/perf/util/{header,session,ordered-events}.c.
 * Files, `--threads` directories' single files (one perfdata each, merged by the caller's list), and pipes.
 *
 * Everything in the file is untrusted: every offset, size and count is checked against what is there; a file that
 * ends early is read to its last whole record and `unfinished` says so.
 */
#pragma once

#include "collector/record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct perfdata;

struct perfdata_event {
	const char *name;          /* "cycles", "cpu-clock:u", ...; never NULL */
	struct record_format format;
	uint64_t stack_bytes;      /* attr.sample_stack_user */
	uint64_t freq_or_period;
	bool freq;                 /* freq_or_period is Hz */
	uint32_t type;             /* attr.type, attr.config */
	uint64_t config;
};

/* Strings live as long as the perfdata; NULL / 0 = the file does not say. */
struct perfdata_info {
	const struct perfdata_event *events;
	size_t num_events;
	const char *hostname, *os_release, *arch, *cmdline;
	uint32_t clockid;
	bool pipe, compressed;
	bool unfinished;           /* the writer did not finish it (killed, disk full) */
};

/* A build-id of the header's table or of a BUILD_ID record. */
struct perfdata_build_id {
	pid_t pid;                 /* -1 = every process */
	uint16_t misc;
	const uint8_t *id;
	size_t id_len;
	const char *path;
};

struct perfdata_sink {
	/* In time order; `event` is the index of the sample's event, 0 for others. Borrowed until it returns. */
	void (*record)(void *data, const struct record *record, size_t event);
	void (*build_id)(void *data, const struct perfdata_build_id *id); /* before the first record; may be NULL */
	void *data;
};

struct perfdata_counts {
	uint64_t records, samples, lost, lost_samples, malformed, unknown, disorder, throttled;
	uint64_t bytes;
};

/* Takes fd: a regular file, or a pipe. Reads the header (of a file) at once. */
int perfdata_open(int fd, struct perfdata **ret, struct err *err);
void perfdata_close(struct perfdata *p); /* NULL is fine */
/* Valid after open for files; of pipes, complete only once the first sample was delivered. */
const struct perfdata_info *perfdata_info(const struct perfdata *p);
/* Everything, once. Several inputs (a --threads directory) are merged into one time order. */
int perfdata_run(struct perfdata *const *inputs, size_t num_inputs, const struct perfdata_sink *sink,
		 struct err *err);
struct perfdata_counts perfdata_counts(const struct perfdata *p);
