/*
 * Code that the kernel made while it ran (BPF programs, trampolines), as records tell of it when it comes and when it goes
 * (PERF_RECORD_KSYMBOL). A list of symbols has only what is there when it is read, and no end of it: an address of what went
 * would be taken for what lies before it. No time is kept: where two were at one address, neither is named.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ksymbol {
	uint64_t start, end;
	const char *name; /* borrowed; NULL = of more than one */
	bool bpf;
};

struct ksymbols; /* NULL = empty */

/* `name` lives as long. Nothing is added that has no bytes, nor beyond 65,536 of them. False: out of memory. */
bool ksymbols_add(struct ksymbols **k, const struct ksymbol *symbol);
/* What holds addr; NULL = nothing. */
const struct ksymbol *ksymbols_find(const struct ksymbols *k, uint64_t addr);
void ksymbols_free(struct ksymbols *k);
