/*
 * perf's own records: tools/lib/perf/include/perf/event.h, enum perf_user_event_type. They describe the recording in
 * a pipe, where there are no sections, and carry what is no record of the kernel.
 */
#include "collector/perfdata_priv.h"

#include "base/intern.h"
#include "base/reader.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { EVENT_UPDATE_NAME = 2 }; /* enum perf_event_update type: UNIT, SCALE, NAME, CPUS from 0 */

/* header, struct perf_event_attr of its own size, ids */
static int take_attr(struct perfdata *p, struct reader *r, struct err *err)
{
	const uint8_t *attr = r->pos;
	uint32_t size;

	if (reader_left(r) < PERF_ATTR_SIZE_VER0)
		return err_set(err, EBADMSG, "an event's description is cut short");
	memcpy(&size, attr + offsetof(struct perf_event_attr, size), sizeof(size));
	if (!size)
		size = PERF_ATTR_SIZE_VER0;
	if (size < PERF_ATTR_SIZE_VER0 || size > reader_left(r))
		return err_set(err, EBADMSG, "an event's description claims %u bytes of %zu", size,
			       reader_left(r));
	reader_bytes(r, size);
	return events_add(p->events, p->strings, attr, size, r->pos,
			  reader_left(r) / sizeof(uint64_t), err);
}

/* header, u64 type, u64 id, then what the type says */
static int take_event_update(struct perfdata *p, struct reader *r, struct err *err)
{
	uint64_t type = reader_u64(r), id = reader_u64(r);
	struct perfdata_event *event = event_by_id(p->events, id);
	const char *name;

	if (type != EVENT_UPDATE_NAME || !event)
		return 0;
	name = reader_str(r);
	if (!name || !*name)
		return 0;
	name = intern_str(p->strings, name);
	if (!name)
		return err_oom(err);
	event->name = name;
	return 0;
}

/* header, u64 data_size, then as many bytes, padded to 8 */
static int take_compressed2(struct perfdata *p, const struct raw *raw, struct reader *r,
			    struct err *err)
{
	size_t begin = sizeof(struct perf_event_header) + sizeof(uint64_t);
	uint64_t size = reader_u64(r);

	if (r->failed)
		return err_set(err, EBADMSG,
			       "the compressed record at offset %" PRIu64 " is too short",
			       raw->offset);
	/*
	 * perf 6.16 and later put the sum of several records here when data compress badly, and let its 16-bit
	 * twin in the header wrap (builtin-record.c record__pushfn): where the next record begins is then lost.
	 */
	if (size > reader_left(r))
		return err_set(
			err, EBADMSG,
			"the compressed record at offset %" PRIu64 " claims %" PRIu64
			" bytes where its header "
			"has room for %zu; perf writes this when data compress badly, and what follows cannot be "
			"read: record without -z",
			raw->offset, size, reader_left(r));
	return perfdata_pack_begin(p, raw, begin, (size_t)size, err);
}

/* The payload comes behind the record, outside its size. */
static int take_payload(struct perfdata *p, uint64_t size, const struct raw *raw, struct err *err)
{
	if (size > INT64_MAX)
		return err_set(err, EBADMSG,
			       "the record at offset %" PRIu64 " claims %" PRIu64
			       " bytes behind it",
			       raw->offset, size);
	return input_skip(p, size, err);
}

static int take_outer(struct perfdata *p, const struct raw *raw, struct reader *r, struct err *err)
{
	size_t header = sizeof(struct perf_event_header);
	uint64_t size;

	switch (raw->type) {
	case USER_TRACING_DATA:
		size = reader_u32(r);
		return take_payload(p, (size + 7) & ~(uint64_t)7, raw, err);
	case USER_AUXTRACE:
		return take_payload(p, reader_u64(r), raw, err);
	case USER_COMPRESSED:
		return perfdata_pack_begin(p, raw, header, raw->size - header, err);
	case USER_COMPRESSED2:
		return take_compressed2(p, raw, r, err);
	default:
		return 0;
	}
}

/* True for what takes more bytes of the file, and so cannot stand in compressed data. */
static bool is_outer(uint32_t type)
{
	return type == USER_TRACING_DATA || type == USER_AUXTRACE || type == USER_COMPRESSED ||
	       type == USER_COMPRESSED2;
}

int perfdata_take_user(struct perfdata *p, const struct raw *raw, struct err *err)
{
	struct reader r = reader_init(raw->bytes, raw->size);
	uint64_t feature;

	if (raw->type > USER_LAST_KNOWN) {
		p->counts.unknown++;
		return 0;
	}
	if (is_outer(raw->type) && raw->block != p->in.window.block) {
		p->counts.malformed++;
		return 0;
	}
	reader_bytes(&r, sizeof(struct perf_event_header));
	switch (raw->type) {
	case USER_HEADER_ATTR:
		return take_attr(p, &r, err);
	case USER_EVENT_UPDATE:
		return take_event_update(p, &r, err);
	case USER_BUILD_ID:
		/* Those that were told first are all of them. */
		if (!p->build_ids)
			perfdata_emit_build_ids(raw->bytes, raw->size, p->sink);
		return 0;
	case USER_FEATURE:
		feature = reader_u64(&r);
		return perfdata_feature(p, feature, r.pos, reader_left(&r), err);
	case USER_FINISHED_ROUND:
		return queue_finish_round(&p->queue) < 0 ? err_oom(err) : 0;
	default:
		return take_outer(p, raw, &r, err);
	}
}
