#include "collector/shape_priv.h"

static const uint64_t kib = 1024;
static const uint64_t mib = 1024 * 1024;

/* Below this a copy seldom holds more than a few frames, and losing some samples is the lesser harm. */
static const uint32_t min_stack_bytes = 4096;

/* Longer chains are rare; when one comes the kernel shortens that one stack copy instead. */
static const uint32_t max_chain_reserved = 520;

static uint64_t floor_pow2(uint64_t x)
{
	return x ? 1ull << (63 - __builtin_clzll(x)) : 0;
}

static uint64_t ceil_pow2(uint64_t x)
{
	uint64_t ret = floor_pow2(x);

	return ret < x ? ret * 2 : ret;
}

static uint64_t clamp(uint64_t x, uint64_t low, uint64_t high)
{
	return x < low ? low : x > high ? high : x;
}

/*
 * A sample without the bytes of its stack: header, IDENTIFIER, IP, TID, TIME, CPU and PERIOD, the callchain with
 * its count, the registers with their abi, and the two sizes around the stack.
 */
static uint32_t overhead_bytes(const struct shape_wish *w)
{
	uint32_t chain = w->max_chain < max_chain_reserved ? w->max_chain : max_chain_reserved;
	uint32_t ret = 8 + 6 * 8 + 8 + 8 * chain;

	return w->num_regs ? ret + 8 + 8 * w->num_regs + 16 : ret;
}

static uint32_t wanted_stack(const struct shape_wish *w, uint32_t max)
{
	uint32_t ret = w->stack_bytes;

	if (!w->num_regs)
		return 0;
	if (!ret || ret > max)
		return max;
	/* sys_perf_event_open refuses anything that is not a multiple of 8. */
	return (ret + 7) & ~7u;
}

static uint64_t cap_of(const struct shape_wish *w)
{
	uint64_t ret = 256 * mib;

	if (w->max_ring_bytes)
		return w->max_ring_bytes;
	if (w->mem_bytes && w->mem_bytes / 100 < ret)
		ret = w->mem_bytes / 100;
	return ret;
}

/* The largest stack for which `slack` records fit into a ring, at least the smallest useful one. */
static uint32_t stack_that_fits(uint64_t ring_bytes, uint32_t slack, uint32_t overhead)
{
	uint64_t record = ring_bytes / slack;

	if (record < overhead + min_stack_bytes)
		return min_stack_bytes;
	return (uint32_t)clamp((record - overhead) & ~7ull, min_stack_bytes, SHAPE_MAX_RECORD);
}

/*
 * A side-band ring holds bursts of MMAP2, COMM, FORK and EXIT of about 100 bytes: 1 MiB is over half a second of
 * what an exec storm of 1,300 a second writes; on machines with many CPUs a quarter of the memory has to do.
 */
static uint64_t side_ring(const struct shape_wish *w, uint64_t cap, uint32_t cpus)
{
	uint64_t ret = clamp(floor_pow2(cap / 4 / cpus), SHAPE_MIN_RING, mib);

	return w->ring_limit && w->ring_limit < ret ? clamp(w->ring_limit, SHAPE_MIN_RING, ret)
						    : ret;
}

static uint64_t ring_max(const struct shape_wish *w, const struct shape *s, uint32_t cpus)
{
	uint64_t each = s->cap_bytes / cpus, fixed = s->side_bytes + 2ull * w->page_bytes;
	uint64_t ret = each > fixed ? floor_pow2(each - fixed) : 0;

	ret = ret < 128 * kib ? 128 * kib : ret;
	return w->ring_limit && w->ring_limit < ret ? clamp(w->ring_limit, SHAPE_MIN_RING, ret)
						    : ret;
}

struct shape shape_compute(const struct shape_wish *w)
{
	uint32_t overhead = overhead_bytes(w), max_stack = (SHAPE_MAX_RECORD - overhead) & ~7u;
	uint32_t cpus = w->num_cpus ? w->num_cpus : 1;
	struct shape s = { .cap_bytes = cap_of(w),
			   .capped = w->num_regs && w->stack_bytes > max_stack };
	uint64_t max, want;

	s.full_stack_bytes = s.stack_bytes = wanted_stack(w, max_stack);
	s.slack_records = (w->rate_hz + 9) / 10 < 8 ? 8 : (w->rate_hz + 9) / 10;
	s.side_bytes = side_ring(w, s.cap_bytes, cpus);
	max = ring_max(w, &s, cpus);
	want = (uint64_t)s.slack_records * (overhead + s.stack_bytes);
	/*
	 * 100 ms is what must fit; on a machine with more to do than CPUs the drain may wait longer for its
	 * turn (loss of 5 % was seen at three busy tasks a CPU), so more is taken where the cap leaves room.
	 */
	s.ring_bytes = clamp(ceil_pow2(want * 5 / 2), max < 128 * kib ? max : 128 * kib, max);
	if (want > s.ring_bytes && s.stack_bytes) {
		uint32_t fits = stack_that_fits(s.ring_bytes, s.slack_records, overhead);

		s.stack_bytes = fits < s.stack_bytes ? fits : s.stack_bytes;
	}
	s.record_bytes = overhead + s.stack_bytes;
	s.all_bytes = cpus * (s.ring_bytes + s.side_bytes + 2ull * w->page_bytes);
	return s;
}
