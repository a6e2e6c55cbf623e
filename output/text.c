#include "output/text_priv.h"

#include "base/strbuf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void text_count(struct strbuf *ret, uint64_t count)
{
	char digits[24];
	size_t len = (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, count);

	for (size_t i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			strbuf_char(ret, ',');
		strbuf_char(ret, digits[i]);
	}
}

void text_percent(struct strbuf *ret, uint64_t part, uint64_t whole)
{
	/* Tenths of a percent; double, as the product may not fit and a tenth is all that is shown. */
	unsigned int tenths = 0;

	if (part > whole)
		part = whole;
	if (whole)
		tenths = (unsigned int)((double)part * 1000 / (double)whole + 0.5);
	if (part && !tenths) {
		strbuf_str(ret, "<0.1 %");
		return;
	}
	if (part < whole && tenths > 999)
		tenths = 999;
	strbuf_printf(ret, "%u.%u %%", tenths / 10, tenths % 10);
}

void text_seconds(struct strbuf *ret, double seconds)
{
	uint64_t ms = 0;

	if (seconds > 0 && seconds < 1e15) /* false for NaN too */
		ms = (uint64_t)(seconds * 1000 + 0.5);
	strbuf_printf(ret, "%" PRIu64 ".%03u", ms / 1000, (unsigned int)(ms % 1000));
}

/* Blocks most terminals draw two columns wide (UAX #11, East Asian Wide, in broad strokes). */
static bool is_wide(uint32_t code)
{
	return (code >= 0x1100 && code <= 0x115f) || (code >= 0x2e80 && code <= 0xa4cf) ||
	       (code >= 0xac00 && code <= 0xd7a3) || (code >= 0xf900 && code <= 0xfaff) ||
	       (code >= 0xfe30 && code <= 0xfe6f) || (code >= 0xff00 && code <= 0xff60) ||
	       (code >= 0x1f300 && code <= 0x1faff) || (code >= 0x20000 && code <= 0x3fffd);
}

/* The next character of escaped, so valid, UTF-8: its bytes, at least 1, and its columns. */
static size_t next_char(const char *text, size_t *columns)
{
	const unsigned char *bytes = (const unsigned char *)text;
	uint32_t code = bytes[0] >= 0xf0 ? bytes[0] & 0x07 : bytes[0] >= 0xe0 ? bytes[0] & 0x0f : bytes[0];
	size_t len = 1;

	while ((bytes[len] & 0xc0) == 0x80)
		code = code << 6 | (bytes[len++] & 0x3f);
	*columns = len > 2 && is_wide(code) ? 2 : 1;
	return len;
}

size_t text_columns(const char *text)
{
	size_t ret = 0, columns;

	for (; *text; ret += columns)
		text += next_char(text, &columns);
	return ret;
}

/* How many bytes of `text` fit; *used is what they take. */
static size_t fitting(const char *text, size_t columns, size_t *used)
{
	size_t bytes = 0, width;

	*used = 0;
	while (text[bytes]) {
		size_t len = next_char(text + bytes, &width);

		if (*used + width > columns)
			break;
		*used += width;
		bytes += len;
	}
	return bytes;
}

static void spaces(struct strbuf *ret, size_t num)
{
	while (num--)
		strbuf_char(ret, ' ');
}

void text_left(struct strbuf *ret, const char *text, size_t columns, bool pad)
{
	size_t used;
	size_t bytes = fitting(text, columns, &used);

	if (text[bytes]) {
		bytes = fitting(text, columns - 3, &used);
		strbuf_add(ret, text, bytes);
		strbuf_str(ret, "...");
		used += 3;
	} else {
		strbuf_add(ret, text, bytes);
	}
	if (pad)
		spaces(ret, columns - used);
}

void text_name(struct strbuf *ret, const char *text, size_t columns, bool pad)
{
	size_t all = text_columns(text), used, left, skip = 0, width;

	if (all <= columns) {
		text_left(ret, text, columns, pad);
		return;
	}
	/* A type's name is in front, and so is the scope that many share: what tells them apart is at the end. */
	strbuf_add(ret, text, fitting(text, (columns - 3) / 2, &used));
	strbuf_str(ret, "...");
	for (left = all; left > columns - 3 - used; left -= width)
		skip += next_char(text + skip, &width);
	strbuf_str(ret, text + skip);
	if (pad)
		spaces(ret, columns - 3 - used - left);
}

void text_right(struct strbuf *ret, const char *text, size_t columns)
{
	size_t used = text_columns(text);

	spaces(ret, used < columns ? columns - used : 0);
	strbuf_str(ret, text);
}

/* Bytes of the next line: up to the last space that leaves it short enough, else one word as it is. */
static size_t line_bytes(const char *text, size_t len, size_t columns)
{
	size_t best = 0;

	for (size_t i = 0; i < len; i++) {
		if (text[i] != ' ')
			continue;
		if (i > columns)
			return best ? best : i;
		best = i;
	}
	return len <= columns || !best ? len : best;
}

void text_wrap(struct strbuf *ret, const char *first, const char *text, size_t len, size_t columns)
{
	size_t indent = strlen(first) + 2;
	size_t room = columns > indent + 20 ? columns - indent : 20;

	strbuf_str(ret, first);
	while (len) {
		size_t bytes = line_bytes(text, len, room);

		strbuf_add(ret, text, bytes);
		strbuf_char(ret, '\n');
		for (text += bytes, len -= bytes; len && *text == ' '; text++)
			len--;
		if (len)
			spaces(ret, indent);
	}
}
