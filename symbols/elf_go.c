/* Programs built by Go: where their goroutines and threads begin, and names out of .gopclntab. */
#include "symbols/elf_file_priv.h"

#include "base/cleanup.h"
#include "symbols/symtab.h"

#include <stdlib.h>
#include <string.h>

/*
 * Functions that no Go function calls on the same stack (golang src/runtime/asm_amd64.s,
 * sys_linux_amd64.s). The assembler's symbols end in ".abi0" in .symtab since Go 1.17, and not in
 * .gopclntab.
 */
static enum elf_root root_of_name(const char *name, size_t name_len)
{
	static const struct {
		const char *name;
		enum elf_root kind;
	} roots[] = {
		{ "runtime.goexit", ELF_ROOT_FIRST },
		{ "runtime.clone", ELF_ROOT_CALLED },
		{ "runtime.rt0_go", ELF_ROOT_FIRST },
		{ "runtime.mcall", ELF_ROOT_CALLED },
		{ "runtime.mstart", ELF_ROOT_THREAD },
		{ "runtime.systemstack", ELF_ROOT_SWITCH },
		{ "runtime.asmcgocall", ELF_ROOT_SWITCH },
		{ "runtime.morestack", ELF_ROOT_CUT },
		{ "runtime.systemstack_switch", ELF_ROOT_MARK },
		{ "runtime.cgocallback", ELF_ROOT_CALLBACK },
		{ "time.now", ELF_ROOT_CLOCK },
		{ "runtime.nanotime1", ELF_ROOT_CLOCK },
		{ "runtime.walltime1", ELF_ROOT_CLOCK }, /* before Go 1.17 */
		{ "runtime.vgetrandom1", ELF_ROOT_CLOCK }, /* from Go 1.24 on */
	};

	if (name_len >= 5 && !memcmp(name, "_rt0_", 5))
		return ELF_ROOT_FIRST;
	for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++) {
		size_t len = strlen(roots[i].name);

		if (name_len < len || memcmp(name, roots[i].name, len))
			continue;
		if (name_len == len || (name_len == len + 5 && !memcmp(name + len, ".abi0", 5)))
			return roots[i].kind;
	}
	return ELF_ROOT_NONE;
}

enum {
	GO_MAGIC_1_16 = 0xfffffffa,
	GO_MAGIC_1_18 = 0xfffffff0,
	GO_MAGIC_1_20 = 0xfffffff1,
	GO_HEADER_BYTES = 8 + 8 * 8,
	GO_MAX_FUNCTIONS = 4 << 20,
	GO_MAX_RELOCS = 1 << 24,
	GO_MAX_ROOTS = 256, /* there are about a dozen */
};

static uint64_t text_from_relocation(struct elf_file *f, uint64_t vaddr)
{
	const struct elf_section *s = elf_file_section(f, ".rela.dyn");
	_cleanup_(elf_cursor_deinit) struct elf_cursor c = { 0 };
	struct reader r;

	if (!s)
		s = elf_file_section(f, ".rela");
	if (!s || s->type != SHT_RELA ||
	    !elf_cursor_init(&c, f, s->offset, s->size, sizeof(Elf64_Rela), GO_MAX_RELOCS))
		return 0;
	while (elf_cursor_next(&c, &r)) {
		if (reader_u64(&r) != vaddr)
			continue;
		reader_u64(&r); /* r_info: only a relative one can point here */
		return reader_u64(&r);
	}
	return 0;
}

/* A position-independent program may leave the address to a relocation. */
static uint64_t find_text(struct elf_file *f, uint64_t stored, uint64_t field_vaddr)
{
	const struct elf_section *text;

	if (!stored)
		stored = text_from_relocation(f, field_vaddr);
	if (!stored) {
		text = elf_file_section(f, ".text");
		stored = text ? text->addr : 0;
	}
	return stored;
}

