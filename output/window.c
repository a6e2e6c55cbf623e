#include "output/window.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/intern.h"
#include "base/vec.h"
#include "output/profile.h"
#include "output/stacks.h"

#include <stdlib.h>
#include <string.h>

struct frame_slot {
	struct profile_frame frame;
	uint32_t index;
};
static inline uint64_t frame_hash(const struct profile_frame *f)
{
	return hash_two((uintptr_t)f->name ^ (uint64_t)f->kind << 56, (uintptr_t)f->path + f->place + f->addr);
}
HTAB(frame_tab, struct frame_slot, const struct profile_frame *, frame_hash(key),
     slot->frame.name == key->name && slot->frame.module == key->module && slot->frame.path == key->path &&
	     slot->frame.place == key->place && slot->frame.addr == key->addr && slot->frame.kind == key->kind &&
	     slot->frame.runtime == key->runtime,
     frame_hash(&slot->frame));

struct adding {
	struct profile *into;
	const struct profile *from;
	struct frame_tab frames;  /* of `into` */
	uint32_t *frame_of;       /* by index in from->frames; 0 = not yet */
	uint32_t *comm_of;        /* by index in from->comms: index + 1 */
	uint32_t *event_of;       /* likewise, as is the next */
	uint32_t *place_of;
	VEC(uint32_t) stack;      /* leaf first */
	bool failed;
};

static const char *own(struct adding *a, const char *text)
{
	const char *copy = text ? intern_str(a->into->strings, text) : NULL;

	a->failed |= text && !copy;
	return copy;
}

static uint32_t find_or_add(struct adding *a, const struct profile_frame *frame)
{
	struct frame_slot *slot;
	bool added;

	slot = frame_tab_add(&a->frames, frame, &added);
	if (slot && !added)
		return slot->index;
	if (!slot || !vec_push(&a->into->frames, *frame)) {
		a->failed = true;
		return 0;
	}
	*slot = (struct frame_slot){ *frame, (uint32_t)(a->into->frames.len - 1) };
	return slot->index;
}

static uint32_t map_frame(struct adding *a, uint32_t index)
{
	struct profile_frame frame;

	if (a->frame_of[index])
		return a->frame_of[index];
	frame = a->from->frames.data[index];
	frame.name = own(a, frame.name);
	frame.module = own(a, frame.module);
	frame.path = own(a, frame.path);
	frame.build_id = own(a, frame.build_id);
	return a->frame_of[index] = find_or_add(a, &frame);
}

/* Index in a list of texts of `into`; their number is small. */
static uint32_t text_index(struct adding *a, const char *text, const char ***list, size_t *len, size_t *cap)
{
	struct { const char **data; size_t len, cap; } v = { *list, *len, *cap };
	const char *copy = own(a, text);

	for (size_t i = 0; i < v.len; i++) {
		if (v.data[i] == copy)
			return (uint32_t)i;
	}
	if (!vec_push(&v, copy))
		a->failed = true;
	*list = v.data;
	*len = v.len;
	*cap = v.cap;
	return v.len ? (uint32_t)(v.len - 1) : 0;
}

static uint32_t map_text(struct adding *a, uint32_t *map, uint32_t index, const char *text, const char ***list,
			 size_t *len, size_t *cap)
{
	if (!map[index])
		map[index] = text_index(a, text, list, len, cap) + 1;
	return map[index] - 1;
}

static void count_class(struct profile_stats *stats, const struct profile_sample *sample)
{
	stats->samples++;
	stats->no_method_starts += sample->no_method_start;
	stats->user_stacks += sample->class >= SAMPLE_COMPLETE;
	switch (sample->class) {
	case SAMPLE_IDLE:
		stats->idle++;
		break;
	case SAMPLE_KERNEL_ONLY:
		stats->kernel_only++;
		break;
	case SAMPLE_COMPLETE:
		stats->complete++;
		break;
	case SAMPLE_TRUNCATED:
		stats->truncated++;
		break;
	case SAMPLE_BROKEN:
		stats->broken++;
		for (struct profile_count *c = stats->broken_by;
		     c + 1 < stats->broken_by + sizeof(stats->broken_by) / sizeof(*c); c++) {
			if (c->name && strcmp(c->name, sample->reason ? sample->reason : "unknown"))
				continue;
			c->name = sample->reason ? sample->reason : "unknown";
			c->count++;
			break;
		}
		break;
	}
}

