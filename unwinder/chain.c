/* Stacks, or their outer parts, as the kernel walked them by frame pointers. */
#include "unwinder/unwinder_priv.h"

static bool chain_is_full(const struct unwind_input *in)
{
	return in->num_chain >= KERNEL_MAX_STACK;
}

void chain_append(struct unwinder *u, const struct unwind_input *in, size_t first, uint32_t *frames,
		  struct unwind_result *ret)
{
	uint64_t pc = 0;
	uint64_t place;

	ret->class = UNWIND_BROKEN;
	ret->reason = REASON_NO_FP;
	for (size_t i = first; i < in->num_chain; i++) {
		uint32_t id;

		if (ret->num_frames == u->max_frames) {
			ret->reason = REASON_TOO_DEEP;
			return;
		}
		/* Only the sampled pc is exact; the kernel masked the return addresses already. */
		pc = (in->chain[i] & u->arch->ra_mask) - (i != 0);
		if (i && !addrspace_find(in->space, pc)) {
			ret->reason = REASON_NO_MAPPING;
			return;
		}
		id = unwinder_intern(u, in->space, pc, ret);
		if (id == FRAME_ID_NONE)
			return;
		u->trace[ret->num_frames].pc = in->chain[i] & u->arch->ra_mask;
		frames[ret->num_frames++] = id;
	}
	if (first >= in->num_chain)
		return;
	place = pc;
	if (unwinder_ends_at(u, in->space, &place, in->num_chain == 1)) {
		if (place != pc)
			frames[ret->num_frames - 1] = unwinder_intern(u, in->space, place, ret);
		ret->class = UNWIND_COMPLETE;
		ret->reason = REASON_NONE;
	} else if (chain_is_full(in)) {
		ret->class = UNWIND_TRUNCATED;
		ret->reason = REASON_NONE;
	}
}

void unwind_by_chain(struct unwinder *u, const struct unwind_input *in, uint32_t *frames,
		     struct unwind_result *ret)
{
	chain_append(u, in, 0, frames, ret);
	if (!ret->num_frames && !in->perf_regs)
		ret->reason = REASON_NO_REGS;
}
