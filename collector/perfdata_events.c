#include "collector/perfdata_priv.h"

#include "base/hash.h"
#include "base/intern.h"
#include "base/reader.h"
#include "collector/record_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include <stdlib.h>
#include <string.h>

/* Against files made to fill memory and time; 512 CPUs with a thousand events each have half a million ids. */
enum { EVENTS_MAX = 1 << 14, IDS_MAX = 4 << 20, COUNTED_MAX = 4 << 20 };

void events_deinit(struct events *e)
{
	vec_deinit(&e->list);
	id_table_deinit(&e->ids);
	counted_table_deinit(&e->counted);
}

/* include/uapi/linux/perf_event.h enum perf_hw_id and perf_sw_ids, spelt as perf spells them. */
static const char *const hardware_names[] = {
	"cycles",
	"instructions",
	"cache-references",
	"cache-misses",
	"branches",
	"branch-misses",
	"bus-cycles",
	"stalled-cycles-frontend",
	"stalled-cycles-backend",
	"ref-cycles",
};
static const char *const software_names[] = {
	"cpu-clock",        "task-clock",   "page-faults",  "context-switches",
	"cpu-migrations",   "minor-faults", "major-faults", "alignment-faults",
	"emulation-faults", "dummy",        "bpf-output",   "cgroup-switches",
};

#define NUM(array) (sizeof(array) / sizeof((array)[0]))

/* For files that do not tell. */
static const char *name_of(const struct perf_event_attr *attr, char *buf, size_t size)
{
	if (attr->type == PERF_TYPE_HARDWARE && attr->config < NUM(hardware_names))
		return hardware_names[attr->config];
	if (attr->type == PERF_TYPE_SOFTWARE && attr->config < NUM(software_names))
		return software_names[attr->config];
	if (attr->type == PERF_TYPE_TRACEPOINT)
		snprintf(buf, size, "tracepoint-%" PRIu64, (uint64_t)attr->config);
	else if (attr->type == PERF_TYPE_RAW)
		snprintf(buf, size, "raw 0x%" PRIx64, (uint64_t)attr->config);
	else
		snprintf(buf, size, "type %u config 0x%" PRIx64, attr->type,
			 (uint64_t)attr->config);
	return buf;
}

/* The attr of an older or newer perf: what is common is copied, the rest is 0. */
static struct perf_event_attr read_attr(const void *bytes, size_t size)
{
	struct perf_event_attr ret = { 0 };
	uint32_t said;

	memcpy(&said, (const uint8_t *)bytes + offsetof(struct perf_event_attr, size),
	       sizeof(said));
	if (said < PERF_ATTR_SIZE_VER0)
		said = PERF_ATTR_SIZE_VER0;
	if (size > said)
		size = said;
	memcpy(&ret, bytes, size < sizeof(ret) ? size : sizeof(ret));
	return ret;
}

int events_add(struct events *e, struct intern *strings, const void *bytes, size_t size,
	       const uint8_t *ids, size_t num_ids, struct err *err)
{
	struct perf_event_attr attr;
	struct perfdata_event event;
	char buf[64];

	if (size < PERF_ATTR_SIZE_VER0)
		return err_set(err, EBADMSG,
			       "it describes an event in %zu bytes, fewer than any perf ever used",
			       size);
	if (e->list.len >= EVENTS_MAX || num_ids > IDS_MAX - e->ids.len)
		return err_set(err, EBADMSG, "it describes too many events");
	attr = read_attr(bytes, size);
	event = (struct perfdata_event){
		.name = intern_str(strings, name_of(&attr, buf, sizeof(buf))),
		.format = {
			.sample_type = attr.sample_type,
			.read_format = attr.read_format,
			.regs_user = attr.sample_regs_user,
			.regs_intr = attr.sample_regs_intr,
			.branch_type = attr.branch_sample_type,
			.sample_id_all = attr.sample_id_all,
		},
		.stack_bytes = attr.sample_stack_user,
		.user_chain = attr.sample_type & PERF_SAMPLE_CALLCHAIN &&
			      !attr.exclude_callchain_user,
		.freq_or_period = attr.freq ? attr.sample_freq : attr.sample_period,
		.freq = attr.freq,
		.inherit = attr.inherit,
		.type = attr.type,
		.config = attr.config,
	};
	if (!event.name || !vec_push(&e->list, event))
		return err_oom(err);
	e->settled = false;
	if (e->list.len == 1) {
		e->has_clockid = attr.use_clockid;
		e->clockid = attr.use_clockid ? (uint32_t)attr.clockid : 0;
	}
	for (size_t i = 0; i < num_ids; i++) {
		struct id_slot *slot;
		uint64_t id;

		memcpy(&id, ids + i * sizeof(id), sizeof(id));
		slot = id_table_add(&e->ids, id, NULL);
		if (!slot)
			return err_oom(err);
		*slot = (struct id_slot){ .id = id, .event = e->list.len - 1 };
	}
	return 0;
}

