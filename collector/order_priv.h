/* The merge of several rings into one time order. */
#pragma once

#include "collector/record.h"
#include "collector/ring_priv.h"

struct order_slot {
	uint64_t time_ns;
	size_t source; /* index into the rings given to order_merge */
	uint16_t size;
};

/* A binary heap with the next record of each ring. Zeroed = empty. */
struct order {
	struct order_slot *heap;
	size_t num, cap;
	void *bounce; /* for the one record that is being handed out */
};

/* One record: `source` is the index of its ring, `bytes` is borrowed until return. */
typedef void order_each(void *data, size_t source, const void *bytes, size_t size);

/* Room for `num_rings`; may be called again with more. 0 or -ENOMEM. */
int order_reserve(struct order *o, size_t num_rings);
void order_deinit(struct order *o);

/*
 * Hands out what the rings' snapshots hold up to the time `until_ns`, oldest first; at equal times the ring that
 * stands first in `rings` goes first. Records of one ring keep their order, whatever their times say. Returns the
 * number of times a ring had to be emptied because a record's size could not be true.
 */
uint64_t order_merge(struct order *o, struct ring *const *rings, size_t num_rings,
		     const struct record_format *format, uint64_t until_ns, order_each *each,
		     void *data);
