#include "base/reader.h"

uint64_t reader_uleb_long(struct reader *r)
{
	uint64_t ret = 0;

	for (unsigned int shift = 0;; shift += 7) {
		uint8_t byte = reader_u8(r);

		if (shift < 64)
			ret |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return ret; /* so too behind the end, where bytes are 0 */
	}
}

int64_t reader_sleb(struct reader *r)
{
	uint64_t ret = 0;

	for (unsigned int shift = 0;; shift += 7) {
		uint8_t byte = reader_u8(r);

		if (shift < 64)
			ret |= (uint64_t)(byte & 0x7f) << shift;
		if (byte & 0x80)
			continue;
		if ((byte & 0x40) && shift + 7 < 64)
			ret |= UINT64_MAX << (shift + 7);
		return (int64_t)ret;
	}
}

const char *reader_str(struct reader *r)
{
	const uint8_t *nul = NULL;
	const uint8_t *str = r->pos;

	if (!r->failed && reader_left(r))
		nul = memchr(str, '\0', reader_left(r));
	if (!nul) {
		r->failed = true;
		r->pos = r->end;
		return NULL;
	}
	r->pos = nul + 1;
	return (const char *)str;
}

bool reader_line(struct reader *r, const char **ret, size_t *ret_len)
{
	const uint8_t *line = r->pos;
	const uint8_t *eol;

	if (r->failed || !reader_left(r))
		return false;
	eol = memchr(line, '\n', reader_left(r));
	r->pos = eol ? eol + 1 : r->end;
	*ret = (const char *)line;
	*ret_len = (size_t)((eol ? eol : r->end) - line);
	return true;
}
