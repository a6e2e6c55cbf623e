#include "collector/perfdata_priv.h"

#include "base/cleanup.h"
#include "base/intern.h"
#include "collector/perfdata_chain.h"
#include "collector/record_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void perfdata_close(struct perfdata *p)
{
	if (!p)
		return;
	queue_deinit(&p->queue, &p->pool);
	window_deinit(&p->pool, &p->in.window);
	window_deinit(&p->pool, &p->plain);
	perfdata_pack_end(p);
	zstd_stream_free(p->zstd);
	block_pool_deinit(&p->pool);
	events_deinit(&p->own_events);
	intern_free(p->strings);
	free(p->runtimes);
	free(p->build_ids);
	free(p->whole);
	closep(&p->in.fd);
	free(p);
}

static void perfdata_closep(struct perfdata **p)
{
	perfdata_close(*p);
}

static int perfdata_new(int fd, struct perfdata **ret, struct err *err)
{
	_cleanup_close_ int guard = fd;
	struct perfdata *p;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(err, errno, "cannot tell what it is: %s", strerror(errno));
	if (S_ISDIR(st.st_mode))
		return err_set(err, EISDIR, "it is a directory");
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_oom(err);
	p->in = (struct input){
		.fd = steal_fd(&guard),
		.seekable = S_ISREG(st.st_mode),
		.limit = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : UINT64_MAX,
		.read_ahead = 4096,
	};
	p->events = &p->own_events;
	p->queue.max_entries = ENTRIES_MAX;
	*ret = p;
	return 0;
}

/* Events move when their list grows. */
static void refresh_info(struct perfdata *p)
{
	p->info.events = p->events->list.data;
	p->info.num_events = p->events->list.len;
	p->info.has_clockid = p->events->has_clockid;
	p->info.clockid = p->events->clockid;
}

int perfdata_open(int fd, struct perfdata **ret, struct err *err)
{
	_cleanup_(perfdata_closep) struct perfdata *p = NULL;
	int r = perfdata_new(fd, &p, err);

	if (r < 0)
		return r;
	p->strings = intern_new();
	p->whole = calloc(1, RECORD_MAX);
	if (!p->strings || !p->whole)
		return err_oom(err);
	if (p->in.seekable) {
		r = perfdata_read_header(p, err);
		if (r < 0)
			return r;
	}
	refresh_info(p);
	*ret = steal_ptr(p);
	return 0;
}

int perfdata_open_part(int fd, struct perfdata *main, size_t num_parts, struct perfdata **ret,
		       struct err *err)
{
	_cleanup_(perfdata_closep) struct perfdata *p = NULL;
	int r = perfdata_new(fd, &p, err);

	if (r < 0)
		return r;
	p->whole = calloc(1, RECORD_MAX);
	p->strings = intern_new();
	if (!p->whole || !p->strings)
		return err_oom(err);
	p->events = main->events;
	p->is_part = true;
	/* `perf record --threads` writes a file per CPU, --threads=package and the like fewer. */
	p->queue.max_entries =
		num_parts >= main->info.num_cpus ? PART_ENTRIES_MAX : MIXED_ENTRIES_MAX;
	refresh_info(p);
	*ret = steal_ptr(p);
	return 0;
}

const struct perfdata_info *perfdata_info(const struct perfdata *p)
{
	return &p->info;
}

struct perfdata_counts perfdata_counts(const struct perfdata *p)
{
	return p->counts;
}

/* A record without a time, or with one perf takes for none, waits for nobody. */
static uint64_t time_of(const struct record_format *format, const struct raw *raw)
{
	size_t at = record_time_offset(format, raw->type, raw->size);
	uint64_t ret = 0;

	if (at)
		memcpy(&ret, raw->bytes + at, sizeof(ret));
	return ret == UINT64_MAX ? 0 : ret;
}

static int take_kernel(struct perfdata *p, const struct raw *raw, struct err *err)
{
	size_t avail = raw->stack_at ? raw->head_len : raw->size;
	struct entry entry;
	ptrdiff_t event;
	int r = events_settle(p->events, err);

	if (r < 0)
		return r;
	event = event_of(p->events, raw->type, raw->bytes, raw->size, avail);
	if (event < 0 || raw->size % 8) {
		p->counts.malformed++;
		return 0;
	}
	entry = (struct entry){
		.time_ns = time_of(&p->events->list.data[event].format, raw),
		.bytes = raw->bytes,
		.block = raw->block,
		.stack_at = raw->stack_at,
		.head_len = raw->head_len,
		.stack_len = raw->stack_len,
		.event = (uint32_t)event,
	};
	return queue_add(&p->queue, &entry) < 0 ? err_oom(err) : 0;
}

