/* SPDX-License-Identifier: MIT */
/*
 * syscall(2) as libc has it, except that the calls which the userspace kernel answers go to
 * ub_interposed_syscall(). Written in assembly because the other calls must reach the kernel from this
 * very frame: clone with a stack of its own and vfork do not survive a C function around them.
 *
 *   argument        nr   1    2    3    4    5    6
 *   function call   rdi  rsi  rdx  rcx  r8   r9   8(rsp)
 *   system call     rax  rdi  rsi  rdx  r10  r8   r9
 */
#include <asm/unistd_64.h>

	.text
	.globl	syscall
	.type	syscall, @function
syscall:
	.cfi_startproc
	endbr64
	cmp	$__NR_bpf, %rdi
	je	1f
	cmp	$__NR_perf_event_open, %rdi
	je	1f
	cmp	$__NR_ioctl, %rdi
	je	1f
	cmp	$__NR_epoll_ctl, %rdi
	je	1f
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	%rcx, %rdx
	mov	%r8, %r10
	mov	%r9, %r8
	mov	8(%rsp), %r9
	syscall
	cmp	$-4095, %rax
	jae	2f
	ret
	/* Same arguments in the same places: on as if called itself. */
1:	jmp	ub_interposed_syscall
2:	mov	%rax, %rdi
	jmp	ub_interposed_error
	.cfi_endproc
	.size	syscall, . - syscall

	/* long ub_raw_syscall(long nr, long a1 .. a6): the kernel's own answer, never interposed. */
	.globl	ub_raw_syscall
	.hidden	ub_raw_syscall
	.type	ub_raw_syscall, @function
ub_raw_syscall:
	.cfi_startproc
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	%rcx, %rdx
	mov	%r8, %r10
	mov	%r9, %r8
	mov	8(%rsp), %r9
	syscall
	ret
	.cfi_endproc
	.size	ub_raw_syscall, . - ub_raw_syscall

	.section .note.GNU-stack, "", @progbits
