/*
 * Names: what a place in a file, in the kernel or in JIT code is called. Each distinct frame is asked for
 * once; nothing here is called per sample.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct addrspace;
struct door;
struct err;
struct file;
struct files;
struct intern;
struct recorded_kernel;
struct symbols;

struct symbol {
	const char *name;   /* demangled; interned, or NULL when there is none */
	uint64_t offset;    /* of the place from the symbol's start */
};

struct symbols_opts {
	struct files *files;    /* borrowed */
	struct door *door;      /* borrowed */
	struct recorded_kernel *kernel; /* borrowed: of a recording; NULL = the one that runs here */
	struct intern *strings; /* borrowed: all names live there */
};

int symbols_new(const struct symbols_opts *opts, struct symbols **ret, struct err *err);
void symbols_free(struct symbols *s);

/*
 * Places in a file, by vaddr, ascending. Tables of symbols are read once per call and not kept: ask for all
 * places of a file at once. ret[i].name is NULL where no symbol holds the place (never a neighbour's name).
 * False when out of memory.
 */
bool symbols_file_batch(struct symbols *s, struct file *file, const uint64_t *vaddrs, size_t num,
			struct symbol *ret);

/*
 * Kernel addresses, ascending; all of a profile at once, as the kernel takes 25 ms to write its list of symbols.
 * modules[i] is the kernel module's name (interned) or NULL for the kernel itself. False when out of memory.
 */
bool symbols_kernel_batch(struct symbols *s, const uint64_t *addrs, size_t num, struct symbol *ret,
			  const char **modules);
/* Kallsyms are hidden (all zero, kptr_restrict) or unreadable: one sentence with the remedy. NULL when all
 * is well, and as long as no kernel address was asked for. */
const char *symbols_kernel_note(struct symbols *s);

/* Names of code that has no file. Implemented elsewhere (perf maps, later runtimes); asked in order. */
struct symbol_source {
	const char *name;
	bool (*find)(void *data, struct addrspace *space, uint64_t addr, struct symbol *ret);
	/* The first JIT frame of this process was sampled: a chance to open what it published. May be NULL. */
	void (*first_seen)(void *data, struct addrspace *space);
	/* The generation ends: free what space->names holds. May be NULL. */
	void (*gone)(void *data, struct addrspace *space);
	void (*free)(void *data);
	void *data;
};
int symbols_add_source(struct symbols *s, const struct symbol_source *source, struct err *err);
bool symbols_jit(struct symbols *s, struct addrspace *space, uint64_t addr, struct symbol *ret);
void symbols_jit_first_seen(struct symbols *s, struct addrspace *space);
void symbols_space_gone(struct symbols *s, struct addrspace *space);

/* C++, Rust (both manglings) and D by libiberty; interned. The name itself when it is not mangled or its
 * demangling is absurd (longer than 16 KiB). */
const char *symbols_demangle(struct intern *strings, const char *name);
