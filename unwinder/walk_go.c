/*
 * The walk in programs of Go: behind the functions that its runtime calls first, where it changes from a goroutine's
 * stack to the thread's, and behind its signal handlers. The copy holds one stack; where another begins the kernel's
 * chain goes on, if it is proved to stand on the same frame record.
 */
#include "symbols/elf_file.h"
#include "symbols/file.h"
#include "unwinder/walk_priv.h"

/* The function that the call before `ra` names; 0 = it names none, or is no call. */
static uint64_t called_by_name(struct walk *w, uint64_t ra)
{
	return walk_named_by(w, ra, CALL_REL32);
}

/*
 * Go keeps frame pointers, and leaves them alone when it changes stacks: so the kernel, which followed them when it took
 * the sample, came to the goroutine's stack, of which the copy holds nothing. Its entry k is the word at fp[k - 1] + 8,
 * fp[0] = sampled frame pointer, fp[k] = word at fp[k - 1]. Returns the first that lies on the other stack: the one after
 * the return address into the function that changed stacks, or the very first when no frame up to there touched the frame
 * pointer (C code without one, called through asmcgocall). 0 = that is not proved.
 */
static size_t chain_behind_switch(struct walk *w)
{
	const struct unwind_input *in = w->in;
	const struct arch *arch = w->arch;
	uint64_t fp = w->sampled_fp;

	for (size_t k = 1; k + 1 < in->num_chain; k++) {
		if (fp + 8 == w->ra_at)
			return (in->chain[k] & arch->ra_mask) == w->regs.pc ? k + 1 : 0;
		if (!word_at(w, fp, &fp))
			break;
	}
	fp = w->sampled_fp;
	if (in->num_chain < 2 || !fp || !(w->regs.valid >> arch->fp & 1) || w->regs.v[arch->fp] != fp ||
	    fp - w->base < w->stack_bytes)
		return 0;
	return 1;
}

/*
 * Who changed stacks has no frame record of its own, so the function that called it is not in the chain. It is known where
 * its own caller called it by name.
 */
static void note_called(struct walk *w, uint64_t ra)
{
	uint64_t target = walk_named_by(w, ra, CALL_REL32);
	const struct mapping *m = target ? map_at(w, target) : NULL;
	const struct frame_entry *e;

	e = m && m->file ? entry_at(w, m, target) : NULL;
	if (e && w->ret->num_frames < w->u->max_frames)
		w->frames[w->ret->num_frames++] = e->id;
}

static bool complete_switched(struct walk *w)
{
	w->ret->switched = true;
	return complete(w);
}

/* A return address in the same program; goroutines begin as if goexit had called them. */
static bool is_caller(struct walk *w, const struct mapping *m, uint64_t ra)
{
	const struct mapping *caller = map_at(w, ra - 1);
	bool root;

	return caller && caller->file == m->file &&
	       (unwinder_is_entered_from(w->u, caller, ra, &root) ||
		elf_file_is_root(caller->file->elf, ra - 1 - mapping_bias(caller)));
}

/*
 * In a function that changes stacks and has not yet, or is back from it, or that begins a thread, in the one that called it.
 * These keep nothing on the stack they are called on, and the call behind which the word on top lies names the very
 * function we are in.
 */
static bool is_where_called(struct walk *w, const struct mapping *m)
{
	uint64_t place = w->regs.pc - !w->activation - mapping_bias(m), start, ra;
	enum elf_root root = elf_file_root(m->file->elf, place, &start);
	uint64_t called;

	if (root == ELF_ROOT_NONE || !word_at(w, w->sp, &ra))
		return false;
	called = called_by_name(w, ra & w->arch->ra_mask);
	start += mapping_bias(m);
	/* What is called is morestack_noctxt, mostly: "mov $0,%edx" or "xor %edx,%edx", and a jump to morestack. */
	return called == start || (root == ELF_ROOT_CUT && called && (walk_named_by(w, called + 5 + REL32_BYTES, JUMP_REL32) == start ||
								      walk_named_by(w, called + 2 + REL32_BYTES, JUMP_REL32) == start));
}

/* False, and nothing done, where the word on top is not what that call has pushed. */
static bool step_called(struct walk *w, const struct mapping *m)
{
	return is_where_called(w, m) && walk_step_from_entry(w, w->arch->callee_saved);
}

