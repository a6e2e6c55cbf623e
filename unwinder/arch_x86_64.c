#include "unwinder/arch.h"

#include <elf.h>

/*
 * Order of enum perf_event_x86_regs (arch/x86/include/uapi/asm/perf_regs.h): AX BX CX DX SI DI
 * BP SP IP FLAGS CS SS DS ES FS GS R8..R15. Numbers of the psABI, figure 3.36.
 */
static const int8_t to_dwarf[] = {
	0, 3, 2, 1, 4, 5, 6, 7, -2, -1, -1, -1, -1, -1, -1, -1, 8, 9, 10, 11, 12, 13, 14, 15,
};

/*
 * Length of `FF /2`, the call through a register or memory, by its ModR/M and SIB bytes (Intel SDM
 * volume 2, tables 2-2 and 2-3); 0 when it is none.
 */
static unsigned int indirect_call_bytes(uint8_t modrm, uint8_t sib)
{
	const unsigned int mod = modrm >> 6, rm = modrm & 7;
	unsigned int len = 2;

	if ((modrm >> 3 & 7) != 2)
		return 0;
	if (mod == 3)
		return len;
	len += rm == 4;
	if (mod == 1)
		return len + 1;
	if (mod == 2 || rm == 5 || (rm == 4 && (sib & 7) == 5))
		return len + 4;
	return len;
}

static bool ends_in_call(const uint8_t code[ARCH_CALL_BYTES])
{
	if (code[ARCH_CALL_BYTES - 5] == 0xe8) /* call rel32 */
		return true;
	for (unsigned int len = 2; len <= ARCH_CALL_BYTES; len++) {
		const uint8_t *at = &code[ARCH_CALL_BYTES - len];

		if (at[0] == 0xff && indirect_call_bytes(at[1], len > 2 ? at[2] : 0) == len)
			return true;
	}
	return false;
}

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
	.ends_in_call = ends_in_call,
	/*
	 * mov %rbx,%rsp; mov (%rsp),%rdi: sysdeps/unix/sysv/linux/x86_64/__start_context.S. Code that
	 * is called cannot begin by throwing its stack away.
	 */
	.context_start = { 0x48, 0x89, 0xdc, 0x48, 0x8b, 0x3c, 0x24 },
	.context_start_bytes = 7,
	/* mov $15,%rax; syscall: glibc sysdeps/unix/sysv/linux/x86_64/libc_sigaction.c */
	.sigreturn = { 0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05 },
	.sigreturn_bytes = 9,
	/* struct sigcontext in struct ucontext (arch/x86/include/uapi/asm/sigcontext.h), where the stack pointer points */
	.sigframe_at = { 144, 136, 152, 128, 112, 104, 120, 160, 40, 48, 56, 64, 72, 80, 88, 96, 168 },
};
