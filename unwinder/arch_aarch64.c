#include "unwinder/arch.h"

#include <elf.h>
#include <string.h>

/*
 * Order of enum perf_event_arm_regs (arch/arm64/include/uapi/asm/perf_regs.h): X0..X28, X29, LR,
 * SP, PC; the DWARF numbers of aadwarf64 4.1 count the same, and have none for the pc.
 */
static const int8_t to_dwarf[] = {
	0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16,
	17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, -2,
};

/* BL, BLR and BLRAA etc. (Arm ARM, C4.1.66: unconditional branches). */
static bool ends_in_call(const uint8_t code[ARCH_CALL_BYTES])
{
	uint32_t insn;

	memcpy(&insn, code + ARCH_CALL_BYTES - sizeof(insn), sizeof(insn));
	return (insn & 0xfc000000) == 0x94000000 || (insn & 0xfffffc1f) == 0xd63f0000 ||
	       (insn & 0xfefff800) == 0xd63f0800;
}

const struct arch arch_aarch64 = {
	.name = "aarch64",
	.elf_machine = EM_AARCH64,
	.perf_regs = 0x1ffffffff,
	.to_dwarf = to_dwarf,
	.num_perf_regs = sizeof(to_dwarf),
	.num_regs = 34,
	.sp = 31,
	.fp = 29,
	.ra = 30,
	.tracked = { 30, 29, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28 },
	.num_tracked = 12,
	.callee_saved = 0x3ffull << 19 | 1ull << 29, /* AAPCS64 6.1.1: x19..x28, x29 */
	/* A signed return address has its code above the 48 bits of a user address (the kernel's
	 * default). */
	.ra_mask = 0xffffffffffffull,
	.call_pushes_ra = 0,
	.ends_in_call = ends_in_call,
	/*
	 * mov x0, x19: __startcontext of sysdeps/unix/sysv/linux/aarch64/setcontext.S. What is called
	 * finds nothing of its own in x19.
	 */
	.context_start = { 0xe0, 0x03, 0x13, 0xaa },
	.context_start_bytes = 4,
	/* mov x8, #139; svc #0: arch/arm64/kernel/vdso/sigreturn.S, which has call-frame information */
	.sigreturn = { 0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4 },
	.sigreturn_bytes = 8,
};
