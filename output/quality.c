#include "output/quality.h"

#include "base/escape.h"
#include "base/strbuf.h"
#include "output/count_priv.h"
#include "output/profile.h"
#include "output/text_priv.h"

#include <string.h>

/*
 * A record holds 64 KiB in all (perf_event_header.size), so a copy is never larger than that without the registers, the
 * kernel's chain and the rest: beyond this there is nothing to gain.
 */
enum { NEARLY_ALL_STACK_BYTES = 60000 };

/* Longer than any sentence of ours. */
enum { MAX_LINE = 400, MAX_WORD = 60, MAX_TARGETS = 300, MAX_EVENT = 100 };

#define NUM_OF(array) (sizeof(array) / sizeof((array)[0]))

static const char *plural(uint64_t count)
{
	return count == 1 ? "" : "s";
}

static void share(struct strbuf *ret, uint64_t part, uint64_t whole)
{
	strbuf_str(ret, " (");
	text_percent(ret, part, whole);
	strbuf_str(ret, ")");
}

static void counted(struct strbuf *ret, uint64_t count, const char *noun)
{
	text_count(ret, count);
	strbuf_printf(ret, " %s%s", noun, plural(count));
}

/* ": no_cfi 12, outside 3" */
static void by_name(struct strbuf *ret, const struct profile_count *counts, size_t num)
{
	const char *between = ": ";

	for (size_t i = 0; i < num && counts[i].name; i++) {
		if (!counts[i].count)
			continue;
		strbuf_str(ret, between);
		escape_line(ret, counts[i].name, strlen(counts[i].name), MAX_WORD);
		strbuf_char(ret, ' ');
		text_count(ret, counts[i].count);
		between = ", ";
	}
}

static void summary(const struct profile_stats *s, struct strbuf *ret)
{
	counted(ret, s->samples, "sample");
	strbuf_str(ret, ", ");
	text_count(ret, s->lost);
	strbuf_str(ret, " lost");
	if (s->lost)
		share(ret, s->lost, count_add(s->samples, s->lost));
	strbuf_str(ret, ", throttled ");
	counted(ret, s->throttled, "time");
	if (s->user_stacks) {
		strbuf_str(ret, ", ");
		text_percent(ret, s->complete, s->user_stacks);
		strbuf_str(ret, " of user stacks complete");
	}
	strbuf_char(ret, '\n');
}

static void truncated_line(const struct profile_stats *s, struct strbuf *ret)
{
	if (!s->truncated)
		return;
	strbuf_str(ret, "truncated: ");
	counted(ret, s->truncated, "stack");
	share(ret, s->truncated, s->user_stacks);
	if (s->stack_bytes) {
		strbuf_str(ret, " went on beyond the ");
		text_count(ret, s->stack_bytes);
		strbuf_str(ret, " bytes copied");
	} else {
		strbuf_str(ret, " went on beyond what the kernel copies");
	}
	if (s->stack_bytes && s->stack_bytes < NEARLY_ALL_STACK_BYTES)
		strbuf_str(ret, s->by_perf ? "; a larger SIZE of perf's --call-graph dwarf,SIZE copies more"
					   : "; a larger --stack-bytes copies more");
	strbuf_char(ret, '\n');
}

static void broken_line(const struct profile_stats *s, struct strbuf *ret)
{
	if (!s->broken)
		return;
	strbuf_str(ret, "broken: ");
	counted(ret, s->broken, "stack");
	share(ret, s->broken, s->user_stacks);
	by_name(ret, s->broken_by, NUM_OF(s->broken_by));
	strbuf_char(ret, '\n');
}

/* The runtimes that leave code without names, and what would help with each. */
static bool advise(const struct profile_stats *s, struct strbuf *ret)
{
	bool any = false;

	for (size_t i = 0; i < NUM_OF(s->runtimes) && s->runtimes[i].name; i++) {
		const struct profile_runtime *r = &s->runtimes[i];

		/* It is about what the process compiles. */
		if (r->named - r->precompiled_named >= r->frames - r->precompiled || !r->advice)
			continue;
		strbuf_str(ret, any ? ". For " : "; for ");
		escape_line(ret, r->name, strlen(r->name), MAX_WORD);
		strbuf_str(ret, ": ");
		escape_line(ret, r->advice, strlen(r->advice), MAX_LINE);
		any = true;
	}
	if (any)
		strbuf_char(ret, '\n');
	return any;
}

static void frame_lines(const struct profile_stats *s, struct strbuf *ret)
{
	uint64_t unnamed = s->jit_frames > s->jit_named ? s->jit_frames - s->jit_named : 0;

	if (s->unknown_frames) {
		strbuf_str(ret, "unknown: ");
		counted(ret, s->unknown_frames, "frame");
		share(ret, s->unknown_frames, s->frames);
		strbuf_str(ret, " in no mapping of their process\n");
	}
	for (size_t i = 0; i < NUM_OF(s->jit) && s->jit[i]; i++) {
		strbuf_str(ret, "JIT: ");
		escape_line(ret, s->jit[i], strlen(s->jit[i]), MAX_LINE);
		strbuf_char(ret, '\n');
	}
	if (unnamed) {
		strbuf_str(ret, "unnamed: ");
		text_count(ret, unnamed);
		strbuf_str(ret, " of ");
		counted(ret, s->jit_frames, "JIT frame");
		if (!advise(s, ret))
			strbuf_str(ret, "; programs that write /tmp/perf-PID.map name them: DOTNET_PerfMapEnabled=1, "
				"node --perf-basic-prof, python3 -X perf, jcmd PID Compiler.perfmap\n");
	}
}

