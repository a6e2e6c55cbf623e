#include "symbols/inline_priv.h"

#include "base/cleanup.h"

#include <dwarf.h>

/* --- Numbers --- */

uint64_t dw_number(struct reader *r, unsigned int size)
{
	const uint8_t *b;

	switch (size) {
	case 1:
		return reader_u8(r);
	case 2:
		return reader_u16(r);
	case 3:
		b = reader_bytes(r, 3);
		return b ? b[0] | (uint64_t)b[1] << 8 | (uint64_t)b[2] << 16 : 0;
	case 4:
		return reader_u32(r);
	case 8:
		return reader_u64(r);
	default:
		r->failed = true;
		return 0;
	}
}

/* --- Forms (section 7.5.6) --- */

/* Bytes of a form whose size does not depend on its value; -1 otherwise. */
static int form_size(const struct dw_unit *u, uint16_t form)
{
	switch (form) {
	case DW_FORM_flag_present:
	case DW_FORM_implicit_const:
		return 0;
	case DW_FORM_data1:
	case DW_FORM_ref1:
	case DW_FORM_flag:
	case DW_FORM_strx1:
	case DW_FORM_addrx1:
		return 1;
	case DW_FORM_data2:
	case DW_FORM_ref2:
	case DW_FORM_strx2:
	case DW_FORM_addrx2:
		return 2;
	case DW_FORM_strx3:
	case DW_FORM_addrx3:
		return 3;
	case DW_FORM_data4:
	case DW_FORM_ref4:
	case DW_FORM_ref_sup4:
	case DW_FORM_strx4:
	case DW_FORM_addrx4:
		return 4;
	case DW_FORM_data8:
	case DW_FORM_ref8:
	case DW_FORM_ref_sig8:
	case DW_FORM_ref_sup8:
		return 8;
	case DW_FORM_data16:
		return 16;
	case DW_FORM_addr:
		return u->address_size;
	case DW_FORM_ref_addr:
		return u->version == 2 ? u->address_size : u->offset_size;
	case DW_FORM_sec_offset:
	case DW_FORM_strp:
	case DW_FORM_line_strp:
	case DW_FORM_strp_sup:
	case DW_FORM_GNU_ref_alt:
	case DW_FORM_GNU_strp_alt:
		return u->offset_size;
	default:
		return -1;
	}
}

static bool skip_block(struct reader *r, uint64_t len)
{
	return len <= reader_left(r) && reader_bytes(r, len);
}

/* A form that says itself how long it is. */
static bool skip_form(const struct dw_unit *u, struct reader *r, uint16_t form)
{
	int size;

	switch (form) {
	case DW_FORM_string:
		return reader_str(r);
	case DW_FORM_block1:
		return skip_block(r, reader_u8(r));
	case DW_FORM_block2:
		return skip_block(r, reader_u16(r));
	case DW_FORM_block4:
		return skip_block(r, reader_u32(r));
	case DW_FORM_block:
	case DW_FORM_exprloc:
		return skip_block(r, reader_uleb(r));
	case DW_FORM_sdata:
	case DW_FORM_udata:
	case DW_FORM_ref_udata:
	case DW_FORM_strx:
	case DW_FORM_addrx:
	case DW_FORM_loclistx:
	case DW_FORM_rnglistx:
	case DW_FORM_GNU_addr_index:
	case DW_FORM_GNU_str_index:
		reader_uleb(r);
		return !r->failed;
	case DW_FORM_indirect:
		form = (uint16_t)reader_uleb(r);
		/* One indirection is all that makes sense; implicit_const has no place for its value there. */
		if (form == DW_FORM_indirect || form == DW_FORM_implicit_const)
			return false;
		size = form_size(u, form);
		return size >= 0 ? skip_block(r, (uint64_t)size) : skip_form(u, r, form);
	default:
		return false;
	}
}

bool dw_value_read(const struct dw_unit *u, struct reader *r, uint16_t form, int64_t implicit,
		   struct dw_value *ret)
{
	int size;

