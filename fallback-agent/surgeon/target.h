/* SPDX-License-Identifier: MIT */
/*
 * Private to surgeon/: a target on the table, and what each file here does to it. Everything in
 * here runs in the surgeon's own short-lived process, except where it says [caller].
 */
#ifndef UB_SURGEON_TARGET_H
#define UB_SURGEON_TARGET_H

#include <sched.h>
#include <signal.h>
#include <sys/types.h>
#include <sys/user.h>

#include <common/clock.h>
#include <common/proc.h>
#include <common/reason.h>
#include <hook/filter.h>
#include <hook/image_private.h>
#include <surgeon/fault.h>
#include <surgeon/surgeon.h>

#define UB_MAX_XSTATE 16384

/* --- threads ------------------------------------------------------------------------------- */

enum ub_thread_state {
	UB_THREAD_SEIZED,  /* ours, running */
	UB_THREAD_STOPPED, /* in a ptrace stop; regs are valid */
	UB_THREAD_BLOCKED, /* in the kernel and can't leave it without stopping: pc and sp are valid
			    */
	UB_THREAD_GONE,	   /* exited, or never ran user code (io_uring workers) */
};

struct ub_thread {
	pid_t tid;
	pid_t process; /* differs from the target's pid for another process in the same memory */
	enum ub_thread_state state;
	bool unconsumed; /* in a signal-delivery stop that wait() has not taken: see seize.c */
	int signal;	 /* of that stop */
	u64 restarts_at; /* ip of a system call that our stop interrupted and we restart, or 0 */
	bool foreign;	 /* a forked child that was ours from birth */
	bool changed;	 /* regs were changed and must be written back */
	u64 pc, sp;
	struct user_regs_struct regs;
};

struct ub_mapping {
	u64 start, end, offset;
	u64 inode;
	u32 prot; /* PROT_* */
	bool shared;
	u32 name; /* offset in ub_target.names */
};

struct ub_range {
	u64 start, end;
};

struct ub_target {
	pid_t pid;
	int pidfd;
	int mem;	 /* /proc/PID/mem, of this memory for ever: reads 0 after exec or exit */
	char proc[64];	 /* /proc/PID, or /proc/PID/task/TID of a living thread when the leader is a
			   zombie */
	pid_t alive;	 /* that thread */
	pid_t caller;	 /* who made this surgeon */
	bool own_filter; /* its first filter is the caller's and lets our system calls pass */
	u32 nr_harmless_filters; /* that one, and those that it shares with us */
	bool seccomp;		 /* under a filter that may not, and */
	bool suspended;		 /* the filter is suspended for our calls */
	bool filters_known;	 /* we may read those of every thread */
	bool fears_filters;	 /* some thread is under one that may keep calls from being made */
	bool replaced;		 /* an image that goes has been replaced by one that stays */
	bool partial;		 /* an image that goes may have been mapped in part only */
	bool recorded;		 /* an image that goes is known from the target's site table only */
	bool copy;   /* what it holds was inherited by fork: its state is the parent's to write */
	bool taken;  /* an address was taken: the image must be built again */
	bool execed; /* seen to execute another program */
	bool mapped; /* the new image was mapped before all were stopped */
	bool alone;  /* only the host is still held */
	bool first;  /* nobody takes our CPU from us */

	struct ub_thread *threads;
	u32 nr_threads, room;
	u64 interrupted_ns; /* when the first thread was told to stop */
	u64 resumed_ns;	    /* and all others than the host were let go; 0: by our exit */

	struct ub_image standing; /* of the image that goes: sites found as it wrote them */

	struct ub_range *dropped; /* copies of text that were given up */
	u32 nr_dropped;

	struct ub_mapping *mappings;
	u32 nr_mappings;
	char *names;

	/* remote system calls: remote.c */
	struct ub_thread *host;
	u64 gadget;   /* syscall; ret */
	u64 restorer; /* mov $15, %eax; syscall */
	u64 scratch;  /* memory for the frame and arguments */
	u64 frame, wait_frame, exit_frame;
	u8 *under; /* what the scratch memory held */
	u32 under_bytes;
	pid_t helper; /* makes the system calls while it lives: helper.c */
	cpu_set_t cpus;
	bool host_in_use;
	bool filtered; /* no thread may make system calls: see may_call() */
	bool busy;     /* no thread or no memory to work with now, but soon */
	u64 saved_mask;

