/* SPDX-License-Identifier: MIT */
/*
 * Memory functions for code that runs without libc, over memory that others write at the same time.
 * Words are moved with relaxed atomic accesses: on x86-64 these are plain moves, and a racing copy
 * means "some mixture of old and new words" rather than undefined behaviour.
 */
#ifndef UB_MAP_MEM_H
#define UB_MAP_MEM_H

#include <common/types.h>

/* Unaligned access is what x86-64 does anyway; the type says so to the compiler. */
typedef u64 ub_word __attribute__((aligned(1), may_alias));
typedef u32 ub_half __attribute__((aligned(1), may_alias));

static inline u64 ub_load64(const void *p)
{
	return *(const volatile ub_word *)p;
}

static inline u32 ub_load32(const void *p)
{
	return *(const volatile ub_half *)p;
}

/* ThreadSanitizer knows no fences; the accesses around them are atomic all the same. */
static inline void ub_fence_acquire(void)
{
#ifdef __SANITIZE_THREAD__
	__asm__ volatile("" : : : "memory");
#else
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
}

static inline void ub_fence(void)
{
#ifdef __SANITIZE_THREAD__
	__asm__ volatile("mfence" : : : "memory");
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* Copies between memory that nobody else touches and anything else; @size may be any number. */
__attribute__((no_sanitize("thread"))) static inline void ub_mem_copy(void *to, const void *from,
								      u64 size)
{
	u8 *t = to;
	const u8 *f = from;

	if (size >= 256) {
		__asm__ volatile("rep movsb" : "+D"(t), "+S"(f), "+c"(size) : : "memory");
		return;
	}
	for (; size >= 8; size -= 8, t += 8, f += 8)
		*(volatile ub_word *)t = *(const volatile ub_word *)f;
	if (size & 4) {
		*(volatile ub_half *)t = *(const volatile ub_half *)f;
		t += 4;
		f += 4;
	}
	for (size &= 3; size; size--)
		*(volatile u8 *)t++ = *(const volatile u8 *)f++;
}

__attribute__((no_sanitize("thread"))) static inline void ub_mem_zero(void *to, u64 size)
{
	u8 *t = to;

	if (size >= 256) {
		__asm__ volatile("rep stosb" : "+D"(t), "+c"(size) : "a"(0) : "memory");
		return;
	}
	for (; size >= 8; size -= 8, t += 8)
		*(volatile ub_word *)t = 0;
	for (; size; size--)
		*(volatile u8 *)t++ = 0;
}

__attribute__((no_sanitize("thread"))) static inline bool ub_mem_equal(const void *a, const void *b,
								       u64 size)
{
	const u8 *x = a, *y = b;

	for (; size >= 8; size -= 8, x += 8, y += 8) {
		if (ub_load64(x) != ub_load64(y))
			return false;
	}
	if (size & 4) {
		if (ub_load32(x) != ub_load32(y))
			return false;
		x += 4;
		y += 4;
	}
	for (size &= 3; size; size--) {
		if (*(const volatile u8 *)x++ != *(const volatile u8 *)y++)
			return false;
	}
	return true;
}

/* 64-bit mixer (the finaliser of splitmix64, Steele et al. 2014). */
static inline u64 ub_mix64(u64 x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

__attribute__((no_sanitize("thread"))) static inline u64 ub_hash_bytes(const void *data, u32 size,
								       u64 seed)
{
	const u8 *p = data;
	u64 h = seed ^ ((u64)size << 32), tail = 0;

	for (; size >= 8; size -= 8, p += 8)
		h = (h ^ ub_load64(p)) * 0x9e3779b97f4a7c15ull, h ^= h >> 29;
	if (size & 4) {
		tail = ub_load32(p);
		p += 4;
	}
	for (size &= 3; size; size--)
		tail = tail << 8 | *(const volatile u8 *)p++;
	h ^= tail;
	h *= 0xbf58476d1ce4e5b9ull;
	h ^= h >> 32;
	h *= 0x94d049bb133111ebull;
	return h ^ (h >> 29);
}

#endif
