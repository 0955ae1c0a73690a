/* SPDX-License-Identifier: MIT */
/*
 * Stopping everything that runs in a target's memory, and letting it go again.
 *
 * Threads come in three kinds: those of the process; those of other processes in the same memory
 * (children of vfork() and posix_spawn() until they exec, raw clone(CLONE_VM)), found by sharing.c;
 * and those that are born while we look, which are ours from birth because all of the others are
 *seized with TRACECLONE, TRACEFORK and TRACEVFORK. We are done when every thread that /proc lists
 *is known and settled:
 *
 *   stopped	in a ptrace stop
 *   blocked	in the kernel, in a sleep that INTERRUPT does not end: the parent of a vfork(), a
 *thread that waits for a disk. It can't get back to user code without meeting the pending stop, so
 *		it is as good as stopped as long as nobody has to change its registers.
 *   gone
 *
 * What a stop must not do to the target:
 *
 *   Signals. A thread may meet us in a signal-delivery stop: the signal is off the queue already.
 *If wait() takes that stop and the tracer dies, the signal is lost with it. So such stops are
 *looked at with WNOWAIT and never taken: then the thread carries on with the signal, siginfo and
 *all, however we end. Job control. A stopped process stays stopped: its threads go back into their
 *group stop by themselves when the tracer detaches or exits. System calls. See restart.c.
 *
 * What a target must not do to us:
 *
 *   execve() in a process with threads waits until the other threads are dead *and reaped*, holding
 *the mutex that PTRACE_SEIZE wants. If one of the dead is our tracee, both wait for ever. So while
 *we seize, an interval timer's handler reaps the dead, and gives the whole operation up after a
 *   while: a tracer's exit frees all.
 *   Threads created faster than we can seize them: they stop being created once INTERRUPT is out.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <common/cleanup.h>
#include <surgeon/operation.h>

#define PF_IO_WORKER   0x00000010
#define PF_USER_WORKER 0x00004000
#define PF_KTHREAD     0x00200000

#define TICK_US	      2000
#define REAP_TICKS    10
#define MAX_TRACED    32768
#define GIVE_UP_MS    20
#define LONG_SLICE_MS 100 /* the longest there is */
#define SPIN_US	      30
#define ONE_BY_ONE_MS 500 /* in all, for sleepers that have to be stopped so */

/* --- watchdog ------------------------------------------------------------------------------ */

static struct ub_report *watched;
static u64 deadline_ns;
static u32 ticks;
/* What a signal handler may look at: tids that were seized, negative once they are reaped. */
static pid_t traced[MAX_TRACED];
static volatile u32 nr_traced;
static u64 borrowed_at; /* ip of a thread whose registers are not its own */

static void note_traced(pid_t tid)
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
	struct itimerval timer = { { 0, TICK_US }, { 0, TICK_US } };
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

/* --- threads ------------------------------------------------------------------------------- */

static struct ub_thread *find_thread(struct ub_target *t, pid_t tid)
{
	for (u32 i = 0; i < t->nr_threads; i++) {
		if (t->threads[i].tid == tid)
			return &t->threads[i];
	}
	return NULL;
}

/* Known threads by tid, so that looking at 1 000 of them again costs no 1 000 000 comparisons. */
static int compare_tids(const void *a, const void *b)
{
	return *(const pid_t *)a < *(const pid_t *)b ? -1 : *(const pid_t *)a > *(const pid_t *)b;
}

static int add_thread(struct ub_target *t, pid_t process, pid_t tid, enum ub_thread_state state)
{
	if (t->nr_threads == t->room) {
		u32 room = t->room ? 2 * t->room : 64;
		struct ub_thread *threads = realloc(t->threads, room * sizeof(*threads));

		if (!threads)
			return -ENOMEM;
		t->threads = threads;
		t->room = room;
	}
	t->threads[t->nr_threads] = (struct ub_thread) {
		.tid = tid,
		.process = process,
		.state = state,
	};
	t->nr_threads++;
	return 0;
}

