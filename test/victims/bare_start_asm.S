/*
 * How a program with musl begins: assembly and C code that have no call-frame information and use the frame pointer
 * as any other register.
 */
	.text
	.globl	_start
	.type	_start, @function
_start:
	xorl	%ebp, %ebp
	movq	%rsp, %rdi
	andq	$-16, %rsp
	call	start_c
	.size	_start, . - _start

	.p2align 4
	.type	start_c, @function
start_c:
	movl	(%rdi), %r12d
	leaq	8(%rdi), %rsi
	jmp	start_main
	.size	start_c, . - start_c

	.p2align 4
	.type	start_main, @function
start_main:
	pushq	%r13
	pushq	%r12
	pushq	%rbp
	movl	$7, %ebp
	movl	%r12d, %edi
	subq	$16, %rsp
	call	main
	hlt
	.size	start_main, . - start_main
	.section .note.GNU-stack, "", @progbits
