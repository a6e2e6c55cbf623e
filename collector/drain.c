/* From rings to the sink: one time order, each record once. */
#include "collector/collector_priv.h"

#include "base/clock.h"
#include "base/err.h"

#include <errno.h>

static pid_t owner_of(const struct collector *c, pid_t tid)
{
	const struct owner_slot *slot = owner_table_find(&c->owners, tid);

	return slot ? slot->owner : -1;
}

/* True when the thread's records come from another attached thread's events than this one's. */
static bool foreign_event(const struct collector *c, const struct record *rec, pid_t tid)
{
	const struct id_slot *id = id_table_find(&c->ids, rec->id);
	pid_t owner = owner_of(c, tid);

	return id && owner >= 0 && id->tid != owner;
}

/* A new thread is counted by what its parent is counted by. What was born while we attached may have its own events. */
static void follow_fork(struct collector *c, const struct record *rec)
{
	pid_t owner = owner_of(c, rec->task.ptid);
	struct owner_slot *slot;
	bool added;

	if (owner < 0)
		return;
	slot = owner_table_add(&c->owners, rec->tid, &added);
	if (!slot)
		return;
	if (!added && (!c->enabled || rec->time_ns < c->enabled_ns))
		return;
	slot->tid = rec->tid;
	slot->owner = owner;
}

/* True when this record was also written by the event that counts, and must not be handed out again. */
static bool is_duplicate(struct collector *c, const struct record *rec)
{
	switch (rec->type) {
	case RECORD_FORK:
		if (foreign_event(c, rec, rec->task.ptid))
			return true;
		follow_fork(c, rec);
		return false;
	case RECORD_EXIT:
		if (foreign_event(c, rec, rec->tid))
			return true;
		owner_table_remove(&c->owners, rec->tid);
		return false;
	case RECORD_COMM:
		/* A name may be set by another thread, whose events then tell it. Telling it twice does no harm. */
		return rec->comm.exec && foreign_event(c, rec, rec->tid);
	case RECORD_SAMPLE:
	case RECORD_MMAP:
	case RECORD_SWITCH:
		return foreign_event(c, rec, rec->tid);
	case RECORD_KSYMBOL:
	case RECORD_LOST:
	case RECORD_THROTTLE:
	case RECORD_UNTHROTTLE:
	case RECORD_OTHER:
		return false;
	}
	return false;
}

static void count_lost(struct collector *c, const struct record *rec, bool side)
{
	uint64_t *sum = side ? &c->counts.side_lost : &c->counts.lost_records;

	if (__builtin_add_overflow(*sum, rec->lost.count, sum))
		*sum = UINT64_MAX;
}

static void hand_out(struct collector *c, struct record *rec, bool side)
{
	if (rec->time_ns < c->last_ns)
		c->counts.disorder++;
	else
		c->last_ns = rec->time_ns;
	if (rec->type == RECORD_LOST) {
		rec->lost.side = side;
		count_lost(c, rec, side);
	}
	c->counts.throttled += rec->type == RECORD_THROTTLE;
	c->counts.samples += rec->type == RECORD_SAMPLE;
	c->sink->record(c->sink->data, rec);
}

/*
 * The kernel tells of a loss with the next record that it writes there, which may be long after. So a ring that was found
 * full is told of behind what it held.
 */
static void tell_gap(struct collector *c)
{
	const struct record rec = {
		.type = RECORD_LOST,
		.raw_type = PERF_RECORD_LOST,
		.time_ns = c->last_ns,
		.cpu = UINT32_MAX,
		.pid = -1,
		.tid = -1,
		.lost = { .side = true },
	};

	c->sink->record(c->sink->data, &rec);
}

static bool ends_before_gap(struct ring *ring, size_t size)
{
	if (!ring->full_at || ring->tail + size < ring->full_at)
		return false;
	ring->full_at = 0;
	return true;
}

static void deliver(void *data, size_t source, const void *bytes, size_t size)
{
	struct collector *c = data;
	bool side = source < c->num_side_rings;
	bool gap = side && ends_before_gap(c->rings.data[source], size);
	struct record rec;

	if (record_decode(&c->format, bytes, size, &rec) < 0)
		c->counts.malformed++;
	else if (c->ids.len && is_duplicate(c, &rec))
		c->counts.duplicates += rec.type == RECORD_SAMPLE;
	else
		hand_out(c, &rec, side);
	if (gap)
		tell_gap(c);
}

/* A CPU that is gone for good has none. */
static void gather_kind(struct collector *c, enum stream_kind kind)
{
	for (size_t i = 0; i < c->slots.len; i++) {
		struct ring *ring = &c->slots.data[i].streams[kind].ring;

		if (ring->page)
			c->rings.data[c->rings.len++] = ring;
	}
}

static int gather_rings(struct collector *c, struct err *err)
{
	c->rings.len = 0;
	if (!vec_reserve(&c->rings, 2 * c->slots.len) ||
	    order_reserve(&c->order, 2 * c->slots.len) < 0)
		return err_oom(err);
	gather_kind(c, STREAM_SIDE);
	c->num_side_rings = c->rings.len;
	gather_kind(c, STREAM_SAMPLES);
	return 0;
}

/* Takes all heads; true when any ring holds something. */
static bool snapshot(struct collector *c)
{
	bool ret = false;

	for (size_t i = 0; i < c->rings.len; i++) {
		struct ring *ring = c->rings.data[i];

		ring_snapshot(ring);
		ret |= ring->head != ring->tail;
		/* No record of the side-band is longer: one has a path of up to PATH_MAX. */
		if (i < c->num_side_rings && ring_room(ring) < ring->size / 8)
			ring->full_at = ring->head;
	}
	return ret;
}

/*
 * The time up to which all rings are complete once this returns. Without a way to interrupt the CPUs, the time of the
 * last drain has to do: no handler runs that long.
 */
static uint64_t prove(struct collector *c)
{
	uint64_t before = c->proven_ns;

	c->proven_ns = clock_monotonic_ns();
	return barrier_pass(c) ? c->proven_ns : before;
}

int collector_drain(struct collector *c, const struct collector_sink *sink, bool all,
		    struct err *err)
{
	uint64_t until_ns = UINT64_MAX;
	int r = gather_rings(c, err);

	if (r < 0)
		return r;
	/* An empty look spares idle CPUs the interrupt. */
	if (!snapshot(c))
		return 0;
	if (!all) {
		until_ns = prove(c);
		snapshot(c);
	}
	c->sink = sink;
	c->counts.malformed += order_merge(&c->order, c->rings.data, c->rings.len, &c->format,
					   until_ns, deliver, c);
	c->sink = NULL;
	return 0;
}
