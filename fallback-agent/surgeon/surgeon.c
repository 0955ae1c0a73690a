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
 *	patch		all		compare again; move instruction pointers; write sites; count
 *					semaphores; of OLD: see that nobody is inside, give up copied pages
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
#include <dirent.h>
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

#define DEADLINE_MS	5000 /* of one stop */
#define STARVED_US	2000 /* until the main thread stops: then it had better not work alone */
#define MAX_TRIES	60   /* stops until a mapping is left for later */
#define MAX_DEATHS	3    /* surgeons killed under one operation */
#define SURGEON_LIFE_MS 30000

/* --- in the surgeon
 * --------------------------------------------------------------------- */

static int refuse_seccomp(const struct ub_target *t, struct ub_reason *why)
{
	if (!t->seccomp)
		return ub_filter_on_us() ? ub_filters_try(why) : 0;
	if (ub_may_suspend_filters())
		return 0;
	return ub_reason_set(
		why, -EOPNOTSUPP,
		"process %d is under a seccomp filter of its own, which would kill it for our system calls: "
		"run this as root (CAP_SYS_ADMIN) outside of any container, so that the filter can be "
		"suspended meanwhile",
		t->pid);
}

static int refuse_shadow_stack(const struct ub_target *t, struct ub_reason *why)
{
	_cleanup_free_ char *status = NULL;
	const char *features, *found;
	int err = ub_proc_status_read(t->proc, &status);

	if (err)
		return ub_reason_set(why, err, "cannot read %s/status: %s", t->proc,
				     strerror(-err));
	features = ub_proc_status_field(status, "x86_Thread_features");
	found = strstr(features, "shstk");
	if (!found || found > features + strcspn(features, "\n"))
		return 0;
	return ub_reason_set(
		why, -EOPNOTSUPP,
		"process %d runs with a shadow stack, which this version cannot operate on",
		t->pid);
}

/* An image that was mapped and no more stays known as that: its fork page is recognised by it. */
static void note_stage(struct ub_target *t, const struct ub_image *image, enum ub_site_stage stage)
{
	struct ub_site_state state;

	if (ub_stage_known(t, image) && !ub_stage_get(t, image, &state) &&
	    state.stage != UB_STAGE_MAPPED)
		ub_stage_set(t, image, stage);
}

/* With all threads stopped: everything of @image goes, @keep stays or comes back. 1: a thread is
 * inside. */
int ub_take_out(struct ub_target *t, const struct ub_image *image, const struct ub_image *keep,
		struct ub_ips *ips, struct ub_reason *why)
{
	struct ub_report *report = t->report;
	int err;

	note_stage(t, image, UB_STAGE_REMOVING);
	err = ub_sites_restore(t, image, &report->nr_restored);
	if (!err && keep)
		err = ub_sites_put_back(t, keep);
	if (err)
		return ub_reason_set(why, err, "cannot restore the text of process %d: %s", t->pid,
				     strerror(-err));
	/* With something in its place, threads leave by themselves: a hit might be counted twice
	 * else. */
	if (!t->replaced)
		ub_ips_move_out(t, ips, image, keep);
	err = ub_diverts_undo(t, image);
	if (err)
		return ub_reason_set(why, err, "cannot put return addresses of process %d back: %s",
				     t->pid, strerror(-err));
	if (!ub_quiescent(t, ips, image, &report->surgery.left))
		return 1;
	note_stage(t, image, UB_STAGE_REMOVED);
	if ((t->seccomp && !t->suspended) || t->filtered) {
		ub_reason_set(&report->surgery.left, 0,
			      "process %d has put itself under a %s, so its bytes are "
			      "restored and the mapping stays until it exits",
			      t->pid,
			      t->seccomp ? "seccomp filter"
					 : "seccomp filter or system call dispatcher");
		report->hopeless = 1;
		return 1;
	}
	if (!t->host_in_use) {
		err = ub_remote_begin(t, why);
		if (err == -EBUSY) {
			report->surgery.left = *why;
			return 1;
		}
		if (err)
			return err;
	}
	/* While the site table is there, for whoever comes after us; and before anybody runs who
	 * might write to those pages himself. */
	ub_drop_copies(t, image);
	return 0;
}

