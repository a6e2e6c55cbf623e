#include "symbols/elf_file_priv.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "symbols/symtab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- Reading a symbol table (gABI, "Symbol Table") piece by piece --- */

struct raw_symbol {
	uint32_t name;
	uint8_t type, bind;
	uint16_t shndx;
	uint64_t value, size;
};

enum { CURSOR_BYTES = 64 << 10 };

struct cursor {
	const struct elf_file *f;
	uint64_t offset;
	uint64_t left; /* symbols not yet read */
	struct reader chunk;
	uint8_t *buf;
};

static size_t symbol_bytes(const struct elf_file *f)
{
	return f->is_64 ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym);
}

static void cursor_deinit(struct cursor *c)
{
	free(c->buf);
}

static bool cursor_init(struct cursor *c, const struct elf_file *f, const struct elf_section *table)
{
	uint64_t num = table->size / symbol_bytes(f);

	*c = (struct cursor){ .f = f, .offset = table->offset };
	c->left = num < ELF_MAX_SYMBOLS ? num : ELF_MAX_SYMBOLS;
	c->buf = malloc(CURSOR_BYTES);
	return c->buf;
}

static void parse_symbol(const struct elf_file *f, struct reader *r, struct raw_symbol *ret)
{
	uint8_t info;

	ret->name = reader_u32(r);
	if (!f->is_64) {
		ret->value = reader_u32(r);
		ret->size = reader_u32(r);
	}
	info = reader_u8(r);
	reader_u8(r); /* st_other */
	ret->shndx = reader_u16(r);
	if (f->is_64) {
		ret->value = reader_u64(r);
		ret->size = reader_u64(r);
	}
	ret->type = ELF64_ST_TYPE(info);
	ret->bind = ELF64_ST_BIND(info);
}

static bool cursor_next(struct cursor *c, struct raw_symbol *ret)
{
	size_t each = symbol_bytes(c->f);

	if (reader_left(&c->chunk) < each) {
		uint64_t num = CURSOR_BYTES / each < c->left ? CURSOR_BYTES / each : c->left;

		if (!num || elf_file_read(c->f, c->buf, num * each, c->offset) < 0)
			return false;
		c->offset += num * each;
		c->left -= num;
		c->chunk = reader_init(c->buf, num * each);
	}
	parse_symbol(c->f, &c->chunk, ret);
	return true;
}

static const struct elf_section *find_table(struct elf_file *f, uint32_t type)
{
	const struct elf_section *sections;
	size_t num = elf_file_sections(f, &sections);

	for (size_t i = 1; i < num; i++) {
		if (sections[i].type == type)
			return &sections[i];
	}
	return NULL;
}

static bool is_code(const struct raw_symbol *sym)
{
	return sym->type == STT_FUNC || sym->type == STT_GNU_IFUNC || sym->type == STT_NOTYPE;
}

static uint64_t end_in_table(struct elf_file *f, const struct elf_section *table, uint64_t vaddr)
{
	_cleanup_(cursor_deinit) struct cursor c;
	struct raw_symbol sym;
	uint64_t start = 0, ret = 0;

	if (!cursor_init(&c, f, table))
		return 0;
	while (cursor_next(&c, &sym)) {
		if (sym.shndx == SHN_UNDEF || !is_code(&sym) || vaddr < sym.value ||
		    vaddr - sym.value >= sym.size || sym.size > UINT64_MAX - sym.value)
			continue;
		if (!ret || sym.value > start) {
			start = sym.value;
			ret = sym.value + sym.size;
		}
	}
	return ret;
}

uint64_t elf_symtab_end_of(struct elf_file *f, uint64_t vaddr)
{
	const struct elf_section *table = find_table(f, SHT_SYMTAB);

	if (!table)
		table = find_table(f, SHT_DYNSYM);
	return table ? end_in_table(f, table, vaddr) : 0;
}

/* --- Collecting functions --- */

/* An indirect function: calls to it go through a PLT entry that knows its resolver only. */
struct ifunc {
	uint64_t resolver;
	size_t name; /* in ifunc_names */
};

struct gather {
	struct symtab_builder *builder;
	VEC(struct ifunc) ifuncs;
	struct strbuf ifunc_names;
	size_t added;
	bool oom;
};

static void gather_deinit(struct gather *g)
{
	symtab_builder_free(g->builder);
	vec_deinit(&g->ifuncs);
	strbuf_deinit(&g->ifunc_names);
}

