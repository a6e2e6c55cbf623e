/*
 * The code that .NET runtimes make while they run: which method an address belongs to, at the time of a sample, and how
 * to step to its caller. Fed by what each runtime says (runtimes/nettrace.h); precompiled code in files is
 * runtimes/r2r.h's.
 *
 * What is said takes effect at its own time: events wait until the session comes to that time (struct symbol_source,
 * next, changes, apply), so that a frame has the name that was right when it was sampled, even where the code has been
 * freed since and its addresses are another method's.
 */
#pragma once

#include "symbols/symbols.h"
#include "unwinder/giver.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct arch;
struct dotnet;
struct dotnet_process;
struct err;
struct intern;
struct nettrace_event;
struct strbuf;

struct dotnet_opts {
	struct intern *strings;  /* borrowed: names live there */
	const struct arch *arch; /* of the samples */
	bool tiers;              /* names end in "[Tier]" */
	bool keep;               /* for dotnet_saved */
	/* The first JIT frame of a process was sampled, of which nothing is known. May be NULL. */
	void (*first_seen)(void *data, pid_t pid);
	void *data;
};

int dotnet_new(const struct dotnet_opts *opts, struct dotnet **ret, struct err *err);
void dotnet_free(struct dotnet *d); /* NULL is fine */

/*
 * A process whose runtime tells of its code, the generation of `pid` that runs now. It ends with the generation
 * (the source's `gone`) or with dotnet_free. NULL when out of memory. Called again it gives the same.
 */
struct dotnet_process *dotnet_process(struct dotnet *d, pid_t pid);
struct dotnet_process *dotnet_process_find(const struct dotnet *d, pid_t pid); /* NULL: not known */

/* What was said, in any order of time; but what was said of a time that the session has passed holds from now on. */
void dotnet_say(struct dotnet *d, struct dotnet_process *p, const struct nettrace_event *event);
/*
 * Reads the code of short-lived methods that were told since the last time: before it is freed, which may be sooner than the
 * session gets there.
 */
void dotnet_read_ahead(struct dotnet_process *p, const struct memory_reader *memory, const struct addrspace *space);
/* All methods that were there are known at that time: code of the runtime's that belongs to none of them is a stub. */
void dotnet_complete(struct dotnet_process *p, uint64_t time_ns);

/*
 * With opts.keep: all that was said and read, to go along with a recording; appended to `ret`, nothing if there is nothing.
 * False when out of memory.
 */
bool dotnet_saved(const struct dotnet *d, struct strbuf *ret);
/*
 * That, in place of processes that can be asked; `bytes` are borrowed as long as `d` lives, and nothing of them is believed.
 * -EBADMSG: from where they are damaged on, nothing is known.
 */
int dotnet_restore(struct dotnet *d, const void *bytes, size_t size, struct err *err);

/* Both borrow `d`; the source's free() is NULL. */
struct symbol_source dotnet_symbol_source(struct dotnet *d);
struct unwind_giver dotnet_giver(struct dotnet *d);

struct dotnet_counts {
	uint64_t methods;   /* that were told */
	uint64_t reads;     /* of a target's memory */
	uint64_t no_starts; /* frames that had to go by rbp, as nothing told where their method begins */
	uint64_t stubs;     /* frames of code that is no method */
	uint64_t by_unwind_info, by_prologue; /* methods whose frame was told by the one or the other */
};
struct dotnet_counts dotnet_counts(const struct dotnet *d);
uint64_t dotnet_no_starts(const struct dotnet *d); /* of them, for each sample */

