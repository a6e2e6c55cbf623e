/* Frame records: {saved frame pointer, return address}. */
#include "unwinder/unwinder_priv.h"

enum fp_status fp_read(const struct arch *arch, const struct regs *regs, uint64_t sp,
		       const uint8_t *stack, size_t stack_bytes, uint64_t stack_base,
		       struct fp_frame *ret)
{
	uint64_t fp = regs->v[arch->fp];

	if (!(regs->valid >> arch->fp & 1))
		return FP_NOT;
	if (!fp)
		return FP_END;
	if (fp % 8 || fp < stack_base || fp < sp)
		return FP_NOT;
	ret->ra_at = fp + 8;
	if (!stack_word(stack, stack_bytes, stack_base, fp, &ret->fp) ||
	    !stack_word(stack, stack_bytes, stack_base, fp + 8, &ret->ra))
		return FP_OUTSIDE;
	ret->ra &= arch->ra_mask;
	ret->sp = fp + 16;
	ret->fp_plausible = !ret->fp || (ret->fp > fp && ret->fp % 8 == 0);
	return FP_OK;
}
