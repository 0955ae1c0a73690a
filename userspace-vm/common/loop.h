/* SPDX-License-Identifier: MIT */
/*
 * The daemon's event loop: epoll with callbacks. One thread runs it; others may do what a callback
 * may while they have entered it.
 */
#ifndef UB_COMMON_LOOP_H
#define UB_COMMON_LOOP_H

#include <common/types.h>

struct ub_loop;
struct ub_watch;

struct ub_loop *ub_loop_new(void);
void ub_loop_free(struct ub_loop *loop);

/* Calls @fn when one of @events (EPOLLIN, ...) is there on @fd. The watch does not own the fd. NULL
 * with errno on failure. Remove the watch before closing the fd; allowed within any callback. */
struct ub_watch *ub_loop_watch(struct ub_loop *loop, int fd, u32 events,
			       void (*fn)(void *opaque, u32 events), void *opaque);
void ub_watch_remove(struct ub_watch *watch);

/* Calls @fn once, @ms milliseconds from now; a timer in hand can be cancelled by removing it until
 * @fn is called, after which it is gone. */
struct ub_timer;
struct ub_timer *ub_loop_after(struct ub_loop *loop, u64 ms, void (*fn)(void *opaque),
			       void *opaque);
void ub_timer_remove(struct ub_timer *timer);

/* Between these no callback runs, and no other thread is between them. Not within a callback, where
 * that is so already. */
void ub_loop_enter(struct ub_loop *loop);
void ub_loop_leave(struct ub_loop *loop);

/* Runs until ub_loop_stop(). 0 or -errno. */
int __must_check ub_loop_run(struct ub_loop *loop);
void ub_loop_stop(struct ub_loop *loop);

#endif
