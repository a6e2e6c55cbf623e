/*
 * JIT code whose compiler tells how to unwind it: jitdump's JIT_CODE_UNWINDING_INFO (perf's jitdump-specification.txt),
 * the .eh_frame of one function. Written by V8 (--perf-prof-unwinding-info), CPython (-X perf_jit) and others; code
 * that keeps no frame pointer has its callers only so.
 */
#pragma once

#include "unwinder/giver.h"

struct arch;
struct err;
struct jit_cfi_giver;
struct symbols;
struct worker;

struct jit_cfi_opts {
	struct symbols *symbols; /* borrowed: has what was published */
	struct worker *worker;   /* borrowed: reads it; NULL = that is done here */
	const struct arch *arch; /* of the samples */
};

struct jit_cfi_giver *jit_cfi_new(const struct jit_cfi_opts *opts); /* NULL when out of memory */
void jit_cfi_free(struct jit_cfi_giver *g); /* NULL is fine */
struct unwind_giver jit_cfi_giver(struct jit_cfi_giver *g); /* borrows `g` */
/* Processes whose information ended two parsers in a row, and is used no more. */
uint64_t jit_cfi_aside(const struct jit_cfi_giver *g);