static bool gather_init(struct gather *g)
{
	*g = (struct gather){ .builder = symtab_builder_new() };
	return g->builder;
}

/*
 * Strings of a symbol table. Names may share bytes in a hostile file, a megabyte name used a
 * million times say, so no more is taken out of it than `budget`: a few times what it holds.
 */
struct names {
	char *bytes; /* NUL behind the last */
	uint64_t size;
	uint64_t budget;
};

static void names_deinit(struct names *n)
{
	free(n->bytes);
}

static bool names_load(struct names *n, struct elf_file *f, const struct elf_section *table)
{
	const struct elf_section *s = elf_file_section_at(f, table->link, SHT_STRTAB);

	*n = (struct names){ 0 };
	if (!s)
		return false;
	n->bytes = elf_file_load(f, s->offset, s->size, ELF_MAX_CONTENT);
	n->size = s->size;
	n->budget = s->size * 4 + 4096;
	return n->bytes;
}

/*
 * The name, and its length without the version of a default symbol ("memcpy@@GLIBC_2.14"). NULL:
 * none.
 */
static const char *names_get(struct names *n, uint32_t at, size_t *ret_len)
{
	const char *name, *version;
	size_t len;

	if (at >= n->size)
		return NULL;
	name = n->bytes + at;
	len = strnlen(name, n->budget);
	n->budget -= len;
	if (!len || !n->budget)
		return NULL;
	version = memchr(name, '@', len);
	if (version && version > name && version[1] == '@')
		len = (size_t)(version - name);
	*ret_len = len;
	return name;
}

/*
 * $x, $d, $a, $t and $x.foo: marks of ARM toolchains, not functions (AAELF64, "Mapping symbols").
 */
static bool is_mapping_symbol(const char *name, size_t len)
{
	return len >= 2 && name[0] == '$' && strchr("xdat", name[1]) &&
	       (len == 2 || name[2] == '.');
}

static enum symtab_bind bind_of(const struct raw_symbol *sym)
{
	if (sym->bind == STB_GLOBAL || sym->bind == STB_GNU_UNIQUE)
		return SYMTAB_GLOBAL;
	return sym->bind == STB_WEAK ? SYMTAB_WEAK : SYMTAB_LOCAL;
}

/*
 * A label without a type is a function only in code, and only if somebody gave it a size or made it
 * known to others: assembly does.
 */
static bool is_wanted(const struct raw_symbol *sym, const struct elf_section *section)
{
	if (sym->shndx == SHN_UNDEF || !is_code(sym) || !sym->value)
		return false;
	if (sym->type != STT_NOTYPE)
		return true;
	return section && section->flags & SHF_EXECINSTR && (sym->size || sym->bind != STB_LOCAL);
}

static void note_ifunc(struct gather *g, uint64_t resolver, const char *name, size_t len)
{
	struct ifunc ifunc = { .resolver = resolver, .name = g->ifunc_names.len };

	strbuf_add(&g->ifunc_names, name, len);
	strbuf_char(&g->ifunc_names, '\0');
	if (g->ifunc_names.failed || !vec_push(&g->ifuncs, ifunc))
		g->oom = true;
}

static void gather_table(struct gather *g, struct elf_file *f, const struct elf_section *table)
{
	_cleanup_(cursor_deinit) struct cursor c = { 0 };
	_cleanup_(names_deinit) struct names names = { 0 };
	const struct elf_section *sections;
	size_t num_sections = elf_file_sections(f, &sections);
	struct raw_symbol sym;

	if (!names_load(&names, f, table) || !cursor_init(&c, f, table))
		return;
	while (!g->oom && cursor_next(&c, &sym)) {
		const struct elf_section *section =
			sym.shndx < num_sections ? &sections[sym.shndx] : NULL;
		const char *name;
		size_t len;

		if (!is_wanted(&sym, section))
			continue;
		name = names_get(&names, sym.name, &len);
		if (!name || (len >= 2 && name[0] == '.' && name[1] == 'L') ||
		    (sym.type == STT_NOTYPE && is_mapping_symbol(name, len)))
			continue;
		if (!symtab_builder_add(g->builder, sym.value, sym.size,
					section ? elf_section_end(section) : 0, name, len,
					bind_of(&sym)))
			g->oom = true;
		else
			g->added++;
		if (sym.type == STT_GNU_IFUNC)
			note_ifunc(g, sym.value, name, len);
	}
}

