// SPDX-License-Identifier: MIT
/*
 * Stack traces of the process, by frame pointers as the kernel's perf_callchain_user() does.
 * Freestanding.
 */
#include <helper/internal.h>

#include <map/stack_trace.h>

#define MAX_DEPTH 127

/* struct pt_regs of x86-64, as far as needed: words of the context. */
enum {
	REG_BP = 4,
	REG_IP = 16,
	REG_SP = 19,
};

/*
 * Writes up to @max instruction pointers, the innermost first, having left out @skip. Returns how
 * many there were including those left out. At a function's first instruction the return address is
 * still on top of the stack, where frame pointers don't show it.
 */
static u32 unwind(struct ub_run *run, const u64 *regs, u64 *ips, u32 max, u32 skip)
{
	u64 frame[2] = { regs[REG_BP], 0 };
	u64 at_entry = run->link && run->link->func_ip == regs[REG_IP];
	u64 last_sp = regs[REG_SP];
	u32 n = 0;

#define ADD(ip)                                                                                    \
	do {                                                                                       \
		if (n >= skip && n - skip < max)                                                   \
			ips[n - skip] = (ip);                                                      \
		n++;                                                                               \
	} while (0)

	ADD(regs[REG_IP]);
	if (at_entry) {
		u64 back;

		if (!ub_memory_read(run, &back, regs[REG_SP], sizeof(back)) && back)
			ADD(back);
	}
	while (n < max + skip && n < 2 * MAX_DEPTH) {
		u64 at = frame[0];

		/* Frames lie one above the other; anything else is no frame. */
		if (at < last_sp || at & 7 || ub_memory_read(run, frame, at, sizeof(frame)) ||
		    !frame[1])
			break;
		ADD(frame[1]);
		last_sp = at + sizeof(frame);
	}
#undef ADD
	return n;
}

HELPER(get_stack)
{
	u64 *ips = (u64 *)r2;
	u64 size = (u32)r3;
	u32 skip = r4 & BPF_F_SKIP_FIELD_MASK, max = (u32)(size / 8), n;
	long err = -EINVAL;

	if (r4 & ~(u64)(BPF_F_SKIP_FIELD_MASK | BPF_F_USER_STACK | BPF_F_USER_BUILD_ID))
		goto clear;
	if (r4 & BPF_F_USER_BUILD_ID || size % 8)
		goto clear;
	err = -EFAULT;
	if (!(r4 & BPF_F_USER_STACK) || !r1)
		goto clear;
	max = max < MAX_DEPTH ? max : MAX_DEPTH;
	n = unwind(run_, (const u64 *)r1, ips, max, skip);
	if (n <= skip)
		goto clear;
	n = n - skip < max ? n - skip : max;
	ub_mem_zero(ips + n, size - n * 8ull);
	return n * 8ull;
clear:
	ub_mem_zero(ips, size);
	return (u64)err;
}

HELPER(get_stackid)
{
	struct ub_map *map = (struct ub_map *)r2;
	u32 skip = r3 & BPF_F_SKIP_FIELD_MASK, max = map->attr.value_size / 8, n;
	u64 ips[MAX_DEPTH];

	if (r3 & ~(u64)(BPF_F_SKIP_FIELD_MASK | BPF_F_USER_STACK | BPF_F_FAST_STACK_CMP |
			BPF_F_REUSE_STACKID))
		return (u64)-EINVAL;
	if (!(r3 & BPF_F_USER_STACK) || !r1 || map->attr.flags & BPF_F_STACK_BUILD_ID)
		return (u64)-EFAULT;
	max = max < MAX_DEPTH ? max : MAX_DEPTH;
	n = unwind(run_, (const u64 *)r1, ips, max, skip);
	if (n <= skip)
		return (u64)-EFAULT;
	n = n - skip < max ? n - skip : max;
	return (u64)ub_stack_trace_put(map, ips, n, r3, run_);
}
