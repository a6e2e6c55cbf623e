/*
 * TraceEvent (LinuxPerfScriptEventParser.cs, LinuxPerfScriptStackSource.cs of microsoft/perfview) reads lines of perf script
 * with rules of its own:
 * - a sample weighs the time to the next one of its CPU, whatever its period: so a CPU that was idle, or ran what is not
 *   recorded, needs a sample of the idle task there, and each CPU one at its end;
 * - a thread's process is called after all names in the headers of its pid: so that of the process stands there, not the
 *   thread's; digits with '/' or '[' in it would be taken for the pid;
 * - symbols and modules lose brackets around them, "+0x..." at their end and a number in brackets, and bytes are Latin-1;
 * - modules over 256 bytes, and empty ones, end the reading.
 */
#include "output/perfview.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "output/profile.h"
#include "output/stacks.h"
#include "output/write_priv.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { FLUSH_BYTES = 65536, MAX_MODULE = 200, MAX_SYMBOL = 1000, MAX_COMM = 40 };
static const uint32_t no_cpu = UINT32_MAX;

/* When a CPU began to do something else than what is recorded. */
struct gap {
	uint64_t time_ns;
	uint32_t cpu;
};

struct perfview {
	const struct profile *profile;
	const struct profile_view *view;
	uint64_t sample_ns;  /* between two samples of a busy CPU */
	VEC(struct gap) gaps;
	struct strbuf text;
	FILE *out;
};

/* --- idle time --- */

static uint64_t time_between(const struct profile *p)
{
	uint64_t sum = 0;

	if (p->stats.freq)
		return 1000000000 / p->stats.freq;
	/* Of clocks, periods are nanoseconds. */
	for (size_t i = 0; i < p->samples.len; i++)
		sum += p->samples.data[i].period / p->samples.len;
	return sum > 100000 && sum < 10000000000ull ? sum : 10000000;
}

static int by_time(const void *a, const void *b)
{
	const struct gap *x = a, *y = b;

	if (x->time_ns != y->time_ns)
		return x->time_ns < y->time_ns ? -1 : 1;
	return x->cpu < y->cpu ? -1 : x->cpu > y->cpu;
}

/* A period and a half without a sample is a gap; the last sample of each CPU is followed by one too. */
static bool find_gaps(struct perfview *v)
{
	const struct profile *p = v->profile;
	VEC(uint64_t) last = { 0 };
	bool ok = true;

	for (size_t i = 0; i < p->samples.len && ok; i++) {
		const struct profile_sample *sample = &p->samples.data[i];
		uint32_t cpu = sample->cpu == no_cpu ? 0 : sample->cpu;

		while (ok && last.len <= cpu)
			ok = vec_push(&last, 0);
		if (ok && last.data[cpu] && sample->time_ns > last.data[cpu] + v->sample_ns * 3 / 2)
			ok = vec_push(&v->gaps, ((struct gap){ last.data[cpu] + v->sample_ns, cpu }));
		if (ok)
			last.data[cpu] = sample->time_ns;
	}
	for (size_t cpu = 0; cpu < last.len && ok; cpu++) {
		if (last.data[cpu])
			ok = vec_push(&v->gaps, ((struct gap){ last.data[cpu] + v->sample_ns, (uint32_t)cpu }));
	}
	vec_deinit(&last);
	if (ok && v->gaps.len)
		qsort(v->gaps.data, v->gaps.len, sizeof(v->gaps.data[0]), by_time);
	return ok;
}

/* --- names --- */

static void add_comm(struct strbuf *out, const char *comm)
{
	size_t len = comm ? strlen(comm) : 0;

	if (!len)
		strbuf_char(out, '_');
	for (size_t i = 0; i < len && i < MAX_COMM; i++) {
		unsigned char c = (unsigned char)comm[i];
		bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || strchr("._+#@", c) ||
			     (i && (c == '-' || c == ':'));

		strbuf_char(out, plain && c ? (char)c : '_');
	}
}

static void add_ascii(struct strbuf *out, const char *text, size_t max)
{
	for (size_t i = 0; text[i] && i < max; i++) {
		unsigned char c = (unsigned char)text[i];

		strbuf_char(out, c < 0x20 || c > 0x7e ? '?' : (char)c);
	}
}

/* "(anonymous namespace)::f(int)" begins and ends with what would be taken off. */
static void add_symbol(struct strbuf *out, const char *name)
{
	static const char anonymous[] = "(anonymous namespace)";
	size_t start = out->len, len;
	char *text;

	if (!strncmp(name, anonymous, sizeof(anonymous) - 1)) {
		strbuf_str(out, "anonymous namespace");
		name += sizeof(anonymous) - 1;
	}
	add_ascii(out, name, MAX_SYMBOL);
	if (out->failed || out->len == start)
		return;
	text = out->data + start;
	len = out->len - start;
	if (text[0] == '(' || text[0] == '[')
		text[0] = '<';
	/* "foo[3]" would be read as foo of a tier. */
	if (text[len - 1] == ']') {
		size_t digits = len - 1;

		while (digits && text[digits - 1] >= '0' && text[digits - 1] <= '9')
			digits--;
		if (digits && text[digits - 1] == '[' && digits < len - 1)
			text[digits - 1] = '{', text[len - 1] = '}';
	}
	/* What stands behind the last "+0x" is cut. */
	if (strstr(text, "+0x"))
		strbuf_str(out, "+0x0");
}

