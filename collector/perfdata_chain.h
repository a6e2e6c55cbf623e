/*
 * The kernel's frame-pointer chain of user space in a perf.data that has a copy of the stack as well. perf shows both when
 * it finds both, so the chain is not where it belongs: it lies in the dump behind what the kernel filled, which nobody
 * looks at, as it is whatever was in the ring before. Only samples whose stack goes on by that chain have it:
 *
 *	u64 size | filled bytes, a multiple of 8 | u64 mark | u64 number | addresses ^ mark, leaf first | u64 filled
 *
 * The mark tells whether the copy was full. It is of the sample's own time, which nobody can know who wrote into a ring before.
 * samply 0.13.1 takes the whole dump for the stack and walks on there, so no word of this may look like a return address.
 */
#pragma once

#include "collector/record.h"

#include <stdbool.h>

enum {
	CHAIN_HEAD_WORDS = 2,
	CHAIN_MAX = 254, /* twice what the kernel takes by default (kernel.perf_event_max_stack) */
	CHAIN_MAX_BYTES = (CHAIN_HEAD_WORDS + CHAIN_MAX) * 8,
};

static inline uint64_t chain_mark(uint64_t time_ns, bool full)
{
	return time_ns ^ (full ? 0x6e69616878666c72 : 0x6e69616878736c72); /* "rlfxhain", "rlsxhain" */
}

/* Bytes that it takes behind the copy; 0 = it is not written. */
static inline size_t chain_bytes(const struct record_sample *s)
{
	bool fits = s->user_chain && s->num_user_chain <= CHAIN_MAX && s->stack && s->stack_bytes % 8 == 0;

	return fits ? (CHAIN_HEAD_WORDS + s->num_user_chain) * sizeof(uint64_t) : 0;
}

/* Finds it behind the copy of a decoded sample, whose bytes are all there. The record then points into `room`. */
static inline void chain_find(struct record *rec, uint64_t room[static CHAIN_MAX])
{
	struct record_sample *s = &rec->sample;
	size_t words = (s->stack_size - s->stack_bytes) / sizeof(uint64_t);
	const uint64_t *at;
	bool full;

	if (!s->stack || s->stack_bytes % 8 || words < CHAIN_HEAD_WORDS)
		return;
	at = (const uint64_t *)(const void *)(s->stack + s->stack_bytes);
	full = at[0] == chain_mark(rec->time_ns, true);
	if ((!full && at[0] != chain_mark(rec->time_ns, false)) || at[1] > CHAIN_MAX || at[1] != words - CHAIN_HEAD_WORDS)
		return;
	for (size_t i = 0; i < at[1]; i++)
		room[i] = at[CHAIN_HEAD_WORDS + i] ^ at[0];
	s->user_chain = room;
	s->num_user_chain = at[1];
	if (full)
		s->stack_size = s->stack_bytes;
}
