/* Names out of symbol tables, which are read in pieces and never kept. */
#include "symbols/elf_file_priv.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "symbols/symtab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- Symbols (gABI, "Symbol Table") --- */

static size_t elf_symbol_bytes(const struct elf_file *f)
{
	return f->is_64 ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym);
}

void elf_symbol_parse(const struct elf_file *f, struct reader *r, struct elf_symbol *ret)
{
	Elf64_Sym sym = { 0 };
	const void *bytes;

	if (f->is_64) {
		bytes = reader_bytes(r, sizeof(sym));
		if (bytes)
			memcpy(&sym, bytes, sizeof(sym));
	} else {
		sym.st_name = reader_u32(r);
		sym.st_value = reader_u32(r);
		sym.st_size = reader_u32(r);
		sym.st_info = reader_u8(r);
		sym.st_other = reader_u8(r);
		sym.st_shndx = reader_u16(r);
	}
	*ret = (struct elf_symbol){
		.name = sym.st_name,
		.value = sym.st_value,
		.size = sym.st_size,
		.shndx = sym.st_shndx,
		.type = ELF64_ST_TYPE(sym.st_info),
		.bind = ELF64_ST_BIND(sym.st_info),
	};
}

bool elf_symbol_is_code(const struct elf_symbol *sym)
{
	return sym->type == STT_FUNC || sym->type == STT_GNU_IFUNC || sym->type == STT_NOTYPE;
}

const struct elf_section *elf_section_of_type(struct elf_file *f, uint32_t type)
{
	const struct elf_section *sections;
	size_t num = elf_file_sections(f, &sections);

	for (size_t i = 1; i < num; i++) {
		if (sections[i].type == type)
			return &sections[i];
	}
	return NULL;
}

bool elf_symbols_init(struct elf_cursor *c, const struct elf_file *f,
		      const struct elf_section *table)
{
	return elf_cursor_init(c, f, table->offset, table->size, elf_symbol_bytes(f),
			       ELF_MAX_SYMBOLS);
}

bool elf_names_init(struct elf_window *names, struct elf_file *f, const struct elf_section *table)
{
	const struct elf_section *strings = elf_file_section_at(f, table->link, SHT_STRTAB);

	*names = (struct elf_window){ 0 };
	return strings && elf_window_init(names, f, strings->offset, strings->size);
}

const char *elf_name_get(struct elf_window *names, uint32_t at, size_t *ret_len)
{
	const char *name = elf_window_string(names, at, ret_len), *version;

	if (!name)
		return NULL;
	version = memchr(name, '@', *ret_len);
	if (version && version > name && (size_t)(version - name) + 1 < *ret_len &&
	    version[1] == '@')
		*ret_len = (size_t)(version - name);
	return name;
}

