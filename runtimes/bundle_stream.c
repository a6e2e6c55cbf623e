/* Reading what a packed file in a bundle holds as if it were not packed. */
#include "base/cleanup.h"
#include "runtimes/bundle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
	INPUT_BYTES = 64 << 10,
	PAGE_BYTES = 64 << 10,
	NUM_PAGES = 8,      /* that are remembered: tables are read in small pieces */
	WHOLE_BYTES = 256 << 10, /* what is larger goes past the pages */
	NUM_MARKS = 32,     /* places from which unpacking can go on; some 40 KiB each */
	MIN_APART = 1 << 20,
	MAX_RATIO = 1100,   /* unpacked : packed; deflate's own limit is 1032 */
	MAX_TIMES = 24,     /* as many times its size is unpacked in all, and no more */
	SPARE_BYTES = 64 << 20,
};

/* The unpacking as it stood when so much was unpacked. */
struct mark {
	z_stream z;
	uint64_t in; /* of the packed bytes, that were used; 0 = no mark */
};

struct page {
	uint8_t *bytes; /* owned; NULL = not used yet */
	uint64_t index;
	uint64_t used;  /* when */
};

struct bundle_stream {
	const struct pe_bytes *bytes;
	const struct bundle_file *file;
	z_stream z;
	uint64_t in;    /* packed bytes that were read */
	uint64_t out;   /* unpacked bytes that came out */
	uint64_t left;  /* that may still come, going back and forth */
	uint64_t apart; /* of marks */
	struct mark marks[NUM_MARKS]; /* [i]: at i * apart; [0] is not used */
	struct page pages[NUM_PAGES];
	uint64_t now;   /* in reads */
	bool broken;
	uint8_t input[INPUT_BYTES], skipped[PAGE_BYTES];
};

struct bundle_stream *bundle_stream_new(const struct pe_bytes *bytes, const struct bundle_file *file)
{
	struct bundle_stream *s;

	if (!file->packed_size || !file->size || file->size > PE_MAX_LOAD || file->size / MAX_RATIO > file->packed_size)
		return NULL;
	s = calloc(1, sizeof(*s));
	if (!s || inflateInit2(&s->z, -MAX_WBITS) != Z_OK) {
		free(s);
		return NULL;
	}
	s->bytes = bytes;
	s->file = file;
	s->left = file->size * MAX_TIMES + SPARE_BYTES;
	s->apart = file->size / (NUM_MARKS - 1) + 1;
	if (s->apart < MIN_APART)
		s->apart = MIN_APART;
	return s;
}

void bundle_stream_free(struct bundle_stream *s)
{
	if (!s)
		return;
	inflateEnd(&s->z);
	for (size_t i = 0; i < NUM_MARKS; i++) {
		if (s->marks[i].in)
			inflateEnd(&s->marks[i].z);
	}
	for (size_t i = 0; i < NUM_PAGES; i++)
		free(s->pages[i].bytes);
	free(s);
}

/* ---- going forward ---- */

static bool refill(struct bundle_stream *s)
{
	uint64_t left = s->file->packed_size - s->in;
	size_t more = left < sizeof(s->input) ? (size_t)left : sizeof(s->input);

	if (!more || s->file->offset > s->bytes->size || s->file->packed_size > s->bytes->size - s->file->offset ||
	    s->bytes->read(s->bytes->data, s->input, more, s->file->offset + s->in) < 0)
		return false;
	s->in += more;
	s->z.next_in = s->input;
	s->z.avail_in = (uInt)more;
	return true;
}

static bool unpack(struct bundle_stream *s, uint8_t *to, size_t size)
{
	int status = Z_OK;

	s->z.next_out = to;
	s->z.avail_out = (uInt)size;
	while (s->z.avail_out && status == Z_OK) {
		if (!s->z.avail_in && !refill(s))
			return false;
		status = inflate(&s->z, Z_NO_FLUSH);
	}
	s->out += size;
	return !s->z.avail_out;
}

