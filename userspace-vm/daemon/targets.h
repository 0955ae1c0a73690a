/* SPDX-License-Identifier: MIT */
/*
 * Target processes and the links that reach them. A target holds one image with the links of all
 * sessions (hook/image.h); any change is the image wanted now put in the place of the one that is
 * there. Nothing but this says what a process holds.
 */
#ifndef UB_DAEMON_TARGETS_H
#define UB_DAEMON_TARGETS_H

#include <stdio.h>

#include <json-c/json.h>

#include "private.h"

struct ub_image;
struct ub_event_reader;

/* One link, as long as the kernel has it attached. */
struct link {
	struct link *next;
	u32 id;
	u32 prog_id;
	pid_t pid; /* tgid, or -1: every process of its session's choice */
	struct session *session;
	char *path;
	dev_t dev;
	ino_t ino;
	u64 offset;
	u64 ref_ctr_offset;
	u64 cookie;
	bool is_return;
	bool enabled;
	const struct ub_program *program;
	const struct ub_code *code;
	u32 nr_maps;
	struct ub_kernel_map **maps;
	u64 hits; /* counted by images that are gone */
	u64 misses;
	u32 nr_refused; /* processes that a link without a pid could not reach */
};

/* An image that is out of use and not yet out of its process. */
struct leaving {
	struct leaving *next;
	struct ub_image *image;
	u32 nr_links;
	u32 *links;
	struct ub_reason why; /* it could not be taken out at once */
};

struct target {
	struct target *next;
	struct targets *targets;
	pid_t pid;
	uid_t uid;
	gid_t gid;
	int pidfd;
	int mem_fd; /* /proc/PID/mem of the memory that holds the image: reads 0 bytes after exec;
		       or -1 */
	struct ub_watch *watch;
	struct ub_image *image;
	u32 nr_links; /* in the image, in its order */
	u32 *links;
	struct leaving *leaving;
	bool dirty; /* the image may not be the one that is wanted */
	bool stale; /* it holds the right links, and something in it changed */
	u32 generation;
	u64 retry_at_ms;
	u32 retry_ms;
	u32 nr_failed; /* links that could not be placed in this process, kept from being tried
			  again */
	u32 *failed;
	u64 refused_until_ms; /* not to be tried again before, for links without a pid */
	bool counted_refused; /* in the links' nr_refused */
	u64 late_since_ms; /* it has not what it should, though nothing but us is in the way; 0: it has */
	bool told_late;
	u64 attached_at; /* seconds since the epoch */
	u64 holds_since; /* ticks since boot: from then on children have a copy */
	u64 last_pause_ns;
	struct ub_reason failure;	/* of the last surgery, "" if it succeeded */
	u32 filters_round;		/* in which it was looked at last */
	u32 nr_passing_filters;		/* as struct ub_surgery says */
	struct ub_event_reader *reader; /* of the process's own event ring */
	struct ub_event_ring *ring;
	u64 lost[UB_EVENT_LOST_MAPS]; /* by slot of the ring, told so far */
	u32 nr_map_rings;
	struct map_ring *map_rings;
	bool held; /* a client had no room for what is there */
};

/* The event ring of a RINGBUF map in a target. */
struct map_ring {
	u32 map_id;
	struct ub_event_ring *ring;
	struct ub_event_reader *reader;
	u64 lost;    /* told so far */
	u64 client;  /* how far the client had read at the last look, */
	u32 reading; /* and for how many more looks it passes for reading */
};

/* What links of a program that are gone have counted. */
struct total {
	struct total *next;
	u32 prog_id;
	u64 hits;
	u64 misses;
};

struct targets {
	struct ub_daemon *daemon;
	struct target *list;
	struct link *links; /* in attach order */
	struct link *dead;  /* detached, and still counted by some image on its way out */
	struct total *totals;
	struct ub_timer *tick;
	struct census *census;
	u64 copies_since;  /* children that were born since then, in ticks since boot, */
	u32 copies_rounds; /* are to be cleaned, in so many rounds at most */
	struct events *events;
	u32 filters_round; /* see filters.c; begins with 1 */
	u64 filters_at_us; /* not before */
	pid_t held; /* process that waits for its reply and can't be stopped before; 0: none */
	struct target *deferred; /* to be operated on around the reply */
	struct surgery_thread *surgery;
};

extern const struct ub_kernel_ops ub_daemon_targets_kernel_ops; /* opaque: struct targets */

struct targets *ub_daemon_targets_new(struct ub_daemon *daemon);
void ub_daemon_targets_free(struct targets *targets);
/* Whether any process holds anything. */
bool ub_daemon_targets_busy(const struct targets *targets);
/* Takes everything out of every process, waiting a while for those that are hard to stop. */
void ub_daemon_targets_detach_all(struct targets *targets);

