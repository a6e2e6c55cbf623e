#include "runtimes/nettrace.h"

#include "base/hash.h"
#include "base/htab.h"
#include "base/reader.h"
#include "base/strbuf.h"
#include "base/vec.h"

#include <stdlib.h>
#include <string.h>

enum {
	/* NetTraceFormat "Tags" of a FastSerialization stream. */
	TAG_NULL = 1,
	TAG_BEGIN = 5,
	TAG_END = 6,
	PREAMBLE_BYTES = 32, /* "Nettrace", u32 20, "!FastSerialization.1" */
	TRACE_BYTES = 48,
	MAX_NAME = 64,          /* of an object's type; the longest known is 13 */
	MAX_BLOCK = 16 << 20,   /* bytes; the runtime makes blocks of 100 KiB */
	MAX_METADATA = 4096,    /* kinds of events that one stream may tell */
	MAX_THREADS = 1 << 16,
	MAX_TEXT = 4096, /* UTF-16 units that are taken of a text */
	/* Flags of a compressed header (ep-block.c, EVENT_BLOB flags). */
	HAS_METADATA = 1,
	HAS_SEQUENCE = 2,
	HAS_THREAD = 4,
	HAS_STACK = 8,
	HAS_ACTIVITY = 16,
	HAS_RELATED = 32,
	HAS_SIZE = 128,
	BLOCK_COMPRESSED = 1,
};

static const char preamble[PREAMBLE_BYTES + 1] = "Nettrace\x14\0\0\0!FastSerialization.1";

/* Which payload an event has. */
enum payload {
	PAYLOAD_OTHER,
	PAYLOAD_METHOD_LOAD,
	PAYLOAD_METHOD_UNLOAD,
	PAYLOAD_METHOD_EXISTS,
	PAYLOAD_MODULE,
	PAYLOAD_DOMAIN_MODULE,
	PAYLOAD_MODULE_UNLOAD, /* as PAYLOAD_MODULE */
	PAYLOAD_ASSEMBLY,
	PAYLOAD_RUNDOWN_END,
};

/* dotnet/runtime src/coreclr/vm/ClrEtwAll.man */
static const struct {
	bool rundown; /* of Microsoft-Windows-DotNETRuntimeRundown, else of Microsoft-Windows-DotNETRuntime */
	uint32_t event;
	enum payload payload;
} known_events[] = {
	{ false, 143, PAYLOAD_METHOD_LOAD },   { false, 144, PAYLOAD_METHOD_UNLOAD },
	{ false, 151, PAYLOAD_DOMAIN_MODULE }, { false, 152, PAYLOAD_MODULE },
	{ false, 153, PAYLOAD_MODULE_UNLOAD }, { false, 154, PAYLOAD_ASSEMBLY },
	{ true, 143, PAYLOAD_METHOD_EXISTS },  { true, 144, PAYLOAD_METHOD_EXISTS },
	{ true, 145, PAYLOAD_RUNDOWN_END },    { true, 146, PAYLOAD_RUNDOWN_END },
	{ true, 151, PAYLOAD_DOMAIN_MODULE },  { true, 152, PAYLOAD_DOMAIN_MODULE },
	{ true, 153, PAYLOAD_MODULE },	       { true, 154, PAYLOAD_MODULE },
	{ true, 155, PAYLOAD_ASSEMBLY },       { true, 156, PAYLOAD_ASSEMBLY },
};

struct metadata_slot {
	uint32_t id;
	uint8_t payload; /* enum payload */
	uint32_t version;
};
HTAB(metadata_tab, struct metadata_slot, uint32_t, hash_u64(key), slot->id == key, hash_u64(slot->id));

struct thread_slot {
	uint64_t thread;
	uint32_t sequence; /* of its last event */
};
HTAB(thread_tab, struct thread_slot, uint64_t, hash_u64(key), slot->thread == key, hash_u64(slot->thread));

struct nettrace {
	VEC(uint8_t) pending; /* bytes of an object that is not whole yet */
	uint64_t offset;      /* of pending.data[0] in the stream */
	bool began;           /* the preamble was there */
	enum nettrace_state state;
	const char *why;
	struct nettrace_header header;
	struct nettrace_counts counts;
	bool clock_is_ours;
	struct metadata_tab metadata;
	struct thread_tab threads;
	struct strbuf first, second; /* texts of the event being told */
};

struct nettrace *nettrace_new(void)
{
	return calloc(1, sizeof(struct nettrace));
}

