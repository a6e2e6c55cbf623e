/* /proc/kallsyms: text in, table out. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct kallsyms;

/*
 * Lines "ADDR TYPE NAME[\t[MODULE]]" (kernel/kallsyms.c s_show); only text symbols (t, T, w, W) are kept.
 * Borrows nothing. NULL only when out of memory. A table whose addresses are all zero is empty and hidden.
 */
struct kallsyms *kallsyms_parse(const char *text, size_t len);
void kallsyms_free(struct kallsyms *k);
/* The last symbol at or below addr in the same module; NULL when none. *module NULL = the kernel itself. */
const char *kallsyms_find(const struct kallsyms *k, uint64_t addr, uint64_t *ret_start,
			  const char **module);
size_t kallsyms_count(const struct kallsyms *k);
int kallsyms_hidden(const struct kallsyms *k);
