/* Reading at any place of what is packed: forward, back, large and small, and what is damaged or lies about its size. */
#include "runtimes/bundle.h"
#include "test/check.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { SIZE = 5 << 20 };

/* Compressible, and different everywhere. */
static uint8_t *make_content(void)
{
	uint8_t *all = malloc(SIZE);
	uint32_t state = 1;

	CHECK(all);
	for (size_t i = 0; i < SIZE; i++) {
		if (i % 16 == 0)
			state = state * 1664525u + 1013904223u;
		all[i] = (uint8_t)(i % 16 < 4 ? state >> (i % 4 * 8) : i / 4096);
	}
	return all;
}

static uint8_t *pack(const uint8_t *all, size_t *ret_size)
{
	z_stream z = { 0 };
	uint8_t *packed = malloc(SIZE + 4096);

	CHECK(packed && deflateInit2(&z, 6, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
	z.next_in = (uint8_t *)(uintptr_t)all;
	z.avail_in = SIZE;
	z.next_out = packed + 100;
	z.avail_out = SIZE + 3996;
	CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
	*ret_size = z.total_out;
	deflateEnd(&z);
	return packed;
}

static void test_reads(const uint8_t *all, const struct pe_bytes *bytes, const struct bundle_file *file)
{
	struct bundle_stream *s = bundle_stream_new(bytes, file);
	uint8_t *buf = malloc(SIZE);
	struct pe_bytes view;
	uint32_t state = 7;

	CHECK(s && buf);
	view = bundle_stream_bytes(s);
	CHECK(view.size == SIZE);
	CHECK(view.read(view.data, buf, 1, SIZE - 1) == 0 && buf[0] == all[SIZE - 1]); /* which sets all marks */
	CHECK(view.read(view.data, buf, 300 << 10, 1000) == 0 && !memcmp(buf, all + 1000, 300 << 10));
	for (int i = 0; i < 60; i++) {
		size_t at, size;

		state = state * 1664525u + 1013904223u;
		at = state % (SIZE - 200000);
		size = i % 3 ? 12 : 190000;
		CHECK(view.read(view.data, buf, size, at) == 0);
		CHECK(!memcmp(buf, all + at, size));
	}
	bundle_stream_free(s);
	s = bundle_stream_new(bytes, file); /* as a whole, and then again */
	view = bundle_stream_bytes(s);
	for (int i = 0; i < 2; i++)
		CHECK(view.read(view.data, buf, SIZE, 0) == 0 && !memcmp(buf, all, SIZE));
	bundle_stream_free(s);
	free(buf);
}

/* Somebody who jumps about for ever is stopped. */
static void test_bounded(const struct pe_bytes *bytes, const struct bundle_file *file)
{
	struct bundle_stream *s = bundle_stream_new(bytes, file);
	uint8_t *buf = malloc(SIZE);
	struct pe_bytes view = bundle_stream_bytes(s);
	int ok = 0;

	while (ok < 100 && view.read(view.data, buf, SIZE, 0) == 0)
		ok++;
	CHECK(ok == 24 + (64 << 20) / SIZE);
	CHECK(view.read(view.data, buf, 1, 0) < 0);
	bundle_stream_free(s);
	free(buf);
}

static void test_damaged(const struct pe_bytes *bytes, const struct bundle_file *file)
{
	struct bundle_file bad = *file;
	struct bundle_stream *s;
	struct pe_bytes view;
	uint8_t byte;

	bad.packed_size /= 2;
	s = bundle_stream_new(bytes, &bad);
	view = bundle_stream_bytes(s);
	CHECK(view.read(view.data, &byte, 1, 10) == 0);
	CHECK(view.read(view.data, &byte, 1, SIZE - 1) < 0);
	CHECK(view.read(view.data, &byte, 1, 10) < 0); /* nothing of it is believed any more */
	bundle_stream_free(s);

	bad = *file;
	bad.offset += 50;
	s = bundle_stream_new(bytes, &bad);
	view = bundle_stream_bytes(s);
	CHECK(view.read(view.data, &byte, 1, SIZE - 1) < 0);
	bundle_stream_free(s);

	bad = *file;
	bad.size = SIZE + 1;
	s = bundle_stream_new(bytes, &bad);
	view = bundle_stream_bytes(s);
	CHECK(view.read(view.data, &byte, 1, SIZE) < 0);
	bundle_stream_free(s);

	bad = *file;
	bad.packed_size = 0;
	CHECK(!bundle_stream_new(bytes, &bad));
	bad.packed_size = 10;
	CHECK(!bundle_stream_new(bytes, &bad)); /* nothing packs that well */
	bad = *file;
	bad.size = (uint64_t)PE_MAX_LOAD + 1;
	CHECK(!bundle_stream_new(bytes, &bad));
	bad = *file;
	bad.packed_size = bytes->size;
	s = bundle_stream_new(bytes, &bad); /* more than the file has */
	view = bundle_stream_bytes(s);
	CHECK(view.read(view.data, &byte, 1, 0) < 0);
	bundle_stream_free(s);
}

int main(void)
{
	uint8_t *all = make_content();
	size_t packed_size;
	uint8_t *packed = pack(all, &packed_size);
	const struct pe_bytes bytes = pe_bytes_of_memory(packed, 100 + packed_size);
	const struct bundle_file file = { .name = "a.dll", .offset = 100, .size = SIZE, .packed_size = packed_size };

	CHECK(packed_size < SIZE / 2);
	test_reads(all, &bytes, &file);
	test_bounded(&bytes, &file);
	test_damaged(&bytes, &file);
	free(packed);
	free(all);
	return check_done();
}
