/* What naming precompiled code in files and in copies of it in memory share; for this folder only. */
#pragma once

#include "base/hash.h"
#include "base/htab.h"
#include "base/vec.h"
#include "runtimes/pe_image.h"
#include "runtimes/r2r.h"
#include "runtimes/r2r_files.h"
#include "unwinder/rule.h"

#include <sys/stat.h>

enum {
	R2R_MAX_FOLDERS = 8,   /* in which an assembly is looked for */
	R2R_MAX_ASSEMBLY = 256, /* bytes of its name */
	R2R_MAX_PARTS = 1 << 16, /* of a bundle */
};

struct bundle;
struct copies;
struct file;
struct span {
	uint64_t from, to;
};

/* What the parser said of a place. */
struct r2r_said {
	uint64_t key;    /* offset * 2, + 1 when it was asked for exactly */
	bool is_code;    /* else `rule` means nothing */
	struct rule rule;
};
HTAB(r2r_said_tab, struct r2r_said, uint64_t, hash_u64(key), slot->key == key, hash_u64(slot->key));

/* A precompiled image in a file: the file itself, or one of those in a bundle. */
struct image {
	uint64_t base;
	struct r2r *r2r; /* owned; NULL = it is none */
};

/* An image that a compressed bundle holds, told from others by this. */
struct packed_head {
	uint32_t part; /* index in the bundle */
	uint32_t timestamp, image_size;
};
struct packed_heads {
	VEC(struct packed_head) v;
};

/* What was found in a file. */
struct known {
	struct file *file;        /* borrowed until r2r_files_gone; NULL in the parser */
	const char *path;         /* as the file's; owned in the parser */
	bool is_elf;
	VEC(struct span) data;    /* of an ELF file, where a bundle's marker may be */
	int fd;                   /* -1 = it could not be had */
	bool own_fd;
	struct stat at_open;
	bool bundle_tried;
	struct bundle *bundle;    /* owned; NULL = it is none */
	VEC(struct image) images; /* by base */
	bool heads_tried;
	struct packed_heads heads; /* of those that are compressed; empty: it is no compressed bundle */
	bool has_code;            /* precompiled, as far as was asked */
	bool aside;               /* nothing is asked of it any more */
	bool nothing;             /* it has no such code anywhere */
	uint32_t number;          /* by which the worker knows it: other sessions may share that */
	uint32_t told;            /* generation of the worker that knows it; 0 = none */
	struct r2r_said_tab said;
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
	/* In the parser: who has other assemblies; see r2r_open_near. */
	int (*near)(void *data, size_t place, const char *name);
	void *near_data;
};

/* Looks at the file now if it was not yet. NULL when memory is out. */
struct known *r2r_know(struct r2r_files *f, struct file *file);
struct pe_bytes r2r_known_bytes(struct known *k);
/* The bundle that it is; NULL when it is none. */
struct bundle *r2r_known_bundle(struct known *k);
void r2r_known_free(struct known *k); /* NULL is fine */
/* The rule at a place, as r2r_rule. False: it is in no image. */
bool r2r_rule_in(struct r2r_files *f, struct known *k, uint64_t offset, bool exact, struct rule *ret);
/* There may be one somewhere in it. */
bool r2r_may_have_image(struct known *k);
/* Names places of a file, ascending, as struct file_source says. False when out of memory. */
bool r2r_known_names(struct r2r_files *f, struct known *k, const uint64_t *offsets, size_t num, struct symbol *ret);
/*
 * NAME.dll in the folder of a file (place 0), or in the others that hold files with precompiled code (1 to
 * R2R_MAX_FOLDERS - 1): a descriptor, or -1.
 */
int r2r_open_near(struct r2r_files *f, const struct known *at, size_t place, const char *name);

/* r2r_ask.c: the same by the worker. False: it is no such code, or there is no answer. */
struct give_query;
bool r2r_ask_rule(struct r2r_files *f, struct known *k, const struct give_query *query, struct rule *ret);
bool r2r_ask_names(struct r2r_files *f, struct known *k, const uint64_t *offsets, size_t num, struct symbol *ret);
bool r2r_ask_heads(struct r2r_files *f, struct known *k, struct packed_heads *ret);
bool r2r_ask_packed(struct r2r_files *f, struct known *k, uint32_t part, const uint32_t *rvas, size_t num,
		    struct symbol *ret);
void r2r_ask_gone(struct r2r_files *f, const struct known *k);
/* Written over since it was opened: nothing read later is believed. */
bool r2r_known_changed(const struct known *k);

/*
 * Names places of one image, by RVA, ascending; what it refers to is looked for where `at` is. `own` is the assembly that
 * stubs are of; interned. ret is all zero before. False when out of memory.
 */
bool r2r_name_places(struct r2r_files *f, struct known *at, const struct r2r *r, const char *own, const uint32_t *rvas,
		     size_t num, struct symbol *ret);

/* r2r_copies.c: of a compressed bundle. False when out of memory. */
bool r2r_packed_heads(struct known *k, struct packed_heads *ret);
/* Names places of a part, by RVA, ascending, by unpacking it. False: it cannot be had. */
bool r2r_packed_names(struct r2r_files *f, struct known *k, uint32_t part, const uint32_t *rvas, size_t num,
		      struct symbol *ret);
void r2r_copies_free(struct copies *c); /* NULL is fine */
void r2r_copies_file_gone(struct r2r_files *f, const struct known *k);
