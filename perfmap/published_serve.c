/* The parser's side: bytes in, ranges out, nothing kept. */
#include "perfmap/published.h"

#include <errno.h>
#include <string.h>

enum { MAX_NAME = 16 << 10 };

static void put(uint8_t **pos, const void *value, size_t size)
{
	memcpy(*pos, value, size);
	*pos += size;
}

static void put_head(uint8_t **pos, uint8_t what, uint64_t a, uint64_t b, uint64_t c)
{
	put(pos, &what, 1);
	put(pos, &a, 8);
	put(pos, &b, 8);
	put(pos, &c, 8);
}

static void answer_cfi(struct worker_call *call, const uint8_t *cfi, size_t cfi_len)
{
	uint8_t record[1 + 2 + PERFMAP_MAX_CFI], *pos = record;
	const uint16_t len = (uint16_t)cfi_len;
	const uint8_t what = PUBLISHED_CFI;

	put(&pos, &what, 1);
	put(&pos, &len, 2);
	put(&pos, cfi, len);
	worker_answer(call, record, (size_t)(pos - record));
}

static void answer_add(void *data, enum perfmap_lane lane, uint64_t time_ns, uint64_t start, uint64_t end,
		       const char *name, size_t name_len, const uint8_t *cfi, size_t cfi_len)
{
	uint8_t record[1 + 3 * 8 + 2 + MAX_NAME], *pos = record;
	const uint16_t len = (uint16_t)(name_len < MAX_NAME ? name_len : MAX_NAME);

	put_head(&pos, PUBLISHED_RANGE, time_ns, start, end);
	put(&pos, &len, 2);
	put(&pos, name, len);
	worker_answer(data, record, (size_t)(pos - record));
	if (cfi_len && cfi_len <= PERFMAP_MAX_CFI)
		answer_cfi(data, cfi, cfi_len);
}

static void answer_move(void *data, enum perfmap_lane lane, uint64_t time_ns, uint64_t from, uint64_t to, uint64_t size)
{
	uint8_t record[1 + 4 * 8], *pos = record;

	put_head(&pos, PUBLISHED_MOVE, time_ns, from, to);
	put(&pos, &size, 8);
	worker_answer(data, record, (size_t)(pos - record));
}

static int answer_end(struct worker_call *call, uint64_t used, size_t bad, unsigned int flags)
{
	uint8_t record[1 + 8 + 4 + 1], *pos = record;
	const uint8_t what = PUBLISHED_END, byte = (uint8_t)flags;
	const uint32_t bad_lines = (uint32_t)bad;

	put(&pos, &what, 1);
	put(&pos, &used, 8);
	put(&pos, &bad_lines, 4);
	put(&pos, &byte, 1);
	return worker_answer(call, record, sizeof(record)) ? 0 : -EPIPE;
}

static int serve_text(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	const struct perfmap_sink sink = { answer_add, answer_move, call };
	struct perfmap_lines lines = { .max_line = reader_u32(r) };
	const char *text;
	size_t len, used;

	lines.skipping = reader_u8(r) != 0;
	len = reader_left(r);
	text = reader_bytes(r, len);
	if (r->failed)
		return -EBADMSG;
	used = perfmap_lines_take(&lines, text, len, 0, &sink);
	return answer_end(call, used, lines.bad, lines.skipping ? PUBLISHED_SKIPPING : 0);
}

static int serve_dump(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	const struct perfmap_sink sink = { answer_add, answer_move, call };
	uint8_t flags = reader_u8(r);
	struct jitdump_state dump = { .begun = flags & PUBLISHED_BEGUN, .foreign_clock = flags & PUBLISHED_FOREIGN };
	uint64_t left = reader_u64(r), stamp_ns = reader_u64(r), used;
	size_t len = reader_left(r);
	const uint8_t *bytes = reader_bytes(r, len);

	if (r->failed || len > left)
		return -EBADMSG;
	used = jitdump_take(&dump, bytes, len, left, stamp_ns, &sink);
	return answer_end(call, used, 0,
			  (dump.begun ? PUBLISHED_BEGUN : 0) | (dump.foreign_clock ? PUBLISHED_FOREIGN : 0) |
				  (dump.failed ? PUBLISHED_FAILED : 0));
}

const struct worker_service published_services[] = {
	{ PUBLISHED_TEXT, serve_text },
	{ PUBLISHED_DUMP, serve_dump },
	{ 0 },
};