/* .gnu_debugdata: the .symtab of a stripped file, packed (GDB manual, "MiniDebugInfo"). */
static void gather_debugdata(struct gather *g, struct elf_file *f)
{
	const struct elf_section *s = elf_file_section(f, ".gnu_debugdata");
	const struct elf_section *table;
	_cleanup_free_ uint8_t *bytes = NULL;
	struct elf_file *inner;
	size_t size = 0;

	if (!s || s->type == SHT_NOBITS)
		return;
	bytes = elf_unpack_xz(f, s->offset, s->size, &size);
	if (!bytes || elf_file_open_memory(bytes, size, &inner, NULL) < 0)
		return;
	table = find_table(inner, SHT_SYMTAB);
	if (table)
		gather_table(g, inner, table);
	elf_file_free(inner);
}

static void gather_functions(struct gather *g, struct elf_file *f)
{
	const struct elf_section *table = find_table(f, SHT_SYMTAB);

	if (table)
		gather_table(g, f, table);
	if (g->added || g->oom)
		return;
	table = find_table(f, SHT_DYNSYM);
	if (table)
		gather_table(g, f, table);
	gather_debugdata(g, f);
	if (elf_file_is_go(f) && !elf_go_add_functions(f, g->builder))
		g->oom = true;
}

/* --- PLT entries --- */

/* What fills a slot of the GOT. */
struct slot {
	uint64_t vaddr;
	uint64_t resolver; /* of an indirect function; 0: sym says it */
	uint32_t sym;      /* in .dynsym */
};

struct plt {
	struct elf_file *f;
	struct gather *g;
	VEC(struct slot) slots; /* sorted by vaddr */
	const struct elf_section *dynsym;
	struct names names;
};

static void plt_deinit(struct plt *p)
{
	vec_deinit(&p->slots);
	names_deinit(&p->names);
}

/* x86-64 psABI, "Relocation types"; AAELF64, "Dynamic relocations". */
static bool slot_from(uint16_t machine, uint32_t type, uint32_t sym, uint64_t addend,
		      struct slot *ret)
{
	const bool arm = machine == EM_AARCH64;
	const uint32_t jump_slot = arm ? R_AARCH64_JUMP_SLOT : R_X86_64_JUMP_SLOT;
	const uint32_t glob_dat = arm ? R_AARCH64_GLOB_DAT : R_X86_64_GLOB_DAT;
	const uint32_t irelative = arm ? R_AARCH64_IRELATIVE : R_X86_64_IRELATIVE;

	if ((type == jump_slot || type == glob_dat) && sym)
		ret->sym = sym;
	else if (type == irelative && addend)
		ret->resolver = addend;
	else
		return false;
	return true;
}

static void plt_add_relocs(struct plt *p, const struct elf_section *rela)
{
	enum { EACH = sizeof(Elf64_Rela), CHUNK = EACH * 2048 };
	_cleanup_free_ uint8_t *buf = malloc(CHUNK);
	uint64_t left = rela->size / EACH, offset = rela->offset;

	while (buf && left && p->slots.len < ELF_MAX_SYMBOLS) {
		size_t bytes = left < CHUNK / EACH ? left * EACH : CHUNK;
		struct reader r = reader_init(buf, bytes);

		if (elf_file_read(p->f, buf, bytes, offset) < 0)
			return;
		while (reader_left(&r)) {
			struct slot slot = { .vaddr = reader_u64(&r) };
			uint64_t info = reader_u64(&r);
			uint64_t addend = reader_u64(&r);

			if (slot_from(p->f->machine, ELF64_R_TYPE(info),
				      (uint32_t)ELF64_R_SYM(info), addend, &slot) &&
			    !vec_push(&p->slots, slot))
				p->g->oom = true;
		}
		offset += bytes;
		left -= bytes / EACH;
	}
}

static int slot_compare(const void *pa, const void *pb)
{
	const struct slot *a = pa, *b = pb;

	if (a->vaddr != b->vaddr)
		return a->vaddr < b->vaddr ? -1 : 1;
	return a->sym < b->sym ? -1 : a->sym > b->sym;
}

