// SPDX-License-Identifier: MIT
#include <map/pool.h>

#define MAX_TRIES 256

static u64 *bitmap(const struct ub_map *map, u32 level)
{
	return (u64 *)(map->shared + map->type_words[UB_W_BITMAP0 + level]);
}

static u64 nr_words(const struct ub_map *map, u32 level)
{
	u64 n = map->type_words[UB_W_NR_NODES];

	for (u32 i = 0; i <= level; i++)
		n = (n + 63) / 64;
	return n;
}

/* Who takes a node. */
struct taker {
	struct ub_run *run;
	u64 word; /* what the state says of it */
	u32 hold;
};

static inline __attribute__((always_inline)) struct taker taker_of(struct ub_run *run)
{
	struct taker taker = { .run = run, .hold = ub_hold_take(run) };

	if (run && run->process)
		taker.word = (u64)ub_hold_number(run) << UB_NODE_THREAD_SHIFT |
			     (u64)ub_hold_image(run) << UB_NODE_IMAGE_SHIFT |
			     (u64)taker.hold << UB_NODE_HOLD_SHIFT |
			     (run->process->tgid_pid & 0x3fffff) << UB_NODE_TAKER_SHIFT;
	return taker;
}

/* In a forked child that goes on with its parent's hit: what it took it could neither link nor give
 * back. */
static inline bool may_take(const struct taker *taker)
{
	return ub_likely(taker->hold != UB_NO_HOLD) || !ub_hold_inherited(taker->run);
}

/* What the state of a node that is in @state says once it has been taken. */
static u64 taken_by(u64 state, const struct taker *taker)
{
	return taker->word | ((state + UB_NODE_GEN_ONE) & UB_NODE_GEN_MASK) |
	       (state & UB_NODE_EXTRA) | UB_NODE_USED;
}

/* Takes @index, which was seen free in @state after its next was @next, and is noted: @taken is what
 * it then says. */
static bool claim_noted(const struct ub_map *map, u32 index, u64 next, u64 state, u64 taken)
{
	struct ub_node *node = ub_pool_node(map, index);

	/*
	 * A used node whose next is marked has been deleted in this life of it, which
	 * ub_map_sweep() relies on: so the mark of the last life goes before the state says "used".
	 */
	/* And no later life's: it may have been taken, linked and deleted since it was seen free, and
	 * would be back then. */
	if (ub_unlikely(ub_atomic_load(&node->next) != next))
		return false;
	if (next & UB_LINK_MARK)
		ub_atomic_cas(&node->next, next, ub_link_make(next, ub_link_target(next), 0));
	return ub_atomic_cas(&node->state, state, taken);
}

/* Takes @index if it is free and of the wanted role. */
static inline __attribute__((always_inline)) bool claim(const struct ub_map *map, u32 index,
							bool extra, const struct taker *taker)
{
	u64 next = ub_atomic_load(&ub_pool_node(map, index)->next);
	u64 state = ub_atomic_load(&ub_pool_node(map, index)->state), taken;

	if (state & UB_NODE_USED || !!(state & UB_NODE_EXTRA) != extra)
		return false;
	taken = taken_by(state, taker);
	ub_hold_note(taker->hold, map, UB_HOLD_NODE(index), taken, taker->run);
	return claim_noted(map, index, next, state, taken);
}

/*
 * Word @word of @level has become full: says so one level up. It may have got a free bit again
 * meanwhile, by somebody who saw the summary bit still clear; so look again afterwards.
 */
static void mark_full(const struct ub_map *map, u64 word, u32 level)
{
	for (; level < 2; level++) {
		u64 *below = &bitmap(map, level)[word];
		u64 *above = &bitmap(map, level + 1)[word / 64];
		u64 bit = 1ull << word % 64;
		u64 now = __atomic_or_fetch(above, bit, __ATOMIC_SEQ_CST);

		if (~ub_atomic_load(below)) {
			__atomic_fetch_and(above, ~bit, __ATOMIC_SEQ_CST);
			return;
		}
		if (~now)
			return;
		word /= 64;
	}
}

