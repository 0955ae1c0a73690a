// SPDX-License-Identifier: MIT
#include <common/loop.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <common/clock.h>

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
	pthread_mutex_t lock;	  /* held by whoever runs callbacks */
	pthread_mutex_t turn;	  /* held by who is next: without it the loop might never be */
	int wake_fd;
	bool asleep;
	u64 sleeps_until_ms; /* while asleep */
};

struct ub_loop *ub_loop_new(void)
{
	struct ub_loop *loop = calloc(1, sizeof(*loop));
	/* Known by having no watch. */
	struct epoll_event event = { .events = EPOLLIN };

	if (!loop)
		return NULL;
	pthread_mutex_init(&loop->lock, NULL);
	pthread_mutex_init(&loop->turn, NULL);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->epoll_fd < 0 || loop->wake_fd < 0 ||
	    epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event)) {
		ub_loop_free(loop);
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
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	pthread_mutex_destroy(&loop->lock);
	pthread_mutex_destroy(&loop->turn);
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
		.loop = loop, .due_ms = ub_now_ns() / 1000000 + ms, .fn = fn, .opaque = opaque
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

static void run_timers(struct ub_loop *loop)
{
	u64 now = ub_now_ns() / 1000000;

	while (loop->timers && loop->timers->due_ms <= now) {
		struct ub_timer *timer = loop->timers;

		loop->timers = timer->next;
		timer->fn(timer->opaque);
		free(timer);
	}
}

static u64 next_due_ms(const struct ub_loop *loop)
{
	return loop->timers ? loop->timers->due_ms : UINT64_MAX;
}

void ub_loop_enter(struct ub_loop *loop)
{
	pthread_mutex_lock(&loop->turn);
	pthread_mutex_lock(&loop->lock);
	pthread_mutex_unlock(&loop->turn);
}

/* Sleeps with the lock released, until something happens or a timer is due. */
static int wait_for_events(struct ub_loop *loop, struct epoll_event *events, int max)
{
	u64 now = ub_now_ns() / 1000000, due = next_due_ms(loop);
	int timeout = due == UINT64_MAX ? -1 : due <= now ? 0 : (int)(due - now);
	int n, err;

	loop->asleep = true;
	loop->sleeps_until_ms = due;
	pthread_mutex_unlock(&loop->lock);
	n = epoll_wait(loop->epoll_fd, events, max, timeout);
	err = n < 0 ? -errno : 0;
	ub_loop_enter(loop);
	loop->asleep = false;
	return err ? err : n;
}

static void wake(struct ub_loop *loop)
{
	const u64 one = 1;

	/* EAGAIN: so often woken already. */
	if (write(loop->wake_fd, &one, sizeof(one)) != sizeof(one))
		return;
}

void ub_loop_leave(struct ub_loop *loop)
{
	/* What was begun meanwhile may be due before the loop would look. */
	if (loop->asleep && (loop->stop || next_due_ms(loop) < loop->sleeps_until_ms))
		wake(loop);
	pthread_mutex_unlock(&loop->lock);
}

static void run_watch(struct ub_loop *loop, struct ub_watch *watch, u32 events)
{
	u64 count;

	if (!watch) {
		if (read(loop->wake_fd, &count, sizeof(count)) != sizeof(count))
			return;
	} else if (!watch->removed) {
		watch->fn(watch->opaque, events);
	}
}

int ub_loop_run(struct ub_loop *loop)
{
	struct epoll_event events[32];
	int n = 0;

	ub_loop_enter(loop);
	loop->stop = false;
	while (!loop->stop) {
		n = wait_for_events(loop, events, ub_array_size(events));
		if (n < 0 && n != -EINTR)
			break;
		for (int i = 0; i < n; i++)
			run_watch(loop, events[i].data.ptr, events[i].events);
		free_removed(loop);
		run_timers(loop);
	}
	pthread_mutex_unlock(&loop->lock);
	return loop->stop ? 0 : n;
}

void ub_loop_stop(struct ub_loop *loop)
{
	loop->stop = true;
}
