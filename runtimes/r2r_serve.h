/*
 * Precompiled .NET code that is parsed in another process: files' PE images, bundles and metadata (base/worker.h). The
 * recorder holds the descriptors, and of what is in the files it has the rules and names that came back.
 *
 * R2R_TELL_FILE    u32 file, u8 is ELF, u16 length, path, u64 from, to of each part with data; a descriptor
 * R2R_TELL_FORGET  u32 file
 * R2R_ASK_RULES    u32 file, u64 place.. -> for each in order u8 enum r2r_place, struct rule as it is; a place is the offset in the
 *                  file * 2, + 1 when it is exact: the first decides what R2R_NOWHERE says
 * R2R_ASK_NAMES    u32 file, u8 with tiers, u64 offset.. -> for each that has a name, ascending:
 *                  u32 index, u64 offset in the function, u16 length, name, u16 length, module (0 = none)
 *                  wants: u8 place, NAME: the assembly of that name, see r2r_open_near
 * R2R_ASK_HEADS    u32 file -> for each image that is compressed in a bundle, ascending:
 *                  u32 part, timestamp, size in memory
 * R2R_ASK_PACKED   u32 file, u8 with tiers, u32 part, u32 RVA.. -> as R2R_ASK_NAMES
 *
 * -ESTALE: it has forgotten the file, which is to be told again.
 */
#pragma once

#include "base/worker.h"

enum {
	R2R_TELL_FILE = WORKER_KIND(WORKER_RUNTIMES, 1),
	R2R_TELL_FORGET = WORKER_KIND(WORKER_RUNTIMES, 2),
	R2R_ASK_RULES = WORKER_KIND(WORKER_RUNTIMES, 3),
	R2R_ASK_NAMES = WORKER_KIND(WORKER_RUNTIMES, 4),
	R2R_ASK_HEADS = WORKER_KIND(WORKER_RUNTIMES, 5),
	R2R_ASK_PACKED = WORKER_KIND(WORKER_RUNTIMES, 6),
};

enum r2r_place {
	R2R_OUTSIDE, /* no precompiled code is there */
	R2R_INSIDE,  /* some is: the rule holds */
	R2R_NOWHERE, /* there is none in the whole file */
};

struct r2r_serve;

struct r2r_serve *r2r_serve_new(void); /* NULL when out of memory */
void r2r_serve_free(struct r2r_serve *s); /* NULL is fine */

/* For struct worker_server; their state is a struct r2r_serve. */
extern const struct worker_service r2r_services[];
