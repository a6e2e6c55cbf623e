#include "app/session.h"

#include "app/build_ids.h"
#include "app/missing.h"
#include "app/naming.h"
#include "app/places.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "collector/record.h"
#include "output/profile.h"
#include "output/stacks.h"
#include "perfmap/perfmap.h"
#include "symbols/addrspace.h"
#include "symbols/elf_file.h"
#include "symbols/file.h"
#include "symbols/recorded_kernel.h"
#include "symbols/symbols.h"
#include "target/containers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
	MAX_USER_FRAMES = 1024,
	MAX_KERNEL_FRAMES = 512, /* perf_event_max_stack is 127 unless somebody raised it */
	MAX_LABELS = 8,
	MAX_ANCESTORS = 16,      /* asked for the container of a process that is gone */
	NO_OWNER = UINT32_MAX,
	MAX_TOUCHED = 256,       /* of one process; more are no holes but stacks that we misunderstand */
	TIMED_SAMPLES = 16,      /* one sample in so many is timed: reading the clock costs 5 % of a walk */
};

/* What a process has been seen doing while it lives; folded into session.ended when its generation ends. */
struct live {
	struct addrspace *space;
	struct stacks *stacks;
	struct live *prev, *next;
	bool jit;                /* a frame in code without a file was sampled */
	uint32_t num_touched;    /* pages where copies of its stacks ended too early */
	uint64_t hole;           /* the last of them */
	uint32_t owner;          /* index in session.owners; NO_OWNER = no sample of it was kept */
	struct place_seen place;
};

/* A frame that is not a place in a file or the kernel: labels, marks, JIT code of ended processes. */
struct label_slot {
	struct profile_frame frame;
	uint32_t number; /* index in session.labels */
};

static inline uint64_t frame_hash(const struct profile_frame *f)
{
	return hash_two((uintptr_t)f->name ^ (uint64_t)f->kind << 56, (uintptr_t)f->module + f->addr);
}

HTAB(label_tab, struct label_slot, const struct profile_frame *, frame_hash(key),
     slot->frame.name == key->name && slot->frame.module == key->module && slot->frame.kind == key->kind &&
	     slot->frame.addr == key->addr,
     frame_hash(&slot->frame));

/* The first frames of a stack by who ran: formatted once per (comm, pid, tid). */
struct who {
	uint32_t comm;
	pid_t pid, tid;
};
struct who_slot {
	struct who who;
	uint32_t process, thread; /* frame ids; thread 0 = none */
};
static inline uint64_t who_hash(const struct who *w)
{
	return hash_two((uint64_t)w->comm << 32 | (uint32_t)w->pid, (uint32_t)w->tid);
}
HTAB(who_tab, struct who_slot, const struct who *, who_hash(key),
     slot->who.comm == key->comm && slot->who.pid == key->pid && slot->who.tid == key->tid,
     who_hash(&slot->who));

struct pid_slot {
	pid_t pid;
};
HTAB(pid_set, struct pid_slot, pid_t, hash_u64((uint64_t)key), slot->pid == key,
     hash_u64((uint64_t)slot->pid));

/* With opts.keep_addresses: a frame in a file, and where that was in the process. */
struct placed {
	uint32_t id; /* of the frame */
	uint64_t addr;
};
struct placed_slot {
	struct placed placed;
	uint32_t number; /* index in session.placed */
};
static inline uint64_t placed_hash(const struct placed *p)
{
	return hash_two(p->id, p->addr);
}
HTAB(placed_tab, struct placed_slot, const struct placed *, placed_hash(key),
     slot->placed.id == key->id && slot->placed.addr == key->addr, placed_hash(&slot->placed));
/* In the numbers of frames that are the session's own: an index in `placed`, or a container's place; else in `labels`. */
static const uint32_t PLACED = 1u << 31, CONTAINER = 1u << 30;

/* With opts.keep_samples. */
struct kept_sample {
	uint64_t time_ns;
	uint64_t period : 42; /* what is more is cut to that: 20 minutes of cycles */
	uint64_t cpu : 14;    /* the last = not told */
	uint64_t event : 8;
	uint32_t owner;       /* index in session.owners */
	pid_t tid;
	uint32_t node;        /* in the owner's stacks */
	uint32_t comm;        /* interned */
};
_Static_assert(sizeof(struct kept_sample) == 32, "a kept sample is 32 bytes");
static const uint64_t MAX_PERIOD = (1ull << 42) - 1;
static const uint32_t MAX_CPU = (1u << 14) - 1, MAX_EVENT = (1u << 8) - 1;

/* A generation that kept samples are of. */
struct owner {
	pid_t pid;
	bool ended;
	uint32_t *became; /* once it ended: by node, the node in session.ended; owned */
};

struct file_id {
	const char *path; /* interned */
	uint8_t len, id[20];
};

struct file_slot {
	uint32_t id;
};
HTAB(file_set, struct file_slot, uint32_t, hash_u64(key), slot->id == key, hash_u64(slot->id));

