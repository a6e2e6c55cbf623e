/* How good a profile is, in words: for stderr at the end of a recording and for the report. */
#pragma once

struct profile_stats;
struct strbuf;

/*
 * Appends lines, each ended by '\n' and safe to print. The first is the summary
 * ("4,981 samples, 0 lost, 99.8 % of user stacks complete"); then one line for each thing that is missing,
 * with what would bring it where something would. Nothing is said of what is zero, except for `lost`.
 */
void quality_lines(const struct profile_stats *stats, struct strbuf *ret);

/* "all processes: cpu-clock at 99 Hz for 10.003 s"; nothing of what the source did not say. */
void quality_title(const struct profile_stats *stats, struct strbuf *ret);
/*
 * "good", "fair" or "poor": at most 1 or 5 % of the samples were lost, and as many stacks cut short, and as many samples
 * went through files that could not be read.
 */
const char *quality_grade(const struct profile_stats *stats);
