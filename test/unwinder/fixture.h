/*
 * Made-up programs for the unwinder's tests: call-frame information byte by byte, a small ELF
 * image around it, an address space and a sample.
 */
#pragma once

#include "symbols/addrspace.h"
#include "symbols/elf_file.h"
#include "symbols/file.h"
#include "test/mappings_view.h"
#include "unwinder/unwinder.h"

#include <dwarf.h>
#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- call-frame information (DWARF 5, 6.4) ---- */

struct cfi_bytes {
	uint8_t data[32768];
	size_t len;
	bool debug_frame; /* .debug_frame, else .eh_frame */
	size_t cie;       /* where the last CIE starts */
};

void cfi_u8(struct cfi_bytes *b, uint8_t v);
void cfi_u32(struct cfi_bytes *b, uint32_t v);
void cfi_u64(struct cfi_bytes *b, uint64_t v);
void cfi_uleb(struct cfi_bytes *b, uint64_t v);
void cfi_sleb(struct cfi_bytes *b, int64_t v);
/* code alignment 1, data alignment -8. `init`: its instructions. */
void cfi_cie(struct cfi_bytes *b, const char *augmentation, uint8_t ra, const void *init,
	     size_t len);
void cfi_fde(struct cfi_bytes *b, uint64_t start, uint64_t size, const void *program, size_t len);
#define CFI_PROGRAM(...) (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })
/* x86-64 CIE: CFA = rsp + 8, return address at CFA - 8. */
void cfi_cie_x86(struct cfi_bytes *b, const char *augmentation);

/* ---- a program ---- */

enum {
	TEXT = 0x1000, /* vaddr and offset of its code */
	TEXT_SIZE = 0x8000,
	ENTRY = 0x8f00, /* the entry point, away from what tests use */
};
#define LOADED_AT 0x555500000000ull /* address of vaddr 0 */
#define JIT_AT    0x7f0000000000ull /* 64 KiB of code without a file */
#define STACK_AT  0x7ffd00000000ull

struct program {
	uint8_t *image;
	struct elf_file *elf;
	struct file file;
	struct mapping maps[2];
	struct map_run run; /* of the space */
	struct addrspace space;
};

/* Ends the test when that fails. */
void program_init(struct program *p, uint16_t machine, const struct cfi_bytes *cfi);
void program_deinit(struct program *p);

/* ---- a sample ---- */

struct sample {
	uint64_t regs[ARCH_MAX_PERF_REGS]; /* in perf's order */
	uint64_t stack[1024];
	size_t stack_bytes;
	bool in_pieces; /* of its stack nothing is there until it is asked for */
	struct unwind_input in;
	uint32_t frames[1024];
	struct unwind_result result;
};

/* From now on samples begin with in_pieces. */
void walk_in_pieces(void);
/* A stack of `words` words, all zero, sp at its start; every register 0. */
void sample_init(struct sample *s, const struct arch *arch, const struct program *p, size_t words);
void sample_reg(struct sample *s, const struct arch *arch, int dwarf, uint64_t value);
void sample_pc(struct sample *s, const struct arch *arch, uint64_t pc);
/* Address of word `index` of the stack. */
static inline uint64_t stack_addr(size_t index)
{
	return STACK_AT + 8 * index;
}
void sample_walk(struct unwinder *u, struct sample *s);
/* What frame `index` stands for: the offset in the file or the address; ~0 when there is no such
 * frame. */
uint64_t sample_place(const struct unwinder *u, const struct sample *s, size_t index);
struct unwinder *new_unwinder(const struct arch *arch, enum unwind_method method);

/* ---- this very process ---- */

struct self {
	VEC(struct mapping) maps;
	struct map_run run; /* of the space */
	struct addrspace space;
	struct file *files; /* as many as mappings at most */
	size_t num_files;
};
void self_init(struct self *self); /* ends the test when that fails */
void self_deinit(struct self *self);
