/* What a session has counted becomes a profile: frames get their names, trees become one. */
#include "app/session_priv.h"

#include "app/missing.h"
#include "app/naming.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/intern.h"
#include "output/stacks.h"
#include "runtimes/jit_cfi.h"
#include "runtimes/r2r_files.h"
#include "symbols/addrspace.h"
#include "symbols/elf_file.h"
#include "symbols/file.h"
#include "symbols/symbols.h"
#include "target/containers.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

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

/* A text and its copy in the profile. */
struct copied {
	const char *from, *copy;
};

enum { COPIED_BITS = 9 };

struct build {
	struct session *s;
	struct profile *profile;
	struct addrspace *space;    /* of the stacks being merged; NULL for ended ones */
	struct comm_tab comms;
	VEC(uint32_t) index;        /* frame id -> index in profile->frames; 0 = not yet */
	struct inlined_tab inlined;
	VEC(uint32_t) around;       /* by index in profile->frames: what it is inlined into; 0 = nothing */
	VEC(const struct file *) files; /* that the frames of the profile lie in */
	VEC(uint32_t) places;       /* by place (target/containers.h): index in profile->places; UINT32_MAX = not yet */
	VEC(uint32_t) containers;   /* indexes in profile->frames of different names */
	struct copied copied[1 << COPIED_BITS]; /* the last of those that share a place here */
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
		return session_space_frame(b->s, b->space, id);
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

/* The same for texts that stay where they are while the profile is built, as many frames share them. */
static const char *copy_lasting(struct build *b, const char *text)
{
	struct copied *c = &b->copied[hash_u64((uintptr_t)text) >> (64 - COPIED_BITS)];

	if (c->from != text)
		*c = (struct copied){ text, copy_text(b, text) };
	return c->copy;
}

/* A frame's texts into the profile. */
static void copy_texts(struct build *b, uint32_t id, struct profile_frame *frame)
{
	enum frame_where where = unwinder_frame(b->s->unwinder, id).where;
	bool lasting = where == FRAME_IN_FILE || where == FRAME_IN_KERNEL;
	const char *(*copy)(struct build *, const char *) = lasting ? copy_lasting : copy_text;

	/* naming.c has these two from the session's strings. */
	if (!lasting || b->profile->strings != b->s->strings) {
		frame->name = copy(b, frame->name);
		frame->build_id = copy(b, frame->build_id);
	}
	frame->module = copy(b, frame->module);
	frame->path = copy(b, frame->path);
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
	copy_texts(b, id, &frame);
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

/* What has a name and whose code it is are known only now: every occurrence counts, as in jit_frames. */
static int count_managed(struct profile *p)
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
		profile_count_runtime(&p->stats, frame, total[i]);
	}
	return 0;
}

static void fill_counts(struct session *s, struct profile_stats *stats)
{
	static const uint64_t none[DOOR_NUM_REFUSALS];
	const uint64_t *of_mappings = files_refused(s->files);
	/* After the fact many places are tried, and only what came of it counts. */
	const uint64_t *by_path = s->opts.door && !s->opts.offline ? door_refused(s->opts.door) : none;
	uint64_t aside;
	size_t num = 0;

	for (int i = 0; i < REASON_NUM; i++) {
		if (!s->broken_by[i])
			continue;
		stats->broken_by[num].name = unwind_reason_name(i);
		stats->broken_by[num++].count = s->broken_by[i];
	}
	num = 0;
	for (int i = DOOR_OK + 1; i < DOOR_NUM_REFUSALS; i++) {
		uint64_t count = of_mappings[i] + by_path[i];

		if (!count)
			continue;
		stats->refused_by[num].name = door_refusal_name(i);
		stats->refused_by[num++].count = count;
	}
	if (session_memory_blocked(s))
		stats->refused_by[num++] = (struct profile_count){ "blocked", session_memory_blocked(s) };
	aside = files_aside(s->files) + jit_cfi_aside(s->jit_cfi) + r2r_files_counts(s->r2r_files).aside;
	if (aside)
		stats->refused_by[num++] = (struct profile_count){ "parser", aside };
}

/* The index of a container's name in the profile, which has each name once; UINT32_MAX = not known. */
static uint32_t profile_place(struct build *b, uint32_t place)
{
	struct profile *p = b->profile;
	const char *name;

	if (!place || !b->s->opts.containers)
		return UINT32_MAX;
	while (b->places.len <= place) {
		if (!vec_push(&b->places, UINT32_MAX))
			goto failed;
	}
	if (b->places.data[place] != UINT32_MAX)
		return b->places.data[place];
	name = places_name(b->s->opts.containers, place, false, p->strings);
	if (!name || !vec_push(&p->places, name))
		goto failed;
	return b->places.data[place] = (uint32_t)p->places.len - 1;
failed:
	b->failed = true;
	return UINT32_MAX;
}

