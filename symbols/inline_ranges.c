#include "symbols/inline_priv.h"

#include "symbols/elf_file.h"

#include <dwarf.h>

enum {
	RANGE_WINDOW = 256,
	RANGE_ENTRY_MAX = 32 /* a byte and two LEB128 of ten bytes, or two addresses */
};

bool dw_is_code(const struct dw_file *f, uint64_t vaddr)
{
	const struct elf_load *loads;
	size_t num = f->elf ? elf_file_loads(f->elf, &loads) : 0;

	/* GNU ld leaves 0 in dead entries (1 in dead range lists), lld and gold the same or the top. */
	for (size_t i = 0; vaddr && i < num; i++) {
		if (loads[i].executable && vaddr - loads[i].vaddr < loads[i].memsz)
			return true;
	}
	return false;
}

static bool add(struct dw_unit *u, uint64_t lo, uint64_t hi, uint32_t id, dw_ranges *out)
{
	struct dw_unit *owner = u->skeleton ? u->skeleton : u;

	if (lo >= hi || !dw_is_code(owner->file, lo))
		return true;
	return out->len < DW_MAX_RANGES && vec_push(out, ((struct dw_range){ lo, hi, id }));
}

/* A list that is read piece by piece. */
struct list {
	struct dw_file *file;
	enum dw_section_id id;
	uint64_t offset; /* of the window */
	const uint8_t *start;
	struct reader r;
};

static struct list list_init(struct dw_file *f, enum dw_section_id id, uint64_t offset)
{
	struct list l = { .file = f, .id = id, .offset = offset };

	l.r = dw_reader(f, id, offset, RANGE_WINDOW);
	l.start = l.r.pos;
	return l;
}

/* Before each entry; false when the list is cut or costs too much. */
static bool list_next(struct list *l)
{
	if (l->r.failed || !dw_spend(l->file->budget, 1))
		return false;
	if (reader_left(&l->r) < RANGE_ENTRY_MAX)
		*l = list_init(l->file, l->id, l->offset + (uint64_t)(l->r.pos - l->start));
	return !l->r.failed;
}

/* Functions thrown away by the linker have base 0 or 1; what is added to it must not reach real code. */
static uint64_t live_base(uint64_t base)
{
	return base > 1 ? base : (uint64_t)1 << 62;
}

/* .debug_ranges: section 2.17.3 of DWARF 4. */
static bool add_list_4(struct dw_unit *u, uint64_t offset, uint32_t id, dw_ranges *out)
{
	struct dw_unit *owner = u->skeleton ? u->skeleton : u;
	const uint64_t select = u->address_size == 8 ? UINT64_MAX : UINT32_MAX;
	struct list l;
	uint64_t base = owner->base;

	/* GNU's split units count from where their skeleton's part begins. */
	if (u->skeleton && __builtin_add_overflow(offset, owner->gnu_ranges_base, &offset))
		return false;
	l = list_init(owner->file, DW_RANGES, offset);
	while (list_next(&l)) {
		uint64_t lo = dw_number(&l.r, u->address_size),
			 hi = dw_number(&l.r, u->address_size);

		if (l.r.failed)
			return false;
		if (!lo && !hi)
			return true;
		if (lo == select)
			base = live_base(hi);
		else if (!add(u, base + lo, base + hi, id, out))
			return false;
	}
	return false;
}

/* One entry of .debug_rnglists (section 7.25). */
static bool add_entry_5(struct dw_unit *u, struct reader *r, uint8_t kind, uint64_t *base,
			uint32_t id, dw_ranges *out)
{
	uint64_t lo = 0, hi = 0;

	switch (kind) {
	case DW_RLE_base_addressx:
		if (!dw_indexed_address(u, reader_uleb(r), base) || r->failed)
			return false;
		*base = live_base(*base);
		return true;
	case DW_RLE_startx_endx:
		if (!dw_indexed_address(u, reader_uleb(r), &lo) ||
		    !dw_indexed_address(u, reader_uleb(r), &hi))
			return false;
		break;
	case DW_RLE_startx_length:
		if (!dw_indexed_address(u, reader_uleb(r), &lo))
			return false;
		hi = lo + reader_uleb(r);
		break;
	case DW_RLE_offset_pair:
		lo = *base + reader_uleb(r);
		hi = *base + reader_uleb(r);
		break;
	case DW_RLE_base_address:
		*base = live_base(dw_number(r, u->address_size));
		return !r->failed;
	case DW_RLE_start_end:
		lo = dw_number(r, u->address_size);
		hi = dw_number(r, u->address_size);
		break;
	case DW_RLE_start_length:
		lo = dw_number(r, u->address_size);
		hi = lo + reader_uleb(r);
		break;
	default:
		return false;
	}
	return !r->failed && add(u, lo, hi, id, out);
}