static const struct slot *plt_slot(const struct plt *p, uint64_t vaddr)
{
	size_t low = 0, high = p->slots.len;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (p->slots.data[mid].vaddr < vaddr)
			low = mid + 1;
		else
			high = mid;
	}
	return low < p->slots.len && p->slots.data[low].vaddr == vaddr ? &p->slots.data[low] : NULL;
}

static unsigned int leading_underscores(const char *name)
{
	return (unsigned int)strspn(name, "_");
}

static const char *ifunc_name(const struct gather *g, uint64_t resolver)
{
	const char *best = NULL;

	for (size_t i = 0; i < g->ifuncs.len; i++) {
		const char *name = g->ifunc_names.data + g->ifuncs.data[i].name;
		unsigned int ours = leading_underscores(name);
		unsigned int theirs = best ? leading_underscores(best) : 0;

		if (g->ifuncs.data[i].resolver != resolver)
			continue;
		if (!best || ours < theirs || (ours == theirs && strcmp(name, best) < 0))
			best = name;
	}
	return best;
}

static const char *slot_name(struct plt *p, const struct slot *slot, size_t *ret_len)
{
	uint8_t bytes[sizeof(Elf64_Sym)];
	struct reader r = reader_init(bytes, sizeof(bytes));
	struct raw_symbol sym;
	const char *name;

	if (slot->resolver) {
		name = ifunc_name(p->g, slot->resolver);
		*ret_len = name ? strlen(name) : 0;
		return name;
	}
	if (slot->sym >= p->dynsym->size / sizeof(bytes) ||
	    elf_file_read(p->f, bytes, sizeof(bytes),
			  p->dynsym->offset + slot->sym * sizeof(bytes)) < 0)
		return NULL;
	parse_symbol(p->f, &r, &sym);
	return names_get(&p->names, sym.name, ret_len);
}

/* [endbr64] [bnd] jmp *rel32(%rip): the GOT slot an entry jumps through. */
static bool decode_x86_64(struct reader r, uint64_t vaddr, uint64_t *ret)
{
	static const uint8_t endbr64[] = { 0xf3, 0x0f, 0x1e, 0xfa };
	const uint8_t *start = r.pos;
	int32_t rel;

	if (reader_left(&r) >= sizeof(endbr64) && !memcmp(r.pos, endbr64, sizeof(endbr64)))
		r.pos += sizeof(endbr64);
	if (reader_left(&r) && *r.pos == 0xf2)
		r.pos++;
	if (reader_u8(&r) != 0xff || reader_u8(&r) != 0x25)
		return false;
	rel = (int32_t)reader_u32(&r);
	*ret = vaddr + (uint64_t)(r.pos - start) + (uint64_t)(int64_t)rel;
	return !r.failed;
}

/* [bti c] adrp x16, page; ldr x17, [x16, #offset] (Arm A-profile instruction set). */
static bool decode_aarch64(struct reader r, uint64_t vaddr, uint64_t *ret)
{
	const uint32_t bti_c = 0xd503245f;
	uint32_t adrp = reader_u32(&r), ldr;
	uint64_t pages;

	if (adrp == bti_c) {
		adrp = reader_u32(&r);
		vaddr += 4;
	}
	ldr = reader_u32(&r);
	if (r.failed || (adrp & 0x9f00001f) != 0x90000010 || (ldr & 0xffc003ff) != 0xf9400211)
		return false;
	pages = (uint64_t)(adrp >> 5 & 0x7ffff) << 2 | (adrp >> 29 & 3);
	pages = (uint64_t)((int64_t)(pages << 43) >> 43); /* 21 bits, signed */
	*ret = (vaddr & ~(uint64_t)0xfff) + (pages << 12) + (uint64_t)(ldr >> 10 & 0xfff) * 8;
	return true;
}

/* Adds `NAME@plt` for the entry at `vaddr`. */
static void plt_add_entry(struct plt *p, uint64_t vaddr, uint64_t each, uint64_t end,
			  struct reader code)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	const struct slot *slot;
	const char *name;
	uint64_t at;
	size_t len;

	if (p->f->machine == EM_AARCH64 ? !decode_aarch64(code, vaddr, &at)
					: !decode_x86_64(code, vaddr, &at))
		return;
	slot = plt_slot(p, at);
	name = slot ? slot_name(p, slot, &len) : NULL;
	if (!name)
		return;
	strbuf_add(&text, name, len);
	strbuf_str(&text, "@plt");
	if (text.failed ||
	    !symtab_builder_add(p->g->builder, vaddr, each, end, text.data, text.len, SYMTAB_LOCAL))
		p->g->oom = true;
	else
		p->g->added++;
}

