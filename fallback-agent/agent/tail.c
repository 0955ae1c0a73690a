// SPDX-License-Identifier: MIT
/*
 * Which tail jumps a thread is below, by the stack address of the return address that they left in
 * place. Freestanding; each thread has its own table, so only its own signal handlers come in
 * between: entries are claimed by one instruction and released by one store.
 */
#include <agent/data.h>

bool ub_agent_tail_note(struct ub_thread_tails *tails, u64 place, u64 group)
	__attribute__((visibility("hidden")));
bool ub_agent_tail_noted(struct ub_thread_tails *tails, u64 place, u64 group)
	__attribute__((visibility("hidden")));

bool __attribute__((section(".text.ub_agent_tail_note")))
ub_agent_tail_note(struct ub_thread_tails *tails, u64 place, u64 group)
{
	for (u32 pass = 0; pass < 2; pass++) {
		/* What an exception or longjmp left behind at this very place is replaced. */
		for (u32 i = 0; i < UB_MAX_TAILS; i++)
			if (tails->entries[i].place == place && tails->entries[i].group == group)
				return true;
		for (u32 i = 0; i < UB_MAX_TAILS; i++) {
			u64 expected = 0;

			if (!__atomic_compare_exchange_n(&tails->entries[i].place, &expected, place,
							 false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
				continue;
			tails->entries[i].group = group;
			__atomic_fetch_add(&tails->pending, 1, __ATOMIC_RELAXED);
			return true;
		}
		/* Full: whatever lies below us on the stack was left without a return. */
		for (u32 i = 0; i < UB_MAX_TAILS; i++) {
			if (tails->entries[i].place >= place)
				continue;
			tails->entries[i].place = 0;
			__atomic_fetch_sub(&tails->pending, 1, __ATOMIC_RELAXED);
		}
	}
	return false;
}

bool __attribute__((section(".text.ub_agent_tail_noted")))
ub_agent_tail_noted(struct ub_thread_tails *tails, u64 place, u64 group)
{
	for (u32 i = 0; i < UB_MAX_TAILS; i++) {
		if (tails->entries[i].place != place || tails->entries[i].group != group)
			continue;
		tails->entries[i].group = UINT64_MAX;
		__atomic_store_n(&tails->entries[i].place, 0, __ATOMIC_RELAXED);
		__atomic_fetch_sub(&tails->pending, 1, __ATOMIC_RELAXED);
		return true;
	}
	return false;
}
