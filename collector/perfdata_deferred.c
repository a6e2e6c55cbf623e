#include "collector/perfdata_priv.h"

#include "base/reader.h"

#include <stdlib.h>
#include <string.h>

enum { HELD_BYTES_MAX = 32 << 20 };

bool deferred_hold(struct deferred *d, struct perfdata *p, const struct record *rec, const uint8_t *bytes, size_t size,
		   uint32_t event)
{
	struct deferred_sample *sample;
	struct deferred_task *task;
	uint64_t cookie;

	/* One with a copy of the stack is walked by that. */
	if (rec->sample.stack || !record_deferred_chain(&rec->sample, &cookie))
		return false;
	sample = malloc(sizeof(*sample) + size);
	task = sample ? deferred_tasks_add(&d->tasks, rec->tid, NULL) : NULL;
	if (!task) {
		free(sample);
		return false;
	}
	*sample = (struct deferred_sample){ .p = p, .cookie = cookie, .event = event, .size = (uint32_t)size };
	memcpy(sample->bytes, bytes, size);
	task->tid = rec->tid;
	if (task->last)
		task->last->next = sample;
	else
		task->first = sample;
	task->last = sample;
	d->bytes += sizeof(*sample) + size;
	return true;
}

struct deferred_sample *deferred_take(struct deferred *d, pid_t tid)
{
	struct deferred_task *task = deferred_tasks_find(&d->tasks, tid);
	struct deferred_sample *ret = task ? task->first : NULL;

	for (const struct deferred_sample *s = ret; s; s = s->next)
		d->bytes -= sizeof(*s) + s->size;
	if (task)
		deferred_tasks_remove(&d->tasks, tid);
	return ret;
}

struct deferred_sample *deferred_take_all(struct deferred *d)
{
	struct deferred_sample *ret = NULL;
	const struct deferred_task *task;
	size_t cursor = 0;

	while ((task = deferred_tasks_next(&d->tasks, &cursor))) {
		task->last->next = ret;
		ret = task->first;
	}
	deferred_tasks_deinit(&d->tasks);
	*d = (struct deferred){ 0 };
	return ret;
}

bool deferred_is_full(const struct deferred *d)
{
	return d->bytes > HELD_BYTES_MAX;
}

bool deferred_chain(const uint8_t *bytes, size_t size, uint64_t *ret_cookie, struct record_sample *ret)
{
	struct reader r = reader_init(bytes, size);
	uint64_t num;

	reader_bytes(&r, sizeof(struct perf_event_header));
	*ret_cookie = reader_u64(&r);
	num = reader_u64(&r);
	if (r.failed || num > reader_left(&r) / sizeof(uint64_t))
		return false;
	*ret = (struct record_sample){ .chain = reader_bytes(&r, num * sizeof(uint64_t)), .num_chain = (size_t)num };
	return true;
}
