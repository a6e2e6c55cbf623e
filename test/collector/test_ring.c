/* Rings on memory of our own: what the kernel would write is written by the test. */
#include "collector/order_priv.h"

#include "test/check.h"

#include <errno.h>
#include <pthread.h>
#include <stdalign.h>

enum { RING_BYTES = 4096 };

struct fake {
	struct ring ring;
	struct perf_event_mmap_page page;
	alignas(64) uint8_t data[RING_BYTES];
};

static const struct record_format format = {
	.sample_type =
		PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU | PERF_SAMPLE_IDENTIFIER,
	.sample_id_all = true,
};

static void fake_init(struct fake *f, uint64_t start)
{
	memset(f, 0, sizeof(*f));
	f->page.data_head = f->page.data_tail = start;
	ring_init(&f->ring, &f->page, f->data, RING_BYTES);
}

static void write_word(struct fake *f, uint64_t at, uint64_t value)
{
	memcpy(f->data + at % RING_BYTES, &value, sizeof(value));
}

/* A LOST record of `size` bytes whose words tell where they stand; its trailer holds the time. False = no room. */
static bool fake_write(struct fake *f, uint16_t size, uint64_t time_ns)
{
	struct perf_event_header header = { .type = PERF_RECORD_LOST, .size = size };
	uint64_t head = f->page.data_head, word;

	if (head + size - __atomic_load_n(&f->page.data_tail, __ATOMIC_ACQUIRE) > RING_BYTES)
		return false;
	memcpy(&word, &header, sizeof(word));
	write_word(f, head, word);
	for (uint64_t at = 8; at < size; at += 8)
		write_word(f, head + at, at * 1000 + size);
	write_word(f, head + size - 24, time_ns);
	__atomic_store_n(&f->page.data_head, head + size, __ATOMIC_RELEASE);
	return true;
}

static uint64_t word_of(const void *bytes, size_t at)
{
	uint64_t ret;

	memcpy(&ret, (const uint8_t *)bytes + at, sizeof(ret));
	return ret;
}

static void test_wrap(void)
{
	alignas(8) static uint8_t bounce[RING_BOUNCE_BYTES];

	for (uint64_t start = 0; start < RING_BYTES; start += 8) {
		struct perf_event_header header;
		const uint8_t *bytes;
		static struct fake f;
		bool wraps = start + 200 > RING_BYTES;

		fake_init(&f, 7 * RING_BYTES + start);
		CHECK(fake_write(&f, 200, 4711));
		CHECK(ring_peek(&f.ring, &header) == 0); /* not before a snapshot */
		ring_snapshot(&f.ring);
		CHECK(ring_peek(&f.ring, &header) == 1 && header.size == 200 &&
		      header.type == PERF_RECORD_LOST);
		CHECK(ring_word(&f.ring, 200 - 24) == 4711);
		bytes = ring_record(&f.ring, header.size, bounce);
		CHECK((bytes == bounce) == wraps);
		CHECK(wraps || bytes == f.data + start);
		for (size_t at = 8; at < 200; at += 8)
			CHECK(word_of(bytes, at) == (at == 176 ? 4711 : at * 1000 + 200));
		ring_advance(&f.ring, header.size);
		CHECK(ring_peek(&f.ring, &header) == 0);
		CHECK(f.page.data_tail == 7 * RING_BYTES + start); /* given back in larger pieces */
		ring_release(&f.ring);
		CHECK(f.page.data_tail == 7 * RING_BYTES + start + 200);
	}
}

static void test_sizes(void)
{
	static const uint16_t bad[] = { 0, 7, 12, 72, 65535 };
	struct perf_event_header header = { .type = PERF_RECORD_LOST };
	static struct fake f; /* ASan places locals on 32 bytes, the page header wants 64 */

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint64_t word;

		fake_init(&f, 4080);
		header.size = bad[i];
		memcpy(&word, &header, sizeof(word));
		write_word(&f, 4080, word);
		f.page.data_head += 64;
		ring_snapshot(&f.ring);
		CHECK(ring_peek(&f.ring, &header) == -EBADMSG);
		ring_discard(&f.ring);
		CHECK(ring_peek(&f.ring, &header) == 0 && f.page.data_tail == 4080 + 64);
		/* The ring is whole again. */
		CHECK(fake_write(&f, 64, 1));
		ring_snapshot(&f.ring);
		CHECK(ring_peek(&f.ring, &header) == 1 && header.size == 64);
	}
	fake_init(&f, 0);
	f.page.data_head = RING_BYTES + 8; /* more than there is */
	ring_snapshot(&f.ring);
	CHECK(ring_peek(&f.ring, &header) == -EBADMSG);
	fake_init(&f, 64);
	f.page.data_head = 8; /* backwards */
	ring_snapshot(&f.ring);
	CHECK(ring_peek(&f.ring, &header) == -EBADMSG);
	fake_init(&f, 0);
	f.page.data_head = 4; /* half a header */
	ring_snapshot(&f.ring);
	CHECK(ring_peek(&f.ring, &header) == -EBADMSG);
}

/* What was handed out, in order. */
struct seen {
	uint64_t times[4096];
	size_t sources[4096];
	size_t num;
};

