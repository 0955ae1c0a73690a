// SPDX-License-Identifier: MIT
/*
 * The process in which helpers are tried: for each line on its standard input, "main", "thread",
 * "vfork" or "rename", it calls both_probe() there and answers with a line. All that programs are
 * to find is in the argument.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "both.h"

#define PAGE	4096
#define REGULAR __attribute__((noinline, noclone))

extern char __executable_start[];

static struct both_input input;
static volatile sig_atomic_t nr_signals[2];

/* The kernel finds the caller of a function that starts by pushing the frame pointer. */
__asm__(".globl both_probe\n"
	".type both_probe, @function\n"
	"both_probe:\n"
	"push %rbp\n"
	"mov %rsp, %rbp\n"
	"pop %rbp\n"
	"ret\n"
	".size both_probe, . - both_probe\n");

void both_probe(struct both_input *with);

REGULAR static int inner(void)
{
	both_probe(&input);
	__asm__ volatile("");
	return 1;
}

REGULAR static int middle(void)
{
	return inner() + 1;
}

REGULAR static int outer(void)
{
	return middle() + 1;
}

/* In the very process that is to be seen. */
static void call(int round)
{
	input.round = (unsigned long long)round;
	input.pid_tgid =
		(unsigned long long)getpid() << 32 | (unsigned long long)syscall(SYS_gettid);
	prctl(PR_GET_NAME, input.comm);
	if (outer() != 3)
		abort();
}

static void *thread(void *unused)
{
	call(1);
	return unused;
}

static void on_signal(int signal)
{
	nr_signals[signal == SIGUSR2]++;
}

static char *pages(int nr)
{
	char *at = mmap(NULL, (size_t)nr * PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		abort();
	return at;
}

/* A page behind which there is nothing. */
static char *last_page(void)
{
	char *at = pages(3);

	munmap(at + PAGE, 2 * PAGE);
	return at;
}

static unsigned long long copy_at_end(const char *text, size_t size)
{
	return (unsigned long long)memcpy(last_page() + PAGE - size, text, size);
}

static void fill(void)
{
	char *hole = pages(4), *pair = pages(2), *page = pages(1);
	struct stat st;

	munmap(hole, 4 * PAGE);
	input.unmapped = (unsigned long long)hole + 2 * PAGE;
	strcpy(page, "read only");
	mprotect(page, PAGE, PROT_READ);
	input.read_only = (unsigned long long)page;
	input.text = (unsigned long long)strdup("hello, world");
	input.at_end = copy_at_end("fits", 5);
	input.cut = copy_at_end("cut", 3);
	memcpy(pair + PAGE - 8, "one page", 8);
	memcpy(pair + PAGE, "another", 8);
	input.across = (unsigned long long)pair + PAGE - 8;
	input.big = (unsigned long long)memset(malloc(8192), 'b', 8192);
	input.heap = (unsigned long long)calloc(1, 64);
	input.base = (unsigned long long)__executable_start;
	input.probe = (unsigned long long)both_probe;
	input.uid_gid = (unsigned long long)getgid() << 32 | getuid();
	if (!stat("/proc/self/ns/pid", &st)) {
		input.pidns_dev = st.st_dev;
		input.pidns_ino = st.st_ino;
	}
	/* Last: the others shall not take the place. */
	page = pages(1);
	mprotect(page, PAGE, PROT_NONE);
	input.forbidden = (unsigned long long)page;
}

int main(void)
{
	char line[64];
	pthread_t other;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGUSR1, on_signal);
	signal(SIGUSR2, on_signal);
	fill();
	printf("ready %d %llx\n", getpid(), input.base);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		if (!strcmp(line, "main")) {
			call(0);
		} else if (!strcmp(line, "thread")) {
			if (pthread_create(&other, NULL, thread, NULL))
				abort();
			pthread_join(other, NULL);
		} else if (!strcmp(line, "vfork")) {
			pid_t child = vfork();

			if (!child) {
				call(2);
				_exit(0);
			}
			if (child < 0 || waitpid(child, NULL, 0) < 0)
				abort();
		} else if (!strcmp(line, "rename")) {
			prctl(PR_SET_NAME, "a longer name than fits");
			call(3);
		}
		printf("done, %d + %d signals\n", nr_signals[0], nr_signals[1]);
		fflush(stdout);
	}
	return 0;
}
