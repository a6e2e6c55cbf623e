/*
 * The insides of a perf.data reader: input (bytes to records) -> take (which event, what time) -> queue (time order).
 * A record's bytes stay where they were read, in a block that lives until the last record in it was handed out.
 */
#pragma once

#include "collector/perfdata.h"
#include "collector/perfdata_chain.h"

#include "base/err.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/vec.h"

#include <linux/perf_event.h>

struct intern;
struct zstd_stream; /* NULL until the first compressed record */

enum {
	BLOCK_BYTES = 256 << 10,
	BLOCKS_MAX = (256 << 20) /
		     BLOCK_BYTES, /* held by the queue before it gives up waiting for order */
	ENTRIES_MAX = 1 << 20,    /* the same, in records */
	PART_ENTRIES_MAX = 256, /* for files that hold one ring's records, sorted but for nesting */
	MIXED_ENTRIES_MAX = 1 << 16, /* for those that hold the records of several */
	RECORD_MAX = 1 << 16,   /* header.size is 16 bits wide */
};

/* ---- input ---- */

struct block {
	struct block *next; /* of the spare ones */
	size_t refs;        /* the window's and one for each queued record */
	_Alignas(64) uint8_t bytes[BLOCK_BYTES];
};

struct block_pool {
	struct block *spare;
	size_t num_spare, num_used;
};

/* The part of a block that was read and not yet taken. */
struct window {
	struct block *block;
	size_t begin, end;
};

struct input {
	int fd;
	bool seekable;
	uint64_t pos;      /* file offset of the byte behind the window */
	uint64_t limit;    /* where records end; UINT64_MAX for pipes */
	size_t read_ahead; /* how much to read at once */
	uint64_t advised;  /* up to here the kernel was asked to fetch the file */
	struct window window;
};

/* A record, with its header. Its bytes are aligned to 8 unless it is one of perf's own types (64 and above). */
struct raw {
	const uint8_t *bytes;
	struct block *block;
	uint32_t type;
	uint16_t misc, size;
	uint64_t offset;   /* in the file, or in what was decompressed */
	uint64_t stack_at; /* file offset of the stack dump where that was left out, else 0 */
	uint16_t head_len; /* then: bytes before the dump */
	uint16_t stack_len; /* and of the dump's beginning, which is here; what comes behind the dump follows at once */
};

struct events;
struct perfdata;

void block_put(struct block_pool *pool, struct block *block);
void block_pool_deinit(struct block_pool *pool);

void window_deinit(struct block_pool *pool, struct window *w);
/* Makes room for `size` bytes from w->begin on, moving what is there to another block if need be; -ENOMEM. */
int window_room(struct block_pool *pool, struct window *w, size_t size);
/* The record at the start of the window: 1, 0 when it is not there whole, -EBADMSG when its size cannot be. */
int window_next(struct window *w, struct raw *ret);

/* The next record of the file: 1, 0 at the end (p->info.unfinished when that is too early), or an error. */
int input_next(struct perfdata *p, struct raw *ret, struct err *err);
/* Passes over bytes that are no records; the end of the file may come before. */
int input_skip(struct perfdata *p, uint64_t size, struct err *err);
/* pread of all of it: 1, 0 when the file ends before, or a negative errno. */
int input_read_at(const struct input *in, void *buf, size_t size, uint64_t offset);

/* ---- events ---- */

struct id_slot {
	uint64_t id;
	size_t event;
};
HTAB(id_table, struct id_slot, uint64_t, hash_u64(key), slot->id == key, hash_u64(slot->id));

/* What an event had counted at the last sample that told it; of each task where tasks count for themselves. */
struct counted {
	uint64_t key;
	uint64_t value;
};
HTAB(counted_table, struct counted, uint64_t, hash_u64(key), slot->key == key, hash_u64(slot->key));

struct events {
	VEC(struct perfdata_event) list;
	struct id_table ids;
	struct counted_table counted;
	bool settled; /* what follows is up to date */
	bool same_format;
	size_t id_in_sample; /* offset from the start; 0 = samples carry no id */
	size_t id_from_end;  /* of other records; 0 = they carry none */
	bool has_clockid;    /* of the first: all events of a recording share it */
	uint32_t clockid;
};

