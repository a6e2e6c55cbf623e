/*
 * Precompiled .NET code in the files that processes map: names and frames, with no help from the process. A file is looked
 * at when it is first sampled, and what was found holds for every process that maps it.
 */
#pragma once

#include "symbols/symbols.h"
#include "unwinder/giver.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct addrspace;
struct arch;
struct err;
struct files;
struct file;
struct intern;
struct r2r_files;
struct worker;

struct r2r_files_opts {
	struct files *files;     /* borrowed */
	struct intern *strings;  /* borrowed: names live there */
	const struct arch *arch; /* of the samples */
	bool tiers;              /* names end in "[ReadyToRun]" */
	/* Borrowed: the files are parsed there (r2r_serve.h); NULL = here. */
	struct worker *worker;
	/* One that ended two workers in a row is set aside: it has no names and no rules. May be NULL. */
	void (*aside)(void *data, struct file *file);
	void *data;
};

int r2r_files_new(const struct r2r_files_opts *opts, struct r2r_files **ret, struct err *err);
void r2r_files_free(struct r2r_files *f); /* NULL is fine */

/* Both borrow `f`. */
struct unwind_giver r2r_files_giver(struct r2r_files *f);
struct file_source r2r_files_source(struct r2r_files *f);

/*
 * Compressed single-file programs have copies of it in memory without a file (r2r_copies.c). Code without a file was
 * sampled in that process for the first time: true when it is such a program, and the giver is needed. Both borrow `f`.
 */
bool r2r_copies_begin(struct r2r_files *f, const struct addrspace *space);
struct unwind_giver r2r_copies_giver(struct r2r_files *f);
struct symbol_source r2r_copies_source(struct r2r_files *f);

/* The file is about to leave the table (struct files_opts, evict). */
void r2r_files_gone(struct r2r_files *f, uint32_t file_id);

struct r2r_files_counts {
	uint64_t files;  /* that hold precompiled code */
	uint64_t rules;  /* that were made */
	uint64_t places; /* that were asked for names */
	uint64_t named;  /* of them, stubs included */
	uint64_t aside;  /* files */
	uint64_t rule_ns, name_ns;
};
struct r2r_files_counts r2r_files_counts(const struct r2r_files *f);