struct session {
	struct session_opts opts;
	uint64_t regs_mask;          /* of samples now */
	struct build_ids *told;      /* with opts.offline, as is the next */
	struct recorded_kernel *kernel;
	struct intern *strings;
	struct files *files;
	struct addrspaces *spaces;
	struct symbols *symbols;
	struct unwinder *unwinder;
	struct stacks *ended;        /* stacks of ended generations */
	struct live *live;           /* list of the others */
	struct label_tab label_tab;
	VEC(struct profile_frame) labels; /* by number */
	struct who_tab who_tab;
	struct naming *naming;       /* of frames in files and the kernel */
	struct pid_set wanted;       /* with opts.pids */
	struct places_ended places_ended; /* with opts.containers */
	struct placed_tab placed_tab;
	VEC(struct placed) placed;
	VEC(struct kept_sample) samples;
	VEC(struct owner) owners;
	VEC(struct file_id) gone;    /* files that left the table, with opts.keep_build_ids */
	uint32_t mark_truncated, mark_altstack, mark_broken; /* frame ids */
	uint32_t frames[MAX_USER_FRAMES + MAX_KERNEL_FRAMES + MAX_LABELS];
	struct profile_stats stats;
	uint64_t broken_by[REASON_NUM];
	uint64_t num_denied;         /* processes that were sampled and may not be looked into */
	bool failed;                 /* out of memory: the profile is not whole */
	bool closing;                /* session_free: nobody will ask for a profile any more */
};

/* Labels */

static uint32_t label_frame(struct session *s, const struct profile_frame *frame)
{
	struct label_slot *slot;
	bool added;

	slot = label_tab_add(&s->label_tab, frame, &added);
	if (!slot)
		return FRAME_ID_NONE;
	if (added) {
		slot->frame = *frame;
		slot->number = (uint32_t)s->labels.len;
		if (!vec_push(&s->labels, *frame)) {
			label_tab_remove(&s->label_tab, frame);
			return FRAME_ID_NONE;
		}
	}
	return unwinder_other_frame(s->unwinder, slot->number);
}

static uint32_t text_frame(struct session *s, const char *text, enum frame_kind kind)
{
	struct profile_frame frame = { .name = intern_str(s->strings, text), .kind = kind };

	return frame.name ? label_frame(s, &frame) : FRAME_ID_NONE;
}

static const struct who_slot *who_labels(struct session *s, uint32_t comm, pid_t pid, pid_t tid)
{
	struct who key = { .comm = comm, .pid = s->opts.by == BY_PID ? pid : 0,
			   .tid = s->opts.threads ? tid : 0 };
	struct who_slot *slot;
	char text[96];
	bool added;

	slot = who_tab_add(&s->who_tab, &key, &added);
	if (!slot || !added)
		return slot;
	slot->who = key;
	if (key.pid)
		snprintf(text, sizeof(text), "%s-%d", intern_get(s->strings, comm), pid);
	else
		snprintf(text, sizeof(text), "%s", intern_get(s->strings, comm));
	slot->process = text_frame(s, text, FRAME_LABEL);
	if (key.tid) {
		snprintf(text, sizeof(text), "thread %d", tid);
		slot->thread = text_frame(s, text, FRAME_LABEL);
	}
	return slot;
}

static uint32_t placed_frame(struct session *s, uint32_t id, uint64_t addr)
{
	struct placed placed = { .id = id, .addr = addr };
	struct placed_slot *slot;
	bool added;

	slot = placed_tab_add(&s->placed_tab, &placed, &added);
	if (!slot)
		return FRAME_ID_NONE;
	if (added) {
		slot->placed = placed;
		slot->number = (uint32_t)s->placed.len;
		if (!vec_push(&s->placed, placed)) {
			placed_tab_remove(&s->placed_tab, &placed);
			return FRAME_ID_NONE;
		}
	}
	return unwinder_other_frame(s->unwinder, slot->number | PLACED);
}

/* Where a place in a file is in the process; 0 = nowhere (any more). */
static uint64_t addr_in(const struct addrspace *space, const struct unwind_frame *place)
{
	for (size_t i = 0; i < space->maps.len; i++) {
		const struct mapping *m = &space->maps.data[i];

		if (m->file && m->file->id == place->owner && place->place >= m->pgoff &&
		    place->place - m->pgoff < m->end - m->start)
			return m->start + (place->place - m->pgoff);
	}
	return 0;
}

static void place_frames(struct session *s, const struct addrspace *space, uint32_t *ids, size_t num)
{
	for (size_t i = 0; i < num; i++) {
		struct unwind_frame place = unwinder_frame(s->unwinder, ids[i]);
		uint32_t id;

		if (place.where != FRAME_IN_FILE)
			continue;
		id = placed_frame(s, ids[i], addr_in(space, &place));
		if (id != FRAME_ID_NONE)
			ids[i] = id;
		else
			s->failed = true;
	}
}

/* A frame that lives with its process: in JIT code, or in no mapping at all. */
static struct profile_frame space_frame(struct session *s, struct addrspace *space,
					const struct unwind_frame *place)
{
	struct profile_frame frame = { .kind = FRAME_UNKNOWN };
	struct symbol symbol;

	if (s->opts.keep_addresses)
		frame.place = frame.addr = place->place;
	if (place->where == FRAME_NOWHERE)
		return frame;
	frame.kind = FRAME_JIT;
	frame.module = intern_str(s->strings, "[jit]");
	if (!symbols_jit(s->symbols, space, place->place, &symbol))
		return frame;
	frame.name = symbol.name;
	if (s->opts.keep_addresses)
		frame.offset = symbol.offset;
	return frame;
}

/* Ends of generations and files */

struct end_ctx {
	struct session *s;
	struct addrspace *space;
};

/* Frames that live with the process become labels, which live as long as the run. */
static uint32_t end_frame(void *data, uint32_t id)
{
	struct end_ctx *ctx = data;
	struct unwind_frame place = unwinder_frame(ctx->s->unwinder, id);
	struct profile_frame frame;

	if (place.where != FRAME_IN_JIT && place.where != FRAME_NOWHERE)
		return id;
	frame = space_frame(ctx->s, ctx->space, &place);
	id = label_frame(ctx->s, &frame);
	ctx->s->failed |= id == FRAME_ID_NONE;
	return id;
}