static int thread_stat(const struct ub_thread *thread, char *state, u64 *flags)
{
	char path[96], text[1024], *p;
	FILE *file;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", thread->process, thread->tid);
	file = fopen(path, "re");
	if (!file)
		return -ESRCH;
	n = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[n] = '\0';
	p = strrchr(text, ')');
	if (!p || sscanf(p + 1, " %c %*d %*d %*d %*d %*d %lu", state, flags) != 2)
		return -ESRCH;
	return 0;
}

static bool ours_already(pid_t process, pid_t tid)
{
	char proc[96];
	u64 tracer = 0;

	snprintf(proc, sizeof(proc), "/proc/%d/task/%d", process, tid);
	return !ub_proc_status(proc, "TracerPid", 10, &tracer) && tracer == (u64)getpid();
}

static u64 seize_options(const struct ub_target *t)
{
	return PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
	       PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC |
	       (t->suspended ? PTRACE_O_SUSPEND_SECCOMP : 0);
}

/* 0: seized, or nothing that could be. */
static int seize_thread(struct ub_target *t, pid_t process, pid_t tid, struct ub_reason *why)
{
	struct ub_thread probe = { .tid = tid, .process = process };
	u64 flags = 0;
	char state;
	int err;

	if (!ptrace(PTRACE_SEIZE, tid, 0, seize_options(t))) {
		note_traced(tid);
		return add_thread(t, process, tid, UB_THREAD_SEIZED);
	}
	err = errno;
	/* Another of ours was faster since ub_refuse() looked; nothing is held yet. */
	if (err == EPERM && !t->nr_threads && ub_is_traced_by_ours(tid)) {
		ub_surgeon_await(tid);
		if (!ptrace(PTRACE_SEIZE, tid, 0, seize_options(t))) {
			note_traced(tid);
			return add_thread(t, process, tid, UB_THREAD_SEIZED);
		}
		err = errno;
	}
	if (err == ESRCH)
		return 0;
	if (ours_already(process, tid))
		return add_thread(t, process, tid, UB_THREAD_SEIZED);
	if (thread_stat(&probe, &state, &flags))
		return 0;
	if (state == 'Z' || state == 'X' || (flags & (PF_IO_WORKER | PF_USER_WORKER | PF_KTHREAD)))
		return add_thread(t, process, tid, UB_THREAD_GONE);
	return ub_refuse_seize(t->pid, tid, err, why);
}

/* Seizes the threads of @process that are not known yet. Number of them, or -errno. */
static int seize_process(struct ub_target *t, pid_t process, bool interrupt, struct ub_reason *why)
{
	_cleanup_free_ pid_t *known = NULL;
	u32 nr_known = t->nr_threads;
	struct dirent *entry;
	char path[64];
	int nr = 0, err = 0;
	DIR *tasks;

	known = malloc((nr_known + 1) * sizeof(*known));
	if (!known)
		return -ENOMEM;
	for (u32 i = 0; i < nr_known; i++)
		known[i] = t->threads[i].tid;
	qsort(known, nr_known, sizeof(*known), compare_tids);

	snprintf(path, sizeof(path), "/proc/%d/task", process);
	tasks = opendir(path);
	if (!tasks)
		return process == t->pid ? ub_reason_set(why, -ESRCH, "process %d is gone", process)
					 : 0;
	while ((entry = readdir(tasks))) {
		pid_t tid = atoi(entry->d_name);
		u32 before = t->nr_threads;

		if (tid <= 0 || bsearch(&tid, known, nr_known, sizeof(tid), compare_tids))
			continue;
		err = seize_thread(t, process, tid, why);
		if (err)
			break;
		if (t->nr_threads == before)
			continue;
		if (t->threads[before].state != UB_THREAD_SEIZED)
			continue;
		nr++;
		if (interrupt)
			ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	}
	closedir(tasks);
	return err ? err : nr;
}

/* --- other processes in the same memory ---------------------------------------------------- */

static bool known_process(const struct ub_target *t, pid_t pid)
{
	for (u32 i = 0; i < t->nr_threads; i++) {
		if (t->threads[i].process == pid)
			return true;
	}
	return pid == t->pid;
}

