/*
 * Names of the frames in files and in the kernel, by frame id. Each distinct frame is named once, all new ones
 * of a file together: its symbol table is then read once and not kept.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct files;
struct intern;
struct naming;
struct profile_frame;
struct symbols;
struct unwinder;

struct naming_opts { /* all borrowed */
	const struct unwinder *unwinder;
	struct files *files;
	struct symbols *symbols;
	struct intern *strings;
	bool inlined; /* the calls inlined at each place as well */
};

struct naming *naming_new(const struct naming_opts *opts); /* NULL when out of memory */
void naming_free(struct naming *n); /* NULL is fine */

/*
 * Names what has no name yet; ends early when stop(data) says so (stop may be NULL), which is asked before
 * each file. False when out of memory.
 */
bool naming_all(struct naming *n, bool (*stop)(void *data), void *data);
/* The frames of one file, which is about to leave the table. */
bool naming_file(struct naming *n, uint32_t file_id);

/* NULL: not named (yet), or neither in a file nor in the kernel. Good until the next naming. */
const struct profile_frame *naming_get(const struct naming *n, uint32_t id);
/*
 * Functions inlined into the frame's function at its place, innermost first: their names (interned). Their number;
 * 0 without opts.inlined.
 */
size_t naming_inlined(const struct naming *n, uint32_t id, const char *const **ret);