static void live_free(struct session *s, struct live *live)
{
	if (live->prev)
		live->prev->next = live->next;
	else
		s->live = live->next;
	if (live->next)
		live->next->prev = live->prev;
	live->space->user = NULL;
	stacks_free(live->stacks);
	free(live);
}

/* Its stacks move to those of the ended; samples kept of it are told to where. */
static void end_live(struct session *s, struct live *live)
{
	struct end_ctx ctx = { .s = s, .space = live->space };
	uint32_t *became = calloc(stacks_num_nodes(live->stacks) + 1, sizeof(*became));

	if (!became || !stacks_merge_nodes(s->ended, live->stacks, end_frame, &ctx, became))
		s->failed = true;
	if (live->owner == NO_OWNER || !became) {
		free(became);
		return;
	}
	s->owners.data[live->owner].ended = true;
	s->owners.data[live->owner].became = became;
}

static void space_gone(void *data, struct addrspace *space)
{
	struct session *s = data;
	struct live *live = space->user;

	if (s->opts.containers && space->pid > 0) {
		struct place_ended ended = { .pid = space->pid, .ppid = space->ppid };

		if (live)
			ended.seen = live->place;
		places_ended_add(&s->places_ended, &ended);
	}
	if (live) {
		if (!s->closing)
			end_live(s, live);
		live_free(s, live);
	}
	symbols_space_gone(s->symbols, space);
	unwinder_space_gone(s->unwinder, space);
}

static bool file_id_of(const struct file *file, struct file_id *ret)
{
	const uint8_t *id;
	size_t len;

	if (!file || file->kind != FILE_ELF)
		return false;
	len = elf_file_build_id(file->elf, &id);
	if (!len || len > sizeof(ret->id))
		return false;
	ret->path = file->path;
	ret->len = (uint8_t)len;
	memcpy(ret->id, id, len);
	return true;
}

static void keep_build_id(struct session *s, const struct file *file)
{
	struct file_id id;

	if (s->opts.keep_build_ids && file_id_of(file, &id) && !vec_push(&s->gone, id))
		s->failed = true;
}

static void file_evicted(void *data, struct file *file)
{
	struct session *s = data;
	uint64_t start;

	if (s->closing)
		return;
	keep_build_id(s, file);
	start = clock_monotonic_ns();
	if (!naming_file(s->naming, file->id))
		s->failed = true;
	unwinder_file_gone(s->unwinder, file->id);
	s->stats.symbolize_ns += clock_monotonic_ns() - start;
}

static struct live *live_get(struct session *s, struct addrspace *space)
{
	struct live *live = space->user;

	if (live)
		return live;
	live = calloc(1, sizeof(*live));
	if (!live)
		return NULL;
	live->stacks = stacks_new();
	if (!live->stacks) {
		free(live);
		return NULL;
	}
	s->num_denied += space->denied;
	live->space = space;
	live->owner = NO_OWNER;
	live->next = s->live;
	if (s->live)
		s->live->prev = live;
	s->live = live;
	space->user = live;
	return live;
}

/* Samples */

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
	struct live *live = live_get(s, space);

	if (live && !places_look(s->opts.containers, space->pid, now_ns, &live->place))
		inherit_place(s, space, &live->place);
	return live ? &live->place : NULL;
}

static bool is_wanted(struct session *s, struct addrspace *space, const struct record *rec)
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

bool session_wants(struct session *s, const struct record *sample)
{
	struct addrspace *space = addrspaces_get(s->spaces, sample->pid);

	return space && is_wanted(s, space, sample);
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
		return record_user_chain(sample, &chain) == 0;
	return sample->regs_abi == 0 || sample->stack_bytes == 0 || space->maps.len == 0;
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

	if (s->opts.offline || !s->opts.door || sample->stack_bytes == sample->stack_size)
		return false;
	arch_regs_from_perf(arch, s->regs_mask, sample->regs, num_regs, &regs);
	end = regs.v[arch->sp] + sample->stack_bytes;
	if (live->num_touched < MAX_TOUCHED && live->hole != end) {
		live->num_touched++;
		if (door_touch(s->opts.door, live->space->pid, end) > 0)
			live->hole = end;
	}
	return live->hole == end;
}

static size_t add_user_frames(struct session *s, const struct record_sample *sample,
			      struct live *live, size_t num)
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
	struct unwind_result result;

	in.num_chain = record_user_chain(sample, &in.chain);
	unwinder_walk(s->unwinder, &in, s->frames + num, &result);
	if (s->opts.keep_addresses)
		place_frames(s, live->space, s->frames + num, result.num_frames);
	num += result.num_frames;
	s->stats.user_stacks++;
	s->stats.frames += result.num_frames;
	s->stats.jit_frames += result.num_jit;
	s->stats.unknown_frames += result.num_unknown;
	s->stats.spliced += result.spliced;
	if (result.num_jit && !live->jit) {
		live->jit = true;
		symbols_jit_first_seen(s->symbols, live->space);
	}
	if (result.class == UNWIND_BROKEN && result.reason == REASON_OUTSIDE && ended_in_hole(s, live, sample))
		result.class = UNWIND_TRUNCATED;
	switch (result.class) {
	case UNWIND_COMPLETE:
		s->stats.complete++;
		break;
	case UNWIND_TRUNCATED:
		s->stats.truncated++;
		s->frames[num++] = s->mark_truncated;
		break;
	case UNWIND_BROKEN:
	case UNWIND_NUM_CLASSES:
		s->stats.broken++;
		s->broken_by[result.reason]++;
		s->frames[num++] = result.reason == REASON_ALTSTACK ? s->mark_altstack : s->mark_broken;
		break;
	}
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
		.tid = rec->tid,
		.node = node,
		.comm = comm,
	};

	if (live->owner == NO_OWNER) {
		if (!vec_push(&s->owners, ((struct owner){ .pid = rec->pid }))) {
			s->failed = true;
			return;
		}
		live->owner = (uint32_t)(s->owners.len - 1);
	}
	sample.owner = live->owner;
	if (!vec_push(&s->samples, sample))
		s->failed = true;
}

