// SPDX-License-Identifier: MIT
/* BPF_PROG_TEST_RUN: kernel/bpf/syscall.c and net/bpf/test_run.c. */
#include <kernel/kinds.h>
#include <kernel/worker.h>

#include <string.h>

#include <program/context.h>

#define ENOTSUPP     524
#define MAX_RAW_ARGS 12 /* MAX_BPF_FUNC_ARGS */
#define ETH_HLEN     14
#define MAX_PACKET   3520 /* a page less head and tail room */
#define RUN_ON_CPU   1u	  /* BPF_F_TEST_RUN_ON_CPU */

static int copy_ctx(struct ub_caller *c, const union bpf_attr *a, void *ctx)
{
	return a->test.ctx_size_in ? c->read(c, a->test.ctx_in, ctx, a->test.ctx_size_in) : 0;
}

/* Bytes of context that the program reads, from word granularity. */
static u32 context_used(const struct ub_kprog *prog)
{
	u64 words = prog->program->ctx.words;

	return words ? (64 - (u32)__builtin_clzll(words)) * 8 : 0;
}

static s64 run_raw_tracepoint(struct ub_kprog *prog, struct ub_caller *c, struct ub_attr *attr)
{
	union bpf_attr *a = &attr->a;
	u64 ctx[MAX_RAW_ARGS] = { 0 };
	u32 duration;
	int err;

	if (a->test.data_in || a->test.data_out || a->test.ctx_out || a->test.duration ||
	    a->test.repeat || a->test.batch_size)
		return -EINVAL;
	if (a->test.ctx_size_in < context_used(prog) || a->test.ctx_size_in > sizeof(ctx))
		return -EINVAL;
	if (a->test.flags & ~RUN_ON_CPU || (!(a->test.flags & RUN_ON_CPU) && a->test.cpu))
		return -EINVAL;
	if (a->test.cpu >= prog->object.kernel->nr_cpus)
		return -ENXIO;
	err = copy_ctx(c, a, ctx);
	if (!err)
		err = ub_worker_run_once(prog, ctx, sizeof(ctx), 0, 1, &a->test.retval, &duration);
	return err ? err : UB_ATTR_WRITE(attr, c, test.retval);
}

static s64 run_syscall(struct ub_kprog *prog, struct ub_caller *c, struct ub_attr *attr)
{
	union bpf_attr *a = &attr->a;
	u32 size = a->test.ctx_size_in, duration;
	_cleanup_free_ void *ctx = NULL;
	int err;

	if (a->test.data_in || a->test.data_out || a->test.ctx_out || a->test.duration ||
	    a->test.repeat || a->test.flags || a->test.batch_size)
		return -EINVAL;
	if (size < context_used(prog) || size > UINT16_MAX)
		return -EINVAL;
	ctx = calloc(1, size + 8);
	if (!ctx)
		return -ENOMEM;
	err = copy_ctx(c, a, ctx);
	if (!err)
		err = ub_worker_run_once(prog, ctx, size, 0, 1, &a->test.retval, &duration);
	if (err)
		return err;
	if (size && c->write(c, a->test.ctx_in, ctx, size))
		return -EFAULT;
	return UB_ATTR_WRITE(attr, c, test.retval);
}

/* A context and, behind it, the packet: what the worker maps as one piece. */
struct packet_run {
	union {
		struct ub_skb_context skb;
		struct ub_xdp_context xdp;
	};
	u8 packet[MAX_PACKET];
};

/* As Linux prepares them: XDP and classifiers see the Ethernet header, the others do not. */
static u32 prepare_packet(struct packet_run *run, enum bpf_prog_type type, u32 size)
{
	const u32 packet = offsetof(struct packet_run, packet);
	const u32 skip = type == BPF_PROG_TYPE_XDP || type == BPF_PROG_TYPE_SCHED_CLS ||
					 type == BPF_PROG_TYPE_SCHED_ACT
				 ? 0
				 : ETH_HLEN;
	struct ub_packet_pointers pointers = { .data = packet + skip, .data_end = packet + size };

	pointers.data_meta = pointers.data;
	pointers.mac = packet;
	if (type == BPF_PROG_TYPE_XDP) {
		run->xdp.pointers = pointers;
		return offsetof(struct packet_run, xdp.pointers);
	}
	run->skb.skb.len = size - skip;
	run->skb.pointers = pointers;
	return offsetof(struct packet_run, skb.pointers);
}

static s64 run_packet(struct ub_kprog *prog, struct ub_caller *c, struct ub_attr *attr)
{
	union bpf_attr *a = &attr->a;
	enum bpf_prog_type type = prog->program->type;
	_cleanup_free_ struct packet_run *run = NULL;
	u32 size = a->test.data_size_in, room = a->test.data_size_out, pointers;
	u32 view = type == BPF_PROG_TYPE_XDP ? sizeof(struct xdp_md) : sizeof(struct __sk_buff);
	int err;

	if (a->test.flags || a->test.cpu || a->test.batch_size)
		return -EINVAL;
	if (size < ETH_HLEN || size > MAX_PACKET || a->test.ctx_size_in > view)
		return -EINVAL;
	run = calloc(1, sizeof(*run));
	if (!run)
		return -ENOMEM;
	err = c->read(c, a->test.data_in, run->packet, size);
	if (!err)
		err = copy_ctx(c, a, run);
	pointers = prepare_packet(run, type, size);
	if (!err)
		err = ub_worker_run_once(prog, run, offsetof(struct packet_run, packet) + size,
					 pointers, a->test.repeat, &a->test.retval,
					 &a->test.duration);
	if (err)
		return err;
	a->test.data_size_out = size;
	if (a->test.data_out) {
		u32 copy = room && room < size ? room : size;

		if (c->write(c, a->test.data_out, run->packet, copy))
			return -EFAULT;
		err = copy < size ? -ENOSPC : 0;
	}
	if (UB_ATTR_WRITE(attr, c, test.data_size_out) || UB_ATTR_WRITE(attr, c, test.retval) ||
	    UB_ATTR_WRITE(attr, c, test.duration))
		return -EFAULT;
	return err;
}

s64 ub_cmd_prog_test_run(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *attr)
{
	const union bpf_attr *a = &attr->a;
	struct ub_object *object;
	int err;

	if (!ub_attr_tail_zero(attr, UB_ATTR_END(test.batch_size)))
		return -EINVAL;
	if (!a->test.ctx_size_in != !a->test.ctx_in || !a->test.ctx_size_out != !a->test.ctx_out)
		return -EINVAL;
	err = ub_file_object(k, c, (s32)a->test.prog_fd, UB_KIND_PROG, &object);
	if (err)
		return err;
	switch (ub_to_prog(object)->program->type) {
	case BPF_PROG_TYPE_RAW_TRACEPOINT:
		return run_raw_tracepoint(ub_to_prog(object), c, attr);
	case BPF_PROG_TYPE_SYSCALL:
		return run_syscall(ub_to_prog(object), c, attr);
	case BPF_PROG_TYPE_SOCKET_FILTER:
	case BPF_PROG_TYPE_SCHED_CLS:
	case BPF_PROG_TYPE_SCHED_ACT:
	case BPF_PROG_TYPE_XDP:
	case BPF_PROG_TYPE_CGROUP_SKB:
	case BPF_PROG_TYPE_LWT_IN:
	case BPF_PROG_TYPE_LWT_OUT:
	case BPF_PROG_TYPE_LWT_XMIT:
		return run_packet(ub_to_prog(object), c, attr);
	default: /* kprobe, tracepoint, perf_event: no such thing on Linux either */
		return -ENOTSUPP;
	}
}
