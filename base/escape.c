#include "base/escape.h"

#include "base/strbuf.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static bool is_tail(unsigned char c)
{
	return (c & 0xc0) == 0x80;
}

/*
 * Bytes of the UTF-8 character at text (left > 0), 0 when it is none. Strict as RFC 3629 §4: no
 * overlong forms, no surrogates, nothing above U+10FFFF.
 */
static size_t utf8_char(const unsigned char *text, size_t left, uint32_t *ret)
{
	unsigned char c = text[0];
	size_t len;
	uint32_t code, min;

	if (c < 0x80) {
		*ret = c;
		return 1;
	}
	if (c >= 0xc2 && c <= 0xdf) {
		len = 2;
		min = 0x80;
		code = c & 0x1f;
	} else if ((c & 0xf0) == 0xe0) {
		len = 3;
		min = 0x800;
		code = c & 0x0f;
	} else if (c >= 0xf0 && c <= 0xf4) {
		len = 4;
		min = 0x10000;
		code = c & 0x07;
	} else {
		return 0;
	}
	if (len > left)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if (!is_tail(text[i]))
			return 0;
		code = code << 6 | (text[i] & 0x3f);
	}
	if (code < min || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	*ret = code;
	return len;
}

/*
 * Characters that move the cursor, end a line or reorder what stands around them: C0, DEL, C1
 * (U+0085 is NEXT LINE), the line and paragraph separators, bidirectional controls (UAX #9).
 */
static bool is_dangerous(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code <= 0x9f) ||
	       (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

/* The next character made safe; returns the bytes consumed. At most as many bytes come out. */
static size_t safe_char(const unsigned char *pos, size_t left, const char **ret, size_t *ret_len)
{
	uint32_t code;
	size_t len = utf8_char(pos, left, &code);

	if (!len || is_dangerous(code)) {
		*ret = "?";
		*ret_len = 1;
		return len ? len : 1;
	}
	*ret = (const char *)pos;
	*ret_len = len;
	return len;
}

/* Bytes at the start that need no look: printable ASCII, which is nearly everything. */
static size_t plain_run(const unsigned char *pos, size_t left)
{
	size_t i = 0;

	while (i < left && pos[i] >= 0x20 && pos[i] < 0x7f && pos[i] != ';')
		i++;
	return i;
}

void escape_frame(struct strbuf *out, const char *text, size_t len)
{
	const unsigned char *pos = (const unsigned char *)text;

	if (!len) {
		strbuf_str(out, "[unknown]");
		return;
	}
	while (len) {
		size_t used = plain_run(pos, len);
		const char *safe = (const char *)pos;
		size_t safe_len = used;

		if (!used && *pos == ';') {
			safe = ":";
			used = safe_len = 1;
		} else if (!used) {
			used = safe_char(pos, len, &safe, &safe_len);
		}
		strbuf_add(out, safe, safe_len);
		pos += used;
		len -= used;
	}
}

void escape_line(struct strbuf *out, const char *text, size_t len, size_t max)
{
	const unsigned char *pos = (const unsigned char *)text;
	size_t written = 0;

	while (len) {
		const char *safe;
		size_t safe_len;
		size_t used = safe_char(pos, len, &safe, &safe_len);

		if (safe_len > max - written) {
			strbuf_str(out, "...");
			return;
		}
		strbuf_add(out, safe, safe_len);
		written += safe_len;
		pos += used;
		len -= used;
	}
}

/* RFC 8259 §7, what would end a script element around the string, and what is_dangerous. */
static bool json_special(struct strbuf *out, uint32_t code, unsigned char next)
{
	if (code == '"' || code == '\\') {
		strbuf_char(out, '\\');
		strbuf_char(out, (char)code);
	} else if (code == '\n') {
		strbuf_str(out, "\\n");
	} else if (code == '\t') {
		strbuf_str(out, "\\t");
	} else if (is_dangerous(code) ||
		   (code == '<' && (next == '/' || next == '!' || next == 's' || next == 'S'))) {
		strbuf_printf(out, "\\u%04x", code);
	} else {
		return false;
	}
	return true;
}

void escape_json(struct strbuf *out, const char *text, size_t len)
{
	const unsigned char *pos = (const unsigned char *)text;

	strbuf_char(out, '"');
	while (len) {
		uint32_t code;
		size_t used = utf8_char(pos, len, &code);

		if (!used) {
			strbuf_str(out, "\xef\xbf\xbd"); /* U+FFFD */
			used = 1;
		} else if (!json_special(out, code, used < len ? pos[used] : '\0')) {
			strbuf_add(out, pos, used);
		}
		pos += used;
		len -= used;
	}
	strbuf_char(out, '"');
}
