#include "app/progress.h"

#include "app/session.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/reader.h"
#include "base/strbuf.h"
#include "collector/collector.h"
#include "output/profile.h"
#include "output/quality.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { PLAIN_LINE_SECONDS = 10 };

void progress_start(const struct collector_info *info, const char *targets, const char *unwinder)
{
	char stacks[64] = "no user stacks", rate[32] = ""; /* none where events are counted */

	if (info->stack_bytes)
		snprintf(stacks, sizeof(stacks), "%u bytes of stack by %s", info->stack_bytes, unwinder);
	if (info->freq_hz)
		snprintf(rate, sizeof(rate), " at %u Hz", info->freq_hz);
	log_info(NULL, "%s, %s%s on %u CPU%s, %s; Ctrl-C stops and writes", targets, info->event, rate, info->num_cpus,
		 info->num_cpus == 1 ? "" : "s", stacks);
	log_debug(NULL, "rings of %" PRIu64 " KiB, %" PRIu64 " KiB in all", info->ring_bytes / 1024,
		  info->all_ring_bytes / 1024);
	for (size_t i = 0; i < sizeof(info->notes) / sizeof(info->notes[0]) && info->notes[i]; i++)
		log_warn(NULL, "%s", info->notes[i]);
}

void progress_text(const char *text)
{
	if (isatty(STDERR_FILENO))
		log_status(text);
}

void progress_tick(uint64_t elapsed_ns, uint64_t duration_ns, const struct session_progress *p,
		   const struct collector_counts *counts)
{
	uint64_t seconds = elapsed_ns / 1000000000u;
	double whole = p->user_stacks ? 100.0 * (double)p->complete / (double)p->user_stacks : 100.0;
	double cpu = elapsed_ns ? 100.0 * (double)clock_cpu_ns() / (double)elapsed_ns : 0.0;
	char left[40] = "", line[240];

	if (duration_ns > elapsed_ns)
		snprintf(left, sizeof(left), ", %" PRIu64 " left", (duration_ns - elapsed_ns + 500000000) / 1000000000u);
	snprintf(line, sizeof(line),
		 "%" PRIu64 " s%s  %" PRIu64 " samples (%" PRIu64 " idle)  %" PRIu64
		 " lost  %.1f %% whole stacks  own CPU %.1f %%",
		 seconds, left, p->samples, p->idle, counts->lost, whole, cpu);
	if (isatty(STDERR_FILENO))
		log_status(line);
	else if (seconds && seconds % PLAIN_LINE_SECONDS == 0)
		log_info(NULL, "%s", line);
}

void progress_end(const struct profile_stats *stats)
{
	_cleanup_(strbuf_deinit) struct strbuf lines = { 0 };
	struct reader r;
	const char *line;
	size_t len;

	quality_lines(stats, &lines);
	r = reader_init(lines.data, lines.len);
	while (reader_line(&r, &line, &len))
		log_info(NULL, "%.*s", (int)len, line);
}
