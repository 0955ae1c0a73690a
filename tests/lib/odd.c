/* SPDX-License-Identifier: MIT */
/*
 * Processes that make it hard to be operated on. `ubpf-odd-victim CASE`; each says "ready" when it
 * is, and some wait for a line on their standard input before they do what they are for. Never
 * built with sanitizers.
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

static void wait_for_line(void)
{
	char byte = 0;

	while (byte != '\n') {
		if (read(STDIN_FILENO, &byte, 1) != 1)
			_exit(9);
	}
}

static void allocate(void)
{
	void *volatile p = malloc(20);

	free(p);
}

static void begin(void)
{
	allocate(); /* the heap is there now */
	if (write(STDOUT_FILENO, "ready\n", 6) != 6)
		_exit(9);
}

static void *spinner(void *opaque)
{
	for (;;)
		allocate();
	return NULL;
}

/* Executes itself again and again, with threads running. */
static void exec_loop(int left)
{
	char count[16];
	pthread_t threads[3];

	if (!left) {
		begin();
		for (;;)
			pause();
	}
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, spinner, NULL);
	usleep(left % 7 * 200);
	snprintf(count, sizeof(count), "%d", left - 1);
	execl("/proc/self/exe", "ubpf-odd-victim", "exec", count, NULL);
	_exit(9);
}

static void *one_allocation(void *opaque)
{
	allocate();
	return NULL;
}

static void *creates_threads(void *opaque)
{
	for (;;) {
		pthread_t t;

		if (!pthread_create(&t, NULL, one_allocation, NULL))
			pthread_join(t, NULL);
	}
	return NULL;
}

static void churn(void *opaque)
{
	pthread_t t;

	for (int i = 0; i < 3; i++)
		pthread_create(&t, NULL, creates_threads, NULL);
	begin();
	creates_threads(NULL);
}

extern char **environ;

static void *forks(void *opaque)
{
	static volatile unsigned int i;

	for (;; i++) {
		char *argv[] = { "true", NULL };
		pid_t pid = 0;

		switch (i % 3) {
		case 0:
			pid = fork();
			if (!pid) {
				allocate();
				_exit(0);
			}
			break;
		case 1:
			pid = vfork();
			if (!pid) {
				allocate();
				_exit(0);
			}
			break;
		case 2:
			if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ))
				_exit(8);
			break;
		}
		if (waitpid(pid, (int[]) { 0 }, 0) != pid)
			_exit(9);
	}
}

static void forker(void *opaque)
{
	pthread_t t;

	pthread_create(&t, NULL, forks, NULL);
	pthread_create(&t, NULL, spinner, NULL);
	begin();
	forks(NULL);
}

/* A vfork child that lives long: its parent can't be stopped, and runs nothing. */
static void long_vfork(void *opaque)
{
	pthread_t t;

	pthread_create(&t, NULL, spinner, NULL);
	begin();
	if (!vfork()) {
		for (;;)
			allocate();
	}
}

static void leaves_threads(void *opaque)
{
	pthread_t t;

	pthread_create(&t, NULL, spinner, NULL);
	pthread_create(&t, NULL, spinner, NULL);
	begin();
	wait_for_line();
	pthread_exit(NULL);
}

static void install_filter(struct sock_filter *filter, size_t nr, unsigned int flags)
{
	struct sock_fprog program = { (unsigned short)nr, filter };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program))
		_exit(9);
}

/* Kills for every call but @one and what every program makes. */
static void allow_only(int one, unsigned int flags)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)one, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	install_filter(filter, sizeof(filter) / sizeof(filter[0]), flags);
}

/* Kills for every call but those the spinner makes. */
static void sandbox(void)
{
	allocate();
	allow_only(SYS_nanosleep, 0);
}

/* Sleeps most of the time: who is stopped then may be continued by restart_syscall(2), which the
 * filter does not allow. */
static void __attribute__((noreturn)) live_sandboxed(void)
{
	for (;;) {
		const struct timespec t = { 0, 1000000 };

		allocate();
		/* Its filter kills it for that. */
		if (syscall(SYS_nanosleep, &t, NULL))
			_exit(9);
	}
}

static void sandboxed(void *opaque)
{
	sandbox();
	(void)!write(STDOUT_FILENO, "ready\n", 6);
	live_sandboxed();
}

