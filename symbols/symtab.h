/*
 * Which functions hold these addresses? The questions are known before the symbol tables are read, so that a
 * table streams past in whatever order it has and nothing of it is kept but the best answers so far.
 *
 * The innermost function that holds an address is its answer: the one that starts last, then ends first. A
 * function without a size reaches to the next symbol, to the end of its section, or to the end of the sized
 * function it lies in. On equal ranges a global symbol wins over weak over local, then fewer leading
 * underscores, then the name in byte order: the same answer whatever the order in the file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct symtab;

enum symtab_bind { SYMTAB_GLOBAL, SYMTAB_WEAK, SYMTAB_LOCAL };

struct symtab_function {
	uint64_t vaddr;
	uint64_t size;         /* may be 0 */
	uint64_t limit;        /* vaddr where its section ends; 0 = not known, then it must have a size */
	enum symtab_bind bind;
	uint64_t name;         /* handed to symtab_namer.get */
};

/* Reads the name of a function, which is asked for only when it may be an answer. */
struct symtab_namer {
	/* Raw (mangled), not NUL-terminated, borrowed until the next call. NULL: this is no function. */
	const char *(*get)(void *data, uint64_t name, size_t *ret_len);
	void *data;
};

struct symtab_entry {
	uint64_t start;   /* vaddr */
	const char *name; /* raw; borrowed from the symtab */
};

/* Ascending vaddrs, borrowed until symtab_free. NULL when out of memory. */
struct symtab *symtab_new(const uint64_t *vaddrs, size_t num);
void symtab_free(struct symtab *t); /* NULL is fine */
static inline void symtab_freep(struct symtab **t)
{
	symtab_free(*t);
}

/* May stop taking functions when memory is out, which symtab_finish tells. */
void symtab_offer(struct symtab *t, const struct symtab_function *function,
		  const struct symtab_namer *namer);
/* After the last function. False when out of memory. */
bool symtab_finish(struct symtab *t);
/* The answer to question number `at`, once finished; false when no function holds the address. */
bool symtab_answer(const struct symtab *t, size_t at, struct symtab_entry *ret);

/* The first question at or behind vaddr; the number of questions when all are before it. */
size_t symtab_first_at(const struct symtab *t, uint64_t vaddr);
