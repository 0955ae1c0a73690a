/* SPDX-License-Identifier: MIT */
/*
 * Functions that follow their first argument, or what they made of it, at label NAME_at: rdi = pointer,
 * rsi = index.
 */
	.text

#include "shape.inc"

.macro AT name
	.globl	\name\()_at
\name\()_at:
.endm

SHAPE null_entry		/* the first instruction, with its return */
AT null_entry
	mov	(%rdi), %rax
	ret
END null_entry

SHAPE null_member
AT null_member
	mov	0x1238(%rdi), %rax
	ret
END null_member

SHAPE null_test			/* Go's check */
AT null_test
	test	%al, (%rdi)
	mov	$3, %eax
	ret
END null_test

SHAPE null_store
AT null_store
	movq	$7, 8(%rdi)
	ret
END null_store

SHAPE null_follower		/* not the first of its window */
	push	%rbx
AT null_follower
	mov	8(%rdi), %rbx
	mov	%rbx, %rax
	pop	%rbx
	ret
END null_follower

SHAPE null_flags		/* flags live across it */
	cmp	%rsi, %rsi
	stc
AT null_flags
	mov	16(%rdi), %rax
	adc	$0, %rax
	ret
END null_flags

SHAPE null_rcx			/* the same by rcx, whose look is another */
	mov	%rdi, %rcx
	cmp	%rsi, %rsi
	stc
AT null_rcx
	mov	16(%rcx), %rax
	adc	$0, %rax
	ret
END null_rcx

SHAPE null_rax
	mov	%rdi, %rax
	stc
AT null_rax
	movups	16(%rax), %xmm0
	ret
END null_rax

SHAPE null_high			/* a base that needs a prefix, with an index and a red zone in use */
	mov	%rdi, %r13
	mov	%rsi, -8(%rsp)
AT null_high
	mov	32(%r13,%rsi,8), %rax
	cmp	-8(%rsp), %rsi
	je	1f
	xor	%eax, %eax
1:	ret
END null_high

SHAPE null_call
	push	%rbx
	mov	%rsi, %rbx
AT null_call
	call	*40(%rdi)
	pop	%rbx
	ret
END null_call

SHAPE null_jump
AT null_jump
	jmp	*48(%rdi)
END null_jump

SHAPE null_is_index		/* the pointer is the index: nothing is wrong */
AT null_is_index
	movzbl	(%rdi,%rsi), %eax
	ret
END null_is_index

/* long null_call_with(fn, rdi, rsi): every other register has a value of its own. */
	.globl	null_call_with
	.type	null_call_with, @function
null_call_with:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	sub	$8, %rsp
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	$0x2222222222222222, %rdx
	mov	$0x3333333333333333, %rcx
	mov	$0x4444444444444444, %rbx
	mov	$0x5555555555555555, %rbp
	mov	$0x8888888888888888, %r8
	mov	$0x9999999999999999, %r9
	mov	$0x1010101010101010, %r10
	mov	$0x1111111111111111, %r11
	mov	$0x1212121212121212, %r12
	mov	$0x1313131313131313, %r13
	mov	$0x1414141414141414, %r14
	mov	$0x1515151515151515, %r15
	movq	%rdx, %xmm0
	movq	%rcx, %xmm7
	movq	%r15, %xmm15
	call	*%rax
	add	$8, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

	.section .note.GNU-stack, "", @progbits
