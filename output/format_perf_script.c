/*
 * What `perf script --no-inline -F +pid,+tid,+cpu,+time,+period,+event,+ip,+sym,+dso` of perf 7 prints (perf 6.1 writes
 * header fields closer together, and user addresses as offsets in their file): a header line, a line for each frame
 * from the leaf outwards, an empty line. Read by stackcollapse-perf.pl, speedscope, Firefox Profiler, FlameScope, PerfView.
 *
 * Where perf and we differ on purpose: control characters in names are '?', as a newline in a comm would forge a
 * header; a task that is just ending and has no id left (-1) gets that of its process or 0, as readers expect digits
 * (PerfView stops at anything else, without a word); callers in the kernel are named by their call, not by the
 * instruction behind it, which may be another function's. A space before a digit in a comm is '_', as readers take the
 * digits for the pid ("worker 3/4 [x]" ends PerfView); so is any in a comm that begins as perf's names for the
 * nameless do. Nor are there modules of brackets alone or of more than 255 bytes, which end it too.
 */
#include "output/format.h"

#include "base/escape.h"
#include "base/strbuf.h"
#include "output/profile.h"
#include "output/stacks.h"
#include "output/write_priv.h"

#include <inttypes.h>
#include <string.h>

enum {
	NAME_MAX_BYTES = 4096, /* of one name; longer ones are cut */
	MODULE_MAX_BYTES = 252, /* and the "..." of what was cut */
	FLUSH_BYTES = 65536,
};

struct script {
	const struct profile *profile;
	const struct profile_view *view;
	int event_width;
	struct strbuf text;
};

static const char *event_name(const struct profile *p, uint32_t event)
{
	if (event < p->events.len)
		return p->events.data[event];
	return p->stats.event ? p->stats.event : "[unknown]";
}

static int event_width(const struct profile *p)
{
	size_t ret = 0;

	for (size_t i = 0; i < p->events.len; i++) {
		size_t len = strlen(p->events.data[i]);

		ret = len > ret ? len : ret;
	}
	return (int)ret;
}

static void add_name(struct script *s, const char *name)
{
	escape_line(&s->text, name, strlen(name), NAME_MAX_BYTES);
}

static void add_comm(struct script *s, const char *comm)
{
	size_t start = s->text.len;
	char *text;

	add_name(s, comm);
	if (s->text.failed)
		return;
	text = s->text.data + start;
	for (size_t i = 0; text[i]; i++) {
		bool is_pid = text[i + 1] >= '0' && text[i + 1] <= '9';

		if (text[i] == ' ' && (is_pid || *text == ':' || *text == '-'))
			text[i] = '_';
	}
}

/* Of a file by its path, where that is not too long. */
static void add_module(struct script *s, const char *path)
{
	const char *slash = strrchr(path, '/');

	if (strlen(path) > MODULE_MAX_BYTES && slash && slash[1])
		path = slash + 1;
	if (!path[strspn(path, "[]()")])
		strbuf_str(&s->text, "[unknown]");
	else
		escape_line(&s->text, path, strlen(path), MODULE_MAX_BYTES);
}

static void add_header(struct script *s, const struct profile_sample *sample)
{
	const struct profile *p = s->profile;
	uint64_t us = sample->time_ns / 1000;
	const char *comm = sample->comm < p->comms.len ? p->comms.data[sample->comm] : NULL;
	pid_t pid = sample->pid < 0 ? 0 : sample->pid;

	if (comm && *comm)
		add_comm(s, comm);
	else /* as perf names a thread of which it knows no name; readers want something there */
		strbuf_printf(&s->text, ":%d", sample->tid < 0 ? pid : sample->tid);
	strbuf_printf(&s->text, " %7d/%-7d ", pid, sample->tid < 0 ? pid : sample->tid);
	if (sample->cpu != UINT32_MAX)
		strbuf_printf(&s->text, "[%03u] ", sample->cpu);
	strbuf_printf(&s->text, "%5" PRIu64 ".%06" PRIu64 ": %10" PRIu64 " %*s: \n", us / 1000000,
		      us % 1000000, sample->period, s->event_width, event_name(p, sample->event));
}

