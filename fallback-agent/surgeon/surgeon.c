/* SPDX-License-Identifier: MIT */
/*
 * The order of things, and who may die when.
 *
 * A stop of a target is the business of one process that does nothing else: forked for it, signals
 * blocked, the plan complete in its memory, gone afterwards. The caller waits for it. What takes
 * long is done while as little as possible stands still:
 *
 *			held		what
 *	look		nobody		read /proc, find gadgets, compare the bytes of the sites
 *	map		main thread	map NEW's parts (helper.c); nothing leads there yet
 *	stop		nobody		seize all, look for processes that share the memory
 *	patch		all		compare again; move instruction pointers; write sites;
 *					count semaphores; of OLD: see that nobody is inside, give
 *					up copied pages
 *	unmap		main thread	unmap OLD's parts, to which nothing leads any more
 *
 * Taking out is the same without mapping. The pause is that of `patch`; the main thread's is longer
 * by what it is alone in. It can work alone only if its memory is its own: on the main stack, far
 * from its end (ub_remote_can_work_alone()). Otherwise, say in Go code on a goroutine's stack,
 * mapping and unmapping happen with all threads stopped; so they do where other threads of the
 * target would leave it no CPU.
 *
 * Taking out is told by the state of the target alone (bytes at the sites, names of mappings), so
 * it may follow on anything: it removes a live image, finishes a removal that was interrupted, or
 * undoes half an attach. That makes the rules short:
 *
 *   - The surgeon is killed. Its tracees go on by themselves, wherever they were (remote.c). The
 *     caller sees that no result came and sends another one to take out what the first left: NEW for
 *     an attach, which then has failed, OLD for a detach, which then has succeeded.
 *   - The caller is killed. The surgeon finishes. Who cleans up later finds the site table in the
 *     target.
 *   - Both are killed. The same; ub_surgeon_repair().
 *   - The target is killed, exits or executes: every step says -ESRCH, and nothing is left to be
 *     undone.
 *   - A thread is inside what should be unmapped, or its registers can't be had: released, tried
 *     again after a while by the next surgeon, some fifty times; then the mapping stays, harmless,
 *     and the caller is told.
 *
 * The order follows from "killed at any instant": code is mapped before an ip points to it; an ip
 * leaves a window before the window is overwritten, and comes back to it only after it is restored;
 * a site's jump is written when all that it leads to is there; the site table is unmapped last.
 *
 * Nothing is written to any file that the target might hold while it is stopped: it may own the
 * terminal, or be the reader of our pipe.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <common/cleanup.h>
#include <surgeon/operation.h>

#define MAX_TRIES	60 /* stops until a mapping is left for later */
#define MAX_DEATHS	3  /* surgeons killed under one operation */
#define SURGEON_LIFE_MS 30000

/* --- in the surgeon -------------------------------------------------------------------------- */

/* As the daemon found when it looked last (daemon/filters.c). */
static bool forbids_calls(const struct ub_image *image)
{
	return image && image->process && ub_image_forbids_syscalls(image);
}

/* The surgeon's whole life. */
static void __attribute__((noreturn))
surgeon(const struct ub_operation *op, struct ub_report *report, pid_t caller)
{
	struct ub_target t = {
		.mem = -1,
		.report = report,
		.caller = caller,
		.replaced = op->replaced,
		.partial = op->partial,
		.recorded = op->kind == UB_OPERATION_REPAIR,
		.own_filter = op->own_filter,
		.fears_filters = forbids_calls(op->old) || forbids_calls(op->new),
	};
	struct ub_reason why = { "" };
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	ub_sharing_report(&t);
	report->err = op->kind == UB_OPERATION_REPAIR ? ub_repair_stopped(&t, op, &why)
						      : ub_operate(&t, op, &why);
	ub_watchdog_stop();
	if (why.text[0] || !report->err)
		report->why = why;
	report->interrupted_ns = t.interrupted_ns;
	report->resumed_ns = t.resumed_ns;
	report->done = 1;
	_exit(0);
}

/* --- in the caller --------------------------------------------------------------------------- */

