#include "runtimes/bundle.h"

#include "base/cleanup.h"
#include "base/reader.h"
#include "base/vec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
	CHUNK_BYTES = 64 << 10,
	MAX_SEARCH = 64 << 20,   /* bytes of writable data */
	MAX_HEADER = 4 << 20,    /* bytes of the manifest */
	MAX_FILES = 1 << 14,
	MAX_NAME = 1024,
	MARKER_BYTES = 32,
	MAX_RATIO = 1100,        /* unpacked : packed; deflate's own limit is 1032 */
};

/*
 * SHA-256 of ".net core bundle", each byte inverted so that it is not found in programs that look for it. Before the marker
 * is where the manifest is.
 */
static const uint8_t inverted_marker[MARKER_BYTES] = {
	0x74, 0xed, 0xfd, 0x46, 0x95, 0x9e, 0xdf, 0xc7, 0x8d, 0x84, 0x6c, 0xfd, 0xeb, 0x28, 0x5f, 0xcd,
	0xec, 0x0a, 0x46, 0x19, 0x10, 0x51, 0xcc, 0xe7, 0x11, 0xc4, 0xd2, 0x31, 0xdb, 0x4c, 0x95, 0x51,
};

struct bundle {
	VEC(struct bundle_file) files;
};

void bundle_free(struct bundle *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->files.len; i++)
		free((char *)(uintptr_t)b->files.data[i].name);
	vec_deinit(&b->files);
	free(b);
}

static void bundle_freep(struct bundle **b)
{
	bundle_free(*b);
}

static bool read_at(const struct pe_bytes *bytes, uint64_t offset, void *buf, size_t size)
{
	return offset <= bytes->size && size <= bytes->size - offset &&
	       bytes->read(bytes->data, buf, size, offset) == 0;
}

/* Where the manifest is; 0 = nowhere. The marker is also in programs that are no bundle, behind a zero. */
static uint64_t find_manifest(const struct pe_bytes *bytes, uint64_t from, uint64_t to)
{
	_cleanup_free_ uint8_t *buf = malloc(CHUNK_BYTES);
	uint8_t marker[MARKER_BYTES];
	uint64_t value = 0;

	for (size_t i = 0; i < MARKER_BYTES; i++)
		marker[i] = inverted_marker[i] ^ 0xff;
	if (to > bytes->size)
		to = bytes->size;
	if (!buf || from >= to)
		return 0;
	if (to - from > MAX_SEARCH)
		to = from + MAX_SEARCH;
	while (to - from >= MARKER_BYTES + 8) {
		size_t size = to - from < CHUNK_BYTES ? (size_t)(to - from) : CHUNK_BYTES;
		const uint8_t *found;

		if (!read_at(bytes, from, buf, size))
			return 0;
		found = memmem(buf + 8, size - 8, marker, MARKER_BYTES);
		if (found) {
			memcpy(&value, found - 8, sizeof(value));
			return value < bytes->size ? value : 0;
		}
		if (size < CHUNK_BYTES)
			return 0;
		from += size - MARKER_BYTES - 8;
	}
	return 0;
}

/* A length in 7-bit groups, then UTF-8 (System.IO.BinaryWriter); malloc'd. NULL: too long, or memory is out. */
static char *take_name(struct reader *r)
{
	uint64_t len = reader_uleb(r);
	const char *bytes = len <= MAX_NAME ? reader_bytes(r, (size_t)len) : NULL;

	return bytes ? strndup(bytes, (size_t)len) : NULL;
}

static bool take_file(struct reader *r, uint32_t major, uint64_t size, struct bundle_file *ret)
{
	struct bundle_file f = { 0 };

	f.offset = reader_u64(r);
	f.size = reader_u64(r);
	f.packed_size = major >= 6 ? reader_u64(r) : 0;
	reader_u8(r); /* type */
	f.name = take_name(r);
	if (!f.name)
		return false;
	if (r->failed || f.offset > size || (f.packed_size ? f.packed_size : f.size) > size - f.offset) {
		free((char *)(uintptr_t)f.name);
		return false;
	}
	*ret = f;
	return true;
}

