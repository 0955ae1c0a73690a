// SPDX-License-Identifier: MIT
/*
 * Null pointers followed by instructions that were moved: the handler of SIGSEGV sees what it sees
 * without a probe, and a process that does not handle it ends the same way.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "apply.h"

#define XSTATE_AVX 576 /* where the upper halves of ymm lie, behind FXSAVE's bytes and the header */

#define SHAPES(x)                                                                                  \
	x(null_entry) x(null_member) x(null_test) x(null_store) x(null_follower) x(null_flags)     \
		x(null_rcx) x(null_rax) x(null_high) x(null_call) x(null_jump) x(null_is_index)
#define DECLARE(name)                                                                              \
	long name(long, long);                                                                     \
	extern const u8 name##_at[];
SHAPES(DECLARE)
long null_call_with(void *fn, void *pointer, long index);

static const struct {
	const char *name;
	void *fn;
	const u8 *at;
} shapes[] = {
#define ENTRY(name) { #name, name, name##_at },
	SHAPES(ENTRY)
};

/* What a handler saw. */
struct seen {
	u32 nr;
	int code;
	u64 address;
	greg_t regs[NGREG];
	u64 mask;
	u8 vectors[416 + 256]; /* x87 and xmm; upper halves of ymm */
};

static struct seen seen;
static sigjmp_buf jump;
static void *repaired; /* the pointer that the handler puts right, or NULL: it jumps out */
static bool has_avx;

static void handler(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	const u8 *state = (const u8 *)uc->uc_mcontext.fpregs;

	seen.nr++;
	seen.code = info->si_code;
	seen.address = (u64)(uintptr_t)info->si_addr;
	memcpy(seen.regs, uc->uc_mcontext.gregs, sizeof(seen.regs));
	memcpy(&seen.mask, &uc->uc_sigmask, sizeof(seen.mask));
	memcpy(seen.vectors, state, 416);
	if (has_avx)
		memcpy(seen.vectors + 416, state + XSTATE_AVX, 256);
	if (!repaired)
		siglongjmp(jump, 1);
	for (u32 i = 0; i < NGREG; i++)
		if ((i == REG_RDI || i == REG_RCX || i == REG_RAX || i == REG_R13) &&
		    !uc->uc_mcontext.gregs[i])
			uc->uc_mcontext.gregs[i] = (greg_t)(uintptr_t)repaired;
}

static void handle(void)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigemptyset(&action.sa_mask);
	sigaddset(&action.sa_mask, SIGUSR2);
	assert_int_equal(sigaction(SIGSEGV, &action, NULL), 0);
}

#define EACH(x)                                                                                    \
	x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11) x(12) x(13) x(14) x(15)

static inline __attribute__((always_inline)) void set_vectors(void)
{
	static const u64 patterns[16][4] = {
#define PATTERN(n) { n, ~0ull, 0x1234567812345678, 0x8765432187654321 ^ n },
		EACH(PATTERN)
	};

#define LOAD_XMM(n) "movdqu 32*" #n "(%0), %%xmm" #n ";"
#define LOAD_YMM(n) "vmovdqu 32*" #n "(%0), %%ymm" #n ";"
	if (has_avx)
		__asm__ volatile(EACH(LOAD_YMM) : : "r"(patterns));
	else
		__asm__ volatile(EACH(LOAD_XMM) : : "r"(patterns));
}

/* Follows @pointer and says what the handler saw; its result, or 0. */
static __attribute__((noinline)) long follow(u32 shape, void *pointer, long index, struct seen *out)
{
	long result = 0;

	seen = (struct seen) {};
	if (!sigsetjmp(jump, 1)) {
		set_vectors();
		result = null_call_with(shapes[shape].fn, pointer, index);
	}
	*out = seen;
	return result;
}

static struct ub_image *hook(const void *code, const struct ub_program *program,
			     const struct ub_code *compiled)
{
	const struct ub_image_link link = {
		.point = point_of(code, UB_POINT_ENTRY),
		.link_id = 1,
		.program = program,
		.code = compiled,
	};
	const struct ub_image_request request = {
		.pid = getpid(), .nr_links = 1, .links = &link, .nr_cpus = 64
	};
	struct ub_image *image = NULL;
	struct ub_reason why = {};

	if (ub_image_build(&request, &image, &why))
		fail_msg("%s", why.text);
	assert_int_equal(apply_image(image), 0);
	return image;
}

static u64 unhook(struct ub_image *image)
{
	u64 hits, misses;

	remove_image(image);
	ub_image_counters(image, 1, &hits, &misses);
	assert_int_equal(misses, 0);
	ub_image_free(image);
	return hits;
}