int ub_unmap(struct ub_target *t, const struct ub_image *image, struct ub_reason *why)
{
	int err;

	ub_release_others(t);
	err = ub_unmap_parts(t, image, why);
	return err ? err : ub_fault(t, UB_FAULT_unmapped);
}

/* Tells the image what its threads' control blocks look like. */
static void identify(struct ub_target *t, const struct ub_image *image)
{
	struct ub_thread_identity *threads =
		calloc(t->nr_threads ? t->nr_threads : 1, sizeof(*threads));
	u32 nr = 0, sharers = 0;
	bool all = true;

	for (u32 i = 0; threads && i < t->nr_threads; i++) {
		const struct ub_thread *thread = &t->threads[i];

		if (thread->state == UB_THREAD_GONE || thread->foreign)
			continue;
		if (thread->process != t->pid) {
			sharers++;
			continue;
		}
		all &= thread->state == UB_THREAD_STOPPED;
		threads[nr++] = (struct ub_thread_identity) { thread->regs.fs_base, thread->tid };
	}
	if (threads)
		ub_image_identify(image, t->mem, threads, all ? nr : 0, sharers);
	free(threads);
}

static int take_in(struct ub_target *t, const struct ub_image *old, const struct ub_image *new,
		   struct ub_ips *ips, struct ub_reason *why)
{
	int err;

	err = ub_sites_check(t, old, new, why);
	if (!err && !t->mapped) {
		err = ub_remote_begin(t, why);
		if (!err)
			err = ub_map_parts(t, new, why);
	}
	if (err)
		return err;
	identify(t, new);
	if (t->seccomp) {
		t->report->surgery.nr_passing_filters = ub_filters_ask(t);
		ub_image_forbid_syscalls(new, !t->report->surgery.nr_passing_filters);
	}
	ub_stage_set(t, new, UB_STAGE_WRITING);
	err = ub_ips_move_in(t, ips, new, why);
	if (!err)
		err = ub_sites_write(t, old, new, why);
	if (!err)
		err = ub_semaphores_add(t, new);
	if (!err && old)
		err = ub_semaphores_take(t, old);
	if (err)
		return err;
	ub_stage_set(t, new, UB_STAGE_LIVE);
	t->report->live = 1;
	return ub_fault(t, UB_FAULT_live);
}

/* One attach or change: all or nothing. */
static int operate_in(struct ub_target *t, const struct ub_operation *op, struct ub_ips *ips,
		      struct ub_reason *why)
{
	struct ub_reason undo_why = { "" };
	int err, undone;

	err = take_in(t, op->old, op->new, ips, why);
	t->mapped = false; /* from here on it is undone here */
	if (err) {
		t->report->retry = t->busy || (err == -EAGAIN && !t->taken);
		if (!t->report->changed || err == -ESRCH || ub_target_read_mappings(t))
			return err;
		t->partial = true;
		undone = ub_semaphores_take(t, op->new);
		if (!undone && op->old)
			undone = ub_semaphores_put_back(t, op->old);
		if (!undone)
			undone = ub_take_out(t, op->new, op->old, ips, &undo_why);
		if (!undone)
			undone = ub_unmap(t, op->new, &undo_why);
		t->report->again = undone != 0 && undone != -ESRCH;
		return err;
	}
	if (op->old) {
		t->replaced = true;
		undone = ub_returns_hand_over(t, op->old, op->new, ips);
		if (!undone)
			undone = ub_take_out(t, op->old, NULL, ips, &undo_why);
		if (!undone)
			undone = ub_unmap(t, op->old, &undo_why);
		t->report->again = undone != 0;
	}
	return 0;
}

static int operate_out(struct ub_target *t, const struct ub_operation *op, struct ub_ips *ips,
		       struct ub_reason *why)
{
	int err = ub_semaphores_take(t, op->old);

