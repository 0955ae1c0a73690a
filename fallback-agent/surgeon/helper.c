/* SPDX-License-Identifier: MIT */
/*
 * A process of a moment inside the target's memory, to which descriptors are passed and which maps
 * them.
 *
 * Mapping shared memory needs descriptors, and a descriptor in the target's own table, even for 100
 * us, is seen: a fork takes it along, a close() and open() get another number than they count on, a
 * full table has no room, and a tracer that is killed leaves it behind. So the host makes
 *
 *	clone(CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID, no signal at exit)
 *
 * which is a process with the target's memory and a *copy* of its table, on which alone sockets and
 * memfds appear. With its exit all of them are gone. Its limits are its own, too.
 *
 * CLONE_VFORK keeps the host in the kernel until then, so the frames that both need (remote.c) stay
 * as they are while anybody may return to them. At the far end of the host's stack lie three:
 *
 *	wait	where the host's clone() returns to when the surgeon is dead: wait4(child, __WALL),
 *		then
 *	frame	that of remote.c, which gives the host everything back
 *	exit	where each of the child's system calls returns to when the surgeon is dead: exit(0)
 *
 * The kernel writes the child's pid into the first of them, as the argument of wait4(); until then
 * it says "any child in a process group that cannot be", so a clone() that fails does not take a
 * child of the target's. The child has no exit signal: wait() of the target's own does not see it.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <common/cleanup.h>
#include <surgeon/target.h>

#define NO_SUCH_GROUP 0x80000001u /* -(2^31 - 1) */
#define MAX_RESTARTS  16

static void kill_helper(struct ub_target *t)
{
	if (!t->helper)
		return;
	kill(t->helper, SIGKILL);
	while (waitpid(t->helper, NULL, __WALL) < 0 && errno == EINTR)
		;
	t->helper = 0;
}

/* The host's clone(), as far as the child's birth. */
static int clone_helper(struct ub_target *t, s64 *result)
{
	u64 flags = CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID;
	const u64 args[6] = { flags, t->exit_frame, ub_frame_argument(t->wait_frame) };
	int err = ub_remote_set(t, t->wait_frame, SYS_clone, args);
	unsigned long tid;

	for (u32 i = 0; !err && i < MAX_RESTARTS; i++) {
		err = ub_remote_run(t); /* to its entry */
		if (!err)
			err = ub_remote_run(t); /* to the birth, or to its end */
		if (err == 1) {
			if (ptrace(PTRACE_GETEVENTMSG, t->host->tid, 0, &tid))
				return -ESRCH;
			t->helper = tid;
			return 0;
		}
		if (!err)
			err = ub_remote_result(t, result);
		/* A stop by job control came in between: the kernel starts it again. */
		if (err || *result > -512 || *result < -516)
			return err;
	}
	return err;
}

/* On our CPU, so that each of its stops is a switch and no interrupt on another one. */
static void favour(pid_t tid)
{
	cpu_set_t here;

	CPU_ZERO(&here);
	CPU_SET(sched_getcpu(), &here);
	sched_setaffinity(0, sizeof(here), &here);
	sched_setaffinity(tid, sizeof(here), &here);
	ub_prefer(tid);
}

static int wait_for_birth(struct ub_target *t)
{
	int status;

	while (waitpid(t->helper, &status, __WALL) < 0) {
		if (errno != EINTR)
			return -EAGAIN;
	}
	if (!WIFSTOPPED(status)) {
		t->helper = 0;
		return -EAGAIN;
	}
	favour(t->helper);
	return 0;
}

int ub_helper_start(struct ub_target *t, struct ub_reason *why)
{
	const struct ub_frame_call wait = { SYS_wait4, NO_SUCH_GROUP, 0, __WALL, t->frame };
	const struct ub_frame_call leave = { SYS_exit, 0, 0, 0, t->exit_frame };
	s64 result = 0;
	int err;

	err = ub_frame_write_call(t, t->wait_frame, &wait);
	if (!err)
		err = ub_frame_write_call(t, t->exit_frame, &leave);
	if (!err)
		err = clone_helper(t, &result);
	if (!err && !t->helper)
		err = result < 0 ? (int)result : -EAGAIN;
	if (err == -EAGAIN)
		return ub_reason_set(
			why, -ENOSPC,
			"process %d may not have one process more for a moment, which is needed to pass "
			"memory to it: its user, or its container, has reached the limit (ulimit -u, "
			"pids.max)",
			t->pid);
	if (err)
		return ub_reason_set(why, err, "clone in process %d: %s", t->pid, strerror(-err));
	sched_getaffinity(0, sizeof(t->cpus), &t->cpus);
	/* On, into its wait for the child. */
	if (ptrace(PTRACE_SYSCALL, t->host->tid, 0, 0)) {
		kill_helper(t);
		return ub_reason_set(why, -ESRCH, "process %d is gone", t->pid);
	}
	err = wait_for_birth(t);
	if (!err)
		err = ub_fault(t, UB_FAULT_helper);
	if (err && ub_helper_end(t))
		return ub_reason_set(why, -ESRCH, "process %d is gone", t->pid);
	return err ? ub_reason_set(why, err, "the helper of process %d was killed", t->pid) : 0;
}

int ub_helper_make_room(struct ub_target *t, u32 nr)
{
	struct rlimit limit;
	s64 result;

	if (!prlimit(t->helper, RLIMIT_NOFILE, NULL, &limit) && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		prlimit(t->helper, RLIMIT_NOFILE, &limit, NULL);
	}
	return ub_remote_call(t, SYS_close_range, 0, nr - 1, 0, 0, 0, 0, &result);
}

/* Lets the child exit by itself. */
static void leave(struct ub_target *t)
{
	const u64 args[6] = { 0 };
	int status;

	if (!ub_remote_set(t, t->exit_frame, SYS_exit, args) &&
	    !ptrace(PTRACE_CONT, t->helper, 0, 0)) {
		for (;;) {
			pid_t got = waitpid(t->helper, &status, __WALL);

			if (got < 0 && errno == EINTR)
				continue;
			if (got < 0 || !WIFSTOPPED(status)) {
				t->helper = 0;
				return;
			}
			if (ptrace(PTRACE_CONT, t->helper, 0, 0))
				break;
		}
	}
	kill_helper(t);
}

int ub_helper_end(struct ub_target *t)
{
	s64 pid = 0, result = 0;
	int err;

	if (t->helper)
		leave(t);
	sched_setaffinity(0, sizeof(t->cpus), &t->cpus);
	err = ub_remote_wait(t);
	if (!err)
		err = ub_remote_result(t, &pid);
	if (!err && pid > 0)
		err = ub_remote_call(t, SYS_wait4, pid, 0, __WALL, 0, 0, 0, &result);
	return err;
}