static u32 take_in_word(const struct ub_map *map, u64 word, const struct taker *taker)
{
	u64 *at = &bitmap(map, 0)[word];
	u64 seen = ub_atomic_load(at);

	while (~seen) {
		u32 bit = (u32)__builtin_ctzll(~seen);
		u64 index = word * 64 + bit, mask = 1ull << bit, next, state, taken, was_set;
		bool free;

		/* Scribbled on. */
		if (ub_unlikely(index >= map->type_words[UB_W_NR_NODES])) {
			__atomic_fetch_or(at, ~0ull << bit, __ATOMIC_SEQ_CST);
			return UB_NO_NODE;
		}
		/* The bit is held with the node: by who says so before it sets the bit. */
		next = ub_atomic_load(&ub_pool_node(map, (u32)index)->next);
		state = ub_atomic_load(&ub_pool_node(map, (u32)index)->state);
		taken = taken_by(state, taker);
		free = !(state & (UB_NODE_USED | UB_NODE_EXTRA));
		if (ub_likely(free))
			ub_hold_note(taker->hold, map, UB_HOLD_NODE(index), taken, taker->run);
		/* Only this bit of the old value is looked at, so that it compiles to lock bts. */
		was_set = __atomic_fetch_or(at, mask, __ATOMIC_SEQ_CST) & mask;
		seen |= mask;
		if (ub_unlikely(!~seen) && !was_set)
			mark_full(map, word, 0);
		if (ub_likely(!was_set && free) && claim_noted(map, (u32)index, next, state, taken))
			return (u32)index;
		/* And look at the state once more, behind the bit: see ub_pool_hint(). */
		if (!was_set && claim(map, (u32)index, false, taker))
			return (u32)index;
	}
	return UB_NO_NODE;
}

/* A word of the lowest level that may have a free bit, searched for near @near; -1: none. */
static s64 find_word(const struct ub_map *map, u64 near)
{
	u64 n2 = nr_words(map, 2), start = near / 4096;
	u64 *level1 = bitmap(map, 1), *level2 = bitmap(map, 2);
	u64 free1 = ~ub_atomic_load(&level1[near / 64]);

	if (free1)
		return (s64)(near / 64 * 64 + (u64)__builtin_ctzll(free1));
	for (u64 i = 0; i < n2; i++) {
		u64 at = start + i < n2 ? start + i : start + i - n2;
		u64 free2 = ~ub_atomic_load(&level2[at]);

		while (free2) {
			u64 word1 = at * 64 + (u64)__builtin_ctzll(free2);

			if (word1 >= nr_words(map, 1))
				break;
			free1 = ~ub_atomic_load(&level1[word1]);
			if (free1)
				return (s64)(word1 * 64 + (u64)__builtin_ctzll(free1));
			/* Somebody was interrupted before it said that this word is full. */
			__atomic_fetch_or(&level2[at], 1ull << word1 % 64, __ATOMIC_SEQ_CST);
			if (~ub_atomic_load(&level1[word1]))
				__atomic_fetch_and(&level2[at], ~(1ull << word1 % 64),
						   __ATOMIC_SEQ_CST);
			free2 &= free2 - 1;
		}
	}
	return -1;
}

/* Looks at some words directly, where a thread was stopped before it cleared their summary bits. */
static u32 take_unsummarised(const struct ub_map *map, const struct taker *taker)
{
	u64 n = nr_words(map, 0);
	u64 at = __atomic_fetch_add(&ub_pool_header(map)->cursor, 32, __ATOMIC_RELAXED) % n;

	for (u32 i = 0; i < 32 && i < n; i++, at = at + 1 < n ? at + 1 : 0) {
		if (~ub_atomic_load(&bitmap(map, 0)[at])) {
			u32 index = take_in_word(map, at, taker);

			if (index != UB_NO_NODE)
				return index;
		}
	}
	return UB_NO_NODE;
}

static u32 take(const struct ub_map *map, const struct taker *taker)
{
	struct ub_pool_cpu *cpu = ub_pool_cpu(map, ub_run_cpu(taker->run));
	u64 n = nr_words(map, 0);
	u64 word = __atomic_load_n(&cpu->word, __ATOMIC_RELAXED);
	u32 index;

	if (word >= n)
		word = 0;
	for (u32 i = 0; i < MAX_TRIES; i++) {
		s64 next;

		index = take_in_word(map, word, taker);
		if (index != UB_NO_NODE) {
			if (i)
				__atomic_store_n(&cpu->word, (u32)word, __ATOMIC_RELAXED);
			return index;
		}
		next = find_word(map, word);
		if (next < 0 || (u64)next >= n)
			break;
		if (!~ub_atomic_load(&bitmap(map, 0)[next]))
			mark_full(map, (u64)next, 0);
		word = (u64)next;
	}
	index = take_unsummarised(map, taker);
	if (index == UB_NO_NODE) {
		ub_hold_return(taker->hold, taker->run);
		ub_hold_look(taker->run);
	}
	return index;
}

u32 ub_pool_take(const struct ub_map *map, struct ub_run *run)
{
	const struct taker taker = taker_of(run);

	return may_take(&taker) ? take(map, &taker) : UB_NO_NODE;
}

u32 ub_pool_take_near(const struct ub_map *map, u64 index, struct ub_run *run)
{
	const struct taker taker = taker_of(run);

	if (!may_take(&taker))
		return UB_NO_NODE;
	if (index >= map->type_words[UB_W_NR_NODES])
		index = 0;
	if (ub_likely(claim(map, (u32)index, false, &taker)))
		return (u32)index;
	return take(map, &taker);
}

