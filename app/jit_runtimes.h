/* Which runtime compiles code in a process, by the files it maps, and what would make it publish names. */
#pragma once

#include <stddef.h>

struct addrspace;

struct jit_runtime {
	const char *name;   /* a word, as in --stats: "node" */
	const char *advice; /* what would give names: the rest of a sentence, "start it with ..." */
};

/* The runtime that a mapped file tells of; NULL = none. `path` as the kernel tells it. */
const struct jit_runtime *jit_runtime_of_path(const char *path);
/* Of all files of the process; of several the one that is more likely to compile. "other" when none tells. */
const struct jit_runtime *jit_runtime_of_space(const struct addrspace *space);
/* The better of two; either may be NULL. */
const struct jit_runtime *jit_runtime_better(const struct jit_runtime *a, const struct jit_runtime *b);
extern const struct jit_runtime jit_runtime_other;
extern const char jit_runtime_dotnet[]; /* the name of .NET's */
