/* SPDX-License-Identifier: MIT */
/*
 * Functions of every shape that a hook meets. Each takes one number and returns one: 3 * n + 7 unless
 * it says otherwise, so that a broken copy shows.
 */
	.text

#include "shape.inc"

SHAPE shape_lea			/* one instruction of 5 bytes and more */
	lea	7(,%rdi,2), %rax
	add	%rdi, %rax
	ret
END shape_lea

SHAPE shape_nop5
	nopl	0(%rax,%rax,1)
	lea	7(%rdi,%rdi,2), %rax
	ret
END shape_nop5

SHAPE shape_endbr
	endbr64
	push	%rbp
	mov	%rsp, %rbp
	lea	7(%rdi,%rdi,2), %rax
	pop	%rbp
	ret
END shape_endbr

SHAPE shape_frame
	push	%rbp
	mov	%rsp, %rbp
	sub	$16, %rsp
	mov	%rdi, -8(%rbp)
	mov	-8(%rbp), %rax
	lea	7(%rax,%rax,2), %rax
	leave
	ret
END shape_frame

SHAPE shape_pushes
	push	%r15
	push	%r14
	push	%rbx
	mov	%rdi, %rbx
	lea	7(%rbx,%rbx,2), %rax
	pop	%rbx
	pop	%r14
	pop	%r15
	ret
END shape_pushes

SHAPE shape_rip			/* rip-relative operand, with an immediate behind it */
	cmpl	$3, three(%rip)
	jne	1f
	mov	three(%rip), %eax
	imul	%rdi, %rax
	add	seven(%rip), %rax
	ret
1:	xor	%eax, %eax
	ret
END shape_rip

SHAPE shape_branch		/* short forward branch within the window */
	test	%rdi, %rdi
	jz	1f
	lea	(%rdi,%rdi,2), %rax
	add	$7, %rax
	ret
1:	mov	$7, %eax
	ret
END shape_branch

SHAPE shape_jrcxz
	mov	%edi, %ecx
	jrcxz	1f
	lea	7(%rdi,%rdi,2), %rax
	ret
1:	mov	$7, %eax
	ret
END shape_jrcxz

SHAPE shape_call		/* a call as the last of the window */
	push	%rbx
	call	add_seven
	lea	(%rax,%rdi,2), %rax
	pop	%rbx
	ret
END shape_call

SHAPE shape_call_mem
	push	%rbx
	nop
	call	*pointer(%rip)
	lea	(%rax,%rdi,2), %rax
	pop	%rbx
	ret
END shape_call_mem

SHAPE shape_call_reg		/* the window ends with a call that is too short to stand alone */
	lea	add_seven(%rip), %rax
	push	%rbx
	mov	%rax, %rbx
	call	*%rbx
	lea	(%rax,%rdi,2), %rax
	pop	%rbx
	ret
END shape_call_reg

SHAPE add_seven
	lea	7(%rdi), %rax
	ret
END add_seven

SHAPE shape_tail		/* leaves by a tail jump */
	lea	(%rdi,%rdi,2), %rdi
	jmp	add_seven
END shape_tail

SHAPE shape_tail_conditional	/* leaves by a conditional tail jump, or returns */
	lea	(%rdi,%rdi,2), %rax
	test	%rdi, %rdi
	jle	add_seven_rax
	add	$7, %rax
	ret
END shape_tail_conditional

SHAPE add_seven_rax		/* and on by another one, through a pointer */
	push	%rdi
	pop	%rdi
	jmp	*pointer_rax(%rip)
END add_seven_rax

SHAPE add_seven_rax_really
	add	$7, %rax
	ret
END add_seven_rax_really

SHAPE shape_loop_inside		/* the second instruction is jumped to: entry can't be hooked by (a), (b) */
	push	%rdi
1:	dec	%rdi
	jg	1b
	pop	%rdi
	lea	7(%rdi,%rdi,2), %rax
	ret
