/* Rows of call-frame information: who may be asked for one. */
#pragma once

#include "symbols/elf_file.h"

enum elf_row {
	ELF_ROW_NONE, /* no call-frame information covers the vaddr */
	ELF_ROW_FINE,
	ELF_ROW_BAD,  /* some does, but libdw must not see it: out of all bounds, or malformed */
};

/*
 * A row of the kind that nearly all are: CFA = register + offset, and what else it says is that registers are saved
 * at an offset from that, or have no value. The others keep theirs. Registers are DWARF numbers.
 */
enum { ELF_PLAIN_REGS = 32 };
struct elf_plain_row {
	uint64_t start, end; /* vaddrs that it holds for */
	bool signal;
	uint8_t ra;          /* where the return address is */
	uint8_t cfa_reg;
	int32_t cfa_off;
	uint32_t saved, undefined; /* a bit for each register */
	int16_t at[ELF_PLAIN_REGS]; /* of those in `saved`: CFA + this is where */
};

/* False: there is none at vaddr, or it is not plain; elf_file_row tells. Not for aarch64. */
bool elf_file_plain_row(struct elf_file *f, uint64_t vaddr, struct elf_plain_row *ret);

/* The same from what was published with code; for its own machine, which is not aarch64. */
struct jit_cfi;
bool jit_cfi_plain_row(const struct jit_cfi *cfi, uint64_t addr, struct elf_plain_row *ret);

/* Looks in .eh_frame, then in .debug_frame. ELF_ROW_FINE: *ret is what knows the row. */
enum elf_row elf_file_row(struct elf_file *f, uint64_t vaddr, Dwarf_CFI **ret);

/*
 * How many bytes of call-frame information files may hold together: those that were asked longest ago give theirs back,
 * and read them again when they are asked. Not more than `max` after a question, and at most what one file needs above it.
 */
enum { CFI_ROOM_BYTES = 6 << 20 };
struct cfi_room {
	size_t max, held;
	struct elf_cfi *oldest, *newest; /* by their last use */
};
/* All give theirs back; nobody asks for a while. */
void cfi_room_clear(struct cfi_room *room);
/* Before the first question; `room` must outlive f, as must its place in memory. */
void elf_file_share_room(struct elf_file *f, struct cfi_room *room);

/*
 * Gives the memory back that call-frame information takes (the bytes of .eh_frame and what libdw made of them)
 * where no row was asked for since the last call. It comes back with the next question, for a millisecond or
 * two: once a second is often enough.
 */
void elf_file_rest(struct elf_file *f);
