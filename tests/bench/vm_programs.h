/* SPDX-License-Identifier: MIT */
/*
 * What bench_vm measures, in the assembly of tests/vm/assembler.h. All of them load into the real
 * kernel as they are. Maps: 0 an array of one value of 1024 bytes, 1 an array, 2 a per-CPU array, 3
 * a hash, of 64 counters each.
 */
#ifndef UB_TESTS_BENCH_VM_PROGRAMS_H
#define UB_TESTS_BENCH_VM_PROGRAMS_H

struct bench_program {
	const char *name;
	const char *text;
	bool telling; /* its time is the code's: not the call's, nor of the kernel's way to call */
};

#define REPEAT10(x) x x x x x x x x x x

/* r0 = the address of counter KEY of map MAP, or jumps to out */
#define COUNTER(map, key)                                                                          \
	"stw [%r10-4], " key "\n"                                                                  \
	"lddw %r1, map " map "\n"                                                                  \
	"mov %r2, %r10\n"                                                                          \
	"add %r2, -4\n"                                                                            \
	"call 1\n"                                                                                 \
	"jeq %r0, 0, out\n"

/* @text ten times over */
#define TEN_TIMES(text)                                                                            \
	"mov %r6, 0\n"                                                                             \
	"round:\n" text "add %r6, 1\n"                                                             \
	"jlt %r6, 10, round\n"                                                                     \
	"out:\n"                                                                                   \
	"mov %r0, 0\n"                                                                             \
	"exit\n"

#define COUNT(map, key) COUNTER(map, key) INCREMENT
#define COUNT_4(map, tens)                                                                         \
	COUNT(map, tens "1") COUNT(map, tens "3") COUNT(map, tens "5") COUNT(map, tens "7")
#define COUNTERS(map)                                                                              \
	TEN_TIMES(COUNT_4(map, "") COUNT_4(map, "1") COUNT_4(map, "2") COUNT_4(map, "3")           \
			  COUNT_4(map, "4") COUNT_4(map, "5"))

#define INCREMENT                                                                                  \
	"ldxdw %r1, [%r0]\n"                                                                       \
	"add %r1, 1\n"                                                                             \
	"stxdw [%r0], %r1\n"

