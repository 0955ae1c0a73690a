/* SPDX-License-Identifier: MIT */
/*
 * Contexts: which words of r1's object a program of each type may read and write.
 */
#include <linux/bpf_perf_event.h>

#include <program/context.h>
#include <verifier/env.h>

#define PERF_MAX_TRACE_SIZE 8192
#define MAX_FUNC_ARGS	    12

#define FIELD(type, field, at)                                                                     \
	((at) >= (s32)offsetof(type, field) &&                                                     \
	 (at) < (s32)(offsetof(type, field) + sizeof(((type *)0)->field)))
#define SKB(field)    FIELD(struct __sk_buff, field, off)
#define SKB_IS(field) (off == (s32)offsetof(struct __sk_buff, field))

bool ub_ctx_known_type(enum bpf_prog_type type)
{
	switch (type) {
	case BPF_PROG_TYPE_KPROBE:
	case BPF_PROG_TYPE_TRACEPOINT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE:
	case BPF_PROG_TYPE_PERF_EVENT:
	case BPF_PROG_TYPE_SOCKET_FILTER:
	case BPF_PROG_TYPE_XDP:
	case BPF_PROG_TYPE_SCHED_CLS:
	case BPF_PROG_TYPE_SCHED_ACT:
	case BPF_PROG_TYPE_CGROUP_SKB:
	case BPF_PROG_TYPE_LWT_IN:
	case BPF_PROG_TYPE_LWT_OUT:
	case BPF_PROG_TYPE_LWT_XMIT:
	case BPF_PROG_TYPE_SK_SKB:
	case BPF_PROG_TYPE_SK_MSG:
	case BPF_PROG_TYPE_SYSCALL:
		return true;
	default:
		return false;
	}
}

static bool plain(s32 off, u32 size, bool write, s32 from, s32 to)
{
	return !write && off >= from && off + (s32)size <= to && off % (s32)size == 0;
}

static bool perf_event(s32 off, u32 size, bool write)
{
	s32 regs = sizeof(bpf_user_pt_regs_t);

	if (!plain(off, size, write, 0, sizeof(struct bpf_perf_event_data)))
		return false;
	return off >= regs || size == 8;
}

static bool skb_common(s32 off, u32 size, bool write, const struct ctx_access *access)
{
	if (off < 0 || off + (s32)size > (s32)sizeof(struct __sk_buff) || off % (s32)size)
		return false;
	if (SKB(cb))
		return off + size <= offsetof(struct __sk_buff, cb) + 20;
	if (SKB(data) || SKB(data_end) || SKB(data_meta))
		return size == 4 && !access->ldsx;
	if (SKB(remote_ip4) || SKB(local_ip4) || SKB(remote_ip6) || SKB(local_ip6))
		return size == 4;
	if (SKB(flow_keys) || SKB(sk))
		return false; /* pointers to kernel objects */
	if (SKB(tstamp))
		return size == 8;
	if (SKB(hwtstamp))
		return !write && size == 8;
	if (SKB(tstamp_type))
		return false;
	if (off > (s32)offsetof(struct __sk_buff, tstamp_type) &&
	    off < (s32)offsetof(struct __sk_buff, hwtstamp))
		return false; /* padding */
	return write ? size == 4 : size <= 4;
}

static bool skb_data_type(s32 off, struct ctx_access *access)
{
	if (SKB_IS(data))
		access->type = PTR_TO_PACKET;
	else if (SKB_IS(data_end))
		access->type = PTR_TO_PACKET_END;
	else if (SKB_IS(data_meta))
		access->type = PTR_TO_PACKET_META;
	return true;
}

static bool socket_filter(s32 off, u32 size, bool write, struct ctx_access *access)
{
	if (SKB(tc_classid) || SKB(data) || SKB(data_meta) || SKB(data_end) || SKB(tstamp) ||
	    SKB(wire_len) || SKB(hwtstamp) ||
	    (off >= (s32)offsetof(struct __sk_buff, family) &&
	     off < (s32)offsetof(struct __sk_buff, data_meta)))
		return false;
	if (write && !SKB(cb))
		return false;
	return skb_common(off, size, write, access);
}