static int take_manifest(struct bundle *b, struct reader *r, uint64_t size)
{
	uint32_t major = reader_u32(r), num;
	char *id;

	reader_u32(r);
	num = reader_u32(r);
	id = take_name(r);
	free(id);
	if (!id || major < 1 || num > MAX_FILES)
		return -EBADMSG;
	if (major >= 2)
		reader_bytes(r, 5 * 8); /* deps.json, runtimeconfig.json, flags */
	for (uint32_t i = 0; i < num; i++) {
		struct bundle_file f;

		if (!take_file(r, major, size, &f))
			return -EBADMSG;
		if (!vec_push(&b->files, f)) {
			free((char *)(uintptr_t)f.name);
			return -ENOMEM;
		}
	}
	return 0;
}

int bundle_open(const struct pe_bytes *bytes, uint64_t from, uint64_t to, struct bundle **ret)
{
	_cleanup_(bundle_freep) struct bundle *b = NULL;
	uint64_t at = find_manifest(bytes, from, to);
	_cleanup_free_ uint8_t *buf = NULL;
	struct reader r;
	size_t size;
	int err;

	if (!at)
		return -ENOEXEC;
	size = bytes->size - at < MAX_HEADER ? (size_t)(bytes->size - at) : MAX_HEADER;
	buf = malloc(size);
	b = calloc(1, sizeof(*b));
	if (!buf || !b)
		return -ENOMEM;
	if (!read_at(bytes, at, buf, size))
		return -EBADMSG;
	r = reader_init(buf, size);
	err = take_manifest(b, &r, bytes->size);
	if (err < 0)
		return err;
	*ret = steal_ptr(b);
	return 0;
}

size_t bundle_files(const struct bundle *b, const struct bundle_file **ret)
{
	*ret = b->files.data;
	return b->files.len;
}

const struct bundle_file *bundle_at(const struct bundle *b, uint64_t offset)
{
	for (size_t i = 0; i < b->files.len; i++) {
		const struct bundle_file *f = &b->files.data[i];

		if (offset >= f->offset && offset - f->offset < (f->packed_size ? f->packed_size : f->size))
			return f;
	}
	return NULL;
}

const struct bundle_file *bundle_find(const struct bundle *b, const char *assembly)
{
	size_t len = strlen(assembly);

	for (size_t i = 0; i < b->files.len; i++) {
		const char *name = b->files.data[i].name;

		if (!strncmp(name, assembly, len) && !strcmp(name + len, ".dll"))
			return &b->files.data[i];
	}
	return NULL;
}

/* A raw deflate stream, up to `size` bytes of what it holds. */
static bool unpack(const struct pe_bytes *bytes, const struct bundle_file *f, uint8_t *out, uint64_t size)
{
	_cleanup_free_ uint8_t *in = malloc(CHUNK_BYTES);
	z_stream z = { .next_out = out, .avail_out = (uInt)size };
	uint64_t at = 0;
	int status = Z_OK;

	if (!in || inflateInit2(&z, -MAX_WBITS) != Z_OK)
		return false;
	while (status == Z_OK && z.avail_out) {
		if (!z.avail_in) {
			uint64_t left = f->packed_size - at;
			size_t more = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;

			if (!more || !read_at(bytes, f->offset + at, in, more))
				break;
			at += more;
			z.next_in = in;
			z.avail_in = (uInt)more;
		}
		status = inflate(&z, Z_NO_FLUSH);
	}
	inflateEnd(&z);
	return !z.avail_out;
}

void *bundle_load(const struct pe_bytes *bytes, const struct bundle_file *file, uint64_t size)
{
	_cleanup_free_ void *buf = NULL;

	if (size > file->size)
		size = file->size;
	if (!size || size > PE_MAX_LOAD || (file->packed_size && file->size / MAX_RATIO > file->packed_size))
		return NULL;
	buf = malloc((size_t)size);
	if (!buf)
		return NULL;
	if (file->packed_size ? !unpack(bytes, file, buf, size) : !read_at(bytes, file->offset, buf, (size_t)size))
		return NULL;
	return steal_ptr(buf);
}
