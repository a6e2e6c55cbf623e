/*
 * Typed growable array in blocks: where a vector is moved to a place twice as large, this one gets another block, so it has
 * no more memory than it needs, and what lies in a full block never moves. The first block grows like a vector, so that
 * many small ones are cheap.
 *
 *	BLOCKS(struct node) nodes = { 0 };
 *	if (!blocks_push(&nodes, node)) return err_oom(err);
 *	struct node *last = blocks_at(&nodes, nodes.len - 1);
 *	blocks_deinit(&nodes);
 *
 * Elements of one block are neighbours in memory: i and i + 1, if (i + 1) % BLOCK_LEN is not 0.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

enum { BLOCK_BITS = 12, BLOCK_LEN = 1 << BLOCK_BITS };

#define BLOCKS(type)         \
	struct {             \
		type **data; \
		size_t len;  \
		size_t cap;  \
	}

/* Pointer to element i < len; good until the next push while len is less than BLOCK_LEN, then for ever. */
#define blocks_at(b, i) (&(b)->data[(size_t)(i) >> BLOCK_BITS][(size_t)(i) & (BLOCK_LEN - 1)])

/* Room for one more; false when memory is out (the array stays as it was). */
#define blocks_reserve(b)             \
	((b)->len < (b)->cap ||       \
	 blocks_reserve_((void ***)&(b)->data, &(b)->cap, sizeof(**(b)->data)))

/* Before the first element: a whole block, so that no element ever moves. */
#define blocks_reserve_block(b) blocks_reserve_block_((void ***)&(b)->data, &(b)->cap, sizeof(**(b)->data))

#define blocks_push(b, value) \
	(blocks_reserve(b) ? ((b)->len++, *blocks_at(b, (b)->len - 1) = (value), true) : false)

#define blocks_deinit(b) \
	(blocks_free_((void **)(b)->data, (b)->cap), (b)->data = NULL, (b)->len = (b)->cap = 0)

bool blocks_reserve_block_(void ***data, size_t *cap, size_t elem_size);
bool blocks_reserve_(void ***data, size_t *cap, size_t elem_size);
void blocks_free_(void **data, size_t cap);