	if (!err && op->new)
		err = ub_semaphores_put_back(t, op->new);
	if (!err)
		err = ub_take_out(t, op->old, op->new, ips, why);
	if (!err)
		err = ub_unmap(t, op->old, why);
	if (err == 1) {
		t->report->again = 1;
		err = 0;
	}
	return err;
}

static bool sites_mapped(const struct ub_target *t, const struct ub_image *image)
{
	for (u32 i = 0; i < image->nr_sites; i++) {
		const struct ub_mapping *m = ub_target_mapping(t, image->sites[i].address);

		if (!m || !(m->prot & PROT_EXEC))
			return false;
	}
	return true;
}

/* --- with the main thread held and all others running ------------------------------------------ */

/* The main thread, ready to make system calls, or t->host_in_use is false. */
static int begin_alone(struct ub_target *t, struct ub_reason *why)
{
	int err = ub_seize_main(t, why);
	bool starved = ub_now_ns() - t->interrupted_ns > STARVED_US * 1000ull;

	if (!err && ub_target_read_mappings(t))
		err = ub_reason_set(why, -ESRCH, "process %d is gone", t->pid);
	if (!err)
		err = ub_remote_choose(t, why);
	if (err || starved || !ub_remote_can_work_alone(t))
		return err;
	err = ub_remote_begin(t, why);
	return err == -EBUSY ? 0 : err;
}

static void end_alone(struct ub_target *t)
{
	ub_remote_end(t);
	ub_release(t);
	if (t->interrupted_ns)
		t->report->surgery.alone_ns += ub_now_ns() - t->interrupted_ns;
	t->interrupted_ns = 0;
}

/* Maps NEW where that can be done so: t->mapped. */
static int map_alone(struct ub_target *t, const struct ub_image *new, struct ub_reason *why)
{
	struct ub_reason ignored;
	int err = begin_alone(t, why);

	if (!err && t->host_in_use) {
		err = ub_map_parts(t, new, why);
		t->mapped = !err;
		t->report->retry = err == -EAGAIN && !t->taken;
		t->partial = true;
		if (err && err != -ESRCH)
			t->report->again =
				ub_target_read_mappings(t) || ub_unmap_parts(t, new, &ignored);
		t->partial = false;
	}
	end_alone(t);
	return err ? err : ub_fault(t, UB_FAULT_alone);
}

/* Whether nothing has ever led into @image, so that its mappings can go while threads run. */
static bool never_used(const struct ub_operation *op)
{
	return op->partial && op->old->process &&
	       ub_read_once(ub_image_state(op->old)->stage) == UB_STAGE_MAPPED;
}

/* 1: it can't be done so. */
static int unmap_alone(struct ub_target *t, const struct ub_image *image, struct ub_reason *why)
{
	int err = begin_alone(t, why);

	if (!err)
		err = t->host_in_use ? ub_unmap_parts(t, image, why) : 1;
	end_alone(t);
	return err;
}

/* --- with all threads stopped ------------------------------------------------------------------ */

static int operate_stopped(struct ub_target *t, const struct ub_operation *op,
			   struct ub_reason *why)
{
	struct ub_ips ips = { 0 };
	int err = ub_seize(t, why);

	if (err)
		return err;
	/* Stacks and libraries may have come since. */
	if (ub_target_read_mappings(t))
		return ub_reason_set(why, -ESRCH, "process %d is gone", op->pid);
	err = ub_remote_choose(t, why);
	if (!err)
		err = ub_ips_collect(t, &ips);
	if (!err)
		err = op->kind == UB_OPERATION_IN ? operate_in(t, op, &ips, why)
						  : operate_out(t, op, &ips, why);
	ub_ips_free(&ips);
	if (t->execed || ub_target_gone(t))
		err = ub_reason_set(why, -ESRCH,
				    "process %d has exited or executed another program", t->pid);
	ub_remote_end(t);
	(void)ub_fault(t, UB_FAULT_remote_end);
	ub_release(t);
	ub_touch_dropped(t);
	(void)ub_fault(t, UB_FAULT_released);
	return err;
}

