#include "collector/perfdata_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <zstd.h>

/*
 * perf compresses what it would have written as one continuous stream, cut into records wherever one was full: a
 * record inside may begin in one and end in the next (tools/perf/util/zstd.c).
 */

/*
 * Honest streams of nearly equal stacks shrink a hundredfold. What claims more than this for each byte of the file
 * is made to keep us busy.
 */
enum { RATIO_MAX = 2000 };
static const uint64_t FREE_BYTES = 64 << 20;

struct zstd_stream {
	ZSTD_DStream *stream;
	struct block *block; /* of the payload at work; a reference */
	ZSTD_inBuffer in;
	uint64_t offset; /* of its record in the file */
	uint64_t total_in, total_out;
};

void zstd_stream_free(struct zstd_stream *z)
{
	if (!z)
		return;
	ZSTD_freeDStream(z->stream);
	free(z);
}

static struct zstd_stream *zstd_stream_new(void)
{
	struct zstd_stream *ret = calloc(1, sizeof(*ret));

	if (!ret)
		return NULL;
	ret->stream = ZSTD_createDStream();
	if (!ret->stream) {
		free(ret);
		return NULL;
	}
	return ret;
}

int perfdata_pack_begin(struct perfdata *p, const struct raw *raw, size_t begin, size_t size,
			struct err *err)
{
	if (!p->zstd)
		p->zstd = zstd_stream_new();
	if (!p->zstd)
		return err_oom(err);
	p->info.compressed = true;
	p->zstd->in = (ZSTD_inBuffer){ .src = raw->bytes + begin, .size = size };
	p->zstd->offset = raw->offset;
	p->zstd->total_in += size;
	p->zstd->block = raw->block;
	raw->block->refs++;
	return 0;
}

void perfdata_pack_end(struct perfdata *p)
{
	if (!p->zstd)
		return;
	block_put(&p->pool, p->zstd->block);
	p->zstd->block = NULL;
}

static int take_plain(struct perfdata *p, struct err *err)
{
	struct raw raw;
	int r;

	while ((r = window_next(&p->plain, &raw)) > 0) {
		raw.offset = p->zstd->offset;
		r = perfdata_take(p, &raw, err);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return err_set(err, EBADMSG,
			       "a record in the compressed data at offset %" PRIu64
			       " has a size of %u bytes, less than "
			       "its header: what comes after it cannot be found",
			       p->zstd->offset, raw.size);
	return 0;
}

int perfdata_unpack(struct perfdata *p, struct err *err)
{
	struct zstd_stream *z = p->zstd;
	struct window *w = &p->plain;
	ZSTD_outBuffer out;
	size_t left;

	if (!z || !z->block)
		return 0;
	if (window_room(&p->pool, w, RECORD_MAX) < 0)
		return err_oom(err);
	out = (ZSTD_outBuffer){ .dst = w->block->bytes + w->end, .size = BLOCK_BYTES - w->end };
	left = ZSTD_decompressStream(z->stream, &out, &z->in);
	if (ZSTD_isError(left)) {
		perfdata_pack_end(p);
		return err_set(err, EBADMSG,
			       "the compressed data at offset %" PRIu64 " is damaged: %s",
			       z->offset, ZSTD_getErrorName(left));
	}
	w->end += out.pos;
	z->total_out += out.pos;
	if (z->total_out > FREE_BYTES && z->total_out / RATIO_MAX > z->total_in) {
		perfdata_pack_end(p);
		return err_set(err, EBADMSG,
			       "the compressed data at offset %" PRIu64 " grows more than %d-fold",
			       z->offset, RATIO_MAX);
	}
	/* An output that was not filled has nothing more to come. */
	if (out.pos < out.size && z->in.pos == z->in.size)
		perfdata_pack_end(p);
	return take_plain(p, err) < 0 ? -err->code : 1;
}
