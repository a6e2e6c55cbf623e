/* Build-ids of a recording: one after another in a table of the header, or among the records. */
#include "collector/perfdata_priv.h"

#include "base/cleanup.h"
#include "base/reader.h"
#include "base/strbuf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	SEARCH_BYTES = 4096, /* at a time: many small records, or the header of a large one */
	FOUND_BYTES_MAX = 16 << 20,
};

/*
 * struct perf_record_header_build_id: header, pid, 20 bytes of id, its size (misc bit 15, else 20), 3 bytes, path.
 * A table is one after another.
 */
void perfdata_emit_build_ids(const uint8_t *bytes, size_t size, const struct perfdata_sink *sink)
{
	static const uint16_t SIZE_IS_TOLD = 1u << 15; /* PERF_RECORD_MISC_BUILD_ID_SIZE */
	struct reader all = reader_init(bytes, size);

	while (reader_left(&all) >= sizeof(struct perf_event_header)) {
		struct perf_event_header header;
		struct perfdata_build_id ret;
		const uint8_t *record = all.pos;
		struct reader r;

		memcpy(&header, record, sizeof(header));
		if (header.size < sizeof(header) || !reader_bytes(&all, header.size))
			return;
		r = reader_init(record + sizeof(header), header.size - sizeof(header));
		ret.misc = header.misc;
		ret.pid = (pid_t)reader_u32(&r);
		ret.id = reader_bytes(&r, 20);
		ret.id_len = reader_u8(&r);
		reader_bytes(&r, 3);
		ret.path = reader_str(&r);
		if (!(header.misc & SIZE_IS_TOLD))
			ret.id_len = 20;
		if (ret.path && ret.id && ret.id_len && ret.id_len <= 20 && sink->build_id)
			sink->build_id(sink->data, &ret);
	}
}

/*
 * The header of the record at `at`, through a window of the file. 1, or 0 where there is none: at the end, or where what is
 * there is no record.
 */
static int header_at(const struct perfdata *p, uint64_t at, uint8_t *window, uint64_t *begin, size_t *len,
		     struct perf_event_header *ret)
{
	uint64_t left = p->in.limit - at;
	size_t want = left < SEARCH_BYTES ? (size_t)left : SEARCH_BYTES;

	if (left < sizeof(*ret))
		return 0;
	if (at < *begin || at - *begin + sizeof(*ret) > *len) {
		int r = input_read_at(&p->in, window, want, at);

		if (r <= 0)
			return r;
		*begin = at;
		*len = want;
	}
	memcpy(ret, window + (at - *begin), sizeof(*ret));
	return ret->size >= sizeof(*ret) && ret->size <= left;
}

static int keep(struct perfdata *p, struct strbuf *found, uint64_t at, size_t size)
{
	uint8_t record[UINT16_MAX];
	int r = input_read_at(&p->in, record, size, at);

	if (r > 0)
		strbuf_add(found, record, size);
	return r;
}

int perfdata_search_build_ids(struct perfdata *p, struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf found = { 0 };
	uint8_t window[SEARCH_BYTES];
	uint64_t begin = 0, at = p->in.pos;
	struct perf_event_header header;
	size_t len = 0;

	while (found.len < FOUND_BYTES_MAX && header_at(p, at, window, &begin, &len, &header) > 0) {
		/* What comes behind these is no record. */
		if (header.type == USER_TRACING_DATA || header.type == USER_AUXTRACE)
			break;
		if (header.type == USER_BUILD_ID && keep(p, &found, at, header.size) <= 0)
			break;
		at += header.size;
	}
	if (found.failed)
		return err_oom(err);
	if (!found.len)
		return 0;
	p->build_ids_size = found.len;
	p->build_ids = (uint8_t *)steal_ptr(found.data);
	return 0;
}