void events_deinit(struct events *e);
/* `attr_size` bytes of a struct perf_event_attr of any age, then ids. */
int events_add(struct events *e, struct intern *strings, const void *attr, size_t attr_size,
	       const uint8_t *ids, size_t num_ids, struct err *err);
/* Can every record be told to belong to one event? To be called before event_of when events were added. */
int events_settle(struct events *e, struct err *err);
/* `avail` bytes of the record are there: of a sample at least its first words. -1 = of none of them. */
ptrdiff_t event_of(const struct events *e, uint32_t type, const uint8_t *bytes, size_t size,
		   size_t avail);
struct perfdata_event *event_by_id(struct events *e, uint64_t id);
/*
 * How much an event of a group has counted since the last sample that told of it, which is this one's period for it, and whose
 * it is; -1 = of none of them, or nothing.
 */
ptrdiff_t event_counted(struct events *e, uint64_t id, pid_t tid, uint64_t value, uint64_t *ret_period);
/*
 * Offset of the size word of a sample's stack dump, when that word lies in the first `avail` bytes; 0 = it does not,
 * or the sample has fields that make it hard to tell.
 */
size_t sample_stack_offset(const struct record_format *f, const uint8_t *bytes, size_t avail);

/* ---- time order ---- */

struct entry {
	uint64_t time_ns;
	const uint8_t *bytes;
	struct block *block;
	uint64_t stack_at;
	uint16_t head_len, stack_len;
	uint32_t event;
};

/*
 * list: [at, ready) may be handed out, [ready, len) waits for the end of a round. Records without a time wait for
 * nobody.
 */
struct queue {
	VEC(struct entry) list, untimed;
	VEC(struct entry) scratch;
	VEC(size_t) runs;
	size_t at, ready, untimed_at;
	size_t max_entries;
	uint64_t max_time;        /* of any record so far */
	uint64_t round_times[2];  /* the same at the end of the last round and of the one before */
};

void queue_deinit(struct queue *q, struct block_pool *pool);
/* Takes a reference of the block; -ENOMEM. */
int queue_add(struct queue *q, const struct entry *entry);
int queue_finish_round(struct queue *q);
/* Lets half of the records go when too much waits; `blocks` are held. */
int queue_relieve(struct queue *q, size_t blocks);
int queue_finish(struct queue *q);
/* The next to hand out; NULL = more must be read. */
const struct entry *queue_peek(const struct queue *q);
void queue_pop(struct queue *q, struct block_pool *pool);

/*
 * ---- samples whose user callchain comes later (`perf record --call-graph fp,defer`, Linux 6.19) ----
 *
 * The kernel walks the user stack when the task goes back there, and tells it in a record of its own; until then a sample has a
 * cookie in its place, the same for all samples of one stay in the kernel (PERF_CONTEXT_USER_DEFERRED and
 * PERF_RECORD_CALLCHAIN_DEFERRED of include/uapi/linux/perf_event.h). A task that waits may be away for the whole recording.
 */

/* The record: header, u64 cookie, u64 number, addresses with PERF_CONTEXT_USER first. */
enum { RECORD_CALLCHAIN_DEFERRED = 22 };

/* Its bytes, with the header; they came from `p`. */
struct deferred_sample {
	struct deferred_sample *next;
	struct perfdata *p;
	uint64_t cookie;
	uint32_t event, size;
	_Alignas(8) uint8_t bytes[];
};

/* Those of a thread, the oldest first. */
struct deferred_task {
	pid_t tid;
	struct deferred_sample *first, *last;
};
HTAB(deferred_tasks, struct deferred_task, pid_t, hash_u64((uint32_t)key), slot->tid == key, hash_u64((uint32_t)slot->tid));

struct deferred {
	struct deferred_tasks tasks;
	size_t bytes;
};

/* Keeps a copy of a sample that is such a one; false: it is not, or memory is out. */
bool deferred_hold(struct deferred *d, struct perfdata *p, const struct record *rec, const uint8_t *bytes, size_t size,
		   uint32_t event);