int perfdata_take(struct perfdata *p, const struct raw *raw, struct err *err)
{
	if (raw->type >= RECORD_FIRST_USER_TYPE)
		return perfdata_take_user(p, raw, err);
	if (!raw->type || raw->type > RECORD_CALLCHAIN_DEFERRED) {
		p->counts.unknown++;
		return 0;
	}
	return take_kernel(p, raw, err);
}

/* One record, or one block of decompressed ones: 1, 0 at the end, or an error. */
static int step(struct perfdata *p, struct err *err)
{
	struct raw raw;
	int r;

	if (!p->started) {
		p->started = true;
		r = p->in.seekable || p->is_part ? 0 : perfdata_read_pipe_header(p, err);
		if (r < 0)
			return r;
	}
	r = perfdata_unpack(p, err);
	if (r == 0) {
		r = input_next(p, &raw, err);
		if (r > 0 && perfdata_take(p, &raw, err) < 0)
			r = -err->code;
	}
	refresh_info(p);
	if (r > 0 && queue_relieve(&p->queue, p->pool.num_used) < 0)
		r = err_oom(err);
	return r;
}

/* The next record in this input's order; NULL when it has ended. */
static const struct entry *next_entry(struct perfdata *p)
{
	for (;;) {
		const struct entry *ret = queue_peek(&p->queue);

		if (ret || p->ended)
			return ret;
		if (step(p, &p->failure) > 0)
			continue;
		p->ended = true;
		p->info.unfinished |= p->plain.begin != p->plain.end;
		if (queue_finish(&p->queue) < 0)
			err_oom(&p->failure);
	}
}

enum { STACK_STEP_BYTES = 4096 };

/* Into its place, of which `rest->here` bytes are there. */
static size_t fetch_stack(struct stack_rest *rest, size_t bytes)
{
	struct partial_stack *s = (struct partial_stack *)rest;
	size_t upto = rest->here + STACK_STEP_BYTES;

	if (bytes <= rest->here)
		return rest->here;
	if (upto < bytes)
		upto = bytes;
	if (upto > s->bytes)
		upto = s->bytes;
	if (input_read_at(&s->p->in, s->to + rest->here, upto - rest->here, s->at + rest->here) > 0)
		rest->here = upto;
	else
		s->p->info.unfinished = true;
	return rest->here;
}

/* Reads what lies behind the used part, if it may be a chain; whoever looks for that needs nothing of what is before it. */
static bool fetch_chain(struct perfdata *p, uint64_t used, uint64_t size)
{
	uint64_t behind = size - used;

	if (behind < CHAIN_HEAD_WORDS * sizeof(uint64_t) || behind > CHAIN_MAX_BYTES)
		return true;
	return input_read_at(&p->in, p->partial.to + used, behind, p->partial.at + used) > 0;
}

/*
 * Where the dump was left out while scanning, the record is put together now, with as much of the dump's used part as the
 * sink asks for. What else is in the place of the dump was there before, and is no part of the sample.
 */
static const uint8_t *whole_record(struct perfdata *p, const struct entry *entry, size_t size)
{
	const uint8_t *tail = entry->bytes + entry->head_len + entry->stack_len;
	struct partial_stack *s = &p->partial;
	uint64_t stack_size, used;

	s->bytes = s->rest.here = 0;
	if (!entry->stack_at)
		return entry->bytes;
	memcpy(&stack_size, entry->bytes + entry->head_len - sizeof(stack_size), sizeof(stack_size));
	memcpy(&used, tail, sizeof(used));
	if (used > stack_size)
		return NULL;
	*s = (struct partial_stack){
		.rest = { .here = used < entry->stack_len ? used : entry->stack_len, .fetch = fetch_stack },
		.p = p,
		.to = p->whole + entry->head_len,
		.at = entry->stack_at,
		.bytes = used,
	};
	memcpy(p->whole, entry->bytes, entry->head_len + s->rest.here);
	if (!fetch_chain(p, used, stack_size) ||
	    (!p->sink->takes_rests && fetch_stack(&s->rest, used) < used)) {
		p->info.unfinished = true;
		return NULL;
	}
	memcpy(s->to + stack_size, tail, size - entry->head_len - stack_size);
	return p->whole;
}