static void plt_add_section(struct plt *p, const struct elf_section *s)
{
	enum { MAX_PLT = 16 << 20 };
	/* Linkers say how long an entry is, or nothing where it is the usual 16. */
	uint64_t each = s->entsize >= 8 && s->entsize <= 32 ? s->entsize : 16;
	_cleanup_free_ uint8_t *code = elf_file_load(p->f, s->offset, s->size, MAX_PLT);
	uint64_t end = elf_section_end(s);

	if (!code || !end)
		return;
	for (uint64_t at = 0; !p->g->oom && s->size - at >= each; at += each)
		plt_add_entry(p, s->addr + at, each, end, reader_init(code + at, each));
}

static bool is_plt(const struct elf_section *s)
{
	return s->type == SHT_PROGBITS && s->flags & SHF_EXECINSTR &&
	       (!strcmp(s->name, ".plt") || !strcmp(s->name, ".plt.sec") ||
		!strcmp(s->name, ".plt.got") || !strcmp(s->name, ".iplt"));
}

static void gather_plt(struct gather *g, struct elf_file *f)
{
	_cleanup_(plt_deinit) struct plt p = { .f = f, .g = g };
	static const struct elf_section no_dynsym = { .name = "" };
	const struct elf_section *sections;
	size_t num = elf_file_sections(f, &sections);

	if (!f->is_64 || (f->machine != EM_X86_64 && f->machine != EM_AARCH64))
		return;
	/* A static program has indirect functions but no dynamic symbols. */
	p.dynsym = find_table(f, SHT_DYNSYM);
	if (!p.dynsym || !names_load(&p.names, f, p.dynsym))
		p.dynsym = &no_dynsym;
	for (size_t i = 1; i < num; i++) {
		if (sections[i].type == SHT_RELA && sections[i].flags & SHF_ALLOC)
			plt_add_relocs(&p, &sections[i]);
	}
	if (p.slots.len)
		qsort(p.slots.data, p.slots.len, sizeof(*p.slots.data), slot_compare);
	for (size_t i = 1; p.slots.len && i < num; i++) {
		if (is_plt(&sections[i]))
			plt_add_section(&p, &sections[i]);
	}
}

/* --- The table --- */

static struct symtab *gather_finish(struct gather *g)
{
	struct symtab *t = g->oom ? NULL : symtab_builder_finish(steal_ptr(g->builder));

	if (symtab_count(t))
		return t;
	symtab_free(t);
	return NULL;
}

const struct symtab *elf_file_symtab(struct elf_file *f)
{
	_cleanup_(gather_deinit) struct gather g = { 0 };

	if (f->symtab_tried)
		return f->symtab;
	f->symtab_tried = true;
	if (!gather_init(&g))
		return NULL;
	gather_functions(&g, f);
	if (!g.oom)
		gather_plt(&g, f);
	if (!elf_file_changed(f))
		f->symtab = gather_finish(&g);
	return f->symtab;
}

static int add_debug(struct elf_file *f, struct elf_file *debug, struct err *err)
{
	_cleanup_(gather_deinit) struct gather g = { 0 };
	const struct elf_section *table;
	struct symtab *symtab;

	if (f->has_debug)
		return err_set(err, EALREADY, "the file has a debug file already");
	if (!elf_file_matches_debug(f, debug))
		return err_set(err, ESTALE, "the debug file belongs to another build");
	table = find_table(debug, SHT_SYMTAB);
	if (!table)
		return err_set(err, ENODATA, "the debug file has no symbols");
	if (!gather_init(&g))
		return err_oom(err);
	gather_table(&g, debug, table);
	if (!g.added || elf_file_changed(debug))
		return err_set(err, ENODATA, "the debug file has no symbols");
	gather_plt(&g, f);
	symtab = gather_finish(&g);
	if (!symtab)
		return err_oom(err);
	f->has_debug = true;
	f->old_symtab = f->symtab;
	f->symtab = symtab;
	f->symtab_tried = true;
	return 0;
}

int elf_file_add_debug(struct elf_file *f, struct elf_file *debug, struct err *err)
{
	int r = add_debug(f, debug, err);

	elf_file_free(debug);
	return r;
}
