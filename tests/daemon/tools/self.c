// SPDX-License-Identifier: MIT
/*
 * A tool whose target is itself, in system calls alone: a uprobe on a function of its own (pid 0)
 * with a program that writes to a ring buffer and to trace_pipe. Says what poll, select and epoll
 * make of the ring at each step, so that the kernel's answers can be held beside it.
 *
 *   self NUMBER         which the program prints
 *   self --victim       calls its function for ever
 *   self --attach PID   probes that one's instead, and reads for ever
 *   self --cross        probes, again and again, the process whose number it reads, which does the same to it
 *   self --busy         makes one call after the other, from two threads
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <linux/perf_event.h>

#define PAGE   4096
#define RECORD 16 /* a header and eight bytes */

#define INSN(code, dst, src, off, imm) ((struct bpf_insn) { (code), (dst), (src), (off), (imm) })
#define MOV_REG(dst, src)	       INSN(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
#define MOV_IMM(dst, imm)	       INSN(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm)
#define ADD_IMM(dst, imm)	       INSN(BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, imm)
#define STORE_W(off, imm)	       INSN(BPF_ST | BPF_MEM | BPF_W, BPF_REG_10, 0, off, imm)
#define CALL(helper)		       INSN(BPF_JMP | BPF_CALL, 0, 0, 0, helper)

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static int bpf(int cmd, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static int load(int ring, int number)
{
	/* "own %d\n" */
	struct bpf_insn insns[] = {
		STORE_W(-8, number),
		STORE_W(-4, 0),
		INSN(BPF_LD | BPF_IMM | BPF_DW, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, ring),
		INSN(0, 0, 0, 0, 0),
		MOV_REG(BPF_REG_2, BPF_REG_10),
		ADD_IMM(BPF_REG_2, -8),
		MOV_IMM(BPF_REG_3, 8),
		MOV_IMM(BPF_REG_4, 0),
		CALL(BPF_FUNC_ringbuf_output),
		STORE_W(-16, 0x206e776f),
		STORE_W(-12, 0x000a6425),
		MOV_REG(BPF_REG_1, BPF_REG_10),
		ADD_IMM(BPF_REG_1, -16),
		MOV_IMM(BPF_REG_2, 8),
		MOV_IMM(BPF_REG_3, number),
		CALL(BPF_FUNC_trace_printk),
		MOV_IMM(BPF_REG_0, 0),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};
	union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_KPROBE,
				.insn_cnt = sizeof(insns) / sizeof(insns[0]),
				.insns = (uintptr_t)insns,
				.license = (uintptr_t) "GPL" };

	return bpf(BPF_PROG_LOAD, &attr);
}

__attribute__((noinline)) void fire(void)
{
	__asm__ volatile("nop; nop; nop; nop; nop");
}

/* Where @function lies in the file. */
static uint64_t offset_of(const void *function)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	uint64_t start, end, offset, at = (uintptr_t)function;
	char line[512];

	while (maps && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64, &start, &end, &offset) ==
			    3 &&
		    at >= start && at < end) {
			fclose(maps);
			return at - start + offset;
		}
	}
	exit(1);
}

#define MAX_LATE 5

static int attach(int prog, pid_t pid)
{
	struct perf_event_attr attr = { .size = sizeof(attr),
					.uprobe_path = (uintptr_t) "/proc/self/exe",
					.probe_offset = offset_of(fire) };
	FILE *file = fopen("/sys/bus/event_source/devices/uprobe/type", "re");
	int fd;

	if (!file || fscanf(file, "%u", &attr.type) != 1)
		die("uprobe/type");
	fclose(file);
	fd = (int)syscall(SYS_perf_event_open, &attr, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		die("uprobe");
	/* A thread that gets no CPU for seconds on a busy machine does not stop in time. */
	for (int tries = 0; ioctl(fd, PERF_EVENT_IOC_SET_BPF, prog); tries++) {
		if (errno != ETIMEDOUT || tries == MAX_LATE)
			die("uprobe");
	}
	for (int tries = 0; ioctl(fd, PERF_EVENT_IOC_ENABLE, 0); tries++) {
		if (errno != ETIMEDOUT || tries == MAX_LATE)
			die("uprobe");
	}
	return fd;
}

static int by_poll(int ring, int timeout)
{
	struct pollfd ready = { .fd = ring, .events = POLLIN };
	int n = poll(&ready, 1, timeout);

	return n == 1 ? ready.revents : n;
}

static int by_select(int ring)
{
	struct timeval none = { 0, 0 };
	fd_set set;

	FD_ZERO(&set);
	FD_SET(ring, &set);
	return select(ring + 1, &set, NULL, NULL, &none);
}

static void say(const char *when, int ring)
{
	struct epoll_event event = { .events = EPOLLIN };
	int set = epoll_create1(EPOLL_CLOEXEC);

	if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, ring, &event))
		die("epoll");
	printf("%s: poll %d, select %d, epoll %d\n", when, by_poll(ring, 0), by_select(ring),
	       epoll_wait(set, &event, 1, 0));
	close(set);
}