/* clang-format off */
static const struct bench_program bench_programs[] = {
	{ "empty", "mov %r0, 0\nexit\n",
	  false },
	{ "add", "mov %r0, 1\nmov %r3, 2\n" REPEAT10("add %r0, %r3\n") "exit\n",
	  false },
	{ "loop of 1000", "mov %r0, 0\n"
			  "mov %r3, 0\n"
			  "again:\n"
			  "add %r0, %r3\n"
			  "xor %r0, 0x55\n"
			  "add %r3, 1\n"
			  "jlt %r3, 1000, again\n"
			  "exit\n",
	  true },
	{ "fnv of 256 bytes", "lddw %r6, map_value 0 0\n"
			      "mov %r3, 0\n"
			      "lddw %r0, 0xcbf29ce484222325\n"
			      "lddw %r5, 0x100000001b3\n"
			      "again:\n"
			      "mov %r4, %r6\n"
			      "add %r4, %r3\n"
			      "ldxb %r4, [%r4]\n"
			      "xor %r0, %r4\n"
			      "mul %r0, %r5\n"
			      "add %r3, 1\n"
			      "jlt %r3, 256, again\n"
			      "exit\n",
	  true },
	{ "helper call", "call 42\nexit\n",
	  false },
	{ "100 helper calls", "mov %r6, 0\n"
			      "mov %r7, 0\n"
			      "again:\n"
			      "call 42\n"
			      "add %r7, %r0\n"
			      "add %r6, 1\n"
			      "jlt %r6, 100, again\n"
			      "mov %r0, %r7\n"
			      "exit\n",
	  false },
	{ "primes", "mov %r0, 0\n" /* how many below 400, by trial division */
		    "mov %r2, 2\n"
		    "number:\n"
		    "mov %r3, 2\n"
		    "divisor:\n"
		    "mov %r4, %r3\n"
		    "mul %r4, %r3\n"
		    "jgt %r4, %r2, prime\n"
		    "mov %r4, %r2\n"
		    "mod %r4, %r3\n"
		    "jeq %r4, 0, next\n"
		    "add %r3, 1\n"
		    "ja divisor\n"
		    "prime:\n"
		    "add %r0, 1\n"
		    "next:\n"
		    "add %r2, 1\n"
		    "jlt %r2, 400, number\n"
		    "exit\n",
	  true },
	{ "sort of 32", "lddw %r6, map_value 0 512\n" /* words of an LCG, then insertion by exchange */
			"mov %r1, 12345\n"
			"mov %r2, 0\n"
			"fill:\n"
			"mul32 %r1, 1103515245\n"
			"add32 %r1, 12345\n"
			"mov %r3, %r2\n"
			"lsh %r3, 2\n"
			"mov %r4, %r6\n"
			"add %r4, %r3\n"
			"stxw [%r4], %r1\n"
			"add %r2, 1\n"
			"jlt %r2, 32, fill\n"
			"mov %r2, 31\n"
			"pass:\n"
			"mov %r3, 0\n"
			"mov %r5, %r6\n"
			"pair:\n"
			"ldxw %r1, [%r5]\n"
			"ldxw %r4, [%r5+4]\n"
			"jle %r1, %r4, fine\n"
			"stxw [%r5], %r4\n"
			"stxw [%r5+4], %r1\n"
			"fine:\n"
			"add %r5, 4\n"
			"add %r3, 1\n"
			"jlt %r3, %r2, pair\n"
			"sub %r2, 1\n"
			"jne %r2, 0, pass\n"
			"ldxw %r0, [%r6]\n"
			"exit\n",
	  true },
	{ "array counters", COUNTERS("1"), true },
	{ "array lookups", "mov %r6, 0\n"
			   "mov %r7, 0\n"
			   "again:\n"
			   "stxw [%r10-4], %r6\n"
			   "lddw %r1, map 1\n"
			   "mov %r2, %r10\n"
			   "add %r2, -4\n"
			   "call 1\n"
			   "jeq %r0, 0, out\n"
			   "ldxdw %r1, [%r0]\n"
			   "add %r7, %r1\n"
			   "add %r6, 1\n"
			   "jlt %r6, 64, again\n"
			   "out:\n"
			   "mov %r0, %r7\n"
			   "exit\n",
	  true },
	{ "per-CPU counters", COUNTERS("2"), true },
	{ "hash lookups", COUNTERS("3"), true },
	{ "hash updates", "mov %r6, 0\n"
			  "again:\n"
			  "stxw [%r10-4], %r6\n"
			  "stxdw [%r10-16], %r6\n"
			  "lddw %r1, map 3\n"
			  "mov %r2, %r10\n"
			  "add %r2, -4\n"
			  "mov %r3, %r10\n"
			  "add %r3, -16\n"
			  "mov %r4, 0\n"
			  "call 2\n"
			  "add %r6, 1\n"
			  "jlt %r6, 32, again\n"
			  "mov %r0, 0\n"
			  "exit\n",
	  true },
	{ "histogram", "lddw %r6, map_value 0 0\n" /* log2 of 160 values into slots: what tools do */
		       "mov %r7, 0\n"
		       "again:\n"
		       "mov %r1, %r7\n"
		       "mul %r1, %r7\n"
		       "mul %r1, %r7\n"
		       "mov %r0, 0\n"
		       "jle %r1, 0xffff, b8\n"
		       "rsh %r1, 16\n"
		       "mov %r0, 16\n"
		       "b8:\n"
		       "jle %r1, 0xff, b4\n"
		       "rsh %r1, 8\n"
		       "or %r0, 8\n"
		       "b4:\n"
		       "jle %r1, 0xf, b2\n"
		       "rsh %r1, 4\n"
		       "or %r0, 4\n"
		       "b2:\n"
		       "jle %r1, 3, b1\n"
		       "rsh %r1, 2\n"
		       "or %r0, 2\n"
		       "b1:\n"
		       "rsh %r1, 1\n"
		       "or %r0, %r1\n"
		       "and %r0, 31\n"
		       "lsh %r0, 3\n"
		       "mov %r2, %r6\n"
		       "add %r2, %r0\n"
		       "mov %r3, 1\n"
		       "lock add [%r2], %r3\n"
		       "add %r7, 13\n"
		       "jlt %r7, 2080, again\n"
		       "mov %r0, 0\n"
		       "exit\n",
	  true },
};
/* clang-format on */

#endif