	struct ub_report *report;
};

/* Shared with the caller; says how it ended even if the surgeon was killed before the end. */
struct ub_report {
	volatile u32 done;
	volatile u32 changed;  /* from here on the target may hold something of ours */
	volatile u32 again;    /* somebody must take out what is left */
	volatile u32 retry;    /* nothing could be done, and nothing was: try the same again */
	volatile u32 hopeless; /* what is left stays as long as the target lives */
	int err;
	struct ub_surgery surgery;
	struct ub_reason why;
	u64 interrupted_ns;
	u64 resumed_ns;
	u32 nr_restored; /* repair: sites */
	/* For whoever finishes after us: see memory.c. */
	u32 fork_tried;	   /* the page without a name may be mapped */
	volatile u32 live; /* the new image is complete: from here on it goes forward only */
	/* sharing.c: a process whose filter of core dumps is to be turned back, and to what */
	volatile s32 tried_pid;
	volatile u64 tried_filter;
	/* fault injection */
	u32 fault_kind;
	u32 fault_nth;
	char fault_point[32];
	pid_t caller;
};

/* --- target.c ------------------------------------------------------------------------------ */

/* Opens what is needed of @pid before anything is stopped. -ESRCH. */
int __must_check ub_target_open(struct ub_target *t, pid_t pid, int pidfd, struct ub_reason *why);
void ub_target_close(struct ub_target *t);
/* Fills proc and alive from pid. */
int __must_check ub_target_proc(struct ub_target *t);
/* Reads /proc/PID/maps. */
int __must_check ub_target_read_mappings(struct ub_target *t);
const struct ub_mapping *ub_target_mapping(const struct ub_target *t, u64 address);
/* Whether it is code or a site table of ours: what only a target holds. */
bool ub_mapping_is_trace(const struct ub_target *t, const struct ub_mapping *m);
const char *ub_mapping_name(const struct ub_target *t, const struct ub_mapping *m);
/* Exactly @size bytes: 0, -ESRCH if the memory is gone (exit, exec), -EFAULT. */
int __must_check ub_target_read(const struct ub_target *t, u64 address, void *into, size_t size);
int __must_check ub_target_write(const struct ub_target *t, u64 address, const void *from,
				 size_t size);
/* Whether the memory that was opened is still the process's. */
bool ub_target_gone(const struct ub_target *t);

/* --- filters.c ----------------------------------------------------------------------------- */

/* 0, or -EOPNOTSUPP if the filters that we share with targets kill for what is done in them. */
int __must_check ub_filters_try(struct ub_reason *why);
/* [stopped, as who may suspend filters] How many filters each thread is under, if they let all calls
 * of programs and agent pass; else 0. */
u32 ub_filters_ask(const struct ub_target *t);
/* [stopped, as who may suspend filters] Whether those of a thread let restart_syscall(2) pass. */
bool ub_filters_let_restart(pid_t tid);

/* --- permission.c -------------------------------------------------------------------------- */

/* comm of a process, "?" if gone. */
void ub_proc_comm(pid_t pid, char comm[32]);
bool ub_have_capability(int capability);
/* Whether one of ours, of whatever user, is at it. */
bool ub_is_traced_by_ours(pid_t pid);
/* -EBUSY if somebody traces @pid, whose name is @comm; else 0. */
int ub_refuse_traced(pid_t pid, const char *comm, struct ub_reason *why);
/* Why PTRACE_SEIZE of @tid failed with @err. */
int ub_refuse_seize(pid_t pid, pid_t tid, int err, struct ub_reason *why);

/* --- refuse.c ------------------------------------------------------------------------------ */

/* [caller] 0, or why @pid can't be operated on, in one line. */
int __must_check ub_refuse(pid_t pid, int pidfd, struct ub_reason *why);
/* After site bytes at @address were not what they should be. */
int ub_refuse_bytes(struct ub_target *t, const struct ub_site *site, const u8 *found,
		    struct ub_reason *why);

/* --- seize.c ------------------------------------------------------------------------------- */

