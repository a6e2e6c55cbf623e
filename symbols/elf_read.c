/* Tables of a file that are read a piece at a time, so that their size costs no memory. */
#include "symbols/elf_file_priv.h"

#include <stdlib.h>
#include <string.h>

enum {
	CURSOR_BYTES = 64 << 10,
	/* Names that follow each other are asked for together; most are far shorter than this. */
	WINDOW_BYTES = 4 << 10,
	/* The longest name. */
	WINDOW_MAX = 64 << 10,
	/* What is asked for in so many places is read whole, if it is no more than this. */
	MANY_MOVES = 32,
	WHOLE_MAX = 2 << 20,
};

bool elf_cursor_init(struct elf_cursor *c, const struct elf_file *f, uint64_t offset,
		     uint64_t size, size_t each, uint64_t max)
{
	uint64_t num = size / each;

	*c = (struct elf_cursor){ .f = f, .offset = offset, .each = each };
	c->left = num < max ? num : max;
	c->buf = malloc(CURSOR_BYTES);
	return c->buf;
}

void elf_cursor_deinit(struct elf_cursor *c)
{
	free(c->buf);
}

bool elf_cursor_refill(struct elf_cursor *c)
{
	uint64_t num = CURSOR_BYTES / c->each < c->left ? CURSOR_BYTES / c->each : c->left;

	if (!num || elf_file_read(c->f, c->buf, num * c->each, c->offset) < 0) {
		c->left = 0;
		return false;
	}
	c->offset += num * c->each;
	c->left -= num;
	c->chunk = reader_init(c->buf, num * c->each);
	return true;
}

bool elf_window_init(struct elf_window *w, const struct elf_file *f, uint64_t offset,
		     uint64_t size)
{
	*w = (struct elf_window){ .f = f, .offset = offset, .size = size };
	if (offset > f->size || size > f->size - offset || size > ELF_MAX_CONTENT)
		return false;
	w->budget = size * 4 + WINDOW_BYTES;
	w->buf = malloc(WINDOW_MAX);
	return w->buf;
}

void elf_window_deinit(struct elf_window *w)
{
	free(w->buf);
}

/* All of it, once that is cheaper than going back and forth. */
static bool read_whole(struct elf_window *w)
{
	uint8_t *grown;

	if (++w->moves != MANY_MOVES || w->size > WHOLE_MAX || w->size <= WINDOW_MAX)
		return false;
	grown = realloc(w->buf, (size_t)w->size);
	if (!grown)
		return false;
	w->buf = grown;
	w->at = 0;
	w->len = 0;
	if (elf_file_read(w->f, w->buf, (size_t)w->size, w->offset) != 0)
		return false;
	w->len = (size_t)w->size;
	return true;
}

/* Moves the window to `at`, with `len` bytes in it where there are as many. */
static bool move_window(struct elf_window *w, uint64_t at, size_t len)
{
	if (at >= w->size)
		return false;
	if (read_whole(w))
		return true;
	w->len = w->size - at < len ? (size_t)(w->size - at) : len;
	w->at = at;
	if (elf_file_read(w->f, w->buf, w->len, w->offset + at) == 0)
		return true;
	w->len = 0;
	return false;
}

const uint8_t *elf_window_bytes(struct elf_window *w, uint64_t at, size_t len)
{
	bool inside = at >= w->at && at - w->at <= w->len && len <= w->len - (at - w->at);

	if (len > WINDOW_BYTES)
		return NULL;
	if (!inside && (!move_window(w, at, WINDOW_BYTES) || w->len < len))
		return NULL;
	return w->buf + (at - w->at);
}

/* The length of the string at `at`, as far as the window tells it; SIZE_MAX: its end is beyond. */
static size_t string_length(const struct elf_window *w, uint64_t at)
{
	size_t left = w->len - (size_t)(at - w->at);
	const uint8_t *start = w->buf + (at - w->at);
	const uint8_t *end = memchr(start, 0, left);

	if (end)
		return (size_t)(end - start);
	return w->at + w->len == w->size ? left : SIZE_MAX;
}

const char *elf_window_string(struct elf_window *w, uint64_t at, size_t *ret_len)
{
	size_t len = SIZE_MAX;

	if (at >= w->at && at - w->at < w->len)
		len = string_length(w, at);
	for (size_t want = WINDOW_BYTES; len == SIZE_MAX && want <= WINDOW_MAX;
	     want *= WINDOW_MAX / WINDOW_BYTES) {
		if (!move_window(w, at, want))
			return NULL;
		len = string_length(w, at);
	}
	if (!len || len >= w->budget)
		return NULL;
	w->budget -= len;
	*ret_len = len;
	return (const char *)w->buf + (at - w->at);
}
