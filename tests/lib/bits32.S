/* SPDX-License-Identifier: MIT */
/*
 * A 32-bit process that needs no library: says "ready" and waits for signals.
 */
	.globl	_start
_start:
	movl	$4, %eax		/* write */
	movl	$1, %ebx
	movl	$text, %ecx
	movl	$6, %edx
	int	$0x80
1:	movl	$29, %eax		/* pause */
	int	$0x80
	jmp	1b

	.section .rodata
text:	.ascii	"ready\n"
	.section .note.GNU-stack, "", @progbits
