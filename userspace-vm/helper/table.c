// SPDX-License-Identifier: MIT
/* The table of helpers as this process knows them. Hosted: the agent has its own, made of symbols.
 */
#include <helper/helper.h>

#define PROTO(id_, name_, ret_, a1_, a2_, a3_, a4_, a5_, mem_, flags_, fn_, why_)                  \
	[id_] = { .id = (id_),                                                                     \
		  .name = #name_,                                                                  \
		  .ret = UB_RET_##ret_,                                                            \
		  .args = { UB_ARG_##a1_, UB_ARG_##a2_, UB_ARG_##a3_, UB_ARG_##a4_,                \
			    UB_ARG_##a5_ },                                                        \
		  .mem_size = (mem_),                                                              \
		  .flags = (flags_),                                                               \
		  .fn = (fn_),                                                                     \
		  .why = (why_) },
#define UB_HELPER(id, name, ret, a1, a2, a3, a4, a5, mem, flags)                                   \
	PROTO(id, name, ret, a1, a2, a3, a4, a5, mem, flags, ub_helper_##name, NULL)
#define UB_HELPER_PROTO(id, name, ret, a1, a2, a3, a4, a5, mem, flags, why)                        \
	PROTO(id, name, ret, a1, a2, a3, a4, a5, mem, flags, NULL, why)
#define UB_HELPER_ABSENT(id, name, why)                                                            \
	PROTO(id, name, INTEGER, NONE, NONE, NONE, NONE, NONE, 0, UB_HELPER_NO_PROTO, NULL, why)

static const struct ub_helper helpers[UB_MAX_HELPER] = {
#include <helper/helpers.def>
};

#undef UB_HELPER
#undef UB_HELPER_PROTO
#undef UB_HELPER_ABSENT

/* The numbers are the kernel's. */
#define UB_HELPER(id, name, ...)                                                                   \
	_Static_assert((id) == BPF_FUNC_##name && (id) < UB_MAX_HELPER, "id of " #name);
#define UB_HELPER_PROTO		  UB_HELPER
#define UB_HELPER_ABSENT(id, ...) /* older headers don't name the newest */
#include <helper/helpers.def>

const struct ub_helper *ub_helper_by_id(u32 id)
{
	if (id >= UB_MAX_HELPER || !helpers[id].name)
		return NULL;
	return &helpers[id];
}

static bool is_tracing(enum bpf_prog_type type)
{
	switch (type) {
	case BPF_PROG_TYPE_KPROBE:
	case BPF_PROG_TYPE_TRACEPOINT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE:
	case BPF_PROG_TYPE_PERF_EVENT:
	case BPF_PROG_TYPE_TRACING:
	case BPF_PROG_TYPE_SYSCALL:
		return true;
	default:
		return false;
	}
}

static bool is_traffic_control(enum bpf_prog_type type)
{
	return type == BPF_PROG_TYPE_SCHED_CLS || type == BPF_PROG_TYPE_SCHED_ACT;
}

/* Types whose context is a socket buffer. */
static bool has_skb(enum bpf_prog_type type)
{
	return type == BPF_PROG_TYPE_SOCKET_FILTER || type == BPF_PROG_TYPE_CGROUP_SKB ||
	       type == BPF_PROG_TYPE_SK_SKB || is_traffic_control(type);
}

bool ub_helper_allowed(const struct ub_helper *helper, enum bpf_prog_type type)
{
	if (type == BPF_PROG_TYPE_UNSPEC)
		return false;
	if (helper->id == BPF_FUNC_skb_store_bytes || helper->id == BPF_FUNC_csum_update)
		return is_traffic_control(type);
	if (helper->id == BPF_FUNC_csum_diff)
		return is_traffic_control(type) || type == BPF_PROG_TYPE_XDP;
	if (helper->id == BPF_FUNC_ktime_get_coarse_ns)
		return !is_tracing(type) && type != BPF_PROG_TYPE_CGROUP_DEVICE;
	if (helper->flags & UB_HELPER_KPROBE)
		return type == BPF_PROG_TYPE_KPROBE || type == BPF_PROG_TYPE_SYSCALL;
	if (helper->flags & UB_HELPER_FENTRY)
		return type == BPF_PROG_TYPE_TRACING || type == BPF_PROG_TYPE_SYSCALL;
	if (helper->flags & UB_HELPER_TRACING)
		return is_tracing(type);
	if (helper->flags & UB_HELPER_PKT)
		return has_skb(type);
	return true;
}
