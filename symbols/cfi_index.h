/*
 * Call-frame information before libdw sees it: which entry covers a vaddr, and whether its instructions are
 * such that libdw may run them. libdw 0.188 takes 16 bytes for each register up to the highest one named,
 * copies them for every remembered state, and reads numbers past their entry; a row of a hostile file would
 * cost gigabytes. For this folder only.
 *
 * Layout: LSB Core, Generic, 10.6 (.eh_frame and its table); DWARF 5, 6.4 (.debug_frame and instructions).
 */
#pragma once

#include "base/reader.h"
#include "symbols/elf_cfi.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CFI_MAX_REG = 255,          /* x86-64 has 17 and aarch64 96 in use */
	CFI_MAX_REMEMBERED = 16,    /* states; compilers never nest them */
	CFI_MAX_PROGRAM = 64 << 10, /* bytes of instructions of one entry; the longest known has 21 KiB */
	CFI_MAX_EXPR = 256,         /* bytes of one DWARF expression */
	CFI_MAX_FDES = 4 << 20,     /* of a section without a usable table */
	CFI_TABLE_ENTRY = 8,        /* two sdata4 */
	CFI_KNOWN_CIES = 4,         /* power of two */
	CFI_LEB_MAX = 10, /* bytes that libdw takes for a number; longer ones it would read on behind */
};

/* Numbers whose length all readers agree on. */
static inline uint64_t cfi_take_uleb(struct reader *r)
{
	const uint8_t *from = r->pos;
	uint64_t v = reader_uleb(r);

	r->failed |= r->pos - from > CFI_LEB_MAX;
	return v;
}

static inline int64_t cfi_take_sleb(struct reader *r)
{
	const uint8_t *from = r->pos;
	int64_t v = reader_sleb(r);

	r->failed |= r->pos - from > CFI_LEB_MAX;
	return v;
}

/* A CIE that was looked at. */
struct cfi_cie {
	uint32_t place;   /* offset + 1; 0 = none */
	bool readable;    /* the rest means nothing otherwise */
	bool fine;        /* its instructions are */
	bool sized;       /* its FDEs have augmentation data of a given size */
	uint8_t encoding; /* of addresses in its FDEs (DW_EH_PE_*) */
	bool signal;      /* its FDEs are signal frames */
	uint8_t ra;       /* column of the return address */
	uint64_t code_align;
	int64_t data_align;
	uint32_t program_at, program_size; /* its instructions; the bytes may move */
};

/* What plain instructions change, see cfi_plain.c; small, as it is copied for each remembered state. */
struct cfi_state {
	uint8_t cfa_reg;
	bool has_cfa;
	int32_t cfa_off;
	uint32_t saved, undefined; /* as in struct elf_plain_row */
	int16_t at[ELF_PLAIN_REGS];
};

/* What the instructions of a CIE come to. */
struct cfi_begin {
	uint32_t place; /* as in struct cfi_cie */
	bool plain;     /* the rest means nothing otherwise */
	struct cfi_state state;
};

/* An FDE. */
struct cfi_fde {
	uint64_t start, end; /* vaddrs of its code */
	struct cfi_cie cie;
	struct reader rest; /* what is behind the range: augmentation data where those are sized, instructions */
};

/* A section in the form of .eh_frame, with a search table. Both are borrowed. */
struct cfi_index {
	uint8_t *bytes; /* at most 4 GiB - 1 */
	size_t size;
	uint64_t vaddr;
	/*
	 * Pairs, as in .eh_frame_hdr: where the code of an FDE starts, ascending, and where the FDE
	 * lies. Both are vaddrs, counted from `base`.
	 */
	const uint8_t *table;
	size_t num;
	uint64_t base;
	bool aarch64;
	/* Makes [offset, offset + len) of bytes good to read, within size; NULL: all is. False: they cannot be had. */
	bool (*fetch)(void *data, size_t offset, size_t len);
	void *data;
	struct cfi_cie known[CFI_KNOWN_CIES];
	struct cfi_begin begins[CFI_KNOWN_CIES];
};

/* Is a table that a linker wrote one that every binary search reads alike? */
bool cfi_table_is_sorted(const uint8_t *table, size_t num);

/*
 * Turns a .debug_frame into the form of .eh_frame, in place: identifiers of CIEs and the references to them
 * change. Entries that cannot be turned become such as nobody refers to.
 */
void cfi_from_debug_frame(uint8_t *bytes, size_t size);

/*
 * A table for x->bytes, in new memory; x->table, num and base are set. `moves`: the section has no vaddr of
 * its own (.debug_frame), one is chosen. NULL when there are no FDEs or memory is out.
 */
uint8_t *cfi_table_build(struct cfi_index *x, bool moves);

/*
 * Whether libdw may be asked for the row at vaddr. On aarch64 this also makes DW_CFA_AARCH64_negate_ra_state
 * a no-op in the entry found: libdw 0.188 takes it for SPARC's DW_CFA_GNU_window_save, and the bits it speaks
 * of are masked off in any case (arch->ra_mask).
 */
enum elf_row cfi_index_row(struct cfi_index *x, uint64_t vaddr);

/* The FDE that covers vaddr; nothing in its instructions was looked at. */
enum elf_row cfi_index_find(struct cfi_index *x, uint64_t vaddr, struct cfi_fde *ret);

/*
 * The row at vaddr if nothing is in the way of it but the few instructions that compilers use nearly everywhere; false
 * leaves it to libdw. Reads no further than its entry and that one's CIE.
 */
bool cfi_index_plain(struct cfi_index *x, uint64_t vaddr, struct elf_plain_row *ret);
