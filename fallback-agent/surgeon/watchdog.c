// SPDX-License-Identifier: MIT
/*
 * A surgeon's own time: it is first on its CPU where it may be, and gives up what takes too long.
 *
 * execve() in a process with threads waits until the other threads are dead *and reaped*, holding the mutex that
 * PTRACE_SEIZE wants. If one of the dead is our tracee, both wait for ever. So an interval timer's handler
 * reaps the dead, and gives the whole operation up after a while: a tracer's exit frees all.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <surgeon/seize.h>

#define REAP_TICKS    10
#define MAX_TRACED    32768
#define LONG_SLICE_MS 100 /* the longest there is */

static struct ub_report *watched;
static u64 deadline_ns;
static u32 ticks;
/* What a signal handler may look at: tids that were seized, negative once they are reaped. */
static pid_t traced[MAX_TRACED];
static volatile u32 nr_traced;
static u64 borrowed_at; /* ip of a thread whose registers are not its own */

void ub_watchdog_note(pid_t tid)
{
	if (nr_traced < MAX_TRACED) {
		traced[nr_traced] = tid;
		nr_traced++;
	}
}

/* One at a time and with WNOWAIT: a tracer's waitid() takes stops too, whatever it asks for. */
static void reap_dead(void)
{
	for (u32 i = 0; i < nr_traced; i++) {
		siginfo_t info = { 0 };

		if (traced[i] <= 0 ||
		    waitid(P_PID, traced[i], &info, WEXITED | WNOHANG | WNOWAIT | __WALL) ||
		    !info.si_pid || info.si_code == CLD_TRAPPED || info.si_code == CLD_STOPPED)
			continue;
		waitid(P_PID, traced[i], &info, WEXITED | WNOHANG | __WALL);
		traced[i] = -traced[i];
	}
}

static void on_tick(int signo)
{
	int saved = errno;

	if (++ticks % REAP_TICKS == 0)
		reap_dead();
	if (watched && ub_now_ns() > deadline_ns) {
		for (u32 i = 0; i < nr_traced; i++) {
			if (traced[i] > 0)
				ub_restart_blindly(traced[i], borrowed_at);
		}
		/* Whatever was begun is undone, or finished, by the caller's next surgeon. */
		watched->err = -ETIMEDOUT;
		if (!watched->why.text[0])
			ub_reason_set(
				&watched->why, 0,
				"a thread did not stop in time (blocked in the kernel, or starved of CPU)");
		if (!watched->changed)
			watched->done = 1;
		_exit(1);
	}
	errno = saved;
}

void ub_watchdog_start(struct ub_report *report, u32 ms)
{
	struct sigaction action = { .sa_handler = on_tick };
	struct itimerval timer = { { 0, UB_TICK_US }, { 0, UB_TICK_US } };
	sigset_t alarm_only;

	watched = report;
	deadline_ns = ub_now_ns() + ms * 1000000ull;
	sigaction(SIGALRM, &action, NULL);
	sigemptyset(&alarm_only);
	sigaddset(&alarm_only, SIGALRM);
	sigprocmask(SIG_UNBLOCK, &alarm_only, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

void ub_watchdog_stop(void)
{
	struct itimerval never = { 0 };

	setitimer(ITIMER_REAL, &never, NULL);
	watched = NULL;
}

void ub_watchdog_borrow(u64 ip)
{
	borrowed_at = ip;
}

/* As the kernel has it; Debian 12's libc does not know it. */
struct scheduling {
	u32 size, policy;
	u64 flags;
	s32 nice;
	u32 priority;
	u64 slice_ns, deadline, period;
};

bool ub_prefer(pid_t tid)
{
	const struct sched_param first = { .sched_priority = 1 };
	struct scheduling now = { 0 };

	if (!sched_setscheduler(tid, SCHED_FIFO, &first))
		return true;
	setpriority(PRIO_PROCESS, tid, -20);
	/* Nobody else may be first; but it may be long, so that a thousand others don't come in between
	 * (since Linux 6.12, ignored before). */
	if (!syscall(SYS_sched_getattr, tid, &now, sizeof(now), 0)) {
		now.slice_ns = LONG_SLICE_MS * 1000000ull;
		syscall(SYS_sched_setattr, tid, &now, 0);
	}
	return false;
}
