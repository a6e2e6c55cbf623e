/*
 * Cursor over untrusted bytes. A read past the end yields zero and latches
 * `failed`; parse a whole record, then check once. Borrows the buffer.
 * Integers are read in host byte order.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct reader {
	const uint8_t *pos;
	const uint8_t *end;
	bool failed;
};

static inline struct reader reader_init(const void *buf, size_t size)
{
	/* NULL (then size is 0) becomes an address, as arithmetic on NULL is undefined. */
	const uint8_t *bytes = buf ? buf : (const void *)"";

	return (struct reader){ .pos = bytes, .end = bytes + size };
}

static inline size_t reader_left(const struct reader *r)
{
	return (size_t)(r->end - r->pos);
}

/* The next `size` bytes, consumed; NULL (and failed) when fewer are left. */
static inline const void *reader_bytes(struct reader *r, size_t size)
{
	const uint8_t *ret = r->pos;

	if (r->failed || size > reader_left(r)) {
		r->failed = true;
		r->pos = r->end;
		return NULL;
	}
	r->pos += size;
	return ret;
}

#define READER_INT_(name, type)                                       \
	static inline type name(struct reader *r)                     \
	{                                                             \
		type value = 0;                                       \
		const void *bytes = reader_bytes(r, sizeof(value));   \
                                                                      \
		if (bytes)                                            \
			memcpy(&value, bytes, sizeof(value));         \
		return value;                                         \
	}
READER_INT_(reader_u8, uint8_t)
READER_INT_(reader_u16, uint16_t)
READER_INT_(reader_u32, uint32_t)
READER_INT_(reader_u64, uint64_t)
#undef READER_INT_

/* LEB128 (DWARF 5, 7.6). What does not fit 64 bits is cut off; nearly all are of one byte. */
uint64_t reader_uleb_long(struct reader *r);
static inline uint64_t reader_uleb(struct reader *r)
{
	if (!r->failed && r->pos < r->end && !(*r->pos & 0x80))
		return *r->pos++;
	return reader_uleb_long(r);
}
int64_t reader_sleb(struct reader *r);

/* A NUL-terminated string inside the buffer, consumed with its NUL; NULL (and failed) without one. */
const char *reader_str(struct reader *r);

/*
 * The next line of a text without its '\n' (the last may lack one); false at the end.
 * *ret borrows the buffer and is not NUL-terminated. A line always makes progress.
 */
bool reader_line(struct reader *r, const char **ret, size_t *ret_len);
