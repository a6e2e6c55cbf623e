#include "symbols/kallsyms.h"

#include "base/intern.h"
#include "base/strbuf.h"

#include <stdlib.h>
#include <string.h>

enum {
	NO_MODULE = UINT32_MAX,
	/*
	 * Nothing says where the last function of the kernel or of a module ends; beyond this
	 * distance no name is better than a wrong one.
	 */
	MAX_LAST_BYTES = 64 << 10,
	/* Where so many lines have no address, none has: they are hidden from this process. */
	HIDDEN_LINES = 2000,
	/* Names are shorter than 512 bytes (KSYM_NAME_LEN, include/linux/kallsyms.h). */
	MAX_LINE = 1024,
	NO_RANK = UINT8_MAX, /* of what is not text, which ends the symbol before it */
};

/* Where the kernel's half of the address space begins, on every 64-bit machine. */
static const uint64_t kernel_half = UINT64_C(1) << 63;

/* A line as an answer. */
struct symbol_line {
	uint64_t addr;
	uint32_t module; /* id in modules, or NO_MODULE */
	uint8_t rank;    /* among symbols of one address the lowest wins */
	bool any;
};

/* What lies between two questions. */
struct slot {
	struct symbol_line last; /* behind the question before, at or before this one */
	struct strbuf name;      /* of `last` */
	struct symbol_line next; /* behind this question, before or at the next */
	size_t answer;           /* the slot whose `last` is the last before this question */
};

