/* Which function, inlined or not, is innermost at each address of a unit. */
#include "symbols/inline_priv.h"

#include "base/cleanup.h"

#include <dwarf.h>

/* A walk over all entries of a unit, in the order of the file. */
struct walk {
	struct dw_unit *unit;
	const struct dw_abbrevs *abbrevs;
	struct reader r;
	const uint8_t *start; /* of the unit's first entry */
	struct dw_code *code;
	dw_ranges ranges;
	VEC(uint32_t) parents; /* the function that each open entry belongs to */
};

/* Of an entry of a function. */
struct function_values {
	struct dw_value low, high, ranges, call_file, call_line;
};

static bool read_values(struct walk *w, const struct dw_abbrev *ab, struct function_values *ret)
{
	const struct dw_spec *s = &w->abbrevs->specs.data[ab->spec];

	*ret = (struct function_values){ 0 };
	for (uint32_t i = 0; i < ab->num_specs; i++, s++) {
		struct dw_value v;

		if (!dw_value_read(w->unit, &w->r, s->form, s->implicit, &v))
			return false;
		switch (s->attribute) {
		case DW_AT_low_pc:
			ret->low = v;
			break;
		case DW_AT_high_pc:
			ret->high = v;
			break;
		case DW_AT_ranges:
			ret->ranges = v;
			break;
		case DW_AT_call_file:
			ret->call_file = v;
			break;
		case DW_AT_call_line:
			ret->call_line = v;
			break;
		default:
			break;
		}
	}
	return true;
}

/* Reads an entry of a function; *current becomes its number, or UINT32_MAX where it has no code. */
static bool add_function(struct walk *w, const struct dw_abbrev *ab, uint64_t die,
			 uint32_t *current)
{
	bool inlined = ab->tag == DW_TAG_inlined_subroutine;
	struct dw_function f = { .die = die, .parent = inlined ? *current : UINT32_MAX };
	uint32_t id = (uint32_t)w->code->functions.len;
	struct function_values v;

	if (!inlined && !ab->has_code) {
		*current = UINT32_MAX; /* a declaration or what copies are made from */
		return dw_skip_entry(w->unit, w->abbrevs, ab, &w->r);
	}
	if (id >= DW_MAX_FUNCTIONS || !read_values(w, ab, &v))
		return false;
	f.call_file = (uint32_t)v.call_file.u;
	f.call_line = (uint32_t)v.call_line.u;
	if (!vec_push(&w->code->functions, f))
		return false;
	*current = id;
	/* A broken list costs this function its place, unless it has used up what may be spent. */
	return dw_ranges_add(w->unit, &v.low, &v.high, &v.ranges, id, &w->ranges) ||
	       (w->unit->file->budget->unit && w->ranges.len < DW_MAX_RANGES);
}

static bool visit(struct walk *w, bool *done)
{
	uint64_t die = w->unit->first + (uint64_t)(w->r.pos - w->start);
	uint64_t code = reader_uleb(&w->r);
	uint32_t current = w->parents.len ? w->parents.data[w->parents.len - 1] : UINT32_MAX;
	const struct dw_abbrev *ab;
	bool ok;

	if (!code) {
		if (w->parents.len)
			w->parents.len--;
		*done = !w->parents.len;
		return !w->r.failed;
	}
	ab = dw_abbrev_find(w->abbrevs, code);
	if (!ab)
		return false;
	if (ab->tag == DW_TAG_subprogram || ab->tag == DW_TAG_inlined_subroutine)
		ok = add_function(w, ab, die, &current);
	else
		ok = dw_skip_entry(w->unit, w->abbrevs, ab, &w->r);
	if (!ok)
		return false;
	*done = !ab->children && !w->parents.len;
	return !ab->children || (w->parents.len < DW_MAX_NESTING && vec_push(&w->parents, current));
}

/* False when the unit is broken or too much: nothing of it is believed then. */
static bool walk_unit(struct walk *w)
{
	bool done = false;

	for (size_t n = 0; !done && reader_left(&w->r); n++) {
		if (n >= DW_MAX_ENTRIES || !dw_spend(w->unit->file->budget, 1) || !visit(w, &done))
			return false;
	}
	return true;
}

void dw_code_free(struct dw_code *c)
{
	if (!c)
		return;
	vec_deinit(&c->functions);
	vec_deinit(&c->segments);
	free(c);
}

static void walk_deinit(struct walk *w)
{
	dw_code_free(w->code);
	vec_deinit(&w->ranges);
	vec_deinit(&w->parents);
}

static struct dw_code *read_code(struct dw_unit *u)
{
	_cleanup_(walk_deinit) struct walk w = { .unit = u, .abbrevs = dw_unit_abbrevs(u) };
	uint64_t len = u->end - u->first;

	w.start = dw_bytes(u->file, DW_INFO, u->first, len);
	w.code = calloc(1, sizeof(*w.code));
	if (!w.abbrevs || !w.start || !w.code)
		return NULL;
	w.r = reader_init(w.start, len);
	if (!walk_unit(&w) || !dw_ranges_flatten(&w.ranges, &w.code->segments))
		return NULL;
	return steal_ptr(w.code);
}

struct dw_code *dw_unit_code(struct dw_unit *u)
{
	if (!u->code_tried) {
		u->code_tried = true;
		if (dw_unit_root(u))
			u->code = read_code(u);
	}
	return u->code;
}

/* --- Names --- */

/* What an entry says about its name, or where else to ask. */
struct name_values {
	struct dw_value name, linkage, origin;
};

static bool read_names(struct dw_unit *u, uint64_t die, struct name_values *ret)
{
	const struct dw_abbrevs *a = dw_unit_root(u) ? dw_unit_abbrevs(u) : NULL;
	uint64_t len = die < u->end ? u->end - die : 0;
	const uint8_t *bytes;
	const struct dw_abbrev *ab;
	struct reader r;

	*ret = (struct name_values){ 0 };
	if (len > DW_MAX_STRING)
		len = DW_MAX_STRING;
	bytes = len ? dw_bytes(u->file, DW_INFO, die, len) : NULL;
	if (!a || !bytes)
		return false;
	r = reader_init(bytes, len);
	ab = dw_abbrev_find(a, reader_uleb(&r));
	for (uint32_t i = 0; ab && i < ab->num_specs; i++) {
		const struct dw_spec *s = &a->specs.data[ab->spec + i];
		struct dw_value v;

		if (!dw_value_read(u, &r, s->form, s->implicit, &v))
			return false;
		if (s->attribute == DW_AT_name)
			ret->name = v;
		else if (s->attribute == DW_AT_linkage_name ||
			 s->attribute == DW_AT_MIPS_linkage_name)
			ret->linkage = v;
		else if (s->attribute == DW_AT_abstract_origin ||
			 s->attribute == DW_AT_specification)
			ret->origin = v;
	}
	return ab;
}

const char *dw_function_name(struct dw_unit *u, uint64_t die, bool *ret_mangled)
{
	const char *plain = NULL;

	*ret_mangled = false;
	for (int hop = 0; hop < DW_MAX_ORIGINS; hop++) {
		struct name_values v;
		const char *linkage;

		if (!read_names(u, die, &v))
			break;
		linkage = dw_value_string(u, &v.linkage);
		if (linkage) {
			*ret_mangled = true;
			return linkage;
		}
		if (!plain)
			plain = dw_value_string(u, &v.name);
		if (!dw_value_entry(u, &v.origin, &u, &die))
			break;
	}
	return plain;
}