void nettrace_free(struct nettrace *n)
{
	if (!n)
		return;
	vec_deinit(&n->pending);
	metadata_tab_deinit(&n->metadata);
	thread_tab_deinit(&n->threads);
	strbuf_deinit(&n->first);
	strbuf_deinit(&n->second);
	free(n);
}

static void broken(struct nettrace *n, const char *why)
{
	n->state = NETTRACE_BROKEN;
	n->why = why;
}

/* ---- texts ---- */

static void add_utf8(struct strbuf *out, uint32_t c)
{
	char b[4];
	size_t len;

	if (c < 0x80) {
		b[0] = (char)c;
		len = 1;
	} else if (c < 0x800) {
		b[0] = (char)(0xc0 | c >> 6);
		b[1] = (char)(0x80 | (c & 0x3f));
		len = 2;
	} else if (c < 0x10000) {
		b[0] = (char)(0xe0 | c >> 12);
		b[1] = (char)(0x80 | (c >> 6 & 0x3f));
		b[2] = (char)(0x80 | (c & 0x3f));
		len = 3;
	} else {
		b[0] = (char)(0xf0 | c >> 18);
		b[1] = (char)(0x80 | (c >> 12 & 0x3f));
		b[2] = (char)(0x80 | (c >> 6 & 0x3f));
		b[3] = (char)(0x80 | (c & 0x3f));
		len = 4;
	}
	strbuf_add(out, b, len);
}

static bool is_high(uint32_t unit)
{
	return unit >= 0xd800 && unit < 0xdc00;
}

static bool is_low(uint32_t unit)
{
	return unit >= 0xdc00 && unit < 0xe000;
}

/* Text up to its NUL; `out` may be NULL. What is longer than MAX_TEXT is cut. */
static void take_text(struct reader *r, struct strbuf *out)
{
	uint32_t high = 0;

	if (out) {
		strbuf_clear(out);
		strbuf_add(out, "", 0);
	}
	for (size_t taken = 0;; taken++) {
		uint32_t unit = reader_u16(r);

		if (r->failed || !unit)
			break;
		if (!out || taken >= MAX_TEXT)
			continue;
		if (high && is_low(unit))
			add_utf8(out, 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00));
		else if (high || (is_low(unit)))
			add_utf8(out, 0xfffd);
		if (!is_high(unit) && !is_low(unit))
			add_utf8(out, unit);
		high = is_high(unit) ? unit : 0;
	}
	if (out && high)
		add_utf8(out, 0xfffd);
}

static const char *text_of(const struct strbuf *b)
{
	return b->data ? b->data : "";
}

/* ---- payloads ---- */

/* MethodLoadVerbose and its kin: version 0 ends with the texts, 1 tells the runtime, 2 the code's version. */
static bool take_method(struct nettrace *n, struct reader *r, uint32_t version, struct nettrace_method *ret)
{
	uint64_t end;

	ret->id = reader_u64(r);
	ret->module_id = reader_u64(r);
	ret->start = reader_u64(r);
	ret->size = reader_u32(r);
	reader_u32(r); /* the metadata token */
	ret->flags = reader_u32(r);
	take_text(r, &n->first);
	take_text(r, &n->second);
	take_text(r, NULL); /* the signature */
	if (version >= 1)
		reader_u16(r);
	ret->rejit = version >= 2 && !r->failed && reader_left(r) >= 8 ? reader_u64(r) : 0;
	ret->type = text_of(&n->first);
	ret->name = text_of(&n->second);
	return !r->failed && ret->start && ret->size && ret->size <= INT32_MAX &&
	       !__builtin_add_overflow(ret->start, ret->size, &end) && end >> 56 == 0;
}

static bool take_module(struct nettrace *n, struct reader *r, bool domain, struct nettrace_module *ret)
{
	ret->id = reader_u64(r);
	reader_u64(r); /* the assembly */
	if (domain)
		reader_u64(r);
	reader_u32(r); /* flags */
	reader_u32(r);
	take_text(r, &n->first);
	take_text(r, &n->second);
	ret->path = text_of(&n->first);
	ret->native_path = text_of(&n->second);
	return !r->failed;
}

static bool take_assembly(struct nettrace *n, struct reader *r, uint32_t version, struct nettrace_assembly *ret)
{
	reader_u64(r); /* the assembly */
	reader_u64(r); /* its domain */
	if (version >= 1)
		reader_u64(r); /* its binding */
	ret->flags = reader_u32(r);
	take_text(r, &n->first);
	ret->name = text_of(&n->first);
	return !r->failed;
}

