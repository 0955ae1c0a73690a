// SPDX-License-Identifier: MIT
/*
 * Records that targets produce. Each target writes rings of its own, one for each ring buffer map
 * and one for all else; here they are read, each record checked and handed to the kernel, which
 * alone writes the clients' buffers.
 *
 * A target's ring is hostile memory: the reader (map/event_ring.h) copies a record before it is
 * looked at, and a record may only name a map that the target's image holds.
 *
 * A record that a ring buffer has no room for stays where it is until the client has read: by and
 * by the ring of that map fills in the target, and there the program is told. So what it was told
 * to be taken arrives, as in the kernel, and nobody else's records wait.
 *
 * While records come, the rings are looked at every BUSY_US, or at once where many were there:
 * producers then need no system call. When none came for a few rounds they are armed
 * (ub_event_prepare_sleep) and a thread waits for all of them in one futex_waitv(2); a producer
 * that finds its ring armed wakes it, and it wakes the loop. The thread touches nothing but futex
 * words and an eventfd. Where there is no futex_waitv (before Linux 5.16), or for rings beyond its
 * limit, the rings are looked at every QUIET_US.
 *
 * Producers that find their ring full keep their processors, as they would in the kernel. For the
 * loop to get one each time it asks, it asks for short slices (want_short_slices).
 */
#include "targets.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <linux/futex.h>
#include <linux/sched.h>

#include <hook/image.h>
#include <map/event_ring.h>

#define BUSY_US	       1000
#define MANY_US	       100 /* the same after MANY records */
#define MANY	       256
#define BUSY_ROUNDS    4   /* without a record, before the rings are armed */
#define HELD_ROUNDS    500 /* the same for a client that does not read */
#define QUIET_US       20000
#define ARMED_US       (QUIET_US * 10)
#define MAX_ROUND      65536u /* records of one ring before the others get their turn */
#define READING_ROUNDS 64     /* so long a client that took a record is reading */
#define SLICE_NS       200000
#define SPINS	       256  /* how long a client that is reading is waited for, */
#define SPIN_BYTES     4096 /* to make room for so much, */
#define MAX_WAITS      256  /* and how often in one round: what it says may be nonsense */
#define RING_RECORDS   (UB_EVENT_RING_SIZE / 8) /* that a ring can hold, at most */
#define MAX_WAITERS    127			/* FUTEX_WAITV_MAX, less one for the control word */
#define RING_IS_ARMED  1			/* the word's value until a producer woke us */

