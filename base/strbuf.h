/* Growable text. Failure latches: append freely, check `failed` once. Always NUL-terminated once non-empty. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct strbuf {
	char *data; /* NULL until the first append */
	size_t len; /* without the NUL */
	size_t cap;
	bool failed; /* out of memory somewhere */
};

void strbuf_deinit(struct strbuf *b);
void strbuf_clear(struct strbuf *b); /* keeps the memory */
bool strbuf_reserve(struct strbuf *b, size_t more); /* room for `more` bytes and a NUL */
void strbuf_add(struct strbuf *b, const void *bytes, size_t len);
void strbuf_str(struct strbuf *b, const char *str);
void strbuf_char(struct strbuf *b, char c);
void strbuf_decimal(struct strbuf *b, uint64_t value);
void strbuf_hex(struct strbuf *b, const void *bytes, size_t len); /* two digits a byte */
void strbuf_printf(struct strbuf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Integers in host byte order, for what is no text. */
static inline void strbuf_u8(struct strbuf *b, uint8_t value)
{
	strbuf_add(b, &value, sizeof(value));
}

static inline void strbuf_u32(struct strbuf *b, uint32_t value)
{
	strbuf_add(b, &value, sizeof(value));
}

static inline void strbuf_u64(struct strbuf *b, uint64_t value)
{
	strbuf_add(b, &value, sizeof(value));
}