/* Seizes every process that shares the memory. Other users' can't be compared: they don't. */
static int seize_sharers(struct ub_target *t, struct ub_reason *why)
{
	struct dirent *entry;
	DIR *proc = opendir("/proc");
	int nr = 0;

	if (!proc)
		return 0;
	while (nr >= 0 && (entry = readdir(proc))) {
		pid_t pid = atoi(entry->d_name);

		if (pid > 0 && pid != getpid() && pid != t->pid &&
		    ub_same_memory(t->alive, pid) == 1 && !known_process(t, pid))
			nr = seize_process(t, pid, false, why);
	}
	closedir(proc);
	return nr < 0 ? nr : 0;
}

/* Children of a thread that waits in vfork(). */
static int seize_children(struct ub_target *t, const struct ub_thread *parent,
			  struct ub_reason *why)
{
	char path[96];
	FILE *children;
	int pid, nr = 0, found = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent->process, parent->tid);
	children = fopen(path, "re");
	if (!children)
		return 0;
	while (nr >= 0 && fscanf(children, "%d", &pid) == 1) {
		if (ub_same_memory(t->alive, pid) != 1 || known_process(t, pid))
			continue;
		nr = seize_process(t, pid, true, why);
		found += nr > 0 ? nr : 0;
	}
	fclose(children);
	return nr < 0 ? nr : found;
}

/* --- waiting ------------------------------------------------------------------------------- */

static void thread_is_gone(struct ub_thread *thread)
{
	thread->state = UB_THREAD_GONE;
	thread->unconsumed = false;
	thread->signal = 0;
}

static void read_registers(struct ub_thread *thread)
{
	if (ptrace(PTRACE_GETREGS, thread->tid, 0, &thread->regs)) {
		thread_is_gone(thread);
		return;
	}
	thread->state = UB_THREAD_STOPPED;
	thread->pc = thread->regs.rip;
	thread->sp = thread->regs.rsp;
	thread->restarts_at = 0;
	ub_restart_interrupted(thread);
}

/* A child that a seized thread has just made, seized with it. */
static int new_tracee(struct ub_target *t, const struct ub_thread *parent)
{
	pid_t process = parent->process;
	unsigned long tid = 0;
	char proc[64];
	u64 tgid;
	int err;

	if (ptrace(PTRACE_GETEVENTMSG, parent->tid, 0, &tid) || !tid || find_thread(t, tid))
		return 0;
	snprintf(proc, sizeof(proc), "/proc/%lu", tid);
	if (!ub_proc_status(proc, "Tgid", 10, &tgid))
		process = tgid;
	err = add_thread(t, process, tid, UB_THREAD_SEIZED);
	if (!err && process != parent->process && ub_same_memory(t->alive, tid) != 1)
		t->threads[t->nr_threads - 1].foreign = true;
	return err;
}

/* Takes note of a stop. 0, or -errno. @i is an index since threads may be added. */
static int settle(struct ub_target *t, u32 i, const siginfo_t *info)
{
	struct ub_thread *thread = &t->threads[i];
	int status = info->si_status, signal = status & 0xff, event = status >> 8;
	int taken, err;

	if (info->si_code != CLD_TRAPPED && info->si_code != CLD_STOPPED) {
		waitpid(thread->tid, &taken, __WALL | WNOHANG);
		thread_is_gone(thread);
		return 0;
	}
	switch (event) {
	case 0:
		/* A signal is being delivered: leave the stop untaken. */
		thread->unconsumed = true;
		thread->signal = signal & 0x7f;
		read_registers(thread);
		return 0;
	case PTRACE_EVENT_STOP:
		waitpid(thread->tid, &taken, __WALL | WNOHANG);
		if (!thread->foreign) {
			read_registers(thread);
			return 0;
		}
		/* A forked child has memory of its own by now: none of our business. */
		ptrace(PTRACE_DETACH, thread->tid, 0, 0);
		thread_is_gone(thread);
		return 0;
	case PTRACE_EVENT_EXEC:
		if (thread->process == t->pid)
			t->execed = true;
		waitpid(thread->tid, &taken, __WALL | WNOHANG);
		thread_is_gone(thread); /* not of this memory any more */
		return 0;
	case PTRACE_EVENT_CLONE:
	case PTRACE_EVENT_FORK:
	case PTRACE_EVENT_VFORK:
		err = new_tracee(t, thread);
		if (err)
			return err;
		thread = &t->threads[i];
		break;
	}
	/* In the middle of a system call: on to its end. Any stop eats the one that INTERRUPT had
	 * made pending. */
	waitpid(thread->tid, &taken, __WALL | WNOHANG);
	ptrace(PTRACE_INTERRUPT, thread->tid, 0, 0);
	ptrace(PTRACE_CONT, thread->tid, 0, 0);
	return 0;
}