static void set_mark(struct bundle_stream *s)
{
	uint64_t i = s->out / s->apart;
	uint64_t in = s->in - s->z.avail_in;

	/* One that cannot be set only costs time. */
	if (i < NUM_MARKS && !s->marks[i].in && inflateCopy(&s->marks[i].z, &s->z) == Z_OK)
		s->marks[i].in = in;
}

/* The next `size` bytes. */
static bool take(struct bundle_stream *s, uint8_t *to, size_t size)
{
	while (size) {
		uint64_t until_mark = s->apart - s->out % s->apart;
		size_t part = size < until_mark ? size : (size_t)until_mark;

		if (s->left < part || !unpack(s, to, part))
			return false;
		s->left -= part;
		to += part;
		size -= part;
		if (s->out % s->apart == 0)
			set_mark(s);
	}
	return true;
}

/* ---- to any place ---- */

/* The last mark up to there; 0: the beginning. */
static size_t mark_before(const struct bundle_stream *s, uint64_t offset)
{
	size_t i = (size_t)(offset / s->apart);

	while (i && !s->marks[i].in)
		i--;
	return i;
}

static bool go_on_from(struct bundle_stream *s, size_t mark)
{
	if (mark) {
		inflateEnd(&s->z);
		/* Straight to its place: what zlib keeps leads back to there. */
		if (inflateCopy(&s->z, &s->marks[mark].z) != Z_OK)
			return false;
	} else if (inflateReset(&s->z) != Z_OK) {
		return false;
	}
	s->z.avail_in = 0;
	s->in = s->marks[mark].in;
	s->out = mark * s->apart;
	return true;
}

static bool seek(struct bundle_stream *s, uint64_t offset)
{
	size_t mark = mark_before(s, offset);

	if ((offset < s->out || s->out < mark * s->apart) && !go_on_from(s, mark))
		return false;
	while (s->out < offset) {
		uint64_t more = offset - s->out;

		if (!take(s, s->skipped, more < sizeof(s->skipped) ? (size_t)more : sizeof(s->skipped)))
			return false;
	}
	return true;
}

/* NULL: it cannot be had. */
static const uint8_t *get_page(struct bundle_stream *s, uint64_t index)
{
	struct page *page = &s->pages[0];
	uint64_t at = index * PAGE_BYTES, left = s->file->size - at;

	s->now++;
	for (size_t i = 0; i < NUM_PAGES; i++) {
		struct page *p = &s->pages[i];

		if (p->used && p->index == index) {
			p->used = s->now;
			return p->bytes;
		}
		if (p->used < page->used)
			page = p;
	}
	page->used = 0;
	if (!page->bytes)
		page->bytes = malloc(PAGE_BYTES);
	if (!page->bytes || !seek(s, at) || !take(s, page->bytes, left < PAGE_BYTES ? (size_t)left : PAGE_BYTES))
		return NULL;
	page->index = index;
	page->used = s->now;
	return page->bytes;
}

/* struct pe_bytes: within its size */
static int stream_read(void *data, void *buf, size_t size, uint64_t offset)
{
	struct bundle_stream *s = data;
	uint8_t *to = buf;

	if (s->broken)
		return -EIO;
	if (size > WHOLE_BYTES) {
		s->broken = !seek(s, offset) || !take(s, to, size);
		return s->broken ? -EIO : 0;
	}
	while (size) {
		const uint8_t *page = get_page(s, offset / PAGE_BYTES);
		size_t at = (size_t)(offset % PAGE_BYTES);
		size_t part = size < PAGE_BYTES - at ? size : PAGE_BYTES - at;

		if (!page) {
			s->broken = true;
			return -EIO;
		}
		memcpy(to, page + at, part);
		to += part;
		offset += part;
		size -= part;
	}
	return 0;
}

struct pe_bytes bundle_stream_bytes(struct bundle_stream *s)
{
	return (struct pe_bytes){ stream_read, s, s->file->size };
}