static int by_time(const void *a, const void *b)
{
	const struct profile_sample *x = a, *y = b;

	return x->time_ns < y->time_ns ? -1 : x->time_ns > y->time_ns;
}

/* Samples that waited for what a runtime knows were taken after younger ones. */
static void sort_samples(struct profile *p)
{
	for (size_t i = 1; i < p->samples.len; i++) {
		if (p->samples.data[i].time_ns < p->samples.data[i - 1].time_ns) {
			qsort(p->samples.data, p->samples.len, sizeof(p->samples.data[0]), by_time);
			return;
		}
	}
}

/*
 * The samples that were kept, at their places in the profile's stacks: `ended` says what nodes of session.ended became
 * (NULL: they are what they were), live[owner] what those of an owner's stacks became.
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
		uint32_t node = owner->ended ? owner->became[kept->node] : live[kept->owner][kept->node];

		p->samples.data[p->samples.len++] = (struct profile_sample){
			.time_ns = kept->time_ns,
			.period = kept->period,
			.node = owner->ended && ended ? ended[node] : node,
			.pid = owner->pid,
			.tid = kept->tid,
			.cpu = kept->cpu == MAX_CPU ? UINT32_MAX : kept->cpu,
			.comm = profile_comm(b, kept->comm),
			.process = profile_comm(b, owner->comm),
			.event = kept->event == MAX_EVENT ? UINT32_MAX : kept->event,
			.place = profile_place(b, owner->place),
			.class = s->ends.data[i] & 7,
			.no_method_start = kept->no_method_start,
			.by_chain = kept->by_chain,
			.reason = s->ends.data[i] >> 3 ? unwind_reason_name(s->ends.data[i] >> 3) : NULL,
		};
	}
	sort_samples(p);
	return !b->failed;
}

static uint32_t *merge_stacks(struct build *b, const struct stacks *from)
{
	uint32_t *became = calloc(stacks_num_nodes(from) + 1, sizeof(*became));
	const struct stacks_expansion expansion = { build_frame, b->s->opts.inlined ? around_frame : NULL, b };

	if (!became || stacks_merge_expanded(b->profile->stacks, from, &expansion, became))
		return became;
	free(became);
	return NULL;
}

/* A frame of its own for each id: names of containers may be those of others, and inlined functions make several. */
static bool is_one_to_one(const struct session *s)
{
	return !s->opts.inlined && s->opts.by != BY_CONTAINER && s->opts.by != BY_POD;
}

/* The ended stacks into the profile; *ret_became, to be freed, as place_samples wants it. */
static bool build_ended(struct build *b, bool last, uint32_t **ret_became)
{
	struct session *s = b->s;
	struct stacks *empty = b->profile->stacks;

	*ret_became = NULL;
	if (!last || !is_one_to_one(s)) {
		*ret_became = merge_stacks(b, s->ended);
		return *ret_became;
	}
	b->profile->stacks = s->ended;
	s->ended = empty;
	return stacks_relabel(b->profile->stacks, build_frame, b);
}