/* A record comes while poll() sleeps. */
static void say_woken(int ring)
{
	pid_t child = (pid_t)syscall(SYS_fork);

	if (child == 0) {
		/* A probe with a pid is not the child's. */
		fire();
		_exit(0);
	}
	printf("nobody: poll %d\n", by_poll(ring, 200));
}

/* On the userspace kernel records come one by one. */
static void await_records(const uint64_t *producer, uint64_t nr)
{
	while (__atomic_load_n(producer, __ATOMIC_ACQUIRE) < nr * RECORD)
		usleep(1000);
}

static int create_ring(void)
{
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_RINGBUF, .max_entries = PAGE };
	int ring = bpf(BPF_MAP_CREATE, &attr);

	if (ring < 0)
		die("BPF_MAP_CREATE");
	return ring;
}

static int be_victim(void)
{
	for (;;) {
		fire();
		usleep(1000);
	}
}

static int read_of(pid_t pid)
{
	int ring = create_ring(), prog = load(ring, 1);

	if (prog < 0)
		die("BPF_PROG_LOAD");
	attach(prog, pid);
	printf("reading\n");
	fflush(stdout);
	for (;;)
		by_poll(ring, 10);
}

static int cross(void)
{
	int ring = create_ring(), prog = load(ring, 1), pid = 0;

	if (prog < 0)
		die("BPF_PROG_LOAD");
	printf("ready %d\n", getpid());
	fflush(stdout);
	if (scanf("%d", &pid) != 1)
		return 1;
	for (int i = 0; i < 60; i++)
		close(attach(prog, pid));
	printf("done\n");
	fflush(stdout);
	/* The other may be at it. */
	return scanf("%d", &pid) == 1;
}

static void *look_up(void *map)
{
	uint32_t key = 1;
	uint64_t value;
	union bpf_attr attr = { .map_fd = (uint32_t)(intptr_t)map,
				.key = (uintptr_t)&key,
				.value = (uintptr_t)&value };

	while (bpf(BPF_MAP_LOOKUP_ELEM, &attr) == 0)
		fire();
	die("BPF_MAP_LOOKUP_ELEM");
	return NULL;
}

static int be_busy(void)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 4
	};
	void *map = (void *)(intptr_t)bpf(BPF_MAP_CREATE, &attr);
	pthread_t thread;

	if ((intptr_t)map < 0)
		die("BPF_MAP_CREATE");
	if (pthread_create(&thread, NULL, look_up, map))
		die("a thread");
	printf("busy\n");
	fflush(stdout);
	look_up(map);
	return 0;
}

int main(int argc, char **argv)
{
	int ring, copy, prog;
	uint64_t *consumer;
	const uint64_t *producer;

	if (argc > 1 && !strcmp(argv[1], "--victim"))
		return be_victim();
	if (argc > 1 && !strcmp(argv[1], "--busy"))
		return be_busy();
	if (argc > 1 && !strcmp(argv[1], "--cross"))
		return cross();
	if (argc > 2 && !strcmp(argv[1], "--attach"))
		return read_of(atoi(argv[2]));
	ring = create_ring();
	prog = load(ring, argc > 1 ? atoi(argv[1]) : 0);
	if (prog < 0)
		die("BPF_PROG_LOAD");
	attach(prog, 0);
	say("nothing written", ring);
	/* After it was polled it can still be mapped, and a duplicate be polled. */
	consumer = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring, 0);
	producer = mmap(NULL, 3 * PAGE, PROT_READ, MAP_SHARED, ring, PAGE);
	copy = dup(ring);
	if (consumer == MAP_FAILED || producer == MAP_FAILED || copy < 0)
		die("mmap");
	say_woken(ring);
	fire();
	printf("written: poll %d\n", by_poll(ring, 30000));
	say("unread", ring);
	say("duplicate", copy);
	printf("positions %" PRIu64 " %" PRIu64 "\n", *consumer, *producer);
	__atomic_store_n(consumer, *consumer + RECORD, __ATOMIC_RELEASE);
	say("read", copy);
	fire();
	fire();
	printf("written: poll %d\n", by_poll(copy, 30000));
	await_records(producer, 3);
	__atomic_store_n(consumer, *consumer + RECORD, __ATOMIC_RELEASE);
	say("one left", ring);
	__atomic_store_n(consumer, *consumer + RECORD, __ATOMIC_RELEASE);
	say("none left", ring);
	return 0;
}