static bool sched_cls(s32 off, u32 size, bool write, struct ctx_access *access)
{
	if (write && !(SKB(mark) || SKB(tc_index) || SKB(priority) || SKB(tc_classid) || SKB(cb) ||
		       SKB(tstamp) || SKB(queue_mapping)))
		return false;
	if (off >= (s32)offsetof(struct __sk_buff, family) &&
	    off < (s32)offsetof(struct __sk_buff, data_meta))
		return false;
	if (SKB_IS(tstamp_type) && size == 1 && !write)
		return true;
	return skb_common(off, size, write, access) && skb_data_type(off, access);
}

static bool cgroup_skb(s32 off, u32 size, bool write, struct ctx_access *access)
{
	if (SKB(tc_classid) || SKB(data_meta) || SKB(wire_len))
		return false;
	if (write && !(SKB(mark) || SKB(priority) || SKB(cb) || SKB(tstamp)))
		return false;
	return skb_common(off, size, write, access) && skb_data_type(off, access);
}

static bool lwt(s32 off, u32 size, bool write, struct ctx_access *access)
{
	if (SKB(tc_classid) || SKB(data_meta) || SKB(tstamp) || SKB(wire_len) || SKB(hwtstamp) ||
	    (off >= (s32)offsetof(struct __sk_buff, family) &&
	     off < (s32)offsetof(struct __sk_buff, data_meta)))
		return false;
	if (write && !(SKB(mark) || SKB(priority) || SKB(cb)))
		return false;
	return skb_common(off, size, write, access) && skb_data_type(off, access);
}

static bool sk_skb(s32 off, u32 size, bool write, struct ctx_access *access)
{
	if (SKB(tc_classid) || SKB(data_meta) || SKB(tstamp) || SKB(wire_len) || SKB(hwtstamp) ||
	    SKB(mark))
		return false;
	if (write && !(SKB(tc_index) || SKB(priority)))
		return false;
	return skb_common(off, size, write, access) && skb_data_type(off, access);
}

static bool sk_msg(s32 off, u32 size, bool write, struct ctx_access *access)
{
	if (write || off < 0 || off % (s32)size)
		return false;
	if (off == (s32)offsetof(struct sk_msg_md, data) && size == 8) {
		access->type = PTR_TO_PACKET;
		return true;
	}
	if (off == (s32)offsetof(struct sk_msg_md, data_end) && size == 8) {
		access->type = PTR_TO_PACKET_END;
		return true;
	}
	return off >= (s32)offsetof(struct sk_msg_md, family) &&
	       off + (s32)size <= (s32)(offsetof(struct sk_msg_md, size) + 4) && size == 4;
}

static bool xdp(struct env *env, s32 off, u32 size, bool write, struct ctx_access *access)
{
	if (write || off < 0 || off >= (s32)sizeof(struct xdp_md) || size != 4 || off % 4)
		return false;
	if (off == (s32)offsetof(struct xdp_md, egress_ifindex) &&
	    env->req->expected_attach_type != BPF_XDP_DEVMAP)
		return false;
	if (off == (s32)offsetof(struct xdp_md, data))
		access->type = PTR_TO_PACKET;
	else if (off == (s32)offsetof(struct xdp_md, data_meta))
		access->type = PTR_TO_PACKET_META;
	else if (off == (s32)offsetof(struct xdp_md, data_end))
		access->type = PTR_TO_PACKET_END;
	return access->type == SCALAR_VALUE || !access->ldsx;
}

