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