struct events {
	struct targets *targets;
	int timer; /* timerfd, of microseconds */
	struct ub_watch *timer_watch;
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

static void look(struct events *events);

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
	look(events);
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

/* Whether the client takes records right now: then there will be room in a moment. */
static bool is_reading(struct ub_kernel *kernel, u32 map_id)
{
	u64 before = ub_kernel_ring_unread(kernel, map_id);

	for (u32 i = 0; i < SPINS; i++) {
		__builtin_ia32_pause();
		if (i % 16 == 0 && ub_kernel_ring_unread(kernel, map_id) + SPIN_BYTES <= before)
			return true;
	}
	return false;
}

/*
 * Where the ring's producers shall think that the client's next record will stand. That is how they
 * find its buffer full as soon as in the kernel. While the client reads, what this ring holds needs
 * no room there yet: it will be read by then, and client, loop and producers need not take turns.
 */
static u64 position_for(struct ub_kernel *kernel, struct map_ring *ring, u64 *slack)
{
	u64 position = ub_kernel_ring_position(kernel, ring->map_id);
	u64 client = position - ub_kernel_ring_unread(kernel, ring->map_id);

	if (client != ring->client)
		ring->reading = READING_ROUNDS;
	else if (ring->reading)
		ring->reading--;
	ring->client = client;
	*slack = ring->reading ? UB_EVENT_RING_SIZE : 0;
	return position;
}

static u32 read_map_ring(struct target *target, struct map_ring *ring)
{
	struct ub_kernel *kernel = target->targets->daemon->kernel;
	struct ub_event event;
	u32 nr = 0, waits = 0;
	u64 lost, position, slack;

	while (nr < MAX_ROUND && ub_event_read(ring->reader, &event, is_alive, target) > 0) {
		if (!ub_kernel_deliver(kernel, &event)) {
			ub_event_unread(ring->reader);
			if (waits++ < MAX_WAITS && is_reading(kernel, ring->map_id))
				continue;
			target->held = true;
			break;
		}
		nr++;
	}
	ub_kernel_delivered(kernel);
	position = position_for(kernel, ring, &slack);
	ub_event_release(ring->reader, position, slack);
	lost = ub_event_lost(ring->ring);
	if (lost > ring->lost)
		ub_kernel_lost(kernel, ring->map_id, lost - ring->lost);
	ring->lost = lost;
	return nr;
}

/* What a client has no room for now, for whom the ring will not wait any longer. Not more than a
 * ring holds: whoever goes on writing would keep us here. */
static void read_rest(struct target *target, struct map_ring *ring)
{
	struct ub_kernel *kernel = target->targets->daemon->kernel;
	struct ub_event event;
	u32 nr = 0;

	while (nr < RING_RECORDS && ub_event_read(ring->reader, &event, is_alive, target) > 0) {
		ub_kernel_deliver_later(kernel, &event);
		nr++;
	}
	ub_kernel_delivered(kernel);
	if (nr == RING_RECORDS)
		ub_kernel_lost(kernel, ring->map_id, 1); /* at least */
}

/* Number of records read, or MAX_ROUND if there may be more. */
static u32 read_rings(struct target *target)
{
	struct ub_kernel *kernel = target->targets->daemon->kernel;
	struct ub_event event;
	u32 all = 0, nr = 0;

	target->held = false;
	if (!target->reader)
		return 0;
	while (nr < MAX_ROUND && ub_event_read(target->reader, &event, is_alive, target) > 0) {
		nr++;
		if ((event.kind == UB_EVENT_PRINTK || holds_map(target, event.map_id)) &&
		    !ub_kernel_deliver(kernel, &event))
			ub_kernel_lost(kernel, event.map_id, 1);
	}
	ub_kernel_delivered(kernel);
	ub_event_release(target->reader, 0, 0);
	tell_lost(target);
	all = nr;
	for (u32 i = 0; i < target->nr_map_rings; i++) {
		nr = read_map_ring(target, &target->map_rings[i]);
		all = nr == MAX_ROUND || all >= MAX_ROUND ? MAX_ROUND : all + nr;
	}
	return all < MAX_ROUND ? all : MAX_ROUND;
}

static bool is_ready(const struct target *target)
{
	bool ready = ub_event_ready(target->ring);

	for (u32 i = 0; i < target->nr_map_rings; i++)
		ready |= ub_event_ready(target->map_rings[i].ring);
	return ready;
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
		ub_event_prepare_sleep(target->ring);
		ready |= is_ready(target);
	}
	if (ready) {
		disarm(events);
		return false;
	}
	tell_waiter(events, words, nr);
	return true;
}

static void look_in(struct events *events, u64 us)
{
	struct itimerspec when = { .it_value = { (time_t)(us / 1000000),
						 (long)(us % 1000000) * 1000 } };

	timerfd_settime(events->timer, 0, &when, NULL);
}

static void look(struct events *events)
{
	bool any = false, held = false;
	u32 most = 0;

	disarm(events);
	for (struct target *target = events->targets->list; target; target = target->next) {
		u32 nr = read_rings(target);

		any |= target->reader != NULL;
		held |= target->held;
		most = nr > most ? nr : most;
	}
	if (!any) {
		look_in(events, 0);
		return;
	}
	events->quiet_rounds = most ? 0 : events->quiet_rounds + 1;
	if (most == MAX_ROUND)
		look_in(events, 1);
	else if (most >= MANY || (held && events->quiet_rounds < HELD_ROUNDS))
		look_in(events, MANY_US);
	else if (events->quiet_rounds < BUSY_ROUNDS)
		look_in(events, BUSY_US);
	else
		/* Armed, the slow look stays: for a producer that died between its record and the
		 * wake. */
		look_in(events, arm(events) ? ARMED_US : QUIET_US);
}