static void sandboxed_nobody(void *opaque)
{
	if (setgid(65534) || setuid(65534))
		_exit(9);
	prctl(PR_SET_DUMPABLE, 1);
	sandboxed(NULL);
}

static void sandboxed_later(void *opaque)
{
	if (!geteuid() && (setgid(65534) || setuid(65534)))
		_exit(9);
	prctl(PR_SET_DUMPABLE, 1);
	begin();
	for (int i = 0; i < 1000; i++)
		allocate();
	wait_for_line(); /* somebody has attached */
	sandbox();
	(void)!write(STDOUT_FILENO, "sandboxed\n", 10);
	live_sandboxed();
}

static void no_descriptors(void *opaque)
{
	struct rlimit limit = { 64, 256 };

	setrlimit(RLIMIT_NOFILE, &limit);
	while (dup(0) >= 0)
		;
	begin();
	spinner(NULL);
}

/* Loads a library, calls it, unloads it, as it is told. */
static void libraries(void *opaque)
{
	void *library = NULL;
	char line[32];

	begin();
	while (fgets(line, sizeof(line), stdin)) {
		double (*fn)(double);

		if (!strcmp(line, "open\n"))
			library = dlopen("libm.so.6", RTLD_NOW);
		fn = library ? (double (*)(double))dlsym(library, "cbrt") : NULL;
		for (int i = 0; i < 10 && fn && !strcmp(line, "call\n"); i++)
			fn(i);
		if (!strcmp(line, "close\n") && library && dlclose(library))
			_exit(9);
		printf("%s", line);
		fflush(stdout);
	}
	_exit(0);
}

static ucontext_t *taken;
static _Atomic bool has_returned;

static void take_frame(int signo, siginfo_t *info, void *context)
{
	taken = context;
}

static void *takes_frame(void *stack)
{
	const stack_t alternate = { .ss_sp = stack, .ss_size = 65536 };
	const struct sigaction action = { .sa_sigaction = take_frame,
					  .sa_flags = SA_ONSTACK | SA_SIGINFO };

	if (sigaltstack(&alternate, NULL) || sigaction(SIGUSR2, &action, NULL) ||
	    pthread_kill(pthread_self(), SIGUSR2))
		_exit(9);
	has_returned = true;
	for (;;)
		pause();
}

/* A thread whose alternate stack lies right behind its stack, and holds a frame by which nobody
 * will return: says where that has its instruction pointer. */
