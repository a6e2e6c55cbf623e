#include "collector/perfdata_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * perf writes what it found in one ring after another, then FINISHED_ROUND, and starts over. Whatever is older than
 * the youngest record of one round should have been in its ring when the next began, and so have been written by that
 * one's end (tools/perf/util/ordered-events.c). A record takes its time before it is written, though, and an
 * interrupted writer may be late by more than a round, so one round more is waited for. Each ring's share is a sorted
 * run, and runs are merged: where there is one run only, as in recordings of one CPU, nothing is moved.
 */

enum { RELIEF_MIN = 64 }; /* sorting fewer records each time would cost more than it frees */

static void drop(struct entry *entry, struct block_pool *pool)
{
	block_put(pool, entry->block);
	entry->block = NULL;
}

void queue_deinit(struct queue *q, struct block_pool *pool)
{
	for (size_t i = q->at; i < q->list.len; i++)
		drop(&q->list.data[i], pool);
	for (size_t i = q->untimed_at; i < q->untimed.len; i++)
		drop(&q->untimed.data[i], pool);
	vec_deinit(&q->list);
	vec_deinit(&q->untimed);
	vec_deinit(&q->scratch);
	vec_deinit(&q->runs);
	q->at = q->ready = q->untimed_at = 0;
}

int queue_add(struct queue *q, const struct entry *entry)
{
	if (!(entry->time_ns ? vec_push(&q->list, *entry) : vec_push(&q->untimed, *entry)))
		return -ENOMEM;
	if (entry->time_ns > q->max_time)
		q->max_time = entry->time_ns;
	entry->block->refs++;
	return 0;
}

/* Sorted runs a and b of `from` into `to`; of equal times a's come first. */
static void merge(const struct entry *a, size_t num_a, const struct entry *b, size_t num_b,
		  struct entry *to)
{
	const struct entry *end_a = a + num_a, *end_b = b + num_b;

	while (a < end_a && b < end_b)
		*to++ = b->time_ns < a->time_ns ? *b++ : *a++;
	if (a < end_a)
		memcpy(to, a, (size_t)(end_a - a) * sizeof(*a));
	else if (b < end_b)
		memcpy(to, b, (size_t)(end_b - b) * sizeof(*b));
}

/* Starts of the sorted runs, and the end. */
static bool find_runs(struct queue *q)
{
	q->runs.len = 0;
	for (size_t i = 0; i < q->list.len; i++) {
		if (i && q->list.data[i].time_ns >= q->list.data[i - 1].time_ns)
			continue;
		if (!vec_push(&q->runs, i))
			return false;
	}
	return vec_push(&q->runs, q->list.len);
}

/* One pass: neighbouring runs merged in pairs, into scratch, which then changes places with the list. */
static void merge_pairs(struct queue *q)
{
	size_t num = q->runs.len - 1, kept = 0;
	typeof(q->list) swap;

	for (size_t i = 0; i < num; i += 2) {
		size_t start = q->runs.data[i], mid = q->runs.data[i + 1];
		size_t end = i + 2 <= num ? q->runs.data[i + 2] : mid;

		merge(q->list.data + start, mid - start, q->list.data + mid, end - mid,
		      q->scratch.data + start);
		q->runs.data[kept++] = start;
	}
	q->runs.data[kept++] = q->list.len;
	q->runs.len = kept;
	memcpy(&swap, &q->list, sizeof(swap));
	q->list.data = q->scratch.data;
	q->list.cap = q->scratch.cap;
	q->scratch.data = swap.data;
	q->scratch.cap = swap.cap;
}

static int sort(struct queue *q)
{
	if (q->at) {
		memmove(q->list.data, q->list.data + q->at,
			(q->list.len - q->at) * sizeof(*q->list.data));
		q->list.len -= q->at;
		q->ready -= q->at;
		q->at = 0;
	}
	if (!find_runs(q))
		return -ENOMEM;
	if (q->runs.len <= 2)
		return 0;
	if (!vec_reserve(&q->scratch, q->list.len))
		return -ENOMEM;
	while (q->runs.len > 2)
		merge_pairs(q);
	return 0;
}

/* All up to `time_ns` may go. */
static void release(struct queue *q, uint64_t time_ns)
{
	size_t low = q->ready, high = q->list.len;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (q->list.data[mid].time_ns <= time_ns)
			low = mid + 1;
		else
			high = mid;
	}
	q->ready = low;
}

int queue_finish_round(struct queue *q)
{
	int r = 0;

	if (q->list.len > q->at)
		r = sort(q);
	if (r < 0)
		return r;
	release(q, q->round_times[1]);
	q->round_times[1] = q->round_times[0];
	q->round_times[0] = q->max_time;
	return 0;
}

int queue_relieve(struct queue *q, size_t blocks)
{
	size_t waiting = q->list.len - q->ready;
	int r;

	if (waiting < RELIEF_MIN || (waiting < q->max_entries && blocks < BLOCKS_MAX))
		return 0;
	r = sort(q);
	if (r < 0)
		return r;
	q->ready += waiting / 2;
	return 0;
}

int queue_finish(struct queue *q)
{
	int r = q->list.len > q->at ? sort(q) : 0;

	q->ready = q->list.len;
	return r;
}

const struct entry *queue_peek(const struct queue *q)
{
	if (q->untimed_at < q->untimed.len)
		return &q->untimed.data[q->untimed_at];
	return q->at < q->ready ? &q->list.data[q->at] : NULL;
}

void queue_pop(struct queue *q, struct block_pool *pool)
{
	if (q->untimed_at < q->untimed.len) {
		drop(&q->untimed.data[q->untimed_at++], pool);
		if (q->untimed_at == q->untimed.len)
			q->untimed_at = q->untimed.len = 0;
		return;
	}
	drop(&q->list.data[q->at++], pool);
	if (q->at == q->list.len)
		q->at = q->ready = q->list.len = 0;
}
