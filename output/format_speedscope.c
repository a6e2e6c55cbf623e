/*
 * speedscope's own file format (https://www.speedscope.app/file-format-schema.json): a timed profile for each thread and
 * event, the busiest first. All begin when the recording did: where a thread did not run stands an empty stack, so the
 * order of time shows when it was at work. A sample weighs what it stands for, 1 s / frequency; where the
 * frequency is not known, its period.
 */
#include "output/format.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/strbuf.h"
#include "output/count_priv.h"
#include "output/profile.h"
#include "output/stacks.h"
#include "output/tree_priv.h"
#include "output/write_priv.h"

#include <inttypes.h>
#include <string.h>

enum { FLUSH_BYTES = 65536, MAX_NAME = 4096 };

/* The samples of one thread and event: order[first] .. order[first + num - 1], in time order. */
struct thread {
	size_t first, num;
};

/* A stack and how long it lasted. Node 0 = nothing ran. */
struct span {
	uint32_t node;
	uint64_t weight;
};

struct speedscope {
	const struct profile *profile;
	struct tree tree;
	uint32_t *order; /* indices of samples, by event, process, thread, time */
	VEC(struct thread) threads;
	VEC(struct span) spans; /* of one thread */
	VEC(uint32_t) stack;
	uint64_t start_ns, sample_ns; /* 0 = weights are periods */
	FILE *out;
	struct strbuf text;
};

static void speedscope_deinit(struct speedscope *s)
{
	tree_deinit(&s->tree);
	free(s->order);
	vec_deinit(&s->threads);
	vec_deinit(&s->spans);
	vec_deinit(&s->stack);
	strbuf_deinit(&s->text);
}

static int flush(struct speedscope *s, bool all, struct err *err)
{
	int r = 0;

	if (all || s->text.len >= FLUSH_BYTES || s->text.failed) {
		r = write_text(s->out, &s->text, err);
		strbuf_clear(&s->text);
	}
	return r;
}

