// SPDX-License-Identifier: MIT
/*
 * A hostile client: random calls on random arguments, and one that rewrites its arguments while
 * they are read. Whatever comes back, the kernel must live, and afterwards hold nothing.
 *
 * usage: fuzz [calls [seed]]
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/btf.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/btf.h>

#include "harness.h"

#define NR_FDS 48

static struct harness h;
static u64 state = 88172645463325252ull;
static int fds[NR_FDS]; /* of the client's, or -1 */
#define ARENA (1u << 16)
static u8 *arena; /* with nothing behind it */
static u64 btf_blob, btf_size;
static int set; /* the client's epoll set */

static u64 rnd(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static u32 below(u32 n)
{
	return (u32)(rnd() % n);
}

static int any_fd(void)
{
	int fd = fds[below(NR_FDS)];

	switch (below(16)) {
	case 0:
		return -1;
	case 1:
		return (int)below(8);
	case 2:
		return (int)rnd();
	default:
		return fd;
	}
}

static u64 any_address(void)
{
	switch (below(10)) {
	case 0:
		return 0;
	case 1:
		return 8;
	case 2:
		return rnd();
	case 3: /* the end of what can be read */
		return (u64)arena + ARENA - below(64);
	default:
		return (u64)arena + below(ARENA / 2);
	}
}

static u64 any_number(void)
{
	switch (below(8)) {
	case 0:
		return 0;
	case 1:
		return rnd();
	case 2:
		return (u32)rnd();
	case 3:
		return 1ull << below(64);
	default:
		return below(40);
	}
}

static void keep(s64 result, bool is_fd)
{
	u32 slot = below(NR_FDS);

	if (!is_fd || result < 3)
		return;
	if (fds[slot] >= 0)
		close(fds[slot]);
	fds[slot] = (int)result;
}

static bool returns_fd(u32 cmd)
{
	return cmd == BPF_MAP_CREATE || cmd == BPF_PROG_LOAD || cmd == BPF_OBJ_GET ||
	       cmd == BPF_BTF_LOAD || cmd == BPF_LINK_CREATE || cmd == BPF_ENABLE_STATS ||
	       cmd == BPF_PROG_GET_FD_BY_ID || cmd == BPF_MAP_GET_FD_BY_ID ||
	       cmd == BPF_BTF_GET_FD_BY_ID || cmd == BPF_LINK_GET_FD_BY_ID;
}

/* Starts from something that may well work, so that deeper code is reached too. */
static void plausible(u32 cmd, union bpf_attr *attr)
{
	switch (cmd) {
	case BPF_MAP_CREATE:
		attr->map_type = below(32);
		attr->key_size = below(3) ? 4 : below(600);
		attr->value_size = below(3) ? 8 : below(600);
		attr->max_entries = below(3) ? 1 + below(64) : 4096u << below(4);
		attr->map_flags = below(4) ? 0 : (u32)any_number();
		attr->inner_map_fd = (u32)any_fd();
		attr->btf_fd = (u32)any_fd();
		if (!below(4))
			attr->btf_value_type_id = below(6);
		break;
	case BPF_PROG_LOAD:
		attr->prog_type = below(3) ? BPF_PROG_TYPE_KPROBE : below(34);
		attr->insns = (u64)arena;
		attr->insn_cnt = 2;
		attr->license = (u64) "GPL";
		attr->prog_btf_fd = (u32)any_fd();
		attr->log_level = below(3);
		if (attr->log_level) {
			attr->log_buf = any_address();
			attr->log_size = below(4096);
		}
		if (!below(3)) {
			attr->func_info = any_address();
			attr->func_info_cnt = below(4);
			attr->func_info_rec_size = below(3) ? 8 : below(300);
		}
		break;
	case BPF_BTF_LOAD:
		attr->btf = btf_blob;
		attr->btf_size = (u32)btf_size;
		break;
	case BPF_LINK_CREATE:
		attr->link_create.prog_fd = (u32)any_fd();
		attr->link_create.target_fd = (u32)any_fd();
		attr->link_create.attach_type = below(2) ? BPF_PERF_EVENT : 48;
		((u64 *)attr)[2] = below(2) ? (u64) "/proc/self/exe" : any_address();
		((u64 *)attr)[3] = any_address();
		((u32 *)attr)[12] = below(2) ? below(20) : 0;
		break;
	case BPF_OBJ_GET_INFO_BY_FD:
		attr->info.bpf_fd = (u32)any_fd();
		attr->info.info_len = below(300);
		attr->info.info = any_address();
		break;
	case BPF_MAP_LOOKUP_BATCH:
	case BPF_MAP_LOOKUP_AND_DELETE_BATCH:
	case BPF_MAP_UPDATE_BATCH:
	case BPF_MAP_DELETE_BATCH:
		attr->batch.map_fd = (u32)any_fd();
		attr->batch.keys = any_address();
		attr->batch.values = any_address();
		attr->batch.in_batch = below(2) ? 0 : any_address();
		attr->batch.out_batch = any_address();
		attr->batch.count = below(100);
		break;
	case BPF_OBJ_PIN:
	case BPF_OBJ_GET:
		attr->pathname = below(3) ? (u64) "/sys/fs/bpf/fuzz" : any_address();
		attr->bpf_fd = cmd == BPF_OBJ_PIN ? (u32)any_fd() : 0;
		break;
	case BPF_TASK_FD_QUERY:
		attr->task_fd_query.pid = (u32)getpid();
		attr->task_fd_query.fd = (u32)any_fd();
		attr->task_fd_query.buf = any_address();
		attr->task_fd_query.buf_len = below(100);
		break;
	default:
		attr->map_fd = (u32)any_fd();
		attr->key = any_address();
		attr->value = any_address();
		attr->flags = below(2) ? 0 : any_number();
	}
}

static void one_bpf(void)
{
	union bpf_attr *attr = (void *)(arena + ARENA / 2 + below(16) * 8);
	u32 cmd = below(60) ? below(38) : (u32)rnd(), size = sizeof(*attr);

	/* Runs of programs are processes: other tests have them. */
	if (cmd == BPF_PROG_TEST_RUN && below(50))
		return;
	memset(attr, 0, sizeof(*attr));
	plausible(cmd, attr);
	for (u32 i = below(3); i-- > 0 && below(2);)
		((u8 *)attr)[below(sizeof(*attr))] = (u8)rnd();
	if (!below(10))
		size = (u32)any_number();
	keep(harness_bpf(&h, cmd, attr, size), returns_fd(cmd));
}

static void one_perf(void)
{
	struct perf_event_attr *attr = (void *)(arena + ARENA / 2);

	memset(attr, 0, sizeof(*attr));
	attr->size = below(4) ? sizeof(*attr) : (u32)any_number();
	attr->type = below(3) ? ub_kernel_uprobe_type(h.kernel) : below(3) ? 1 : (u32)any_number();
	attr->config = below(2) ? below(11) : any_number();
	attr->config1 = below(3) ? (u64) "/proc/self/exe" : any_address();
	attr->config2 = below(2) ? 0x100 : any_number();
	attr->disabled = below(2);
	attr->freq = below(2);
	attr->sample_period = below(2) ? 0 : any_number();
	if (!below(5))
		((u8 *)attr)[below(sizeof(*attr))] = (u8)rnd();
	keep(harness_call(&h, SYS_perf_event_open, (u64)attr,
			  below(2)   ? (u64)-1
			  : below(2) ? 0
				     : any_number(),
			  below(2) ? 0 : any_number(), (u64)-1, below(3) ? 8 : any_number(), 0),
	     true);
}

static void one_ioctl(void)
{
	static const u32 cmds[] = { PERF_EVENT_IOC_ENABLE,	PERF_EVENT_IOC_DISABLE,
				    PERF_EVENT_IOC_SET_BPF,	PERF_EVENT_IOC_ID,
				    PERF_EVENT_IOC_PERIOD,	PERF_EVENT_IOC_QUERY_BPF,
				    PERF_EVENT_IOC_PAUSE_OUTPUT };

	harness_call(&h, SYS_ioctl, (u64)any_fd(), below(9) ? cmds[below(7)] : rnd(),
		     below(2) ? (u64)any_fd() : any_address(), 0, 0, 0);
}

static void one_other(void)
{
	u8 data[300];
	struct ub_event event = { .kind = below(5),
				  .map_id = below(2000),
				  .size = below(300),
				  .cpu = below(4),
				  .data = data,
				  .wakeup = below(4) };
	char text[600];

	memset(data, (int)rnd(), sizeof(data));
	switch (below(6)) {
	case 0:
		ub_kernel_deliver(h.kernel, &event);
		ub_kernel_delivered(h.kernel);
		break;
	case 1:
		ub_kernel_lost(h.kernel, below(2000), rnd());
		break;
	case 2:
		ub_kernel_fdinfo(h.kernel, &h.caller, any_fd(), text, sizeof(text));
		break;
	case 3:
		harness_call(&h, SYS_mmap, 0, any_number() * 4096, 3, MAP_SHARED, (u64)any_fd(), 0);
		break;
	case 4:
		/* Not into any small number: one of them is the kernel's own loop here. */
		harness_call(&h, SYS_epoll_ctl, (u64)(below(4) ? set : fds[below(NR_FDS)]),
			     1 + below(4), (u64)any_fd(), any_address(), 0, 0);
		break;
	default:
		if (!below(20))
			ub_kernel_session_end(h.kernel, 1);
		else
			harness_call(&h, (int)below(400), rnd(), rnd(), rnd(), rnd(), rnd(), rnd());
	}
}

/* Scribbles over the very bytes that are about to be read, as another thread of the client could.
 */
static void scribble(struct harness *harness, u64 address)
{
	if (address >= (u64)arena && address < (u64)arena + ARENA - 64 && !below(3))
		arena[address - (u64)arena + below(64)] ^= (u8)rnd();
}

static void make_arena(void)
{
	static const struct bpf_insn trivial[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K },
						   { .code = BPF_JMP | BPF_EXIT } };
	struct btf *btf = btf__new_empty();
	int id = btf__add_int(btf, "int", 4, 0);
	const void *data;
	u32 size;

	btf__add_ptr(btf, id);
	btf__add_struct(btf, "pair", 8);
	btf__add_field(btf, "a", id, 0, 0);
	btf__add_field(btf, "b", id, 32, 0);
	btf__add_func_proto(btf, id);
	btf__add_func(btf, "f", BTF_FUNC_STATIC, 4);
	data = btf__raw_data(btf, &size);
	for (u32 i = 0; i < ARENA; i++)
		arena[i] = (u8)rnd();
	memcpy(arena, trivial, sizeof(trivial));
	memcpy(arena + 4096, data, size);
	btf_blob = (u64)arena + 4096;
	btf_size = size;
	btf__free(btf);
}

