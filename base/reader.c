#include "base/reader.h"

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
