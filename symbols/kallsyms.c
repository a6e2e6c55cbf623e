#include "symbols/kallsyms.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/intern.h"
#include "base/strbuf.h"
#include "base/vec.h"

enum {
	NO_NAME = UINT32_MAX, /* not text: ends the symbol before it */
	NO_MODULE = UINT16_MAX,
	/*
	 * Nothing says where the last function of the kernel or of a module ends; beyond this
	 * distance no name is better than a wrong one.
	 */
	MAX_LAST_BYTES = 64 << 10,
};

struct sym {
	uint64_t addr;
	uint32_t name;   /* offset in names, or NO_NAME */
	uint16_t module; /* id in modules, or NO_MODULE */
	uint8_t rank;    /* among symbols of one address the lowest wins */
};

struct kallsyms {
	VEC(struct sym) syms; /* sorted by address, one per address */
	struct strbuf names;  /* NUL after each */
	struct intern *modules;
	bool hidden;
	size_t count;
};

struct line {
	uint64_t addr;
	char type;
	const char *name, *module;
	size_t name_len, module_len;
};

static int hex_digit(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "ADDR TYPE NAME" and for modules "\t[MODULE]": kernel/kallsyms.c s_show. */
static bool parse_line(const char *pos, const char *end, struct line *ret)
{
	const char *tab;
	int digits = 0, digit;

	ret->addr = 0;
	while (pos < end && (digit = hex_digit((unsigned char)*pos)) >= 0) {
		ret->addr = ret->addr << 4 | (unsigned int)digit;
		pos++;
		if (++digits > 16)
			return false;
	}
	if (!digits || end - pos < 4 || pos[0] != ' ' || pos[2] != ' ')
		return false;
	ret->type = pos[1];
	ret->name = pos + 3;
	tab = memchr(ret->name, '\t', (size_t)(end - ret->name));
	ret->name_len = (size_t)((tab ? tab : end) - ret->name);
	ret->module = NULL;
	ret->module_len = 0;
	if (tab && end - tab > 3 && tab[1] == '[' && end[-1] == ']') {
		ret->module = tab + 2;
		ret->module_len = (size_t)(end - 1 - ret->module);
	}
	return ret->name_len && !memchr(pos, '\0', (size_t)(end - pos));
}

static bool name_is(const struct line *line, const char *name)
{
	return line->name_len == strlen(name) && !memcmp(line->name, name, line->name_len);
}

static bool is_text(const struct line *line)
{
	switch (line->type) {
	case 't':
	case 'T':
	case 'w':
	case 'W':
		/* Where the kernel's text ends: arch/.../vmlinux.lds.S. */
		return !name_is(line, "_etext") && !name_is(line, "_einittext");
	default:
		return false;
	}
}

/* Global before weak before local, then fewer leading underscores. */
static uint8_t rank(const struct line *line)
{
	uint8_t base = line->type == 'T' ? 0 : line->type == 't' ? 128 : 64, underscores = 0;

	while (underscores < line->name_len && underscores < 63 && line->name[underscores] == '_')
		underscores++;
	return base + underscores;
}

static bool add_line(struct kallsyms *k, const struct line *line)
{
	struct sym sym = {
		.addr = line->addr, .name = NO_NAME, .module = NO_MODULE, .rank = UINT8_MAX
	};

	if (line->module) {
		uint32_t id = intern_id(k->modules, line->module, line->module_len);

		if (id == UINT32_MAX)
			return false;
		if (id >= NO_MODULE)
			return true;
		sym.module = (uint16_t)id;
	}
	if (is_text(line) && k->names.len + line->name_len + 1 < NO_NAME) {
		sym.name = (uint32_t)k->names.len;
		sym.rank = rank(line);
		strbuf_add(&k->names, line->name, line->name_len);
		strbuf_char(&k->names, '\0');
	}
	return !k->names.failed && vec_push(&k->syms, sym);
}

/* False when out of memory. */
static bool parse_lines(struct kallsyms *k, const char *text, size_t len)
{
	const char *end = text + len;
	size_t num_lines = 0, num_zero = 0;
	struct line line;

	for (const char *pos = text, *eol; pos < end; pos = eol + 1) {
		eol = memchr(pos, '\n', (size_t)(end - pos));
		if (!eol)
			eol = end;
		if (!parse_line(pos, eol, &line))
			continue;
		num_lines++;
		if (!line.addr)
			num_zero++;
		/* Absolute symbols are per-CPU offsets and constants. */
		else if (line.type != 'a' && line.type != 'A' && !add_line(k, &line))
			return false;
	}
	k->hidden = num_lines && num_lines == num_zero;
	return true;
}

static int compare_names(const struct kallsyms *k, const struct sym *a, const struct sym *b)
{
	if (a->name == NO_NAME || b->name == NO_NAME)
		return (a->name == NO_NAME) - (b->name == NO_NAME);
	return strcmp(k->names.data + a->name, k->names.data + b->name);
}

static int compare_addrs(const void *left, const void *right)
{
	const struct sym *a = left, *b = right;

	return a->addr < b->addr ? -1 : a->addr > b->addr;
}

/* One symbol per address, the best; and of the others only those that end a function. */
static void compact(struct kallsyms *k)
{
	size_t num = 0;

	for (size_t i = 0; i < k->syms.len; i++) {
		struct sym sym = k->syms.data[i];
		struct sym *last = num ? &k->syms.data[num - 1] : NULL;

		if (last && last->addr == sym.addr) {
			int order = (int)sym.rank - (int)last->rank;

			if (order < 0 || (order == 0 && compare_names(k, &sym, last) < 0))
				*last = sym;
			continue;
		}
		if (sym.name == NO_NAME && (!last || last->name == NO_NAME))
			continue;
		k->syms.data[num++] = sym;
	}
	k->syms.len = num;
	for (size_t i = 0; i < num; i++)
		k->count += k->syms.data[i].name != NO_NAME;
}

/* Gives back what growth took in advance: the table lives for the whole run. */
static void shrink(struct kallsyms *k)
{
	void *syms = k->syms.len ? realloc(k->syms.data, k->syms.len * sizeof(struct sym)) : NULL;
	char *names = k->names.len ? realloc(k->names.data, k->names.len + 1) : NULL;

	if (syms) {
		k->syms.data = syms;
		k->syms.cap = k->syms.len;
	}
	if (names) {
		k->names.data = names;
		k->names.cap = k->names.len + 1;
	}
}

struct kallsyms *kallsyms_parse(const char *text, size_t len)
{
	struct kallsyms *k = calloc(1, sizeof(*k));
	bool sorted = true;

	if (!k)
		return NULL;
	k->modules = intern_new();
	if (!k->modules || !parse_lines(k, text, len)) {
		kallsyms_free(k);
		return NULL;
	}
	for (size_t i = 1; i < k->syms.len && sorted; i++)
		sorted = k->syms.data[i - 1].addr <= k->syms.data[i].addr;
	if (!sorted)
		qsort(k->syms.data, k->syms.len, sizeof(struct sym), compare_addrs);
	compact(k);
	shrink(k);
	return k;
}

void kallsyms_free(struct kallsyms *k)
{
	if (!k)
		return;
	vec_deinit(&k->syms);
	strbuf_deinit(&k->names);
	intern_free(k->modules);
	free(k);
}

const char *kallsyms_find(const struct kallsyms *k, uint64_t addr, uint64_t *ret_start,
			  const char **module)
{
	size_t low = 0, high = k->syms.len;
	const struct sym *sym, *next;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (k->syms.data[mid].addr <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	if (!low)
		return NULL;
	sym = &k->syms.data[low - 1];
	next = low < k->syms.len ? &k->syms.data[low] : NULL;
	if (sym->name == NO_NAME)
		return NULL;
	if ((!next || next->module != sym->module) && addr - sym->addr >= MAX_LAST_BYTES)
		return NULL;
	*ret_start = sym->addr;
	*module = sym->module == NO_MODULE ? NULL : intern_get(k->modules, sym->module);
	return k->names.data + sym->name;
}

size_t kallsyms_count(const struct kallsyms *k)
{
	return k->count;
}

int kallsyms_hidden(const struct kallsyms *k)
{
	return k->hidden;
}