static u32 take_hinted(const struct ub_map *map, const struct taker *taker)
{
	u32 first = ub_cpu_slot(ub_run_cpu(taker->run), map->nr_cpus);

	for (u32 i = 0; i < map->nr_cpus; i++) {
		struct ub_pool_cpu *cpu = ub_pool_cpu(map, first + i);

		for (u32 slot = 0; slot < UB_POOL_SLOTS; slot++) {
			u32 hint = __atomic_load_n(&cpu->extra[slot], __ATOMIC_RELAXED);

			if (!hint || hint > map->type_words[UB_W_NR_NODES])
				continue;
			if (claim(map, hint - 1, true, taker))
				return hint - 1;
		}
	}
	return UB_NO_NODE;
}

u32 ub_pool_take_extra(const struct ub_map *map, struct ub_run *run)
{
	const struct taker taker = taker_of(run);
	u32 index = may_take(&taker) ? take_hinted(map, &taker) : UB_NO_NODE;

	if (index == UB_NO_NODE)
		ub_hold_return(taker.hold, run);
	return index;
}

static bool is_free_extra(const struct ub_map *map, u32 hint)
{
	u64 state;

	if (!hint || hint > map->type_words[UB_W_NR_NODES])
		return false;
	state = ub_atomic_load(&ub_pool_node(map, hint - 1)->state);
	return !(state & UB_NODE_USED) && state & UB_NODE_EXTRA;
}

/* Slots whose node has been taken are free for another hint: nobody clears them when taking. */
static void hint_extra(const struct ub_map *map, u32 index, u32 first)
{
	for (u32 i = 0; i < map->nr_cpus; i++) {
		struct ub_pool_cpu *cpu = ub_pool_cpu(map, first + i);

		for (u32 slot = 0; slot < UB_POOL_SLOTS; slot++) {
			u32 hint = __atomic_load_n(&cpu->extra[slot], __ATOMIC_RELAXED);

			if (hint == index + 1)
				return;
			if (is_free_extra(map, hint))
				continue;
			if (__atomic_compare_exchange_n(&cpu->extra[slot], &hint, index + 1, false,
							__ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
				return;
		}
	}
}

void ub_pool_hint(const struct ub_map *map, u32 index, bool extra, u32 cpu)
{
	u64 word = index / 64;
	struct ub_pool_cpu *mine;

	if (extra) {
		hint_extra(map, index, ub_cpu_slot(cpu, map->nr_cpus));
		return;
	}
	/* Taken by ub_pool_take_near() and never marked. The state said "free" before this looks,
	 * and who marks looks at the state afterwards: one of the two sees the other. */
	if (!(ub_atomic_load(&bitmap(map, 0)[word]) >> index % 64 & 1))
		return;
	mine = ub_pool_cpu(map, cpu);
	__atomic_fetch_and(&bitmap(map, 0)[word], ~(1ull << index % 64), __ATOMIC_SEQ_CST);
	for (u32 level = 1; level < 3; level++) {
		u64 *above = &bitmap(map, level)[word / 64];

		if (ub_atomic_load(above) >> word % 64 & 1)
			__atomic_fetch_and(above, ~(1ull << word % 64), __ATOMIC_SEQ_CST);
		word /= 64;
	}
	if (__atomic_load_n(&mine->word, __ATOMIC_RELAXED) != index / 64)
		__atomic_store_n(&mine->word, index / 64, __ATOMIC_RELAXED);
}

void ub_pool_disown(const struct ub_map *map, u32 index, u64 state)
{
	if (index < map->type_words[UB_W_NR_NODES])
		ub_atomic_cas(&ub_pool_node(map, index)->state, state, UB_NODE_UNOWNED(state));
}

static inline bool put(const struct ub_map *map, u32 index, u64 state, bool extra,
		       struct ub_run *run)
{
	struct ub_node *node = ub_pool_node(map, index);
	u64 free = ((state + UB_NODE_GEN_ONE) & UB_NODE_GEN_MASK) | (extra ? UB_NODE_EXTRA : 0);
	bool done;

	/* Or it was disowned since: what its taker left behind was linked all the same. */
	done = ub_atomic_cas(&node->state, state, free) ||
	       (UB_NODE_UNOWNED(state) != state &&
		ub_atomic_cas(&node->state, UB_NODE_UNOWNED(state), free));
	if (done)
		ub_pool_hint(map, index, extra, ub_run_cpu(run));
	return done;
}

bool ub_pool_put(const struct ub_map *map, u32 index, u64 state, bool extra, struct ub_run *run)
{
	bool done;

	if (ub_unlikely(ub_hold_inherited(run)))
		return false;
	done = put(map, index, state, extra, run);
	ub_hold_drop(map, UB_HOLD_NODE(index), run);
	return done;
}

void ub_pool_put_held(const struct ub_map *map, u32 index, u64 state, u32 hold, struct ub_run *run)
{
	if (ub_unlikely(ub_hold_inherited(run)))
		return;
	(void)put(map, index, state, false, run);
	ub_hold_return(hold, run);
}
