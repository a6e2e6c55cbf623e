/*
 * perf.data: what `perf record` (or ringfold) wrote, as the same decoded records a live machine gives, in time
 * order. Layout: tools/perf/Documentation/perf.data-file-format.txt, tools/perf/util/{header,session,ordered-events}.c.
 * Files, `--threads` directories (the file "data" and one part for each "data.N", merged), and pipes.
 *
 * Everything in the file is untrusted: every offset, size and count is checked against what is there; a file that
 * ends early is read to its last whole record and `unfinished` says so. Nothing is mapped, so a file that shrinks
 * while it is read is one that ends early.
 */
#pragma once

#include "collector/record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct perfdata;

struct perfdata_event {
	const char *name; /* "cycles", "cpu-clock:u", ...; never NULL */
	struct record_format format;
	uint64_t stack_bytes; /* attr.sample_stack_user */
	bool user_chain; /* samples hold the kernel's frame-pointer chain of user space */
	uint64_t freq_or_period;
	bool freq;     /* freq_or_period is Hz */
	bool inherit;
	uint32_t type; /* attr.type, attr.config */
	uint64_t config;
};

/* Strings live as long as the perfdata; NULL / 0 = the file does not say. */
struct perfdata_info {
	const struct perfdata_event *events;
	size_t num_events;
	const char *hostname, *os_release, *arch, *cmdline;
	uint32_t num_cpus; /* online when it was recorded */
	uint64_t first_ns, last_ns; /* times of its first and last sample */
	bool has_clockid; /* else times are perf's own clock (local_clock) */
	uint32_t clockid;
	bool pipe, compressed;
	bool directory;  /* this is "data" of a --threads directory: the samples are in the parts */
	const uint8_t *runtimes; /* what perfdata_write_runtimes was given; as long as the input is open */
	size_t runtimes_bytes;
	bool unfinished; /* the writer did not finish it (killed, disk full), or it was cut since */
};

/* A build-id of the header's table or of a BUILD_ID record. Borrowed until the call returns. */
struct perfdata_build_id {
	pid_t pid; /* -1 = every process */
	uint16_t misc;
	const uint8_t *id;
	size_t id_len; /* 1..20 */
	const char *path;
};

struct perfdata_sink {
	/*
	 * In time order, but for samples whose user callchain came later; `event` is the index of the sample's event, 0 for others.
	 * Borrowed until it returns.
	 */
	void (*record)(void *data, const struct record *record, size_t event);
	/* Before the first record where the file's header has them, else as they come; may be NULL. */
	void (*build_id)(void *data, const struct perfdata_build_id *id);
	void *data;
	bool takes_rests; /* samples may come with a part of their stack copies; see struct stack_rest */
};

/*
 * `lost` is what LOST records say, `lost_samples` what LOST_SAMPLES say: the same losses may be in both. `lost_side` is what
 * LOST records of a dummy event say: of ours it has a ring without samples; of perf all events of a CPU share one.
 */
struct perfdata_counts {
	uint64_t records, samples, lost, lost_side, lost_samples;
	uint64_t malformed; /* records whose insides do not fit; left out */
	uint64_t unknown;   /* records of types nobody told us about; left out */
	uint64_t disorder;  /* records that came after a younger one all the same */
	uint64_t throttled;
	uint64_t bytes; /* of the file, read or skipped */
};

enum { PERFDATA_HEAD_BYTES = 16 };
/* Is what begins so a file, which can be read only by going to and fro in it? */
bool perfdata_is_file(const uint8_t *head, size_t len);

/* Takes fd, also when it fails: a regular file, or a pipe. Reads the header of a file at once, of a pipe never. */
int perfdata_open(int fd, struct perfdata **ret, struct err *err);
/* What was read of a pipe already: at most PERFDATA_HEAD_BYTES, before the run. */
void perfdata_begins_with(struct perfdata *p, const uint8_t *head, size_t len);
/*
 * "data.N" of a directory, one of `num_parts`: records without a header of their own. Takes fd; `main` must outlive
 * it.
 */
int perfdata_open_part(int fd, struct perfdata *main, size_t num_parts, struct perfdata **ret,
		       struct err *err);
void perfdata_close(struct perfdata *p); /* NULL is fine */
/* Valid after open for files; of pipes, complete only once the first sample was delivered. */
const struct perfdata_info *perfdata_info(const struct perfdata *p);
/*
 * Everything, once. Several inputs (a directory's main file and its parts) are merged into one time order. When one
 * cannot be read to its end (a damaged record, a read error, memory), the sink still gets what came before, then the
 * error is returned: -EBADMSG for damage, -ENOTSUP for what this build or format cannot do, else the system's.
 */
int perfdata_run(struct perfdata *const *inputs, size_t num_inputs,
		 const struct perfdata_sink *sink, struct err *err);
struct perfdata_counts perfdata_counts(const struct perfdata *p);
