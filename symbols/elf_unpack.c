#include "symbols/elf_file_priv.h"

#include "base/cleanup.h"

#include <lzma.h>
#include <stdlib.h>
#include <zlib.h>

enum {
	UNPACK_CHUNK = 64 << 10,
	UNPACK_XZ_MEMORY = 128 << 20, /* xz -9 needs 65 MiB to unpack */
};

bool elf_unpack_allowed(uint64_t packed, uint64_t unpacked)
{
	return unpacked && unpacked <= ELF_MAX_CONTENT && unpacked / ELF_MAX_RATIO <= packed;
}

/* The next piece of [*offset, *offset + *left); its length, 0 at the end or on failure. */
static size_t next_chunk(const struct elf_file *f, uint8_t *chunk, uint64_t *offset, uint64_t *left)
{
	size_t len = *left < UNPACK_CHUNK ? *left : UNPACK_CHUNK;

	if (!len || elf_file_read(f, chunk, len, *offset) < 0)
		return 0;
	*offset += len;
	*left -= len;
	return len;
}

static void inflate_endp(z_stream *z)
{
	inflateEnd(z); /* harmless before inflateInit: there is no state */
}

bool elf_unpack_zlib(const struct elf_file *f, uint64_t offset, uint64_t size, uint8_t *out,
		     uint64_t out_size)
{
	_cleanup_(inflate_endp) z_stream z = { .next_out = out, .avail_out = (uInt)out_size };
	_cleanup_free_ uint8_t *chunk = malloc(UNPACK_CHUNK);

	if (!chunk || !elf_unpack_allowed(size, out_size) || inflateInit(&z) != Z_OK)
		return false;
	for (;;) {
		int r;

		if (!z.avail_in) {
			z.next_in = chunk;
			z.avail_in = (uInt)next_chunk(f, chunk, &offset, &size);
			if (!z.avail_in)
				return false;
		}
		r = inflate(&z, Z_NO_FLUSH);
		if (r == Z_STREAM_END)
			return !z.avail_out;
		/*
		 * Output that is full before the stream ends gives Z_BUF_ERROR: more than
		 * announced.
		 */
		if (r != Z_OK)
			return false;
	}
}

/* Room for more output, within what `packed` bytes may yield. */
static bool grow_output(lzma_stream *s, uint8_t **out, size_t *cap, uint64_t packed)
{
	size_t used = *cap - s->avail_out;
	size_t want = *cap ? *cap * 2 : UNPACK_CHUNK;
	uint8_t *bigger;

	if (!elf_unpack_allowed(packed, want))
		return false;
	bigger = realloc(*out, want);
	if (!bigger)
		return false;
	*out = bigger;
	*cap = want;
	s->next_out = bigger + used;
	s->avail_out = want - used;
	return true;
}

uint8_t *elf_unpack_xz(const struct elf_file *f, uint64_t offset, uint64_t size, size_t *ret_size)
{
	/* A tiny section may fill the first chunk without being called a bomb. */
	uint64_t packed = size > UNPACK_CHUNK / ELF_MAX_RATIO ? size : UNPACK_CHUNK / ELF_MAX_RATIO;
	_cleanup_(lzma_end) lzma_stream s = LZMA_STREAM_INIT;
	_cleanup_free_ uint8_t *chunk = malloc(UNPACK_CHUNK);
	_cleanup_free_ uint8_t *out = NULL;
	size_t cap = 0;

	if (!chunk || lzma_stream_decoder(&s, UNPACK_XZ_MEMORY, 0) != LZMA_OK)
		return NULL;
	for (;;) {
		lzma_ret r;

		if (!s.avail_in) {
			s.next_in = chunk;
			s.avail_in = next_chunk(f, chunk, &offset, &size);
			if (!s.avail_in)
				return NULL;
		}
		if (!s.avail_out && !grow_output(&s, &out, &cap, packed))
			return NULL;
		r = lzma_code(&s, LZMA_RUN);
		if (r == LZMA_STREAM_END) {
			*ret_size = cap - s.avail_out;
			return steal_ptr(out);
		}
		if (r != LZMA_OK)
			return NULL;
	}
}
