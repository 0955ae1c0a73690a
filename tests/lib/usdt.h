/* SPDX-License-Identifier: MIT */
/*
 * USDT probes with two arguments, with or without a semaphore, as <sys/sdt.h> of SystemTap would
 * make them: a nop, and an ELF note that tells tools where it stands, where its semaphore is and
 * where, at that nop, the arguments are. Format: "SystemTap user space probe implementation"
 * (sourceware.org/systemtap).
 */
#ifndef UB_TESTS_USDT_H
#define UB_TESTS_USDT_H

/* In C: USDT_SEMAPHORE(provider, name); counts who listens. */
#define USDT_SEMAPHORE(provider, name)                                                             \
	volatile unsigned short provider##_##name##_semaphore                                      \
		__attribute__((section(".probes"), used))

/* With and without a semaphore. */
#define USDT_PROBE2(provider, name, a, b)                                                          \
	USDT_PROBE2_AT(provider, name, #provider "_" #name "_semaphore", a, b)
#define USDT_PLAIN_PROBE2(provider, name, a, b) USDT_PROBE2_AT(provider, name, "0", a, b)

#define USDT_PROBE2_AT(provider, name, semaphore, a, b)                                            \
	__asm__ volatile(                                                                          \
		"990:	nop\n"                                                                       \
		"	.pushsection .note.stapsdt, \"\", \"note\"\n"                                    \
		"	.balign 4\n"                                                                     \
		"	.4byte 992f - 991f, 994f - 993f, 3\n"                                            \
		"991:	.asciz \"stapsdt\"\n"                                                        \
		"992:	.balign 4\n"                                                                 \
		"993:	.8byte 990b, _.stapsdt.base, " semaphore "\n"                              \
		"	.asciz \"" #provider "\"\n"                                                \
		"	.asciz \"" #name "\"\n"                                                    \
		"	.asciz \"-8@%0 -8@%1\"\n"                                                        \
		"994:	.balign 4\n"                                                                 \
		"	.popsection\n"                                                                   \
		"	.ifndef _.stapsdt.base\n"                                                        \
		"	.pushsection .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat\n"       \
		"	.weak _.stapsdt.base\n"                                                          \
		"	.hidden _.stapsdt.base\n"                                                        \
		"_.stapsdt.base: .space 1\n"                                                       \
		"	.size _.stapsdt.base, 1\n"                                                       \
		"	.popsection\n"                                                                   \
		"	.endif\n"                                                                        \
		:                                                                                  \
		: "nor"((long)(a)), "nor"((long)(b)))

#endif