ptrdiff_t event_counted(struct events *e, uint64_t id, pid_t tid, uint64_t value, uint64_t *ret_period)
{
	const struct id_slot *slot = id_table_find(&e->ids, id);
	const struct perfdata_event *event = slot ? &e->list.data[slot->event] : NULL;
	struct counted *last;
	uint64_t key;
	bool added;

	if (!event || e->counted.len >= COUNTED_MAX)
		return -1;
	/* Tasks that inherit an event count into their own, whose ids are the same (Linux 6.12). */
	key = hash_two(id, event->inherit ? (uint64_t)tid : 0);
	last = counted_table_add(&e->counted, key, &added);
	if (!last)
		return -1;
	if (added)
		*last = (struct counted){ .key = key };
	*ret_period = value >= last->value ? value - last->value : value;
	last->value = value;
	return *ret_period ? (ptrdiff_t)slot->event : -1;
}

struct perfdata_event *event_by_id(struct events *e, uint64_t id)
{
	const struct id_slot *slot = id_table_find(&e->ids, id);

	return slot ? &e->list.data[slot->event] : NULL;
}

static size_t words(uint64_t sample_type, uint64_t fields)
{
	return 8 * (size_t)__builtin_popcountll(sample_type & fields);
}

/* perf_output_sample: IDENTIFIER comes first, ID behind these. */
static size_t id_offset(uint64_t sample_type)
{
	if (sample_type & PERF_SAMPLE_IDENTIFIER)
		return sizeof(struct perf_event_header);
	if (!(sample_type & PERF_SAMPLE_ID))
		return 0;
	return sizeof(struct perf_event_header) +
	       words(sample_type,
		     PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR);
}

/* perf_event__output_id_sample: IDENTIFIER comes last, ID before these. */
static size_t id_from_end(const struct record_format *f)
{
	if (!f->sample_id_all)
		return 0;
	if (f->sample_type & PERF_SAMPLE_IDENTIFIER)
		return 8;
	if (!(f->sample_type & PERF_SAMPLE_ID))
		return 0;
	return 8 + words(f->sample_type, PERF_SAMPLE_STREAM_ID | PERF_SAMPLE_CPU);
}

static bool format_equal(const struct record_format *a, const struct record_format *b)
{
	return a->sample_type == b->sample_type && a->read_format == b->read_format &&
	       a->regs_user == b->regs_user && a->regs_intr == b->regs_intr &&
	       a->branch_type == b->branch_type && a->sample_id_all == b->sample_id_all;
}

int events_settle(struct events *e, struct err *err)
{
	const struct record_format *first;

	if (e->settled)
		return 0;
	if (!e->list.len)
		return err_set(err, EBADMSG, "its records begin before any event is described");
	first = &e->list.data[0].format;
	e->id_in_sample = id_offset(first->sample_type);
	e->id_from_end = id_from_end(first);
	e->same_format = true;
	for (size_t i = 1; i < e->list.len; i++) {
		const struct record_format *f = &e->list.data[i].format;

		e->same_format &= format_equal(first, f);
		if (id_offset(f->sample_type) != e->id_in_sample)
			e->id_in_sample = 0;
		if (id_from_end(f) != e->id_from_end)
			e->id_from_end = 0;
	}
	if (!e->same_format && !e->id_in_sample)
		return err_set(
			err, ENOTSUP,
			"its %zu events lay out their samples differently, and no id in the samples tells which "
			"is whose",
			e->list.len);
	e->settled = true;
	return 0;
}

ptrdiff_t event_of(const struct events *e, uint32_t type, const uint8_t *bytes, size_t size,
		   size_t avail)
{
	bool sample = type == PERF_RECORD_SAMPLE;
	size_t at = e->id_in_sample;
	const struct id_slot *slot;
	uint64_t id;

	if (e->list.len == 1)
		return 0;
	if (!sample)
		at = e->id_from_end && size >= sizeof(struct perf_event_header) + e->id_from_end
			     ? size - e->id_from_end
			     : 0;
	if (!at || at + sizeof(id) > avail)
		return sample && !e->same_format ? -1 : 0;
	memcpy(&id, bytes + at, sizeof(id));
	slot = id_table_find(&e->ids, id);
	if (slot)
		return (ptrdiff_t)slot->event;
	/* What perf itself made up carries an id of 0, and the first event's trailer. */
	return sample && !e->same_format ? -1 : 0;
}

/* The order of perf_output_sample, up to STACK_USER. */
size_t sample_stack_offset(const struct record_format *f, const uint8_t *bytes, size_t avail)
{
	static const uint64_t fixed = PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID |
				      PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR | PERF_SAMPLE_ID |
				      PERF_SAMPLE_STREAM_ID | PERF_SAMPLE_CPU | PERF_SAMPLE_PERIOD;
	static const uint64_t hard = PERF_SAMPLE_READ | PERF_SAMPLE_RAW | PERF_SAMPLE_BRANCH_STACK;
	struct reader r = reader_init(bytes, avail);
	uint64_t num;

	if (!(f->sample_type & PERF_SAMPLE_STACK_USER) || f->sample_type & hard)
		return 0;
	reader_bytes(&r, sizeof(struct perf_event_header) + words(f->sample_type, fixed));
	if (f->sample_type & PERF_SAMPLE_CALLCHAIN) {
		num = reader_u64(&r);
		if (num > reader_left(&r) / sizeof(uint64_t))
			return 0;
		reader_bytes(&r, (size_t)num * sizeof(uint64_t));
	}
	if (f->sample_type & PERF_SAMPLE_REGS_USER && reader_u64(&r))
		reader_bytes(&r, words(f->regs_user, UINT64_MAX));
	if (r.failed || reader_left(&r) < sizeof(uint64_t))
		return 0;
	return (size_t)(r.pos - bytes);
}
