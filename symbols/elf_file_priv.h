/* What the parts of an ELF file share; for this folder only. */
#pragma once

#include "base/reader.h"
#include "base/vec.h"
#include "symbols/cfi_index.h"
#include "symbols/elf_file.h"

#include <elf.h>
#include <time.h>

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
	bool asked; /* since elf_file_rest */
	uint8_t *image; /* NULL: there is none, or it was not asked for yet */
	size_t image_size;
	Elf *elf;       /* NULL: libdw was not asked yet */
	Dwarf_CFI *cfi;
	struct cfi_index index;

	/* Where .eh_frame is large it is read in pieces, as they are needed, and the image is mapped memory. */
	const struct elf_file *file; /* borrowed */
	uint64_t offset;             /* of .eh_frame in it */
	uint8_t *have;               /* one for each piece; NULL: all is there */

	struct cfi_room *room;       /* borrowed; NULL: it may take what it likes */
	struct elf_cfi *prev, *next; /* in it */
	size_t held;                 /* bytes that count there */
};

/* A function that begins the stack of a goroutine or of one of Go's threads; vaddrs. */
struct elf_go_root {
	uint64_t start, end;
	uint8_t kind; /* enum elf_root */
};

/* Where the parts of .gopclntab are. Offsets are from its header. */
struct elf_pclntab {
	struct elf_file *f;
	uint64_t offset;   /* in the file */
	uint64_t vaddr;    /* of the header */
	uint64_t size;
	bool relative;     /* since 1.18: 32-bit offsets from text */
	unsigned int unit; /* bytes that code addresses are multiples of */
	uint64_t text;
	uint64_t num;      /* functions; 0: there is no table */
	uint64_t names;    /* offset of the names */
	uint64_t pctab;    /* offset of the tables by code address */
	uint64_t funcs;    /* offset of the table of functions */
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
	struct cfi_room *cfi_room; /* borrowed; NULL = none */

	struct elf_file *debug; /* where the names are instead */
	struct elf_remote *remote; /* owned; NULL: it is parsed here. Else see elf_remote.h */

	bool pclntab_tried;
	struct elf_pclntab pclntab;
	bool go_roots_tried;
	VEC(struct elf_go_root) go_roots;
};

/* Bytes of the file; -EBADMSG outside it. */
int elf_file_read(const struct elf_file *f, void *buf, size_t size, uint64_t offset);

/* No segment wraps, or is larger in the file than in memory. */
bool elf_load_is_sane(const struct elf_load *load);
/* It is a file name; a path in it could only be meant to lead elsewhere. */
bool elf_debuglink_is_name(const char *name);

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

/*
 * elf_read.c. A table of records of `each` bytes, at most `max` of them, read in pieces. False from
 * init: out of memory (the cursor then is empty and may be freed).
 */
struct elf_cursor {
	const struct elf_file *f;
	uint64_t offset;
	uint64_t left; /* records not yet read */
	size_t each;
	struct reader chunk;
	uint8_t *buf;
};
bool elf_cursor_init(struct elf_cursor *c, const struct elf_file *f, uint64_t offset,
		     uint64_t size, size_t each, uint64_t max);
void elf_cursor_deinit(struct elf_cursor *c);
bool elf_cursor_refill(struct elf_cursor *c);

/* A reader of the next record, good until the next call; false at the end or where reading fails. */
static inline bool elf_cursor_next(struct elf_cursor *c, struct reader *ret)
{
	if (reader_left(&c->chunk) < c->each && !elf_cursor_refill(c))
		return false;
	*ret = reader_init(c->chunk.pos, c->each);
	c->chunk.pos += c->each;
	return true;
}

/*
 * Part of a file in which places near each other are asked for: names above all. False from init:
 * it does not lie in the file, is larger than ELF_MAX_CONTENT, or memory is out (it may be freed).
 */
struct elf_window {
	const struct elf_file *f;
	uint64_t offset, size; /* of the part */
	/*
	 * Names may share bytes in a hostile file, a megabyte name used a million times say, so no
	 * more is taken out of it than a few times what it holds.
	 */
	uint64_t budget;
	uint64_t at; /* what is in buf, from the start of the part */
	size_t len;
	unsigned int moves;
	uint8_t *buf;
};
bool elf_window_init(struct elf_window *w, const struct elf_file *f, uint64_t offset,
		     uint64_t size);
