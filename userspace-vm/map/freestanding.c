// SPDX-License-Identifier: MIT
/*
 * What gcc may call although nobody wrote a call: only in the agent, which has no libc. Built with
 * -ffreestanding, so that the loops are not turned into calls of themselves.
 */
#include <common/types.h>

void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);

#define HIDDEN __attribute__((visibility("hidden"), used))

HIDDEN void *memcpy(void *to, const void *from, size_t size)
{
	void *t = to;

	__asm__ volatile("rep movsb" : "+D"(t), "+S"(from), "+c"(size) : : "memory");
	return to;
}

HIDDEN void *memmove(void *to, const void *from, size_t size)
{
	const volatile u8 *f = from;
	volatile u8 *t = to;

	if ((uintptr_t)to - (uintptr_t)from >= size)
		return memcpy(to, from, size);
	while (size--)
		t[size] = f[size];
	return to;
}

HIDDEN void *memset(void *to, int value, size_t size)
{
	void *t = to;

	__asm__ volatile("rep stosb" : "+D"(t), "+c"(size) : "a"(value) : "memory");
	return to;
}

HIDDEN int memcmp(const void *a, const void *b, size_t size)
{
	const volatile u8 *x = a, *y = b;

	for (; size; size--, x++, y++) {
		if (*x != *y)
			return *x < *y ? -1 : 1;
	}
	return 0;
}