/* Those of the thread are the caller's now, who frees each; NULL = none. */
struct deferred_sample *deferred_take(struct deferred *d, pid_t tid);
/* Those of all threads, in no order; what is left needs no freeing. */
struct deferred_sample *deferred_take_all(struct deferred *d);
bool deferred_is_full(const struct deferred *d);
/* A CALLCHAIN_DEFERRED: *ret borrows its chain; false when it does not fit. */
bool deferred_chain(const uint8_t *bytes, size_t size, uint64_t *ret_cookie, struct record_sample *ret);

/* ---- perf's own records: tools/lib/perf/include/perf/event.h, enum perf_user_event_type ---- */

enum {
	USER_HEADER_ATTR = 64,
	USER_TRACING_DATA = 66,
	USER_BUILD_ID = 67,
	USER_FINISHED_ROUND = 68,
	USER_AUXTRACE = 71,
	USER_EVENT_UPDATE = 78,
	USER_FEATURE = 80,
	USER_COMPRESSED = 81,
	USER_COMPRESSED2 = 83,
	USER_LAST_KNOWN =
		90, /* of those skipped some are newer than this file: BPF_METADATA, SCHEDSTAT_* */
};

/* ---- all of it ---- */

/* The copy of the sample that is being handed out. */
struct partial_stack {
	struct stack_rest rest;
	struct perfdata *p;
	uint8_t *to;    /* where it begins in p->whole */
	uint64_t at;    /* in the file */
	size_t bytes;   /* all of it */
};

struct perfdata {
	struct perfdata_info info;
	struct perfdata_counts counts;
	struct events *events; /* own_events, or those of the main file */
	struct events own_events;
	struct intern *strings;
	struct input in;
	uint8_t head[PERFDATA_HEAD_BYTES]; /* of a pipe: what was read before it came here */
	size_t head_len;
	struct block_pool pool;
	struct window plain; /* what was decompressed */
	uint64_t plain_pos;  /* how much ever was, before plain.begin */
	struct zstd_stream *zstd;
	struct queue queue;
	uint8_t *runtimes;  /* info.runtimes; owned */
	uint8_t *build_ids; /* the header's table, or that of perfdata_search_build_ids */
	size_t build_ids_size;
	const struct perfdata_sink *sink; /* while it runs */
	uint8_t *whole;                   /* a sample put together again */
	struct partial_stack partial;
	uint64_t user_chain[CHAIN_MAX]; /* of the sample that is delivered */
	bool tail_optional; /* the header promised nothing from here on: nonsense is the end */
	bool is_part;
	bool started, ended;
	struct err failure; /* why it ended; code 0 = it just did */
};

/* Reads a file's header up to where records begin. */
int perfdata_read_header(struct perfdata *p, struct err *err);
/* The 16 bytes a pipe begins with, when they come from a pipe. */
int perfdata_read_pipe_header(struct perfdata *p, struct err *err);
/* Features are the same in the header's sections and in FEATURE records. */
int perfdata_feature(struct perfdata *p, uint64_t feature, const uint8_t *bytes, size_t size,
		     struct err *err);
/* Hands build-id records of a buffer to the sink. */
void perfdata_emit_build_ids(const uint8_t *bytes, size_t size, const struct perfdata_sink *sink);
/*
 * Of an unfinished file, which has no table of them: those that our own writer put among the records, as mappings are
 * told of before. Looks at the header of each record.
 */
int perfdata_search_build_ids(struct perfdata *p, struct err *err);

/* A record of any type into the queue, or done with. */
int perfdata_take(struct perfdata *p, const struct raw *raw, struct err *err);
/* One of perf's own records (type 64 and above). */
int perfdata_take_user(struct perfdata *p, const struct raw *raw, struct err *err);
/* Takes up the payload of a compressed record; it is worked off by perfdata_unpack. -ENOTSUP without libzstd. */
int perfdata_pack_begin(struct perfdata *p, const struct raw *raw, size_t begin, size_t size,
			struct err *err);
/* Decompresses up to a block's worth and takes what records are whole: 1, or 0 when the payload is used up. */
int perfdata_unpack(struct perfdata *p, struct err *err);
/* Lets go of a payload that was not used up. */
void perfdata_pack_end(struct perfdata *p);
void zstd_stream_free(struct zstd_stream *z);
