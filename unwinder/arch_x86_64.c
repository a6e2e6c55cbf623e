#include "unwinder/arch.h"

#include <elf.h>

/*
 * Order of enum perf_event_x86_regs (arch/x86/include/uapi/asm/perf_regs.h): AX BX CX DX SI DI
 * BP SP IP FLAGS CS SS DS ES FS GS R8..R15. Numbers of the psABI, figure 3.36.
 */
static const int8_t to_dwarf[] = {
	0, 3, 2, 1, 4, 5, 6, 7, -2, -1, -1, -1, -1, -1, -1, -1, 8, 9, 10, 11, 12, 13, 14, 15,
};

const struct arch arch_x86_64 = {
	.name = "x86_64",
	.elf_machine = EM_X86_64,
	/* The kernel refuses DS, ES, FS and GS; flags and the other segments tell nothing. */
	.perf_regs = 0xff01ff,
	.to_dwarf = to_dwarf,
	.num_perf_regs = sizeof(to_dwarf),
	.num_regs = 17,
	.sp = 7,
	.fp = 6,
	.ra = 16,
	.tracked = { 16, 6, 3, 12, 13, 14, 15 }, /* rip rbp rbx r12 r13 r14 r15 */
	.num_tracked = 7,
	.callee_saved = 1u << 3 | 1u << 6 | 0xfu << 12, /* psABI 3.2.1: rbx rbp r12 r13 r14 r15 */
	/* elfutils backends/x86_64_cfi.c says %rbx and writes the number of %rax. */
	.libdw_forgets = 1u << 3,
	.ra_mask = ~0ull,
	.call_pushes_ra = 1,
};