/* One look at a thread; @block: wait for it until the next tick. */
static int look(struct ub_target *t, u32 i, bool block)
{
	struct ub_thread *thread = &t->threads[i];
	siginfo_t info = { 0 };

	if (waitid(P_PID, thread->tid, &info,
		   WSTOPPED | WEXITED | WNOWAIT | __WALL | (block ? 0 : WNOHANG))) {
		if (errno == ECHILD)
			thread_is_gone(thread);
		return 0;
	}
	return info.si_pid ? settle(t, i, &info) : 0;
}

/* The system call that a thread sleeps in, -1 if it sleeps outside of any. -ENOENT: it runs. */
static int sleeps_in(const struct ub_thread *thread, long *nr, u64 *sp, u64 *pc)
{
	_cleanup_close_ int fd = -1;
	char path[96], line[256];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", thread->process, thread->tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
	if (n <= 0)
		return -ESRCH;
	line[n] = '\0';
	/* "nr arg arg arg arg arg arg sp pc", or "-1 sp pc" outside a system call */
	if (sscanf(line, "%ld", nr) != 1)
		return -ENOENT;
	n = *nr >= 0 ? sscanf(line, "%*d %*s %*s %*s %*s %*s %*s %lx %lx", sp, pc)
		     : sscanf(line, "%*d %lx %lx", sp, pc);
	return n == 2 ? 0 : -ENOENT;
}

/* A thread that won't stop: is it asleep where it can do no harm? */
static void look_blocked(struct ub_thread *thread)
{
	u64 flags, sp, pc;
	char state;
	long nr;

	if (thread_stat(thread, &state, &flags) || state == 'Z' || state == 'X') {
		/* A dead leader whose threads live on is never reported to us. */
		thread_is_gone(thread);
		return;
	}
	if (state != 'D' || sleeps_in(thread, &nr, &sp, &pc))
		return;
	thread->state = UB_THREAD_BLOCKED;
	thread->sp = sp;
	thread->pc = pc;
}

int ub_deliver_signal(struct ub_target *t, struct ub_thread *thread)
{
	u32 i = thread - t->threads;

	while (thread->unconsumed) {
		long signal = thread->signal;
		int err;

		thread->unconsumed = false;
		thread->signal = 0;
		thread->state = UB_THREAD_SEIZED;
		if (ptrace(PTRACE_INTERRUPT, thread->tid, 0, 0) ||
		    ptrace(PTRACE_CONT, thread->tid, 0, signal))
			return -ESRCH;
		while (t->threads[i].state == UB_THREAD_SEIZED) {
			err = look(t, i, true);
			if (err)
				return err;
		}
		thread = &t->threads[i];
	}
	return thread->state == UB_THREAD_STOPPED ? 0 : -ESRCH;
}

static int count_unsettled(const struct ub_target *t)
{
	int nr = 0;

	for (u32 i = 0; i < t->nr_threads; i++)
		nr += t->threads[i].state == UB_THREAD_SEIZED;
	return nr;
}

/* Waits until every known thread is settled. */
static int wait_all(struct ub_target *t, struct ub_reason *why)
{
	int err;

	for (u32 round = 0; count_unsettled(t); round++) {
		for (u32 i = 0; i < t->nr_threads; i++) {
			if (t->threads[i].state != UB_THREAD_SEIZED)
				continue;
			/* First those that are there already; then we sleep until the next tick at
			 * most, unless it is of no use. */
			err = look(t, i, false);
			if (err)
				return err;
			if (!round || t->threads[i].state != UB_THREAD_SEIZED)
				continue;
			look_blocked(&t->threads[i]);
			if (t->threads[i].state == UB_THREAD_BLOCKED)
				err = seize_children(t, &t->threads[i], why);
			else if (t->threads[i].state == UB_THREAD_SEIZED)
				err = look(t, i, true);
			if (err < 0)
				return err;
		}
	}
	return 0;
}

