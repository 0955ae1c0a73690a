// SPDX-License-Identifier: MIT
/*
 * Records that targets produce. Each target writes a ring of its own; here it is read, each record
 * checked and handed to the kernel, which alone writes the clients' buffers.
 *
 * A target's ring is hostile memory: the reader (map/event_ring.h) copies a record before it is
 * looked at, and a record may only name a map that the target's image holds.
 *
 * While records come, the rings are looked at every BUSY_MS: producers then need no system call.
 * When none came for a few rounds they are armed (ub_event_prepare_sleep) and a thread waits for
 * all of them in one futex_waitv(2); a producer that finds its ring armed wakes it, and it wakes
 * the loop. The thread touches nothing but futex words and an eventfd. Where there is no
 * futex_waitv (before Linux 5.16), or for rings beyond its limit, the rings are looked at every
 * QUIET_MS.
 */
#include "targets.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/futex.h>

#include <hook/image.h>
#include <map/event_ring.h>

#define BUSY_MS	      1
#define BUSY_ROUNDS   4 /* without a record, before the rings are armed */
#define QUIET_MS      20
#define MAX_ROUND     4096 /* records of one target before the others get their turn */
#define MAX_WAITERS   127  /* FUTEX_WAITV_MAX, less one for the control word */
#define RING_IS_ARMED 1	   /* the word's value until a producer woke us */

struct events {
	struct targets *targets;
	struct ub_timer *timer;
	u32 quiet_rounds;
	bool armed;

	/* The thread. */
	bool running;
	pthread_t thread;
	pthread_mutex_t lock;
	u32 nr_words; /* under lock: what to wait for; 0: nothing, until control changes */
	u32 *words[MAX_WAITERS];
	u32 control; /* changes with the above; futex */
	bool stop;
	int eventfd;
	struct ub_watch *watch;
};

static void on_timer(void *opaque);

/* --- the thread ----------------------------------------------------------------------------------
 */

