/* Places of frames, their ids and their rules. */
#include "unwinder/unwinder_priv.h"

#include "symbols/symbols.h"

enum { TABLE_MIN_BITS = 6 };

static bool table_alloc(struct frame_table *t, unsigned int bits)
{
	size_t bytes = sizeof(*t->hot) << bits;

	t->hot = aligned_alloc(64, bytes);
	if (!t->hot)
		return false;
	memset(t->hot, 0, bytes);
	t->mask = ((size_t)1 << bits) - 1;
	t->shift = 64 - bits;
	t->len = 0;
	return true;
}

static struct frame_entry *entry_of(const struct frames *f, const struct frame_hot *hot)
{
	return blocks_at(&f->by_id, hot->id);
}

/* The free slot for a place that is not there yet; there is room. */
static struct frame_hot *table_slot(struct frame_table *t, uint64_t key)
{
	size_t i = frame_table_hash(key) >> t->shift;

	while (t->hot[i].id)
		i = (i + 1) & t->mask;
	return &t->hot[i];
}

static bool file_is_gone(const struct frames *f, uint32_t file_id)
{
	return file_id / 64 < f->gone_files.len &&
	       (f->gone_files.data[file_id / 64] >> file_id % 64 & 1);
}

/* Entries of files that left, to be forgotten; only the table of files knows such. */
static bool is_garbage(const struct frames *f, const struct frame_table *t, const struct frame_hot *hot)
{
	return t == &f->files && f->gone_files.len && file_is_gone(f, entry_of(f, hot)->owner);
}

static size_t count_live(const struct frames *f, const struct frame_table *t)
{
	size_t live = t->len;

	if (t != &f->files || !f->gone_files.len)
		return live;
	for (size_t i = 0; i <= t->mask; i++)
		live -= t->hot[i].id && is_garbage(f, t, &t->hot[i]);
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
	if (!table_alloc(&fresh, bits))
		return false;
	for (size_t i = 0; t->mask && i <= t->mask; i++) {
		const struct frame_hot *hot = &t->hot[i];

		if (!hot->id)
			continue;
		if (is_garbage(f, t, hot)) {
			struct frame_entry *e = entry_of(f, hot);

			if (e->rule.kind == RULE_EXT)
				exts_unref(exts, e->rule.ext);
			e->rule = (struct rule){ .kind = RULE_UNSET };
			continue;
		}
		*table_slot(&fresh, hot->key) = *hot;
		fresh.len++;
	}
	free(t->hot);
	*t = fresh;
	return true;
}

/* An entry with an id; NULL when out of memory or of ids. */
static struct frame_entry *new_entry(struct frames *f, enum frame_where where, uint32_t owner, uint64_t place)
{
	struct frame_entry *e;
	size_t id;

	if (f->free_ids.len) {
		id = f->free_ids.data[--f->free_ids.len];
	} else {
		id = f->by_id.len;
		if (id >> FRAME_ID_BITS || !blocks_reserve(&f->by_id))
			return NULL;
		f->by_id.len++;
	}
	e = blocks_at(&f->by_id, id);
	*e = (struct frame_entry){ .place = place, .owner = owner, .where = where, .id = (uint32_t)id };
	return e;
}

/* One that is not there yet. */
static struct frame_entry *table_add(struct frames *f, struct rule_exts *exts, struct frame_table *t,
				     enum frame_where where, uint32_t owner, uint64_t place)
{
	const uint64_t key = frame_key(owner, place);
	struct frame_entry *e;

	if ((t->len + 1) * 2 > t->mask + (t->mask != 0) && !table_rebuild(f, exts, t))
		return NULL;
	e = new_entry(f, where, owner, place);
	if (!e)
		return NULL;
	*table_slot(t, key) = (struct frame_hot){ .key = key, .id = e->id };
	t->len++;
	return e;
}

static void table_remove(struct frame_table *t, size_t hole)
{
	for (size_t i = (hole + 1) & t->mask; t->hot[i].id; i = (i + 1) & t->mask) {
		size_t home = frame_table_hash(t->hot[i].key) >> t->shift;

		/* Stays where it is when its home lies behind the hole. */
		if (((i - home) & t->mask) < ((i - hole) & t->mask))
			continue;
		t->hot[hole] = t->hot[i];
		hole = i;
	}
	t->hot[hole].id = 0;
	t->len--;
}

bool frames_init(struct frames *f)
{
	memset(f, 0, sizeof(*f));
	return blocks_reserve_block(&f->by_id) && blocks_push(&f->by_id, (struct frame_entry){ .where = FRAME_OTHER });
}

static void space_free(struct space_frames *s)
{
	free(s->table.hot);
	vec_deinit(&s->retired);
	free(s);
}

void frames_forget_files(struct frames *f)
{
	free(f->files.hot);
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
	free(f->files.hot);
	free(f->global.hot);
	blocks_deinit(&f->by_id);
	vec_deinit(&f->free_ids);
	vec_deinit(&f->gone_files);
}

struct frame_entry *frames_in_file(struct frames *f, struct rule_exts *exts, uint32_t file_id,
				   uint64_t offset)
{
	struct frame_entry *e = frames_find_in_file(f, file_id, offset);

	return e ? e : table_add(f, exts, &f->files, FRAME_IN_FILE, file_id, offset);
}

/* The slot of an entry of the table of files. */
static struct frame_hot *hot_of(const struct frames *f, const struct frame_entry *e)
{
	const struct frame_table *t = &f->files;
	size_t i = frame_table_hash(frame_key(e->owner, e->place)) >> t->shift;

	while (t->hot[i].id != e->id)
		i = (i + 1) & t->mask;
	return &t->hot[i];
}

void frames_set_rule(struct frames *f, const struct arch *arch, struct frame_entry *e,
		     struct rule rule)
{
	struct frame_hot *hot = hot_of(f, e);
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

struct frame_entry *frames_in_space(struct frames *f, struct space_frames *s, enum frame_where where,
				    uint64_t addr)
{
	struct frame_entry *e = frame_table_find(f, &s->table, where, s->space_id, addr);

	return e ? e : table_add(f, NULL, &s->table, where, s->space_id, addr);
}

uint32_t frames_global(struct frames *f, enum frame_where where, uint32_t owner, uint64_t place)
{
	const struct frame_entry *e = frame_table_find(f, &f->global, where, owner, place);

	if (!e)
		e = table_add(f, NULL, &f->global, where, owner, place);
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
		const struct frame_entry *e = entry_of(f, &s->table.hot[i]);

		if (!e->id || e->place < start || e->place >= end || e->where != FRAME_IN_JIT ||
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
		if (s->table.hot[i].id)
			(void)vec_push(&f->free_ids, s->table.hot[i].id);
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
