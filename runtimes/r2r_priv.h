/* What the parts of reading precompiled code share; for this folder only. */
#pragma once

#include "runtimes/r2r.h"

/* readytorun.h, enum class ReadyToRunSectionType */
enum {
	R2R_RUNTIME_FUNCTIONS = 102,
	R2R_METHOD_ENTRIES = 103,
	R2R_INSTANCE_ENTRIES = 109,
	R2R_MANIFEST = 112,
	R2R_COMPONENTS = 115,
};

enum {
	R2R_MAX_SECTIONS = 64,
	R2R_MAX_FUNCTIONS = 4 << 20,
	R2R_MAX_COMPONENTS = 4096,
	R2R_STRIDE = 128, /* functions per entry of the index */
};

/* One module's core header: the sections we use. */
struct r2r_core {
	struct pe_dir functions, methods, instances, manifest, components;
};

struct r2r {
	struct pe_image pe;
	uint16_t major, minor;   /* of the format */
	struct r2r_core core;
	struct pe_dir metadata;  /* size 0: a composite image has none of its own */
	uint32_t num_functions;
	uint8_t function_bytes;  /* of an entry: amd64 has its end */
	uint32_t *index;         /* begin of every R2R_STRIDE'th; owned */
};

/* The core header at `rva`: flags, number of sections, sections. */
bool r2r_read_core(const struct pe_image *pe, uint32_t rva, struct r2r_core *ret);
/* The metadata directory of a COR20 header (ECMA-335 II.25.3.3). */
bool r2r_read_cor(const struct pe_image *pe, uint32_t rva, struct pe_dir *metadata, struct pe_dir *native);
