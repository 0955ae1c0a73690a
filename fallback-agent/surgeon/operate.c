// SPDX-License-Identifier: MIT
/* An attach, a change or a detach, as surgeon.c tells it: from the first look to the release. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <common/cleanup.h>
#include <surgeon/operation.h>
#include <surgeon/seize.h>

#define DEADLINE_MS 5000 /* of one stop */
#define STARVED_US  2000 /* until the main thread stops: then it had better not work alone */

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

/* --- with the main thread held and all others running ----------------------------------------- */

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

/* --- with all threads stopped ----------------------------------------------------------------- */

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

int ub_operate(struct ub_target *t, const struct ub_operation *op, struct ub_reason *why)
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
	/* Nothing is begun yet, and whoever cleans up after our caller may have passed already. */
	if (!err && getppid() != t->caller && op->new)
		err = ub_reason_set(why, -EINTR, "the daemon was killed");
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
