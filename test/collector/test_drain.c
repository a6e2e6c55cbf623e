/* What a drain hands out, and what it counts instead, from rings built by hand. */
#include "collector/collector_priv.h"

#include "test/check.h"

#include <stdalign.h>

enum { RING_BYTES = 8192 };

struct fake {
	struct perf_event_mmap_page page;
	alignas(64) uint8_t data[RING_BYTES];
};

struct seen {
	struct record records[512];
	size_t num;
};

static void see(void *data, const struct record *rec)
{
	struct seen *seen = data;

	if (seen->num < 512)
		seen->records[seen->num++] = *rec;
}

/* A collector with one CPU, whose rings are `fakes`. Freed by drop(). */
static struct collector *make(struct fake *fakes)
{
	struct collector *c = calloc(1, sizeof(*c));
	struct slot slot = { .barrier_fd = -1 };

	for (size_t i = 0; i < NUM_STREAMS; i++) {
		memset(&fakes[i], 0, sizeof(fakes[i]));
		ring_init(&slot.streams[i].ring, &fakes[i].page, fakes[i].data, RING_BYTES);
	}
	c->epoll_fd = c->timer_fd = c->wake_fd = -1;
	c->format = (struct record_format){
		.sample_type = PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID |
			       PERF_SAMPLE_TIME | PERF_SAMPLE_CPU,
		.sample_id_all = true,
	};
	c->enabled = true;
	c->enabled_ns = 100;
	CHECK(vec_push(&c->slots, slot));
	return c;
}

static void drop(struct collector *c)
{
	order_deinit(&c->order);
	vec_deinit(&c->slots);
	vec_deinit(&c->rings);
	id_table_deinit(&c->ids);
	owner_table_deinit(&c->owners);
	free(c);
}

static void attach(struct collector *c, uint64_t id, pid_t tid)
{
	struct id_slot *by_id = id_table_add(&c->ids, id, NULL);
	struct owner_slot *by_tid = owner_table_add(&c->owners, tid, NULL);

	*by_id = (struct id_slot){ .id = id, .tid = tid };
	*by_tid = (struct owner_slot){ .tid = tid, .owner = tid };
}

static void put(struct fake *f, uint32_t type, uint16_t misc, const void *body, size_t size)
{
	struct perf_event_header header = { .type = type,
					    .misc = misc,
					    .size = (uint16_t)(sizeof(header) + size) };

	memcpy(f->data + f->page.data_head, &header, sizeof(header));
	memcpy(f->data + f->page.data_head + sizeof(header), body, size);
	f->page.data_head += header.size;
}

struct trailer {
	uint32_t pid, tid;
	uint64_t time_ns;
	uint32_t cpu, reserved;
	uint64_t id;
};

static void put_sample(struct fake *f, uint64_t id, pid_t tid, uint64_t time_ns)
{
	struct {
		uint64_t id, ip;
		uint32_t pid, tid;
		uint64_t time_ns;
		uint32_t cpu, reserved;
	} body = { id, 0x1000, 1, (uint32_t)tid, time_ns, 0, 0 };

	put(f, PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER, &body, sizeof(body));
}

static void put_task(struct fake *f, uint32_t type, uint64_t id, pid_t tid, pid_t ptid,
		     uint64_t time_ns)
{
	struct {
		uint32_t pid, ppid, tid, ptid;
		uint64_t time_ns;
		struct trailer trailer;
	} body = { 1,
		   1,
		   (uint32_t)tid,
		   (uint32_t)ptid,
		   time_ns,
		   { 1, (uint32_t)ptid, time_ns, 0, 0, id } };

	put(f, type, 0, &body, sizeof(body));
}

static void put_words(struct fake *f, uint32_t type, uint64_t a, uint64_t b, uint64_t c,
		      size_t words, uint64_t time_ns)
{
	uint64_t body[3 + sizeof(struct trailer) / 8] = { a, b, c };
	struct trailer trailer = { 1, 1, time_ns, 0, 0, 5 };

	memcpy(body + words, &trailer, sizeof(trailer));
	put(f, type, 0, body, 8 * words + sizeof(trailer));
}

static struct seen drain(struct collector *c)
{
	struct seen seen = { .num = 0 };
	struct collector_sink sink = { .record = see, .data = &seen };

	CHECK(collector_drain(c, &sink, true, NULL) == 0);
	return seen;
}

