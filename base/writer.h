/*
 * Cursor that fills a buffer, the counterpart of base/reader.h. What does not fit is left out and latches `failed`; put a
 * whole record together, then check once. Borrows the buffer. Integers are written in host byte order. Where there is no
 * limit: strbuf_u8 and on (base/strbuf.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct writer {
	uint8_t *start;
	size_t len, cap;
	bool failed;
};

static inline struct writer writer_init(void *buf, size_t cap)
{
	return (struct writer){ .start = buf, .cap = cap };
}

static inline bool writer_fits_(struct writer *w, size_t size)
{
	w->failed |= size > w->cap - w->len;
	return !w->failed;
}

/* `bytes` may be NULL where there are none. */
static inline void writer_add(struct writer *w, const void *bytes, size_t size)
{
	if (!size || !writer_fits_(w, size))
		return;
	memcpy(w->start + w->len, bytes, size);
	w->len += size;
}

static inline void writer_zeros(struct writer *w, size_t size)
{
	if (!size || !writer_fits_(w, size))
		return;
	memset(w->start + w->len, 0, size);
	w->len += size;
}

static inline void writer_u8(struct writer *w, uint8_t value)
{
	writer_add(w, &value, sizeof(value));
}

static inline void writer_u32(struct writer *w, uint32_t value)
{
	writer_add(w, &value, sizeof(value));
}

static inline void writer_u64(struct writer *w, uint64_t value)
{
	writer_add(w, &value, sizeof(value));
}