/* Whether filters of a target may be suspended: PTRACE_O_SUSPEND_SECCOMP takes CAP_SYS_ADMIN and a
 * tracer without any itself (kernel/ptrace.c). */
bool ub_may_suspend_filters(void);
/* Of all tracees. Filters are suspended for the host's calls only (remote.c): until a thread stops,
 * it runs. */
#define UB_TRACE_OPTIONS                                                                           \
	(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |  \
	 PTRACE_O_TRACEEXEC)
/* Before all others on its CPU, as far as that is allowed: whether it is. */
bool ub_prefer(pid_t tid);
/* Stops the main thread alone. 0 also if it can't be stopped now: see its state. */
int __must_check ub_seize_main(struct ub_target *t, struct ub_reason *why);
/* Lets all but the host go on, if it can do the rest alone. */
void ub_release_others(struct ub_target *t);
/* Stops every thread that runs in the target's memory. All released again on failure. */
int __must_check ub_seize(struct ub_target *t, struct ub_reason *why);
/* Lets all of them go on, with the registers in @t. */
void ub_release(struct ub_target *t);
/* Lets a thread in a signal-delivery stop take its signal, as far as the first instruction of the
 * handler. */
int __must_check ub_deliver_signal(struct ub_target *t, struct ub_thread *thread);
/* Installs the watchdog: after @ms in one operation the surgeon gives up. */
void ub_watchdog_start(struct ub_report *report, u32 ms);
void ub_watchdog_stop(void);

/* --- sharing.c ----------------------------------------------------------------------------- */

/* Whether both run in the same memory: 1, 0, -ESRCH, or another -errno if that can't be known. */
int __must_check ub_same_memory(pid_t a, pid_t b);
/* From now on @t's report says what ub_same_memory() has not turned back yet. */
void ub_sharing_report(struct ub_target *t);
/* [caller] Turns back what a surgeon that was killed had not. */
void ub_sharing_undo(struct ub_report *report);
/* Whether @pid shares @t's memory: 1, 0; -EPERM and @why: that can't be known. */
int __must_check ub_shares(const struct ub_target *t, pid_t pid, struct ub_reason *why);

/* --- restart.c ----------------------------------------------------------------------------- */

/* [caller] Before it sends any surgeon: its memory of calls that are made again. */
void ub_restart_remember(void);
/* Whether system call @nr returns EINTR when it is interrupted before anything has happened, so
 * that it must be made again by hand. Socket calls do so under SO_RCVTIMEO. */
bool ub_restart_is_needed(long nr);
/* Has the system call restarted that our stop of @thread made return EINTR, or that it can't
 * continue. */
void ub_restart_interrupted(const struct ub_target *t, struct ub_thread *thread);
/* At its release: not if a signal has come meanwhile. */
void ub_restart_reconsider(struct ub_thread *thread);
/* For signal handlers: the first for whichever thread this is, if it is stopped and not at
 * @gadget. */
void ub_restart_blindly(pid_t tid, u64 gadget);
/* Registers with which a thread that nobody traces any more carries on by itself. */
void ub_restart_by_hand(struct user_regs_struct *regs);

/* --- gadgets.c ----------------------------------------------------------------------------- */

/* Finds gadgets; nothing stopped yet. @avoid: images whose sites and parts are not to be used. */
int __must_check ub_remote_prepare(struct ub_target *t, const struct ub_image *avoid,
				   const struct ub_image *avoid_too, struct ub_reason *why);

/* --- frame.c ------------------------------------------------------------------------------- */

/* A frame that makes a system call and returns to the next one. */
struct ub_frame_call {
	long nr;
	u64 a, b, c;
	u64 then;
};
int __must_check ub_frame_write_call(struct ub_target *t, u64 frame,
				     const struct ub_frame_call *call);
/* Address of the call's first argument in it. */
u64 ub_frame_argument(u64 frame);

/* --- host.c -------------------------------------------------------------------------------- */

/* With all threads stopped, before anything else: chooses the thread that will make system calls.
 * None: there is no usable one now. */
int __must_check ub_remote_choose(struct ub_target *t, struct ub_reason *why);
/* Whether the host can make system calls while other threads run: its memory is then its own. */
bool ub_remote_can_work_alone(const struct ub_target *t);