static void stale_frame(void *opaque)
{
	char *stack =
		mmap(NULL, 1 << 17, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	if (stack == MAP_FAILED || pthread_attr_setstack(&attr, stack, 65536) ||
	    pthread_create(&thread, &attr, takes_frame, stack + 65536))
		_exit(9);
	while (!has_returned)
		usleep(1000);
	dprintf(STDOUT_FILENO, "%p\n", (void *)&taken->uc_mcontext.gregs[REG_RIP]);
	spinner(NULL);
}

static void locked(void *opaque)
{
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		dprintf(STDOUT_FILENO, "cannot lock\n");
	else
		begin();
	spinner(NULL);
}

static void as_nobody(void *opaque)
{
	if (setgid(65534) || setuid(65534))
		_exit(9);
	prctl(PR_SET_DUMPABLE, 1);
	begin();
	spinner(NULL);
}

#define NR_QUEUED 20000

static _Atomic int nr_taken, nr_wrong;

static void on_queued(int signo, siginfo_t *info, void *context)
{
	static int expected[2];
	int i = signo - SIGRTMIN;

	/* Real-time signals come in order, each once, with what was sent. */
	if (info->si_code != SI_QUEUE || info->si_value.sival_int != expected[i])
		nr_wrong++;
	expected[i] = info->si_value.sival_int + 1;
	nr_taken++;
}

static void takes_signals(void *opaque)
{
	struct sigaction action = { .sa_sigaction = on_queued,
				    .sa_flags = SA_SIGINFO | SA_RESTART };

	sigfillset(&action.sa_mask);
	sigaction(SIGRTMIN, &action, NULL);
	sigaction(SIGRTMIN + 1, &action, NULL);
	begin();
	while (nr_taken < 2 * NR_QUEUED)
		allocate();
	dprintf(STDOUT_FILENO, "%d taken, %d wrong\n", nr_taken, nr_wrong);
	for (;;)
		pause();
}

static void undumpable(void *opaque)
{
	if (setgid(65534) || setuid(65534))
		_exit(9);
	prctl(PR_SET_DUMPABLE, 0);
	begin();
	for (;;)
		pause();
}

/* Not one byte more may be locked. */
static void locked_to_the_limit(void *opaque)
{
	struct rlimit none = { 0, 0 };

	if (mlockall(MCL_CURRENT | MCL_FUTURE)) {
		dprintf(STDOUT_FILENO, "cannot lock\n");
		pause();
	}
	(void)!write(STDOUT_FILENO, "ready\n", 6);
	/* Privileged processes have no limit. */
	if (!geteuid() && (setrlimit(RLIMIT_MEMLOCK, &none) || setgid(65534) || setuid(65534)))
		_exit(9);
	prctl(PR_SET_DUMPABLE, 1);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* forgotten by setuid() */
	(void)!write(STDOUT_FILENO, "locked\n", 7);
	for (;;)
		pause();
}

static char coroutine_stack[65536];
static ucontext_t main_context, coroutine_context;

static void in_coroutine(void)
{
	begin();
	wait_for_line();
	swapcontext(&coroutine_context, &main_context);
}

/* Switches to another stack with its own used up to the last page, and looks at it afterwards. */
static void deep_stack(void *opaque)
{
	static volatile unsigned int wrong;
	enum { DEPTH = 1 << 20 };
	volatile unsigned char used[DEPTH];

	for (unsigned int i = 0; i < DEPTH; i++)
		used[i] = i % 251;
	getcontext(&coroutine_context);
	coroutine_context.uc_stack.ss_sp = coroutine_stack;
	coroutine_context.uc_stack.ss_size = sizeof(coroutine_stack);
	makecontext(&coroutine_context, in_coroutine, 0);
	swapcontext(&main_context, &coroutine_context);
	for (unsigned int i = 0; i < DEPTH; i++)
		wrong += used[i] != i % 251;
	dprintf(STDOUT_FILENO, "%u wrong\n", wrong);
	for (;;)
		pause();
}

static volatile char dispatcher;

/* Whatever system call it makes from here on is a SIGSYS, but for those of its handler. */
static void dispatched(void *opaque)
{
	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &dispatcher)) {
		dprintf(STDOUT_FILENO, "no dispatch\n");
		pause();
	}
	begin();
	dispatcher = 1;
	for (;;)
		;
}

static void *sandboxed_thread(void *opaque)
{
	sandboxed(NULL);
	return NULL;
}

/* A thread under a filter, and a main thread, under none, that is blocked for long. */
static void sandboxed_thread_only(void *opaque)
{
	pthread_t thread;

	pthread_create(&thread, NULL, sandboxed_thread, NULL);
	if (!vfork()) {
		syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
		syscall(SYS_pause);
		_exit(0);
	}
	pause();
}

static _Atomic long nr_escaped;

static void *call_forbidden(void *opaque)
{
	for (;;) {
		allocate();
		for (int i = 0; i < 1000; i++)
			nr_escaped += syscall(SYS_getppid) >= 0;
	}
	return opaque;
}

/* Threads that make a call which fails by their filter; says how often it did not. */
static void makes_forbidden_calls(void *opaque)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	pthread_t thread;

	install_filter(filter, sizeof(filter) / sizeof(filter[0]), 0);
	for (int i = 0; i < 4; i++)
		pthread_create(&thread, NULL, call_forbidden, NULL);
	begin();
	wait_for_line();
	dprintf(STDOUT_FILENO, "%ld escaped\n", nr_escaped);
	for (;;)
		pause();
}

/* Says the pid of a child that has ended and whom nobody waits for. */
static void has_zombie(void *opaque)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	if (waitid(P_PID, pid, &(siginfo_t) { 0 }, WEXITED | WNOWAIT))
		_exit(9);
	dprintf(STDOUT_FILENO, "zombie %d\n", pid);
	for (;;)
		pause();
}

/* --- strict ----------------------------------------------------------------------------------- */

#define NR_STRICT 4 /* threads, the main one among them */

static int orders[NR_STRICT][2], answers[2];