/* Thread 11 was born while 10 was attached to: it has its own events (id 2) and inherited 10's (id 1). */
static void test_two_owners(void)
{
	static struct fake f[NUM_STREAMS];
	struct collector *c = make(f);
	struct seen seen;

	attach(c, 1, 10);
	attach(c, 2, 11);
	put_task(&f[STREAM_SIDE], PERF_RECORD_FORK, 1, 11, 10, 50); /* before counting began */
	put_sample(&f[STREAM_SAMPLES], 1, 10, 110);
	put_sample(&f[STREAM_SAMPLES], 1, 11, 120); /* inherited: dropped */
	put_sample(&f[STREAM_SAMPLES], 2, 11, 121);
	/* A child of 11 inherits both; it is counted as 11 is. */
	put_task(&f[STREAM_SIDE], PERF_RECORD_FORK, 1, 12, 11, 130);
	put_task(&f[STREAM_SIDE], PERF_RECORD_FORK, 2, 12, 11, 131);
	put_sample(&f[STREAM_SAMPLES], 1, 12, 140);
	put_sample(&f[STREAM_SAMPLES], 2, 12, 141);
	seen = drain(c);
	CHECK(c->counts.duplicates == 2 && c->counts.samples == 3);
	CHECK(seen.num == 5 && seen.records[0].type == RECORD_FORK &&
	      seen.records[2].time_ns == 121);
	CHECK(seen.records[3].time_ns == 131 && seen.records[4].id == 2 &&
	      seen.records[4].tid == 12);
	/* Its number is used again, by a child of 10. */
	put_task(&f[STREAM_SIDE], PERF_RECORD_EXIT, 2, 11, 11, 150);
	put_task(&f[STREAM_SIDE], PERF_RECORD_FORK, 1, 11, 10, 160);
	put_sample(&f[STREAM_SAMPLES], 1, 11, 170);
	seen = drain(c);
	CHECK(seen.num == 3 && seen.records[2].type == RECORD_SAMPLE && c->counts.duplicates == 2);
	/* The same when its end was lost. */
	put_task(&f[STREAM_SIDE], PERF_RECORD_FORK, 1, 12, 10, 180);
	put_sample(&f[STREAM_SAMPLES], 1, 12, 190);
	put_sample(&f[STREAM_SAMPLES], 1, 99, 191); /* a thread whose birth was lost */
	seen = drain(c);
	CHECK(seen.num == 3 && c->counts.duplicates == 2 && c->counts.disorder == 0);
	drop(c);
}

static void test_counts(void)
{
	static struct fake f[NUM_STREAMS];
	struct collector *c = make(f);
	struct seen seen;

	put_words(&f[STREAM_SAMPLES], PERF_RECORD_LOST, 1, 7, 0, 2, 10);
	put_words(&f[STREAM_SAMPLES], PERF_RECORD_LOST_SAMPLES, 7, 0, 0, 1,
		  11); /* the same loss told again */
	put_words(&f[STREAM_SAMPLES], PERF_RECORD_THROTTLE, 12, 1, 1, 3, 12);
	put_words(&f[STREAM_SIDE], PERF_RECORD_LOST, 2, 5, 0, 2, 13);
	put_words(&f[STREAM_SIDE], PERF_RECORD_COMM, 0, 0x4141414141414141, 0, 2,
		  14); /* a name without an end */
	put_sample(&f[STREAM_SAMPLES], 1, 10, 20);
	put_sample(&f[STREAM_SAMPLES], 1, 10, 19); /* an interrupt in an interrupt */
	seen = drain(c);
	CHECK(c->counts.lost_records == 7 && c->counts.side_lost == 5 && c->counts.throttled == 1);
	CHECK(c->counts.malformed == 1 && c->counts.samples == 2 && c->counts.disorder == 1 &&
	      seen.num == 6);
	/* LOST counts can be anything in a damaged ring: the sum stays at the end of its range. */
	put_words(&f[STREAM_SAMPLES], PERF_RECORD_LOST, 1, UINT64_MAX, 0, 2, 30);
	put_words(&f[STREAM_SAMPLES], PERF_RECORD_LOST, 1, 9, 0, 2, 31);
	drain(c);
	CHECK(c->counts.lost_records == UINT64_MAX);
	/* A ring whose next record cannot be is emptied, and the drain goes on. */
	f[STREAM_SAMPLES].page.data_head += 24;
	put_words(&f[STREAM_SIDE], PERF_RECORD_LOST, 2, 5, 0, 2, 40);
	CHECK(drain(c).num == 1 && c->counts.malformed == 2);
	drop(c);
}

/* The kernel tells of a loss when it writes again; a side-band ring without room is told of at once, behind what it held. */
static void test_full_ring(void)
{
	static struct fake f[NUM_STREAMS];
	struct collector *c = make(f);
	struct seen seen;
	uint64_t time_ns = 100;

	while (f[STREAM_SIDE].page.data_head < RING_BYTES * 3 / 4)
		put_task(&f[STREAM_SIDE], PERF_RECORD_FORK, 1, 12, 11, time_ns++);
	seen = drain(c);
	CHECK(seen.num == time_ns - 100 && seen.records[seen.num - 1].type == RECORD_FORK);
	CHECK(f[STREAM_SIDE].page.data_tail == f[STREAM_SIDE].page.data_head);
	for (size_t i = 0; i < NUM_STREAMS; i++) {
		memset(&f[i].page, 0, sizeof(f[i].page));
		ring_init(&c->slots.data[0].streams[i].ring, &f[i].page, f[i].data, RING_BYTES);
	}
	time_ns = 200;
	while (f[STREAM_SIDE].page.data_head < RING_BYTES * 15 / 16)
		put_task(&f[STREAM_SIDE], PERF_RECORD_FORK, 1, 12, 11, time_ns++);
	while (f[STREAM_SAMPLES].page.data_head < RING_BYTES * 15 / 16) /* what is lost there changes no process */
		put_sample(&f[STREAM_SAMPLES], 1, 10, 100);
	put_sample(&f[STREAM_SAMPLES], 1, 10, 1000);
	seen = drain(c);
	CHECK(seen.num > 2 && seen.num < 512 && seen.records[seen.num - 1].type == RECORD_SAMPLE);
	if (seen.num > 2) {
		const struct record *gap = &seen.records[seen.num - 2];

		CHECK(gap->type == RECORD_LOST && gap->lost.side && !gap->lost.count && gap->time_ns == time_ns - 1);
		CHECK(seen.records[seen.num - 3].type == RECORD_FORK);
	}
	CHECK(c->counts.side_lost == 0 && c->counts.lost_records == 0);
	drop(c);
}

int main(void)
{
	test_two_owners();
	test_counts();
	test_full_ring();
	return check_done();
}