static void futex_wake(u32 *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void wait_for_control(u32 *control, u32 value)
{
	syscall(SYS_futex, control, FUTEX_WAIT, value, NULL, NULL, 0);
}

/* Waits until the control word is not @control or a ring is not armed any more. False: can't. */
static bool wait_for_any(struct events *events, u32 control, u32 *const *words, u32 nr)
{
	struct futex_waitv waiters[MAX_WAITERS + 1] = {};

	waiters[0] = (struct futex_waitv) { .val = control,
					    .uaddr = (uintptr_t)&events->control,
					    .flags = FUTEX_32 };
	for (u32 i = 0; i < nr; i++)
		waiters[i + 1] = (struct futex_waitv) { .val = RING_IS_ARMED,
							.uaddr = (uintptr_t)words[i],
							.flags = FUTEX_32 };
	return syscall(SYS_futex_waitv, waiters, nr + 1, 0, NULL, 0) >= 0 || errno != ENOSYS;
}

static void *waiter_main(void *opaque)
{
	struct events *events = opaque;
	const u64 one = 1;

	for (;;) {
		u32 *words[MAX_WAITERS];
		u32 nr, control;

		pthread_mutex_lock(&events->lock);
		nr = events->nr_words;
		memcpy(words, events->words, nr * sizeof(*words));
		control = __atomic_load_n(&events->control, __ATOMIC_ACQUIRE);
		pthread_mutex_unlock(&events->lock);
		if (__atomic_load_n(&events->stop, __ATOMIC_ACQUIRE))
			return NULL;
		if (!nr) {
			wait_for_control(&events->control, control);
			continue;
		}
		if (!wait_for_any(events, control, words, nr))
			nr = 0; /* the loop's timer does it */
		if (__atomic_load_n(&events->control, __ATOMIC_ACQUIRE) != control)
			continue;
		/* Then nothing more until the loop has looked. */
		if (nr && write(events->eventfd, &one, sizeof(one)) != sizeof(one))
			return NULL;
		wait_for_control(&events->control, control);
	}
}

static void tell_waiter(struct events *events, u32 *const *words, u32 nr)
{
	pthread_mutex_lock(&events->lock);
	events->nr_words = nr;
	if (nr)
		memcpy(events->words, words, nr * sizeof(*words));
	__atomic_add_fetch(&events->control, 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&events->lock);
	futex_wake(&events->control);
}

static void on_wake(void *opaque, u32 what)
{
	struct events *events = opaque;
	u64 count;

	if (read(events->eventfd, &count, sizeof(count)) != sizeof(count))
		return;
	ub_timer_remove(events->timer);
	events->timer = NULL;
	on_timer(events);
}

static void start_waiter(struct events *events)
{
	sigset_t all, before;

	if (events->running || events->eventfd < 0)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	events->running = pthread_create(&events->thread, NULL, waiter_main, events) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* --- reading -------------------------------------------------------------------------------------
 */

static bool is_alive(void *opaque, u64 tid)
{
	const struct target *target = opaque;

	return tid > 0 && tid <= INT32_MAX && syscall(SYS_tgkill, target->pid, (pid_t)tid, 0) == 0;
}

static bool holds_map(const struct target *target, u32 map_id)
{
	/* As all that its links' programs lead to. */
	if (target->image && ub_image_has_map(target->image, map_id))
		return true;
	for (const struct link *link = target->targets->links; link; link = link->next) {
		if (!ub_daemon_target_has(target, link->id))
			continue;
		for (u32 i = 0; i < link->nr_maps; i++) {
			if (ub_kernel_map_id(link->maps[i]) == map_id)
				return true;
		}
	}
	return false;
}

static void tell_lost(struct target *target)
{
	struct ub_kernel *kernel = target->targets->daemon->kernel;
	u32 map_id;
	u64 count;

	for (u32 i = 0; i < UB_EVENT_LOST_MAPS; i++) {
		if (!ub_event_lost_of(target->ring, i, &map_id, &count))
			break;
		/* Only ever grows, unless the target scribbles on it. */
		if (count > target->lost[i] && holds_map(target, map_id))
			ub_kernel_lost(kernel, map_id, count - target->lost[i]);
		target->lost[i] = count;
	}
}

/* Number of records read. */
static u32 read_ring(struct target *target)
{
	struct ub_kernel *kernel = target->targets->daemon->kernel;
	struct ub_event event;
	u32 nr = 0;

	if (!target->reader)
		return 0;
	while (nr < MAX_ROUND) {
		int got = ub_event_read(target->reader, &event, is_alive, target);

		if (got <= 0)
			break;
		nr++;
		if (event.kind == UB_EVENT_PRINTK || holds_map(target, event.map_id))
			ub_kernel_deliver(kernel, &event);
	}
	ub_kernel_delivered(kernel);
	tell_lost(target);
	return nr;
}

static void disarm(struct events *events)
{
	if (!events->armed)
		return;
	events->armed = false;
	for (struct target *target = events->targets->list; target; target = target->next) {
		if (target->ring)
			ub_event_awake(target->ring);
	}
	if (events->running)
		tell_waiter(events, NULL, 0);
}

/* False: there is something to read already, or not every ring can be waited for. */
static bool arm(struct events *events)
{
	u32 *words[MAX_WAITERS];
	bool ready = false;
	u32 nr = 0;

	start_waiter(events);
	if (!events->running)
		return false;
	events->armed = true;
	for (struct target *target = events->targets->list; target && !ready;
	     target = target->next) {
		if (!target->ring)
			continue;
		/* Who may make no system call wakes nobody. */
		if (nr == MAX_WAITERS || ub_image_forbids_syscalls(target->image))
			ready = true;
		else
			words[nr++] = ub_event_futex(target->ring);
		ready |= ub_event_prepare_sleep(target->ring);
	}
	if (ready) {
		disarm(events);
		return false;
	}
	tell_waiter(events, words, nr);
	return true;
}

static void on_timer(void *opaque)
{
	struct events *events = opaque;
	struct ub_loop *loop = events->targets->daemon->loop;
	bool any = false;
	u32 nr = 0;

	events->timer = NULL;
	disarm(events);
	for (struct target *target = events->targets->list; target; target = target->next) {
		any |= target->reader != NULL;
		nr += read_ring(target);
	}
	if (!any)
		return;
	events->quiet_rounds = nr ? 0 : events->quiet_rounds + 1;
	if (events->quiet_rounds < BUSY_ROUNDS) {
		events->timer = ub_loop_after(loop, BUSY_MS, on_timer, events);
		return;
	}
	/* Armed, the slow look stays: for a producer that died between its record and the wake. */
	events->timer =
		ub_loop_after(loop, arm(events) ? QUIET_MS * 10 : QUIET_MS, on_timer, events);
}

void ub_daemon_events_read_now(struct target *target)
{
	while (read_ring(target) == MAX_ROUND)
		;
}

void ub_daemon_events_target_drain(struct events *events, struct target *target)
{
	if (!target->reader)
		return;
	/* The words to wait for are about to be unmapped. */
	disarm(events);
	ub_daemon_events_read_now(target);
	ub_event_reader_free(target->reader);
	target->reader = NULL;
	target->ring = NULL;
	memset(target->lost, 0, sizeof(target->lost));
}

void ub_daemon_events_target_changed(struct events *events, struct target *target)
{
	struct ub_event_ring *ring;
	u32 size = 0;

	if (!target->image || target->reader)
		return;
	ring = ub_image_events(target->image, &size);
	if (!ring)
		return;
	target->reader = ub_event_reader_new(ring, size);
	if (!target->reader)
		return;
	target->ring = ring;
	events->quiet_rounds = 0;
	ub_timer_remove(events->timer);
	events->timer = ub_loop_after(events->targets->daemon->loop, BUSY_MS, on_timer, events);
}

struct events *ub_daemon_events_new(struct targets *targets)
{
	struct events *events = calloc(1, sizeof(*events));

	if (!events)
		return NULL;
	events->targets = targets;
	pthread_mutex_init(&events->lock, NULL);
	events->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (events->eventfd >= 0)
		events->watch = ub_loop_watch(targets->daemon->loop, events->eventfd, EPOLLIN,
					      on_wake, events);
	if (!events->watch) {
		ub_daemon_events_free(events);
		return NULL;
	}
	return events;
}

void ub_daemon_events_free(struct events *events)
{
	if (!events)
		return;
	if (events->running) {
		__atomic_store_n(&events->stop, true, __ATOMIC_RELEASE);
		tell_waiter(events, NULL, 0);
		pthread_join(events->thread, NULL);
	}
	ub_timer_remove(events->timer);
	ub_watch_remove(events->watch);
	if (events->eventfd >= 0)
		close(events->eventfd);
	pthread_mutex_destroy(&events->lock);
	free(events);
}
