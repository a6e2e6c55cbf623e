#include "unwinder/arch.h"

static const struct arch *const archs[] = { &arch_x86_64, &arch_aarch64 };

const struct arch *arch_host(void)
{
#if defined(__x86_64__)
	return &arch_x86_64;
#elif defined(__aarch64__)
	return &arch_aarch64;
#else
	return NULL;
#endif
}

const struct arch *arch_by_machine(uint16_t elf_machine)
{
	for (size_t i = 0; i < sizeof(archs) / sizeof(archs[0]); i++) {
		if (archs[i]->elf_machine == elf_machine)
			return archs[i];
	}
	return NULL;
}

void arch_regs_from_perf(const struct arch *arch, uint64_t mask, const uint64_t *values, size_t num,
			 struct regs *ret)
{
	ret->valid = 0;
	ret->pc = 0;
	for (size_t i = 0; mask && i < num; i++, mask &= mask - 1) {
		unsigned int bit = (unsigned int)__builtin_ctzll(mask);
		int dwarf = bit < arch->num_perf_regs ? arch->to_dwarf[bit] : -1;

		if (dwarf >= 0) {
			ret->v[dwarf] = values[i];
			ret->valid |= 1ull << dwarf;
		} else if (dwarf == -2) {
			ret->pc = values[i];
		}
	}
}
