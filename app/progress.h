/* Words while recording and the lines at its end, all on stderr. */
#pragma once

#include <stdint.h>

struct collector_counts;
struct collector_info;
struct profile_stats;
struct session_progress;

void progress_start(const struct collector_info *info, const char *targets, const char *unwinder);
/* One refreshing line on a terminal; where there is none, a plain line every 10 s. */
void progress_tick(uint64_t elapsed_ns, const struct session_progress *p,
		   const struct collector_counts *counts);
void progress_end(const struct profile_stats *stats);