/* golang src/runtime/symtab.go, struct pcHeader; src/debug/gosym/pclntab.go. */
static bool parse_pclntab(struct elf_pclntab *t)
{
	uint8_t bytes[GO_HEADER_BYTES];
	struct reader r = reader_init(bytes, sizeof(bytes));
	uint32_t magic;
	uint16_t zero;
	uint8_t unit, word;

	if (t->size < sizeof(bytes) || elf_file_read(t->f, bytes, sizeof(bytes), t->offset) < 0)
		return false;
	magic = reader_u32(&r);
	zero = reader_u16(&r);
	unit = reader_u8(&r);
	word = reader_u8(&r);
	if (magic != GO_MAGIC_1_16 && magic != GO_MAGIC_1_18 && magic != GO_MAGIC_1_20)
		return false;
	if (zero || (unit != 1 && unit != 2 && unit != 4) || word != 8)
		return false;
	t->unit = unit;
	t->relative = magic != GO_MAGIC_1_16;
	t->num = reader_u64(&r);
	reader_u64(&r); /* nfiles */
	if (t->relative) {
		uint64_t at = t->vaddr + (uint64_t)(r.pos - bytes);

		t->text = find_text(t->f, reader_u64(&r), at);
	}
	t->names = reader_u64(&r);
	reader_bytes(&r, 2 * sizeof(uint64_t)); /* cuOffset, filetabOffset */
	t->pctab = reader_u64(&r);
	t->funcs = reader_u64(&r);
	return !r.failed && t->num && t->num <= GO_MAX_FUNCTIONS && t->names < t->size &&
	       t->pctab < t->size && t->funcs < t->size;
}

static bool locate_pclntab(struct elf_file *f, struct elf_pclntab *ret)
{
	const struct elf_section *s = elf_file_section(f, ".gopclntab");

	if (!s)
		s = elf_file_section(f, ".data.rel.ro.gopclntab");
	if (!s || s->type == SHT_NOBITS || !f->is_64 || s->offset > f->size ||
	    s->size > f->size - s->offset || s->size > ELF_MAX_CONTENT)
		return false;
	*ret = (struct elf_pclntab){ .f = f, .offset = s->offset, .vaddr = s->addr, .size = s->size };
	return parse_pclntab(ret);
}

static bool find_pclntab(struct elf_file *f, struct elf_pclntab *ret)
{
	if (!f->pclntab_tried) {
		f->pclntab_tried = true;
		if (!locate_pclntab(f, &f->pclntab))
			f->pclntab.num = 0;
	}
	*ret = f->pclntab;
	return ret->num;
}

/* The structs _func of the table, and the names they point to. */
struct go_names {
	const struct elf_pclntab *t;
	struct elf_window funcs, strings;
};

static void go_names_deinit(struct go_names *n)
{
	elf_window_deinit(&n->funcs);
	elf_window_deinit(&n->strings);
}

static bool go_names_init(struct go_names *n, const struct elf_pclntab *t)
{
	n->t = t;
	return elf_window_init(&n->funcs, t->f, t->offset + t->funcs, t->size - t->funcs) &&
	       elf_window_init(&n->strings, t->f, t->offset + t->names, t->size - t->names);
}

/*
 * struct symtab_namer, numbered by where the struct _func is: it begins with the entry (4 or 8
 * bytes) and the offset of the name.
 */
static const char *go_name(void *data, uint64_t func, size_t *ret_len)
{
	struct go_names *n = data;
	size_t skip = n->t->relative ? 4 : 8;
	const uint8_t *bytes = elf_window_bytes(&n->funcs, func, skip + 4);
	uint32_t name;

	if (!bytes)
		return NULL;
	memcpy(&name, bytes + skip, sizeof(name));
	return elf_window_string(&n->strings, name, ret_len);
}

/* One row of the table: where the function starts, and where its struct _func is. */
struct row {
	uint64_t start, func;
};

static bool next_row(const struct elf_pclntab *t, struct elf_cursor *c, struct row *ret)
{
	struct reader r;

	if (!elf_cursor_next(c, &r))
		return false;
	ret->start = t->relative ? t->text + reader_u32(&r) : reader_u64(&r);
	ret->func = t->relative ? reader_u32(&r) : reader_u64(&r);
	return true;
}

static bool rows_init(const struct elf_pclntab *t, struct elf_cursor *c)
{
	/* Behind the last row is the end of its function: half a row. What follows it is there. */
	return elf_cursor_init(c, t->f, t->offset + t->funcs, t->size - t->funcs,
			       t->relative ? 8 : 16, t->num + 1);
}

