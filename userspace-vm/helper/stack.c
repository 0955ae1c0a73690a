// SPDX-License-Identifier: MIT
/*
 * Stack traces of the process: by the tables that were compiled from .eh_frame (run/unwind.h),
 * which know optimised code, and where there is none by frame pointers, as the kernel's
 * perf_callchain_user() does. All that is read of the stack is read by ways that can fail, and each
 * frame lies above the last one: memory may say what it wants. Freestanding.
 */
#include <helper/internal.h>

#include <map/stack_trace.h>
#include <run/unwind.h>

#define MAX_DEPTH 127

/* struct pt_regs of x86-64, as far as needed: words of the context. */
enum {
	REG_BP = 4,
	REG_IP = 16,
	REG_SP = 19,
};

/* What a signal handler returns by: struct ucontext, words from where the handler's frame ended. */
enum {
	UCONTEXT_BP = 15,
	UCONTEXT_SP = 20,
	UCONTEXT_IP = 21,
};

#define CHUNK 64 /* words that are read at once: frames lie close together */

struct walk {
	struct ub_run *run;
	const struct ub_unwind *tables; /* or NULL */
	u64 pc;
	u64 sp;
	u64 bp;
	bool exact;   /* pc is where it goes on, rather than behind a call */
	u64 chunk_at; /* address of chunk[] */
	u64 chunk_words;
	u64 chunk[CHUNK];
};

static bool read_word(struct walk *walk, u64 address, u64 *word)
{
	u64 at = (address - walk->chunk_at) / 8, words;

	if (address & 7)
		return false;
	if (address < walk->chunk_at || at >= walk->chunk_words) {
		/* Not behind the page: there may be nothing. */
		words = (4096 - address % 4096) / 8;
		words = words < CHUNK ? words : CHUNK;
		walk->chunk_words = 0;
		if (ub_memory_read(walk->run, walk->chunk, address, words * 8))
			return false;
		walk->chunk_at = address;
		walk->chunk_words = words;
		at = 0;
	}
	*word = walk->chunk[at];
	return true;
}

static const struct ub_unwind_module *find_module(const struct ub_unwind *tables, u64 pc)
{
	u64 low = 0, high = tables ? tables->nr_modules : 0;

	while (low < high) {
		u64 middle = (low + high) / 2;
		const struct ub_unwind_module *module = &tables->modules[middle];

		if (pc < module->start)
			high = middle;
		else if (pc >= module->end)
			low = middle + 1;
		else
			return module;
	}
	return NULL;
}

static u32 find_rule(const struct walk *walk)
{
	u64 pc = walk->pc - !walk->exact, low = 0, high;
	const struct ub_unwind_module *module = find_module(walk->tables, pc);
	const struct ub_unwind_row *rows;

	if (!module)
		return UB_UNWIND_UNKNOWN;
	rows = (const struct ub_unwind_row *)module->rows;
	pc -= module->base;
	/* The first row is for the module's start: rows[low].pc <= pc < rows[high].pc. */
	high = module->nr_rows;
	while (high - low > 1) {
		u64 middle = (low + high) / 2;

		if (rows[middle].pc <= pc)
			low = middle;
		else
			high = middle;
	}
	return rows[low].rule;
}

/* By the frame pointer, which points to the caller's and the return address. */
static bool step_by_pointer(struct walk *walk, bool at_entry)
{
	u64 at = walk->bp;

	/* At a function's first instruction the return address is still on top of the stack. */
	if (at_entry) {
		if (!read_word(walk, walk->sp, &walk->pc))
			return false;
		walk->sp += 8;
		return true;
	}
	if (at < walk->sp || !read_word(walk, at, &walk->bp) || !read_word(walk, at + 8, &walk->pc))
		return false;
	walk->sp = at + 16;
	return true;
}

static bool step_by_signal(struct walk *walk)
{
	u64 at = walk->sp;

	walk->exact = true;
	return read_word(walk, at + 8 * UCONTEXT_BP, &walk->bp) &&
	       read_word(walk, at + 8 * UCONTEXT_SP, &walk->sp) &&
	       read_word(walk, at + 8 * UCONTEXT_IP, &walk->pc);
}

