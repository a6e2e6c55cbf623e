/*
 * Names: what a place in a file, in the kernel or in JIT code is called. Each distinct frame is asked for
 * once; nothing here is called per sample.
 */
#pragma once

#include "base/vec.h"

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
struct worker;

struct symbol {
	const char *name;   /* demangled; interned, or NULL when there is none */
	uint64_t offset;    /* of the place from the symbol's start */
	const char *module; /* of managed code: what it belongs to, an assembly; interned, NULL = not told */
};

struct symbols_opts {
	struct files *files;    /* borrowed */
	struct door *door;      /* borrowed */
	struct worker *worker;  /* borrowed: /proc/kallsyms is parsed there; NULL = here */
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
 * Names of code in files that are no ELF files, and in what of others no segment holds (precompiled .NET, single-file
 * bundles). Implemented elsewhere (runtimes/); asked in order.
 */
struct file_source {
	/*
	 * Places by their offset in the file, ascending. What it knows it names; ret is all zero before. False when out of
	 * memory.
	 */
	bool (*names)(void *data, struct file *file, const uint64_t *offsets, size_t num, struct symbol *ret);
	void *data; /* borrowed */
};
int symbols_add_file_source(struct symbols *s, const struct file_source *source, struct err *err);
/* As symbols_file_batch, of places that have no vaddr, by their offsets in the file. */
bool symbols_offset_batch(struct symbols *s, struct file *file, const uint64_t *offsets, size_t num,
			  struct symbol *ret);

/*
 * A record told of code of the kernel's, `len` bytes at `start`, that came or went. `name` is copied; `bpf`: a BPF program.
 * False when out of memory.
 */
bool symbols_kernel_code(struct symbols *s, uint64_t start, uint64_t len, const char *name, size_t name_len, bool bpf);

/*
 * Kernel addresses, ascending; all of a profile at once, as the kernel takes 25 ms to write its list of symbols.
 * modules[i] is the kernel module's name (interned) or NULL for the kernel itself. False when out of memory.
 */
bool symbols_kernel_batch(struct symbols *s, const uint64_t *addrs, size_t num, struct symbol *ret,
			  const char **modules);
/* Kallsyms are hidden (all zero, kptr_restrict) or unreadable: one sentence with the remedy. NULL when all
 * is well, and as long as no kernel address was asked for. */
const char *symbols_kernel_note(struct symbols *s);

/* A part of a process's memory, [start, end). */
struct code_range {
	uint64_t start, end;
};
struct code_ranges {
	VEC(struct code_range) v;
};

/* Where names of a process's code came from. */
struct symbol_origin {
	const char *from;    /* "perf map"; NULL = there was nothing */
	const char *refused; /* why something that was there is not believed, a word; NULL = nothing was */
	bool aside;              /* it ended the parser twice in a row: that is why */
	uint64_t reads, read_ns; /* how often something new was read, and how long that took in all */
};

/* Call-frame information of code that has no file: an .eh_frame section, as if it were at `vaddr`. */
struct jit_cfi {
	const uint8_t *bytes; /* borrowed until more is read */
	size_t size;
	uint64_t vaddr;
};

/* Names of code that has no file. Implemented elsewhere (perf maps, later runtimes); asked in order. */
struct symbol_source {
	const char *name;
	bool (*find)(void *data, struct addrspace *space, uint64_t addr, struct symbol *ret);
	/* The first JIT frame of this process was sampled: a chance to open what it published. May be NULL. */
	void (*first_seen)(void *data, struct addrspace *space);
	/*
	 * Looks whether more was published, when records are about to be handed out; cheap when there is nothing new.
	 * `last`: the process has ended or the recording has, so everything is read. May be NULL.
	 */
	void (*poll)(void *data, struct addrspace *space, bool last);
	/*
	 * Names that change as time goes by (that of records): when they next do, UINT64_MAX = not as far as is known;
	 * which places change until then, as perfmap_changes; and that they now have. All three, or NULL.
	 */
	uint64_t (*next)(void *data, const struct addrspace *space);
	bool (*changes)(void *data, struct addrspace *space, uint64_t time_ns, struct code_ranges *ret);
	void (*apply)(void *data, struct addrspace *space, uint64_t time_ns);
	/* What was published to unwind it with; ret NULL: whether there is any for the process. May be NULL. */
	bool (*cfi)(void *data, const struct addrspace *space, uint64_t addr, struct jit_cfi *ret);
	/* Adds what is to be said of a process. May be NULL. */
	void (*origin)(void *data, const struct addrspace *space, struct symbol_origin *ret);
	/* The generation ends: free what space->names holds. May be NULL. */
	void (*gone)(void *data, struct addrspace *space);
	void (*free)(void *data);
	void *data;
};
int symbols_add_source(struct symbols *s, const struct symbol_source *source, struct err *err);
bool symbols_jit(struct symbols *s, struct addrspace *space, uint64_t addr, struct symbol *ret);
/* Of the code at addr, as of now; false: there is none. */
bool symbols_jit_cfi(const struct symbols *s, const struct addrspace *space, uint64_t addr, struct jit_cfi *ret);
bool symbols_jit_has_cfi(const struct symbols *s, const struct addrspace *space); /* of any of its code */
void symbols_jit_first_seen(struct symbols *s, struct addrspace *space);
void symbols_jit_poll(struct symbols *s, struct addrspace *space, bool last);
/*
 * It is `time_ns` now. Where code gets another name by that, changed() is told before it does: what was remembered of
 * such places keeps the name that symbols_jit still gives. To be called when space->names_next_ns has come. False when
 * out of memory.
 */
bool symbols_jit_advance(struct symbols *s, struct addrspace *space, uint64_t time_ns,
			 void (*changed)(void *data, struct code_ranges *ranges), void *data);
struct symbol_origin symbols_jit_origin(const struct symbols *s, const struct addrspace *space);
void symbols_space_gone(struct symbols *s, struct addrspace *space);

/* C++, Rust (both manglings) and D by libiberty; interned. The name itself when it is not mangled or its
 * demangling is absurd (longer than 16 KiB). */
const char *symbols_demangle(struct intern *strings, const char *name);