static bool step_switch(struct walk *w, const struct mapping *m)
{
	struct unwind_result *ret = w->ret;
	size_t num = ret->num_frames, first;
	uint64_t ra;

	if (step_called(w, m))
		return true;
	first = chain_behind_switch(w);
	ra = first ? w->in->chain[first] & w->arch->ra_mask : 0;
	if (!ra || !is_caller(w, m, ra))
		return complete_switched(w);
	note_called(w, ra);
	chain_append(w->u, w->in, first, w->frames, ret);
	if (ret->class == UNWIND_BROKEN) {
		ret->num_frames = num;
		return complete_switched(w);
	}
	ret->spliced = true;
	return false;
}

/* mstart was called by clone, or by C code that made the thread; if the walk cannot follow that, it has come far enough. */
static bool step_thread(struct walk *w)
{
	const struct mapping *m;
	bool root = false;
	uint64_t ra;

	if (w->activation || !w->arch->call_pushes_ra || !word_at(w, w->sp, &ra) || !(m = map_at(w, ra - 1)) ||
	    !unwinder_is_entered_from(w->u, m, ra, &root))
		return complete(w);
	w->root_at = w->ret->num_frames;
	w->regs.valid = 0;
	enter_caller(w, ra, w->sp + 8, w->sp, false);
	return true;
}

/*
 * time.now calls the vDSO on its thread's own stack, where there is room for C, so its stack pointer tells nothing. Its frame
 * pointer stays that of its own record, whose caller the kernel's chain has when the copy has not.
 */
static bool step_clock(struct walk *w, const struct mapping *m)
{
	uint64_t fp = w->regs.v[w->arch->fp], ra;
	size_t first;

	if (!(w->regs.valid >> w->arch->fp & 1))
		return stop(w, REASON_UNKNOWN_REG);
	if (fp >= w->sp && fp - w->base < w->stack_bytes)
		return walk_step_fp(w, m);
	first = chain_behind_switch(w);
	ra = first ? w->in->chain[first] & w->arch->ra_mask : 0;
	if (!ra || !is_caller(w, m, ra))
		return stop(w, REASON_ALTSTACK);
	chain_append(w->u, w->in, first, w->frames, w->ret);
	w->ret->spliced = true;
	return false;
}

/* The kernel's entry that is the return address in the frame record at `record`, outside the copy; 0 = it was not there. */
static size_t chain_at_record(struct walk *w, uint64_t record)
{
	const struct unwind_input *in = w->in;
	uint64_t fp = w->sampled_fp, ra;

	for (size_t entry = 1; entry < in->num_chain; entry++) {
		if (fp == record)
			return entry;
		if (!word_at(w, fp + 8, &ra) || ((ra ^ in->chain[entry]) & w->arch->ra_mask) || !word_at(w, fp, &fp))
			return 0;
	}
	return 0;
}

/*
 * Go's signal handlers run on a stack of their own, and the copy holds no other. What they interrupted has its frame pointer
 * from the signal frame: where its row has the return address in the very record that this points to, the kernel, which
 * followed the same records, has read it. A leaf without a record, whose caller the kernel skips, ends here as before.
 */
void walk_go_behind_signal(struct walk *w)
{
	const struct mapping *m = map_at(w, w->regs.pc - !w->activation);
	const uint64_t fp = w->regs.v[w->arch->fp];
	const struct unwind_result before = *w->ret;
	size_t first;

	if (!m || !m->file || m->file->kind != FILE_ELF || !elf_file_is_go(m->file->elf) ||
	    !(w->regs.valid >> w->arch->fp & 1) || w->wanted_at != fp + 8)
		return;
	first = chain_at_record(w, fp);
	if (!first || !is_caller(w, m, w->in->chain[first] & w->arch->ra_mask))
		return;
	chain_append(w->u, w->in, first, w->frames, w->ret);
	if (w->ret->class == UNWIND_BROKEN)
		*w->ret = before;
	else
		w->ret->spliced = true;
}

bool walk_go_root(struct walk *w, const struct mapping *m, uint32_t kind)
{
	switch ((enum elf_root)kind) {
	case ELF_ROOT_THREAD:
		return step_thread(w);
	case ELF_ROOT_SWITCH:
		return step_switch(w, m);
	case ELF_ROOT_CUT:
		return step_called(w, m) || complete_switched(w);
	case ELF_ROOT_CLOCK:
		return step_clock(w, m);
	case ELF_ROOT_CALLED:
		return step_called(w, m) || complete(w);
	case ELF_ROOT_NONE:
	case ELF_ROOT_FIRST:
	case ELF_ROOT_MARK:
	case ELF_ROOT_CALLBACK:
	case ELF_ROOT_NUM:
		break;
	}
	return complete(w);
}
