/* Whatever a target calls its functions, what is printed is one harmless piece of UTF-8. */
#include "base/escape.h"
#include "base/strbuf.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void require(bool ok)
{
	if (!ok)
		abort();
}

/* The second opinion: a decoder by RFC 3629's table of byte ranges, not by the value as escape.c
 * does. */
static size_t well_formed(const unsigned char *s, size_t left)
{
	static const struct {
		unsigned char first_lo, first_hi, second_lo, second_hi;
		size_t len;
	} rows[] = {
		{ 0x00, 0x7f, 0x00, 0x00, 1 }, { 0xc2, 0xdf, 0x80, 0xbf, 2 },
		{ 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 },
		{ 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (s[0] < rows[i].first_lo || s[0] > rows[i].first_hi)
			continue;
		if (rows[i].len > left)
			return 0;
		if (rows[i].len > 1 && (s[1] < rows[i].second_lo || s[1] > rows[i].second_hi))
			return 0;
		for (size_t k = 2; k < rows[i].len; k++) {
			if (s[k] < 0x80 || s[k] > 0xbf)
				return 0;
		}
		return rows[i].len;
	}
	return 0;
}

static void require_clean(const struct strbuf *out)
{
	const unsigned char *text = (const unsigned char *)out->data;

	for (size_t i = 0, len; i < out->len; i += len) {
		len = well_formed(text + i, out->len - i);
		require(len > 0);
		require(text[i] >= 0x20 && text[i] != 0x7f);
		require(!(text[i] == 0xc2 && text[i + 1] <= 0x9f)); /* C1 */
		require(memcmp(text + i, "\xe2\x80", 2) || text[i + 2] < 0xa8 ||
			text[i + 2] > 0xae);
		require(memcmp(text + i, "\xe2\x81", 2) || text[i + 2] < 0xa6 ||
			text[i + 2] > 0xa9);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	size_t max = size ? data[0] : 0;
	struct strbuf out = { 0 };

	escape_frame(&out, text, size);
	require(out.len > 0 && out.len <= (size ? size : strlen("[unknown]")));
	require(!memchr(out.data, ';', out.len));
	require_clean(&out);

	strbuf_clear(&out);
	escape_line(&out, text, size, max);
	require(out.len <= max + 3);
	if (out.len)
		require_clean(&out);

	strbuf_clear(&out);
	escape_json(&out, text, size);
	require(out.len >= 2 && out.data[0] == '"' && out.data[out.len - 1] == '"');
	require_clean(&out);
	require(!strstr(out.data, "</") && !strstr(out.data, "<!"));
	for (size_t i = 1; i + 1 < out.len; i++) {
		require(out.data[i] != '"');
		if (out.data[i] == '\\')
			i++;
	}
	strbuf_deinit(&out);
	return 0;
}
