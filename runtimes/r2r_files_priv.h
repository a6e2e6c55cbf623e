/* What naming precompiled code in files and in copies of it in memory share; for this folder only. */
#pragma once

#include "base/hash.h"
#include "base/htab.h"
#include "base/vec.h"
#include "runtimes/pe_image.h"
#include "runtimes/r2r.h"
#include "runtimes/r2r_files.h"

#include <sys/stat.h>

struct bundle;
struct copies;
struct file;

/* A precompiled image in a file: the file itself, or one of those in a bundle. */
struct image {
	uint64_t base;
	struct r2r *r2r; /* owned; NULL = it is none */
};

/* What was found in a file. */
struct known {
	struct file *file;        /* borrowed until r2r_files_gone */
	int fd;                   /* -1 = it could not be had */
	bool own_fd;
	struct stat at_open;
	struct bundle *bundle;    /* owned; NULL = it is none */
	VEC(struct image) images; /* by base */
};

struct known_slot {
	uint32_t id;
	struct known *known; /* owned */
};
HTAB(known_tab, struct known_slot, uint32_t, hash_u64(key), slot->id == key, hash_u64(slot->id));

struct r2r_files {
	struct r2r_files_opts opts;
	struct known_tab known;
	struct copies *copies; /* owned; NULL = there were none so far */
	struct r2r_files_counts counts;
};

/* Looks at the file now if it was not yet. NULL when memory is out. */
struct known *r2r_know(struct r2r_files *f, struct file *file);
struct pe_bytes r2r_known_bytes(struct known *k);
/* Written over since it was opened: nothing read later is believed. */
bool r2r_known_changed(const struct known *k);

/*
 * Names places of one image, by RVA, ascending; what it refers to is looked for where `at` is. `own` is the assembly that
 * stubs are of; interned. ret is all zero before. False when out of memory.
 */
bool r2r_name_places(struct r2r_files *f, struct known *at, const struct r2r *r, const char *own, const uint32_t *rvas,
		     size_t num, struct symbol *ret);

/* r2r_copies.c */
void r2r_copies_free(struct copies *c); /* NULL is fine */
void r2r_copies_file_gone(struct r2r_files *f, const struct known *k);
