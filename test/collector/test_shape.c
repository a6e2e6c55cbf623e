#include "collector/shape_priv.h"

#include "test/check.h"

static const uint64_t kib = 1024, mib = 1024 * 1024;

static const struct shape_wish usual = {
	.num_regs = 17,
	.max_chain = 135,
	.rate_hz = 99,
	.num_cpus = 2,
	.page_bytes = 4096,
	.mem_bytes = 24ull << 30,
};

/* 8 header, 48 words, 8 + 135 * 8 chain, 8 + 17 * 8 registers, 16 around the stack. */
enum { OVERHEAD = 8 + 48 + 8 + 135 * 8 + 8 + 17 * 8 + 16 };

static void test_default(void)
{
	struct shape s = shape_compute(&usual);

	CHECK(s.stack_bytes == SHAPE_MAX_RECORD - OVERHEAD && s.stack_bytes == s.full_stack_bytes);
	CHECK(s.stack_bytes % 8 == 0 && s.record_bytes == SHAPE_MAX_RECORD && !s.capped);
	CHECK(s.slack_records == 10 && s.ring_bytes == 2 * mib && s.side_bytes == mib);
	CHECK(s.all_bytes == 2 * (3 * mib + 8192));
}

static void test_fast(void)
{
	struct shape_wish w = usual;
	struct shape s;

	w.rate_hz = 999;
	s = shape_compute(&w);
	/* 100 records of 65,528 bytes are 6.25 MiB; two and a half times that where there is room. */
	CHECK(s.slack_records == 100 && s.ring_bytes == 16 * mib &&
	      s.stack_bytes == s.full_stack_bytes);
	w.rate_hz = 20000;
	s = shape_compute(&w);
	/* 2000 records would be 125 MiB a ring; 1 % of 24 GiB is 245 MiB for both. */
	CHECK(s.ring_bytes == 64 * mib && s.stack_bytes < s.full_stack_bytes);
	CHECK((uint64_t)s.record_bytes * 2000 <= s.ring_bytes && s.all_bytes <= s.cap_bytes);
}

static void test_many_cpus(void)
{
	for (uint32_t cpus = 1; cpus <= 1024; cpus *= 2) {
		struct shape_wish w = usual;
		struct shape s;

		w.num_cpus = cpus;
		w.mem_bytes = 1ull << 40;
		w.rate_hz = 999;
		s = shape_compute(&w);
		CHECK(s.cap_bytes == 256 * mib);
		CHECK_MSG(s.all_bytes <= 256 * mib, "%u CPUs: %llu", cpus,
			  (unsigned long long)s.all_bytes);
		CHECK((s.ring_bytes & (s.ring_bytes - 1)) == 0 && s.ring_bytes >= 128 * kib);
		CHECK(s.stack_bytes >= 4096 && s.stack_bytes % 8 == 0);
		if (s.stack_bytes > 4096)
			CHECK((uint64_t)s.record_bytes * s.slack_records <= s.ring_bytes);
	}
}

static void test_small_memory(void)
{
	struct shape_wish w = usual;
	struct shape s;

	w.mem_bytes = 64 * mib; /* 1 % is 655 KiB for two CPUs */
	s = shape_compute(&w);
	CHECK(s.ring_bytes == 128 * kib && s.side_bytes == 64 * kib);
	CHECK(s.stack_bytes == ((128 * kib / 10 - OVERHEAD) & ~7ull));
	w.mem_bytes = mib;
	s = shape_compute(&w);
	CHECK(s.ring_bytes == 128 * kib && s.side_bytes == 64 * kib); /* the floor */
}

static void test_limit(void)
{
	struct shape_wish w = usual;
	struct shape s;

	w.ring_limit = 64 * kib;
	s = shape_compute(&w);
	CHECK(s.ring_bytes == 64 * kib && s.side_bytes == 64 * kib);
	CHECK(s.stack_bytes == ((64 * kib / 10 - OVERHEAD) & ~7ull));
	w.ring_limit = 512 * kib;
	s = shape_compute(&w);
	CHECK(s.ring_bytes == 512 * kib && s.side_bytes == 512 * kib);
}

static void test_wishes(void)
{
	struct shape_wish w = usual;
	struct shape s;

	w.stack_bytes = 8191;
	s = shape_compute(&w);
	CHECK(s.stack_bytes == 8192 && !s.capped && s.ring_bytes == 256 * kib);
	w.stack_bytes = 65535;
	s = shape_compute(&w);
	CHECK(s.stack_bytes == SHAPE_MAX_RECORD - OVERHEAD && s.capped);
	w.stack_bytes = UINT32_MAX;
	CHECK(shape_compute(&w).stack_bytes == SHAPE_MAX_RECORD - OVERHEAD);
	w.num_regs = 0;
	s = shape_compute(&w);
	CHECK(s.stack_bytes == 0 && !s.capped && s.ring_bytes == 128 * kib);
	w = usual;
	w.max_chain = 60000; /* a huge perf_event_max_stack does not eat the stack */
	CHECK(shape_compute(&w).stack_bytes > 60000);
	w = usual;
	w.max_ring_bytes = 4 * mib;
	s = shape_compute(&w);
	CHECK(s.all_bytes <= 4 * mib && s.cap_bytes == 4 * mib && s.ring_bytes == mib);
}

int main(void)
{
	test_default();
	test_fast();
	test_many_cpus();
	test_small_memory();
	test_limit();
	test_wishes();
	return check_done();
}