/* --- remote.c ------------------------------------------------------------------------------ */

/* Turns the host into one that can be orphaned at any time. -EBUSY: not now. */
int __must_check ub_remote_begin(struct ub_target *t, struct ub_reason *why);
/* @result: what the system call returned, -errno included. -ESRCH, -ETIMEDOUT. */
int __must_check ub_remote_call(struct ub_target *t, long nr, u64 a, u64 b, u64 c, u64 d, u64 e,
				u64 f, s64 *result);
/* The same for one that must succeed: also what it returned, if an error, and @why. */
int __must_check ub_remote_do(struct ub_target *t, const char *what, long nr, u64 a, u64 b, u64 c,
			      u64 d, u64 e, u64 f, s64 *result, struct ub_reason *why);
/* Address in the target for arguments, UB_REMOTE_ARGUMENTS bytes. */
u64 ub_remote_arguments(const struct ub_target *t);
void ub_remote_end(struct ub_target *t);
/* Moves a stopped thread, at once, the host too. */
int __must_check ub_thread_set_ip(struct ub_target *t, struct ub_thread *thread, u64 ip);

#define UB_REMOTE_ARGUMENTS 2048

/* For helper.c. Registers for a system call of the helper (of the host if there is none) that
 * returns to @frame. */
int __must_check ub_remote_set(struct ub_target *t, u64 frame, long nr, const u64 args[6]);
/* Lets it run to its next stop: 0 at an entry or exit, 1 where it has made a child; -ESRCH; -EAGAIN
 * the helper is dead. */
int __must_check ub_remote_run(struct ub_target *t);
int __must_check ub_remote_wait(struct ub_target *t);
int __must_check ub_remote_result(struct ub_target *t, s64 *result);

/* --- helper.c ------------------------------------------------------------------------------ */

/* From here to the end system calls are made by a process with descriptors of its own. */
int __must_check ub_helper_start(struct ub_target *t, struct ub_reason *why);
/* Closes the first @nr of its descriptors, and lifts its limit. */
int __must_check ub_helper_make_room(struct ub_target *t, u32 nr);
int __must_check ub_helper_end(struct ub_target *t);

/* --- pass.c -------------------------------------------------------------------------------- */

#define UB_PASS_FDS 250 /* at a time; the kernel's SCM_MAX_FD is 253 */

/* A pair of sockets: @end is ours, @socket the helper's. */
int __must_check ub_pass_begin(struct ub_target *t, int *end, s32 *socket, struct ub_reason *why);
/* Sends @nr descriptors and has the helper receive them, as @there. *got: how many arrived, also
 * when it fails. */
int __must_check ub_pass_fds(struct ub_target *t, int end, s32 socket, const int *fds, s32 *there,
			     u32 nr, u32 *got, struct ub_reason *why);

/* --- memory.c ------------------------------------------------------------------------------ */

/* Maps @image's parts, all or nothing. -EAGAIN: an address was taken meanwhile. */
int __must_check ub_map_parts(struct ub_target *t, const struct ub_image *image,
			      struct ub_reason *why);
/* Unmaps those of @image's parts that are there (recognised by name); 0 if none is left. */
int __must_check ub_unmap_parts(struct ub_target *t, const struct ub_image *image,
				struct ub_reason *why);
/* Whether any part of @image is mapped in @t (mappings freshly read). */
bool ub_parts_mapped(const struct ub_target *t, const struct ub_image *image);

/* --- sites.c ------------------------------------------------------------------------------- */

/* Where the bytes stand. */
int __must_check ub_sites_check(struct ub_target *t, const struct ub_image *old,
				const struct ub_image *new, struct ub_reason *why);
/* Writes OLD's file bytes and NEW's new bytes. */
int __must_check ub_sites_write(struct ub_target *t, const struct ub_image *old,
				const struct ub_image *new, struct ub_reason *why);
/* Puts the file's bytes back at those of @image's sites that hold its bytes, and adds their number
 * to @restored. */
int __must_check ub_sites_restore(struct ub_target *t, const struct ub_image *image, u32 *restored);
/* Writes the new bytes of those of @image's sites that hold the file's. */
int __must_check ub_sites_put_back(struct ub_target *t, const struct ub_image *image);