void elf_window_deinit(struct elf_window *w);
/* At most 4 KiB. NULL: not in the part. Good until the next call, as is a string. */
const uint8_t *elf_window_bytes(struct elf_window *w, uint64_t at, size_t len);
/* Not NUL-terminated where the part ends first. NULL: none, an empty one, longer than 64 KiB. */
const char *elf_window_string(struct elf_window *w, uint64_t at, size_t *ret_len);

/* elf_unpack.c. All within ELF_MAX_CONTENT and ELF_MAX_RATIO. */
bool elf_unpack_allowed(uint64_t packed, uint64_t unpacked);
/* A zlib stream of the file that must yield exactly out_size bytes. */
bool elf_unpack_zlib(const struct elf_file *f, uint64_t offset, uint64_t size, uint8_t *out,
		     uint64_t out_size);
/* An xz stream of the file, in new memory; NULL when it is broken or too much. */
uint8_t *elf_unpack_xz(const struct elf_file *f, uint64_t offset, uint64_t size, size_t *ret_size);

/* elf_cfi.c */
void elf_cfi_deinit(struct elf_cfi *cfi);
/* Gives back what can be read again piece by piece. */
void elf_cfi_drop(struct elf_cfi *cfi);

/* cfi_room.c. The one that was used last; one that is new here is added. */
void cfi_room_use(struct cfi_room *room, struct elf_cfi *cfi);
void cfi_room_leave(struct elf_cfi *cfi);
/* Between two questions only: what was read for one must stay until it is answered. */
void cfi_room_keep_within(struct cfi_room *room);

/* elf_symtab.c. One symbol (gABI, "Symbol Table"). */
struct elf_symbol {
	uint32_t name;
	uint8_t type, bind;
	uint16_t shndx;
	uint64_t value, size;
};
void elf_symbol_parse(const struct elf_file *f, struct reader *r, struct elf_symbol *ret);
/* STT_FUNC, STT_GNU_IFUNC or STT_NOTYPE. */
bool elf_symbol_is_code(const struct elf_symbol *sym);
/* The first section of a type; NULL when there is none. */
const struct elf_section *elf_section_of_type(struct elf_file *f, uint32_t type);
/* All symbols of a table, and their names. False: unreadable or out of memory (they may be freed). */
bool elf_symbols_init(struct elf_cursor *c, const struct elf_file *f,
		      const struct elf_section *table);
bool elf_names_init(struct elf_window *names, struct elf_file *f, const struct elf_section *table);
/* Without the version of a default symbol ("memcpy@@GLIBC_2.14"). NULL: none. */
const char *elf_name_get(struct elf_window *names, uint32_t at, size_t *ret_len);
/* Vaddr where the sized symbol that holds `vaddr` ends; 0 without one. */
uint64_t elf_symtab_end_of(struct elf_file *f, uint64_t vaddr);
/* Of the code that .eh_frame tells to begin there; 0 = it tells of none. Reads no more than a search takes. */
uint64_t elf_cfi_end_of(struct elf_file *f, uint64_t vaddr);

/*
 * elf_plt.c. The entries of the procedure linkage table that the questions of a symtab lie in. Nothing
 * is read where none does.
 */
struct elf_plt;
int elf_plt_open(struct elf_file *f, const struct symtab *questions, const uint64_t *vaddrs,
		 struct elf_plt **ret); /* *ret NULL: no question lies in a PLT. 0 or -ENOMEM */
void elf_plt_free(struct elf_plt *p); /* NULL is fine */
/* An indirect function: calls to it go through an entry that knows its resolver only. */
bool elf_plt_wants_resolver(const struct elf_plt *p, uint64_t resolver);
bool elf_plt_add_resolver(struct elf_plt *p, uint64_t resolver, const char *name, size_t len);
/* Offers NAME@plt for each. False when out of memory. */
bool elf_plt_offer(struct elf_plt *p, struct symtab *t);

/* elf_go.c */
enum elf_root elf_go_root(struct elf_file *f, uint64_t vaddr, uint64_t *start);
/* Offers the functions of .gopclntab. */
void elf_go_offer_functions(struct elf_file *f, struct symtab *t);
