/* SPDX-License-Identifier: MIT */
/*
 * ub_agent_slot: the thread's slot when it is not the first that its key hashes to.
 *
 * in:  rax  key (fs base + 1)
 *	rcx  address of the slot that the key hashes to
 *	rdx  address of the data part
 * out: rcx  the slot, its key ours and its counters set; 0 if the thread finds none
 * Keeps everything but rax, rcx and flags. Called by trampolines, with nothing on the stack
 * below rsp that must live.
 *
 * Slots are never given back while an image lives, so a search ends at the first free one. Two threads
 * that claim at once: cmpxchg decides; what they write before is the same. A signal handler that hits
 * while its thread claims: finds the key already there, and all else, or claims the slot itself and the
 * interrupted cmpxchg fails on our own key.
 */
#include <agent/layout.h>

	.section .text.ub_agent_slot, "ax", @progbits
	.globl	ub_agent_slot
	.hidden	ub_agent_slot
	.type	ub_agent_slot, @function
	.p2align 4
ub_agent_slot:
	push	%rsi
	push	%rdi
	push	%r8
	mov	%rax, %r8
	mov	$UB_SLOT_PROBES, %esi
.Lnext:
	mov	(%rcx), %rax
	cmp	%r8, %rax
	je	.Lout
	test	%rax, %rax
	jnz	.Ltaken
	/* A free one. What belongs to it goes before the key: a handler's hit may find that at any
	 * instant. counters = first + stride * (slot - slots) / 64, and so on: the same whoever
	 * computes it, so that it does no harm if somebody else claims it. */
	mov	%rcx, %rax
	sub	%rdx, %rax
	sub	$UB_DATA_SLOTS, %rax
	shr	$UB_SLOT_SHIFT, %rax
	lea	1(%rax), %rdi
	shl	$UB_STACK_SHIFT, %rdi
	add	UB_DATA_STACKS(%rdx), %rdi
	mov	%rdi, UB_SLOT_STACK(%rcx)
	mov	%rax, %rdi
	shl	$UB_HOLDS_SHIFT, %rdi
	add	UB_DATA_HOLDS(%rdx), %rdi
	mov	%rdi, UB_SLOT_HOLDS(%rcx)
	mov	%rax, %rdi
	shl	$UB_TAILS_SHIFT, %rdi
	add	UB_DATA_TAILS(%rdx), %rdi
	mov	%rdi, UB_SLOT_TAILS(%rcx)
	imul	UB_DATA_COUNTERS_STRIDE(%rdx), %rax
	add	UB_DATA_COUNTERS(%rdx), %rax
	mov	%rax, UB_SLOT_COUNTERS(%rcx)
	xor	%eax, %eax
	lock cmpxchg %r8, (%rcx)
	je	.Lout
	cmp	%r8, %rax
	je	.Lout
.Ltaken:
	add	$UB_SLOT_SIZE, %rcx
	cmp	UB_DATA_SLOTS_END(%rdx), %rcx	/* address after the last slot */
	jb	.Lmore
	lea	UB_DATA_SLOTS(%rdx), %rcx
.Lmore:
	dec	%esi
	jnz	.Lnext
	xor	%ecx, %ecx
.Lout:
	pop	%r8
	pop	%rdi
	pop	%rsi
	ret
	.size	ub_agent_slot, . - ub_agent_slot
/*
 * ub_agent_null: calls ub_agent_null_signal() with all registers on the stack.
 *
 * in:  on the stack, above the return address: see struct ub_null_frame in null.c
 * Keeps everything, if it comes back.
 */
	.section .text.ub_agent_null, "ax", @progbits
	.globl	ub_agent_null
	.hidden	ub_agent_null
	.type	ub_agent_null, @function
	.p2align 4
ub_agent_null:
	pushfq
	cld
	push	%rax
	push	%rcx
	push	%rdx
	push	%rbx
	push	%rbp
	push	%rsi
	push	%rdi
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, %rdi
	call	ub_agent_null_signal
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rdi
	pop	%rsi
	pop	%rbp
	pop	%rbx
	pop	%rdx
	pop	%rcx
	pop	%rax
	popfq
	ret
	.size	ub_agent_null, . - ub_agent_null
	.section .note.GNU-stack, "", @progbits