	if (form == DW_FORM_indirect) {
		form = (uint16_t)reader_uleb(r);
		if (form == DW_FORM_indirect || form == DW_FORM_implicit_const)
			return false;
	}
	*ret = (struct dw_value){ .form = form };
	size = form_size(u, form);
	switch (form) {
	case DW_FORM_implicit_const:
		ret->u = (uint64_t)implicit;
		return true;
	case DW_FORM_flag_present:
		ret->u = 1;
		return true;
	case DW_FORM_string:
		ret->bytes = (const uint8_t *)reader_str(r);
		return ret->bytes;
	case DW_FORM_data16:
		return reader_bytes(r, 16);
	case DW_FORM_sdata:
		ret->u = (uint64_t)reader_sleb(r);
		return !r->failed;
	case DW_FORM_udata:
	case DW_FORM_ref_udata:
	case DW_FORM_strx:
	case DW_FORM_addrx:
	case DW_FORM_rnglistx:
	case DW_FORM_loclistx:
	case DW_FORM_GNU_addr_index:
	case DW_FORM_GNU_str_index:
		ret->u = reader_uleb(r);
		return !r->failed;
	default:
		if (size < 0)
			return skip_form(u, r, form);
		ret->u = dw_number(r, (unsigned int)size);
		return !r->failed;
	}
}

/* --- Abbreviations (section 7.5.3) --- */

static bool add_skip(const struct dw_unit *u, struct dw_abbrevs *a, struct dw_abbrev *ab,
		     uint16_t form)
{
	int size = form_size(u, form);
	struct dw_skip *last = ab->num_skips ? &a->skips.data[a->skips.len - 1] : NULL;

	if (!size)
		return true;
	if (size > 0 && last && !last->form && last->bytes + size <= UINT16_MAX) {
		last->bytes = (uint16_t)(last->bytes + size);
		return true;
	}
	ab->num_skips++;
	return vec_push(&a->skips, ((struct dw_skip){ .form = size < 0 ? form : 0,
						      .bytes = size < 0 ? 0 : (uint16_t)size }));
}

/* One declaration. False at the end of the table (*end), when it is broken, and when memory is out. */
static bool parse_abbrev(const struct dw_unit *u, struct reader *r, struct dw_abbrevs *a, bool *end)
{
	struct dw_abbrev ab = {
		.code = reader_uleb(r),
		.spec = (uint32_t)a->specs.len,
		.skip = (uint32_t)a->skips.len,
	};

	*end = !ab.code && !r->failed;
	if (!ab.code || r->failed)
		return false;
	ab.tag = (uint16_t)reader_uleb(r);
	ab.children = reader_u8(r);
	for (;;) {
		struct dw_spec s = { .attribute = (uint16_t)reader_uleb(r),
				     .form = (uint16_t)reader_uleb(r) };

		if (s.form == DW_FORM_implicit_const)
			s.implicit = reader_sleb(r);
		if (r->failed || !dw_spend(u->file->budget, 1))
			return false;
		if (!s.attribute && !s.form)
			break;
		ab.has_code |= s.attribute == DW_AT_low_pc || s.attribute == DW_AT_ranges;
		ab.num_specs++;
		if (!vec_push(&a->specs, s) || !add_skip(u, a, &ab, s.form))
			return false;
	}
	return vec_push(&a->list, ab);
}

static int by_code(const void *a, const void *b)
{
	uint64_t x = ((const struct dw_abbrev *)a)->code, y = ((const struct dw_abbrev *)b)->code;

	return x < y ? -1 : x > y;
}

const struct dw_abbrev *dw_abbrev_find(const struct dw_abbrevs *a, uint64_t code)
{
	struct dw_abbrev key = { .code = code };

	/* Nearly every producer counts from 1 without gaps. */
	if (code - 1 < a->list.len && a->list.data[code - 1].code == code)
		return &a->list.data[code - 1];
	if (!a->list.len)
		return NULL;
	return bsearch(&key, a->list.data, a->list.len, sizeof(key), by_code);
}

void dw_abbrevs_free(struct dw_abbrevs *a)
{
	if (!a)
		return;
	vec_deinit(&a->list);
	vec_deinit(&a->specs);
	vec_deinit(&a->skips);
	free(a);
}

