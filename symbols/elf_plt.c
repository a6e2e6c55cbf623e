/* Entries of the procedure linkage table: which function does each call? */
#include "symbols/elf_file_priv.h"

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "symbols/symtab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	MAX_ENTRIES = 1 << 16,
	MAX_RELOCS = 1 << 24, /* of all sections together; the largest programs have a few million */
	MAX_ENTRY_BYTES = 32,
};

/* An entry that a question lies in. */
struct entry {
	uint64_t vaddr, size, limit;
	uint64_t slot;     /* vaddr of the GOT slot that it jumps through */
	uint64_t resolver; /* of an indirect function; 0: sym says it */
	uint32_t sym;      /* in .dynsym */
	bool filled;       /* a relocation told what is in the slot */
};

struct resolver {
	uint64_t vaddr;
	char *name; /* the best so far; NULL: none */
};

struct elf_plt {
	struct elf_file *f;
	VEC(struct entry) entries; /* sorted by slot */
	VEC(struct resolver) resolvers; /* sorted by vaddr, each once */
};

void elf_plt_free(struct elf_plt *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->resolvers.len; i++)
		free(p->resolvers.data[i].name);
	vec_deinit(&p->resolvers);
	vec_deinit(&p->entries);
	free(p);
}

static void elf_plt_freep(struct elf_plt **p)
{
	elf_plt_free(*p);
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

static bool decode_entry(const struct elf_file *f, const struct elf_section *s, struct entry *e)
{
	uint8_t code[MAX_ENTRY_BYTES];
	struct reader r = reader_init(code, e->size);

	if (elf_file_read(f, code, e->size, s->offset + (e->vaddr - s->addr)) < 0)
		return false;
	return f->machine == EM_AARCH64 ? decode_aarch64(r, e->vaddr, &e->slot)
					: decode_x86_64(r, e->vaddr, &e->slot);
}

static bool is_plt(const struct elf_section *s)
{
	return s->type == SHT_PROGBITS && s->flags & SHF_EXECINSTR &&
	       (!strcmp(s->name, ".plt") || !strcmp(s->name, ".plt.sec") ||
		!strcmp(s->name, ".plt.got") || !strcmp(s->name, ".iplt"));
}

/* False when out of memory. */
static bool add_entries(struct elf_plt *p, const struct elf_section *s,
			const struct symtab *questions, const uint64_t *vaddrs)
{
	/* Linkers say how long an entry is, or nothing where it is the usual 16. */
	uint64_t each = s->entsize >= 8 && s->entsize <= MAX_ENTRY_BYTES ? s->entsize : 16;
	uint64_t end = elf_section_end(s), last = UINT64_MAX;
	size_t to = symtab_first_at(questions, end);

	if (!end || s->offset > UINT64_MAX - s->size)
		return true;
	for (size_t i = symtab_first_at(questions, s->addr); i < to; i++) {
		uint64_t number = (vaddrs[i] - s->addr) / each;
		struct entry e = { .vaddr = s->addr + number * each, .size = each, .limit = end };

		if (number == last || end - e.vaddr < each)
			continue;
		last = number;
		if (p->entries.len >= MAX_ENTRIES)
			return true;
		if (decode_entry(p->f, s, &e) && !vec_push(&p->entries, e))
			return false;
	}
	return true;
}

static int entry_compare(const void *pa, const void *pb)
{
	const struct entry *a = pa, *b = pb;

	return a->slot < b->slot ? -1 : a->slot > b->slot;
}

/* x86-64 psABI, "Relocation types"; AAELF64, "Dynamic relocations". */
static bool fills_slot(uint16_t machine, uint32_t type, uint32_t sym, uint64_t addend,
		       struct entry *ret)
{
	const bool arm = machine == EM_AARCH64;
	const uint32_t jump_slot = arm ? R_AARCH64_JUMP_SLOT : R_X86_64_JUMP_SLOT;
	const uint32_t glob_dat = arm ? R_AARCH64_GLOB_DAT : R_X86_64_GLOB_DAT;
	const uint32_t irelative = arm ? R_AARCH64_IRELATIVE : R_X86_64_IRELATIVE;

	*ret = (struct entry){ .filled = true };
	if ((type == jump_slot || type == glob_dat) && sym)
		ret->sym = sym;
	else if (type == irelative && addend)
		ret->resolver = addend;
	else
		return false;
	return true;
}

/* The first entry that jumps through `slot` or one behind it. */
static size_t first_entry(const struct elf_plt *p, uint64_t slot)
{
	size_t low = 0, high = p->entries.len;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (p->entries.data[mid].slot < slot)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Of several fillings of one slot the one with the lowest symbol is believed, in any order. */
static void fill_entries(struct elf_plt *p, uint64_t slot, const struct entry *filling)
{
	for (size_t i = first_entry(p, slot); i < p->entries.len; i++) {
		struct entry *e = &p->entries.data[i];

		if (e->slot != slot)
			return;
		if (e->filled && e->sym <= filling->sym)
			continue;
		e->filled = true;
		e->sym = filling->sym;
		e->resolver = filling->resolver;
	}
}

/* False when out of memory. Takes what it reads off *budget. */
static bool read_relocs(struct elf_plt *p, const struct elf_section *rela, uint64_t *budget)
{
	_cleanup_(elf_cursor_deinit) struct elf_cursor c = { 0 };
	const uint64_t first = p->entries.data[0].slot;
	const uint64_t last = p->entries.data[p->entries.len - 1].slot;
	struct reader r;

	if (!elf_cursor_init(&c, p->f, rela->offset, rela->size, sizeof(Elf64_Rela), *budget))
		return false;
	*budget -= c.left;
	while (elf_cursor_next(&c, &r)) {
		uint64_t slot = reader_u64(&r), info = reader_u64(&r), addend = reader_u64(&r);
		struct entry filling;

		if (slot >= first && slot <= last &&
		    fills_slot(p->f->machine, ELF64_R_TYPE(info), (uint32_t)ELF64_R_SYM(info),
			       addend, &filling))
			fill_entries(p, slot, &filling);
	}
	return true;
}

static int resolver_compare(const void *pa, const void *pb)
{
	const struct resolver *a = pa, *b = pb;

	return a->vaddr < b->vaddr ? -1 : a->vaddr > b->vaddr;
}

/* Who is asked for: the tables of symbols tell their names while they stream past. */
static bool collect_resolvers(struct elf_plt *p)
{
	size_t num = 0;

	for (size_t i = 0; i < p->entries.len; i++) {
		struct resolver resolver = { .vaddr = p->entries.data[i].resolver };

		if (resolver.vaddr && !vec_push(&p->resolvers, resolver))
			return false;
	}
	if (!p->resolvers.len)
		return true;
	qsort(p->resolvers.data, p->resolvers.len, sizeof(struct resolver), resolver_compare);
	for (size_t i = 0; i < p->resolvers.len; i++) {
		if (!num || p->resolvers.data[num - 1].vaddr != p->resolvers.data[i].vaddr)
			p->resolvers.data[num++] = p->resolvers.data[i];
	}
	p->resolvers.len = num;
	return true;
}

int elf_plt_open(struct elf_file *f, const struct symtab *questions, const uint64_t *vaddrs,
		 struct elf_plt **ret)
{
	_cleanup_(elf_plt_freep) struct elf_plt *p = calloc(1, sizeof(*p));
	const struct elf_section *sections;
	size_t num = elf_file_sections(f, &sections);
	uint64_t budget = MAX_RELOCS;

	if (!p)
		return -ENOMEM;
	p->f = f;
	*ret = NULL;
	if (!f->is_64 || (f->machine != EM_X86_64 && f->machine != EM_AARCH64))
		return 0;
	for (size_t i = 1; i < num; i++) {
		if (is_plt(&sections[i]) && !add_entries(p, &sections[i], questions, vaddrs))
			return -ENOMEM;
	}
	if (!p->entries.len)
		return 0;
	qsort(p->entries.data, p->entries.len, sizeof(struct entry), entry_compare);
	for (size_t i = 1; i < num && budget; i++) {
		if (sections[i].type == SHT_RELA && sections[i].flags & SHF_ALLOC &&
		    !read_relocs(p, &sections[i], &budget))
			return -ENOMEM;
	}
	if (!collect_resolvers(p))
		return -ENOMEM;
	*ret = steal_ptr(p);
	return 0;
}

static struct resolver *find_resolver(const struct elf_plt *p, uint64_t vaddr)
{
	const struct resolver key = { .vaddr = vaddr };

	if (!p->resolvers.len)
		return NULL;
	return bsearch(&key, p->resolvers.data, p->resolvers.len, sizeof(key), resolver_compare);
}

bool elf_plt_wants_resolver(const struct elf_plt *p, uint64_t resolver)
{
	return find_resolver(p, resolver);
}

static bool is_better_name(const char *a, const char *b)
{
	size_t ours = strspn(a, "_"), theirs = strspn(b, "_");

	return ours != theirs ? ours < theirs : strcmp(a, b) < 0;
}

bool elf_plt_add_resolver(struct elf_plt *p, uint64_t resolver, const char *name, size_t len)
{
	struct resolver *r = find_resolver(p, resolver);
	_cleanup_free_ char *copy = strndup(name, len);

	if (!copy)
		return false;
	if (r && (!r->name || is_better_name(copy, r->name))) {
		free(r->name);
		r->name = steal_ptr(copy);
	}
	return true;
}

/* --- Offering them --- */

struct names {
	const struct elf_plt *p;
	const struct elf_section *dynsym; /* NULL: a static program */
	struct elf_window strings;
	struct strbuf text; /* the name last made */
};

static void names_deinit(struct names *n)
{
	elf_window_deinit(&n->strings);
	strbuf_deinit(&n->text);
}

static const char *symbol_name(struct names *n, uint32_t number, size_t *ret_len)
{
	const struct elf_file *f = n->p->f;
	uint8_t bytes[sizeof(Elf64_Sym)];
	struct reader r = reader_init(bytes, sizeof(bytes));
	struct elf_symbol sym;

	if (!n->dynsym || number >= n->dynsym->size / sizeof(bytes) ||
	    elf_file_read(f, bytes, sizeof(bytes), n->dynsym->offset + number * sizeof(bytes)) < 0)
		return NULL;
	elf_symbol_parse(f, &r, &sym);
	return elf_name_get(&n->strings, sym.name, ret_len);
}

/* struct symtab_namer; names are numbered as the entries are. */
static const char *entry_name(void *data, uint64_t number, size_t *ret_len)
{
	struct names *n = data;
	const struct entry *e = &n->p->entries.data[number];
	const char *name = NULL;
	size_t len = 0;

	if (e->resolver) {
		name = find_resolver(n->p, e->resolver)->name;
		len = name ? strlen(name) : 0;
	} else {
		name = symbol_name(n, e->sym, &len);
	}
	if (!name)
		return NULL;
	strbuf_clear(&n->text);
	strbuf_add(&n->text, name, len);
	strbuf_str(&n->text, "@plt");
	*ret_len = n->text.len;
	return n->text.failed ? NULL : n->text.data;
}

bool elf_plt_offer(struct elf_plt *p, struct symtab *t)
{
	_cleanup_(names_deinit) struct names names = { .p = p };
	const struct symtab_namer namer = { entry_name, &names };

	names.dynsym = elf_section_of_type(p->f, SHT_DYNSYM);
	if (names.dynsym && !elf_names_init(&names.strings, p->f, names.dynsym))
		names.dynsym = NULL;
	for (size_t i = 0; i < p->entries.len; i++) {
		const struct entry *e = &p->entries.data[i];
		const struct symtab_function function = {
			.vaddr = e->vaddr,
			.size = e->size,
			.limit = e->limit,
			.bind = SYMTAB_LOCAL,
			.name = i,
		};

		if (e->filled)
			symtab_offer(t, &function, &namer);
	}
	return !names.text.failed;
}