static int wait_for(pid_t pid, int pidfd)
{
	u64 deadline = ub_now_ns() + SURGEON_LIFE_MS * 1000000ull;
	int status;

	for (;;) {
		pid_t got = waitpid(pid, &status, pidfd >= 0 ? WNOHANG : 0);

		if (got == pid || (got < 0 && errno != EINTR))
			return 0;
		if (pidfd < 0)
			continue;
		poll(&(struct pollfd) { pidfd, POLLIN, 0 }, 1, 1000);
		if (ub_now_ns() > deadline)
			kill(pid, SIGKILL);
	}
}

/* One stop. 0: the surgeon came to an end, see *report; -EINTR: it was killed; -ETIMEDOUT: it gave
 * up in the middle. */
static int run_surgeon(const struct ub_operation *op, struct ub_report *report)
{
	_cleanup_close_ int pidfd = -1;
	pid_t pid, caller;
	u64 reaped_ns;

	report->done = report->again = report->retry = report->hopeless = 0;
	report->err = -EINTR;
	report->why.text[0] = '\0';
	report->interrupted_ns = 0;
	caller = getpid();
	pid = fork();
	if (pid < 0)
		return ub_reason_set(&report->why, -errno, "cannot fork: %s", strerror(errno));
	if (!pid)
		surgeon(op, report, caller);
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	wait_for(pid, pidfd);
	reaped_ns = ub_now_ns();
	ub_sharing_undo(report);
	if (!report->done)
		return report->err == -ETIMEDOUT ? -ETIMEDOUT : -EINTR;
	/* Released by the exit: the pause ends with it. */
	if (!report->resumed_ns)
		report->resumed_ns = reaped_ns;
	if (report->interrupted_ns &&
	    report->resumed_ns - report->interrupted_ns > report->surgery.pause_ns)
		report->surgery.pause_ns = report->resumed_ns - report->interrupted_ns;
	return 0;
}

static void back_off(u32 try)
{
	/* 0.1 ms at first, 5 ms at last: some 200 ms in all. */
	usleep(try < 7 ? 100u << (try < 6 ? try : 6) : 5000);
}

/* Takes @op->old out, with as many stops as it needs. */
static int take_out_completely(const struct ub_operation *op, struct ub_report *report,
			       struct ub_surgery *result, struct ub_reason *why)
{
	u32 deaths = 0;
	int err = 0;

	for (u32 try = 0; try < MAX_TRIES; try++) {
		err = run_surgeon(op, report);
		if ((err == -EINTR || err == -ETIMEDOUT) && ++deaths < MAX_DEATHS)
			continue;
		if (err) {
			if (why)
				*why = report->why;
			return err == -EINTR
				       ? ub_reason_set(
						 why, err,
						 "the surgeon of process %d was killed again and again",
						 op->pid)
				       : err;
		}
		if (report->err == -ESRCH) {
			result->removal = UB_REMOVED_GONE;
			return 0;
		}
		if (report->err) {
			if (why)
				*why = report->why;
			return report->err;
		}
		if (!report->again) {
			result->removal = UB_REMOVED_CLEAN;
			return 0;
		}
		if (report->hopeless)
			break;
		back_off(try);
	}
	result->removal = UB_REMOVED_LATER;
	result->left = report->surgery.left;
	return 0;
}

static struct ub_report *new_report(void)
{
	struct ub_report *report = mmap(NULL, ub_round_up(sizeof(*report), 4096),
					PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ub_restart_remember();
	return report == MAP_FAILED ? NULL : report;
}

static void free_report(struct ub_report **report)
{
	if (*report)
		munmap(*report, ub_round_up(sizeof(**report), 4096));
}

static void copy_result(struct ub_surgery *result, const struct ub_report *report)
{
	result->pause_ns = report->surgery.pause_ns;
	result->alone_ns = report->surgery.alone_ns;
	result->nr_threads = report->surgery.nr_threads;
	result->nr_passing_filters = report->surgery.nr_passing_filters;
}

/* Takes in @new, and on success all of @old out. */
static int replace(const struct ub_operation *op, struct ub_report *report,
		   struct ub_surgery *result, struct ub_reason *why)
{
	struct ub_operation undo = *op, collect = *op;
	int err;

