/* Rows of call-frame information: who may be asked for one. */
#pragma once

#include "symbols/elf_file.h"

enum elf_row {
	ELF_ROW_NONE, /* no call-frame information covers the vaddr */
	ELF_ROW_FINE,
	ELF_ROW_BAD,  /* some does, but libdw must not see it: out of all bounds, or malformed */
};

/* Looks in .eh_frame, then in .debug_frame. ELF_ROW_FINE: *ret is what knows the row. */
enum elf_row elf_file_row(struct elf_file *f, uint64_t vaddr, Dwarf_CFI **ret);

/*
 * Gives the memory back that call-frame information takes (the bytes of .eh_frame and what libdw made of them)
 * where no row was asked for since the last call. It comes back with the next question, for a millisecond or
 * two: once a second is often enough.
 */
void elf_file_rest(struct elf_file *f);
