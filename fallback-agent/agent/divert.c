// SPDX-License-Identifier: MIT
/*
 * Return addresses that are taken over for a while.
 *
 * A function whose return is probed may leave by a jump to code of which nothing is known: a tail
 * call through a register, or through a pointer that is not bound yet. Then its return address is
 * the only thing that all ways back have in common: it is replaced, right before the jump, by the
 * address of a piece of code of its own (entry), which puts the original back, runs the programs
 * and returns to where it should have.
 *
 * Until then the stack says something else than the compiler wrote there, which must hurt nobody:
 *   unwinders	they look up each frame's code by a function of libc or the loader, which is hooked:
 *		all of the thread's entries above are put back first. The returns that this hides
 *		are counted as missed.
 *   detach	the surgeon puts back every entry whose place still holds it (ub_diverts_undo()),
 *		and closes the table: a thread that is still in here takes nothing over any more,
 *		since the hooks on the unwinders are gone
 *   longjmp	leaves an entry behind, which is used again when nothing else is free
 *   fork	the table is private memory, copied like the stacks
 *   filters	where no system call may be made (run/syscall.h) only return addresses on the stack
 *		that the thread was born with are taken over: others may be unmapped, which only the
 *		kernel can tell
 *   others	only return addresses into files' code are taken over: run-time compilers may know
 *		their frames by them
 *
 * Two functions may be left by one return: the second entry's original is then the first entry.
 * Freestanding. Other threads and signal handlers come in between anywhere; an entry belongs to who
 * set its place by compare-and-exchange, marked BUSY until the stack holds it.
 */
#include <agent/ask.h>
#include <agent/data.h>

#define PROBES 16
#define BUSY   UB_DIVERT_BUSY

#define MAX_STACK (64ull << 20) /* of a thread, from its control block down */

bool ub_agent_divert(struct ub_diverts *diverts, u64 place, u64 continuation, u64 thread)
	__attribute__((visibility("hidden")));
void ub_agent_undivert(struct ub_diverts *diverts, u64 sp, u64 thread,
		       struct ub_hit_counters *counters) __attribute__((visibility("hidden")));

static u64 code_of(const struct ub_diverts *diverts, u32 entry)
{
	return diverts->code + (u64)entry * UB_DIVERT_ENTRY;
}

static bool is_entry(const struct ub_diverts *diverts, u64 address)
{
	return address - diverts->code < (u64)UB_MAX_DIVERTS * UB_DIVERT_ENTRY;
}