int ub_ctx_check(struct env *env, s32 off, u32 size, bool write, struct ctx_access *access)
{
	bool ok = false;

	switch (env->req->type) {
	case BPF_PROG_TYPE_KPROBE:
		ok = plain(off, size, write, 0, sizeof(struct pt_regs));
		break;
	case BPF_PROG_TYPE_TRACEPOINT:
		/* The first 8 bytes are the kernel's own. */
		ok = plain(off, size, write, 8, PERF_MAX_TRACE_SIZE);
		break;
	case BPF_PROG_TYPE_RAW_TRACEPOINT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE:
		ok = plain(off, size, write, 0, MAX_FUNC_ARGS * 8);
		break;
	case BPF_PROG_TYPE_PERF_EVENT:
		ok = perf_event(off, size, write);
		break;
	case BPF_PROG_TYPE_SYSCALL:
		ok = off >= 0 && off < UINT16_MAX && off % (s32)size == 0;
		break;
	case BPF_PROG_TYPE_SOCKET_FILTER:
		ok = socket_filter(off, size, write, access);
		break;
	case BPF_PROG_TYPE_SCHED_CLS:
	case BPF_PROG_TYPE_SCHED_ACT:
		ok = sched_cls(off, size, write, access);
		break;
	case BPF_PROG_TYPE_CGROUP_SKB:
		ok = cgroup_skb(off, size, write, access);
		break;
	case BPF_PROG_TYPE_LWT_IN:
	case BPF_PROG_TYPE_LWT_OUT:
	case BPF_PROG_TYPE_LWT_XMIT:
		ok = lwt(off, size, write, access);
		break;
	case BPF_PROG_TYPE_SK_SKB:
		ok = sk_skb(off, size, write, access);
		break;
	case BPF_PROG_TYPE_SK_MSG:
		ok = sk_msg(off, size, write, access);
		break;
	case BPF_PROG_TYPE_XDP:
		ok = xdp(env, off, size, write, access);
		break;
	default:
		break;
	}
	if (!ok)
		return ub_reject(env, -EACCES, "invalid bpf_context access off=%d size=%u\n", off,
				 size);
	if (write)
		env->ctx_use.written = true;
	else if (off / 8 < 64)
		env->ctx_use.words |= 1ull << (off / 8);
	else
		env->ctx_use.escapes = true;
	return 0;
}

u32 ub_ctx_convert(struct env *env, const struct bpf_insn *insn, struct bpf_insn *out, u32 max)
{
	s32 base, data, data_end, data_meta, to;

	if (BPF_CLASS(insn->code) != BPF_LDX || BPF_SIZE(insn->code) != BPF_W || max < 1)
		return 0;
	switch (env->req->type) {
	case BPF_PROG_TYPE_XDP:
		base = offsetof(struct ub_xdp_context, pointers);
		data = offsetof(struct xdp_md, data);
		data_end = offsetof(struct xdp_md, data_end);
		data_meta = offsetof(struct xdp_md, data_meta);
		break;
	case BPF_PROG_TYPE_SCHED_CLS:
	case BPF_PROG_TYPE_SCHED_ACT:
	case BPF_PROG_TYPE_CGROUP_SKB:
	case BPF_PROG_TYPE_LWT_IN:
	case BPF_PROG_TYPE_LWT_OUT:
	case BPF_PROG_TYPE_LWT_XMIT:
	case BPF_PROG_TYPE_SK_SKB:
		base = offsetof(struct ub_skb_context, pointers);
		data = offsetof(struct __sk_buff, data);
		data_end = offsetof(struct __sk_buff, data_end);
		data_meta = offsetof(struct __sk_buff, data_meta);
		break;
	default:
		return 0;
	}
	if (insn->off == data)
		to = base + offsetof(struct ub_packet_pointers, data);
	else if (insn->off == data_end)
		to = base + offsetof(struct ub_packet_pointers, data_end);
	else if (insn->off == data_meta)
		to = base + offsetof(struct ub_packet_pointers, data_meta);
	else
		return 0;
	out[0] = *insn;
	out[0].code = BPF_LDX | BPF_MEM | BPF_DW;
	out[0].off = to;
	return 1;
}