static void on_timer(void *opaque, u32 what)
{
	struct events *events = opaque;
	u64 count;

	if (read(events->timer, &count, sizeof(count)) == sizeof(count))
		look(events);
}

void ub_daemon_events_read_now(struct target *target)
{
	/* What was there when it began, at most. */
	for (u32 nr = 0; nr < RING_RECORDS && read_rings(target) == MAX_ROUND; nr += MAX_ROUND)
		;
}

void ub_daemon_events_target_drain(struct events *events, struct target *target)
{
	if (!target->reader)
		return;
	/* The words to wait for are about to be unmapped. */
	disarm(events);
	ub_daemon_events_read_now(target);
	for (u32 i = 0; i < target->nr_map_rings; i++)
		read_rest(target, &target->map_rings[i]);
	ub_event_reader_free(target->reader);
	target->reader = NULL;
	target->ring = NULL;
	memset(target->lost, 0, sizeof(target->lost));
	for (u32 i = 0; i < target->nr_map_rings; i++)
		ub_event_reader_free(target->map_rings[i].reader);
	free(target->map_rings);
	target->map_rings = NULL;
	target->nr_map_rings = 0;
}

static bool read_maps_of(struct target *target)
{
	struct ub_event_ring *ring;
	u32 map_id, size;

	for (u32 i = 0; (ring = ub_image_map_events(target->image, i, &map_id, &size)); i++) {
		struct map_ring *grown =
			reallocarray(target->map_rings, i + 1, sizeof(*target->map_rings));

		if (!grown)
			return false;
		target->map_rings = grown;
		grown[i] = (struct map_ring) { .map_id = map_id,
					       .ring = ring,
					       .reader = ub_event_reader_new(ring, size, map_id) };
		if (!grown[i].reader)
			return false;
		target->nr_map_rings = i + 1;
	}
	return true;
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
	target->reader = ub_event_reader_new(ring, size, 0);
	if (!target->reader)
		return;
	target->ring = ring;
	if (!read_maps_of(target))
		ub_daemon_log(events->targets->daemon, "pid %d: no memory for its ring buffers",
			      target->pid);
	events->quiet_rounds = 0;
	look_in(events, BUSY_US);
}

/* Who asks for short slices waits less long for the next one; the share of the processor is the
 * same. Linux 6.12 and later; before, nothing changes. */
static void want_short_slices(void)
{
	struct {
		u32 size;
		u32 policy;
		u64 flags;
		s32 nice;
		u32 priority;
		u64 runtime;
		u64 deadline;
		u64 period;
	} attr = { .size = sizeof(attr) };

	if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) || attr.policy != SCHED_OTHER)
		return;
	attr.flags |= SCHED_FLAG_RESET_ON_FORK;
	attr.runtime = SLICE_NS;
	syscall(SYS_sched_setattr, 0, &attr, 0);
}

struct events *ub_daemon_events_new(struct targets *targets)
{
	struct events *events = calloc(1, sizeof(*events));

	if (!events)
		return NULL;
	events->targets = targets;
	pthread_mutex_init(&events->lock, NULL);
	events->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	events->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (events->eventfd >= 0)
		events->watch = ub_loop_watch(targets->daemon->loop, events->eventfd, EPOLLIN,
					      on_wake, events);
	if (events->timer >= 0)
		events->timer_watch = ub_loop_watch(targets->daemon->loop, events->timer, EPOLLIN,
						    on_timer, events);
	if (!events->watch || !events->timer_watch) {
		ub_daemon_events_free(events);
		return NULL;
	}
	want_short_slices();
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
	ub_watch_remove(events->timer_watch);
	ub_watch_remove(events->watch);
	if (events->timer >= 0)
		close(events->timer);
	if (events->eventfd >= 0)
		close(events->eventfd);
	pthread_mutex_destroy(&events->lock);
	free(events);
}
