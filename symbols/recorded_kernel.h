/*
 * The kernel of a recording: what the recording tells of it, and whose list of symbols fits. A kernel that loads at
 * another address on each boot (KASLR) is recognised by the address of _text, which recordings tell, and its
 * addresses are moved accordingly; modules lie elsewhere on each boot, so their functions are only named on the
 * boot that was recorded. Lists are tried in this order:
 *  1. --kallsyms FILE, and --vmlinux FILE if its build-id is not another one
 *  2. /proc/kallsyms, if this machine runs that kernel (recorded_kernel_is_ours)
 *  3. perf's cache (~/.debug) by build-id; before /proc/kallsyms where no module is asked for
 *  4. the vmlinux of that build-id where distributions install it, or from debuginfod
 */
#pragma once

#include "target/offline.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct door;
struct err;
struct intern;
struct mmap_record;
struct recorded_kernel;
struct symbol;

struct recorded_kernel_opts { /* all borrowed */
	struct door *door;
	struct offline *offline;
	struct intern *strings;
	const char *kallsyms, *vmlinux; /* named by the user; NULL = not */
};

int recorded_kernel_new(const struct recorded_kernel_opts *opts, struct recorded_kernel **ret,
			struct err *err);
void recorded_kernel_free(struct recorded_kernel *k); /* NULL is fine */

/* What the recording tells, as it comes. False: out of memory. */
void recorded_kernel_origin(struct recorded_kernel *k, const char *release, enum offline_origin origin);
void recorded_kernel_build_id(struct recorded_kernel *k, const uint8_t *id, size_t len);
/* A mapping of pid -1: the kernel's text ("[kernel.kallsyms]_text") or a module. */
bool recorded_kernel_mmap(struct recorded_kernel *k, const struct mmap_record *m);

/*
 * This machine runs the kernel that was recorded: by build-id, or by its release on the machine that was recorded.
 * A recording that was not finished tells neither; then the kernel's text must begin and end at the same addresses,
 * which no two builds' do (this reads /proc/kallsyms, once).
 */
bool recorded_kernel_is_ours(struct recorded_kernel *k);

/* A recording that tells nothing else was made on this very boot: only where the kernel lay could tell. */
bool recorded_kernel_lay_here(const struct recorded_kernel *k);

/* As symbols_kernel_batch. */
bool recorded_kernel_batch(struct recorded_kernel *k, const uint64_t *addrs, size_t num,
			   struct symbol *ret, const char **modules);
/* Why there are no names, a sentence; NULL when there are. Valid after a batch. */
const char *recorded_kernel_note(const struct recorded_kernel *k);