static void take_sample(struct session *s, const struct record *rec, size_t event)
{
	const struct record_sample *sample = &rec->sample;
	bool idle = rec->pid == 0 && rec->tid == 0;
	const struct who_slot *who;
	struct addrspace *space;
	struct live *live;
	uint32_t comm, node;
	size_t num = 0;

	space = addrspaces_get(s->spaces, rec->pid);
	if (space && !is_wanted(s, space, rec))
		return;
	if (!space || !(live = live_get(s, space))) {
		s->failed = true;
		return;
	}
	comm = addrspaces_comm(s->spaces, rec->pid, rec->tid);
	if (s->opts.wanted && !s->opts.wanted(s->opts.data, rec, intern_get(s->strings, comm)))
		return;
	s->stats.samples++;
	if (idle) {
		s->stats.idle++;
		if (!s->opts.include_idle)
			return;
	}
	if (!s->opts.user_only)
		num = add_kernel_frames(s, sample, num);
	if (!idle) {
		if (s->opts.kernel_only || has_no_user_side(s, sample, space))
			s->stats.kernel_only++;
		else
			num = add_user_frames(s, sample, live, num);
	}
	who = who_labels(s, comm, rec->pid, rec->tid);
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
	else if (s->opts.keep_samples)
		keep_sample(s, live, rec, comm, node, event);
}

static void take_sample_timed(struct session *s, const struct record *rec, size_t event)
{
	uint64_t start;

	if (s->stats.samples % TIMED_SAMPLES) {
		take_sample(s, rec, event);
		return;
	}
	start = clock_monotonic_ns();
	take_sample(s, rec, event);
	s->stats.unwind_ns += (clock_monotonic_ns() - start) * TIMED_SAMPLES;
}

static void take_kernel_mmap(struct session *s, const struct mmap_record *m)
{
	if (!recorded_kernel_mmap(s->kernel, m))
		s->failed = true;
	files_set_own_kernel(s->files, recorded_kernel_is_ours(s->kernel));
	if (recorded_kernel_lay_here(s->kernel))
		offline_lay_here(s->opts.offline);
}

static void take_mmap(struct session *s, const struct record *rec)
{
	struct mmap_record m = {
		.pid = rec->pid,
		.tid = rec->tid,
		.start = rec->mmap.start,
		.len = rec->mmap.len,
		.pgoff = rec->mmap.pgoff,
		.maj = rec->mmap.maj,
		.min = rec->mmap.min,
		.ino = rec->mmap.ino,
		.ino_generation = rec->mmap.ino_generation,
		.executable = rec->mmap.executable,
		.path = rec->mmap.path,
		.path_len = rec->mmap.path_len,
		.build_id = rec->mmap.build_id,
		.build_id_len = rec->mmap.build_id_len,
	};

	if (s->opts.offline && !m.build_id_len) {
		m.build_id_len = build_ids_find(s->told, m.path, m.path_len, &m.build_id);
		m.build_id_of_path = m.build_id_len != 0;
	}
	if (rec->pid > 0)
		addrspaces_mmap(s->spaces, &m, rec->time_ns);
	else if (rec->pid == -1 && s->opts.offline)
		take_kernel_mmap(s, &m);
}

static void take_fork(struct session *s, const struct record *rec)
{
	if (s->opts.num_pids && !s->opts.tids && rec->pid != rec->task.ppid &&
	    pid_set_find(&s->wanted, rec->task.ppid)) {
		struct pid_slot *slot = pid_set_add(&s->wanted, rec->pid, NULL);

		if (slot)
			slot->pid = rec->pid;
		else
			s->failed = true;
	}
	addrspaces_fork(s->spaces, rec->pid, rec->task.ppid, rec->tid, rec->task.ptid, rec->time_ns);
}

static void take_exit(struct session *s, const struct record *rec)
{
	addrspaces_exit(s->spaces, rec->pid, rec->tid, rec->time_ns);
	if (s->opts.num_pids && s->opts.tids)
		pid_set_remove(&s->wanted, rec->tid);
	else if (s->opts.num_pids && !addrspaces_peek(s->spaces, rec->pid))
		pid_set_remove(&s->wanted, rec->pid);
}

void session_record(void *session, const struct record *rec)
{
	session_record_of(session, rec, 0);
}

void session_record_of(struct session *s, const struct record *rec, size_t event)
{
	switch (rec->type) {
	case RECORD_SAMPLE:
		take_sample_timed(s, rec, event);
		break;
	case RECORD_MMAP:
		take_mmap(s, rec);
		break;
	case RECORD_COMM:
		addrspaces_comm_changed(s->spaces, rec->pid, rec->tid, rec->comm.comm, rec->comm.len,
					rec->comm.exec, rec->time_ns);
		break;
	case RECORD_FORK:
		take_fork(s, rec);
		break;
	case RECORD_EXIT:
		take_exit(s, rec);
		break;
	case RECORD_LOST:
	case RECORD_THROTTLE:
	case RECORD_UNTHROTTLE:
	case RECORD_SWITCH:
	case RECORD_OTHER:
		break; /* counted by the collector */
	}
}

/* The profile */