static bool step_by_rule(struct walk *walk, u32 rule)
{
	s64 offset = (s64)((s32)rule >> 11) * 8;
	u32 saved = rule >> 3 & 0xff;
	u64 cfa, bp = walk->bp;

	switch (rule & 7) {
	case UB_UNWIND_SP:
		cfa = walk->sp + (u64)offset;
		break;
	case UB_UNWIND_BP:
		cfa = walk->bp + (u64)offset;
		break;
	case UB_UNWIND_BP_AT:
		if (!read_word(walk, walk->bp + (u64)offset, &cfa))
			return false;
		break;
	case UB_UNWIND_PLT:
		cfa = walk->sp + 8 + ((s64)(walk->pc & 15) >= offset / 8 ? 8 : 0);
		break;
	default:
		return false;
	}
	if (cfa <= walk->sp)
		return false;
	if (saved == UB_UNWIND_RBP_LOST)
		bp = 0;
	else if (saved != UB_UNWIND_RBP_SAME &&
		 !read_word(walk, saved == UB_UNWIND_RBP_AT_BP ? bp : cfa - 8ull * saved, &bp))
		return false;
	if (!read_word(walk, cfa - 8, &walk->pc))
		return false;
	walk->bp = bp;
	walk->sp = cfa;
	return true;
}

/* To the caller: false at the end, or where nothing is known. */
static bool step(struct walk *walk, bool at_entry)
{
	u32 rule = find_rule(walk);

	walk->exact = false;
	switch (rule & 7) {
	case UB_UNWIND_UNKNOWN:
		return step_by_pointer(walk, at_entry) && walk->pc;
	case UB_UNWIND_SIGNAL:
		return step_by_signal(walk) && walk->pc;
	default:
		return step_by_rule(walk, rule) && walk->pc;
	}
}

/*
 * Writes up to @max instruction pointers, the innermost first, having left out @skip. Returns how
 * many there were including those left out.
 */
static u32 unwind(struct ub_run *run, const u64 *regs, u64 *ips, u32 max, u32 skip)
{
	struct walk walk;
	u32 n = 0;

	walk.run = run;
	walk.tables = run->process ? (const struct ub_unwind *)run->process->unwind : NULL;
	walk.pc = regs[REG_IP];
	walk.sp = regs[REG_SP];
	walk.bp = regs[REG_BP];
	walk.exact = true;
	walk.chunk_at = walk.chunk_words = 0;
	do {
		if (n >= skip && n - skip < max)
			ips[n - skip] = walk.pc;
		n++;
	} while (n < max + skip &&
		 step(&walk, n == 1 && run->link && run->link->func_ip == walk.pc));
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

/* The trace into @ips, then into the map. */
static long put_trace(struct ub_run *run, struct ub_map *map, const u64 *regs, u64 flags, u32 node,
		      u64 *ips)
{
	u32 skip = flags & BPF_F_SKIP_FIELD_MASK, max = map->attr.value_size / 8, n;

	max = max < MAX_DEPTH ? max : MAX_DEPTH;
	n = unwind(run, regs, ips, max, skip);
	n = n <= skip ? 0 : n - skip < max ? n - skip : max;
	return ub_stack_trace_put(map, node, ips, n, flags, run);
}

/* Where more threads than the map has memory for are at it, and its buckets full. */
static __attribute__((noinline)) long put_from_stack(struct ub_run *run, struct ub_map *map,
						     const u64 *regs, u64 flags)
{
	u64 ips[MAX_DEPTH];

	return put_trace(run, map, regs, flags, UB_STACK_TRACE_NO_NODE, ips);
}

HELPER(get_stackid)
{
	struct ub_map *map = (struct ub_map *)r2;
	u64 *ips;
	u32 node;

	if (r3 & ~(u64)(BPF_F_SKIP_FIELD_MASK | BPF_F_USER_STACK | BPF_F_FAST_STACK_CMP |
			BPF_F_REUSE_STACKID))
		return (u64)-EINVAL;
	if (!(r3 & BPF_F_USER_STACK) || !r1 || map->attr.flags & BPF_F_STACK_BUILD_ID)
		return (u64)-EFAULT;
	ips = ub_stack_trace_take(map, run_, &node);
	if (!ips)
		return (u64)put_from_stack(run_, map, (const u64 *)r1, r3);
	return (u64)put_trace(run_, map, (const u64 *)r1, r3, node, ips);
}