static void count_frame(struct profile_stats *stats, const struct profile_frame *frame)
{
	profile_count_runtime(stats, frame, 1);
	switch (frame->kind) {
	case FRAME_KERNEL:
		stats->kernel_frames++;
		break;
	case FRAME_JIT:
		stats->frames++;
		stats->jit_frames++;
		stats->jit_named += frame->name != NULL;
		break;
	case FRAME_UNKNOWN:
		stats->frames++;
		stats->unknown_frames++;
		break;
	case FRAME_NATIVE:
		stats->frames++;
		break;
	case FRAME_LABEL:
	case FRAME_INLINED:
	case FRAME_MARK:
		break;
	}
}

static bool add_sample(struct adding *a, const struct profile_sample *sample)
{
	struct profile_sample copy = *sample;
	struct profile *p = a->into;
	const struct profile *from = a->from;

	a->stack.len = 0;
	for (uint32_t node = sample->node; node; node = stacks_node(from->stacks, node)->parent) {
		uint32_t frame = map_frame(a, stacks_node(from->stacks, node)->frame);

		if (a->failed || !vec_push(&a->stack, frame))
			return false;
		count_frame(&p->stats, &p->frames.data[frame]);
	}
	if (!stacks_add_node(p->stacks, a->stack.data, a->stack.len, 1, &copy.node))
		return false;
	if (sample->comm < from->comms.len)
		copy.comm = map_text(a, a->comm_of, sample->comm, from->comms.data[sample->comm], &p->comms.data,
				     &p->comms.len, &p->comms.cap);
	if (sample->process < from->comms.len)
		copy.process = map_text(a, a->comm_of, sample->process, from->comms.data[sample->process], &p->comms.data,
					&p->comms.len, &p->comms.cap);
	if (sample->event < from->events.len)
		copy.event = map_text(a, a->event_of, sample->event, from->events.data[sample->event],
				      &p->events.data, &p->events.len, &p->events.cap);
	if (sample->place < from->places.len)
		copy.place = map_text(a, a->place_of, sample->place, from->places.data[sample->place], &p->places.data,
				      &p->places.len, &p->places.cap);
	count_class(&p->stats, sample);
	return !a->failed && vec_push(&p->samples, copy);
}

static bool start(struct adding *a)
{
	a->frame_of = calloc(a->from->frames.len + 1, sizeof(uint32_t));
	a->comm_of = calloc(a->from->comms.len + 1, sizeof(uint32_t));
	a->event_of = calloc(a->from->events.len + 1, sizeof(uint32_t));
	a->place_of = calloc(a->from->places.len + 1, sizeof(uint32_t));
	if (!a->frame_of || !a->comm_of || !a->event_of || !a->place_of)
		return false;
	for (size_t i = 1; i < a->into->frames.len; i++) {
		struct frame_slot *slot = frame_tab_add(&a->frames, &a->into->frames.data[i], NULL);

		if (!slot)
			return false;
		*slot = (struct frame_slot){ a->into->frames.data[i], (uint32_t)i };
	}
	return true;
}

int profile_add_window(struct profile *into, const struct profile *from, uint64_t from_ns, uint64_t to_ns,
		       struct err *err)
{
	struct adding a = { .into = into, .from = from };
	bool ok = start(&a);

	for (size_t i = 0; ok && i < from->samples.len; i++) {
		const struct profile_sample *sample = &from->samples.data[i];

		if (sample->time_ns >= from_ns && sample->time_ns < to_ns)
			ok = add_sample(&a, sample);
	}
	into->stats.distinct_stacks = stacks_distinct(into->stacks);
	frame_tab_deinit(&a.frames);
	free(a.frame_of);
	free(a.comm_of);
	free(a.event_of);
	free(a.place_of);
	vec_deinit(&a.stack);
	return ok ? 0 : err_oom(err);
}