struct comm_slot {
	uint32_t comm, index;
};
HTAB(comm_tab, struct comm_slot, uint32_t, hash_u64(key), slot->comm == key, hash_u64(slot->comm));

/* A function inlined into what the frame `around` shows. */
struct inlined_key {
	const char *name; /* of the profile's strings */
	uint32_t around;  /* index in profile->frames */
};
struct inlined_slot {
	struct inlined_key key;
	uint32_t frame;
};
static inline uint64_t inlined_hash(const struct inlined_key *key)
{
	return hash_two((uintptr_t)key->name, key->around);
}
HTAB(inlined_tab, struct inlined_slot, const struct inlined_key *, inlined_hash(key),
     slot->key.name == key->name && slot->key.around == key->around, inlined_hash(&slot->key));

struct build {
	struct session *s;
	struct profile *profile;
	struct addrspace *space;    /* of the stacks being merged; NULL for ended ones */
	struct comm_tab comms;
	VEC(uint32_t) index;        /* frame id -> index in profile->frames; 0 = not yet */
	struct inlined_tab inlined;
	VEC(uint32_t) around;       /* by index in profile->frames: what it is inlined into; 0 = nothing */
	VEC(const struct file *) files; /* that the frames of the profile lie in */
	VEC(uint32_t) containers;   /* indexes in profile->frames of different names */
	bool failed;
};

/* Naming was stopped before this one's turn. */
static struct profile_frame unnamed_frame(const struct session *s, const struct unwind_frame *place)
{
	const struct file *file;

	if (place->where == FRAME_IN_KERNEL)
		return (struct profile_frame){ .module = "[kernel]", .place = place->place,
					       .kind = FRAME_KERNEL };
	file = files_by_id(s->files, place->owner);
	return (struct profile_frame){ .module = file ? file->base : NULL, .place = place->place,
				       .kind = FRAME_NATIVE };
}

static struct profile_frame frame_of(struct build *b, uint32_t id);

/* One of the session's own: a label, a container, or a frame in a file with its address. */
static struct profile_frame own_frame(struct build *b, uint32_t number)
{
	const struct session_opts *opts = &b->s->opts;
	const struct placed *placed;
	struct profile_frame frame = { .kind = FRAME_LABEL };

	if (number & PLACED) {
		placed = &b->s->placed.data[number & ~PLACED];
		frame = frame_of(b, placed->id);
		frame.addr = placed->addr;
	} else if (number & CONTAINER) {
		frame.name = places_name(opts->containers, number & ~CONTAINER, opts->by == BY_POD,
					 b->s->strings);
		b->failed |= !frame.name;
	} else {
		frame = b->s->labels.data[number];
	}
	return frame;
}

static struct profile_frame frame_of(struct build *b, uint32_t id)
{
	struct unwind_frame place = unwinder_frame(b->s->unwinder, id);
	const struct profile_frame *named;

	switch (place.where) {
	case FRAME_OTHER:
		return own_frame(b, place.owner);
	case FRAME_IN_JIT:
	case FRAME_NOWHERE:
		return space_frame(b->s, b->space, &place);
	case FRAME_IN_FILE:
	case FRAME_IN_KERNEL:
		break;
	}
	named = naming_get(b->s->naming, id);
	return named ? *named : unnamed_frame(b->s, &place);
}

static const char *copy_text(struct build *b, const char *text)
{
	const char *copy = text ? intern_str(b->profile->strings, text) : NULL;

	b->failed |= text && !copy;
	return copy;
}

static bool note_file_of(struct build *b, const struct file *file)
{
	while (b->files.len + 1 < b->profile->frames.len) {
		if (!vec_push(&b->files, NULL))
			return false;
	}
	return vec_push(&b->files, file);
}

/* Which file the youngest frame of the profile lies in. */
static bool note_file(struct build *b, uint32_t id)
{
	struct unwind_frame place = unwinder_frame(b->s->unwinder, id);
	const struct file *file = NULL;

	if (place.where == FRAME_OTHER && place.owner & PLACED)
		place = unwinder_frame(b->s->unwinder, b->s->placed.data[place.owner & ~PLACED].id);
	if (place.where == FRAME_IN_FILE)
		file = files_by_id(b->s->files, place.owner);
	return note_file_of(b, file);
}

/* A container that was started anew under its old name is one with the old; 0 = the frame is a new one. */
static uint32_t known_container(struct build *b, uint32_t id, const char *name)
{
	struct unwind_frame place = unwinder_frame(b->s->unwinder, id);

	if (place.where != FRAME_OTHER || place.owner & PLACED || !(place.owner & CONTAINER))
		return 0;
	for (size_t i = 0; i < b->containers.len; i++) {
		if (b->profile->frames.data[b->containers.data[i]].name == name)
			return b->containers.data[i];
	}
	if (!vec_push(&b->containers, (uint32_t)b->profile->frames.len)) /* what it is about to be */
		b->failed = true;
	return 0;
}

/* A frame of its own for a function inlined into another frame; 0 when out of memory. */
static uint32_t inlined_frame(struct build *b, const char *name, uint32_t around)
{
	struct inlined_key key = { copy_text(b, name), around };
	struct profile_frame frame = b->profile->frames.data[around];
	size_t index = b->profile->frames.len;
	struct inlined_slot *slot;
	bool added;

	slot = inlined_tab_add(&b->inlined, &key, &added);
	if (slot && !added)
		return slot->frame;
	frame.name = key.name;
	frame.kind = FRAME_INLINED;
	if (!slot || !vec_reserve(&b->around, index + 1) || !vec_push(&b->profile->frames, frame) ||
	    !note_file_of(b, around < b->files.len ? b->files.data[around] : NULL)) {
		b->failed = true;
		return 0;
	}
	*slot = (struct inlined_slot){ key, (uint32_t)index };
	while (b->around.len <= index)
		b->around.data[b->around.len++] = 0;
	b->around.data[index] = around;
	return (uint32_t)index;
}

