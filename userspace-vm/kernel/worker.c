// SPDX-License-Identifier: MIT
/*
 * Some programs have no target thread to run in: those of interval and profile events, and
 * BPF_PROG_TEST_RUN's. They must not run in the daemon, which holds everybody's objects: however
 * good the verifier is, a program that loops eight million times would hold up all clients.
 *
 * So they run in a fork of the daemon, which has all maps mapped already, gives up everything else
 * (fds, system calls, the right to gain any), and can be killed at any moment: maps survive that by
 * design. What it outputs leaves through an event ring like a target's, and is believed no more
 * than that.
 */
#include <common/clock.h>
#include <kernel/worker.h>

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/bpf_perf_event.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include <helper/helper.h>
#include <program/context.h>

#define TEST_RUN_LIMIT_MS 1000
#define NS_PER_S	  1000000000ull
#define MAX_WORKERS	  256 /* each is a process */

struct ub_worker {
	struct ub_kernel *kernel;
	struct ub_kprog *prog; /* the perf event holds it */
	u64 session;
	pid_t pid;
	int pidfd;
	int notify; /* eventfd: the ring may have records */
	struct ub_watch *notify_watch;
	struct ub_watch *death_watch;
	void *ring;
	u64 ring_size;
	struct ub_event_reader *reader;
	u64 lost;
	bool dead;
};

/* --- inside
 * --------------------------------------------------------------------------------------- */

/* What a program's helpers need, and nothing by which anything outside could be reached. */
static int enter_sandbox(void)
{
	const u32 pid = (u32)getpid();
	struct rlimit none = { 0, 0 };
#define ALLOW(nr)                                                                                  \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define ALLOW_FIRST(nr, value)                                                                     \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4),                                             \
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),        \
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),                                  \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),                                      \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(__NR_clock_nanosleep),
		ALLOW(__NR_clock_gettime),
		ALLOW(__NR_getcpu),
		ALLOW(__NR_gettid),
		ALLOW(__NR_getpid),
		ALLOW(__NR_exit),
		ALLOW(__NR_exit_group),
		ALLOW(__NR_rt_sigreturn),
		ALLOW(__NR_sigaltstack), /* sanitizers ask for it; it reaches nothing */
		ALLOW_FIRST(__NR_write, 0),
		ALLOW_FIRST(__NR_process_vm_readv, pid),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog program = { ub_array_size(filter), filter };

	setrlimit(RLIMIT_CORE, &none);
	setrlimit(RLIMIT_FSIZE, &none);
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
			       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)
		       ? -errno
		       : 0;
}

/* First thing in the child: fd 0 becomes @keep (or nothing), the rest goes. */
static void drop_everything(int keep, pid_t parent)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
	sigset_t all;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	for (u32 i = 0; i < ub_array_size(fatal); i++)
		signal(fatal[i], SIG_DFL);
	sigfillset(&all); /* a Ctrl-C at the terminal is the daemon's business */
	for (u32 i = 0; i < ub_array_size(fatal); i++)
		sigdelset(&all, fatal[i]);
	sigprocmask(SIG_SETMASK, &all, NULL);
	setsid();
	if (keep >= 0)
		dup2(keep, 0);
	else
		close(0);
	syscall(__NR_close_range, 1, ~0u, 0);
	prctl(PR_SET_NAME, "ubpf-run-worker");
}

struct inside {
	struct ub_jitted *jitted;
	struct ub_map *maps[UB_MAX_USED_MAPS];
	struct ub_process process;
	struct ub_link_info link;
	const struct ub_kprog *prog;
};

/* Maps of maps: what is in them now. An inner map that comes later is not seen. */
static int find_inner_maps(const struct ub_kernel_map *outer, struct ub_map *map)
{
	u32 n = ub_kernel_map_slots(outer);

	if (map->inner || !outer->inner.type)
		return 0;
	map->inner = calloc(map->attr.max_entries, sizeof(*map->inner));
	if (!map->inner)
		return -ENOMEM;
	for (u32 i = 0; i < n; i++) {
		struct ub_kernel_map *inner = ub_kernel_map_inner(outer, i);
		int err = inner ? ub_map_inner_add(map->inner, map->attr.max_entries, &inner->map)
				: 0;

		if (err)
			return err;
	}
	return 0;
}

static int compile(const struct ub_kprog *prog, const u64 *helpers, struct ub_jitted **jitted)
{
	struct ub_map *maps[UB_MAX_USED_MAPS];
	struct ub_reason why;

	for (u32 i = 0; i < prog->nr_maps; i++) {
		int err = find_inner_maps(prog->maps[i], &prog->maps[i]->map);

		if (err)
			return err;
		maps[i] = &prog->maps[i]->map;
	}
	return ub_jitted_create(&prog->code, helpers, maps, jitted, &why);
}

