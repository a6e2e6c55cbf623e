/* What the parts of reading JIT code share; for this folder only. */
#pragma once

#include "base/hash.h"
#include "base/htab.h"
#include "base/vec.h"
#include "runtimes/dotnet.h"

struct intern;
struct strbuf;

enum {
	DOTNET_MAX_PARTS = 64,
	DOTNET_MAX_METHODS = 1 << 20, /* of one process */
	DOTNET_MAX_RECENT = 256,
};

/* A function of a method: bytes from its start. */
struct dotnet_part {
	uint32_t begin, end;
};

/* One method's code at one time. */
struct dotnet_method {
	uint64_t start;
	uint64_t since_ns; /* when it was loaded or found */
	uint64_t id;
	uint64_t module; /* by the runtime's number: told before or after */
	uint32_t size;
	uint32_t name;   /* interned; UINT32_MAX = there was no room for one */
	uint32_t flags;  /* as in struct nettrace_method */
	struct dotnet_code *code; /* owned; NULL = not read (yet) */
};
struct dotnet_module_slot {
	uint64_t id;
	uint32_t name; /* of the assembly; interned */
};
HTAB(dotnet_modules, struct dotnet_module_slot, uint64_t, hash_u64(key), slot->id == key, hash_u64(slot->id));

/* Something that takes effect when the session comes to that time. */
struct dotnet_change {
	uint64_t time_ns;
	uint32_t order; /* as it was said, among those of one time */
	uint8_t kind;   /* enum nettrace_event_kind */
	struct dotnet_method method;
};

/* Code out of a recording, see dotnet_saved.c. */
struct dotnet_given {
	uint64_t start, since_ns;
	uint32_t size, num_parts;
	struct dotnet_part parts[DOTNET_MAX_PARTS];
	const uint8_t *bytes; /* borrowed */
};
struct dotnet_block {
	pid_t pid;
	uint32_t size;
	const uint8_t *bytes; /* borrowed */
};

struct dotnet_process {
	struct dotnet *owner;
	pid_t pid;
	bool complete;
	/*
	 * Sorted by start, neither overlapping with itself; `recent` is younger and goes first. A method of size 0
	 * in `methods` is gone.
	 */
	VEC(struct dotnet_method) methods, recent;
	VEC(struct dotnet_change) changes; /* from `next_change` on they are to come */
	size_t next_change;
	bool unsorted;
	uint32_t order;
	struct dotnet_modules modules;
	uint64_t name_bytes; /* interned for this process */
	uint64_t reads, read_ns; /* of its memory */
	bool restored;           /* out of a recording */
	VEC(struct dotnet_given) given; /* then: sorted by start and time */
	struct strbuf *log;      /* owned; with opts.keep */
	bool knows_headers;      /* what lies before methods is understood, see dotnet_jit.c */
};

/* The method that holds addr; valid until the next change. */
struct dotnet_method *dotnet_method_at(const struct dotnet_process *p, uint64_t addr);

/*
 * Whether it was said that the method's code went away by now, though not yet by the time of the sample. Not when it
 * was read.
 */
bool dotnet_is_leaving(struct dotnet_process *p, const struct dotnet_method *m);

/* dotnet.c: a change with its name; a module's assembly. */
void dotnet_take_change(struct dotnet_process *p, const struct dotnet_change *change, const char *name, size_t len);
void dotnet_take_module(struct dotnet_process *p, uint64_t id, const char *name, size_t len);

/* dotnet_saved.c: with opts.keep; else they do nothing */
void dotnet_keep_change(struct dotnet_process *p, const struct dotnet_change *c);
void dotnet_keep_module(struct dotnet_process *p, uint64_t id, const char *name);
void dotnet_keep_complete(struct dotnet_process *p, uint64_t time_ns);
void dotnet_keep_code(struct dotnet_process *p, const struct dotnet_method *m, const struct dotnet_part *parts,
		      uint32_t num_parts, const uint8_t *bytes);
void dotnet_keep_ended(struct dotnet_process *p); /* the process goes: what was kept of it stays */
/* Of a recording: the code of this very method, or NULL; and the pid is another process from now on. */
const struct dotnet_given *dotnet_given_code(const struct dotnet_process *p, const struct dotnet_method *m);
void dotnet_next_generation(struct dotnet *d, pid_t pid);

/* dotnet_jit.c */
struct dotnet_memory {
	const struct memory_reader *reader;
	const struct addrspace *space;
};
/* MEMORY_OK: m->code is there. */
enum memory_answer dotnet_read_code(struct dotnet_process *p, const struct dotnet_memory *from,
				    struct dotnet_method *m);
enum give dotnet_give(void *data, const struct give_query *query, struct give_answer *ret);
void dotnet_code_free(struct dotnet_code *code); /* NULL is fine */

struct dotnet_slot {
	pid_t pid;
	struct dotnet_process *process; /* owned */
};
HTAB(dotnet_processes, struct dotnet_slot, pid_t, hash_u64((uint64_t)key), slot->pid == key,
     hash_u64((uint64_t)slot->pid));

struct dotnet {
	struct dotnet_opts opts;
	struct dotnet_processes processes;
	struct dotnet_counts counts;
	struct strbuf *scratch; /* owned */
	struct strbuf *ended;   /* what was kept of processes that ended; owned */
	VEC(struct dotnet_block) waiting; /* generations of a recording whose pid is another's yet */
	pid_t last_pid;         /* of the last look-up */
	struct dotnet_process *last;
};
