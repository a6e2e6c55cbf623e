#include "perfmap/jitdump.h"

#include "base/reader.h"
#include "perfmap/published.h"

#include <stdlib.h>
#include <string.h>

bool jitdump_is_path(const char *path, size_t len, pid_t *ret)
{
	static const char head[] = "jit-", tail[] = ".dump", deleted[] = " (deleted)";
	const char *end = path + len, *slash = memrchr(path, '/', len), *pos = slash ? slash + 1 : path;
	int64_t pid = 0;

	if ((size_t)(end - pos) >= sizeof(deleted) - 1 &&
	    !memcmp(end - (sizeof(deleted) - 1), deleted, sizeof(deleted) - 1))
		end -= sizeof(deleted) - 1;
	if ((size_t)(end - pos) < sizeof(head) + sizeof(tail) - 1 || memcmp(pos, head, sizeof(head) - 1) ||
	    memcmp(end - (sizeof(tail) - 1), tail, sizeof(tail) - 1))
		return false;
	end -= sizeof(tail) - 1;
	for (pos += sizeof(head) - 1; pos < end; pos++) {
		if (*pos < '0' || *pos > '9' || pid > INT32_MAX / 10)
			return false;
		pid = pid * 10 + (*pos - '0');
	}
	if (pid <= 0 || pid > INT32_MAX)
		return false;
	*ret = (pid_t)pid;
	return true;
}

enum {
	HEADER_BYTES = 40,
	RECORD_BYTES = 16, /* id, size, time */
	LOAD_BYTES = 40,   /* pid, tid, vma, address, size, index */
	MOVE_BYTES = 48,   /* pid, tid, vma, old, new, size, index */
	UNWINDING_BYTES = 24, /* sizes of what follows: all, .eh_frame_hdr at its end, what is mapped */
	MAX_NAME = 4096,
	MAX_UNWINDING = 64 << 10, /* bytes of such a record; longer ones are passed over */
	ARCH_TIMESTAMP = 1, /* flag: times are the CPU's own counter */
};

enum { CODE_LOAD = 0, CODE_MOVE = 1, CODE_DEBUG_INFO = 2, CODE_CLOSE = 3, CODE_UNWINDING_INFO = 4 };

static const uint32_t magic = 0x4a695444; /* "JiTD" */
static const uint32_t max_record = 256u << 20;

struct jitdump {
	struct jitdump_state state;
	size_t count;
};

struct jitdump *jitdump_new(void)
{
	return calloc(1, sizeof(struct jitdump));
}

void jitdump_free(struct jitdump *j)
{
	free(j);
}

size_t jitdump_count(const struct jitdump *j)
{
	return j->count;
}

bool jitdump_failed(const struct jitdump *j)
{
	return j->state.failed;
}

struct jitdump_state *jitdump_state_of(struct jitdump *j)
{
	return &j->state;
}

void jitdump_counted(struct jitdump *j, size_t num)
{
	j->count += num;
}

static uint64_t fail(struct jitdump_state *j)
{
	j->failed = true;
	return 0;
}

static uint64_t take_header(struct jitdump_state *j, const uint8_t *bytes, size_t len, uint64_t left)
{
	struct reader r = reader_init(bytes, len);
	uint32_t version, size;
	uint64_t flags;

	if (len < HEADER_BYTES)
		return 0;
	if (reader_u32(&r) != magic)
		return fail(j);
	version = reader_u32(&r);
	size = reader_u32(&r);
	reader_bytes(&r, 4 * 3 + 8); /* machine, padding, pid, time */
	flags = reader_u64(&r);
	if (version < 1 || version > 2 || size < HEADER_BYTES || size > max_record)
		return fail(j);
	if (size > left)
		return 0;
	j->begun = true;
	j->foreign_clock = flags & ARCH_TIMESTAMP;
	return size;
}

/* An .eh_frame, of the next code that is loaded. */
struct unwinding {
	const uint8_t *bytes; /* NULL = there is none */
	size_t size;
	uint64_t at;          /* where its record begins */
};

/*
 * .eh_frame_hdr behind it is left out: it is a search table, of one function. Nor is it needed where the code has mapped its
 * information itself: what is in the record is as if it lay behind the code.
 */
static void take_unwinding(struct reader *r, uint64_t at, struct unwinding *ret)
{
	uint64_t size = reader_u64(r), hdr_size = reader_u64(r);

	reader_u64(r); /* mapped */
	*ret = (struct unwinding){ .at = at };
	if (r->failed || size > reader_left(r) || hdr_size >= size || size - hdr_size > PERFMAP_MAX_CFI)
		return;
	ret->size = (size_t)(size - hdr_size);
	ret->bytes = reader_bytes(r, ret->size);
}

