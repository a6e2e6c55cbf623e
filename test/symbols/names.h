/* Names of places in an ELF file, for tests. */
#pragma once

#include "symbols/elf_file.h"
#include "symbols/symtab.h"
#include "test/check.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The function at a place, or "-"; good until asked four times more. */
__attribute__((unused)) static const char *name_and_start(struct elf_file *f, uint64_t vaddr,
							  uint64_t *ret_start)
{
	static char texts[4][512];
	static unsigned int turn;
	struct symtab *t = elf_file_resolve(f, &vaddr, 1);
	struct symtab_entry e = { .name = "-" };
	char *text = texts[turn++ % 4];

	CHECK(t);
	if (t && symtab_answer(t, 0, &e))
		*ret_start = e.start;
	snprintf(text, sizeof(texts[0]), "%s", e.name);
	symtab_free(t);
	return text;
}

__attribute__((unused)) static const char *name_of(struct elf_file *f, uint64_t vaddr)
{
	uint64_t start;

	return name_and_start(f, vaddr, &start);
}

/* Calls each(data, vaddr, entry) for every byte of code that has a name, until it says true. */
__attribute__((unused)) static bool find_code(struct elf_file *f, void *data,
					      bool (*each)(void *data, uint64_t vaddr,
							   const struct symtab_entry *e))
{
	const struct elf_load *loads;
	size_t num = elf_file_loads(f, &loads);
	bool found = false;

	for (size_t i = 0; i < num && !found; i++) {
		size_t size = loads[i].executable ? loads[i].filesz : 0;
		uint64_t *vaddrs = calloc(size + 1, sizeof(*vaddrs));
		struct symtab_entry e;
		struct symtab *t;

		for (size_t at = 0; at < size; at++)
			vaddrs[at] = loads[i].vaddr + at;
		t = elf_file_resolve(f, vaddrs, size);
		CHECK(t);
		for (size_t at = 0; t && at < size && !found; at++)
			found = symtab_answer(t, at, &e) && each(data, vaddrs[at], &e);
		symtab_free(t);
		free(vaddrs);
	}
	return found;
}

struct wanted_name {
	const char *name;
	uint64_t start;
};

__attribute__((unused)) static bool is_wanted_name(void *data, uint64_t vaddr,
						   const struct symtab_entry *e)
{
	struct wanted_name *w = data;

	(void)vaddr;
	w->start = e->start;
	return !strcmp(e->name, w->name);
}

/* Where code named so starts; 0 = nowhere. */
__attribute__((unused)) static uint64_t find_name(struct elf_file *f, const char *name)
{
	struct wanted_name w = { .name = name };

	return find_code(f, &w, is_wanted_name) ? w.start : 0;
}