static void take_payload(struct nettrace *n, const struct metadata_slot *metadata, struct nettrace_event *event,
			 const uint8_t *payload, size_t size, const struct nettrace_sink *sink)
{
	static const enum nettrace_event_kind kinds[] = {
		[PAYLOAD_METHOD_LOAD] = NETTRACE_METHOD_LOAD,
		[PAYLOAD_METHOD_UNLOAD] = NETTRACE_METHOD_UNLOAD,
		[PAYLOAD_METHOD_EXISTS] = NETTRACE_METHOD_EXISTS,
		[PAYLOAD_MODULE] = NETTRACE_MODULE,
		[PAYLOAD_DOMAIN_MODULE] = NETTRACE_MODULE,
		[PAYLOAD_MODULE_UNLOAD] = NETTRACE_MODULE_UNLOAD,
		[PAYLOAD_ASSEMBLY] = NETTRACE_ASSEMBLY,
		[PAYLOAD_RUNDOWN_END] = NETTRACE_RUNDOWN_END,
	};
	struct reader r = reader_init(payload, size);
	bool good = true;

	n->counts.events++;
	switch ((enum payload)metadata->payload) {
	case PAYLOAD_OTHER:
		n->counts.others++;
		return;
	case PAYLOAD_METHOD_LOAD:
	case PAYLOAD_METHOD_UNLOAD:
	case PAYLOAD_METHOD_EXISTS:
		good = take_method(n, &r, metadata->version, &event->method);
		break;
	case PAYLOAD_MODULE:
	case PAYLOAD_DOMAIN_MODULE:
	case PAYLOAD_MODULE_UNLOAD:
		good = take_module(n, &r, metadata->payload == PAYLOAD_DOMAIN_MODULE, &event->module);
		break;
	case PAYLOAD_ASSEMBLY:
		good = take_assembly(n, &r, metadata->version, &event->assembly);
		break;
	case PAYLOAD_RUNDOWN_END:
		break;
	}
	if (!good || n->first.failed || n->second.failed) {
		n->counts.odd++;
		return;
	}
	event->kind = kinds[metadata->payload];
	sink->event(sink->data, event);
}

/* ---- blobs ---- */

struct blob {
	uint32_t metadata_id, sequence;
	uint64_t thread, capture_thread, time;
	uint32_t payload_bytes;
	const uint8_t *payload;
};

static uint64_t take_varuint(struct reader *r)
{
	return reader_uleb(r);
}

/* What is absent is as in the blob before. */
static bool next_compressed(struct reader *r, struct blob *b)
{
	uint8_t flags = reader_u8(r);

	if (flags & HAS_METADATA)
		b->metadata_id = (uint32_t)take_varuint(r);
	if (flags & HAS_SEQUENCE) {
		b->sequence += (uint32_t)take_varuint(r);
		b->capture_thread = take_varuint(r);
		take_varuint(r); /* CPU */
	}
	if (b->metadata_id)
		b->sequence++;
	if (flags & HAS_THREAD)
		b->thread = take_varuint(r);
	if (flags & HAS_STACK)
		take_varuint(r);
	b->time += take_varuint(r);
	if (flags & HAS_ACTIVITY)
		reader_bytes(r, 16);
	if (flags & HAS_RELATED)
		reader_bytes(r, 16);
	if (flags & HAS_SIZE)
		b->payload_bytes = (uint32_t)take_varuint(r);
	b->payload = reader_bytes(r, b->payload_bytes);
	return !r->failed;
}

static bool next_plain(struct reader *r, struct blob *b)
{
	uint32_t size = reader_u32(r);
	const uint8_t *bytes = reader_bytes(r, size);
	struct reader in = reader_init(bytes, bytes ? size : 0);

	b->metadata_id = reader_u32(&in) & 0x7fffffff; /* the top bit: sorted */
	b->sequence = reader_u32(&in);
	b->thread = reader_u64(&in);
	b->capture_thread = reader_u64(&in);
	reader_u32(&in); /* CPU */
	reader_u32(&in); /* stack */
	b->time = reader_u64(&in);
	reader_bytes(&in, 32); /* activity, related activity */
	b->payload_bytes = reader_u32(&in);
	b->payload = reader_bytes(&in, b->payload_bytes);
	return !r->failed && !in.failed;
}

static bool text_is(struct reader *r, const char *word)
{
	bool same = true;

	for (size_t i = 0;; i++) {
		uint32_t unit = reader_u16(r), want = same ? (uint8_t)word[i] : 0;

		same = same && unit == want;
		if (r->failed || !unit)
			return same && !r->failed;
	}
}

static enum payload payload_of(bool rundown, uint32_t event)
{
	for (size_t i = 0; i < sizeof(known_events) / sizeof(known_events[0]); i++) {
		if (known_events[i].rundown == rundown && known_events[i].event == event)
			return known_events[i].payload;
	}
	return PAYLOAD_OTHER;
}

