/*
 * The stacks that were walked last. Successive samples of a thread share most of their outer frames: whoever called
 * what runs now has not returned meanwhile. A walk must read one word of a frame to know where the next one is, which
 * costs as long as memory takes, frame after frame. Where a remembered stack tells beforehand which words those would be,
 * they are read all at once, and where they are what they were, so is everything that a walk makes of them.
 *
 * Only plain frames are remembered (struct frame_hot) that led to the end of a stack. Each depends on the registers
 * that are kept here, on the words that are compared, on rules, which f->version tells, and on the process's mappings,
 * which its own version tells.
 */
#include "unwinder/unwinder_priv.h"

enum {
	/* What begins so far above a stack pointer is another thread's stack (ulimit -s is 8 MiB nearly everywhere). */
	MAX_ABOVE = 8 << 20,
};

static struct known_stack **set_of(struct known_stacks *k, uint32_t space_id)
{
	return k->sets[space_id % KNOWN_SETS];
}

struct known_stack *known_find(struct known_stacks *k, const struct frames *f, const struct addrspace *space,
			       uint64_t base)
{
	struct known_stack **set = set_of(k, space->id), *ret = NULL;
	uint64_t nearest = MAX_ABOVE;

	for (size_t i = 0; i < KNOWN_WAYS; i++) {
		struct known_stack *s = set[i];

		if (!s || s->space_id != space->id || s->space_version != space->version ||
		    s->rules_version != f->version || s->frames[0].sp - base >= nearest)
			continue;
		nearest = s->frames[0].sp - base;
		ret = s;
	}
	return ret;
}

static bool is_word(const uint8_t *stack, uint64_t at, uint64_t mask, uint64_t wanted)
{
	uint64_t word;

	memcpy(&word, stack + at, sizeof(word));
	return (word & mask) == wanted;
}

size_t known_outer(const struct known_stack *s, const uint8_t *stack, size_t bytes, uint64_t base, uint64_t ra_mask)
{
	size_t num = 0;

	/* The outermost frame lies highest. */
	if (s->frames[0].sp - base > bytes)
		return 0;
	for (; num < s->num; num++) {
		const struct known_frame *f = &s->frames[num];

		/* Both lie below the frame's stack pointer, and so below the end of the copy. */
		if (f->ra_at < base || !is_word(stack, f->ra_at - base, ra_mask, f->pc))
			break;
		if (f->fp_at && (f->fp_at < base || !is_word(stack, f->fp_at - base, ~0ull, f->fp)))
			break;
	}
	return num;
}

/* A place for a stack of this process, the next in turn. */
static struct known_stack *place_for(struct known_stacks *k, uint32_t space_id)
{
	struct known_stack **set = set_of(k, space_id);
	uint8_t *next = &k->next[space_id % KNOWN_SETS];
	struct known_stack **ret = &set[(*next)++ % KNOWN_WAYS];

	if (!*ret)
		*ret = malloc(sizeof(**ret));
	return *ret;
}

/* Where the pc and the frame pointer of a frame were read: what its callee saved. */
static void set_read(struct known_frame *f, const struct trace *frame, const struct trace *callee)
{
	uint64_t fp_below = 8 * (uint64_t)callee->hot->fp_slot;

	f->ra_at = frame->ra_at;
	f->fp_at = f->needs_fp && fp_below ? frame->sp - fp_below : 0;
}

void known_add(struct known_stacks *k, const struct frames *f, const struct addrspace *space, struct known_stack *s,
	       size_t outer, const struct trace *trace, const uint32_t *ids, size_t from, size_t to)
{
	/* The sampled frame is not at a return address. */
	const size_t first = from ? from : 1;

	if (first >= to && !outer)
		return;
	if (!s) {
		s = place_for(k, space->id);
		if (!s)
			return; /* it only saves time */
		s->space_id = space->id;
		s->space_version = space->version;
		s->rules_version = f->version;
		outer = 0;
	}
	/* The frame at which the two met has called another one this time, which may have saved things elsewhere. */
	if (outer && to > from)
		set_read(&s->frames[outer - 1], &trace[to], &trace[to - 1]);
	for (size_t left = KNOWN_NEW; to > first && outer < KNOWN_FRAMES && left; to--, left--) {
		const struct trace *t = &trace[to - 1];
		struct known_frame *frame = &s->frames[outer];
		/* A frame leaves the frame pointer that it has to its caller, or one that it saved. */
		bool needs_fp = t->hot->kind == HOT_FP || (outer && frame[-1].needs_fp && !frame[-1].fp_at);

		if (needs_fp && to - 1 == from)
			break; /* the callee is no plain frame: nobody knows what it did */
		*frame = (struct known_frame){
			.pc = t->pc,
			.sp = t->sp,
			.fp = t->fp,
			.id = ids[to - 1],
			.needs_fp = needs_fp,
			.ra_at = t->ra_at,
		};
		if (to - 1 > from)
			set_read(frame, t, t - 1);
		outer++;
	}
	s->num = (uint32_t)outer;
}

void known_deinit(struct known_stacks *k)
{
	for (size_t i = 0; i < KNOWN_SETS; i++) {
		for (size_t j = 0; j < KNOWN_WAYS; j++)
			free(k->sets[i][j]);
	}
}
