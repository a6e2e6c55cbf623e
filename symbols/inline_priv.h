/*
 * A reader of the parts of DWARF 2 to 5 that say what was inlined where; for this folder only.
 *
 * libdw is not used here for three reasons: it opens .dwo files by path on its own, it (as of 0.188) knows no
 * .dwp packages, and it takes 90 ns for each entry passed over, where this takes a few. Numbers of sections,
 * attributes and forms are from the DWARF 5 standard, section 7, and the GNU extensions by <dwarf.h>.
 */
#pragma once

#include "base/hash.h"
#include "base/htab.h"
#include "base/reader.h"
#include "base/vec.h"
#include "symbols/inline.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf_file;

enum {
	DW_MAX_SECTION = 1 << 30,   /* bytes of one section; more is refused */
	DW_MAX_STRING = 64 << 10,   /* bytes of one name */
	DW_MAX_UNITS = 1 << 20,     /* of one file */
	DW_MAX_ENTRIES = 5 << 20,   /* DIEs of one unit that are looked at */
	DW_MAX_RANGES = 4 << 20,    /* of one unit */
	DW_MAX_NESTING = 4096,      /* of DIEs: a heap array, nothing recurses */
	DW_MAX_ORIGINS = 16,        /* abstract origins and specifications followed for one name */
	DW_MAX_FORMATS = 16,        /* columns of a version 5 file table */
	DW_MAX_FUNCTIONS = 4 << 20, /* of one unit */
};

/*
 * Steps a file may cost: entries, attributes, ranges and rows are paid for one by one. An honest file needs
 * less than two steps for a byte; one that makes many entries point to the same long list runs out.
 */
enum {
	DW_STEPS_PER_BYTE = 16,
	DW_STEPS_PER_UNIT = 1 << 16,
	DW_STEPS_MAX_UNIT = 256 << 20, /* about 2 s */
	DW_STEPS_MAX_FILE = 1 << 30,
};

struct dw_budget {
	uint64_t unit; /* left for the unit being read */
	uint64_t file; /* left for everything */
};

static inline bool dw_spend(struct dw_budget *b, uint64_t steps)
{
	if (steps > b->unit)
		return false;
	b->unit -= steps;
	return true;
}

/* --- Sections (inline_section.c) --- */

enum dw_section_id {
	DW_INFO,
	DW_ABBREV,
	DW_STR,
	DW_LINE,
	DW_LINE_STR,
	DW_RANGES,
	DW_RNGLISTS,
	DW_ADDR,
	DW_STR_OFFSETS,
	DW_ARANGES,
	DW_CU_INDEX,
	DW_NUM_SECTIONS,
};

/* Bytes of a section, read when first asked for: page by page where it is large and not compressed. */
struct dw_section {
	uint64_t offset; /* in the file */
	uint64_t size;   /* 0 = not there */
	uint64_t packed; /* bytes in the file when compressed; 0 = it is not */
	uint8_t *bytes;
	uint8_t *have; /* one per page; NULL: all is there */
	bool mapped;   /* bytes are from mmap (anonymous) */
	bool failed;
};

struct dw_unit;
struct dw_abbrevs;

struct dw_abbrevs_slot {
	uint64_t key;
	struct dw_abbrevs *abbrevs; /* owned */
};
HTAB(dw_abbrevs_map, struct dw_abbrevs_slot, uint64_t, hash_u64(key), slot->key == key,
     hash_u64(slot->key));

/* One file with DWARF: the binary, its dwz file, a .dwo or .dwp. */
struct dw_file {
	struct elf_file *elf; /* owned; NULL once everything needed of it is in memory */
	bool split;           /* .dwo or .dwp: sections are called NAME.dwo */
	struct dw_section sections[DW_NUM_SECTIONS];
	VEC(struct dw_unit)
	units; /* sorted by offset; never changes after dw_file_scan. Empty in a .dwp */
	struct dw_abbrevs_map abbrevs;
	struct dw_file *alt;      /* borrowed; NULL = none */
	struct dw_budget *budget; /* borrowed */
};

/* Takes elf. */
void dw_file_init(struct dw_file *f, struct elf_file *elf, bool split, struct dw_budget *budget);
void dw_file_deinit(struct dw_file *f);
/* Reads all that names need and lets go of the ELF file and its descriptor. */
bool dw_file_detach(struct dw_file *f);