static int compare(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int same_thread(const struct profile_sample *a, const struct profile_sample *b)
{
	int r = compare(a->event, b->event);

	r = r ? r : compare((uint32_t)a->pid, (uint32_t)b->pid);
	return r ? r : compare((uint32_t)a->tid, (uint32_t)b->tid);
}

/* Samples are in time order already. */
static int by_thread(const void *a, const void *b, void *profile)
{
	uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
	const struct profile_sample *samples = ((const struct profile *)profile)->samples.data;
	int r = same_thread(&samples[i], &samples[j]);

	return r ? r : compare(i, j);
}

static int busiest_first(const void *a, const void *b)
{
	const struct thread *x = a, *y = b;

	return x->num != y->num ? compare(y->num, x->num) : compare(x->first, y->first);
}

static bool find_threads(struct speedscope *s)
{
	const struct profile *p = s->profile;

	s->order = calloc(p->samples.len + 1, sizeof(*s->order));
	if (!s->order || p->samples.len >= UINT32_MAX)
		return false;
	for (size_t i = 0; i < p->samples.len; i++)
		s->order[i] = (uint32_t)i;
	if (p->samples.len)
		qsort_r(s->order, p->samples.len, sizeof(*s->order), by_thread, (void *)p);
	for (size_t i = 0; i < p->samples.len; i++) {
		const struct profile_sample *sample = &p->samples.data[s->order[i]];

		if (!i || same_thread(sample, &p->samples.data[s->order[i - 1]])) {
			if (!vec_push(&s->threads, ((struct thread){ .first = i })))
				return false;
		}
		s->threads.data[s->threads.len - 1].num++;
	}
	if (s->threads.len)
		qsort(s->threads.data, s->threads.len, sizeof(s->threads.data[0]), busiest_first);
	return true;
}

static bool add_span(struct speedscope *s, uint32_t node, uint64_t weight)
{
	struct span *last = s->spans.len ? &s->spans.data[s->spans.len - 1] : NULL;
	struct span span = { node, weight };

	if (!weight)
		return true;
	if (last && last->node == node) {
		last->weight = count_add(last->weight, weight);
		return true;
	}
	return vec_push(&s->spans, span);
}

/*
 * A sample stands for the time that ended with it. Timers jitter: what is missing by less than half a sample is no
 * pause, and is made up for later.
 */
static bool find_spans(struct speedscope *s, const struct thread *thread, uint64_t *ret_end)
{
	uint64_t now = 0;

	s->spans.len = 0;
	for (size_t i = thread->first; i < thread->first + thread->num; i++) {
		const struct profile_sample *sample = &s->profile->samples.data[s->order[i]];
		uint64_t weight = s->sample_ns ? s->sample_ns : sample->period ? sample->period : 1;
		uint64_t began = sample->time_ns - s->start_ns; /* all began a sample before the first */

		if (s->sample_ns && began > now && began - now > s->sample_ns / 2) {
			if (!add_span(s, 0, began - now))
				return false;
			now = began;
		}
		if (!add_span(s, s->tree.became[sample->node], weight))
			return false;
		now = count_add(now, weight);
	}
	*ret_end = now;
	return true;
}

static void add_string(struct speedscope *s, const char *text)
{
	escape_json(&s->text, text, strlen(text));
}

static bool is_label(const struct speedscope *s, uint32_t node)
{
	return tree_frame(&s->tree, node)->kind == FRAME_LABEL;
}

/* Frames from the root on; labels are in the thread's name, unless there is nothing else. */
static bool add_stack(struct speedscope *s, uint32_t node)
{
	bool only_labels = node && is_label(s, node);

	s->stack.len = 0;
	for (; node; node = stacks_node(s->tree.stacks, node)->parent) {
		if (is_label(s, node) && !only_labels)
			break;
		if (!vec_push(&s->stack, stacks_node(s->tree.stacks, node)->frame - 1))
			return false;
	}
	strbuf_char(&s->text, '[');
	for (size_t i = s->stack.len; i > 0; i--)
		strbuf_printf(&s->text, "%u%s", s->stack.data[i - 1], i > 1 ? "," : "");
	strbuf_char(&s->text, ']');
	return true;
}

/* "worker 12/34": its labels, process and thread; the event too where there are several. */
static bool add_thread_name(struct speedscope *s, const struct profile_sample *sample)
{
	_cleanup_(strbuf_deinit) struct strbuf name = { 0 };
	const struct profile *p = s->profile;
	uint32_t node = s->tree.became[sample->node];

	s->stack.len = 0;
	for (; node; node = stacks_node(s->tree.stacks, node)->parent) {
		if (is_label(s, node) && !vec_push(&s->stack, node))
			return false;
	}
	for (size_t i = s->stack.len; i > 0; i--)
		strbuf_printf(&name, "%s ", tree_frame(&s->tree, s->stack.data[i - 1])->text);
	strbuf_printf(&name, "%d/%d", sample->pid, sample->tid);
	if (p->events.len > 1 && sample->event < p->events.len) {
		strbuf_char(&name, ' ');
		escape_line(&name, p->events.data[sample->event], strlen(p->events.data[sample->event]), MAX_NAME);
	}
	escape_json(&s->text, name.data ? name.data : "", name.len);
	return !name.failed;
}

static int write_thread(struct speedscope *s, const struct thread *thread, struct err *err)
{
	uint64_t end;
	int r = 0;

	if (!find_spans(s, thread, &end))
		return err_oom(err);
	strbuf_str(&s->text, "{\"type\":\"sampled\",\"name\":");
	if (!add_thread_name(s, &s->profile->samples.data[s->order[thread->first + thread->num - 1]]))
		return err_oom(err);
	strbuf_printf(&s->text, ",\"unit\":\"%s\",\"startValue\":0,\"endValue\":%" PRIu64 ",\n\"samples\":[",
		      s->sample_ns ? "nanoseconds" : "none", end);
	for (size_t i = 0; i < s->spans.len && r == 0; i++) {
		strbuf_str(&s->text, i ? "," : "");
		if (!add_stack(s, s->spans.data[i].node))
			return err_oom(err);
		r = flush(s, false, err);
	}
	strbuf_str(&s->text, "],\n\"weights\":[");
	for (size_t i = 0; i < s->spans.len && r == 0; i++) {
		strbuf_printf(&s->text, "%s%" PRIu64, i ? "," : "", s->spans.data[i].weight);
		r = flush(s, false, err);
	}
	strbuf_str(&s->text, "]}");
	return r;
}

static void add_frames(struct speedscope *s)
{
	const struct tree *tree = &s->tree;

	for (size_t i = 1; i < tree->frames.len; i++) {
		strbuf_str(&s->text, i > 1 ? ",\n{\"name\":" : "\n{\"name\":");
		add_string(s, tree->frames.data[i].text);
		if (*tree->frames.data[i].module) {
			strbuf_str(&s->text, ",\"file\":");
			add_string(s, tree->frames.data[i].module);
		}
		strbuf_char(&s->text, '}');
	}
}

static int write_all(struct speedscope *s, struct err *err)
{
	int r;

	strbuf_str(&s->text, "{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\n\"exporter\":\"ringfold\",");
	if (s->profile->stats.targets) {
		strbuf_str(&s->text, "\"name\":");
		add_string(s, s->profile->stats.targets);
		strbuf_char(&s->text, ',');
	}
	strbuf_str(&s->text, "\"activeProfileIndex\":0,\n\"shared\":{\"frames\":[");
	add_frames(s);
	strbuf_str(&s->text, "]},\n\"profiles\":[\n");
	r = flush(s, true, err);
	for (size_t i = 0; i < s->threads.len && r == 0; i++) {
		strbuf_str(&s->text, i ? ",\n" : "");
		r = write_thread(s, &s->threads.data[i], err);
	}
	strbuf_str(&s->text, "]}\n");
	r = r < 0 ? r : flush(s, true, err);
	return r < 0 ? r : write_end(s->out, err);
}

static int write_speedscope(const struct profile *profile, const struct profile_view *view, FILE *out, struct err *err)
{
	_cleanup_(speedscope_deinit) struct speedscope s = { .profile = profile, .out = out };
	int r = tree_init(&s.tree, profile, view, TREE_FOR_PICTURE, err);

	if (r < 0)
		return r;
	if (!find_threads(&s))
		return err_oom(err);
	if (profile->samples.len)
		s.start_ns = profile->samples.data[0].time_ns;
	if (profile->stats.freq)
		s.sample_ns = 1000000000u / profile->stats.freq;
	return write_all(&s, err);
}

static const char *const extensions[] = { ".speedscope.json", ".speedscope", NULL };

const struct format format_speedscope = {
	.name = "speedscope",
	.description = "a timed profile for each thread, for speedscope",
	.extensions = extensions,
	.needs_samples = true,
	.tells_event = true,
	.write = write_speedscope,
};
