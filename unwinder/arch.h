/*
 * What the unwinder must know of a CPU: data, and at most one function. To add one: write arch_NAME.c, add it
 * to unwinder/meson.build. The unwinder itself never asks which machine it runs on.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	ARCH_MAX_REGS = 34,    /* DWARF numbers we keep: aarch64's 0..33 */
	ARCH_MAX_TRACKED = 12, /* callee-saved registers and the return address column in a rule */
	ARCH_MAX_PERF_REGS = 64,
	ARCH_CALL_BYTES = 7,   /* of the longest call instruction */
	ARCH_CONTEXT_BYTES = 7,
	ARCH_SIGRETURN_BYTES = 9,
};

/* Registers of one frame, by DWARF number. A register whose bit in `valid` is clear is not known. */
struct regs {
	uint64_t v[ARCH_MAX_REGS];
	uint64_t valid;
	uint64_t pc; /* of the frame; kept apart, as some CPUs have no DWARF number for it */
};

struct arch {
	const char *name;
	uint16_t elf_machine;      /* EM_* */
	uint64_t perf_regs;        /* mask for attr.sample_regs_user */
	const int8_t *to_dwarf;    /* perf register bit -> DWARF number; -1 = none; -2 = the pc */
	uint8_t num_perf_regs;     /* entries of to_dwarf */
	uint8_t num_regs;          /* DWARF numbers 0..num_regs-1 are used */
	uint8_t sp, fp, ra;        /* DWARF numbers: stack, frame pointer, return address column */
	/* DWARF numbers a 16-byte rule has slots for; [0] is `ra`, [1] is `fp`. */
	uint8_t tracked[ARCH_MAX_TRACKED];
	uint8_t num_tracked;
	uint64_t callee_saved;     /* bit per DWARF number: keeps its value when a row says nothing */
	uint64_t libdw_forgets;    /* of them, those libdw calls undefined where a row says nothing */
	uint64_t ra_mask;          /* bits of a return address that are address (pointer authentication) */
	uint8_t call_pushes_ra;    /* x86: the return address lies at sp on entry; else in a register */
	/* May a call be the last instruction of these bytes of code? */
	bool (*ends_in_call)(const uint8_t code[ARCH_CALL_BYTES]);
	/* How the function begins that glibc's makecontext lets contexts return to. */
	uint8_t context_start[ARCH_CONTEXT_BYTES];
	uint8_t context_start_bytes;
	/*
	 * The code that only returns from a signal handler: it loads the number of rt_sigreturn and enters the kernel, in the
	 * very form that debuggers look for, so no C library changes it.
	 */
	uint8_t sigreturn[ARCH_SIGRETURN_BYTES];
	uint8_t sigreturn_bytes;
	/* Where it stands, each register and, as `ra`, the pc lie so far above the stack pointer; 0 = not known. */
	uint16_t sigframe_at[ARCH_MAX_REGS];
};

extern const struct arch arch_x86_64;
extern const struct arch arch_aarch64;
const struct arch *arch_host(void);
const struct arch *arch_by_machine(uint16_t elf_machine);

/* Which register each value of a sample is. */
struct arch_layout {
	uint64_t mask;                    /* attr.sample_regs_user */
	uint64_t valid;                   /* DWARF numbers that it has, as in struct regs */
	uint8_t num;                      /* values */
	uint8_t pc_at, sp_at, fp_at;      /* which of them they are; UINT8_MAX = none */
	uint8_t dwarf[ARCH_MAX_PERF_REGS]; /* ARCH_MAX_REGS - 1 for those of no use, which is never valid */
};
void arch_layout_init(struct arch_layout *l, const struct arch *arch, uint64_t mask);

/* The values of all others than the pc; ret->valid stays as it is. */
static inline void arch_regs_take(const struct arch_layout *l, const uint64_t *values,
				  struct regs *ret)
{
	for (size_t i = 0; i < l->num; i++)
		ret->v[l->dwarf[i]] = values[i];
}

/* The pc, which registers there are, and of them the stack and the frame pointer. */
static inline void arch_regs_take_main(const struct arch_layout *l, const struct arch *arch, const uint64_t *values,
				       struct regs *ret)
{
	ret->pc = l->pc_at < l->num ? values[l->pc_at] : 0;
	ret->v[arch->sp] = l->sp_at < l->num ? values[l->sp_at] : 0;
	ret->v[arch->fp] = l->fp_at < l->num ? values[l->fp_at] : 0;
	ret->valid = l->valid;
}

/* Values in the order of the mask's bits (perf_output_sample_regs), num of them. */
void arch_regs_from_perf(const struct arch *arch, uint64_t mask, const uint64_t *values, size_t num,
			 struct regs *ret);