static uint64_t end_in_table(struct elf_file *f, const struct elf_section *table, uint64_t vaddr)
{
	_cleanup_(elf_cursor_deinit) struct elf_cursor c = { 0 };
	uint64_t start = 0, ret = 0;
	struct elf_symbol sym;
	struct reader r;

	if (!elf_symbols_init(&c, f, table))
		return 0;
	while (elf_cursor_next(&c, &r)) {
		elf_symbol_parse(f, &r, &sym);
		if (sym.shndx == SHN_UNDEF || !elf_symbol_is_code(&sym) || vaddr < sym.value ||
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
	const struct elf_section *table = elf_section_of_type(f, SHT_SYMTAB);

	if (!table)
		table = elf_section_of_type(f, SHT_DYNSYM);
	return table ? end_in_table(f, table, vaddr) : 0;
}

/* --- Offering functions --- */

/* In symtab_function.name, beside st_name. */
static const uint64_t NAME_OF_LABEL = UINT64_C(1) << 32;

/*
 * $x, $d, $a, $t and $x.foo: marks of ARM toolchains, not functions (AAELF64, "Mapping symbols").
 */
static bool is_mapping_symbol(const char *name, size_t len)
{
	return len >= 2 && name[0] == '$' && strchr("xdat", name[1]) &&
	       (len == 2 || name[2] == '.');
}

/* struct symtab_namer */
static const char *function_name(void *data, uint64_t at, size_t *ret_len)
{
	const char *name = elf_name_get(data, (uint32_t)at, ret_len);

	if (!name || (*ret_len >= 2 && name[0] == '.' && name[1] == 'L'))
		return NULL;
	return at & NAME_OF_LABEL && is_mapping_symbol(name, *ret_len) ? NULL : name;
}

static enum symtab_bind bind_of(const struct elf_symbol *sym)
{
	if (sym->bind == STB_GLOBAL || sym->bind == STB_GNU_UNIQUE)
		return SYMTAB_GLOBAL;
	return sym->bind == STB_WEAK ? SYMTAB_WEAK : SYMTAB_LOCAL;
}

/*
 * A label without a type is a function only in code, and only if somebody gave it a size or made it
 * known to others, as assembly does, or if the program begins there: the loader's _start.
 */
static bool is_wanted(const struct elf_file *f, const struct elf_symbol *sym,
		      const struct elf_section *section)
{
	if (sym->shndx == SHN_UNDEF || !elf_symbol_is_code(sym) || !sym->value || !sym->name)
		return false;
	if (sym->type != STT_NOTYPE)
		return true;
	return section && section->flags & SHF_EXECINSTR &&
	       (sym->size || sym->bind != STB_LOCAL || sym->value == f->entry);
}

/* Where the answers go. */
struct pass {
	struct symtab *t;
	struct elf_plt *plt; /* NULL: no question lies in one */
	bool oom;
};

static void note_ifunc(struct pass *pass, struct elf_window *names, const struct elf_symbol *sym)
{
	const char *name;
	size_t len;

	if (!pass->plt || !elf_plt_wants_resolver(pass->plt, sym->value))
		return;
	name = function_name(names, sym->name, &len);
	if (name && !elf_plt_add_resolver(pass->plt, sym->value, name, len))
		pass->oom = true;
}

/* False when the table has no function. */
static bool offer_table(struct pass *pass, struct elf_file *f, const struct elf_section *table)
{
	_cleanup_(elf_cursor_deinit) struct elf_cursor c = { 0 };
	_cleanup_(elf_window_deinit) struct elf_window names = { 0 };
	const struct symtab_namer namer = { function_name, &names };
	const struct elf_section *sections;
	size_t num_sections = elf_file_sections(f, &sections);
	struct elf_symbol sym;
	bool found = false;
	struct reader r;

	if (!table || !elf_names_init(&names, f, table) || !elf_symbols_init(&c, f, table))
		return false;
	while (!pass->oom && elf_cursor_next(&c, &r)) {
		const struct elf_section *section;
		struct symtab_function function;

		elf_symbol_parse(f, &r, &sym);
		section = sym.shndx < num_sections ? &sections[sym.shndx] : NULL;
		if (!is_wanted(f, &sym, section))
			continue;
		found = true;
		function = (struct symtab_function){
			.vaddr = sym.value,
			.size = sym.size,
			.limit = section ? elf_section_end(section) : 0,
			.bind = bind_of(&sym),
			.name = sym.name | (sym.type == STT_NOTYPE ? NAME_OF_LABEL : 0),
		};
		symtab_offer(pass->t, &function, &namer);
		if (sym.type == STT_GNU_IFUNC)
			note_ifunc(pass, &names, &sym);
	}
	return found;
}

/* .gnu_debugdata: the .symtab of a stripped file, packed (GDB manual, "MiniDebugInfo"). */
static void offer_debugdata(struct pass *pass, struct elf_file *f)
{
	const struct elf_section *s = elf_file_section(f, ".gnu_debugdata");
	_cleanup_free_ uint8_t *bytes = NULL;
	struct elf_file *inner;
	size_t size = 0;

	if (!s || s->type == SHT_NOBITS)
		return;
	bytes = elf_unpack_xz(f, s->offset, s->size, &size);
	if (!bytes || elf_file_open_memory(bytes, size, &inner, NULL) < 0)
		return;
	offer_table(pass, inner, elf_section_of_type(inner, SHT_SYMTAB));
	elf_file_free(inner);
}

static void offer_functions(struct pass *pass, struct elf_file *f)
{
	if (f->debug) {
		offer_table(pass, f->debug, elf_section_of_type(f->debug, SHT_SYMTAB));
		return;
	}
	if (offer_table(pass, f, elf_section_of_type(f, SHT_SYMTAB)))
		return;
	offer_table(pass, f, elf_section_of_type(f, SHT_DYNSYM));
	offer_debugdata(pass, f);
	if (elf_file_is_go(f))
		elf_go_offer_functions(f, pass->t);
}

static bool ask_tables(struct elf_file *f, struct symtab *t, const uint64_t *vaddrs)
{
	struct pass pass = { .t = t };

	if (elf_plt_open(f, t, vaddrs, &pass.plt) < 0)
		return false;
	offer_functions(&pass, f);
	if (pass.plt && !elf_plt_offer(pass.plt, t))
		pass.oom = true;
	elf_plt_free(pass.plt);
	return !pass.oom && symtab_finish(t);
}

struct symtab *elf_file_resolve(struct elf_file *f, const uint64_t *vaddrs, size_t num)
{
	struct symtab *t = symtab_new(vaddrs, num);

	if (!t)
		return NULL;
	if (num && !ask_tables(f, t, vaddrs)) {
		symtab_free(t);
		return NULL;
	}
	if (!elf_file_changed(f) && !(f->debug && elf_file_changed(f->debug)))
		return t;
	symtab_free(t);
	return symtab_new(vaddrs, num); /* has no answers */
}

/* --- Separate debug files --- */

static bool names_something(struct elf_file *debug)
{
	const struct elf_section *table = elf_section_of_type(debug, SHT_SYMTAB), *sections;
	_cleanup_(elf_cursor_deinit) struct elf_cursor c = { 0 };
	_cleanup_(elf_window_deinit) struct elf_window names = { 0 };
	size_t num_sections = elf_file_sections(debug, &sections), len;
	struct elf_symbol sym;
	struct reader r;

	if (!table || !elf_names_init(&names, debug, table) || !elf_symbols_init(&c, debug, table))
		return false;
	while (elf_cursor_next(&c, &r)) {
		elf_symbol_parse(debug, &r, &sym);
		if (is_wanted(debug, &sym, sym.shndx < num_sections ? &sections[sym.shndx] : NULL) &&
		    elf_name_get(&names, sym.name, &len))
			return !elf_file_changed(debug);
	}
	return false;
}

static int check_debug(struct elf_file *f, struct elf_file *debug, struct err *err)
{
	if (f->debug)
		return err_set(err, EALREADY, "the file has a debug file already");
	if (!elf_file_matches_debug(f, debug))
		return err_set(err, ESTALE, "the debug file belongs to another build");
	if (!names_something(debug))
		return err_set(err, ENODATA, "the debug file has no symbols");
	return 0;
}

int elf_file_add_debug(struct elf_file *f, struct elf_file *debug, struct err *err)
{
	int r = check_debug(f, debug, err);

	if (r < 0)
		elf_file_free(debug);
	else
		f->debug = debug;
	return r;
}
