/*
 * The outer part of a stack that the copy was too small for, from the kernel's frame-pointer
 * chain.
 *
 * Equal return addresses prove nothing: in a recursion every frame has the same. So both chains
 * are aligned by where on the stack each return address lies. The kernel started at the sampled
 * frame pointer and followed frame records (perf_callchain_user: x86 arch/x86/events/core.c,
 * arm64 arch/arm64/kernel/stacktrace.c); inside the copy we follow the same records and so learn
 * the address of each entry:
 *
 * entry k is the word at fp[k-1] + 8, fp[0] = sampled frame pointer, fp[k] = word at fp[k-1]
 *
 * The records leave the copy at fp[K]. The entry behind it, K + 1, continues our walk exactly if
 * the word our walk asked for lies at fp[K] + 8, and the last frames of both are the same words
 * before.
 */
#include "unwinder/unwinder_priv.h"

enum { SPLICE_MIN_FRAMES = 3 };

/* How many of the last entries up to `last` our last frames share; the trace's frame 0 is the
 * sampled one. */
static size_t count_common(const struct trace *trace, size_t num_frames, const uint64_t *record_at,
			   size_t num_records, const uint64_t *chain, uint64_t ra_mask)
{
	size_t common = 0;

	/* record_at holds the most recent records, newest last; the last one was read for entry
	 * num_records. */
	while (common < SPLICE_MIN_FRAMES && common < num_records && common + 1 < num_frames) {
		const struct trace *t = &trace[num_frames - 1 - common];
		size_t entry = num_records - common;

		if (t->ra_at != record_at[entry % SPLICE_MIN_FRAMES] + 8 ||
		    t->pc != (chain[entry] & ra_mask))
			break;
		common++;
	}
	return common;
}

size_t splice_find(const struct unwind_input *in, uint64_t stack_base, uint64_t fp,
		   const struct trace *trace, size_t num_frames, uint64_t wanted_at,
		   uint64_t ra_mask)
{
	uint64_t record_at[SPLICE_MIN_FRAMES]; /* of the last entries, by entry % 3 */
	size_t entry = 0;
	uint64_t next, ra;

	if (!in->chain || !wanted_at || num_frames <= SPLICE_MIN_FRAMES)
		return 0;
	while (stack_word(in->stack, in->stack_bytes, stack_base, fp, &next) &&
	       stack_word(in->stack, in->stack_bytes, stack_base, fp + 8, &ra)) {
		entry++;
		/* The kernel saw the same words, or it did not walk where we think. */
		if (entry >= in->num_chain || (in->chain[entry] & ra_mask) != (ra & ra_mask))
			return 0;
		record_at[entry % SPLICE_MIN_FRAMES] = fp;
		if (next <= fp)
			return 0;
		fp = next;
	}
	if (entry < SPLICE_MIN_FRAMES || fp + 8 != wanted_at || entry + 1 >= in->num_chain)
		return 0;
	if (count_common(trace, num_frames, record_at, entry, in->chain, ra_mask) <
	    SPLICE_MIN_FRAMES)
		return 0;
	return entry + 1;
}