static void abbrevs_freep(struct dw_abbrevs **a)
{
	dw_abbrevs_free(*a);
}

/* The whole table, or up to the declaration of `until` (0 = whole). */
static struct dw_abbrevs *parse_abbrevs(const struct dw_unit *u, uint64_t until)
{
	_cleanup_(abbrevs_freep) struct dw_abbrevs *a = calloc(1, sizeof(*a));
	struct reader r = dw_reader(u->file, DW_ABBREV, u->abbrev_offset, UINT64_MAX);
	bool end = false, sorted = true;

	if (!a)
		return NULL;
	while (parse_abbrev(u, &r, a, &end)) {
		size_t n = a->list.len;

		if (until && a->list.data[n - 1].code == until)
			return steal_ptr(a);
		sorted &= n < 2 || a->list.data[n - 2].code < a->list.data[n - 1].code;
	}
	if (until || !end)
		return NULL;
	if (!sorted)
		qsort(a->list.data, a->list.len, sizeof(a->list.data[0]), by_code);
	return steal_ptr(a);
}

const struct dw_abbrevs *dw_unit_abbrevs(struct dw_unit *u)
{
	/* Sizes of forms are worked into a table; units that share one nearly always agree on them. */
	uint64_t key = u->abbrev_offset << 3 | (u->address_size == 8) << 2 |
		       (u->offset_size == 8) << 1 | (u->version == 2);
	struct dw_abbrevs_slot *slot;
	bool added;

	if (u->abbrevs)
		return u->abbrevs;
	slot = dw_abbrevs_map_add(&u->file->abbrevs, key, &added);
	if (!slot)
		return NULL;
	slot->key = key;
	if (added)
		slot->abbrevs = parse_abbrevs(u, 0);
	u->abbrevs = slot->abbrevs;
	return u->abbrevs;
}

bool dw_skip_entry(const struct dw_unit *u, const struct dw_abbrevs *a, const struct dw_abbrev *ab,
		   struct reader *r)
{
	const struct dw_skip *s = &a->skips.data[ab->skip];

	for (uint32_t i = 0; i < ab->num_skips; i++, s++) {
		if (!s->form ? !skip_block(r, s->bytes) : !skip_form(u, r, s->form))
			return false;
	}
	return true;
}

/* --- Units (section 7.5.1) --- */

static bool parse_header_5(struct dw_unit *u, struct reader *r)
{
	u->kind = reader_u8(r);
	u->address_size = reader_u8(r);
	u->abbrev_offset = dw_number(r, u->offset_size);
	switch (u->kind) {
	case DW_UT_skeleton:
	case DW_UT_split_compile:
		u->dwo_id = reader_u64(r);
		return true;
	case DW_UT_compile:
	case DW_UT_partial:
		return true;
	default: /* types have no code */
		return false;
	}
}

static bool parse_header(struct dw_unit *u, struct reader *r)
{
	u->version = reader_u16(r);
	if (u->version == 5)
		return parse_header_5(u, r);
	u->kind = DW_UT_compile;
	u->abbrev_offset = dw_number(r, u->offset_size);
	u->address_size = reader_u8(r);
	return u->version >= 2 && u->version <= 4;
}

bool dw_unit_parse(struct dw_file *f, uint64_t offset, struct dw_unit *ret, uint64_t *next)
{
	struct reader r = dw_reader(f, DW_INFO, offset, 64);
	const uint8_t *start = r.pos;
	struct dw_unit u = { .file = f, .offset = offset, .offset_size = 4 };
	uint64_t len = reader_u32(&r);
	uint64_t begin;

	*next = 0;
	if (len == 0xffffffff) {
		len = reader_u64(&r);
		u.offset_size = 8;
	}
	begin = offset + (uint64_t)(r.pos - start);
	if (r.failed || len > dw_size(f, DW_INFO) - begin)
		return false;
	u.end = begin + len;
	*next = u.end;
	if (!parse_header(&u, &r) || r.failed || (u.address_size != 4 && u.address_size != 8))
		return false;
	u.first = offset + (uint64_t)(r.pos - start);
	if (u.first > u.end)
		return false;
	/* Offsets in a .dwo begin behind the header of its only table, which GNU's version 4 does not have. */
	if (f->split && u.version >= 5) {
		u.str_offsets_base = u.offset_size == 8 ? 16 : 8;
		u.rnglists_base = u.offset_size == 8 ? 20 : 12;
	}
	*ret = u;
	return true;
}

