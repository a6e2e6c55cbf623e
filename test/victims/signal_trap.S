/* trap_here faults at its very first byte; the bytes before it belong to a row with another CFA. */
	.text
	.globl	before_trap
	.type	before_trap, @function
before_trap:
	.cfi_startproc
	subq	$1000, %rsp
	.cfi_adjust_cfa_offset 1000
	ud2
	.cfi_endproc
	.size	before_trap, . - before_trap
	.globl	trap_here
	.type	trap_here, @function
trap_here:
	.cfi_startproc
	ud2
	ret
	.cfi_endproc
	.size	trap_here, . - trap_here
	.section .note.GNU-stack, "", @progbits
