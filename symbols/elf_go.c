/* Programs built by Go: where their goroutines and threads begin, and names out of .gopclntab. */
#include "symbols/elf_file_priv.h"

#include "base/cleanup.h"
#include "symbols/symtab.h"

#include <stdlib.h>
#include <string.h>

/*
 * Functions that no Go function calls on the same stack (golang src/runtime/asm_amd64.s). The
 * assembler's symbols end in ".abi0" in .symtab since Go 1.17, and not in .gopclntab.
 */
static bool is_root_name(const char *name)
{
	static const char *const roots[] = {
		"runtime.goexit", "runtime.mstart",      "runtime.mcall",
		"runtime.rt0_go", "runtime.systemstack", "runtime.morestack",
	};

	if (!strncmp(name, "_rt0_", 5))
		return true;
	for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++) {
		size_t len = strlen(roots[i]);

		if (!strncmp(name, roots[i], len) && (!name[len] || !strcmp(name + len, ".abi0")))
			return true;
	}
	return false;
}

bool elf_go_is_root(struct elf_file *f, uint64_t vaddr)
{
	const struct symtab *t = elf_file_symtab(f);
	struct symtab_entry entry;

	return t && symtab_find(t, vaddr, &entry) && is_root_name(entry.name);
}

/*
 * The header of .gopclntab (golang src/runtime/symtab.go, struct pcHeader;
 * src/debug/gosym/pclntab.go): magic, two zero bytes, the code's unit, the size of a pointer, and
 * then words of that size. Offsets are from the header.
 */
struct pclntab {
	const uint8_t *bytes;
	uint64_t size;
	uint64_t vaddr; /* of the header */
	bool relative;  /* since 1.18: 32-bit offsets from text */
	uint64_t text;
	uint64_t num;   /* functions */
	uint64_t names; /* offset of the names */
	uint64_t funcs; /* offset of the table */
};

enum {
	GO_MAGIC_1_16 = 0xfffffffa,
	GO_MAGIC_1_18 = 0xfffffff0,
	GO_MAGIC_1_20 = 0xfffffff1,
	GO_MAX_FUNCTIONS = 4 << 20,
};

static uint64_t text_from_relocation(struct elf_file *f, uint64_t vaddr)
{
	const struct elf_section *s = elf_file_section(f, ".rela.dyn");
	_cleanup_free_ uint8_t *bytes = NULL;
	struct reader r;

	if (!s)
		s = elf_file_section(f, ".rela");
	if (!s || s->type != SHT_RELA)
		return 0;
	bytes = elf_file_load(f, s->offset, s->size, ELF_MAX_CONTENT);
	if (!bytes)
		return 0;
	r = reader_init(bytes, s->size);
	while (reader_left(&r) >= sizeof(Elf64_Rela)) {
		uint64_t at = reader_u64(&r);

		reader_u64(&r); /* r_info: only a relative one can point here */
		if (at == vaddr)
			return reader_u64(&r);
		reader_u64(&r);
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

static bool parse_pclntab(struct elf_file *f, struct pclntab *t)
{
	struct reader r = reader_init(t->bytes, t->size);
	uint32_t magic = reader_u32(&r);
	uint16_t zero = reader_u16(&r);
	uint8_t unit = reader_u8(&r), word = reader_u8(&r);

	if (magic != GO_MAGIC_1_16 && magic != GO_MAGIC_1_18 && magic != GO_MAGIC_1_20)
		return false;
	if (zero || (unit != 1 && unit != 2 && unit != 4) || word != 8)
		return false;
	t->relative = magic != GO_MAGIC_1_16;
	t->num = reader_u64(&r);
	reader_u64(&r); /* nfiles */
	if (t->relative) {
		uint64_t at = t->vaddr + (uint64_t)(r.pos - t->bytes);

		t->text = find_text(f, reader_u64(&r), at);
	}
	t->names = reader_u64(&r);
	reader_bytes(&r, 3 * sizeof(uint64_t)); /* cuOffset, filetabOffset, pctabOffset */
	t->funcs = reader_u64(&r);
	return !r.failed && t->num && t->num <= GO_MAX_FUNCTIONS && t->names < t->size &&
	       t->funcs < t->size;
}

/* One row of the table: where the function starts, and where its struct _func is. */
static void read_row(const struct pclntab *t, struct reader *r, uint64_t *start, uint64_t *func)
{
	*start = t->relative ? t->text + reader_u32(r) : reader_u64(r);
	*func = t->relative ? reader_u32(r) : reader_u64(r);
}

/* struct _func begins with the entry (4 or 8 bytes) and the offset of the name. */
static const char *func_name(const struct pclntab *t, uint64_t func, uint64_t *budget,
			     size_t *ret_len)
{
	uint64_t skip = t->relative ? 4 : 8, at;
	struct reader r;
	uint32_t name;

	if (__builtin_add_overflow(t->funcs, func, &at) || at >= t->size)
		return NULL;
	r = reader_init(t->bytes + at, t->size - at);
	reader_bytes(&r, skip);
	name = reader_u32(&r);
	if (r.failed || name >= t->size - t->names)
		return NULL;
	/* The bytes end in a NUL of ours. Names are not shared, so all of them fit the table. */
	*ret_len = strnlen((const char *)t->bytes + t->names + name, *budget);
	*budget -= *ret_len;
	return *ret_len && *budget ? (const char *)t->bytes + t->names + name : NULL;
}

static bool add_rows(const struct pclntab *t, struct symtab_builder *b)
{
	struct reader r = reader_init(t->bytes + t->funcs, t->size - t->funcs);
	uint64_t budget = t->size * 4, start, func, next, next_func;

	read_row(t, &r, &start, &func);
	for (uint64_t i = 0; i < t->num && !r.failed; i++) {
		const char *name;
		size_t len;

		if (i + 1 < t->num) {
			read_row(t, &r, &next, &next_func);
		} else {
			next = t->relative ? t->text + reader_u32(&r) : reader_u64(&r);
			next_func = 0;
		}
		name = r.failed || next <= start ? NULL : func_name(t, func, &budget, &len);
		if (name &&
		    !symtab_builder_add(b, start, next - start, next, name, len, SYMTAB_GLOBAL))
			return false;
		start = next;
		func = next_func;
	}
	return true;
}

bool elf_go_add_functions(struct elf_file *f, struct symtab_builder *b)
{
	const struct elf_section *s = elf_file_section(f, ".gopclntab");
	_cleanup_free_ uint8_t *bytes = NULL;
	struct pclntab t = { 0 };

	if (!s)
		s = elf_file_section(f, ".data.rel.ro.gopclntab");
	if (!s || s->type == SHT_NOBITS || !f->is_64)
		return true;
	bytes = elf_file_load(f, s->offset, s->size, ELF_MAX_CONTENT);
	if (!bytes)
		return true;
	t.bytes = bytes;
	t.size = s->size;
	t.vaddr = s->addr;
	return !parse_pclntab(f, &t) || add_rows(&t, b);
}