static void add_module(struct strbuf *out, const char *module)
{
	size_t start = out->len;

	add_ascii(out, module, MAX_MODULE);
	for (size_t i = start; i < out->len; i++) {
		if (strchr("()[]/\\ ", out->data[i]))
			out->data[i] = '_';
	}
	if (out->len == start)
		strbuf_char(out, '_');
}

static const char *module_of(const struct profile_frame *frame)
{
	switch (frame->kind) {
	case FRAME_KERNEL:
		return !frame->module || frame->module[0] == '[' ? "vmlinux" : frame->module;
	case FRAME_JIT:
		return frame->module && frame->module[0] != '[' ? frame->module : "jit";
	case FRAME_NATIVE:
	case FRAME_INLINED:
	case FRAME_UNKNOWN:
	case FRAME_LABEL:
	case FRAME_MARK:
		break;
	}
	if (frame->module && !strcmp(frame->module, "[vdso]"))
		return "vdso";
	return frame->module ? frame->module : "unknown";
}

/* --- lines --- */

static void add_header(struct perfview *v, const char *comm, pid_t pid, pid_t tid, uint32_t cpu, uint64_t time_ns,
		       const char *event)
{
	add_comm(&v->text, comm);
	strbuf_printf(&v->text, " %d/%d [%03u] %" PRIu64 ".%06" PRIu64 ": 1 ", pid < 0 ? 0 : pid, tid < 0 ? 0 : tid, cpu,
		      time_ns / 1000000000, time_ns / 1000 % 1000000);
	add_comm(&v->text, event);
	strbuf_str(&v->text, ": \n");
}

static void add_frame(struct perfview *v, const struct profile_frame *frame)
{
	strbuf_printf(&v->text, "\t%" PRIx64 " ", frame->addr ? frame->addr : frame->place);
	if (frame->kind == FRAME_MARK)
		strbuf_printf(&v->text, "%s", frame->name && strstr(frame->name, "trunc") ? "truncated" : "broken");
	else if (frame->name)
		add_symbol(&v->text, frame->name);
	else
		strbuf_str(&v->text, "?");
	strbuf_str(&v->text, " (");
	add_module(&v->text, frame->kind == FRAME_MARK ? "ringfold" : module_of(frame));
	strbuf_str(&v->text, ")\n");
}

static const char *text_at(size_t num, const char *const *texts, uint32_t index)
{
	return index < num ? texts[index] : NULL;
}

static void add_sample(struct perfview *v, const struct profile_sample *sample)
{
	const struct profile *p = v->profile;
	const char *event = text_at(p->events.len, p->events.data, sample->event);

	add_header(v, text_at(p->comms.len, p->comms.data, sample->process), sample->pid, sample->tid,
		   sample->cpu == no_cpu ? 0 : sample->cpu, sample->time_ns, event ? event : p->stats.event);
	for (uint32_t node = sample->node; node; node = stacks_node(p->stacks, node)->parent) {
		const struct profile_frame *frame = &p->frames.data[stacks_node(p->stacks, node)->frame];

		if (frame->kind != FRAME_LABEL && profile_frame_shown(frame, v->view))
			add_frame(v, frame);
	}
	strbuf_char(&v->text, '\n');
}

static int flush(struct perfview *v, bool all, struct err *err)
{
	int r = 0;

	if (v->text.failed || v->text.len >= FLUSH_BYTES || (all && v->text.len)) {
		r = write_text(v->out, &v->text, err);
		strbuf_clear(&v->text);
	}
	return r;
}

static int write_all(struct perfview *v, struct err *err)
{
	const struct profile *p = v->profile;
	size_t gap = 0;
	int r = 0;

	for (size_t i = 0; i < p->samples.len + v->gaps.len && !r; i++) {
		size_t sample = i - gap;

		if (gap < v->gaps.len &&
		    (sample == p->samples.len || v->gaps.data[gap].time_ns < p->samples.data[sample].time_ns)) {
			add_header(v, "swapper", 0, 0, v->gaps.data[gap].cpu, v->gaps.data[gap].time_ns, p->stats.event);
			strbuf_char(&v->text, '\n');
			gap++;
		} else {
			add_sample(v, &p->samples.data[sample]);
		}
		r = flush(v, false, err);
	}
	return r < 0 ? r : flush(v, true, err);
}

int perfview_write(const struct profile *profile, const struct profile_view *view, FILE *out, struct err *err)
{
	struct perfview v = { .profile = profile, .view = view, .out = out, .sample_ns = time_between(profile) };
	int r = find_gaps(&v) ? write_all(&v, err) : err_oom(err);

	vec_deinit(&v.gaps);
	strbuf_deinit(&v.text);
	return r < 0 ? r : write_end(out, err);
}