static bool add_list_5(struct dw_unit *u, uint64_t offset, uint32_t id, dw_ranges *out)
{
	struct list l = list_init(u->file, DW_RNGLISTS, offset);
	uint64_t base = u->skeleton ? u->skeleton->base : u->base;

	while (list_next(&l)) {
		uint8_t kind = reader_u8(&l.r);

		if (l.r.failed)
			return false;
		if (kind == DW_RLE_end_of_list)
			return true;
		if (!add_entry_5(u, &l.r, kind, &base, id, out))
			return false;
	}
	return false;
}

static bool add_list(struct dw_unit *u, const struct dw_value *v, uint32_t id, dw_ranges *out)
{
	uint64_t offset = v->u;
	struct reader r;

	if (u->version < 5)
		return add_list_4(u, offset, id, out);
	if (v->form == DW_FORM_rnglistx) {
		if (__builtin_mul_overflow(offset, u->offset_size, &offset) ||
		    __builtin_add_overflow(offset, u->rnglists_base, &offset))
			return false;
		r = dw_reader(u->file, DW_RNGLISTS, offset, u->offset_size);
		offset = dw_number(&r, u->offset_size);
		if (r.failed || __builtin_add_overflow(offset, u->rnglists_base, &offset))
			return false;
	} else {
		offset += u->rng_shift;
	}
	return add_list_5(u, offset, id, out);
}

bool dw_ranges_add(struct dw_unit *u, const struct dw_value *low, const struct dw_value *high,
		   const struct dw_value *ranges, uint32_t id, dw_ranges *out)
{
	uint64_t lo, hi;

	if (ranges->form)
		return add_list(u, ranges, id, out);
	if (!low->form || !high->form)
		return true;
	return dw_value_address(u, low, &lo) && dw_value_end(u, high, lo, &hi) &&
	       add(u, lo, hi, id, out);
}

/* --- Who is on top at each address --- */

static int by_start(const void *a, const void *b)
{
	const struct dw_range *x = a, *y = b;

	if (x->lo != y->lo)
		return x->lo < y->lo ? -1 : 1;
	if (x->hi != y->hi)
		return x->hi > y->hi ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static bool add_segment(dw_segments *out, uint64_t lo, uint32_t id)
{
	struct dw_segment *last = out->len ? &out->data[out->len - 1] : NULL;

	if (last && last->lo == lo) {
		last->id = id;
		return true;
	}
	if (last && last->id == id)
		return true;
	return vec_push(out, ((struct dw_segment){ lo, id }));
}

/* Closes what ends at or before `until`. */
static bool close_ranges(dw_ranges *open, uint64_t until, dw_segments *out)
{
	while (open->len && open->data[open->len - 1].hi <= until) {
		uint64_t end = open->data[--open->len].hi;

		/* Those below that end no later never come to the top again. */
		while (open->len && open->data[open->len - 1].hi <= end)
			open->len--;
		if (!add_segment(out, end, open->len ? open->data[open->len - 1].id : UINT32_MAX))
			return false;
	}
	return true;
}

static bool sweep(const dw_ranges *in, dw_ranges *open, dw_segments *out)
{
	for (size_t i = 0; i < in->len; i++) {
		const struct dw_range *r = &in->data[i];

		if (!close_ranges(open, r->lo, out) || !vec_push(open, *r) ||
		    !add_segment(out, r->lo, r->id))
			return false;
	}
	return close_ranges(open, UINT64_MAX, out);
}

bool dw_ranges_flatten(dw_ranges *in, dw_segments *out)
{
	dw_ranges open = { 0 };
	bool ok;

	if (in->len)
		qsort(in->data, in->len, sizeof(in->data[0]), by_start);
	ok = sweep(in, &open, out);
	vec_deinit(&open);
	return ok;
}

uint32_t dw_segments_find(const dw_segments *s, uint64_t vaddr)
{
	size_t lo = 0, hi = s->len;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->data[mid].lo <= vaddr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo ? s->data[lo - 1].id : UINT32_MAX;
}