	undo.kind = collect.kind = UB_OPERATION_OUT;
	undo.old = op->new;
	undo.new = op->old;
	undo.partial = true;
	collect.new = NULL;
	collect.replaced = true;
	for (u32 try = 0;; try++) {
		report->changed = report->live = report->fork_tried = 0;
		err = run_surgeon(op, report);
		if (err == -EINTR && !report->changed && report->err == -EINTR)
			ub_reason_set(&report->why, err, "the surgeon of process %d was killed",
				      op->pid);
		if (!err)
			err = report->err;
		if ((err == -EINTR || err == -ETIMEDOUT) && report->live) {
			/* NEW is in; OLD may be half gone. Only forward. */
			report->again = op->old != NULL;
			err = 0;
		}
		if (!report->retry || try >= MAX_TRIES)
			break;
		back_off(try);
	}
	/* It was the thread's turn to move, not the plan's. */
	if (err == -EAGAIN && report->retry)
		err = -EBUSY;
	if (err) {
		if (why)
			*why = report->why;
		if (err == -EINTR)
			ub_reason_set(
				why, err,
				"the surgeon of process %d was killed; what it did was undone",
				op->pid);
		if ((!report->done || report->again) && report->changed) {
			struct ub_reason undo_why = { "" };
			int undone = take_out_completely(&undo, report, result, &undo_why);

			if (undone)
				ub_reason_prefix(why, err, "not everything could be undone (%s)",
						 undo_why.text);
			else if (result->removal == UB_REMOVED_LATER)
				ub_reason_prefix(why, err, "undone, but a mapping stays (%s)",
						 result->left.text);
		}
		return err;
	}
	result->removal = UB_REMOVED_CLEAN;
	if (report->again)
		return take_out_completely(&collect, report, result, why);
	return 0;
}

int ub_surgeon_replace(pid_t pid, int pidfd, struct ub_image *old, struct ub_image *new,
		       struct ub_surgery *result, struct ub_reason *why)
{
	_cleanup_(free_report) struct ub_report *report = NULL;
	struct ub_surgery ignored;
	struct ub_operation op = {
		.kind = new ? UB_OPERATION_IN : UB_OPERATION_OUT,
		.pid = pid,
		.pidfd = pidfd,
		.old = old,
		.new = new,
		.own_filter = new ? new->own_filter : old && old->own_filter,
	};
	int err;

	if (!result)
		result = &ignored;
	*result = (struct ub_surgery) { 0 };
	if (!old && !new)
		return 0;
	err = ub_refuse(pid, pidfd, why);
	if (err == -ESRCH && !new) {
		result->removal = UB_REMOVED_GONE;
		return 0;
	}
	if (err)
		return err;
	report = new_report();
	if (!report)
		return ub_reason_set(why, -ENOMEM, "out of memory");
	ub_fault_arm(report);
	report->done = 1;
	err = new ? replace(&op, report, result, why)
		  : take_out_completely(&op, report, result, why);
	copy_result(result, report);
	return err;
}

int ub_surgeon_collect(pid_t pid, int pidfd, struct ub_image *old, struct ub_surgery *result,
		       struct ub_reason *why)
{
	return ub_surgeon_replace(pid, pidfd, old, NULL, result, why);
}

int ub_surgeon_repair(pid_t pid, bool own_filter, struct ub_reason *why)
{
	_cleanup_(free_report) struct ub_report *report = new_report();
	struct ub_operation op = {
		.kind = UB_OPERATION_REPAIR,
		.pid = pid,
		.pidfd = -1,
		.own_filter = own_filter,
	};
	struct ub_surgery result = { 0 };
	int err;

	if (!report)
		return ub_reason_set(why, -ENOMEM, "out of memory");
	err = ub_refuse(pid, -1, why);
	if (err)
		return err;
	ub_fault_arm(report);
	report->done = 1;
	err = take_out_completely(&op, report, &result, why);
	if (err)
		return err;
	if (result.removal == UB_REMOVED_LATER)
		return ub_reason_set(why, -EAGAIN, "bytes are restored, but a mapping stays: %s",
				     result.left.text);
	return report->nr_restored;
}
