/*
 * The layout of a perf.data file, for those who read and who write it: tools/perf/util/header.h and header.c,
 * perf.data-file-format.txt.
 */
#pragma once

#include <stdint.h>

static const char PERFDATA_MAGIC[8] = { 'P', 'E', 'R', 'F', 'I', 'L', 'E', '2' };

/* enum of header.h, HEADER_*: what may lie behind the records. */
enum {
	FEATURE_TRACING_DATA = 1,
	FEATURE_BUILD_ID = 2,
	FEATURE_HOSTNAME = 3,
	FEATURE_OSRELEASE = 4,
	FEATURE_VERSION = 5,
	FEATURE_ARCH = 6,
	FEATURE_NRCPUS = 7,
	FEATURE_CPUDESC = 8,
	FEATURE_TOTAL_MEM = 10,
	FEATURE_CMDLINE = 11,
	FEATURE_EVENT_DESC = 12,
	FEATURE_SAMPLE_TIME = 21,
	FEATURE_CLOCKID = 23,
	FEATURE_DIR_FORMAT = 24,
	FEATURE_COMPRESSED = 27,
	FEATURE_CLOCK_DATA = 29,
	FEATURE_BITS = 256, /* HEADER_FEAT_BITS */
};

struct section {
	uint64_t offset, size;
};

/* struct perf_file_header */
struct file_header {
	char magic[8];
	uint64_t size, attr_size;
	struct section attrs, data, event_types;
	uint64_t features[FEATURE_BITS / 64];
};