/* The innermost function inlined at the frame's place, or the frame itself. */
static uint32_t innermost(struct build *b, uint32_t id, uint32_t frame)
{
	struct unwind_frame place = unwinder_frame(b->s->unwinder, id);
	const char *const *names;
	size_t num;

	if (place.where == FRAME_OTHER && place.owner & PLACED)
		id = b->s->placed.data[place.owner & ~PLACED].id;
	num = naming_inlined(b->s->naming, id, &names);
	for (; num && frame; num--)
		frame = inlined_frame(b, names[num - 1], frame);
	return frame;
}

static bool make_index(struct build *b, uint32_t id)
{
	size_t old = b->index.len, len = (size_t)id + 256;

	if (id < old)
		return true;
	if (!vec_reserve(&b->index, len)) /* naming made a new label */
		return false;
	memset(b->index.data + old, 0, (len - old) * sizeof(uint32_t));
	b->index.len = len;
	return true;
}

static uint32_t build_frame(void *data, uint32_t id)
{
	struct build *b = data;
	struct profile_frame frame;
	uint32_t twin;

	if (id < b->index.len && b->index.data[id])
		return b->index.data[id];
	frame = frame_of(b, id);
	frame.name = copy_text(b, frame.name);
	frame.module = copy_text(b, frame.module);
	frame.path = copy_text(b, frame.path);
	twin = known_container(b, id, frame.name);
	if (twin)
		return twin;
	if (!vec_push(&b->profile->frames, frame) || !note_file(b, id) || !make_index(b, id)) {
		b->failed = true;
		return 0;
	}
	b->index.data[id] = (uint32_t)(b->profile->frames.len - 1);
	if (b->s->opts.inlined)
		b->index.data[id] = innermost(b, id, b->index.data[id]);
	return b->index.data[id];
}

/* struct stacks_expansion */
static uint32_t around_frame(void *data, uint32_t frame)
{
	const struct build *b = data;

	return frame < b->around.len ? b->around.data[frame] : 0;
}

/* Index of a thread's name in the profile. */
static uint32_t profile_comm(struct build *b, uint32_t comm)
{
	struct profile *p = b->profile;
	struct comm_slot *slot;
	bool added;

	slot = comm_tab_add(&b->comms, comm, &added);
	if (!slot) {
		b->failed = true;
		return 0;
	}
	if (added) {
		slot->comm = comm;
		slot->index = (uint32_t)p->comms.len;
		if (!vec_push(&p->comms, copy_text(b, intern_get(b->s->strings, comm))))
			b->failed = true;
	}
	return slot->index;
}

/* Named JIT frames are known only now: every occurrence counts, as jit_frames does. */
static int count_jit_named(struct profile *p)
{
	size_t num = stacks_num_nodes(p->stacks);
	_cleanup_free_ uint64_t *total = calloc(num + 1, sizeof(*total));

	if (!total)
		return -1;
	p->stats.jit_named = 0;
	for (size_t i = num; i > 0; i--) { /* children come after their parents */
		const struct stacks_node *node = stacks_node(p->stacks, (uint32_t)i);
		const struct profile_frame *frame = &p->frames.data[node->frame];

		total[i] += node->self;
		total[node->parent] += total[i];
		if (frame->kind == FRAME_JIT && frame->name)
			p->stats.jit_named += total[i];
	}
	return 0;
}

static void fill_counts(struct session *s, struct profile_stats *stats)
{
	const uint64_t *refused = files_refused(s->files);
	size_t num = 0;

	for (int i = 0; i < REASON_NUM; i++) {
		if (!s->broken_by[i])
			continue;
		stats->broken_by[num].name = unwind_reason_name(i);
		stats->broken_by[num++].count = s->broken_by[i];
	}
	num = 0;
	for (int i = DOOR_OK + 1; i < DOOR_NUM_REFUSALS; i++) {
		if (!refused[i])
			continue;
		stats->refused_by[num].name = door_refusal_name(i);
		stats->refused_by[num++].count = refused[i];
	}
}

/*
 * The samples that were kept, at their places in the profile's stacks: `ended` says what nodes of session.ended became,
 * live[owner] what those of an owner's stacks became.
 */
static bool place_samples(struct build *b, const uint32_t *ended, uint32_t *const *live)
{
	struct session *s = b->s;
	struct profile *p = b->profile;

	if (!vec_reserve(&p->samples, s->samples.len))
		return false;
	for (size_t i = 0; i < s->samples.len; i++) {
		const struct kept_sample *kept = &s->samples.data[i];
		const struct owner *owner = &s->owners.data[kept->owner];

		p->samples.data[p->samples.len++] = (struct profile_sample){
			.time_ns = kept->time_ns,
			.period = kept->period,
			.node = owner->ended ? ended[owner->became[kept->node]]
					     : live[kept->owner][kept->node],
			.pid = owner->pid,
			.tid = kept->tid,
			.cpu = kept->cpu == MAX_CPU ? UINT32_MAX : kept->cpu,
			.comm = profile_comm(b, kept->comm),
			.event = kept->event,
		};
	}
	return !b->failed;
}

static uint32_t *merge_stacks(struct build *b, const struct stacks *from)
{
	uint32_t *became = calloc(stacks_num_nodes(from) + 1, sizeof(*became));
	const struct stacks_expansion expansion = { build_frame, around_frame, b };

	if (!became || stacks_merge_expanded(b->profile->stacks, from, &expansion, became))
		return became;
	free(became);
	return NULL;
}