struct kallsyms {
	const uint64_t *addrs;
	size_t num;
	struct slot *slots;
	struct intern *modules;
	uint32_t module; /* the last one met: a module's symbols follow each other */
	size_t num_lines, num_zero;
	/*
	 * The kernel's own symbols come first, in order; the modules follow in any. Once the first
	 * and the last question both lie between symbols of the kernel, so do all.
	 */
	uint64_t first_addr, last_addr;
	bool unordered; /* a line came before its predecessor, or belongs to a module */
	bool enough;
	bool oom;
	char partial[MAX_LINE]; /* a line of which the end is in the next piece */
	size_t partial_len;
	bool skipping; /* it is too long to be one */
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

const char *kallsyms_address(const char *line, const char *end, uint64_t *ret)
{
	const char *pos = line;
	int digit;

	*ret = 0;
	while (pos < end && (digit = hex_digit((unsigned char)*pos)) >= 0) {
		*ret = *ret << 4 | (unsigned int)digit;
		if (++pos - line > 16)
			return NULL;
	}
	return pos > line ? pos : NULL;
}

/* "ADDR TYPE NAME" and for modules "\t[MODULE]": kernel/kallsyms.c s_show. */
static bool parse_line(const char *pos, const char *end, struct line *ret)
{
	const char *tab;

	pos = kallsyms_address(pos, end, &ret->addr);
	if (!pos || end - pos < 4 || pos[0] != ' ' || pos[2] != ' ')
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

static size_t first_at(const struct kallsyms *k, uint64_t addr)
{
	size_t low = 0, high = k->num;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (k->addrs[mid] < addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Negative: the line is better than what the slot has. */
static int compare_last(const struct slot *slot, const struct symbol_line *sym,
			const struct line *line)
{
	int order;

	if (!slot->last.any || sym->addr != slot->last.addr)
		return slot->last.any && sym->addr < slot->last.addr ? 1 : -1;
	if (sym->rank != slot->last.rank || sym->rank == NO_RANK)
		return (int)sym->rank - (int)slot->last.rank;
	order = strncmp(line->name, slot->name.data, line->name_len);
	return order ? order : -(int)(slot->name.data[line->name_len] != 0);
}

static void offer_last(struct kallsyms *k, struct slot *slot, const struct symbol_line *sym,
		       const struct line *line)
{
	if (compare_last(slot, sym, line) >= 0)
		return;
	slot->last = *sym;
	strbuf_clear(&slot->name);
	if (sym->rank != NO_RANK)
		strbuf_add(&slot->name, line->name, line->name_len);
	k->oom |= slot->name.failed;
}

static void offer_next(struct slot *slot, const struct symbol_line *sym)
{
	if (!slot->next.any || sym->addr < slot->next.addr ||
	    (sym->addr == slot->next.addr && sym->rank < slot->next.rank))
		slot->next = *sym;
}

static uint32_t module_id(struct kallsyms *k, const struct line *line)
{
	const char *last = k->module == NO_MODULE ? NULL : intern_get(k->modules, k->module);

	if (!line->module)
		return NO_MODULE;
	if (!last || strncmp(last, line->module, line->module_len) || last[line->module_len]) {
		k->module = intern_id(k->modules, line->module, line->module_len);
		k->oom |= k->module == UINT32_MAX;
	}
	return k->module;
}

/* Absolute symbols are per-CPU offsets and constants. */
static bool is_absolute(const struct line *line)
{
	return line->type == 'a' || line->type == 'A';
}

static void note_order(struct kallsyms *k, const struct line *line)
{
	if (line->module || line->addr < k->last_addr)
		k->unordered = true;
	k->last_addr = line->addr;
	if (!k->first_addr && line->addr >= kernel_half)
		k->first_addr = line->addr;
	k->enough = !k->unordered && k->first_addr && k->num && k->first_addr <= k->addrs[0] &&
		    line->addr > k->addrs[k->num - 1];
}

static void take_symbol(struct kallsyms *k, const struct line *line)
{
	struct symbol_line sym = { .addr = line->addr, .any = true };
	size_t at = first_at(k, line->addr);

	sym.rank = is_text(line) ? rank(line) : NO_RANK;
	sym.module = module_id(k, line);
	if (at < k->num)
		offer_last(k, &k->slots[at], &sym, line);
	/* All equal questions: the last of those before the symbol. */
	if (at > 0)
		offer_next(&k->slots[at - 1], &sym);
	note_order(k, line);
}

static void take_line(struct kallsyms *k, const char *text, size_t len)
{
	struct line line;

	if (!parse_line(text, text + len, &line))
		return;
	k->num_lines++;
	if (!line.addr)
		k->num_zero++;
	else if (!is_absolute(&line))
		take_symbol(k, &line);
	if (k->num_zero >= HIDDEN_LINES && k->num_zero == k->num_lines)
		k->enough = true;
}

/* The rest of a line that began in the piece before. Returns how much of the text that was. */
static size_t take_rest(struct kallsyms *k, const char *text, size_t len)
{
	const char *eol = memchr(text, '\n', len);
	size_t part = eol ? (size_t)(eol - text) : len;

	if (part > sizeof(k->partial) - k->partial_len)
		k->skipping = true;
	if (!k->skipping) {
		memcpy(k->partial + k->partial_len, text, part);
		k->partial_len += part;
	}
	if (!eol)
		return len;
	if (!k->skipping)
		take_line(k, k->partial, k->partial_len);
	k->partial_len = 0;
	k->skipping = false;
	return part + 1;
}

bool kallsyms_feed(struct kallsyms *k, const char *text, size_t len)
{
	const char *pos = text, *end = text + len;

	if (len && (k->partial_len || k->skipping))
		pos += take_rest(k, text, len);
	while (pos < end && !k->enough && !k->oom) {
		const char *eol = memchr(pos, '\n', (size_t)(end - pos));

		if (!eol) {
			take_rest(k, pos, (size_t)(end - pos));
			break;
		}
		take_line(k, pos, (size_t)(eol - pos));
		pos = eol + 1;
	}
	return !k->enough && !k->oom;
}

/* What is before a question is before the next one too; what is behind it, behind the one before. */
static void spread(struct kallsyms *k)
{
	struct symbol_line next = { 0 };

	for (size_t i = 0; i < k->num; i++)
		k->slots[i].answer = i && !k->slots[i].last.any ? k->slots[i - 1].answer : i;
	for (size_t i = k->num; i > 0; i--) {
		struct slot *slot = &k->slots[i - 1];

		if (slot->next.any)
			next = slot->next;
		else
			slot->next = next;
	}
}

bool kallsyms_finish(struct kallsyms *k)
{
	if (k->partial_len && !k->skipping && !k->enough && !k->oom)
		take_line(k, k->partial, k->partial_len);
	spread(k);
	return !k->oom;
}

bool kallsyms_answer(const struct kallsyms *k, size_t at, struct kallsyms_entry *ret)
{
	const struct symbol_line *next = &k->slots[at].next;
	const struct slot *slot = &k->slots[k->slots[at].answer];
	const struct symbol_line *last = &slot->last;

	if (!last->any || last->rank == NO_RANK)
		return false;
	if ((!next->any || next->module != last->module) &&
	    k->addrs[at] - last->addr >= MAX_LAST_BYTES)
		return false;
	*ret = (struct kallsyms_entry){ .start = last->addr, .name = slot->name.data };
	if (last->module != NO_MODULE)
		ret->module = intern_get(k->modules, last->module);
	return true;
}

bool kallsyms_hidden(const struct kallsyms *k)
{
	return k->num_lines && k->num_lines == k->num_zero;
}

struct kallsyms *kallsyms_new(const uint64_t *addrs, size_t num)
{
	struct kallsyms *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->addrs = addrs;
	k->num = num;
	k->module = NO_MODULE;
	k->modules = intern_new();
	k->slots = calloc(num ? num : 1, sizeof(*k->slots));
	if (k->modules && k->slots)
		return k;
	kallsyms_free(k);
	return NULL;
}

void kallsyms_free(struct kallsyms *k)
{
	if (!k)
		return;
	for (size_t i = 0; k->slots && i < k->num; i++)
		strbuf_deinit(&k->slots[i].name);
	free(k->slots);
	intern_free(k->modules);
	free(k);
}