/* What is looked at with all threads stopped is fetched before. */
static void prepare_to_take_out(struct ub_target *t, const struct ub_image *old)
{
	if (!old)
		return;
	ub_fetch_files(t, old);
	if (old->process)
		(void)ub_image_has_guards(old);
}

static int operate(struct ub_target *t, const struct ub_operation *op, struct ub_reason *why)
{
	bool in = op->kind == UB_OPERATION_IN, few;
	u64 threads;
	int err;

	err = ub_target_open(t, op->pid, op->pidfd, why);
	if (!err && ub_target_read_mappings(t))
		err = ub_reason_set(why, -ESRCH, "process %d is gone", op->pid);
	if (!err && in)
		err = refuse_seccomp(t, why);
	if (!err && in)
		err = refuse_shadow_stack(t, why);
	if (!err && in && !sites_mapped(t, op->new))
		err = ub_reason_set(
			why, -ESRCH,
			"process %d has unmapped the code to be probed, or executes another program",
			op->pid);
	if (!err)
		err = ub_remote_prepare(t, op->old, op->new, why);
	if (!err)
		err = ub_fault(t, UB_FAULT_looked);
	if (err)
		return err;
	ub_watchdog_start(t->report, DEADLINE_MS);
	few = !ub_proc_status(t->proc, "Threads", 10, &threads) && threads <= UB_MAX_DETACHES;
	if (in) {
		/* Again later; but nothing needs to be mapped for what is refused. */
		err = ub_sites_check(t, op->old, op->new, why);
		if (!err && few)
			err = map_alone(t, op->new, why);
	} else if (few && never_used(op)) {
		err = unmap_alone(t, op->old, why);
		if (err <= 0)
			return err;
		err = 0;
	}
	if (!err) {
		prepare_to_take_out(t, op->old);
		err = operate_stopped(t, op, why);
	}
	/* Mapped, and then nobody could be stopped. */
	if (err && t->mapped)
		t->report->again = 1;
	return err;
}

/* As the daemon found when it looked last (daemon/filters.c). */
static bool forbids_calls(const struct ub_image *image)
{
	return image && image->process && ub_image_forbids_syscalls(image);
}

/* The surgeon's whole life. */
static void __attribute__((noreturn))
surgeon(const struct ub_operation *op, struct ub_report *report)
{
	struct ub_target t = {
		.mem = -1,
		.report = report,
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
						      : operate(&t, op, &why);
	ub_watchdog_stop();
	if (why.text[0] || !report->err)
		report->why = why;
	report->interrupted_ns = t.interrupted_ns;
	report->resumed_ns = t.resumed_ns;
	report->done = 1;
	_exit(0);
}

/* --- in the caller
 * ---------------------------------------------------------------------- */

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
	u64 reaped_ns;
	pid_t pid;

	report->done = report->again = report->retry = report->hopeless = 0;
	report->err = -EINTR;
	report->why.text[0] = '\0';
	report->interrupted_ns = 0;
	pid = fork();
	if (pid < 0)
		return ub_reason_set(&report->why, -errno, "cannot fork: %s", strerror(errno));
	if (!pid)
		surgeon(op, report);
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

int ub_surgeon_find(pid_t pid, struct ub_reason *why)
{
	struct ub_target t = { .mem = -1, .pid = pid };
	int found = 0;

	if (ub_target_proc(&t) || ub_target_read_mappings(&t)) {
		bool forbidden = errno == EACCES;

		ub_target_close(&t);
		return ub_reason_set(why, forbidden ? -EPERM : -ESRCH,
				     "cannot look into process %d: %s", pid,
				     forbidden ? "not permitted" : "it is gone");
	}
	for (u32 i = 0; i < t.nr_mappings; i++)
		found |= ub_mapping_is_trace(&t, &t.mappings[i]);
	ub_target_close(&t);
	return found;
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