static void see(void *data, size_t source, const void *bytes, size_t size)
{
	struct seen *seen = data;

	for (size_t at = 8; at < size; at += 8)
		CHECK(at == size - 24 || word_of(bytes, at) == at * 1000 + size);
	if (seen->num < 4096) {
		seen->times[seen->num] = word_of(bytes, size - 24);
		seen->sources[seen->num++] = source;
	}
}

static void test_order(void)
{
	static const uint64_t times[3][5] = {
		{ 10, 40, 41, 70, 200 },
		{ 5, 40, 39, 90, 95 }, /* 39 is late: a nested interrupt */
		{ 60, 61, 62, 63, 64 },
	};
	static const uint64_t want[] = { 5, 10, 40, 40, 39, 41, 60, 61, 62, 63, 64, 70 };
	static const size_t from[] = { 1, 0, 0, 1, 1, 0, 2, 2, 2, 2, 2, 0 };
	static struct fake fakes[4];
	struct ring *rings[4];
	struct order o = { 0 };
	struct seen seen = { .num = 0 };

	CHECK(order_reserve(&o, 4) == 0);
	for (size_t i = 0; i < 4; i++) {
		fake_init(&fakes[i], 4096 - 100 / 8 * 8);
		rings[i] = &fakes[i].ring;
		for (size_t k = 0; i < 3 && k < 5; k++)
			CHECK(fake_write(&fakes[i], 64, times[i][k]));
		ring_snapshot(rings[i]);
	}
	CHECK(fake_write(&fakes[3], 64, 1)); /* after the snapshot: for the next time */
	CHECK(order_merge(&o, rings, 4, &format, 89, see, &seen) == 0);
	CHECK(seen.num == 12);
	for (size_t i = 0; i < 12; i++)
		CHECK_MSG(seen.times[i] == want[i] && seen.sources[i] == from[i],
			  "%zu: %llu of %zu", i, (unsigned long long)seen.times[i],
			  seen.sources[i]);
	CHECK(fakes[0].page.data_tail == fakes[0].page.data_head - 64);
	CHECK(fakes[2].page.data_tail == fakes[2].page.data_head);
	seen.num = 0;
	for (size_t i = 0; i < 4; i++)
		ring_snapshot(rings[i]);
	CHECK(order_merge(&o, rings, 4, &format, UINT64_MAX, see, &seen) == 0);
	CHECK(seen.num == 4 && seen.times[0] == 1 && seen.times[1] == 90 && seen.times[2] == 95 &&
	      seen.times[3] == 200);
	order_deinit(&o);
}

/* One ring is nonsense; the others are not held up. */
static void test_order_broken(void)
{
	static struct fake fakes[2];
	struct ring *rings[2] = { &fakes[0].ring, &fakes[1].ring };
	struct order o = { 0 };
	struct seen seen = { .num = 0 };

	CHECK(order_reserve(&o, 2) == 0);
	fake_init(&fakes[0], 0);
	fake_init(&fakes[1], 0);
	CHECK(fake_write(&fakes[0], 64, 5));
	fakes[0].page.data_head += 64; /* a header of zeros */
	CHECK(fake_write(&fakes[1], 64, 7));
	ring_snapshot(rings[0]);
	ring_snapshot(rings[1]);
	CHECK(order_merge(&o, rings, 2, &format, UINT64_MAX, see, &seen) == 1);
	CHECK(seen.num == 2 && seen.times[1] == 7 && fakes[0].page.data_tail == 128);
	order_deinit(&o);
}

enum { NUM_WRITTEN = 200000 };

static void *writer(void *data)
{
	struct fake *f = data;
	uint16_t size = 40;

	for (uint64_t i = 1; i <= NUM_WRITTEN;) {
		if (!fake_write(f, size, i)) {
			sched_yield();
			continue;
		}
		size = (uint16_t)(40 + i * 56 % 960);
		i++;
	}
	return NULL;
}

struct count {
	uint64_t next;
	uint64_t wrong;
};

static void count_record(void *data, size_t source, const void *bytes, size_t size)
{
	struct count *count = data;

	count->wrong += word_of(bytes, size - 24) != count->next++;
	for (size_t at = 8; at < size; at += 8)
		count->wrong += at != size - 24 && word_of(bytes, at) != at * 1000 + size;
}

static void test_beside_writer(void)
{
	static struct fake f;
	struct ring *ring = &f.ring;
	struct order o = { 0 };
	struct count count = { .next = 1 };
	uint64_t broken = 0;
	pthread_t thread;

	fake_init(&f, 1ull << 63);
	CHECK(order_reserve(&o, 1) == 0);
	CHECK(pthread_create(&thread, NULL, writer, &f) == 0);
	while (count.next <= NUM_WRITTEN && !broken) {
		ring_snapshot(ring);
		if (ring->head == ring->tail)
			sched_yield();
		broken += order_merge(&o, &ring, 1, &format, UINT64_MAX, count_record, &count);
	}
	pthread_join(thread, NULL);
	CHECK(count.wrong == 0 && broken == 0 && count.next == NUM_WRITTEN + 1);
	order_deinit(&o);
}

int main(void)
{
	test_wrap();
	test_sizes();
	test_order();
	test_order_broken();
	test_beside_writer();
	return check_done();
}
