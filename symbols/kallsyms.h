/*
 * /proc/kallsyms: which kernel functions hold these addresses? The text streams past in pieces and nothing of
 * it is kept but the best answers so far.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kallsyms;

struct kallsyms_entry {
	uint64_t start;     /* address of the function */
	const char *name;   /* borrowed from the kallsyms, as is: */
	const char *module; /* NULL = the kernel itself */
};

/* The hexadecimal address that a line begins with; what follows it, or NULL where there is none. */
const char *kallsyms_address(const char *line, const char *end, uint64_t *ret);

/* Ascending addresses, borrowed until kallsyms_free. NULL when out of memory. */
struct kallsyms *kallsyms_new(const uint64_t *addrs, size_t num);
void kallsyms_free(struct kallsyms *k); /* NULL is fine */
/*
 * The next piece of the text, cut anywhere: lines "ADDR TYPE NAME[\t[MODULE]]" (kernel/kallsyms.c s_show). Only
 * text symbols (t, T, w, W) give names. False: what follows would change nothing, or memory is out.
 */
bool kallsyms_feed(struct kallsyms *k, const char *text, size_t len);
/* After the last piece. False when out of memory. */
bool kallsyms_finish(struct kallsyms *k);
/*
 * Once finished, the answer to question number `at`: the last symbol at or below the address, in the same
 * module. False when there is none.
 */
bool kallsyms_answer(const struct kallsyms *k, size_t at, struct kallsyms_entry *ret);
/* The text had symbols, all at address zero: this process may not see them. */
bool kallsyms_hidden(const struct kallsyms *k);
