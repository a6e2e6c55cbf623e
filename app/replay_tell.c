/* What a folded recording says of itself: its events, what was lost or damaged, where it was made. */
#include "app/replay_priv.h"

#include "base/cleanup.h"
#include "base/escape.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "output/profile.h"

#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MAX_NOTE_BYTES = 380 };

static void add_note(struct profile *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add_note(struct profile *p, const char *fmt, ...)
{
	size_t num = sizeof(p->stats.notes) / sizeof(p->stats.notes[0]);
	char text[MAX_NOTE_BYTES];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	for (size_t i = 0; i + 1 < num; i++) {
		if (!p->stats.notes[i]) {
			p->stats.notes[i] = intern_str(p->strings, text);
			return;
		}
	}
}

/* "cycles" or "cycles, branches"; of those that count or of the others, with how many samples they have. */
static void list_events(const struct replay *r, bool wanted, bool counts, struct strbuf *ret)
{
	const struct perfdata_info *info = replay_info(r);
	size_t num = 0;

	for (size_t i = 0; i < r->events.len && i < info->num_events; i++) {
		const struct event_state *state = &r->events.data[i];

		if (!state->samples || state->wanted != wanted)
			continue;
		if (num++ == MAX_TOLD_EVENTS) {
			strbuf_str(ret, ", ...");
			return;
		}
		if (num > 1)
			strbuf_str(ret, ", ");
		escape_line(ret, info->events[i].name, strlen(info->events[i].name), 60);
		if (counts)
			strbuf_printf(ret, " (%" PRIu64 ")", state->samples);
	}
}

static const struct perfdata_event *first_wanted(const struct replay *r)
{
	const struct perfdata_info *info = replay_info(r);

	for (size_t i = 0; i < info->num_events; i++) {
		if (replay_wants_event(r, i))
			return &info->events[i];
	}
	return info->num_events ? replay_default_event(r) : NULL;
}

/* The event the numbers are of. */
static const struct perfdata_event *main_event(const struct replay *r)
{
	const struct perfdata_info *info = replay_info(r);

	for (size_t i = 0; i < r->events.len && i < info->num_events; i++) {
		if (r->events.data[i].wanted && r->events.data[i].samples)
			return &info->events[i];
	}
	return first_wanted(r);
}

/* By its command line; what tells none is a stream, as perf's. */
static bool is_by_perf(const struct perfdata_info *info)
{
	const char *end = info->cmdline ? strchrnul(info->cmdline, ' ') : NULL;
	const char *slash = end ? memrchr(info->cmdline, '/', (size_t)(end - info->cmdline)) : NULL;

	return !info->cmdline || strncmp(slash ? slash + 1 : info->cmdline, "ringfold", 8) != 0;
}

static void note_events(const struct replay *r, struct profile *p)
{
	const struct perfdata_event *event = main_event(r);
	_cleanup_(strbuf_deinit) struct strbuf wanted = { 0 }, others = { 0 };

	list_events(r, true, false, &wanted);
	list_events(r, false, true, &others);
	p->stats.event = wanted.len ? intern_str(p->strings, wanted.data)
				    : event ? event->name : NULL;
	if (others.len)
		add_note(p, "only samples of %s count here; there are others: %s; -e chooses",
			 p->stats.event ? p->stats.event : "no event", others.data);
	if (!event)
		return;
	p->stats.stack_bytes = (uint32_t)event->stack_bytes;
	p->stats.freq = event->freq ? (uint32_t)event->freq_or_period : 0;
	p->stats.by_perf = is_by_perf(replay_info(r));
	if (!(event->format.sample_type & (PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_STACK_USER)))
		add_note(p, "recorded without call graphs, so every stack is one frame: record with "
			    "--call-graph dwarf");
	else if (!(event->format.sample_type & PERF_SAMPLE_STACK_USER) && p->stats.broken)
		add_note(p, "recorded by frame pointers: stacks end where code keeps none, as libc does around "
			    "main: record with%s to have all of them",
			 p->stats.by_perf ? " --call-graph dwarf" : "out --unwinder fp");
	else if (r->opts.session.method == UNWIND_FP && !event->user_chain)
		add_note(p, "the recording holds copies of stacks and no frame-pointer chains of "
			    "user space: leave --unwinder fp out");
}

static void note_reading(const struct replay *r, struct profile *p)
{
	struct perfdata_counts sum = { 0 };
	bool unfinished = false;

	for (size_t i = 0; i < r->num_inputs; i++) {
		struct perfdata_counts c = perfdata_counts(r->inputs[i]);

		sum.lost += c.lost;
		sum.lost_side += c.lost_side;
		sum.lost_samples += c.lost_samples;
		sum.malformed += c.malformed;
		sum.throttled += c.throttled;
		sum.disorder += c.disorder;
		sum.unknown += c.unknown;
		unfinished |= perfdata_info(r->inputs[i])->unfinished;
	}
	if (is_by_perf(replay_info(r)))
		sum.lost += sum.lost_side;
	else
		p->stats.side_lost = sum.lost_side;
	/* The same losses, told by the ring and by the event's own counter. */
	p->stats.lost = sum.lost > sum.lost_samples ? sum.lost : sum.lost_samples;
	p->stats.malformed = sum.malformed;
	p->stats.throttled = sum.throttled;
	if (r->damage.code)
		add_note(p, "the recording is damaged, and read up to there: %s", r->damage.msg);
	else if (unfinished)
		add_note(p, "the recording was not finished (its writer was killed, or the disk was full): "
			    "read to its last whole record");
	if (sum.disorder)
		add_note(p, "%" PRIu64 " records came after younger ones: stacks near them may be wrong",
			 sum.disorder);
	if (sum.unknown)
		add_note(p, "%" PRIu64 " records of kinds that are not known here were left out",
			 sum.unknown);
}

static void note_origin(const struct replay *r, struct profile *p)
{
	const struct perfdata_info *info = replay_info(r);
	const char *note = offline_note(r->offline);
	int64_t unused;

	if (note)
		add_note(p, "%s", note);
	if (!r->end_ns && p->stats.unresolved_files)
		add_note(p, "nothing tells how old a file is that comes through a pipe, so files that it tells no "
			    "build-id of are not believed: give its name");
	if (replay_origin(r, &unused) == OFFLINE_ELSEWHERE) {
		_cleanup_(strbuf_deinit) struct strbuf host = { 0 };

		escape_line(&host, info->hostname, strlen(info->hostname), 64);
		add_note(p, "recorded on another machine (%s): only files of the same build-id are used",
			 host.len ? host.data : "?");
	}
}

static bool copy_event_names(const struct replay *r, struct profile *p)
{
	const struct perfdata_info *info = replay_info(r);

	for (size_t i = 0; i < info->num_events; i++) {
		const char *name = intern_str(p->strings, info->events[i].name);

		if (!name || !vec_push(&p->events, name))
			return false;
	}
	return true;
}

bool replay_tell(const struct replay *r, struct profile *p)
{
	if (!copy_event_names(r, p))
		return false;
	note_reading(r, p);
	note_events(r, p);
	note_origin(r, p);
	return true;
}
