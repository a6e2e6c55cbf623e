/* Words while recording and the lines at its end, all on stderr. */
#pragma once

#include <stdint.h>

struct collector_counts;
struct collector_info;
struct profile_stats;
struct session_progress;

void progress_start(const struct collector_info *info, const char *targets, const char *unwinder);
/* One refreshing line on a terminal; where there is none, a plain line every 10 s. */
/* Of a terminal's refreshing line; nothing where stderr is none. */
void progress_text(const char *text);
/* duration_ns 0 = no end is known. */
void progress_tick(uint64_t elapsed_ns, uint64_t duration_ns, const struct session_progress *p,
		   const struct collector_counts *counts);
void progress_end(const struct profile_stats *stats);
