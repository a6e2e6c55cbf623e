#include "output/collapsed.h"

#include "base/err.h"
#include "base/reader.h"
#include "base/vec.h"
#include "output/count_priv.h"

#include <errno.h>
#include <string.h>

enum { MAX_DEPTH = 65536 };

struct stack {
	VEC(struct collapsed_frame) frames;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

/* The number at the end of the line, behind a space: *len becomes what stands before it. False: there is none. */
static bool take_count(const char *line, size_t *len, uint64_t *ret)
{
	size_t end = *len, start;
	uint64_t value = 0;

	start = end;
	while (start && (is_digit(line[start - 1]) || line[start - 1] == '.'))
		start--;
	if (start == end || !start || !is_space(line[start - 1]) || !is_digit(line[start]))
		return false;
	for (size_t i = start; i < end; i++) {
		uint64_t digit = (uint64_t)(line[i] - '0');

		if (line[i] == '.') {
			value = count_add(value, i + 1 < end && line[i + 1] >= '5');
			break;
		}
		if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, digit, &value)) {
			value = UINT64_MAX;
			break;
		}
	}
	while (start && is_space(line[start - 1]))
		start--;
	*len = start;
	*ret = value;
	return true;
}

/* "name_[k]" */
static struct collapsed_frame frame_of(const char *name, size_t len)
{
	struct collapsed_frame ret = { .name = name, .len = len };

	if (len > 4 && name[len - 1] == ']' && name[len - 3] == '[' && name[len - 4] == '_') {
		ret.suffix = name[len - 2];
		ret.len = len - 4;
	}
	return ret;
}

/* 1: done, 0: too deep, -1: out of memory. */
static int split(struct stack *stack, const char *text, size_t len)
{
	const char *end = text + len;

	stack->frames.len = 0;
	for (;;) {
		const char *stop = memchr(text, ';', (size_t)(end - text));
		size_t part = (size_t)((stop ? stop : end) - text);

		if (part) { /* nothing between two ';' is no frame */
			if (stack->frames.len == MAX_DEPTH)
				return 0;
			if (!vec_push(&stack->frames, frame_of(text, part)))
				return -1;
		}
		if (!stop)
			return stack->frames.len > 0;
		text = stop + 1;
	}
}

static bool is_nothing(const char *line, size_t len)
{
	while (len && is_space(*line)) {
		line++;
		len--;
	}
	return !len || *line == '#';
}

int collapsed_parse(const char *text, size_t len,
		    bool (*each)(void *data, const struct collapsed_frame *frames, size_t num, uint64_t count),
		    void *data, struct collapsed_stats *ret, struct err *err)
{
	struct reader r = reader_init(text, len);
	struct stack stack = { 0 };
	struct collapsed_stats stats = { 0 };
	const char *line;
	size_t line_len;
	bool ok = true;

	while (ok && reader_line(&r, &line, &line_len)) {
		uint64_t count, first;
		int done = 0;

		if (line_len && line[line_len - 1] == '\r')
			line_len--;
		if (is_nothing(line, line_len))
			continue;
		stats.lines++;
		if (take_count(line, &line_len, &count)) {
			take_count(line, &line_len, &first); /* of a comparison */
			done = split(&stack, line, line_len);
		}
		stats.bad_lines += done == 0;
		if (done > 0 && count) {
			stats.samples = count_add(stats.samples, count);
			ok = each(data, stack.frames.data, stack.frames.len, count);
		}
		ok = ok && done >= 0;
	}
	vec_deinit(&stack.frames);
	if (!ok)
		return err_oom(err);
	if (stats.lines && stats.lines == stats.bad_lines)
		return err_set(err, EBADMSG, "no line of it is a collapsed stack (\"a;b;c 12\")");
	*ret = stats;
	return 0;
}
