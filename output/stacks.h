/*
 * Stacks with counts, as a tree from the root. A node is a frame below its caller. Adding a stack seen before
 * is one hash look-up and a walk to the root; a new one costs a look-up per frame. Memory grows with the
 * number of nodes (about 40 bytes each), never with counts. At most 2^31 - 1 nodes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stacks;

struct stacks *stacks_new(void); /* NULL when out of memory */
void stacks_free(struct stacks *s); /* NULL is fine */

/*
 * A stack, leaf first (the last element is the first below the root). False when out of memory: then it was
 * not counted. A stack of no frames, or a count of 0, is nothing and leaves everything as it is. Counts
 * saturate.
 */
bool stacks_add(struct stacks *s, const uint32_t *leaf_first, size_t num, uint64_t count);

/* The same; *ret_node is the node where the stack ends, 0 when it has no frames. */
bool stacks_add_node(struct stacks *s, const uint32_t *leaf_first, size_t num, uint64_t count,
		     uint32_t *ret_node);

/*
 * Every stack of `from`, its frames replaced by map(data, frame) (FRAME 0 = leave the frame out). Asked once
 * per node, parents first. What is left of a stack without any frame is not counted. When memory runs out
 * (false), `into` may hold a part of `from`.
 */
bool stacks_merge(struct stacks *into, const struct stacks *from,
		  uint32_t (*map)(void *data, uint32_t frame), void *data);

/* The same; became[i] is what node i of `from` became: room for stacks_num_nodes(from) + 1. */
bool stacks_merge_nodes(struct stacks *into, const struct stacks *from,
			uint32_t (*map)(void *data, uint32_t frame), void *data, uint32_t *became);

/*
 * The same where a frame becomes several, of which expand() names the innermost and, until it says 0, what each
 * lies in.
 */
struct stacks_expansion {
	uint32_t (*expand)(void *data, uint32_t frame); /* the innermost frame, 0 = leave it out */
	/* Of a frame made so: what it lies in, 0 = nothing more. NULL: none lies in another. */
	uint32_t (*around)(void *data, uint32_t frame);
	void *data;
};
bool stacks_merge_expanded(struct stacks *into, const struct stacks *from,
			   const struct stacks_expansion *expansion, uint32_t *became);

/*
 * Every frame replaced by map(data, frame), which gives no two the same and none 0: the nodes keep their numbers. Asked once
 * per node, parents first. False when memory is out: `s` can only be freed then.
 */
bool stacks_relabel(struct stacks *s, uint32_t (*map)(void *data, uint32_t frame), void *data);

/* Nodes are 1..n in an order where a parent comes before its children. */
struct stacks_node {
	uint32_t frame;
	uint32_t parent; /* 0 = the root */
	uint64_t self;   /* samples that end here */
};
size_t stacks_num_nodes(const struct stacks *s);
/* Borrowed until the next add or merge. Node 0 is the root, with nothing in it. */
const struct stacks_node *stacks_node(const struct stacks *s, uint32_t index);
size_t stacks_distinct(const struct stacks *s); /* nodes with self > 0 */
uint64_t stacks_total(const struct stacks *s);