/* Bytes [offset, offset + len) of a section; NULL outside it. They stay where they are. */
const uint8_t *dw_bytes(struct dw_file *f, enum dw_section_id id, uint64_t offset, uint64_t len);
/* From offset to the section's end, at most `max` bytes; an empty reader that has failed outside it. */
struct reader dw_reader(struct dw_file *f, enum dw_section_id id, uint64_t offset, uint64_t max);
const char *dw_string(struct dw_file *f, enum dw_section_id id, uint64_t offset);
static inline uint64_t dw_size(const struct dw_file *f, enum dw_section_id id)
{
	return f->sections[id].size;
}

/* --- Entries (inline_die.c) --- */

/* An attribute's value as it stands in the file: what it means depends on the form and the unit. */
struct dw_value {
	uint16_t form;        /* DW_FORM_*; 0 = the attribute is not there */
	uint64_t u;           /* number, offset or index */
	const uint8_t *bytes; /* DW_FORM_string: borrowed, NUL-terminated */
};

struct dw_spec {
	uint16_t attribute, form;
	int64_t implicit; /* of DW_FORM_implicit_const */
};

struct dw_abbrev {
	uint64_t code;
	uint16_t tag;
	bool children;
	bool has_code;            /* DW_AT_low_pc or DW_AT_ranges is among the attributes */
	uint32_t spec, num_specs; /* in dw_abbrevs.specs */
	uint32_t skip, num_skips; /* in dw_abbrevs.skips */
};

/* How to step over attributes: runs of fixed size are one step. */
struct dw_skip {
	uint16_t form; /* 0 = `bytes` bytes */
	uint16_t bytes;
};

struct dw_abbrevs {
	VEC(struct dw_abbrev) list; /* sorted by code */
	VEC(struct dw_spec) specs;
	VEC(struct dw_skip) skips;
};

struct dw_code;
struct dw_lines;

enum dw_split_state { DW_SPLIT_UNTRIED, DW_SPLIT_NONE, DW_SPLIT_FOUND };

struct dw_unit {
	struct dw_file *file;        /* borrowed */
	uint64_t offset, first, end; /* in .debug_info: header, first entry, behind the last */
	uint64_t abbrev_offset;
	uint64_t dwo_id;               /* 0 = none */
	uint64_t str_shift, rng_shift; /* a .dwp: where this unit's part of a section begins */
	uint16_t version;
	uint8_t address_size, offset_size;
	uint8_t kind; /* DW_UT_* */
	bool root_tried, root_ok;
	const struct dw_abbrevs *abbrevs; /* borrowed from file */

	/* Of the unit's own entry. */
	uint16_t tag;
	struct dw_value low_pc, high_pc, ranges, comp_dir, dwo_name;
	uint64_t base; /* address; 0 = none */
	uint64_t stmt_list;
	bool has_lines;
	uint64_t str_offsets_base, addr_base, rnglists_base, gnu_ranges_base;

	struct dw_unit *skeleton; /* borrowed; of a split unit: addresses and lines are there */
	enum dw_split_state split_state;
	struct dw_unit *split; /* owned, with its file unless that is the package */
	bool split_owns_file;

	bool code_tried, lines_tried;
	struct dw_code *code;   /* owned */
	struct dw_lines *lines; /* owned */
};

/* Finds the units; false when there is nothing to be had. */
bool dw_file_scan(struct dw_file *f);
/* The unit header at `offset`; false when it is broken or of no use. *next is set whenever there is a next. */
bool dw_unit_parse(struct dw_file *f, uint64_t offset, struct dw_unit *ret, uint64_t *next);
void dw_unit_deinit(struct dw_unit *u);
struct dw_unit *dw_unit_at(struct dw_file *f, uint64_t offset); /* that holds it; NULL = none */
/* Reads the unit's own entry, once. */
bool dw_unit_root(struct dw_unit *u);
/* All of its abbreviations, once. */
const struct dw_abbrevs *dw_unit_abbrevs(struct dw_unit *u);

const struct dw_abbrev *dw_abbrev_find(const struct dw_abbrevs *a, uint64_t code);
void dw_abbrevs_free(struct dw_abbrevs *a);