/* All functions of a table, with their names. */
struct go_functions {
	struct elf_pclntab t;
	struct go_names names;
	struct elf_cursor rows;
	struct row next; /* the end of one is the start of the next */
};

static void go_functions_deinit(struct go_functions *g)
{
	go_names_deinit(&g->names);
	elf_cursor_deinit(&g->rows);
}

/* False: there are none. */
static bool go_functions_init(struct go_functions *g, struct elf_file *f)
{
	return find_pclntab(f, &g->t) && go_names_init(&g->names, &g->t) && rows_init(&g->t, &g->rows) &&
	       next_row(&g->t, &g->rows, &g->next);
}

static bool go_functions_next(struct go_functions *g, struct row *ret, uint64_t *ret_end)
{
	*ret = g->next;
	if (!next_row(&g->t, &g->rows, &g->next))
		return false;
	*ret_end = g->next.start;
	return true;
}

void elf_go_offer_functions(struct elf_file *f, struct symtab *symtab)
{
	_cleanup_(go_functions_deinit) struct go_functions g = { 0 };
	const struct symtab_namer namer = { go_name, &g.names };
	struct row row;
	uint64_t end;

	if (!go_functions_init(&g, f))
		return;
	while (go_functions_next(&g, &row, &end)) {
		const struct symtab_function function = { .vaddr = row.start,
							  .size = end - row.start,
							  .limit = end,
							  .bind = SYMTAB_GLOBAL,
							  .name = row.func };

		if (end > row.start)
			symtab_offer(symtab, &function, &namer);
	}
}

/* --- Frames --- */

enum {
	GO_PC_BYTES = 4096, /* of a function's table; the largest functions have a few hundred */
	GO_SP_WRITE = 2,    /* FuncFlag_SPWrite: internal/abi/symtab.go */
};

/* golang src/runtime/symtab.go step, readvarint. */
static uint32_t read_varint(struct reader *r)
{
	uint32_t value = 0;

	for (unsigned int shift = 0; shift < 35; shift += 7) {
		uint8_t byte = reader_u8(r);

		value |= shift < 32 ? (uint32_t)(byte & 0x7f) << shift : 0;
		if (!(byte & 0x80))
			return value;
	}
	r->failed = true;
	return 0;
}

/* The table says how far the stack pointer is below its value at the function's entry, for each stretch of code. */
static bool find_delta(struct reader r, uint64_t entry, unsigned int unit, uint64_t vaddr,
		       struct elf_sp_frame *ret)
{
	uint64_t pc = entry;
	uint32_t value = UINT32_MAX; /* -1 */

	for (bool first = true; !r.failed; first = false) {
		uint32_t step = read_varint(&r);

		if (r.failed || (!step && !first))
			return false;
		value += step & 1 ? ~(step >> 1) : step >> 1;
		ret->start = pc;
		pc += (uint64_t)read_varint(&r) * unit;
		if (r.failed || vaddr >= pc)
			continue;
		ret->end = pc;
		ret->sp_below = (int32_t)value;
		return (int32_t)value >= 0;
	}
	return false;
}

static bool read_row(const struct elf_pclntab *t, uint64_t number, struct row *ret)
{
	uint8_t bytes[16];
	size_t each = t->relative ? 8 : 16;
	struct reader r = reader_init(bytes, each);

	if (number >= t->num ||
	    elf_file_read(t->f, bytes, each, t->offset + t->funcs + number * each) < 0)
		return false;
	ret->start = t->relative ? t->text + reader_u32(&r) : reader_u64(&r);
	ret->func = t->relative ? reader_u32(&r) : reader_u64(&r);
	return true;
}

/* The last function that starts at or before vaddr. */
static bool search_row(const struct elf_pclntab *t, uint64_t vaddr, struct row *ret)
{
	uint64_t low = 0, high = t->num;
	struct row row;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (!read_row(t, mid, &row))
			return false;
		if (row.start <= vaddr)
			low = mid + 1;
		else
			high = mid;
	}
	return low && read_row(t, low - 1, ret);
}

