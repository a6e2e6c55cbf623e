#include "collector/order_priv.h"

#include "collector/record_priv.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int order_reserve(struct order *o, size_t num_rings)
{
	struct order_slot *heap;

	if (!o->bounce)
		o->bounce = aligned_alloc(64, RING_BOUNCE_BYTES);
	if (!o->bounce)
		return -ENOMEM;
	if (num_rings <= o->cap)
		return 0;
	heap = reallocarray(o->heap, num_rings, sizeof(*heap));
	if (!heap)
		return -ENOMEM;
	o->heap = heap;
	o->cap = num_rings;
	return 0;
}

void order_deinit(struct order *o)
{
	free(o->heap);
	free(o->bounce);
	memset(o, 0, sizeof(*o));
}

static bool slot_before(const struct order_slot *a, const struct order_slot *b)
{
	if (a->time_ns != b->time_ns)
		return a->time_ns < b->time_ns;
	return a->source < b->source;
}

/* Lets heap[at] sink until no child is older. */
static void sift_down(struct order *o, size_t at)
{
	struct order_slot moving = o->heap[at];

	for (;;) {
		size_t child = 2 * at + 1;

		if (child >= o->num)
			break;
		if (child + 1 < o->num && slot_before(&o->heap[child + 1], &o->heap[child]))
			child++;
		if (!slot_before(&o->heap[child], &moving))
			break;
		o->heap[at] = o->heap[child];
		at = child;
	}
	o->heap[at] = moving;
}

/* The next record of a ring: only its header and its time are looked at. False when there is none. */
static bool next_slot(struct ring *ring, size_t source, const struct record_format *format,
		      struct order_slot *ret, uint64_t *broken)
{
	struct perf_event_header header;
	size_t at;
	int r = ring_peek(ring, &header);

	if (r < 0) {
		ring_discard(ring);
		(*broken)++;
	}
	if (r <= 0)
		return false;
	at = record_time_offset(format, header.type, header.size);
	*ret = (struct order_slot){
		.time_ns = at ? ring_word(ring, at) : 0,
		.source = source,
		.size = header.size,
	};
	return true;
}

uint64_t order_merge(struct order *o, struct ring *const *rings, size_t num_rings,
		     const struct record_format *format, uint64_t until_ns, order_each *each,
		     void *data)
{
	uint64_t broken = 0;

	o->num = 0;
	for (size_t i = 0; i < num_rings && i < o->cap; i++)
		o->num += next_slot(rings[i], i, format, &o->heap[o->num], &broken);
	for (size_t i = o->num / 2; i-- > 0;)
		sift_down(o, i);
	while (o->num && o->heap[0].time_ns <= until_ns) {
		struct order_slot top = o->heap[0];
		struct ring *ring = rings[top.source];

		ring_expect(ring, top.size);
		each(data, top.source, ring_record(ring, top.size, o->bounce), top.size);
		ring_advance(ring, top.size);
		if (!next_slot(ring, top.source, format, &o->heap[0], &broken))
			o->heap[0] = o->heap[--o->num];
		if (o->num)
			sift_down(o, 0);
	}
	for (size_t i = 0; i < num_rings; i++)
		ring_release(rings[i]);
	return broken;
}
