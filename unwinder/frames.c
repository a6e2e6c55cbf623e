/* Places of frames, their ids and their rules. */
#include "unwinder/unwinder_priv.h"

#include "symbols/symbols.h"

enum { TABLE_MIN_BITS = 6 };

static void table_free(struct frame_table *t)
{
	free(t->entries);
	free(t->hot);
}

static bool table_alloc(struct frame_table *t, unsigned int bits, bool hot)
{
	size_t bytes = sizeof(*t->entries) << bits;

	t->entries = aligned_alloc(64, bytes);
	if (hot)
		t->hot = aligned_alloc(64, sizeof(*t->hot) << bits);
	if (!t->entries || (hot && !t->hot)) {
		table_free(t);
		return false;
	}
	memset(t->entries, 0, bytes);
	if (hot)
		memset(t->hot, 0, sizeof(*t->hot) << bits);
	t->mask = ((size_t)1 << bits) - 1;
	t->shift = 64 - bits;
	t->len = 0;
	return true;
}

/* The free slot for a place that is not there yet; there is room. */
static struct frame_entry *table_slot(struct frame_table *t, uint32_t owner, uint64_t place)
{
	size_t i = frame_table_home(t, owner, place);

	while (t->entries[i].id)
		i = (i + 1) & t->mask;
	return &t->entries[i];
}

static bool file_is_gone(const struct frames *f, uint32_t file_id)
{
	return file_id / 64 < f->gone_files.len &&
	       (f->gone_files.data[file_id / 64] >> file_id % 64 & 1);
}

/* Entries of files that left, to be forgotten; only the table of files knows such. */
static bool is_garbage(const struct frames *f, const struct frame_table *t,
		       const struct frame_entry *e)
{
	return t == &f->files && file_is_gone(f, e->owner);
}

static size_t count_live(const struct frames *f, const struct frame_table *t)
{
	size_t live = t->len;

	if (t != &f->files || !f->gone_files.len)
		return live;
	for (size_t i = 0; i <= t->mask; i++)
		live -= t->entries[i].id && is_garbage(f, t, &t->entries[i]);
	return live;
}

/* Makes room: rebuilds the table at most three eighths full, without what is garbage. Asked for at half, it doubles. */
static bool table_rebuild(struct frames *f, struct rule_exts *exts, struct frame_table *t)
{
	struct frame_table fresh = { 0 };
	unsigned int bits = TABLE_MIN_BITS;
	size_t live = t->mask ? count_live(f, t) : 0;

	while (((size_t)1 << bits) / 8 * 3 < live + 1)
		bits++;
	if (!table_alloc(&fresh, bits, t == &f->files))
		return false;
	for (size_t i = 0; t->mask && i <= t->mask; i++) {
		const struct frame_entry *e = &t->entries[i];
		struct frame_entry *copy;

		if (!e->id)
			continue;
		if (is_garbage(f, t, e)) {
			if (e->rule.kind == RULE_EXT)
				exts_unref(exts, e->rule.ext);
			continue;
		}
		copy = table_slot(&fresh, e->owner, e->place);
		*copy = *e;
		if (t->hot)
			fresh.hot[copy - fresh.entries] = t->hot[i];
		fresh.len++;
	}
	table_free(t);
	*t = fresh;
	return true;
}

/* The next id, meaning `frame`; FRAME_ID_NONE when out of memory. */
static uint32_t new_id(struct frames *f, struct unwind_frame frame)
{
	uint32_t id;

	if (f->free_ids.len) {
		id = f->free_ids.data[--f->free_ids.len];
		f->by_id.data[id] = frame;
		return id;
	}
	id = (uint32_t)f->by_id.len;
	if (id == UINT32_MAX || !vec_push(&f->by_id, frame))
		return FRAME_ID_NONE;
	return id;
}

static struct frame_entry *table_add(struct frames *f, struct rule_exts *exts,
				     struct frame_table *t, uint32_t owner, uint64_t place,
				     struct unwind_frame frame)
{
	struct frame_entry *e;
	uint32_t id;

	if ((t->len + 1) * 2 > t->mask + (t->mask != 0) && !table_rebuild(f, exts, t))
		return NULL;
	id = new_id(f, frame);
	if (!id)
		return NULL;
	e = table_slot(t, owner, place);
	*e = (struct frame_entry){ .place = place, .owner = owner, .id = id };
	if (t->hot)
		t->hot[e - t->entries] = (struct frame_hot){ .key = frame_key(owner, place), .id = id };
	t->len++;
	return e;
}

static void table_remove(struct frame_table *t, size_t hole)
{
	for (size_t i = (hole + 1) & t->mask; t->entries[i].id; i = (i + 1) & t->mask) {
		const struct frame_entry *e = &t->entries[i];
		size_t home = frame_table_home(t, e->owner, e->place);

		/* Stays where it is when its home lies behind the hole. */
		if (((i - home) & t->mask) < ((i - hole) & t->mask))
			continue;
		t->entries[hole] = *e;
		hole = i;
	}
	t->entries[hole].id = 0;
	t->len--;
}

bool frames_init(struct frames *f)
{
	memset(f, 0, sizeof(*f));
	return vec_push(&f->by_id, ((struct unwind_frame){ .where = FRAME_OTHER }));
}

static void space_free(struct space_frames *s)
{
	table_free(&s->table);
	vec_deinit(&s->retired);
	free(s);
}

void frames_forget_files(struct frames *f)
{
	table_free(&f->files);
	f->files = (struct frame_table){ 0 };
	f->version++;
}