/* LOST_SAMPLES: header, u64 number. */
static void count(struct perfdata *p, const struct record *record, const struct perfdata_event *event,
		  const uint8_t *bytes, size_t size)
{
	bool side = event->type == PERF_TYPE_SOFTWARE && event->config == PERF_COUNT_SW_DUMMY;
	uint64_t lost;

	p->counts.records++;
	if (record->type == RECORD_SAMPLE)
		p->counts.samples++;
	else if (record->type == RECORD_LOST && side)
		p->counts.lost_side += record->lost.count;
	else if (record->type == RECORD_LOST)
		p->counts.lost += record->lost.count;
	else if (record->type == RECORD_THROTTLE)
		p->counts.throttled++;
	if (record->raw_type == PERF_RECORD_LOST_SAMPLES &&
	    size >= sizeof(struct perf_event_header) + sizeof(lost)) {
		memcpy(&lost, bytes + sizeof(struct perf_event_header), sizeof(lost));
		p->counts.lost_samples += lost;
	}
}

/*
 * Of a group whose leader alone is sampled ("{a,b}:S" of perf): a sample of each event that has counted since the last, as
 * evlist__deliver_sample of tools/perf/util/session.c makes them.
 */
static void deliver_group(struct perfdata *p, struct record *record, const struct perfdata_sink *sink)
{
	const struct record_sample *s = &record->sample;

	/* No group has more than there are events. */
	for (size_t i = 0; i < s->num_group && i < p->events->list.len; i++) {
		const uint64_t *words = s->group + i * s->group_words;
		struct record of_event = *record;
		ptrdiff_t event;

		of_event.id = words[1];
		event = event_counted(p->events, words[1], record->tid, words[0], &of_event.sample.period);
		if (event >= 0)
			sink->record(sink->data, &of_event, (size_t)event);
	}
}

struct run {
	const struct perfdata_sink *sink;
	uint64_t newest; /* the time of the youngest record so far, of all inputs */
	struct deferred deferred;
};

static void hand_out(struct run *run, struct perfdata *p, struct record *record, uint32_t event)
{
	if (record->type == RECORD_SAMPLE && record->sample.group)
		deliver_group(p, record, run->sink);
	else
		run->sink->record(run->sink->data, record, record->type == RECORD_SAMPLE ? event : 0);
}

/* With that chain if it is meant, else without: the record that had it was lost, or the task did not come back. */
static void hand_out_deferred(struct run *run, const struct deferred_sample *held, uint64_t cookie,
			      const struct record_sample *chain)
{
	const struct record_format *format = &held->p->events->list.data[held->event].format;
	struct record record;
	struct record_sample *s = &record.sample;

	if (record_decode(format, held->bytes, held->size, &record) < 0)
		return; /* it was decoded before */
	if (chain && cookie == held->cookie) {
		s->num_user_chain = record_user_chain(chain, &s->user_chain);
	} else {
		s->chain_missing = true;
		s->user_chain = &s->ip;
		s->num_user_chain = s->mode == MODE_USER;
	}
	hand_out(run, held->p, &record, held->event);
}

static void let_go(struct run *run, struct deferred_sample *held, uint64_t cookie, const struct record_sample *chain)
{
	struct deferred_sample *next;

	for (; held; held = next) {
		hand_out_deferred(run, held, cookie, chain);
		next = held->next;
		free(held);
	}
}

/* True: it waits for its chain. What ends the stay in the kernel, or the program, ends the waiting. */
static bool defer(struct run *run, struct perfdata *p, const struct record *record, const uint8_t *bytes, size_t size,
		  uint32_t event)
{
	struct record_sample chain;
	uint64_t cookie;

	if (record->type == RECORD_SAMPLE) {
		if (deferred_is_full(&run->deferred))
			let_go(run, deferred_take_all(&run->deferred), 0, NULL);
		return deferred_hold(&run->deferred, p, record, bytes, size, event);
	}
	if (record->raw_type == RECORD_CALLCHAIN_DEFERRED && !deferred_chain(bytes, size, &cookie, &chain))
		p->counts.malformed++;
	else if (record->raw_type == RECORD_CALLCHAIN_DEFERRED)
		let_go(run, deferred_take(&run->deferred, record->tid), cookie, &chain);
	else if (record->type == RECORD_EXIT || (record->type == RECORD_COMM && record->comm.exec))
		let_go(run, deferred_take(&run->deferred, record->tid), 0, NULL);
	return false;
}

