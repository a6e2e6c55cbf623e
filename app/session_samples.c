/* From a sample to a stack in its process's tree. */
#include "app/session_priv.h"

#include "base/clock.h"
#include "base/intern.h"
#include "collector/record.h"
#include "output/stacks.h"
#include "runtimes/dotnet.h"
#include "symbols/addrspace.h"
#include "symbols/symbols.h"
#include "target/door.h"

enum {
	MAX_ANCESTORS = 16, /* asked for the container of a process that is gone */
	MAX_TOUCHED = 256,  /* of one process; more are no holes but stacks that we misunderstand */
	TIMED_SAMPLES = 16, /* one sample in so many is timed: reading the clock costs 5 % of a walk */
};

/*
 * A process that ended before its records were read is where it came from. Those above it are known even if they have
 * ended as well: their EXIT comes later.
 */
static void inherit_place(struct session *s, const struct addrspace *space, struct place_seen *seen)
{
	const struct place_ended *ended = places_ended_find(&s->places_ended, space->pid);
	pid_t pid = space->ppid > 0 || !ended ? space->ppid : ended->ppid;

	if (ended && ended->seen.look_ns && places_inherit(s->opts.containers, 0, &ended->seen, seen))
		return;
	for (int hops = 0; hops < MAX_ANCESTORS && pid > 0; hops++) {
		const struct addrspace *above = addrspaces_peek(s->spaces, pid);
		const struct live *live = above ? above->user : NULL;

		if (places_inherit(s->opts.containers, pid, live ? &live->place : NULL, seen))
			return;
		ended = above ? NULL : places_ended_find(&s->places_ended, pid);
		pid = above ? above->ppid : ended ? ended->ppid : 0;
	}
}

/* Where the process is at the time of the record; NULL when out of memory. */
static const struct place_seen *place_of(struct session *s, struct addrspace *space, uint64_t now_ns)
{
	struct live *live = session_live(s, space);

	if (live && !places_look(s->opts.containers, space->pid, now_ns, &live->place))
		inherit_place(s, space, &live->place);
	return live ? &live->place : NULL;
}

bool session_is_wanted(struct session *s, struct addrspace *space, const struct record *rec)
{
	const struct place_seen *place;

	if (s->opts.only_containers) {
		place = place_of(s, space, rec->time_ns);
		if (!place || !place->wanted)
			return false;
	}
	if (s->opts.by_uid && addrspaces_uid(s->spaces, space, rec->time_ns) != s->opts.uid)
		return false;
	return !s->opts.num_pids || pid_set_find(&s->wanted, s->opts.tids ? rec->tid : rec->pid);
}

static size_t add_kernel_frames(struct session *s, const struct record_sample *sample, size_t num)
{
	const uint64_t *chain;
	size_t len = record_kernel_chain(sample, &chain);

	if (len > MAX_KERNEL_FRAMES)
		len = MAX_KERNEL_FRAMES;
	for (size_t i = 0; i < len; i++) {
		/* Callers are looked up inside their call, as in user space. */
		uint32_t id = unwinder_kernel_frame(s->unwinder, i ? chain[i] - 1 : chain[i]);

		if (id != FRAME_ID_NONE)
			s->frames[num++] = id;
	}
	s->stats.kernel_frames += len;
	return num;
}

/* A sample of a task without a user side: kernel threads, tasks whose memory is gone or not there yet. */
static bool has_no_user_side(const struct session *s, const struct record_sample *sample,
			     const struct addrspace *space)
{
	const uint64_t *chain;

	if (sample->mode == MODE_USER)
		return false;
	if (!s->regs_mask)
		return record_user_chain(sample, &chain) == 0 && !sample->chain_missing;
	return sample->regs_abi == 0 || sample->stack_bytes == 0 || space->maps.num == 0;
}

/* The stack goes to s->frames[num] and what follows. With the first frame of JIT code its names begin to be followed. */
static void walk(struct session *s, struct live *live, const struct unwind_input *in, uint64_t time_ns, size_t num,
		 struct unwind_result *ret)
{
	if (live->jit)
		session_advance_names(live, time_ns);
	unwinder_walk(s->unwinder, in, s->frames + num, ret);
	if (ret->num_jit && !live->jit && session_jit_begins(live)) {
		session_advance_names(live, time_ns);
		unwinder_walk(s->unwinder, in, s->frames + num, ret);
	}
}

/* Those of a walk, at s->frames[num]; returns how many there are with them. */
static size_t take_frames(struct session *s, struct live *live, const struct unwind_result *walked, size_t num)
{
	if (s->opts.keep_addresses)
		session_place_frames(s, live->space, s->frames + num, walked->num_frames);
	s->stats.frames += walked->num_frames;
	s->stats.jit_frames += walked->num_jit;
	s->stats.unknown_frames += walked->num_unknown;
	live->own_frames |= walked->num_jit || walked->num_unknown;
	return num + walked->num_frames;
}