void frames_deinit(struct frames *f)
{
	const struct space_slot *slot;
	size_t cursor = 0;

	while ((slot = space_map_next(&f->spaces, &cursor)))
		space_free(slot->frames);
	space_map_deinit(&f->spaces);
	table_free(&f->files);
	table_free(&f->global);
	vec_deinit(&f->by_id);
	vec_deinit(&f->free_ids);
	vec_deinit(&f->gone_files);
}

struct frame_entry *frames_in_file(struct frames *f, struct rule_exts *exts, uint32_t file_id,
				   uint64_t offset)
{
	struct frame_entry *e = frame_table_find(&f->files, file_id, offset);

	if (e)
		return e;
	return table_add(f, exts, &f->files, file_id, offset,
			 (struct unwind_frame){ FRAME_IN_FILE, file_id, offset });
}

void frames_set_rule(struct frames *f, const struct arch *arch, struct frame_entry *e,
		     struct rule rule)
{
	struct frame_hot *hot = &f->files.hot[e - f->files.entries];
	int ra_off8 = rule.cfa_off8 - rule.slot[0];

	f->version += hot->kind != HOT_NOT;
	e->rule = rule;
	hot->kind = HOT_NOT;
	if (!frame_has_key(e->owner, e->place))
		return;
	if (rule.kind == RULE_END || (rule.kind == RULE_ROOT && !rule.ext))
		hot->kind = HOT_END;
	if (rule.kind != RULE_CFA || rule.flags || rule.slot[0] == SLOT_SAME ||
	    rule.slot[0] > HOT_MAX_RA_SLOT || rule.slot[1] == SLOT_UNDEFINED || ra_off8 < INT16_MIN)
		return;
	if (rule.cfa_reg == arch->sp)
		hot->kind = HOT_SP;
	else if (rule.cfa_reg == arch->fp)
		hot->kind = HOT_FP;
	hot->ra_off8 = (int16_t)ra_off8;
	hot->ra_slot = rule.slot[0] & HOT_MAX_RA_SLOT;
	hot->fp_slot = rule.slot[1];
}

struct frame_entry *frames_in_space(struct frames *f, struct space_frames *s, uint32_t owner,
				    uint64_t addr)
{
	struct frame_entry *e = frame_table_find(&s->table, owner, addr);
	enum frame_where where = owner == OWNER_JIT ? FRAME_IN_JIT : FRAME_NOWHERE;

	if (e)
		return e;
	return table_add(f, NULL, &s->table, owner, addr,
			 (struct unwind_frame){ where, s->space_id, addr });
}

uint32_t frames_global(struct frames *f, uint32_t owner, uint64_t place)
{
	const struct frame_entry *e = frame_table_find(&f->global, owner, place);
	struct unwind_frame frame = { FRAME_IN_KERNEL, 0, place };

	if (e)
		return e->id;
	if (owner == OWNER_OTHER)
		frame = (struct unwind_frame){ FRAME_OTHER, (uint32_t)place, 0 };
	e = table_add(f, NULL, &f->global, owner, place, frame);
	return e ? e->id : FRAME_ID_NONE;
}

struct space_frames *frames_space(struct frames *f, uint32_t space_id)
{
	bool added;
	struct space_slot *slot = space_map_add(&f->spaces, space_id, &added);
	struct space_frames *s;

	if (!slot)
		return NULL;
	if (!added)
		return slot->frames;
	slot->space_id = space_id;
	s = calloc(1, sizeof(*s));
	if (!s) {
		space_map_remove(&f->spaces, space_id);
		return NULL;
	}
	s->space_id = space_id;
	slot->frames = s;
	return s;
}

/* The last of them ends above addr. */
static bool in_ranges(const struct code_range *ranges, size_t num, uint64_t addr)
{
	size_t low = 0, high = num - 1;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (ranges[mid].end <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return ranges[low].start <= addr;
}

void frames_drop_code(struct frames *f, uint32_t space_id, const struct code_range *ranges, size_t num,
		      void (*each)(void *data, uint32_t id), void *data)
{
	const struct space_slot *slot = space_map_find(&f->spaces, space_id);
	struct space_frames *s = slot ? slot->frames : NULL;
	uint64_t start = ranges[0].start, end = ranges[num - 1].end;

	if (!s || !s->table.mask)
		return;
	for (size_t i = 0; i <= s->table.mask;) {
		const struct frame_entry *e = &s->table.entries[i];

		if (!e->id || e->place < start || e->place >= end || e->owner != OWNER_JIT ||
		    !in_ranges(ranges, num, e->place)) {
			i++;
			continue;
		}
		if (each)
			each(data, e->id);
		/* Stacks that were counted still mean this id: it rests until the generation
		 * ends. */
		(void)vec_push(&s->retired, e->id);
		table_remove(&s->table, i); /* another may have moved here: look again */
	}
}

void frames_space_gone(struct frames *f, uint32_t space_id)
{
	const struct space_slot *slot = space_map_find(&f->spaces, space_id);
	struct space_frames *s = slot ? slot->frames : NULL;

	if (!s)
		return;
	/* An id that cannot be noted down is merely never given out again. */
	for (size_t i = 0; i < s->retired.len; i++)
		(void)vec_push(&f->free_ids, s->retired.data[i]);
	for (size_t i = 0; s->table.mask && i <= s->table.mask; i++) {
		if (s->table.entries[i].id)
			(void)vec_push(&f->free_ids, s->table.entries[i].id);
	}
	space_free(s);
	space_map_remove(&f->spaces, space_id);
}

void frames_file_gone(struct frames *f, uint32_t file_id)
{
	/* Ids of files are never used again, so a late removal is only a matter of memory. */
	while (f->gone_files.len <= file_id / 64) {
		if (!vec_push(&f->gone_files, 0))
			return;
	}
	f->gone_files.data[file_id / 64] |= 1ull << file_id % 64;
}