/* What events of one number are: told once, before the first of them. */
static void take_metadata(struct nettrace *n, const struct blob *b)
{
	struct reader r = reader_init(b->payload, b->payload_bytes), provider;
	struct metadata_slot *slot;
	bool runtime, rundown;
	uint32_t id = reader_u32(&r), event, version;

	provider = r;
	runtime = text_is(&provider, "Microsoft-Windows-DotNETRuntime");
	rundown = text_is(&r, "Microsoft-Windows-DotNETRuntimeRundown");
	event = reader_u32(&r);
	take_text(&r, NULL); /* its name */
	reader_u64(&r);      /* keywords */
	version = reader_u32(&r);
	if (r.failed || !id) {
		n->counts.odd++;
		return;
	}
	if (n->metadata.len >= MAX_METADATA && !metadata_tab_find(&n->metadata, id)) {
		broken(n, "more kinds of events than there can be");
		return;
	}
	slot = metadata_tab_add(&n->metadata, id, NULL);
	if (!slot) {
		broken(n, "out of memory");
		return;
	}
	*slot = (struct metadata_slot){ .id = id, .version = version };
	slot->payload = runtime || rundown ? (uint8_t)payload_of(rundown, event) : PAYLOAD_OTHER;
}

/* Up to `sequence` this thread has made events; which of them were not there was lost. */
static void note_sequence(struct nettrace *n, uint64_t thread, uint32_t sequence, bool is_event)
{
	struct thread_slot *slot = thread_tab_find(&n->threads, thread);
	uint32_t expected, missing;

	if (!slot) {
		if (n->threads.len >= MAX_THREADS)
			return;
		slot = thread_tab_add(&n->threads, thread, NULL);
		if (!slot)
			return;
		*slot = (struct thread_slot){ .thread = thread };
	}
	expected = slot->sequence + is_event;
	missing = sequence - expected;
	if (missing && missing < UINT32_MAX / 2) /* the numbers wrap */
		n->counts.lost += missing;
	if (!missing || missing < UINT32_MAX / 2)
		slot->sequence = sequence;
}

static void take_blobs(struct nettrace *n, struct reader r, bool metadata, const struct nettrace_sink *sink)
{
	uint16_t header = reader_u16(&r), flags = reader_u16(&r);
	struct blob b = { 0 };

	if (header < 4 || !reader_bytes(&r, header - 4u)) {
		broken(n, "a block without a header");
		return;
	}
	while (reader_left(&r) && n->state == NETTRACE_MORE) {
		const struct metadata_slot *known;
		struct nettrace_event event = { 0 };

		if (!(flags & BLOCK_COMPRESSED ? next_compressed(&r, &b) : next_plain(&r, &b))) {
			broken(n, "an event that goes beyond its block");
			return;
		}
		if (metadata) {
			take_metadata(n, &b);
			continue;
		}
		note_sequence(n, b.capture_thread, b.sequence, true);
		known = metadata_tab_find(&n->metadata, b.metadata_id);
		if (!known) {
			n->counts.odd++;
			continue;
		}
		event.time_ns = n->clock_is_ours ? b.time : 0;
		event.thread = b.thread;
		take_payload(n, known, &event, b.payload, b.payload_bytes, sink);
	}
}

static void take_sequence_point(struct nettrace *n, struct reader r)
{
	uint32_t num;

	reader_u64(&r); /* when */
	num = reader_u32(&r);
	if (num > reader_left(&r) / 12) {
		broken(n, "a sequence point of more threads than it has room for");
		return;
	}
	for (uint32_t i = 0; i < num; i++) {
		uint64_t thread = reader_u64(&r);

		note_sequence(n, thread, reader_u32(&r), false);
	}
}

/* ---- objects ---- */

static void take_trace(struct nettrace *n, struct reader r)
{
	static const uint64_t ns_per_s = 1000000000;
	uint64_t start, frequency;

	reader_bytes(&r, 16); /* the time of day */
	start = reader_u64(&r);
	frequency = reader_u64(&r);
	n->header.pointer_bytes = reader_u32(&r);
	n->header.pid = reader_u32(&r);
	n->header.seen = true;
	/* The runtime's clock on Linux is CLOCK_MONOTONIC in ns (src/native/minipal/time.c). */
	n->clock_is_ours = frequency == ns_per_s;
	n->header.start_ns = n->clock_is_ours ? start : 0;
	if (n->header.pointer_bytes != 8)
		broken(n, "a runtime of another word size");
}