/* "LABEL: N things (share)TEXT" for what needs no more than that. */
static void plain_line(struct strbuf *ret, const char *label, uint64_t count, const char *noun,
		       uint64_t whole, const char *text)
{
	if (!count)
		return;
	strbuf_printf(ret, "%s: ", label);
	counted(ret, count, noun);
	if (whole)
		share(ret, count, whole);
	strbuf_printf(ret, "%s\n", text);
}

static void refused_line(const struct profile_stats *s, struct strbuf *ret)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < NUM_OF(s->refused_by) && s->refused_by[i].name; i++)
		sum = count_add(sum, s->refused_by[i].count);
	if (!sum)
		return;
	strbuf_str(ret, "not opened: ");
	counted(ret, sum, "file");
	by_name(ret, s->refused_by, NUM_OF(s->refused_by));
	strbuf_char(ret, '\n');
}

static void files_line(const struct profile_stats *s, struct strbuf *ret)
{
	if (!s->unresolved_files)
		return;
	strbuf_str(ret, "files: ");
	counted(ret, s->unresolved_files, "mapped file");
	strbuf_str(ret, " could not be read");
	if (s->unresolved_samples) {
		strbuf_str(ret, ", ");
		counted(ret, s->unresolved_samples, "sample");
		share(ret, s->unresolved_samples, s->samples);
		strbuf_str(ret, s->unresolved_samples == 1 ? " goes" : " go");
		strbuf_str(ret, s->unresolved_files == 1 ? " through it" : " through them");
	}
	strbuf_str(ret, ": no names and no call-frame information from there\n");
}

void quality_lines(const struct profile_stats *s, struct strbuf *ret)
{
	summary(s, ret);
	plain_line(ret, "throttled", s->throttled, "time", 0,
		   ": the kernel paused sampling, a lower --freq avoids it");
	plain_line(ret, "idle", s->idle, "sample", s->samples, " of the idle task");
	plain_line(ret, "kernel only", s->kernel_only, "sample", s->samples, " without a user stack");
	truncated_line(s, ret);
	broken_line(s, ret);
	plain_line(ret, "spliced", s->spliced, "stack", s->user_stacks,
		   " continued by the kernel's frame-pointer chain");
	plain_line(ret, "switched", s->switched, "stack", s->user_stacks,
		   " of Go's own code that go on on a goroutine's stack, to which nothing leads");
	frame_lines(s, ret);
	plain_line(ret, "method starts", s->no_method_starts, "sample", 0,
		   " through managed code whose start is not known, by frame pointer: callers may be missing");
	files_line(s, ret);
	refused_line(s, ret);
	plain_line(ret, "side-band", s->side_lost, "record", 0,
		   s->by_perf ? " lost: a process may lack its name or some of its mappings"
			      : " lost: what still ran was read again from /proc; what had ended may lack its name or some of its "
				"mappings");
	plain_line(ret, "malformed", s->malformed, "record", 0, " skipped");
	for (size_t i = 0; i < NUM_OF(s->notes) && s->notes[i]; i++) {
		strbuf_str(ret, "note: ");
		escape_line(ret, s->notes[i], strlen(s->notes[i]), MAX_LINE);
		strbuf_char(ret, '\n');
	}
}

void quality_title(const struct profile_stats *s, struct strbuf *ret)
{
	if (s->targets)
		escape_line(ret, s->targets, strlen(s->targets), MAX_TARGETS);
	if (s->event) {
		strbuf_str(ret, ret->len ? ": " : "");
		escape_line(ret, s->event, strlen(s->event), MAX_EVENT);
		if (s->freq)
			strbuf_printf(ret, " at %u Hz", s->freq);
	}
	if (s->wall_s > 0) {
		strbuf_str(ret, ret->len ? " for " : "");
		text_seconds(ret, s->wall_s);
		strbuf_str(ret, " s");
	}
}

static double part_of(uint64_t part, uint64_t whole)
{
	return whole ? (double)part / (double)whole : 0;
}

const char *quality_grade(const struct profile_stats *s)
{
	double lost = part_of(s->lost, count_add(s->samples, s->lost));
	double cut = part_of(count_add(s->truncated, s->broken), s->user_stacks);
	double unread = part_of(s->unresolved_samples, s->samples);
	double worst = lost > cut ? lost : cut;

	worst = worst > unread ? worst : unread;
	return worst <= 0.01 ? "good" : worst <= 0.05 ? "fair" : "poor";
}