static bool may_divert(const struct ub_diverts *diverts, u64 address)
{
	u32 low = 0, high = diverts->nr_callers;

	if (is_entry(diverts, address))
		return true;
	while (low < high) {
		u32 middle = (low + high) / 2;

		if (diverts->callers[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low && address < diverts->callers[low - 1].end;
}

/* Whether @place is on the stack that @thread was born with, and in use: there as long as the
 * thread is. It ends at the control block, or is the first thread's. */
static bool on_own_stack(const struct ub_diverts *diverts, u64 place, u64 thread)
{
	const struct ub_process *process = (const struct ub_process *)diverts->process;
	const struct ub_safe_ranges *ranges = (const struct ub_safe_ranges *)process->safe_ranges;

	if (place < thread && thread - place < MAX_STACK)
		return true;
	for (u32 i = 0; ranges && i < ranges->nr; i++)
		if (place >= ranges->range[i].start && place < ranges->range[i].end)
			return true;
	return false;
}

/* What stands at @place, which may be gone. @sp: the stack in use; it is there from here on. */
static bool read_word(const struct ub_diverts *diverts, u64 place, u64 sp, u64 thread, u64 *value)
{
	const struct ub_process *process = (const struct ub_process *)diverts->process;
	struct {
		u64 base;
		u64 size;
	} here = { (u64)value, 8 }, there = { place, 8 };
	long self;

	if (!ub_agent_may_ask_kernel((const struct ub_process *)diverts->process)) {
		if (place < sp || !on_own_stack(diverts, place, thread))
			return false;
		*value = *(const volatile u64 *)place;
		return true;
	}
	self = ub_syscall(process, SYS_getpid, 0, 0, 0, 0, 0, 0);
	return ub_syscall(process, SYS_process_vm_readv, (u64)self, (u64)&here, 1, (u64)&there, 1,
			  0) == 8;
}

/* Left behind: its place holds something else by now, and no live entry stands before it. */
static bool is_stale(const struct ub_diverts *diverts, u32 entry, u64 place, u64 sp, u64 thread)
{
	u64 value = 0;

	if (!read_word(diverts, place, sp, thread, &value))
		return false;
	for (u32 hops = 0; hops < 16 && is_entry(diverts, value); hops++) {
		const u32 next = (u32)((value - diverts->code) / UB_DIVERT_ENTRY);

		if (next == entry || diverts->entries[next].place != place)
			return false;
		value = diverts->entries[next].original;
	}
	return true;
}

static struct ub_divert *claim(struct ub_diverts *diverts, u64 place, u64 thread, u32 *number)
{
	const u32 hash = (u32)(place >> 3) * 0x9e3779b1u >> 20;

	for (u32 pass = 0; pass < 2; pass++) {
		for (u32 i = 0; i < PROBES; i++) {
			const u32 n = (hash + i) % UB_MAX_DIVERTS;
			struct ub_divert *entry = &diverts->entries[n];
			u64 old = __atomic_load_n(&entry->place, __ATOMIC_RELAXED);

			if (old &&
			    (!pass || old & BUSY || !is_stale(diverts, n, old, place, thread)))
				continue;
			if (!__atomic_compare_exchange_n(&entry->place, &old, place | BUSY, false,
							 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
				continue;
			if (!old)
				__atomic_fetch_add(&diverts->pending, 1, __ATOMIC_RELAXED);
			*number = n;
			return entry;
		}
	}
	return NULL;
}

bool __attribute__((section(".text.ub_agent_divert")))
ub_agent_divert(struct ub_diverts *diverts, u64 place, u64 continuation, u64 thread)
{
	u64 *address = (u64 *)place;
	struct ub_divert *entry;
	u32 number;

	if (__atomic_load_n(&diverts->closed, __ATOMIC_RELAXED) || !may_divert(diverts, *address))
		return false;
	/* Nobody could put back what is not sure to be there. */
	if (!ub_agent_may_ask_kernel((const struct ub_process *)diverts->process) &&
	    !on_own_stack(diverts, place, thread))
		return false;
	entry = claim(diverts, place, thread, &number);
	if (!entry)
		return false;
	entry->original = *address;
	entry->continuation = continuation;
	entry->thread = thread;
	__atomic_store_n(address, code_of(diverts, number), __ATOMIC_RELEASE);
	__atomic_store_n(&entry->place, place, __ATOMIC_RELEASE);
	/* Closed with all threads stopped: we were before this line, and see it, or behind it. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&diverts->closed, __ATOMIC_RELAXED))
		return true;
	if (*address == code_of(diverts, number))
		*address = entry->original;
	__atomic_store_n(&entry->place, 0, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&diverts->pending, 1, __ATOMIC_RELAXED);
	return false;
}

/* The links whose programs do not run stand before the continuation: how many, then which. */
static void count_missed(const struct ub_divert *entry, struct ub_hit_counters *counters)
{
	const u32 *before = (const u32 *)entry->continuation;
	const u32 nr = before[-1];

	for (u32 i = 0; i < nr; i++)
		__atomic_fetch_add(&counters[before[-2 - (long)i]].misses, 1, __ATOMIC_RELAXED);
}

/* Whether the return address at @place may be the @thread's, whose stack pointer is @sp. */
static bool may_be_above(const struct ub_divert *entry, u64 place, u64 sp, u64 thread)
{
	return place >= sp && (entry->thread == thread || place - sp < UB_DIVERT_NEAR);
}

void __attribute__((section(".text.ub_agent_undivert")))
ub_agent_undivert(struct ub_diverts *diverts, u64 sp, u64 thread, struct ub_hit_counters *counters)
{
	bool again = true;

	if (!__atomic_load_n(&diverts->pending, __ATOMIC_RELAXED))
		return;
	/* Once more for entries that stood behind others. */
	while (again) {
		again = false;
		for (u32 i = 0; i < UB_MAX_DIVERTS; i++) {
			struct ub_divert *entry = &diverts->entries[i];
			u64 place = __atomic_load_n(&entry->place, __ATOMIC_RELAXED), value;
			u64 code = code_of(diverts, i);

			if (place & BUSY || !may_be_above(entry, place, sp, thread) ||
			    !read_word(diverts, place, sp, thread, &value) || value != code ||
			    !__atomic_compare_exchange_n((u64 *)place, &code, entry->original,
							 false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
				continue;
			count_missed(entry, counters);
			again = true;
			/* Another thread may be on its way through it: left behind, then. */
			if (entry->thread != thread)
				continue;
			__atomic_store_n(&entry->place, 0, __ATOMIC_RELAXED);
			__atomic_fetch_sub(&diverts->pending, 1, __ATOMIC_RELAXED);
		}
	}
}