static void deliver(struct run *run, struct perfdata *p, const struct entry *entry)
{
	const struct record_format *format = &p->events->list.data[entry->event].format;
	struct perf_event_header header;
	const uint8_t *bytes;
	struct record record;

	memcpy(&header, entry->bytes, sizeof(header));
	bytes = whole_record(p, entry, header.size);
	if (!bytes || record_decode(format, bytes, header.size, &record) < 0) {
		p->counts.malformed++;
		return;
	}
	if (record.type == RECORD_SAMPLE) {
		chain_find(&record, p->user_chain);
		if (p->partial.rest.here < p->partial.bytes)
			record.sample.rest = &p->partial.rest;
	}
	count(p, &record, &p->events->list.data[entry->event], bytes, header.size);
	if (entry->time_ns && entry->time_ns < run->newest)
		p->counts.disorder++;
	else if (entry->time_ns)
		run->newest = entry->time_ns;
	if (!defer(run, p, &record, bytes, header.size, entry->event))
		hand_out(run, p, &record, entry->event);
}

/* ---- several inputs: a heap by the time of each one's next record, and by their order where that is equal ---- */

struct slot {
	struct perfdata *p;
	uint64_t time_ns;
	size_t place;
};

struct merge {
	struct slot *heap;
	size_t num;
};

static bool slot_before(const struct slot *a, const struct slot *b)
{
	return a->time_ns != b->time_ns ? a->time_ns < b->time_ns : a->place < b->place;
}

static void sift_down(struct merge *m, size_t at)
{
	for (;;) {
		size_t first = at;
		struct slot swap;

		for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < m->num; child++) {
			if (slot_before(&m->heap[child], &m->heap[first]))
				first = child;
		}
		if (first == at)
			return;
		swap = m->heap[at];
		m->heap[at] = m->heap[first];
		m->heap[first] = swap;
		at = first;
	}
}

/* Looks again at what the input on top has next, and lets it find its place; one that ended leaves. */
static void settle_top(struct merge *m)
{
	const struct entry *entry = next_entry(m->heap[0].p);

	if (entry)
		m->heap[0].time_ns = entry->time_ns;
	else
		m->heap[0] = m->heap[--m->num];
	sift_down(m, 0);
}

static void run_merged(struct merge *m, const struct perfdata_sink *sink)
{
	struct run run = { .sink = sink };

	for (size_t i = m->num; i-- > 0;)
		sift_down(m, i);
	while (m->num) {
		struct perfdata *p = m->heap[0].p;

		deliver(&run, p, queue_peek(&p->queue));
		queue_pop(&p->queue, &p->pool);
		settle_top(m);
	}
	let_go(&run, deferred_take_all(&run.deferred), 0, NULL);
}

/* Each input's first record; in the order given, as the main file describes the events of the parts. */
static void merge_begin(struct merge *m, struct perfdata *const *inputs, size_t num)
{
	for (size_t i = 0; i < num; i++) {
		const struct entry *entry = next_entry(inputs[i]);

		if (entry)
			m->heap[m->num++] = (struct slot){ .p = inputs[i],
							   .time_ns = entry->time_ns,
							   .place = i };
	}
}

static int first_failure(struct perfdata *const *inputs, size_t num, struct err *err)
{
	for (size_t i = 0; i < num; i++) {
		if (inputs[i]->failure.code)
			return err_set(err, inputs[i]->failure.code, "%s", inputs[i]->failure.msg);
	}
	return 0;
}

int perfdata_run(struct perfdata *const *inputs, size_t num_inputs,
		 const struct perfdata_sink *sink, struct err *err)
{
	_cleanup_free_ struct slot *heap = calloc(num_inputs ? num_inputs : 1, sizeof(*heap));
	struct merge m = { .heap = heap };

	if (!heap)
		return err_oom(err);
	for (size_t i = 0; i < num_inputs; i++) {
		inputs[i]->sink = sink;
		perfdata_emit_build_ids(inputs[i]->build_ids, inputs[i]->build_ids_size, sink);
	}
	merge_begin(&m, inputs, num_inputs);
	run_merged(&m, sink);
	return first_failure(inputs, num_inputs, err);
}