uint64_t dw_number(struct reader *r, unsigned int size); /* 1, 2, 3, 4 or 8 bytes */
bool dw_value_read(const struct dw_unit *u, struct reader *r, uint16_t form, int64_t implicit,
		   struct dw_value *ret);
bool dw_skip_entry(const struct dw_unit *u, const struct dw_abbrevs *a, const struct dw_abbrev *ab,
		   struct reader *r);

bool dw_value_address(struct dw_unit *u, const struct dw_value *v, uint64_t *ret);
const char *dw_value_string(struct dw_unit *u, const struct dw_value *v);
/* The unit and offset of an entry that is referred to. */
bool dw_value_entry(struct dw_unit *u, const struct dw_value *v, struct dw_unit **ret_unit,
		    uint64_t *ret_offset);
bool dw_indexed_address(struct dw_unit *u, uint64_t index, uint64_t *ret);
/* Where DW_AT_high_pc says it ends. */
bool dw_value_end(struct dw_unit *u, const struct dw_value *v, uint64_t low, uint64_t *ret);

/* --- Ranges (inline_ranges.c) --- */

struct dw_range {
	uint64_t lo, hi; /* vaddr, hi exclusive */
	uint32_t id;     /* what the caller likes */
};
typedef VEC(struct dw_range) dw_ranges; /* a type of its own as it is passed around */

/* From `lo` up to the next segment's. */
struct dw_segment {
	uint64_t lo;
	uint32_t id; /* UINT32_MAX = nothing */
};
typedef VEC(struct dw_segment) dw_segments;

/* Adds the ranges that low, high and ranges mean. False when the list is broken or the budget is gone. */
bool dw_ranges_add(struct dw_unit *u, const struct dw_value *low, const struct dw_value *high,
		   const struct dw_value *ranges, uint32_t id, dw_ranges *out);
/* Sorts `in`; of ranges over the same place the one that starts last, then the shortest, then the one with
 * the largest id wins. False when out of memory. */
bool dw_ranges_flatten(dw_ranges *in, dw_segments *out);
uint32_t dw_segments_find(const dw_segments *s, uint64_t vaddr);
/* Code that the linker threw away keeps its entries, at addresses where no code is. */
bool dw_is_code(const struct dw_file *f, uint64_t vaddr);

/* --- Lines (inline_line.c) --- */

/* The line table of a unit (of its skeleton, where it is a split one); NULL when it has none. */
struct dw_lines *dw_unit_lines(struct dw_unit *u);
void dw_lines_free(struct dw_lines *l);
/* False: no row covers it. */
bool dw_lines_find(const struct dw_lines *l, uint64_t vaddr, uint32_t *ret_file,
		   uint32_t *ret_line);
/* Path of a file by its number in the table; interned. NULL = not known. */
const char *dw_lines_file(struct dw_lines *l, struct intern *strings, uint32_t file);

/* --- Functions (inline_code.c) --- */

struct dw_function {
	uint64_t die;    /* offset in .debug_info */
	uint32_t parent; /* caller it is inlined into; UINT32_MAX = none: it has code of its own */
	uint32_t call_file, call_line;
	const char *name; /* interned; NULL = not asked for yet */
};

struct dw_code {
	VEC(struct dw_function) functions;
	dw_segments segments; /* ids are the innermost function's index */
};

/* Functions of a unit by address, built once; NULL when it has none. */
struct dw_code *dw_unit_code(struct dw_unit *u);
void dw_code_free(struct dw_code *c);
/* Linkage name, else plain name, of the function at `die` or what it came from; NULL = none. Not interned. */
const char *dw_function_name(struct dw_unit *u, uint64_t die, bool *ret_mangled);

/* --- Other files (inline_split.c) --- */

struct dw_package; /* a .dwp file */

struct dw_files {
	struct inline_files callbacks;
	bool package_tried;
	struct dw_package *package; /* owned; NULL = none */
	struct dw_budget *budget;   /* borrowed */
};

void dw_files_deinit(struct dw_files *fs);
/* The dwz file that f names; NULL when it names none or it cannot be had. */
struct dw_file *dw_open_alt(struct dw_files *fs, struct dw_file *f);
/* Where the functions of a unit are: the unit itself, or the split one its skeleton stands for. */
struct dw_unit *dw_unit_full(struct dw_files *fs, struct dw_unit *u);
void dw_file_free(struct dw_file *f);