static bool named(const char *name, size_t len, const char *want)
{
	return len == strlen(want) && !memcmp(name, want, len);
}

static void take_block(struct nettrace *n, const char *name, size_t name_len, struct reader block,
		       const struct nettrace_sink *sink)
{
	if (named(name, name_len, "EventBlock"))
		take_blobs(n, block, false, sink);
	else if (named(name, name_len, "MetadataBlock"))
		take_blobs(n, block, true, sink);
	else if (named(name, name_len, "SPBlock"))
		take_sequence_point(n, block);
}

/*
 * One object from the bytes that are there: how many it had; 0 when it is not whole. The state tells of the end and of
 * damage.
 */
static size_t take_object(struct nettrace *n, const uint8_t *bytes, size_t size, const struct nettrace_sink *sink)
{
	struct reader r = reader_init(bytes, size);
	const char *name;
	uint32_t name_len, block_len;
	const void *block;
	size_t used;

	if (bytes[0] == TAG_NULL) {
		n->state = NETTRACE_END;
		return 1;
	}
	if (bytes[0] != TAG_BEGIN || (size > 1 && bytes[1] != TAG_BEGIN) || (size > 2 && bytes[2] != TAG_NULL)) {
		broken(n, "no object where one must begin");
		return 0;
	}
	reader_bytes(&r, 3 + 8); /* tags, the version of its type and the least that a reader must know */
	name_len = reader_u32(&r);
	if (name_len > MAX_NAME) {
		broken(n, "a name that is too long");
		return 0;
	}
	name = reader_bytes(&r, name_len);
	if (reader_u8(&r) != TAG_END && !r.failed)
		broken(n, "a type that does not end");
	if (r.failed || n->state != NETTRACE_MORE)
		return 0;
	if (named(name, name_len, "Trace")) {
		block_len = TRACE_BYTES;
	} else {
		block_len = reader_u32(&r);
		if (block_len > MAX_BLOCK) {
			broken(n, "a block that is too large");
			return 0;
		}
		/* Aligned in the stream. */
		used = size - reader_left(&r);
		reader_bytes(&r, (size_t)(-(n->offset + used) & 3));
	}
	block = reader_bytes(&r, block_len);
	if (reader_u8(&r) != TAG_END && !r.failed)
		broken(n, "an object that does not end where it says");
	if (r.failed || n->state != NETTRACE_MORE)
		return 0;
	if (named(name, name_len, "Trace"))
		take_trace(n, reader_init(block, block_len));
	else
		take_block(n, name, name_len, reader_init(block, block_len), sink);
	return size - reader_left(&r);
}

/* The whole objects of these bytes; how many bytes they had. */
static size_t take_objects(struct nettrace *n, const uint8_t *bytes, size_t size, const struct nettrace_sink *sink)
{
	size_t used = 0;

	if (!n->began) {
		if (memcmp(bytes, preamble, size < PREAMBLE_BYTES ? size : PREAMBLE_BYTES) != 0)
			broken(n, "not a nettrace stream");
		if (size < PREAMBLE_BYTES || n->state != NETTRACE_MORE)
			return 0;
		n->began = true;
		used = PREAMBLE_BYTES;
		n->offset += used;
	}
	while (used < size && n->state == NETTRACE_MORE) {
		size_t object = take_object(n, bytes + used, size - used, sink);

		if (!object)
			break;
		used += object;
		n->offset += object;
	}
	return used;
}

enum nettrace_state nettrace_feed(struct nettrace *n, const void *bytes, size_t size, const struct nettrace_sink *sink)
{
	size_t used;

	if (n->state != NETTRACE_MORE || !size)
		return n->state;
	n->counts.bytes += size;
	if (!n->pending.len) {
		used = take_objects(n, bytes, size, sink);
		bytes = (const uint8_t *)bytes + used;
		size -= used;
	}
	if (n->state != NETTRACE_MORE || !size)
		return n->state;
	if (!vec_reserve(&n->pending, n->pending.len + size)) {
		broken(n, "out of memory");
		return n->state;
	}
	memcpy(n->pending.data + n->pending.len, bytes, size);
	used = n->pending.len ? 0 : size; /* that much was looked at above */
	n->pending.len += size;
	if (!used) {
		used = take_objects(n, n->pending.data, n->pending.len, sink);
		vec_remove(&n->pending, 0, used);
	}
	return n->state;
}

const struct nettrace_header *nettrace_header(const struct nettrace *n)
{
	return &n->header;
}

const struct nettrace_counts *nettrace_counts(const struct nettrace *n)
{
	return &n->counts;
}

const char *nettrace_why(const struct nettrace *n)
{
	return n->why;
}
