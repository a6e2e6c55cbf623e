#include "runtimes/r2r_native.h"

#include <string.h>

static bool holds(const struct native *n, uint32_t at, uint32_t size)
{
	return at <= n->size && size <= n->size - at;
}

/* How many bytes a number takes that begins so: as many as its low bits that are set, and one. */
static uint32_t packed_bytes(uint8_t first)
{
	uint32_t bytes = 1;

	while (bytes < 5 && first >> (bytes - 1) & 1)
		bytes++;
	return bytes;
}

/* Not shifted yet where it is of less than 5 bytes. */
static bool packed(const struct native *n, uint32_t *at, uint32_t *ret, uint32_t *ret_bytes)
{
	uint32_t bytes, value = 0;

	if (!holds(n, *at, 1))
		return false;
	bytes = packed_bytes(n->bytes[*at]);
	if (!holds(n, *at, bytes))
		return false;
	if (bytes == 5)
		memcpy(&value, n->bytes + *at + 1, 4);
	for (uint32_t i = 0; i < bytes && bytes < 5; i++)
		value |= (uint32_t)n->bytes[*at + i] << (8 * i);
	*at += bytes;
	*ret = value;
	*ret_bytes = bytes;
	return true;
}

bool native_unsigned(const struct native *n, uint32_t *at, uint32_t *ret)
{
	uint32_t bytes;

	if (!packed(n, at, ret, &bytes))
		return false;
	if (bytes < 5)
		*ret >>= bytes;
	return true;
}

static bool native_signed(const struct native *n, uint32_t *at, int32_t *ret)
{
	uint32_t bytes, value;

	if (!packed(n, at, &value, &bytes))
		return false;
	/* Its sign is the highest bit that it has. */
	if (bytes < 5)
		*ret = (int32_t)(value << (32 - 8 * bytes)) >> (32 - 8 * bytes + bytes);
	else
		*ret = (int32_t)value;
	return true;
}

/* 1 << log2 bytes at `at`; log2 of a header's two low bits. */
static bool cell(const struct native *n, uint64_t at, uint8_t bytes, uint32_t *ret)
{
	uint32_t value = 0;

	if (at > n->size || !holds(n, (uint32_t)at, bytes))
		return false;
	memcpy(&value, n->bytes + at, bytes);
	*ret = value;
	return true;
}

bool native_array_open(const struct native *in, struct native_array *ret)
{
	struct native_array a = { .in = *in };
	uint32_t header;

	if (!native_unsigned(in, &a.base, &header) || (header & 3) == 3)
		return false;
	a.num = header >> 2;
	a.cell_bytes = (uint8_t)(1 << (header & 3));
	*ret = a;
	return true;
}

/* 16 elements share a cell, which leads to a binary tree of those of them that there are. */
bool native_array_at(const struct native_array *a, uint32_t i, uint32_t *ret)
{
	uint32_t at, next, value;

	if (i >= a->num || !cell(&a->in, a->base + (uint64_t)(i / 16) * a->cell_bytes, a->cell_bytes, &at) ||
	    __builtin_add_overflow(at, a->base, &at))
		return false;
	for (uint32_t bit = 8; bit; bit >>= 1) {
		next = at;
		if (!native_unsigned(&a->in, &next, &value))
			return false;
		if ((i & bit) && value & 2) {
			if (__builtin_add_overflow(at, value >> 2, &at))
				return false;
		} else if (!(i & bit) && value & 1) {
			at = next;
		} else if (!(value & 3) && value >> 2 == (i & 15)) {
			at = next; /* the only one of this branch */
			break;
		} else {
			return false;
		}
	}
	*ret = at;
	return true;
}

bool native_table_open(const struct native *in, struct native_table *ret)
{
	struct native_table t = { .in = *in };
	uint32_t num, first, last;
	uint8_t bytes;

	if (!in->size || in->bytes[0] >> 2 > 31 || (in->bytes[0] & 3) == 3)
		return false;
	num = 1u << (in->bytes[0] >> 2);
	bytes = (uint8_t)(1 << (in->bytes[0] & 3));
	if (!cell(in, 1, bytes, &first) || !cell(in, 1 + (uint64_t)num * bytes, bytes, &last) ||
	    last > in->size - 1 || first > last)
		return false;
	t.at = 1 + first;
	t.end = 1 + last;
	*ret = t;
	return true;
}

bool native_table_next(struct native_table *t, uint32_t *ret)
{
	uint32_t from = t->at + 1; /* behind the low byte of the hash */
	uint32_t next = from;
	int32_t delta;

	if (t->at >= t->end || !native_signed(&t->in, &next, &delta))
		return false;
	t->at = next;
	*ret = from + (uint32_t)delta; /* wherever it leads is checked when it is read */
	return true;
}
