/* An immutable table of functions by vaddr. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct symtab;

struct symtab_entry {
	uint64_t start; /* vaddr */
	uint64_t end;   /* exclusive; without a size it is the next symbol or the section's end */
	const char *name; /* raw (mangled); borrowed from the table */
};

/* The function that holds vaddr, never a neighbour: false in gaps. */
bool symtab_find(const struct symtab *t, uint64_t vaddr, struct symtab_entry *ret);
size_t symtab_count(const struct symtab *t);

/*
 * Builder. On equal ranges a global symbol wins over weak over local, then fewer leading
 * underscores, then the name in byte order: stable whatever the order in the file.
 */
struct symtab_builder;
enum symtab_bind { SYMTAB_GLOBAL, SYMTAB_WEAK, SYMTAB_LOCAL };
struct symtab_builder *symtab_builder_new(void);
void symtab_builder_free(struct symtab_builder *b);
/* limit: where the symbol's section ends; size may be 0. False when out of memory. */
bool symtab_builder_add(struct symtab_builder *b, uint64_t vaddr, uint64_t size, uint64_t limit,
			const char *name, size_t name_len, enum symtab_bind bind);
struct symtab *symtab_builder_finish(struct symtab_builder *b); /* frees b */
void symtab_free(struct symtab *t);