/* perf's names of the kernel, its modules, and of code that no file holds. */
static void add_dso(struct script *s, const struct profile_frame *frame, pid_t pid)
{
	switch (frame->kind) {
	case FRAME_KERNEL:
		if (!frame->module || !strcmp(frame->module, "[kernel]"))
			strbuf_str(&s->text, "[kernel.kallsyms]");
		else if (frame->module[0] == '[')
			add_name(s, frame->module);
		else
			strbuf_printf(&s->text, "[%s]", frame->module);
		return;
	case FRAME_JIT:
		if (frame->module && frame->module[0] != '[') /* an assembly, which PerfView shows as Assembly!Type::Method */
			add_name(s, frame->module);
		else
			strbuf_printf(&s->text, "/tmp/perf-%d.map", pid);
		return;
	case FRAME_NATIVE:
	case FRAME_INLINED:
	case FRAME_UNKNOWN:
	case FRAME_LABEL:
	case FRAME_MARK:
		if (frame->path || frame->module)
			add_module(s, frame->path ? frame->path : frame->module);
		else
			strbuf_str(&s->text, "[unknown]");
		return;
	}
}

/* A function that was inlined stands at the address of the frame it was inlined into, which comes behind it. */
static uint64_t frame_addr(const struct profile_frame *frame)
{
	return frame->addr ? frame->addr : frame->place;
}

/* Places of callers are inside the call; perf prints that of users, but return addresses of what the kernel walked. */
static uint64_t bytes_to_return(const struct profile_sample *sample, const struct profile_frame *frame,
				const struct profile_frame *callee)
{
	bool user = frame->kind != FRAME_KERNEL;

	if (!callee || (user && (callee->kind == FRAME_KERNEL || !sample->by_chain)))
		return 0;
	return 1;
}

static void add_frame(struct script *s, const struct profile_frame *frame, uint64_t behind, pid_t pid)
{
	strbuf_printf(&s->text, "\t%16" PRIx64 " ", frame_addr(frame) + behind);
	if (frame->name)
		add_name(s, frame->name);
	else
		strbuf_str(&s->text, "[unknown]");
	if (frame->kind == FRAME_INLINED) {
		strbuf_str(&s->text, " (inlined)\n");
		return;
	}
	if (frame->name)
		strbuf_printf(&s->text, "+0x%" PRIx64, frame->offset + behind);
	strbuf_str(&s->text, " (");
	add_dso(s, frame, pid);
	strbuf_str(&s->text, ")\n");
}

static void add_sample(struct script *s, const struct profile_sample *sample)
{
	const struct profile *p = s->profile;
	const struct profile_frame *callee = NULL;

	add_header(s, sample);
	for (uint32_t node = sample->node; node;) {
		const struct stacks_node *at = stacks_node(p->stacks, node);
		const struct profile_frame *frame = &p->frames.data[at->frame];

		node = at->parent;
		if (frame->kind == FRAME_LABEL || frame->kind == FRAME_MARK)
			continue;
		if (profile_frame_shown(frame, s->view))
			add_frame(s, frame, bytes_to_return(sample, frame, callee), sample->pid);
		/* What is inlined stands where the frame around it does. */
		if (frame->kind != FRAME_INLINED)
			callee = frame;
	}
	strbuf_char(&s->text, '\n');
}

static int write_samples(struct script *s, FILE *out, struct err *err)
{
	const struct profile *p = s->profile;
	int r = 0;

	for (size_t i = 0; i < p->samples.len && r == 0; i++) {
		add_sample(s, &p->samples.data[i]);
		if (s->text.len < FLUSH_BYTES && i + 1 < p->samples.len)
			continue;
		r = write_text(out, &s->text, err);
		strbuf_clear(&s->text);
	}
	return r < 0 ? r : write_end(out, err);
}

static int write_perf_script(const struct profile *profile, const struct profile_view *view, FILE *out,
			     struct err *err)
{
	struct script s = { .profile = profile, .view = view, .event_width = event_width(profile) };
	int r = write_samples(&s, out, err);

	strbuf_deinit(&s.text);
	return r;
}

static const char *const extensions[] = { ".data.txt", ".perf.txt", ".perf-script.txt", NULL };

const struct format format_perf_script = {
	.name = "perf-script",
	.description = "each sample as perf script prints it, for tools that read that",
	.extensions = extensions,
	.needs_samples = true,
	.needs_addresses = true,
	.tells_event = true,
	.write = write_perf_script,
};