static void compare(u32 shape, const struct seen *a, const struct seen *b)
{
	const char *name = shapes[shape].name;

	if (a->nr != b->nr || a->code != b->code || a->address != b->address || a->mask != b->mask)
		fail_msg("%s: %u signals, code %d, address 0x%lx, mask 0x%lx; hooked: %u, %d, "
			 "0x%lx, 0x%lx",
			 name, a->nr, a->code, (unsigned long)a->address, (unsigned long)a->mask,
			 b->nr, b->code, (unsigned long)b->address, (unsigned long)b->mask);
	for (u32 i = 0; i < NGREG; i++) {
		/* Of an earlier fault; and flags are dead at entries, and before what sets them. */
		const bool arithmetic = strcmp(name, "null_flags") && strcmp(name, "null_rcx");
		const u64 ignored = i == REG_ERR || i == REG_TRAPNO || i == REG_CR2 ? ~0ull
				    : i == REG_EFL && arithmetic		    ? 0x108d5
				    : i == REG_EFL ? 0x10000 /* RF: faults set it */
						   : 0;

		if (((u64)a->regs[i] ^ (u64)b->regs[i]) & ~ignored)
			fail_msg("%s: register %u is 0x%llx, hooked 0x%llx", name, i, a->regs[i],
				 b->regs[i]);
	}
	assert_memory_equal(a->vectors, b->vectors, sizeof(a->vectors));
}

static void check(u32 shape, const void *hooked, const struct ub_program *program,
		  const struct ub_code *code)
{
	static u64 memory[2048];
	const bool is_index = shapes[shape].fn == (void *)null_is_index;
	const long index = is_index ? (long)(uintptr_t)memory : 2;
	struct seen without, with;
	struct ub_image *image;
	long result;

	for (u32 i = 0; i < 2048; i++)
		memory[i] = 1000 + i;
	memory[5] = memory[6] = (u64)(uintptr_t)null_is_index;
	if (shapes[shape].fn == (void *)null_call || shapes[shape].fn == (void *)null_jump)
		memory[2] = 0;
	repaired = NULL;
	follow(shape, NULL, index, &without);
	assert_int_equal(without.nr, !is_index);
	image = hook(hooked, program, code);
	follow(shape, NULL, index, &with);
	assert_int_equal(unhook(image), 1);
	compare(shape, &without, &with);
	if (is_index)
		return;
	assert_int_equal(with.regs[REG_RIP], (greg_t)(uintptr_t)shapes[shape].at);

	/* The handler puts the pointer right: the instruction runs, from its probe on. */
	repaired = memory;
	if (shapes[shape].fn == (void *)null_call || shapes[shape].fn == (void *)null_jump)
		return;
	result = follow(shape, NULL, index, &without);
	image = hook(hooked, program, code);
	assert_int_equal(follow(shape, NULL, index, &with), result);
	assert_int_equal(unhook(image), hooked == shapes[shape].at ? 2 : 1);
	compare(shape, &without, &with);
}

static void test_handler_sees_the_original(void **state)
{
	struct ub_program *program = empty_program();
	struct ub_reason why = {};
	struct ub_code code;

	assert_int_equal(ub_jit_compile(program, &code, &why), 0);
	handle();
	for (u32 i = 0; i < ub_array_size(shapes); i++) {
		check(i, shapes[i].fn, program, &code);
		if (shapes[i].at != shapes[i].fn)
			check(i, shapes[i].at, program, &code);
	}
	ub_code_free(&code);
	ub_program_free(program);
}

enum fate { DEFAULT, IGNORED, BLOCKED, NR_FATES };

static void test_unhandled_ends_the_process(void **state)
{
	struct ub_program *program = empty_program();
	struct ub_reason why = {};
	struct ub_code code;

	assert_int_equal(ub_jit_compile(program, &code, &why), 0);
	for (u32 fate = 0; fate < NR_FATES; fate++) {
		const struct rlimit none = {};
		struct ub_image *image = hook(null_entry, program, &code);
		int status;
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (!pid) {
			sigset_t set;

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			setrlimit(RLIMIT_CORE, &none);
			alarm(30);
			handle();
			if (fate != BLOCKED)
				signal(SIGSEGV, fate == IGNORED ? SIG_IGN : SIG_DFL);
			sigemptyset(&set);
			sigaddset(&set, SIGSEGV);
			if (fate == BLOCKED)
				sigprocmask(SIG_BLOCK, &set, NULL);
			null_call_with(null_entry, NULL, 0);
			_exit(1);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
		unhook(image);
	}
	ub_code_free(&code);
	ub_program_free(program);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handler_sees_the_original),
		cmocka_unit_test(test_unhandled_ends_the_process),
	};

	has_avx = __builtin_cpu_supports("avx");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