bool dw_file_scan(struct dw_file *f)
{
	uint64_t size = dw_size(f, DW_INFO), next;

	for (uint64_t offset = 0; offset < size; offset = next) {
		struct dw_unit u;
		bool ok = dw_unit_parse(f, offset, &u, &next);

		if (next <= offset || f->units.len >= DW_MAX_UNITS)
			break;
		if (ok && !vec_push(&f->units, u))
			return false;
	}
	return f->units.len;
}

struct dw_unit *dw_unit_at(struct dw_file *f, uint64_t offset)
{
	size_t lo = 0, hi = f->units.len;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (f->units.data[mid].offset <= offset)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo || offset >= f->units.data[lo - 1].end)
		return NULL;
	return &f->units.data[lo - 1];
}

static void keep_root_value(struct dw_unit *u, uint16_t attribute, const struct dw_value *v)
{
	switch (attribute) {
	case DW_AT_low_pc:
		u->low_pc = *v;
		break;
	case DW_AT_high_pc:
		u->high_pc = *v;
		break;
	case DW_AT_ranges:
		u->ranges = *v;
		break;
	case DW_AT_comp_dir:
		u->comp_dir = *v;
		break;
	case DW_AT_dwo_name:
	case DW_AT_GNU_dwo_name:
		u->dwo_name = *v;
		break;
	case DW_AT_GNU_dwo_id:
		u->dwo_id = v->u;
		break;
	case DW_AT_stmt_list:
		u->stmt_list = v->u;
		u->has_lines = true;
		break;
	case DW_AT_str_offsets_base:
		u->str_offsets_base = v->u;
		break;
	case DW_AT_addr_base:
	case DW_AT_GNU_addr_base:
		u->addr_base = v->u;
		break;
	case DW_AT_rnglists_base:
		u->rnglists_base = v->u;
		break;
	case DW_AT_GNU_ranges_base:
		u->gnu_ranges_base = v->u;
		break;
	default:
		break;
	}
}

static bool read_root(struct dw_unit *u)
{
	const uint8_t *bytes;
	_cleanup_(abbrevs_freep) struct dw_abbrevs *a = NULL;
	/* Most entries of this kind are shorter than 200 bytes, but a name may stand in them. */
	uint64_t len =
		u->end - u->first < 2 * DW_MAX_STRING ? u->end - u->first : 2 * DW_MAX_STRING;
	const struct dw_abbrev *ab;
	struct reader r;
	uint64_t code;

	for (uint64_t part = 512;; part = len) {
		if (part > len)
			part = len;
		bytes = dw_bytes(u->file, DW_INFO, u->first, part);
		if (!bytes)
			return false;
		r = reader_init(bytes, part);
		code = reader_uleb(&r);
		if (!code || r.failed)
			return false;
		if (!a)
			a = parse_abbrevs(u, code);
		if (!a)
			return false;
		ab = &a->list.data[a->list.len - 1];
		u->tag = ab->tag;
		for (uint32_t i = 0; i < ab->num_specs && !r.failed; i++) {
			const struct dw_spec *s = &a->specs.data[ab->spec + i];
			struct dw_value v;

			if (dw_value_read(u, &r, s->form, s->implicit, &v))
				keep_root_value(u, s->attribute, &v);
			else if (!r.failed)
				return false;
		}
		if (!r.failed)
			return true;
		if (part == len)
			return false;
	}
}

bool dw_unit_root(struct dw_unit *u)
{
	if (u->root_tried)
		return u->root_ok;
	u->root_tried = true;
	u->root_ok = read_root(u);
	if (!u->root_ok)
		return false;
	u->str_offsets_base += u->str_shift;
	u->rnglists_base += u->rng_shift;
	if (u->low_pc.form && !dw_value_address(u, &u->low_pc, &u->base))
		u->base = 0;
	return true;
}