/* Counts how the walk of a stack ended; one that did not come to the end has a mark there. */
static size_t take_end(struct session *s, const struct unwind_result *walked, size_t num)
{
	s->stats.user_stacks++;
	switch (walked->class) {
	case UNWIND_COMPLETE:
		s->stats.complete++;
		s->end = sample_end(SAMPLE_COMPLETE, 0);
		break;
	case UNWIND_TRUNCATED:
		s->stats.truncated++;
		s->end = sample_end(SAMPLE_TRUNCATED, 0);
		s->frames[num++] = s->mark_truncated;
		break;
	case UNWIND_BROKEN:
	case UNWIND_NUM_CLASSES:
		s->stats.broken++;
		s->broken_by[walked->reason]++;
		s->end = sample_end(SAMPLE_BROKEN, walked->reason);
		s->frames[num++] = walked->reason == REASON_ALTSTACK ? s->mark_altstack : s->mark_broken;
		break;
	}
	return num;
}

/*
 * A copy that ends before the stack does: the kernel copies no further than to the first page that was never touched,
 * and large arrays have such. We touch them, so that from then on the copies are whole.
 */
static bool ended_in_hole(struct session *s, struct live *live, const struct record_sample *sample)
{
	const struct arch *arch = s->opts.arch ? s->opts.arch : arch_host();
	size_t num_regs = (size_t)__builtin_popcountll(s->regs_mask);
	struct regs regs;
	uint64_t end;

	arch_regs_from_perf(arch, s->regs_mask, sample->regs, num_regs, &regs);
	end = regs.v[arch->sp] + sample->stack_bytes;
	/* The end of the stack itself, where the vDSO lies right above it. */
	if (addrspace_find(live->space, end))
		return false;
	if (live->num_touched < MAX_TOUCHED && live->hole != end) {
		live->num_touched++;
		if (session_touch(s, live->space, end))
			live->hole = end;
	}
	return live->hole == end;
}

/*
 * Walks a stack that its copy does not hold as if the copy were full, and so too small: to be believed where the stack
 * does go on. False: it stays as it was.
 */
static bool walk_cut(struct session *s, struct live *live, const struct record_sample *sample,
		     const struct unwind_input *in, uint32_t *frames, struct unwind_result *ret)
{
	struct unwind_input full = *in;

	if (!s->opts.memory || in->stack_full)
		return false;
	full.stack_full = true;
	unwinder_walk(s->unwinder, &full, frames, ret);
	if ((ret->class == UNWIND_TRUNCATED || ret->spliced) && ended_in_hole(s, live, sample))
		return true;
	unwinder_walk(s->unwinder, in, frames, ret);
	return false;
}

static size_t fetch_stack(void *data, size_t bytes)
{
	struct stack_rest *rest = data;

	return rest->fetch(rest, bytes);
}

static size_t add_user_frames(struct session *s, const struct record_sample *sample,
			      struct live *live, uint64_t time_ns, size_t num)
{
	struct unwind_input in = {
		.space = live->space,
		.perf_regs = sample->regs,
		.perf_mask = s->regs_mask,
		.compat = sample->regs_abi == 1, /* PERF_SAMPLE_REGS_ABI_32 */
		.stack = sample->stack,
		.stack_bytes = sample->stack_bytes,
		.stack_full = sample->stack_bytes == sample->stack_size,
	};
	uint64_t no_starts = dotnet_no_starts(s->dotnet);
	struct unwind_result result;

	if (sample->rest) {
		in.stack_here = sample->rest->here;
		in.fetch = fetch_stack;
		in.fetch_data = sample->rest;
	}
	in.num_chain = record_user_chain(sample, &in.chain);
	walk(s, live, &in, time_ns, num, &result);
	if (result.class == UNWIND_BROKEN && result.reason == REASON_OUTSIDE)
		s->last.cut = walk_cut(s, live, sample, &in, s->frames + num, &result);
	if (sample->chain_missing && result.class == UNWIND_BROKEN)
		result.reason = REASON_NO_CHAIN;
	s->no_method_start = dotnet_no_starts(s->dotnet) != no_starts;
	if (result.num_jit && session_runtime_is_silent(live)) {
		s->no_method_start = true;
		s->not_told_frames += result.num_jit;
	}
	s->stats.no_method_starts += s->no_method_start;
	s->stats.spliced += result.spliced;
	s->last.continued = result.spliced;
	s->stats.switched += result.switched;
	return take_end(s, &result, take_frames(s, live, &result, num));
}

/*
 * The kernel could copy nothing of a stack whose page is being replaced, as after a fork, or that is gone with its
 * program, as in an exec: the place in user space is known all the same. It counts as kernel only, if no stack ends
 * right there.
 */
static size_t add_sampled_place(struct session *s, const struct record_sample *sample, struct live *live,
				uint64_t time_ns, size_t num)
{
	const struct arch *arch = s->opts.arch ? s->opts.arch : arch_host();
	struct unwind_input in = { .space = live->space, .num_chain = 1 };
	struct unwind_result result = { 0 };
	struct regs regs;

	if (!s->regs_mask || sample->regs_abi != PERF_SAMPLE_REGS_ABI_64 || sample->stack_bytes || !sample->regs)
		goto nothing;
	arch_regs_from_perf(arch, s->regs_mask, sample->regs, (size_t)__builtin_popcountll(s->regs_mask), &regs);
	if (!addrspace_find(live->space, regs.pc))
		goto nothing;
	in.chain = &regs.pc;
	walk(s, live, &in, time_ns, num, &result);
	num = take_frames(s, live, &result, num);
	if (result.class == UNWIND_COMPLETE)
		return take_end(s, &result, num);
	if (result.num_frames)
		s->frames[num++] = s->mark_broken;
nothing:
	s->stats.kernel_only++;
	return num;
}

