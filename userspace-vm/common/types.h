/* SPDX-License-Identifier: MIT */
/*
 * Integer types and annotations used everywhere, in hosted and in freestanding code alike.
 */
#ifndef UB_COMMON_TYPES_H
#define UB_COMMON_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

#define __must_check		 __attribute__((warn_unused_result))
#define __printf_like(fmt, args) __attribute__((format(printf, fmt, args)))

#define ub_array_size(a) (sizeof(a) / sizeof((a)[0]))
#define ub_likely(x)	 __builtin_expect(!!(x), 1)
#define ub_unlikely(x)	 __builtin_expect(!!(x), 0)

/* Rounds @x up to a multiple of @to, which is a power of two. */
#define ub_round_up(x, to) ((((x) + (to)) - 1) & ~((__typeof__(x))(to)-1))

#define ub_read_once(x)	    (*(const volatile __typeof__(x) *)&(x))
#define ub_write_once(x, v) (*(volatile __typeof__(x) *)&(x) = (v))

#endif