/* Program arrays: what is in them now. */
static int fill_arrays(const struct ub_kprog *prog, const struct ub_reach *reach,
		       struct ub_jitted *const *jitted)
{
	for (u32 i = 0; i < prog->nr_maps; i++) {
		struct ub_kernel_map *array = prog->maps[i];

		if (array->map.attr.type != BPF_MAP_TYPE_PROG_ARRAY || array->map.inner)
			continue;
		array->map.inner = calloc(array->map.nr_inner, sizeof(*array->map.inner));
		if (!array->map.inner)
			return -ENOMEM;
		for (u32 slot = 0; slot < array->nr_slots; slot++) {
			int index = ub_reach_slot(reach, array, slot);

			if (index >= 0)
				array->map.inner[slot] =
					(struct ub_map *)ub_jitted_entry(jitted[index]);
		}
	}
	return 0;
}

static int prepare(struct inside *in, struct ub_kprog *prog, struct ub_event_ring *ring, u64 cookie)
{
	static u64 helpers[UB_MAX_HELPER];
	static struct ub_jitted *jitted[ub_array_size(((struct ub_reach *)0)->progs)];
	static struct ub_reach reach;
	int err = 0;

	memset(in, 0, sizeof(*in));
	for (u32 i = 0; i < UB_MAX_HELPER; i++) {
		const struct ub_helper *helper = ub_helper_by_id(i);

		helpers[i] = helper ? (u64)helper->fn : 0;
	}
	for (u32 i = 0; i < prog->nr_maps; i++)
		in->maps[i] = &prog->maps[i]->map;
	in->prog = prog;
	in->process = (struct ub_process) { .size = sizeof(in->process),
					    .nr_cpus = prog->object.kernel->nr_cpus,
					    .tgid_pid = (u32)getpid(),
					    .own_tgid = (u32)getpid(),
					    .uid_gid = (u64)getgid() << 32 | getuid(),
					    .enabled = 1,
					    .events = ring,
					    .own_pidns_same = 1 };
	in->link = (struct ub_link_info) { .cookie = cookie, .prog_id = prog->object.id };
	ub_kprog_reach(prog, &reach);
	for (u32 i = 0; i < reach.nr && !err; i++)
		err = compile(reach.progs[i], helpers, &jitted[i]);
	for (u32 i = 0; i < reach.nr && !err; i++)
		err = fill_arrays(reach.progs[i], &reach, jitted);
	in->jitted = jitted[0];
	return err;
}

static u64 run_once(struct inside *in, void *ctx, u32 cpu)
{
	struct ub_run run = { .ctx = ctx,
			      .process = &in->process,
			      .link = &in->link,
			      .maps = in->maps,
			      .cpu = cpu,
			      .program = in->prog->program };

	return ub_jitted_run(in->jitted, ctx, &run);
}

static void __attribute__((noreturn)) run_on_clock(struct inside *in, u64 period_ns, u32 cpu)
{
	struct bpf_perf_event_data ctx;
	u64 due = ub_now_ns();
	u64 one = 1;

	for (;;) {
		struct timespec ts;
		u64 now;

		due += period_ns;
		now = ub_now_ns();
		if (due < now) /* late: periods that were missed are gone, as in the kernel */
			due = now;
		ts = (struct timespec) { (time_t)(due / NS_PER_S), (long)(due % NS_PER_S) };
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
			;
		memset(&ctx, 0, sizeof(ctx));
		ctx.sample_period = period_ns;
		run_once(in, &ctx, cpu);
		if (write(0, &one, sizeof(one)) < 0 && errno != EAGAIN)
			_exit(1);
	}
}

/* --- outside
 * -------------------------------------------------------------------------------------- */

static bool is_alive(void *opaque, u64 tid)
{
	struct ub_worker *worker = opaque;

	return !worker->dead;
}

static bool may_output_to(struct ub_kprog *prog, u32 map_id)
{
	struct ub_reach reach;

	ub_kprog_reach(prog, &reach);
	for (u32 i = 0; i < reach.nr; i++)
		for (u32 m = 0; m < reach.progs[i]->nr_maps; m++)
			if (reach.progs[i]->maps[m]->object.id == map_id)
				return true;
	return false;
}

