#include "symbols/inline_priv.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/intern.h"
#include "symbols/elf_file.h"
#include "symbols/symbols.h"

#include <dwarf.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* Name by the string it was made from, which stays where it is: a function is inlined in many places. */
struct name_slot {
	const char *raw;
	const char *name; /* interned */
};
HTAB(names_map, struct name_slot, const char *, hash_u64((uintptr_t)key), slot->raw == key,
     hash_u64((uintptr_t)slot->raw));

struct inliner {
	struct intern *strings; /* borrowed */
	struct dw_budget budget;
	struct dw_files files;
	struct dw_file file;
	struct dw_file *alt; /* owned; NULL = none */
	dw_segments units;   /* ids are indices of file.units */
	struct names_map names;
};

/* What reading `bytes` may cost from here on. */
static void refill(struct inliner *in, uint64_t bytes)
{
	struct dw_budget *b = &in->budget;
	uint64_t steps = DW_STEPS_PER_UNIT + bytes * DW_STEPS_PER_BYTE;

	b->file += b->unit;
	if (steps > DW_STEPS_MAX_UNIT)
		steps = DW_STEPS_MAX_UNIT;
	if (steps > b->file)
		steps = b->file;
	b->file -= steps;
	b->unit = steps;
}

/* --- Which unit has which code --- */

/* Units that do not say themselves where their code is (assemblers' of old). */
struct silent {
	VEC(bool) units;
	size_t num;
};

static bool add_set(struct inliner *in, const struct silent *silent, struct reader *r,
		    uint64_t unit_offset, uint8_t address_size, dw_ranges *out)
{
	const struct dw_unit *units = in->file.units.data;
	const struct dw_unit *u;

	u = dw_unit_at(&in->file, unit_offset);
	if (!u || u->offset != unit_offset || !silent->units.data[u - units])
		return true;
	while (reader_left(r) && dw_spend(&in->budget, 1)) {
		uint64_t lo = dw_number(r, address_size), len = dw_number(r, address_size), hi;

		if (r->failed || (!lo && !len))
			return true;
		if (dw_is_code(&in->file, lo) && len && !__builtin_add_overflow(lo, len, &hi) &&
		    !vec_push(out, ((struct dw_range){ lo, hi, (uint32_t)(u - units) })))
			return false;
	}
	return true;
}

/* .debug_aranges (section 6.1.2), for the silent ones only. */
static bool add_aranges(struct inliner *in, const struct silent *silent, dw_ranges *out)
{
	struct reader all = dw_reader(&in->file, DW_ARANGES, 0, UINT64_MAX);

	while (!all.failed && reader_left(&all) && dw_spend(&in->budget, 1)) {
		unsigned int offset_size = 4, head;
		uint64_t len = reader_u32(&all), unit_offset;
		struct reader r;
		uint8_t address_size, segment_size;
		const uint8_t *bytes;

		if (len == 0xffffffff) {
			len = reader_u64(&all);
			offset_size = 8;
		}
		bytes = len <= reader_left(&all) ? reader_bytes(&all, len) : NULL;
		r = reader_init(bytes, bytes ? len : 0);
		if (reader_u16(&r) != 2)
			continue;
		unit_offset = dw_number(&r, offset_size);
		address_size = reader_u8(&r);
		segment_size = reader_u8(&r);
		if (r.failed || segment_size || (address_size != 4 && address_size != 8))
			continue;
		/* Pairs are aligned from the start of the set, its length included. */
		head = (offset_size == 8 ? 12u : 4u) + 2 + offset_size + 2;
		reader_bytes(&r, (2u * address_size - head % (2u * address_size)) %
					 (2u * address_size));
		if (!r.failed && !add_set(in, silent, &r, unit_offset, address_size, out))
			return false;
	}
	return true;
}

static bool collect_ranges(struct inliner *in, struct silent *silent, dw_ranges *out)
{
	struct dw_file *f = &in->file;

	if (!vec_reserve(&silent->units, f->units.len))
		return false;
	for (size_t i = 0; i < f->units.len; i++) {
		struct dw_unit *u = &f->units.data[i];
		size_t before = out->len;

		silent->units.data[i] = false;
		if (!dw_unit_root(u) || u->tag == DW_TAG_partial_unit || u->tag == DW_TAG_type_unit)
			continue;
		dw_ranges_add(u, &u->low_pc, &u->high_pc, &u->ranges, (uint32_t)i, out);
		silent->units.data[i] = out->len == before;
		silent->num += out->len == before;
	}
	return !silent->num || add_aranges(in, silent, out);
}

static bool build_index(struct inliner *in)
{
	struct silent silent = { 0 };
	dw_ranges ranges = { 0 };
	bool ok;

	refill(in, dw_size(&in->file, DW_INFO) + dw_size(&in->file, DW_ABBREV));
	ok = collect_ranges(in, &silent, &ranges) && dw_ranges_flatten(&ranges, &in->units);
	vec_deinit(&silent.units);
	vec_deinit(&ranges);
	return ok;
}

/* --- Opening --- */