/* A blocked thread may have come as far as its stop by now, which is better: then it can be moved.
 */
static int look_again(struct ub_target *t)
{
	for (u32 i = 0; i < t->nr_threads; i++) {
		int err;

		if (t->threads[i].state != UB_THREAD_BLOCKED)
			continue;
		err = look(t, i, false);
		if (err)
			return err;
	}
	return 0;
}

static bool in_64_bit_mode(const struct ub_target *t)
{
	for (u32 i = 0; i < t->nr_threads; i++) {
		if (t->threads[i].state == UB_THREAD_STOPPED)
			return t->threads[i].regs.cs == 0x33;
	}
	return true;
}

bool ub_may_suspend_filters(void)
{
	return ub_have_capability(CAP_SYS_ADMIN) && !ub_filter_on_us();
}

static void decide_about_seccomp(struct ub_target *t)
{
	t->suspended = t->seccomp && ub_may_suspend_filters();
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

static void start(struct ub_target *t)
{
	borrowed_at = t->gadget;
	t->nr_threads = 0;
	t->execed = t->alone = false;
	t->host = NULL;
	decide_about_seccomp(t);
	t->first = ub_prefer(0);
}

/* What has stopped by now is settled, so that nobody is left with an EINTR of ours. */
static int give_up(struct ub_target *t, int err)
{
	u64 end = ub_now_ns() + GIVE_UP_MS * 1000000ull;

	while (count_unsettled(t) && ub_now_ns() < end) {
		for (u32 i = 0; i < t->nr_threads; i++) {
			if (t->threads[i].state == UB_THREAD_SEIZED && look(t, i, false))
				return err;
		}
	}
	return err;
}

/* Whether to stop the thread leaves it with an EINTR, until we have looked at it. */
static bool is_delicate(const struct ub_thread *thread)
{
	u64 sp, pc;
	long nr;

	return thread->state == UB_THREAD_SEIZED && !sleeps_in(thread, &nr, &sp, &pc) &&
	       ub_restart_is_needed(nr);
}

/* Stops a thread that sleeps. It does so as soon as it gets a CPU; after @end it is waited for with the others. */
static int interrupt_sleeper(struct ub_target *t, u32 i, u64 end)
{
	const u64 start = ub_now_ns();
	u64 now = start;
	int err;

	ptrace(PTRACE_INTERRUPT, t->threads[i].tid, 0, 0);
	err = ub_fault(t, UB_FAULT_interrupted);
	/* On another CPU it stops sooner than we could fall asleep. */
	do {
		if (!err)
			err = look(t, i, now - start > SPIN_US * 1000ull);
		now = ub_now_ns();
	} while (!err && t->threads[i].state == UB_THREAD_SEIZED && now < end);
	return err;
}

/* Stops those who would be left with an EINTR, one after another, the others all together. */
static int interrupt_all(struct ub_target *t)
{
	const u32 nr = t->nr_threads;
	_cleanup_free_ bool *delicate = calloc(nr + 1, sizeof(*delicate));
	int err = delicate ? 0 : -ENOMEM;
	u64 end;

	for (u32 i = 0; i < nr && !err; i++)
		delicate[i] = is_delicate(&t->threads[i]);
	t->interrupted_ns = ub_now_ns();
	end = t->interrupted_ns + ONE_BY_ONE_MS * 1000000ull;
	for (u32 i = 0; i < nr && !err; i++) {
		if (delicate[i])
			err = interrupt_sleeper(t, i, end);
	}
	for (u32 i = 0; i < nr && !err; i++) {
		if (t->threads[i].state == UB_THREAD_SEIZED && !delicate[i])
			ptrace(PTRACE_INTERRUPT, t->threads[i].tid, 0, 0);
	}
	return err;
}

int ub_seize_main(struct ub_target *t, struct ub_reason *why)
{
	int err;

	start(t);
	err = seize_thread(t, t->pid, t->pid, why);
	if (err || !t->nr_threads || t->threads[0].state != UB_THREAD_SEIZED)
		return err;
	t->interrupted_ns = ub_now_ns();
	err = interrupt_sleeper(t, 0, t->interrupted_ns + TICK_US * 1000ull);
	if (!err)
		err = wait_all(t, why);
	if (!err && t->execed)
		err = ub_reason_set(why, -ESRCH, "process %d has executed another program", t->pid);
	return err ? give_up(t, err) : 0;
}

static int stop_all(struct ub_target *t, struct ub_reason *why)
{
	int err, nr;

	start(t);
	for (u32 pass = 0; pass < 4; pass++) {
		nr = seize_process(t, t->pid, false, why);
		if (nr < 0)
			return nr;
		if (!nr)
			break;
	}
	err = seize_sharers(t, why);
	if (!err)
		err = ub_fault(t, UB_FAULT_seize);
	if (err)
		return err;

	err = interrupt_all(t);
	if (err)
		return err;
	do {
		err = wait_all(t, why);
		if (err)
			return err;
		if (t->execed)
			return ub_reason_set(why, -ESRCH, "process %d has executed another program",
					     t->pid);
		nr = seize_process(t, t->pid, true, why);
		if (nr < 0)
			return nr;
	} while (nr);
	err = look_again(t);
	if (err)
		return err;
	if (ub_target_gone(t))
		return ub_reason_set(why, -ESRCH,
				     "process %d has exited or executed another program", t->pid);
	if (!in_64_bit_mode(t))
		return ub_reason_set(
			why, -EOPNOTSUPP,
			"process %d runs 32-bit code: only 64-bit programs are supported", t->pid);
	return ub_fault(t, UB_FAULT_stopped);
}

int ub_seize(struct ub_target *t, struct ub_reason *why)
{
	int err = stop_all(t, why);

	return err ? give_up(t, err) : 0;
}

static u32 write_registers(struct ub_target *t)
{
	u32 nr = 0;

	for (u32 i = 0; i < t->nr_threads; i++) {
		struct ub_thread *thread = &t->threads[i];

		if (thread->state != UB_THREAD_STOPPED)
			continue;
		nr++;
		if (t->host_in_use && thread == t->host)
			continue;
		ub_restart_reconsider(thread);
		if (thread->changed)
			ptrace(PTRACE_SETREGS, thread->tid, 0, &thread->regs);
		thread->changed = false;
	}
	return nr;
}

/* A thread that was blocked has meanwhile run into its stop, or will and find nobody there:
 * DETACH needs a stopped one, so the blocked are left to our exit. */
static void detach(struct ub_target *t, const struct ub_thread *but)
{
	for (u32 i = 0; i < t->nr_threads; i++) {
		struct ub_thread *thread = &t->threads[i];

		if (thread->state != UB_THREAD_STOPPED || thread == but)
			continue;
		ptrace(PTRACE_DETACH, thread->tid, 0, (long)thread->signal);
		thread->state = UB_THREAD_GONE;
	}
}

void ub_release_others(struct ub_target *t)
{
	if (t->alone || t->nr_threads > UB_MAX_DETACHES || !ub_remote_can_work_alone(t))
		return;
	t->report->surgery.nr_threads = write_registers(t);
	detach(t, t->host);
	t->alone = true;
	t->resumed_ns = ub_now_ns();
}

void ub_release(struct ub_target *t)
{
	u32 nr = write_registers(t);
	/* Each that goes on may take our CPU, unless we are first; an exit lets all of them go at once. */
	const bool by_exit = nr > UB_MAX_DETACHES && !t->first;

	if (!t->alone)
		t->report->surgery.nr_threads = nr;
	if (!by_exit)
		detach(t, NULL);
	if (t->alone)
		t->report->surgery.alone_ns += ub_now_ns() - t->resumed_ns;
	else
		t->resumed_ns = by_exit ? 0 : ub_now_ns();
}
