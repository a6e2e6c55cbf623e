#include "base/strbuf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void strbuf_deinit(struct strbuf *b)
{
	if (!b)
		return;
	free(b->data);
	*b = (struct strbuf){ 0 };
}

void strbuf_clear(struct strbuf *b)
{
	b->len = 0;
	b->failed = false;
	if (b->data)
		b->data[0] = '\0';
}

bool strbuf_reserve(struct strbuf *b, size_t more)
{
	size_t want, cap;
	char *grown;

	if (b->failed)
		return false;
	if (b->data && more < b->cap - b->len)
		return true;
	if (__builtin_add_overflow(b->len, more, &want) || want >= PTRDIFF_MAX) {
		b->failed = true;
		return false;
	}
	want++; /* the NUL */
	cap = b->cap ? b->cap : 64;
	while (cap < want)
		cap = cap > PTRDIFF_MAX / 2 ? want : cap * 2;
	grown = realloc(b->data, cap);
	if (!grown) {
		b->failed = true;
		return false;
	}
	b->data = grown;
	b->cap = cap;
	b->data[b->len] = '\0';
	return true;
}

void strbuf_add(struct strbuf *b, const void *bytes, size_t len)
{
	if (!strbuf_reserve(b, len))
		return;
	if (len)
		memcpy(b->data + b->len, bytes, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void strbuf_str(struct strbuf *b, const char *str)
{
	strbuf_add(b, str, strlen(str));
}

void strbuf_char(struct strbuf *b, char c)
{
	if (!strbuf_reserve(b, 1))
		return;
	b->data[b->len++] = c;
	b->data[b->len] = '\0';
}

void strbuf_decimal(struct strbuf *b, uint64_t value)
{
	char digits[20]; /* of UINT64_MAX */
	size_t at = sizeof(digits);

	do
		digits[--at] = (char)('0' + value % 10);
	while (value /= 10);
	strbuf_add(b, digits + at, sizeof(digits) - at);
}

void strbuf_hex(struct strbuf *b, const void *bytes, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *from = bytes;

	for (size_t i = 0; i < len; i++) {
		strbuf_char(b, digits[from[i] >> 4]);
		strbuf_char(b, digits[from[i] & 15]);
	}
}

void strbuf_printf(struct strbuf *b, const char *fmt, ...)
{
	va_list ap, again;
	size_t room;
	int n;

	if (!strbuf_reserve(b, 32))
		return;
	room = b->cap - b->len;
	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(b->data + b->len, room, fmt, ap);
	if (n >= 0 && (size_t)n >= room) {
		/* Did not fit: now the size is known. */
		b->data[b->len] = '\0';
		if (strbuf_reserve(b, (size_t)n))
			n = vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
	}
	va_end(again);
	va_end(ap);
	if (n < 0) {
		b->data[b->len] = '\0';
		b->failed = true;
	}
	if (!b->failed)
		b->len += (size_t)n;
}