/* --- What values mean --- */

/* The unit whose .debug_addr and line table count. */
static struct dw_unit *with_addresses(struct dw_unit *u)
{
	return u->skeleton ? u->skeleton : u;
}

bool dw_indexed_address(struct dw_unit *u, uint64_t index, uint64_t *ret)
{
	struct dw_unit *at = with_addresses(u);
	uint64_t offset;
	struct reader r;

	if (__builtin_mul_overflow(index, u->address_size, &offset) ||
	    __builtin_add_overflow(offset, at->addr_base, &offset))
		return false;
	r = dw_reader(at->file, DW_ADDR, offset, u->address_size);
	*ret = dw_number(&r, u->address_size);
	return !r.failed;
}

static bool dw_value_is_address(const struct dw_value *v)
{
	switch (v->form) {
	case DW_FORM_addr:
	case DW_FORM_addrx:
	case DW_FORM_addrx1:
	case DW_FORM_addrx2:
	case DW_FORM_addrx3:
	case DW_FORM_addrx4:
	case DW_FORM_GNU_addr_index:
		return true;
	default:
		return false;
	}
}

bool dw_value_address(struct dw_unit *u, const struct dw_value *v, uint64_t *ret)
{
	if (!dw_value_is_address(v))
		return false;
	if (v->form != DW_FORM_addr)
		return dw_indexed_address(u, v->u, ret);
	*ret = v->u;
	return true;
}

bool dw_value_end(struct dw_unit *u, const struct dw_value *v, uint64_t low, uint64_t *ret)
{
	if (dw_value_is_address(v))
		return dw_value_address(u, v, ret);
	/* Since version 4 a number is the length. */
	return v->form && !__builtin_add_overflow(low, v->u, ret);
}

static const char *indexed_string(struct dw_unit *u, uint64_t index)
{
	uint64_t offset;
	struct reader r;

	if (__builtin_mul_overflow(index, u->offset_size, &offset) ||
	    __builtin_add_overflow(offset, u->str_offsets_base, &offset))
		return NULL;
	r = dw_reader(u->file, DW_STR_OFFSETS, offset, u->offset_size);
	offset = dw_number(&r, u->offset_size);
	return r.failed ? NULL : dw_string(u->file, DW_STR, offset);
}

const char *dw_value_string(struct dw_unit *u, const struct dw_value *v)
{
	switch (v->form) {
	case DW_FORM_string:
		return (const char *)v->bytes;
	case DW_FORM_strp:
		return dw_string(u->file, DW_STR, v->u);
	case DW_FORM_line_strp:
		return dw_string(u->file, DW_LINE_STR, v->u);
	case DW_FORM_strp_sup:
	case DW_FORM_GNU_strp_alt:
		return u->file->alt ? dw_string(u->file->alt, DW_STR, v->u) : NULL;
	case DW_FORM_strx:
	case DW_FORM_strx1:
	case DW_FORM_strx2:
	case DW_FORM_strx3:
	case DW_FORM_strx4:
	case DW_FORM_GNU_str_index:
		return indexed_string(u, v->u);
	default:
		return NULL;
	}
}

bool dw_value_entry(struct dw_unit *u, const struct dw_value *v, struct dw_unit **ret_unit,
		    uint64_t *ret_offset)
{
	struct dw_file *f = u->file;

	switch (v->form) {
	case DW_FORM_ref1:
	case DW_FORM_ref2:
	case DW_FORM_ref4:
	case DW_FORM_ref8:
	case DW_FORM_ref_udata:
		if (v->u >= u->end - u->offset || v->u + u->offset < u->first)
			return false;
		*ret_unit = u;
		*ret_offset = u->offset + v->u;
		return true;
	case DW_FORM_ref_sup4:
	case DW_FORM_ref_sup8:
	case DW_FORM_GNU_ref_alt:
		f = f->alt;
		break;
	case DW_FORM_ref_addr:
		break;
	default:
		return false;
	}
	*ret_unit = f ? dw_unit_at(f, v->u) : NULL;
	*ret_offset = v->u;
	return *ret_unit && v->u >= (*ret_unit)->first;
}