static uint64_t at_most(uint64_t value, uint64_t max)
{
	return value < max ? value : max;
}

static void keep_sample(struct session *s, struct live *live, const struct record *rec, uint32_t comm,
			uint32_t node, size_t event)
{
	struct kept_sample sample = {
		.time_ns = rec->time_ns,
		.period = at_most(rec->sample.period, MAX_PERIOD),
		.cpu = at_most(rec->cpu, MAX_CPU),
		.event = at_most(event, MAX_EVENT),
		.no_method_start = s->no_method_start,
		.by_chain = s->opts.method == UNWIND_FP || !s->regs_mask,
		.tid = rec->tid,
		.node = node,
		.comm = comm,
	};

	if (live->owner == NO_OWNER) {
		if (!vec_push(&s->owners, ((struct owner){ .pid = rec->pid,
							  .comm = addrspaces_comm(s->spaces, rec->pid, rec->pid) }))) {
			s->failed = true;
			return;
		}
		live->owner = (uint32_t)(s->owners.len - 1);
	}
	sample.owner = live->owner;
	if (s->opts.keep_places && s->opts.containers && live->place.place)
		s->owners.data[live->owner].place = live->place.place;
	if (!vec_push(&s->samples, sample) || !vec_push(&s->ends, s->end))
		s->failed = true;
}

/*
 * The kernel says 0 for the idle task and for every process that our pid namespace does not have (perf_event_pid,
 * kernel/events/core.c). The idle task has no user side.
 */
static bool is_elsewhere(const struct record *rec)
{
	return rec->pid == 0 && rec->tid == 0 && (rec->sample.mode == MODE_USER || rec->sample.regs_abi);
}

static void take_sample(struct session *s, const struct record *rec, size_t event)
{
	const struct record_sample *sample = &rec->sample;
	bool elsewhere = is_elsewhere(rec), idle = rec->pid == 0 && rec->tid == 0 && !elsewhere;
	const struct who_slot *who;
	struct addrspace *space;
	struct live *live;
	uint32_t comm, node;
	size_t num = 0;

	addrspaces_advance(s->spaces, rec->time_ns);
	space = addrspaces_get(s->spaces, rec->pid);
	if (space && !session_is_wanted(s, space, rec))
		return;
	if (!space || !(live = session_live(s, space))) {
		s->failed = true;
		return;
	}
	comm = elsewhere ? intern_id(s->strings, "[elsewhere]", 11) : addrspaces_comm(s->spaces, rec->pid, rec->tid);
	if (comm == UINT32_MAX) {
		s->failed = true;
		return;
	}
	if (rec->tid == rec->pid)
		live->comm = comm;
	if (s->opts.wanted && !s->opts.wanted(s->opts.data, rec, intern_get(s->strings, comm)))
		return;
	s->stats.samples++;
	s->num_elsewhere += elsewhere;
	s->end = sample_end(idle ? SAMPLE_IDLE : SAMPLE_KERNEL_ONLY, 0);
	s->no_method_start = false;
	if (idle) {
		s->stats.idle++;
		if (!s->opts.include_idle)
			return;
	}
	if (!s->opts.user_only)
		num = add_kernel_frames(s, sample, num);
	if (!idle) {
		if (s->opts.kernel_only)
			s->stats.kernel_only++;
		else if (has_no_user_side(s, sample, space))
			num = add_sampled_place(s, sample, live, rec->time_ns, num);
		else
			num = add_user_frames(s, sample, live, rec->time_ns, num);
	}
	who = session_who(s, comm, rec->pid, rec->tid);
	if (!who) {
		s->failed = true;
		return;
	}
	if (who->thread)
		s->frames[num++] = who->thread;
	s->frames[num++] = who->process;
	if (s->opts.by == BY_CONTAINER || s->opts.by == BY_POD)
		s->frames[num++] = unwinder_other_frame(
			s->unwinder, place_of(s, space, rec->time_ns)->place | CONTAINER);
	if (!stacks_add_node(live->stacks, s->frames, num, 1, &node))
		s->failed = true;
	if (s->opts.keep_places && s->opts.containers)
		place_of(s, space, rec->time_ns);
	if (s->opts.keep_samples && !s->failed)
		keep_sample(s, live, rec, comm, node, event);
}

void session_sample(struct session *s, const struct record *rec, size_t event)
{
	uint64_t start;

	s->sample_ns = rec->time_ns;
	if (s->stats.samples % TIMED_SAMPLES) {
		take_sample(s, rec, event);
		return;
	}
	start = clock_monotonic_ns();
	take_sample(s, rec, event);
	s->stats.unwind_ns += (clock_monotonic_ns() - start) * TIMED_SAMPLES;
}