static void drain(struct ub_worker *worker)
{
	struct ub_event event;
	u64 lost;
	int got;

	while ((got = ub_event_read(worker->reader, &event, is_alive, worker)) > 0)
		if ((event.kind == UB_EVENT_PRINTK || may_output_to(worker->prog, event.map_id)) &&
		    !ub_kernel_deliver(worker->kernel, &event))
			ub_kernel_lost(worker->kernel, event.map_id, 1);
	ub_kernel_delivered(worker->kernel);
	lost = ub_event_lost(worker->ring);
	for (u32 i = 0; lost > worker->lost && i < worker->prog->nr_maps; i++) {
		u32 type = worker->prog->maps[i]->map.attr.type;

		if (type == BPF_MAP_TYPE_RINGBUF || type == BPF_MAP_TYPE_PERF_EVENT_ARRAY) {
			ub_kernel_lost(worker->kernel, worker->prog->maps[i]->object.id,
				       lost - worker->lost);
			break;
		}
	}
	worker->lost = lost;
}

static void notified(void *opaque, u32 events)
{
	struct ub_worker *worker = opaque;
	u64 count;

	if (read(worker->notify, &count, sizeof(count)) == sizeof(count))
		drain(worker);
}

static void died(void *opaque, u32 events)
{
	struct ub_worker *worker = opaque;
	struct ub_kernel *k = worker->kernel;
	char text[160];

	worker->dead = true;
	ub_watch_remove(worker->death_watch);
	worker->death_watch = NULL;
	drain(worker);
	snprintf(text, sizeof(text), "program %s (id %u) runs no more: its worker process ended",
		 worker->prog->program->name, worker->prog->object.id);
	if (k->ops->log)
		k->ops->log(k->opaque, worker->session, text);
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static void free_worker(struct ub_worker *worker)
{
	worker->kernel->nr_workers--;
	ub_watch_remove(worker->notify_watch);
	ub_watch_remove(worker->death_watch);
	if (worker->pid > 0) {
		kill(worker->pid, SIGKILL);
		reap(worker->pid);
		worker->dead = true;
		if (worker->reader)
			drain(worker);
	}
	ub_event_reader_free(worker->reader);
	if (worker->ring)
		munmap(worker->ring, worker->ring_size);
	if (worker->pidfd >= 0)
		close(worker->pidfd);
	if (worker->notify >= 0)
		close(worker->notify);
	free(worker);
}

static int make_ring(struct ub_worker *worker)
{
	worker->ring_size = ub_event_ring_size(UB_EVENT_RING_SIZE);
	worker->ring = mmap(NULL, worker->ring_size, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (worker->ring == MAP_FAILED) {
		worker->ring = NULL;
		return -ENOMEM;
	}
	ub_event_ring_format(worker->ring, UB_EVENT_RING_SIZE);
	worker->reader = ub_event_reader_new(worker->ring, UB_EVENT_RING_SIZE, 0);
	return worker->reader ? 0 : -ENOMEM;
}

static int watch(struct ub_worker *worker)
{
	struct ub_loop *loop = worker->kernel->loop;

	worker->notify_watch = ub_loop_watch(loop, worker->notify, EPOLLIN, notified, worker);
	worker->death_watch = ub_loop_watch(loop, worker->pidfd, EPOLLIN, died, worker);
	return worker->notify_watch && worker->death_watch ? 0 : -ENOMEM;
}

int ub_worker_start(struct ub_kprog *prog, u64 period_ns, u64 cookie, u32 cpu,
		    struct ub_worker **out, struct ub_reason *why)
{
	struct ub_worker *worker = calloc(1, sizeof(*worker));
	pid_t parent = getpid();
	int err;

	if (!worker)
		return -ENOMEM;
	if (prog->object.kernel->nr_workers >= MAX_WORKERS) {
		free(worker);
		return ub_reason_set(why, -ENOSPC, "%u programs run on clocks already",
				     MAX_WORKERS);
	}
	prog->object.kernel->nr_workers++;
	*worker = (struct ub_worker) { .kernel = prog->object.kernel,
				       .prog = prog,
				       .session = prog->object.session,
				       .pidfd = -1 };
	worker->notify = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	err = worker->notify < 0 ? -errno : make_ring(worker);
	if (err)
		goto failed;
	worker->pid = fork();
	if (!worker->pid) {
		struct inside in;

		drop_everything(worker->notify, parent);
		if (prepare(&in, prog, worker->ring, cookie) || enter_sandbox())
			_exit(1);
		run_on_clock(&in, period_ns, cpu);
	}
	err = worker->pid < 0 ? -errno : 0;
	if (!err) {
		worker->pidfd = (int)syscall(__NR_pidfd_open, worker->pid, 0);
		err = worker->pidfd < 0 ? -errno : watch(worker);
	}
	if (err)
		goto failed;
	*out = worker;
	return 0;

failed:
	free_worker(worker);
	return ub_reason_set(why, err, "can't start a worker for program %s: %s",
			     prog->program->name, strerror(-err));
}

void ub_worker_stop(struct ub_worker *worker)
{
	if (worker)
		free_worker(worker);
}

/* Shared with the child of a test run. */
struct test_run {
	u32 retval;
	u32 duration_ns;
	u32 done;
	u8 ctx[] __attribute__((aligned(16)));
};

static void __attribute__((noreturn)) test_run_inside(struct test_run *test, struct ub_kprog *prog,
						      struct ub_event_ring *ring, u32 repeat)
{
	struct inside in;
	u64 start, total;

	if (prepare(&in, prog, ring, 0) || enter_sandbox())
		_exit(1);
	start = ub_now_ns();
	for (u32 i = 0; i < repeat; i++)
		test->retval = (u32)run_once(&in, test->ctx, UB_CPU_UNKNOWN);
	total = (ub_now_ns() - start) / repeat;
	test->duration_ns = total > UINT32_MAX ? UINT32_MAX : (u32)total;
	test->done = 1;
	_exit(0);
}

/* Waits, at most so long: the daemon has other clients. */
static int wait_for(pid_t pid)
{
	_cleanup_close_ int pidfd = (int)syscall(__NR_pidfd_open, pid, 0);
	_cleanup_close_ int set = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN };
	int n = -1;

	if (pidfd >= 0 && set >= 0 && !epoll_ctl(set, EPOLL_CTL_ADD, pidfd, &event))
		while ((n = epoll_wait(set, &event, 1, TEST_RUN_LIMIT_MS)) < 0 && errno == EINTR)
			;
	if (n != 1)
		kill(pid, SIGKILL);
	reap(pid);
	return n == 1 ? 0 : -EINTR;
}

static bool dead_after_run(void *opaque, u64 tid)
{
	return false;
}

/* What a test run put out (bpftrace's BEGIN prints that way). */
static void deliver_all(struct ub_kprog *prog, struct ub_event_ring *ring)
{
	struct ub_event_reader *reader = ub_event_reader_new(ring, UB_EVENT_RING_SIZE, 0);
	struct ub_event event;

	while (reader && ub_event_read(reader, &event, dead_after_run, NULL) > 0)
		if ((event.kind == UB_EVENT_PRINTK || may_output_to(prog, event.map_id)) &&
		    !ub_kernel_deliver(prog->object.kernel, &event))
			ub_kernel_lost(prog->object.kernel, event.map_id, 1);
	ub_kernel_delivered(prog->object.kernel);
	ub_event_reader_free(reader);
}

int ub_worker_run_once(struct ub_kprog *prog, void *ctx, u32 ctx_size, u32 pointers, u32 repeat,
		       u32 *retval, u32 *duration_ns)
{
	size_t size = sizeof(struct test_run) + ctx_size;
	struct test_run *test =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	u64 ring_size = ub_event_ring_size(UB_EVENT_RING_SIZE);
	struct ub_event_ring *ring;
	pid_t parent = getpid();
	pid_t pid;
	int err;

	if (test == MAP_FAILED)
		return -ENOMEM;
	ring = mmap(NULL, ring_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ring == MAP_FAILED) {
		munmap(test, size);
		return -ENOMEM;
	}
	ub_event_ring_format(ring, UB_EVENT_RING_SIZE);
	if (ctx_size)
		memcpy(test->ctx, ctx, ctx_size);
	if (pointers) {
		struct ub_packet_pointers *packet = (void *)(test->ctx + pointers);

		packet->data += (u64)test->ctx;
		packet->data_end += (u64)test->ctx;
		packet->data_meta += (u64)test->ctx;
		packet->mac += (u64)test->ctx;
	}
	pid = fork();
	if (!pid) {
		drop_everything(-1, parent);
		test_run_inside(test, prog, ring, repeat ? repeat : 1);
	}
	err = pid < 0 ? -errno : wait_for(pid);
	if (!err && !test->done)
		err = -EFAULT; /* it crashed */
	if (!err) {
		if (ctx_size)
			memcpy(ctx, test->ctx, ctx_size);
		*retval = test->retval;
		*duration_ns = test->duration_ns;
	}
	deliver_all(prog, ring);
	munmap(ring, ring_size);
	munmap(test, size);
	return err;
}
