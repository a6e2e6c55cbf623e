/* What the merge needs to know of a record before it is decoded. */
#pragma once

#include "collector/record.h"

/* PERF_RECORD_* of records the kernel writes are below this, enum perf_user_event_type of perf above. */
enum { RECORD_FIRST_USER_TYPE = 64 };

/*
 * Offset of the time in a record of this raw type and size, a multiple of 8 that lies inside; 0 = it carries
 * no time or is too short for one.
 */
size_t record_time_offset(const struct record_format *format, uint32_t raw_type, size_t size);