void inliner_free(struct inliner *in)
{
	if (!in)
		return;
	dw_file_deinit(&in->file); /* its split units may stand in the package */
	dw_file_free(in->alt);
	dw_files_deinit(&in->files);
	vec_deinit(&in->units);
	names_map_deinit(&in->names);
	free(in);
}

static void inliner_freep(struct inliner **in)
{
	inliner_free(*in);
}

static int open_elf(int fd, struct elf_file **ret, struct err *err)
{
	_cleanup_close_ int guard = fd;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(err, errno, "fstat: %s", strerror(errno));
	return elf_file_open_fd(steal_fd(&guard), (uint64_t)st.st_size, ret, err);
}

static int check_sections(const struct dw_file *f, struct err *err)
{
	for (int id = 0; id < DW_NUM_SECTIONS; id++) {
		if (f->sections[id].failed)
			return err_set(
				err, EFBIG,
				"its debug information is larger than 1 GiB (256 MiB "
				"where it is compressed), damaged, or compressed by something "
				"else than zlib");
	}
	if (!dw_size(f, DW_INFO))
		return err_set(err, ENODATA, "it has no debug information");
	return 0;
}

int inliner_open(int fd, const struct inline_files *files, struct intern *strings,
		 struct inliner **ret, struct err *err)
{
	_cleanup_(inliner_freep) struct inliner *in = NULL;
	struct elf_file *elf = NULL;
	int r;

	r = open_elf(fd, &elf, err);
	if (r < 0)
		return r;
	in = calloc(1, sizeof(*in));
	if (!in) {
		elf_file_free(elf);
		return err_oom(err);
	}
	in->strings = strings;
	in->budget.file = DW_STEPS_MAX_FILE;
	if (files)
		in->files.callbacks = *files;
	in->files.budget = &in->budget;
	dw_file_init(&in->file, elf, false, &in->budget);
	r = check_sections(&in->file, err);
	if (r < 0)
		return r;
	if (!dw_file_scan(&in->file))
		return err_set(err, EBADMSG, "its debug information has no unit that can be read");
	in->alt = dw_open_alt(&in->files, &in->file);
	in->file.alt = in->alt;
	if (!build_index(in))
		return err_oom(err);
	*ret = steal_ptr(in);
	return 0;
}

/* --- Asking --- */

static const char *name_of(struct inliner *in, struct dw_unit *u, struct dw_function *f)
{
	struct name_slot *slot;
	const char *raw;
	bool mangled, added;

	if (f->name)
		return f->name;
	raw = dw_function_name(u, f->die, &mangled);
	if (!raw || !*raw)
		return f->name = intern_str(in->strings, "??"); /* as addr2line */
	slot = names_map_add(&in->names, raw, &added);
	if (!slot)
		return NULL;
	if (added) {
		slot->raw = raw;
		slot->name =
			mangled ? symbols_demangle(in->strings, raw) : intern_str(in->strings, raw);
	}
	return f->name = slot->name;
}

/* The unit that covers vaddr, and its innermost function there. */
static struct dw_code *find_code(struct inliner *in, uint64_t vaddr, struct dw_unit **ret_unit,
				 uint32_t *ret_id)
{
	uint32_t at = dw_segments_find(&in->units, vaddr);
	struct dw_unit *u;
	struct dw_code *code;

	if (at == UINT32_MAX)
		return NULL;
	u = &in->file.units.data[at];
	if (!u->code_tried && u->split_state == DW_SPLIT_UNTRIED)
		refill(in, u->end - u->offset);
	u = dw_unit_full(&in->files, u);
	if (!u->code_tried)
		refill(in, u->end - u->offset + dw_size(u->file, DW_ABBREV));
	code = dw_unit_code(u);
	*ret_unit = u;
	*ret_id = code ? dw_segments_find(&code->segments, vaddr) : UINT32_MAX;
	return code;
}

static struct dw_lines *find_lines(struct inliner *in, struct dw_unit *u)
{
	struct dw_unit *owner = u->skeleton ? u->skeleton : u;

	if (!owner->lines_tried)
		refill(in, dw_size(owner->file, DW_LINE));
	return dw_unit_lines(u);
}

size_t inliner_find(struct inliner *in, uint64_t vaddr, struct inline_frame *ret, size_t max)
{
	struct dw_unit *u = NULL;
	uint32_t id = UINT32_MAX, file = 0, line = 0;
	struct dw_code *code = find_code(in, vaddr, &u, &id);
	struct dw_lines *lines;
	size_t n = 0;
	bool known;

	if (!code || id == UINT32_MAX || code->functions.data[id].parent == UINT32_MAX)
		return 0;
	lines = find_lines(in, u);
	known = lines && dw_lines_find(lines, vaddr, &file, &line);
	/* Parents stand before their children, so this ends. */
	while (id != UINT32_MAX && n < max) {
		struct dw_function *f = &code->functions.data[id];
		struct inline_frame *frame = &ret[n];

		frame->name = name_of(in, u, f);
		if (!frame->name)
			break;
		frame->file = known ? dw_lines_file(lines, in->strings, file) : NULL;
		frame->line = known ? line : 0;
		n++;
		known = lines;
		file = f->call_file;
		line = f->call_line;
		id = f->parent;
	}
	return n;
}