static void take_load(struct reader *r, const struct unwinding *unwinding, const struct perfmap_sink *sink,
		      uint64_t time_ns)
{
	const char *name, *nul;
	uint64_t start, size, end;
	size_t len;

	reader_bytes(r, 4 + 4 + 8); /* pid, tid, vma */
	start = reader_u64(r);
	size = reader_u64(r);
	reader_u64(r); /* index */
	if (r->failed || __builtin_add_overflow(start, size, &end))
		return;
	len = reader_left(r);
	name = (const char *)reader_bytes(r, len);
	nul = len ? memchr(name, '\0', len < MAX_NAME ? len : MAX_NAME) : NULL;
	if (nul)
		len = (size_t)(nul - name);
	else if (len > MAX_NAME)
		len = MAX_NAME;
	if (len)
		sink->add(sink->data, PERFMAP_DUMP, time_ns, start, end, name, len, unwinding->bytes, unwinding->size);
}

static void take_move(struct reader *r, const struct perfmap_sink *sink, uint64_t time_ns)
{
	uint64_t from, to, size;

	reader_bytes(r, 4 + 4 + 8); /* pid, tid, vma */
	from = reader_u64(r);
	to = reader_u64(r);
	size = reader_u64(r);
	if (!r->failed)
		sink->move(sink->data, PERFMAP_DUMP, time_ns, from, to, size);
}

/* How much of a record says anything. */
static uint64_t wanted(uint32_t id, uint32_t size)
{
	uint64_t want = RECORD_BYTES;

	if (id == CODE_LOAD || id == CODE_MOVE)
		want = RECORD_BYTES + MOVE_BYTES + MAX_NAME;
	else if (id == CODE_UNWINDING_INFO && size <= MAX_UNWINDING)
		want = size;
	return want < size ? want : size;
}

/* One whole record, or as much of it as says anything. `at`: where it begins. */
static void take_record(uint32_t id, struct reader *r, uint64_t at, struct unwinding *unwinding,
			const struct perfmap_sink *sink, uint64_t time_ns)
{
	if (id == CODE_UNWINDING_INFO) {
		take_unwinding(r, at, unwinding);
		return;
	}
	if (id == CODE_LOAD)
		take_load(r, unwinding, sink, time_ns);
	else if (id == CODE_MOVE)
		take_move(r, sink, time_ns);
	if (id != CODE_DEBUG_INFO) /* may stand between the two */
		*unwinding = (struct unwinding){ 0 };
}

uint64_t jitdump_take(struct jitdump_state *j, const uint8_t *bytes, size_t len, uint64_t left, uint64_t stamp_ns,
		      const struct perfmap_sink *sink)
{
	struct unwinding unwinding = { 0 };
	uint64_t used = 0;

	if (j->failed)
		return 0;
	if (!j->begun)
		used = take_header(j, bytes, len, left);
	while (j->begun && !j->failed && used < len) {
		struct reader r = reader_init(bytes + used, len - used);
		uint32_t id = reader_u32(&r), size = reader_u32(&r);
		uint64_t time_ns = reader_u64(&r), want;

		if (r.failed)
			break;
		if (size < RECORD_BYTES || size > max_record)
			return fail(j), used;
		if (size > left - used)
			break;
		want = wanted(id, size);
		if (want > len - used && id == CODE_UNWINDING_INFO && !used && len < left)
			want = RECORD_BYTES; /* too much for what is given at a time */
		if (want > len - used)
			break;
		r = reader_init(bytes + used + RECORD_BYTES, (size_t)want - RECORD_BYTES);
		take_record(id, &r, used, &unwinding, sink, j->foreign_clock ? stamp_ns : time_ns);
		used += size;
	}
	/* Together with its load, then; unless that is farther away than what is given at a time. */
	return unwinding.bytes && (unwinding.at || len == left) ? unwinding.at : used;
}

/* The sink of a jitdump that counts what its map took. */
struct counting {
	struct perfmap *map;
	size_t count;
};

static void count_add(void *data, enum perfmap_lane lane, uint64_t time_ns, uint64_t start, uint64_t end,
		      const char *name, size_t name_len, const uint8_t *cfi, size_t cfi_len)
{
	struct counting *c = data;

	c->count += perfmap_add_cfi(c->map, lane, time_ns, start, end, name, name_len, cfi, cfi_len);
}

static void count_move(void *data, enum perfmap_lane lane, uint64_t time_ns, uint64_t from, uint64_t to, uint64_t size)
{
	perfmap_move(((struct counting *)data)->map, lane, time_ns, from, to, size);
}

uint64_t jitdump_append(struct jitdump *j, const uint8_t *bytes, size_t len, uint64_t left, struct perfmap *map,
			uint64_t stamp_ns)
{
	struct counting counting = { .map = map };
	const struct perfmap_sink sink = { count_add, count_move, &counting };
	uint64_t used = jitdump_take(&j->state, bytes, len, left, stamp_ns, &sink);

	jitdump_counted(j, counting.count);
	return used;
}