END shape_loop_inside

SHAPE shape_loop_start		/* jumps to its own start: the probe runs n + 1 times; returns 0 */
	sub	$1, %rdi
	nop
	nop
	jns	shape_loop_start
	xor	%eax, %eax
	ret
END shape_loop_start

SHAPE shape_red_zone		/* keeps its argument below the stack pointer */
	mov	%rdi, -8(%rsp)
	movq	$7, -128(%rsp)
	mov	$3, %eax
	.globl	shape_red_zone_inside
shape_red_zone_inside:
	imul	-8(%rsp), %rax
	add	-128(%rsp), %rax
	ret
END shape_red_zone

SHAPE shape_flags		/* flags set before the window, used behind it */
	lea	7(%rdi,%rdi,2), %rax
	cmp	%rax, %rax
	stc
	.globl	shape_flags_inside
shape_flags_inside:
	mov	$0x11223344, %edx
	jnz	1f
	jnc	1f
	mov	$0x7fffffff, %edx
	.globl	shape_flags_overflow
shape_flags_overflow:
	add	$1, %edx
	mov	$5, %ecx
	.globl	shape_flags_overflowed
shape_flags_overflowed:
	mov	$6, %esi
	jno	1f
	jns	1f
	ret
1:	xor	%eax, %eax
	ret
END shape_flags

SHAPE shape_registers		/* every register has its own value across the probe */
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	$1, %eax
	mov	$2, %ecx
	mov	$4, %edx
	mov	$8, %ebx
	mov	$16, %ebp
	mov	$32, %esi
	mov	$64, %r8d
	mov	$128, %r9d
	mov	$256, %r10d
	mov	$512, %r11d
	mov	$1024, %r12d
	mov	$2048, %r13d
	mov	$4096, %r14d
	mov	$8192, %r15d
	.globl	shape_registers_inside
shape_registers_inside:
	nopl	0(%rax,%rax,1)
	add	%rcx, %rax
	add	%rdx, %rax
	add	%rbx, %rax
	add	%rbp, %rax
	add	%rsi, %rax
	add	%r8, %rax
	add	%r9, %rax
	add	%r10, %rax
	add	%r11, %rax
	add	%r12, %rax
	add	%r13, %rax
	add	%r14, %rax
	add	%r15, %rax
	sub	$16383 - 7, %rax	/* 7, if all were right */
	lea	(%rax,%rdi,2), %rax
	add	%rdi, %rax
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret
END shape_registers

SHAPE shape_switch		/* a table of distances leads into the middle of a possible window */
	mov	%edi, %eax
	and	$3, %eax
	lea	table(%rip), %rdx
	movslq	(%rdx,%rax,4), %rax
	add	%rdx, %rax
	jmp	*%rax
	.globl	shape_switch_case
shape_switch_case:
	push	%rdi
.Lcase1:
	pop	%rax
	push	%rdi
.Lcase0:
	lea	7(%rdi,%rdi,2), %rax
	pop	%rdi
	ret
END shape_switch

SHAPE shape_two_returns
	test	%rdi, %rdi
	jle	1f
	lea	7(%rdi,%rdi,2), %rax
	ret
1:	mov	%rdi, %rax
	add	%rdi, %rax
	add	%rdi, %rax
	add	$7, %rax
	ret
END shape_two_returns

	.section .rodata
	.p2align 2
table:
	.long	shape_switch_case - table
	.long	.Lcase_push - table
	.long	shape_switch_case - table
	.long	.Lcase_push - table

	.text
SHAPE shape_switch_helper
.Lcase_push:
	push	%rdi
	jmp	.Lcase1
END shape_switch_helper

	.data
	.p2align 3
three:	.quad	3
seven:	.quad	7
pointer: .quad	add_seven
pointer_rax: .quad	add_seven_rax_really
	.section .note.GNU-stack, "", @progbits