static bool build_stacks(struct build *b)
{
	struct session *s = b->s;
	_cleanup_free_ uint32_t *ended = merge_stacks(b, s->ended);
	uint32_t **became = calloc(s->owners.len + 1, sizeof(*became));
	bool ok = ended && became;

	for (struct live *live = s->live; ok && live; live = live->next) {
		uint32_t *nodes;

		/* Frame ids of JIT code mean something only within their process. */
		b->space = live->space;
		nodes = merge_stacks(b, live->stacks);
		ok = nodes != NULL;
		if (live->owner != NO_OWNER)
			became[live->owner] = nodes;
		else
			free(nodes);
	}
	ok = ok && place_samples(b, ended, became);
	for (size_t i = 0; became && i < s->owners.len; i++)
		free(became[i]);
	free(became);
	return ok;
}

static bool note_kernel(struct build *b)
{
	struct profile *p = b->profile;
	const char *note = p->stats.kernel_frames ? symbols_kernel_note(b->s->symbols) : NULL;

	if (note)
		p->stats.notes[0] = intern_str(p->strings, note);
	return !note || p->stats.notes[0];
}

static bool note_denied(struct build *b)
{
	struct profile *p = b->profile;
	char note[160];

	if (!b->s->num_denied)
		return true;
	snprintf(note, sizeof(note),
		 "%" PRIu64 " process%s may not be looked into, so nothing in them has a name: run as root or with "
		 "CAP_SYS_PTRACE",
		 b->s->num_denied, b->s->num_denied == 1 ? "" : "es");
	for (const char **slot = p->stats.notes; slot < p->stats.notes + 2; slot++) {
		if (*slot)
			continue;
		*slot = intern_str(p->strings, note);
		return *slot;
	}
	return true;
}

static int build_profile(struct build *b, struct err *err)
{
	struct session *s = b->s;
	struct profile *p = b->profile;

	if (!build_stacks(b) || b->failed || s->failed)
		return err_oom(err);
	p->stats = s->stats;
	p->stats.distinct_stacks = stacks_distinct(p->stacks);
	fill_counts(s, &p->stats);
	if (count_jit_named(p) < 0 || !note_kernel(b) || !note_denied(b))
		return err_oom(err);
	return missing_note(p, b->files.data, b->files.len, s->opts.offline, err);
}

int session_profile(struct session *s, bool (*stop)(void *data), void *data, struct profile **ret,
		    struct err *err)
{
	struct build b = { .s = s };
	uint64_t start = clock_monotonic_ns();
	int r;

	if (!naming_all(s->naming, stop, data))
		return err_oom(err);
	if (s->opts.containers)
		containers_reload(s->opts.containers); /* of pods that have started since */
	r = profile_new(&b.profile, err);
	if (r < 0)
		return r;
	r = build_profile(&b, err);
	vec_deinit(&b.index);
	vec_deinit(&b.files);
	vec_deinit(&b.containers);
	vec_deinit(&b.around);
	inlined_tab_deinit(&b.inlined);
	comm_tab_deinit(&b.comms);
	if (r < 0) {
		profile_free(b.profile);
		return r;
	}
	s->stats.symbolize_ns += clock_monotonic_ns() - start;
	b.profile->stats.symbolize_ns = s->stats.symbolize_ns;
	*ret = b.profile;
	return 0;
}

/* Lifetime */

static int open_recorded(struct session *s, struct err *err)
{
	const struct recorded_kernel_opts kernel = {
		.door = s->opts.door,
		.offline = s->opts.offline,
		.strings = s->strings,
		.kallsyms = s->opts.kallsyms,
		.vmlinux = s->opts.vmlinux,
	};

	s->told = build_ids_new(s->strings);
	return s->told ? recorded_kernel_new(&kernel, &s->kernel, err) : err_oom(err);
}

static int open_parts(struct session *s, struct err *err)
{
	struct files_opts files = { .door = s->opts.door, .strings = s->strings,
				    .offline = s->opts.offline, .evict = file_evicted, .data = s };
	struct addrspaces_opts spaces = { .door = s->opts.offline ? NULL : s->opts.door,
					  .strings = s->strings,
					  .space_gone = space_gone, .data = s };
	struct symbols_opts symbols = { .door = s->opts.door, .strings = s->strings };
	struct unwind_opts unwind = { .arch = s->opts.arch ? s->opts.arch : arch_host(),
				      .method = s->opts.method,
				      .max_frames = MAX_USER_FRAMES };
	struct naming_opts naming;
	struct symbol_source perfmaps;
	int r;

	r = unwinder_new(&unwind, &s->unwinder, err);
	if (!r)
		r = files_new(&files, &s->files, err);
	if (!r && s->opts.offline)
		r = open_recorded(s, err);
	symbols.files = spaces.files = s->files;
	symbols.kernel = s->kernel;
	if (!r)
		r = symbols_new(&symbols, &s->symbols, err);
	if (!r) {
		naming = (struct naming_opts){ s->unwinder, s->files, s->symbols, s->strings,
					       s->opts.inlined };
		s->naming = naming_new(&naming);
		r = s->naming ? 0 : err_oom(err);
	}
	if (!r)
		r = addrspaces_new(&spaces, &s->spaces, err);
	if (!r)
		r = s->opts.offline ? perfmap_recorded_source_new(s->opts.offline, s->strings,
								  &perfmaps, err)
				    : perfmap_source_new(s->opts.door, s->strings, &perfmaps, err);
	if (!r) {
		r = symbols_add_source(s->symbols, &perfmaps, err);
		if (r < 0)
			perfmaps.free(perfmaps.data);
	}
	return r;
}