static u32 open_fds(void)
{
	u32 n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

int main(int argc, char **argv)
{
	u32 calls = argc > 1 ? (u32)atoi(argv[1]) : 100000;
	struct rlimit limit = { 1024, 1024 };
	u32 before;

	if (argc > 2)
		state ^= (u64)atoll(argv[2]) * 0x9e3779b97f4a7c15ull;
	setrlimit(RLIMIT_NOFILE, &limit); /* a lack of fds must be survived as well */
	for (u32 i = 0; i < NR_FDS; i++)
		fds[i] = -1;
	arena = mmap(NULL, ARENA + 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	if (arena == MAP_FAILED || mprotect(arena + ARENA, 65536, PROT_NONE))
		return 1;
	make_arena();
	set = epoll_create1(EPOLL_CLOEXEC);
	before = open_fds();
	harness_init(&h);
	for (u32 i = 0; i < calls; i++) {
		h.before_read = i & 1024 ? scribble : NULL;
		switch (below(12)) {
		case 0:
			one_perf();
			break;
		case 1:
			one_ioctl();
			break;
		case 2:
			one_other();
			break;
		default:
			one_bpf();
		}
		if (i % 256 == 0) {
			make_arena();
			harness_pump(&h);
		}
	}
	for (u32 i = 0; i < NR_FDS; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	ub_kernel_session_end(h.kernel, 1);
	if (!harness_wait_objects(&h, 0)) {
		printf("%u objects outlive their files\n", ub_kernel_objects(h.kernel));
		return 1;
	}
	if (h.nr_views) {
		printf("%u links are attached still\n", h.nr_views);
		return 1;
	}
	harness_exit(&h);
	if (open_fds() != before) {
		printf("%u fds before, %u after\n", before, open_fds());
		return 1;
	}
	printf("%u calls survived\n", calls);
	return 0;
}