void __attribute__((noinline)) ubpf_odd_function(const char *heap, const char *stack);
void ubpf_odd_function(const char *heap, const char *stack)
{
	__asm__ volatile("" ::"r"(heap), "r"(stack) : "memory");
}

static void work(unsigned int nr, const char *heap)
{
	char stack[16] = "on the stack";

	for (unsigned int i = 0; i < nr; i++)
		ubpf_odd_function(heap, stack);
}

static void wait_for_workers(void)
{
	char byte;

	for (int i = 1; i < NR_STRICT; i++) {
		if (read(answers[0], &byte, 1) != 1)
			_exit(9);
	}
}

static void *strict_worker(void *opaque)
{
	const int order = orders[(long)opaque][0];
	char *heap = strdup("on the heap....");
	unsigned int nr;

	/* The first answer: it needs nothing more than it is allowed. */
	for (nr = 0; write(answers[1], "", 1) == 1; work(nr, heap)) {
		if (read(order, &nr, sizeof(nr)) != sizeof(nr))
			break;
	}
	_exit(9);
}

/* All threads may read and write, and are killed for anything else. */
static void strict_sandbox(void)
{
	allow_only(SYS_read, SECCOMP_FILTER_FLAG_TSYNC);
}

/* Another one that answers for what it does not want, as container engines' do. */
static void lenient_sandbox(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_unshare, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, CLONE_NEWUSER),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	install_filter(filter, sizeof(filter) / sizeof(filter[0]), SECCOMP_FILTER_FLAG_TSYNC);
}

static bool read_line(char *line, size_t size)
{
	for (size_t n = 0; n < size; n++) {
		if (read(STDIN_FILENO, line + n, 1) != 1)
			return false;
		if (line[n] != '\n')
			continue;
		line[n] = '\0';
		return true;
	}
	return false;
}

/*
 * "sandbox" and "lenient" put it under filters, "NR": every thread calls ubpf_odd_function() so
 * often. Says "done" after each.
 */
static void strict(void *opaque)
{
	char *heap = strdup("on the heap....");
	char line[32];
	pthread_t thread;

	if (pipe(answers))
		_exit(9);
	for (long i = 1; i < NR_STRICT; i++) {
		if (pipe(orders[i]) || pthread_create(&thread, NULL, strict_worker, (void *)i))
			_exit(9);
	}
	wait_for_workers();
	begin();
	while (read_line(line, sizeof(line))) {
		unsigned int nr = 0;

		if (!strcmp(line, "sandbox"))
			strict_sandbox();
		if (!strcmp(line, "lenient"))
			lenient_sandbox();
		for (const char *p = line; *p >= '0' && *p <= '9'; p++)
			nr = 10 * nr + (*p - '0');
		for (int i = 1; i < NR_STRICT && nr; i++) {
			if (write(orders[i][1], &nr, sizeof(nr)) != sizeof(nr))
				_exit(9);
		}
		work(nr, heap);
		if (nr)
			wait_for_workers();
		if (write(STDOUT_FILENO, "done\n", 5) != 5)
			_exit(9);
	}
}

static const struct {
	const char *name;
	void (*fn)(void *);
} cases[] = {
	{ "threads", churn },
	{ "forks", forker },
	{ "vfork", long_vfork },
	{ "leader-exits", leaves_threads },
	{ "sandboxed", sandboxed },
	{ "sandboxed-nobody", sandboxed_nobody },
	{ "sandboxed-later", sandboxed_later },
	{ "no-descriptors", no_descriptors },
	{ "libraries", libraries },
	{ "stale-frame", stale_frame },
	{ "locked", locked },
	{ "locked-to-the-limit", locked_to_the_limit },
	{ "deep-stack", deep_stack },
	{ "dispatched", dispatched },
	{ "sandboxed-thread", sandboxed_thread_only },
	{ "forbidden-calls", makes_forbidden_calls },
	{ "nobody", as_nobody },
	{ "signals", takes_signals },
	{ "undumpable", undumpable },
	{ "zombie", has_zombie },
	{ "strict", strict },
};

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "exec"))
		exec_loop(atoi(argv[2]));
	for (size_t i = 0; argc == 2 && i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (!strcmp(argv[1], cases[i].name))
			cases[i].fn(NULL);
	}
	fprintf(stderr, "usage: ubpf-odd-victim CASE\n");
	return 2;
}