/* --- semaphores.c -------------------------------------------------------------------------- */

int __must_check ub_semaphores_put_back(struct ub_target *t, const struct ub_image *image);
int __must_check ub_semaphores_add(struct ub_target *t, const struct ub_image *image);
int __must_check ub_semaphores_take(struct ub_target *t, const struct ub_image *image);
/* Whether the state that the image keeps in the target is mapped. */
bool ub_stage_known(const struct ub_target *t, const struct ub_image *image);
void ub_stage_set(struct ub_target *t, const struct ub_image *image, enum ub_site_stage stage);
int ub_stage_get(struct ub_target *t, const struct ub_image *image, struct ub_site_state *state);

/* --- guards.c ------------------------------------------------------------------------------ */

/* Whether a program runs on @thread, by its guard. @elsewhere: it is in a signal handler. */
bool ub_thread_inside(struct ub_target *t, const struct ub_image *image,
		      const struct ub_thread *thread, bool elsewhere);

/* --- quiesce.c ----------------------------------------------------------------------------- */

/* An ip that a thread will continue at: its own, or one saved in a signal frame. */
struct ub_ip {
	u64 ip;
	u64 where; /* address of the saved one, 0: in the thread's registers */
	u32 thread;
};

struct ub_ips {
	struct ub_ip *ips;
	u32 nr, room;
};

int __must_check ub_ips_collect(struct ub_target *t, struct ub_ips *ips);
void ub_ips_free(struct ub_ips *ips);
/* Moves every ip that lies inside bytes that @new overwrites to their relocated copy. -EAGAIN: it
 * is that of a blocked thread. */
int __must_check ub_ips_move_in(struct ub_target *t, struct ub_ips *ips, const struct ub_image *new,
				struct ub_reason *why);
/* After @image's bytes are gone: moves what can be moved out of its code, but not into @keep's
 * bytes. */
void ub_ips_move_out(struct ub_target *t, struct ub_ips *ips, const struct ub_image *image,
		     const struct ub_image *keep);
/* diverts.c: puts back the return addresses that @image took over. */
int __must_check ub_diverts_undo(struct ub_target *t, const struct ub_image *image);
/* Hands what @old waits for to @new, which has taken its place: returns in flight. */
int __must_check ub_returns_hand_over(struct ub_target *t, const struct ub_image *old,
				      const struct ub_image *new, const struct ub_ips *ips);
/* Whether nobody is or will return inside @image; else @left says who. */
bool ub_quiescent(struct ub_target *t, const struct ub_ips *ips, const struct ub_image *image,
		  struct ub_reason *left);

/* --- cow.c --------------------------------------------------------------------------------- */

/* Opens the file behind a mapping, as the target sees it. -1 with errno. */
int ub_open_mapped(const struct ub_target *t, const struct ub_mapping *m);
/* Before the stop: so that nobody waits for a disk during it. */
void ub_fetch_files(struct ub_target *t, const struct ub_image *image);
/* Gives up private copies of text pages of @image's sites that equal the file again. */
void ub_drop_copies(struct ub_target *t, const struct ub_image *image);
/* After the stop: those pages are in the target's page tables again. */
void ub_touch_dropped(struct ub_target *t);

/* --- fault.c ------------------------------------------------------------------------------- */

/* clang-format off */
#define UB_FAULT_POINTS                                                                    \
	X(looked) X(sharing) X(seize) X(interrupted) X(stopped) X(remote_begin) X(helper)  \
	X(remote_entry) X(remote_exit) X(socketpair) X(passed) X(received) X(mapping) X(mapped)\
	X(alone) X(checked) X(moved) X(writing) X(written) X(semaphores) X(live) X(resumed)\
	X(restoring) X(restored) X(quiescent) X(unmapping) X(unmapped) X(dropped) X(remote_end)\
	X(released)
/* clang-format on */

enum ub_fault_id {
#define X(name) UB_FAULT_##name,
	UB_FAULT_POINTS
#undef X
};

/* Passes a fault point: 0, or -EIO if the step is to fail. */
int ub_fault(struct ub_target *t, enum ub_fault_id id);
/* [caller] Copies what was set into @report. */
void ub_fault_arm(struct ub_report *report);

#endif
