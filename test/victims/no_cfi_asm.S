/* Two functions without .cfi directives, linked by rbp alone. */
	.text
	.globl	bare_outer
	.type	bare_outer, @function
bare_outer:
	pushq	%rbp
	movq	%rsp, %rbp
	subq	$48, %rsp
	call	bare_inner
	leave
	ret
	.size	bare_outer, . - bare_outer
	.globl	bare_inner
	.type	bare_inner, @function
bare_inner:
	pushq	%rbp
	movq	%rsp, %rbp
	subq	$32, %rsp
	call	burn
	leave
	ret
	.size	bare_inner, . - bare_inner
	.section .note.GNU-stack, "", @progbits
