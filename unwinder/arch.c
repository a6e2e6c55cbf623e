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

void arch_layout_init(struct arch_layout *l, const struct arch *arch, uint64_t mask)
{
	*l = (struct arch_layout){ .mask = mask, .pc_at = UINT8_MAX, .sp_at = UINT8_MAX, .fp_at = UINT8_MAX };
	for (unsigned int bit = 0; bit < ARCH_MAX_PERF_REGS; bit++) {
		int dwarf = bit < arch->num_perf_regs ? arch->to_dwarf[bit] : -1;

		if (!(mask >> bit & 1))
			continue;
		if (dwarf == -2)
			l->pc_at = l->num;
		if (dwarf >= 0)
			l->valid |= 1ull << dwarf;
		if (dwarf == arch->sp)
			l->sp_at = l->num;
		if (dwarf == arch->fp)
			l->fp_at = l->num;
		l->dwarf[l->num++] = (uint8_t)(dwarf >= 0 ? dwarf : ARCH_MAX_REGS - 1);
	}
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
