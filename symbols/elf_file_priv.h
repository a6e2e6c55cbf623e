/* What the parts of an ELF file share; for this folder only. */
#pragma once

#include "base/reader.h"
#include "base/vec.h"
#include "symbols/elf_file.h"

#include <elf.h>
#include <time.h>

struct symtab_builder;
struct Dwarf;

enum {
	ELF_MAX_PHDRS = 512,
	ELF_MAX_SECTIONS = 1 << 17,
	ELF_MAX_NAMES = 16 << 20,    /* bytes of section names */
	ELF_MAX_CONTENT = 256 << 20, /* bytes of any one section, also unpacked */
	ELF_MAX_RATIO = 200,         /* unpacked : packed */
	ELF_MAX_NOTES = 64 << 10,    /* bytes of one note segment or section */
	ELF_MAX_SYMBOLS = 4 << 20,   /* of one table */
	ELF_MAX_BUILD_ID = 64,       /* bytes; linkers write 8 to 32 */
	ELF_ENTRY_BYTES = 64,        /* of an entry point whose symbol has no size */
	ELF_ENTRY_MAX = 4096,        /* of an entry point whose symbol has one */
};

/* Where a program header says something lies. size 0 = not there. */
struct elf_range {
	uint64_t offset, vaddr, size, align;
};

struct elf_section {
	const char *name; /* borrowed from section_names; "" when broken */
	uint32_t type, link;
	uint64_t flags, addr, offset, size, entsize;
};

/* Call-frame information: a small ELF image of our own making, and what libdw says about it. */
struct elf_cfi {
	bool tried;
	uint8_t *image;
	Elf *elf;
	struct Dwarf *dwarf; /* only .debug_frame needs one; it owns cfi then */
	Dwarf_CFI *cfi;
};

enum elf_answer { ELF_UNASKED, ELF_NO, ELF_YES };

struct elf_file {
	int fd;               /* -1: in memory */
	const uint8_t *bytes; /* NULL: behind fd */
	uint64_t size;
	uint64_t size_at_open; /* of fstat */
	struct timespec mtime_at_open;

	uint8_t ident[EI_NIDENT];
	bool is_64;
	uint16_t type, machine;
	uint32_t flags;
	uint64_t entry;
	uint64_t shoff;
	uint32_t shnum, shentsize, shstrndx;

	VEC(struct elf_load) loads;
	VEC(struct elf_range) notes;
	struct elf_range eh_frame_hdr, dynamic;
	bool has_interp;

	bool sections_tried;
	struct elf_section *sections;
	size_t num_sections;
	char *section_names;

	bool notes_tried;
	bool go_note;
	uint8_t build_id[ELF_MAX_BUILD_ID];
	size_t build_id_len;

	bool debuglink_tried;
	char *debuglink;
	uint32_t debuglink_crc;

	enum elf_answer is_go;
	bool entry_tried;
	uint64_t entry_end; /* 0: the entry point is no root */

	struct elf_cfi eh_frame, debug_frame;

	bool symtab_tried;
	struct symtab *symtab;
	struct symtab *old_symtab; /* what callers may still borrow after a debug file came */
	bool has_debug;
};

/* Bytes of the file; -EBADMSG outside it. */
int elf_file_read(const struct elf_file *f, void *buf, size_t size, uint64_t offset);
/* The same in new memory with a NUL behind it; NULL on any failure, and when size > cap. */
void *elf_file_load(const struct elf_file *f, uint64_t offset, uint64_t size, uint64_t cap);

/* Section headers, read on first use. An unreadable table is an empty one. */
size_t elf_file_sections(struct elf_file *f, const struct elf_section **ret);
const struct elf_section *elf_file_section(struct elf_file *f, const char *name);
/* The section numbered `index` if it is of `type`; else NULL. */
const struct elf_section *elf_file_section_at(struct elf_file *f, uint32_t index, uint32_t type);
/* Vaddr where the section ends; 0 when it has no address or wraps. */
uint64_t elf_section_end(const struct elf_section *s);

/* Address-sized field: 4 or 8 bytes. */
static inline uint64_t elf_word(const struct elf_file *f, struct reader *r)
{
	return f->is_64 ? reader_u64(r) : reader_u32(r);
}

/* The build-ids are equal, or without one the debuglink's CRC32 is that of `debug`. */
bool elf_file_matches_debug(struct elf_file *f, struct elf_file *debug);

/* elf_unpack.c. All within ELF_MAX_CONTENT and ELF_MAX_RATIO. */
bool elf_unpack_allowed(uint64_t packed, uint64_t unpacked);
/* A zlib stream of the file that must yield exactly out_size bytes. */
bool elf_unpack_zlib(const struct elf_file *f, uint64_t offset, uint64_t size, uint8_t *out,
		     uint64_t out_size);
/* An xz stream of the file, in new memory; NULL when it is broken or too much. */
uint8_t *elf_unpack_xz(const struct elf_file *f, uint64_t offset, uint64_t size, size_t *ret_size);

/* elf_cfi.c */
void elf_cfi_deinit(struct elf_cfi *cfi);

/* elf_symtab.c: vaddr where the sized symbol that holds `vaddr` ends; 0 without one. */
uint64_t elf_symtab_end_of(struct elf_file *f, uint64_t vaddr);

/* elf_go.c */
bool elf_go_is_root(struct elf_file *f, uint64_t vaddr);
/* Adds the functions of .gopclntab. False only when out of memory. */
bool elf_go_add_functions(struct elf_file *f, struct symtab_builder *b);
