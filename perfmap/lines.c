/* The lines of a perf map. */
#include "perfmap/published.h"

#include <string.h>

static const uint64_t kernel_half = UINT64_C(1) << 63;

struct range {
	uint64_t start, end; /* end exclusive */
};

static int hex_digit(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A hex number, with or without 0x, and the blanks behind it. NULL when there is none. */
static const char *parse_hex(const char *pos, const char *end, uint64_t *ret)
{
	const char *digits;
	uint64_t value = 0;
	int digit;

	if (end - pos > 2 && pos[0] == '0' && (pos[1] | 0x20) == 'x')
		pos += 2;
	digits = pos;
	while (pos < end && (digit = hex_digit((unsigned char)*pos)) >= 0) {
		if (value >> 60)
			return NULL;
		value = value << 4 | (unsigned int)digit;
		pos++;
	}
	if (pos == digits || pos == end || (*pos != ' ' && *pos != '\t'))
		return NULL;
	while (pos < end && (*pos == ' ' || *pos == '\t'))
		pos++;
	*ret = value;
	return pos;
}

static bool parse_line(const char *pos, const char *end, struct range *ret, const char **ret_name,
		       size_t *ret_len)
{
	const char *nul;
	uint64_t size;

	pos = parse_hex(pos, end, &ret->start);
	if (!pos)
		return false;
	pos = parse_hex(pos, end, &size);
	if (!pos)
		return false;
	nul = memchr(pos, '\0', (size_t)(end - pos));
	end = nul ? nul : end;
	while (end > pos && end[-1] == '\r')
		end--;
	*ret_name = pos;
	*ret_len = (size_t)(end - pos);
	return size && !__builtin_add_overflow(ret->start, size, &ret->end) &&
	       ret->end <= kernel_half && *ret_len;
}

static void take_line(struct perfmap_lines *l, const char *line, size_t len, uint64_t time_ns,
		      const struct perfmap_sink *sink)
{
	struct range range = { 0 };
	const char *name;
	size_t name_len;

	if (len > l->max_line || !parse_line(line, line + len, &range, &name, &name_len))
		l->bad++;
	else
		sink->add(sink->data, PERFMAP_TEXT, time_ns, range.start, range.end, name, name_len, NULL, 0);
}

size_t perfmap_lines_take(struct perfmap_lines *l, const char *text, size_t len, uint64_t time_ns,
			  const struct perfmap_sink *sink)
{
	const char *pos = text, *end = text + len, *eol;

	while (pos < end && (eol = memchr(pos, '\n', (size_t)(end - pos)))) {
		if (l->skipping)
			l->skipping = false;
		else
			take_line(l, pos, (size_t)(eol - pos), time_ns, sink);
		pos = eol + 1;
	}
	/* What is too long already need not be kept until its end comes. */
	if (l->skipping)
		return len;
	if ((size_t)(end - pos) > l->max_line) {
		l->skipping = true;
		l->bad++;
		return len;
	}
	return (size_t)(pos - text);
}