static bool build_stacks(struct build *b, bool last)
{
	struct session *s = b->s;
	_cleanup_free_ uint32_t *ended = NULL;
	uint32_t **became = calloc(s->owners.len + 1, sizeof(*became));
	bool ok = became && build_ended(b, last, &ended);

	for (struct live *live = s->live; ok && live; live = live->next) {
		uint32_t *nodes;

		session_settle_names(live);
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

static uint64_t num_refused(const struct profile *p, const char *name)
{
	for (size_t i = 0; i < sizeof(p->stats.refused_by) / sizeof(p->stats.refused_by[0]); i++) {
		if (p->stats.refused_by[i].name && !strcmp(p->stats.refused_by[i].name, name))
			return p->stats.refused_by[i].count;
	}
	return 0;
}

static bool add_note(struct profile *p, const char *note)
{
	for (const char **slot = p->stats.notes; slot < p->stats.notes + 3; slot++) {
		if (*slot)
			continue;
		*slot = intern_str(p->strings, note);
		return *slot;
	}
	return true;
}

static bool note_elsewhere(struct build *b)
{
	char note[200];

	if (!b->s->num_elsewhere)
		return true;
	snprintf(note, sizeof(note),
		 "%" PRIu64 " sample%s of processes outside of this pid namespace: run on the host, or with the host's pids (hostPID)",
		 b->s->num_elsewhere, b->s->num_elsewhere == 1 ? "" : "s");
	return add_note(b->profile, note);
}

/* Refused for want of a capability: which. */
static bool note_denied(struct build *b)
{
	struct profile *p = b->profile;
	uint64_t files = num_refused(p, door_refusal_name(DOOR_DENIED));
	const char *missing = b->s->opts.door ? door_missing_rights(b->s->opts.door) : "";
	char note[200];

	if (b->s->num_denied)
		snprintf(note, sizeof(note),
			 "%" PRIu64 " process%s may not be looked into, so nothing in them has a name: run as root or with "
			 "CAP_SYS_PTRACE",
			 b->s->num_denied, b->s->num_denied == 1 ? "" : "es");
	else if (files && *missing && !b->s->opts.offline)
		snprintf(note, sizeof(note),
			 "%" PRIu64 " file%s of other programs may not be opened, so nothing in them has a name: run as root "
			 "or with %s", files, files == 1 ? "" : "s", missing);
	else
		return true;
	return add_note(p, note);
}

/* Each file with a build-id that a frame lies in, open. */
static bool keep_files(struct build *b)
{
	struct profile *p = b->profile;

	for (size_t i = 1; i < p->frames.len && i < b->files.len; i++) {
		const struct profile_frame *frame = &p->frames.data[i];
		const struct file *file = b->files.data[i];
		struct profile_file kept = { .path = frame->path, .build_id = frame->build_id, .fd = -1, .debug_fd = -1 };
		bool known = false;

		if (!file || !file->elf || !frame->path || !frame->build_id)
			continue;
		for (size_t k = 0; k < p->files.len && !known; k++)
			known = !strcmp(p->files.data[k].build_id, frame->build_id);
		if (known)
			continue;
		kept.fd = elf_file_dup_fd(file->elf, false);
		kept.debug_fd = elf_file_dup_fd(file->elf, true);
		if (!vec_push(&p->files, kept)) {
			closep(&kept.fd);
			closep(&kept.debug_fd);
			return false;
		}
	}
	return true;
}

static int build_profile(struct build *b, bool last, struct err *err)
{
	struct session *s = b->s;
	struct profile *p = b->profile;

	if (!build_stacks(b, last) || b->failed || s->failed)
		return err_oom(err);
	p->stats = s->stats;
	p->stats.distinct_stacks = stacks_distinct(p->stacks);
	if (s->opts.keep_files && !keep_files(b))
		return err_oom(err);
	fill_counts(s, &p->stats);
	if (count_managed(p) < 0 || !session_tell_jit(s, p) || !note_kernel(b) || !note_denied(b) || !note_elsewhere(b))
		return err_oom(err);
	return missing_note(p, b->files.data, b->files.len, s->opts.offline, err);
}

/* Nearly every frame is in some stack: room for all in one go, rather than moved each time it doubles. */
static bool reserve_frames(struct build *b)
{
	size_t num = unwinder_num_frames(b->s->unwinder);

	return vec_reserve(&b->profile->frames, b->profile->frames.len + num) && vec_reserve(&b->files, num) &&
	       make_index(b, (uint32_t)num);
}

/* Names need not be copied then. The session goes on using them until it is freed. */
static void lend_strings(struct build *b)
{
	intern_free(b->profile->strings);
	b->profile->strings = b->s->strings;
	b->s->strings_lent = true;
}

int session_profile(struct session *s, bool last, bool (*stop)(void *data), void *data,
		    struct profile **ret, struct err *err)
{
	struct build b = { .s = s };
	uint64_t start = clock_monotonic_ns();
	int r;

	if (last) { /* what comes now takes as much */
		unwinder_forget_rules(s->unwinder);
		files_forget_cfi(s->files);
	}
	if (!naming_all(s->naming, stop, data))
		return err_oom(err);
	if (s->opts.containers)
		containers_reload(s->opts.containers); /* of pods that have started since */
	r = profile_new(&b.profile, err);
	if (r < 0)
		return r;
	if (last)
		lend_strings(&b);
	r = reserve_frames(&b) ? build_profile(&b, last, err) : err_oom(err);
	vec_deinit(&b.index);
	vec_deinit(&b.files);
	vec_deinit(&b.containers);
	vec_deinit(&b.places);
	vec_deinit(&b.around);
	inlined_tab_deinit(&b.inlined);
	comm_tab_deinit(&b.comms);
	if (r < 0) {
		if (s->strings_lent)
			b.profile->strings = NULL;
		s->strings_lent = false;
		profile_free(b.profile);
		return r;
	}
	s->stats.symbolize_ns += clock_monotonic_ns() - start;
	b.profile->stats.symbolize_ns = s->stats.symbolize_ns;
	*ret = b.profile;
	return 0;
}