static int add_wanted(struct session *s, struct err *err)
{
	for (size_t i = 0; i < s->opts.num_pids; i++) {
		struct pid_slot *slot = pid_set_add(&s->wanted, s->opts.pids[i], NULL);

		if (!slot)
			return err_oom(err);
		slot->pid = s->opts.pids[i];
	}
	return 0;
}

int session_new(const struct session_opts *opts, struct session **ret, struct err *err)
{
	struct session *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_oom(err);
	if ((opts->by == BY_CONTAINER || opts->by == BY_POD) && !opts->containers) {
		free(s);
		return err_set(err, EINVAL, "containers are known only while they run: --by container and "
					    "--by pod are for record");
	}
	s->opts = *opts;
	s->regs_mask = opts->regs_mask;
	s->strings = intern_new();
	s->ended = stacks_new();
	r = s->strings && s->ended ? open_parts(s, err) : err_oom(err);
	if (!r)
		r = add_wanted(s, err);
	if (!r) {
		s->mark_truncated = text_frame(s, "[truncated]", FRAME_MARK);
		s->mark_altstack = text_frame(s, "[altstack]", FRAME_MARK);
		s->mark_broken = text_frame(s, "[broken]", FRAME_MARK);
		if (!s->mark_truncated || !s->mark_altstack || !s->mark_broken)
			r = err_oom(err);
	}
	if (r < 0) {
		session_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	s->closing = true;
	addrspaces_free(s->spaces); /* ends every generation, so before what that needs */
	symbols_free(s->symbols);
	files_free(s->files);
	unwinder_free(s->unwinder);
	while (s->live)
		live_free(s, s->live);
	stacks_free(s->ended);
	label_tab_deinit(&s->label_tab);
	vec_deinit(&s->labels);
	who_tab_deinit(&s->who_tab);
	naming_free(s->naming);
	build_ids_free(s->told);
	recorded_kernel_free(s->kernel);
	pid_set_deinit(&s->wanted);
	vec_deinit(&s->gone);
	placed_tab_deinit(&s->placed_tab);
	vec_deinit(&s->placed);
	vec_deinit(&s->samples);
	for (size_t i = 0; i < s->owners.len; i++)
		free(s->owners.data[i].became);
	vec_deinit(&s->owners);
	intern_free(s->strings);
	free(s);
}

static const char kernel_path[] = "[kernel.kallsyms]";

bool session_build_id(struct session *s, const char *path, const uint8_t *id, size_t len)
{
	if (!strncmp(path, kernel_path, sizeof(kernel_path) - 1)) {
		recorded_kernel_build_id(s->kernel, id, len);
		files_set_own_kernel(s->files, recorded_kernel_is_ours(s->kernel));
	}
	return build_ids_add(s->told, path, id, len);
}

void session_origin(struct session *s, const char *release, enum offline_origin origin)
{
	recorded_kernel_origin(s->kernel, release, origin);
	files_set_own_kernel(s->files, recorded_kernel_is_ours(s->kernel));
}

void session_set_regs(struct session *s, uint64_t regs_mask)
{
	s->regs_mask = regs_mask;
}

int session_scan(struct session *s, struct err *err)
{
	return addrspaces_scan(s->spaces, err);
}

int session_scan_tasks(struct session *s, const pid_t *tids, size_t num, struct err *err)
{
	return addrspaces_scan_tasks(s->spaces, tids, num, err);
}

struct session_progress session_progress(const struct session *s)
{
	return (struct session_progress){
		.samples = s->stats.samples,
		.idle = s->stats.idle,
		.user_stacks = s->stats.user_stacks,
		.complete = s->stats.complete,
	};
}

static bool first_sight(struct file_set *seen, uint32_t id)
{
	bool added;
	struct file_slot *slot = file_set_add(seen, id, &added);

	if (slot)
		slot->id = id;
	return slot && added;
}

/* Files of one path together; names are interned. */
static int compare_paths(const void *left, const void *right)
{
	const struct file_id *a = left, *b = right;

	return a->path < b->path ? -1 : a->path > b->path;
}

static bool same_build_id(const struct file_id *a, const struct file_id *b)
{
	return a->len == b->len && !memcmp(a->id, b->id, a->len);
}

bool session_each_build_id(struct session *s,
			   void (*each)(void *data, const char *path, const uint8_t *id, size_t len),
			   void *data)
{
	VEC(struct file_id) ids = { 0 };
	struct file_set seen = { 0 };
	bool ok = true;

	for (size_t i = 0; i < s->gone.len && ok; i++)
		ok = vec_push(&ids, s->gone.data[i]);
	for (uint32_t id = 1; id < unwinder_num_frames(s->unwinder) && ok; id++) {
		struct unwind_frame place = unwinder_frame(s->unwinder, id);
		struct file_id file;

		if (place.where != FRAME_IN_FILE || !first_sight(&seen, place.owner))
			continue;
		if (file_id_of(files_by_id(s->files, place.owner), &file))
			ok = vec_push(&ids, file);
	}
	if (ids.len)
		qsort(ids.data, ids.len, sizeof(ids.data[0]), compare_paths);
	for (size_t i = 0, end; i < ids.len && ok; i = end) {
		bool one = true;

		for (end = i + 1; end < ids.len && ids.data[end].path == ids.data[i].path; end++)
			one &= same_build_id(&ids.data[i], &ids.data[end]);
		if (one)
			each(data, ids.data[i].path, ids.data[i].id, ids.data[i].len);
	}
	file_set_deinit(&seen);
	vec_deinit(&ids);
	return ok;
}

void session_tick(struct session *s)
{
	files_rest(s->files);
}