bool elf_go_frame(struct elf_file *f, uint64_t vaddr, struct elf_sp_frame *ret)
{
	uint8_t bytes[GO_PC_BYTES], func[44];
	struct elf_pclntab t;
	struct reader r;
	struct row row;
	size_t head, len;
	uint32_t pcsp;
	uint64_t at, start;

	if (!elf_file_is_go(f) || !find_pclntab(f, &t) || !search_row(&t, vaddr, &row))
		return false;
	/* struct _func: entry, nameoff, args, deferreturn, pcsp, ..., cuOffset, funcID, flag. */
	head = t.relative ? 4 : 8;
	if (row.func > t.size - t.funcs || t.size - t.funcs - row.func < sizeof(func) ||
	    elf_file_read(f, func, sizeof(func), t.offset + t.funcs + row.func) < 0)
		return false;
	r = reader_init(func + head + 12, 4);
	pcsp = reader_u32(&r);
	if (!pcsp || pcsp >= t.size - t.pctab ||
	    (func[head + 33] & GO_SP_WRITE && elf_go_root(f, vaddr, &start) != ELF_ROOT_CALLBACK))
		return false;
	at = t.pctab + pcsp;
	len = t.size - at < sizeof(bytes) ? (size_t)(t.size - at) : sizeof(bytes);
	if (elf_file_read(f, bytes, len, t.offset + at) < 0 || elf_file_changed(f))
		return false;
	return find_delta(reader_init(bytes, len), row.start, t.unit, vaddr, ret);
}

/* --- Roots --- */

static void add_root(struct elf_file *f, const char *name, size_t name_len, uint64_t start, uint64_t end)
{
	struct elf_go_root root = { start, end, (uint8_t)root_of_name(name, name_len) };

	if (root.kind == ELF_ROOT_NONE || end <= start || f->go_roots.len >= GO_MAX_ROOTS)
		return;
	/* Without memory some stack is not seen to be whole. */
	if (!vec_push(&f->go_roots, root))
		return;
}

static void roots_from_symtab(struct elf_file *f, const struct elf_section *table)
{
	_cleanup_(elf_cursor_deinit) struct elf_cursor c = { 0 };
	_cleanup_(elf_window_deinit) struct elf_window names = { 0 };
	struct elf_symbol sym;
	struct reader r;

	if (!elf_names_init(&names, f, table) || !elf_symbols_init(&c, f, table))
		return;
	while (elf_cursor_next(&c, &r)) {
		const char *name;
		size_t len;

		elf_symbol_parse(f, &r, &sym);
		if (sym.shndx == SHN_UNDEF || !elf_symbol_is_code(&sym) || !sym.size ||
		    sym.size > UINT64_MAX - sym.value)
			continue;
		name = elf_name_get(&names, sym.name, &len);
		if (name)
			add_root(f, name, len, sym.value, sym.value + sym.size);
	}
}

static void roots_from_pclntab(struct elf_file *f)
{
	_cleanup_(go_functions_deinit) struct go_functions g = { 0 };
	struct row row;
	uint64_t end;

	if (!go_functions_init(&g, f))
		return;
	while (go_functions_next(&g, &row, &end)) {
		size_t len;
		const char *name = go_name(&g.names, row.func, &len);

		if (name)
			add_root(f, name, len, row.start, end);
	}
}

static void find_roots(struct elf_file *f)
{
	const struct elf_section *table = elf_section_of_type(f, SHT_SYMTAB);

	if (table)
		roots_from_symtab(f, table);
	if (!f->go_roots.len)
		roots_from_pclntab(f);
	if (elf_file_changed(f))
		f->go_roots.len = 0;
}

enum elf_root elf_go_root(struct elf_file *f, uint64_t vaddr, uint64_t *start)
{
	if (!f->go_roots_tried) {
		f->go_roots_tried = true;
		find_roots(f);
	}
	for (size_t i = 0; i < f->go_roots.len; i++) {
		const struct elf_go_root *root = &f->go_roots.data[i];

		if (vaddr >= root->start && vaddr < root->end) {
			*start = root->start;
			return (enum elf_root)root->kind;
		}
	}
	return ELF_ROOT_NONE;
}
