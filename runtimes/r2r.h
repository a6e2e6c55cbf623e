/*
 * Precompiled .NET code (ReadyToRun): which function holds a place, how to step to its caller, what it is called. All out
 * of the image's own tables: dotnet/runtime docs/design/coreclr/botr/readytorun-format.md, src/coreclr/inc/readytorun.h.
 *
 * RVA = address from where the image begins in memory.
 */
#pragma once

#include "runtimes/pe_image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arch;
struct clr_metadata;
struct r2r;
struct rule;

/*
 * The image that begins at `base`. 0, -ENOEXEC when there is none or it has no precompiled code, -EBADMSG when that is
 * malformed, -ENOMEM. `bytes` is copied; what it reads from is borrowed as long as the image lives. Holds a few KiB:
 * everything else is read when it is asked for.
 */
int r2r_open(const struct pe_bytes *bytes, uint64_t base, struct r2r **ret);
/* The same of an image that was loaded: see pe_image_open_loaded. */
int r2r_open_loaded(const struct pe_bytes *bytes, uint64_t base, struct r2r **ret);
void r2r_free(struct r2r *r); /* NULL is fine */
const struct pe_image *r2r_pe(const struct r2r *r); /* borrowed */

/* A piece of code with a frame of its own: a method, or what of it handles exceptions (a funclet). */
struct r2r_function {
	uint32_t begin, end; /* RVAs */
	uint32_t unwind;     /* RVA of its UNWIND_INFO */
	uint32_t index;      /* in the table */
};
bool r2r_function(const struct r2r *r, uint32_t rva, struct r2r_function *ret);
/* By its index; false: there are no more. */
bool r2r_function_at(const struct r2r *r, uint32_t index, struct r2r_function *ret);

/*
 * The rule at `rva`; `exact`: nothing called from there, so that it may be in an epilogue or a stub. False when nothing
 * is known of such a place, which the frame pointer may know.
 */
bool r2r_rule(const struct r2r *r, const struct arch *arch, uint32_t rva, bool exact, struct rule *ret);

/* Who has the metadata of other assemblies, by their names ("System.Runtime"). */
struct r2r_assemblies {
	/* Borrowed, for as long as r2r_names runs; NULL = not to be had. */
	const struct clr_metadata *(*find)(void *data, const char *assembly);
	void *data;
};

struct r2r_name {
	const char *type;     /* "System.Collections.Generic.List`1[System.__Canon]"; "" = none */
	const char *method;
	const char *assembly; /* that the method is of; NULL = not known */
	uint32_t token;       /* of the method: MethodDef or MemberRef; 0 = not told */
	uint32_t begin;       /* RVA of the method's code */
};

enum { R2R_MAX_NAME = 16 << 10 }; /* bytes; what is longer has no name */

/*
 * Names what holds `rvas` (ascending): calls each(data, i, name) for those that are methods, each(data, i, NULL) for code
 * that is none (stubs). Not called for what is not code, or is not told. Tables are read once per call and let go. False
 * when out of memory.
 */
bool r2r_names(const struct r2r *r, const uint32_t *rvas, size_t num, const struct r2r_assemblies *others,
	       void (*each)(void *data, size_t i, const struct r2r_name *name), void *data);
