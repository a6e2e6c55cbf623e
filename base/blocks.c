#include "base/blocks.h"

enum { FIRST_LEN = 4 };

/* Room for the pointer to one more block, of which there are so many: doubled when that is a power of two. */
static bool reserve_pointer(void ***data, size_t num)
{
	void **grown;

	if (num & (num - 1))
		return true;
	grown = realloc(*data, (num ? 2 * num : 1) * sizeof(*grown));
	if (!grown)
		return false;
	*data = grown;
	return true;
}

/* The first block is one that grows. */
static bool grow_first(void ***data, size_t *cap, size_t elem_size)
{
	size_t len = *cap ? 2 * *cap : FIRST_LEN;
	void *grown;

	if (!*cap && !reserve_pointer(data, 0))
		return false;
	grown = realloc(*cap ? (*data)[0] : NULL, len * elem_size);
	if (!grown)
		return false;
	(*data)[0] = grown;
	*cap = len;
	return true;
}

bool blocks_reserve_(void ***data, size_t *cap, size_t elem_size)
{
	return *cap < BLOCK_LEN ? grow_first(data, cap, elem_size) : blocks_reserve_block_(data, cap, elem_size);
}

bool blocks_reserve_block_(void ***data, size_t *cap, size_t elem_size)
{
	size_t num = *cap / BLOCK_LEN;
	void *block;

	if (!reserve_pointer(data, num))
		return false;
	block = malloc(BLOCK_LEN * elem_size);
	if (!block)
		return false;
	(*data)[num] = block;
	*cap += BLOCK_LEN;
	return true;
}

void blocks_free_(void **data, size_t cap)
{
	size_t num = (cap + BLOCK_LEN - 1) / BLOCK_LEN;

	for (size_t i = 0; i < num; i++)
		free(data[i]);
	free(data);
}
