// SPDX-License-Identifier: MIT
#include <common/loop.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

struct ub_watch {
	struct ub_loop *loop;
	struct ub_watch *next;
	int fd;
	bool removed;
	void (*fn)(void *opaque, u32 events);
	void *opaque;
};

struct ub_timer {
	struct ub_loop *loop;
	struct ub_timer *next;
	u64 due_ms;
	void (*fn)(void *opaque);
	void *opaque;
};

struct ub_loop {
	int epoll_fd;
	bool stop;
	struct ub_watch *removed; /* freed when no event of theirs can be pending any more */
	struct ub_timer *timers;  /* by due time */
	bool (*before_sleep)(void *opaque);
	void *before_sleep_opaque;
};

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000 + (u64)ts.tv_nsec / 1000000;
}

struct ub_loop *ub_loop_new(void)
{
	struct ub_loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return NULL;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		free(loop);
		return NULL;
	}
	return loop;
}

static void free_removed(struct ub_loop *loop)
{
	while (loop->removed) {
		struct ub_watch *watch = loop->removed;

		loop->removed = watch->next;
		free(watch);
	}
}

void ub_loop_free(struct ub_loop *loop)
{
	if (!loop)
		return;
	free_removed(loop);
	while (loop->timers)
		ub_timer_remove(loop->timers);
	close(loop->epoll_fd);
	free(loop);
}

struct ub_watch *ub_loop_watch(struct ub_loop *loop, int fd, u32 events,
			       void (*fn)(void *opaque, u32 events), void *opaque)
{
	struct ub_watch *watch = calloc(1, sizeof(*watch));
	struct epoll_event event = { .events = events, .data.ptr = watch };

	if (!watch)
		return NULL;
	*watch = (struct ub_watch) { .loop = loop, .fd = fd, .fn = fn, .opaque = opaque };
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
		free(watch);
		return NULL;
	}
	return watch;
}

void ub_watch_remove(struct ub_watch *watch)
{
	if (!watch || watch->removed)
		return;
	epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	watch->removed = true;
	watch->next = watch->loop->removed;
	watch->loop->removed = watch;
}

struct ub_timer *ub_loop_after(struct ub_loop *loop, u64 ms, void (*fn)(void *opaque), void *opaque)
{
	struct ub_timer *timer = calloc(1, sizeof(*timer));
	struct ub_timer **at = &loop->timers;

	if (!timer)
		return NULL;
	*timer = (struct ub_timer) {
		.loop = loop, .due_ms = now_ms() + ms, .fn = fn, .opaque = opaque
	};
	while (*at && (*at)->due_ms <= timer->due_ms)
		at = &(*at)->next;
	timer->next = *at;
	*at = timer;
	return timer;
}

void ub_timer_remove(struct ub_timer *timer)
{
	struct ub_timer **at;

	if (!timer)
		return;
	for (at = &timer->loop->timers; *at; at = &(*at)->next) {
		if (*at == timer) {
			*at = timer->next;
			free(timer);
			return;
		}
	}
}

void ub_loop_before_sleep(struct ub_loop *loop, bool (*fn)(void *opaque), void *opaque)
{
	loop->before_sleep = fn;
	loop->before_sleep_opaque = opaque;
}

static void run_timers(struct ub_loop *loop)
{
	u64 now = now_ms();

	while (loop->timers && loop->timers->due_ms <= now) {
		struct ub_timer *timer = loop->timers;

		loop->timers = timer->next;
		timer->fn(timer->opaque);
		free(timer);
	}
}

static int sleep_ms(const struct ub_loop *loop)
{
	u64 now = now_ms();

	if (!loop->timers)
		return -1;
	return loop->timers->due_ms <= now ? 0 : (int)(loop->timers->due_ms - now);
}

int ub_loop_run(struct ub_loop *loop)
{
	struct epoll_event events[32];

	loop->stop = false;
	while (!loop->stop) {
		bool busy = loop->before_sleep && loop->before_sleep(loop->before_sleep_opaque);
		int n = epoll_wait(loop->epoll_fd, events, 32, busy ? 0 : sleep_ms(loop));

		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < n; i++) {
			struct ub_watch *watch = events[i].data.ptr;

			if (!watch->removed)
				watch->fn(watch->opaque, events[i].events);
		}
		free_removed(loop);
		run_timers(loop);
	}
	return 0;
}

void ub_loop_stop(struct ub_loop *loop)
{
	loop->stop = true;
}