/* Brings targets that are out of date up to date (links that went are taken out). */
void ub_daemon_targets_flush(struct targets *targets);
/* Puts off surgery on @pid, whose call is being answered, until the two below. */
void ub_daemon_targets_hold(struct targets *targets, pid_t pid);
/* Begins what was put off: on return the process will stop before it runs again. 0; -errno if it is
 * known by then that nothing comes of it (it is tried again from the tick). */
int __must_check ub_daemon_targets_before_reply(struct targets *targets);
/* After the reply: finishes it. */
void ub_daemon_targets_release(struct targets *targets);

/* --- within the daemon -------------------------------------------------------------------------
 */

u64 ub_daemon_now_ms(void);
void ub_daemon_sleep_us(long us);
/* Has targets looked after from time to time, as long as there is any. */
void ub_daemon_targets_start_tick(struct targets *targets);
/* Keeps what @image counted. */
void ub_daemon_targets_fold(struct targets *targets, const struct ub_image *image);
/* The image is not the target's any more: out of it, or gone with its memory. */
void ub_daemon_target_drop_image(struct target *target);
/* The process ended or exec'd: its image went with its memory. */
void ub_daemon_target_memory_gone(struct target *target);
/* Whether the memory that the image was put into is no longer the process's. */
bool ub_daemon_target_execed(const struct target *target);
/* Whether the process has ended: the surgeon's -ESRCH from one that has not means that it executed
 * another program meanwhile. */
bool ub_daemon_target_ended(const struct target *target);
/* Whether it shall have @link, once the file is mapped. */
bool ub_daemon_target_wants(const struct target *target, const struct link *link);
/* The target of process @pid, made if need be (with @make). NULL with errno. */
struct target *ub_daemon_target_find(struct targets *targets, pid_t pid);
struct target *ub_daemon_target_get(struct targets *targets, pid_t pid);
void ub_daemon_target_free(struct target *target);
/* Makes the target's image the one that is wanted. 0; -errno and @why: it is as it was. -EAGAIN: each
 * plan was overtaken by what the process did (mmap, munmap, exec): later. */
int __must_check ub_daemon_target_update(struct target *target, struct ub_reason *why);
/* Whether a call of the process waits for our reply: nothing can stop it before. */
bool ub_daemon_target_waits(const struct target *target);
bool ub_daemon_target_has(const struct target *target, u32 link_id);
/* Whether @link wants to be in the process, mapped or not. */
bool ub_daemon_link_covers(const struct link *link, const struct target *target);
struct link *ub_daemon_link_find(struct targets *targets, u32 id);
/* Adds what an image counted for a link, whether that is still attached or not. */
void ub_daemon_link_count(struct targets *targets, u32 id, u64 hits, u64 misses);
/* Forgets detached links that no image holds any more. */
void ub_daemon_links_sweep(struct targets *targets);
void ub_daemon_link_counters(struct targets *targets, const struct link *link, u64 *hits,
			     u64 *misses);
/* Takes @pid out of @session (NULL: of all). Number of links taken out. */
int ub_daemon_targets_exclude(struct targets *targets, struct session *session, pid_t pid);
int ub_daemon_targets_exclude_all(struct targets *targets, struct session *session);

/* census.c: processes for links without a pid. */
void ub_daemon_links_drop_all(struct targets *targets);

struct census *ub_daemon_census_new(struct targets *targets);
void ub_daemon_census_free(struct census *census);
/* Looks at all processes now and attaches where a link wants it. Number newly attached. */
u32 ub_daemon_census_take(struct census *census);
/* Called at every tick: does so when it is time. */
void ub_daemon_census_tick(struct census *census);

/* copies.c: children of processes that were attached. */
u64 ub_daemon_now_ticks(void);
/* Children that were born since then may hold copies of an image that is gone. */
void ub_daemon_copies_note(struct targets *targets, u64 since);
/* Called at every tick: cleans some of them. Whether there is nothing left to do. */
bool ub_daemon_copies_clean(struct targets *targets);

/* filters.c: called at every tick. */
void ub_daemon_filters_look(struct targets *targets);

/* events.c */
struct events *ub_daemon_events_new(struct targets *targets);
void ub_daemon_events_free(struct events *events);
/* The target's image changed: reads what the old ring still holds and goes on with the new. */
void ub_daemon_events_target_changed(struct events *events, struct target *target);
/* Reads what the target has produced so far, while its links stand. */
void ub_daemon_events_read_now(struct target *target);
/* The old image is about to go. */
void ub_daemon_events_target_drain(struct events *events, struct target *target);

#endif
