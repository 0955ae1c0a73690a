// SPDX-License-Identifier: MIT
/*
 * Which maps there can be: the checks of Linux's map_alloc_check() and map_alloc() functions
 * (kernel/bpf/{arraymap,hashtab,lpm_trie,queue_stack_maps,bloom_filter,stackmap,ringbuf}.c), in
 * their order, for a caller with CAP_BPF and CAP_PERFMON. tests/map/check.c compares with the
 * kernel.
 */
#include <map/map.h>

#include <errno.h>
#include <sys/sysinfo.h>

#define ENOTSUPP 524 /* Linux's own, not in errno.h: what bpf(2) answers */

#define KMALLOC_MAX	  (4ull << 20)
#define HTAB_ELEM	  48ull /* sizeof(struct htab_elem) */
#define PCPU_MIN_UNIT	  32768u
#define MAX_STACK_DEPTH	  127u /* kernel.perf_event_max_stack */
#define LPM_DATA_MAX	  256u
#define LPM_NODE	  40ull
#define PAGE		  4096u
#define LOCAL_STORAGE_MAX (UINT16_MAX - 64u) /* BPF_LOCAL_STORAGE_MAX_VALUE_SIZE */

#define RW_FLAGS     (BPF_F_RDONLY | BPF_F_WRONLY)
#define PROG_FLAGS   (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG)
#define ACCESS_FLAGS (RW_FLAGS | PROG_FLAGS)

static bool access_ok(u32 flags)
{
	return (flags & PROG_FLAGS) != PROG_FLAGS;
}

static bool is_power_of_two(u32 x)
{
	return x && !(x & (x - 1));
}

/* vmalloc() refuses what the machine could never hold. */
static int check_memory(u64 bytes)
{
	struct sysinfo info;

	if (sysinfo(&info))
		return -ENOMEM;
	return bytes > (u64)info.totalram * info.mem_unit ? -ENOMEM : 0;
}

static int check_array(const struct ub_map_attr *attr, u32 nr_cpus)
{
	bool percpu = attr->type == BPF_MAP_TYPE_PERCPU_ARRAY;
	u64 stride = ub_round_up((u64)attr->value_size, 8);

	if (!attr->max_entries || attr->key_size != 4 || !attr->value_size ||
	    attr->flags & ~(BPF_F_NUMA_NODE | BPF_F_MMAPABLE | BPF_F_PRESERVE_ELEMS |
			    BPF_F_INNER_MAP | ACCESS_FLAGS) ||
	    !access_ok(attr->flags) || (percpu && attr->flags & BPF_F_NUMA_NODE))
		return -EINVAL;
	if (attr->type != BPF_MAP_TYPE_ARRAY && attr->flags & (BPF_F_MMAPABLE | BPF_F_INNER_MAP))
		return -EINVAL;
	if (attr->type != BPF_MAP_TYPE_PERF_EVENT_ARRAY && attr->flags & BPF_F_PRESERVE_ELEMS)
		return -EINVAL;
	if (attr->value_size > INT32_MAX)
		return -E2BIG;
	if (percpu && stride > PCPU_MIN_UNIT)
		return -E2BIG;
	if (percpu)
		return check_memory(attr->max_entries * (sizeof(void *) + stride * nr_cpus));
	return check_memory(attr->max_entries * stride);
}

static int check_fd_array(const struct ub_map_attr *attr, u32 nr_cpus)
{
	if (attr->value_size != 4 || attr->flags & PROG_FLAGS)
		return -EINVAL;
	return check_array(attr, nr_cpus);
}

static int check_hash(const struct ub_map_attr *attr, u32 nr_cpus)
{
	bool lru =
		attr->type == BPF_MAP_TYPE_LRU_HASH || attr->type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
	bool percpu = attr->type == BPF_MAP_TYPE_PERCPU_HASH ||
		      attr->type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
	bool prealloc = !(attr->flags & BPF_F_NO_PREALLOC);
	u64 stride = ub_round_up((u64)attr->value_size, 8);
	u64 elem = HTAB_ELEM + ub_round_up((u64)attr->key_size, 8);

	if (attr->flags & ~(BPF_F_NO_PREALLOC | BPF_F_NO_COMMON_LRU | BPF_F_NUMA_NODE |
			    ACCESS_FLAGS | BPF_F_ZERO_SEED) ||
	    !access_ok(attr->flags))
		return -EINVAL;
	if (!lru && attr->flags & BPF_F_NO_COMMON_LRU)
		return -EINVAL;
	if (lru && !prealloc)
		return -ENOTSUPP;
	if (attr->flags & BPF_F_NUMA_NODE && (percpu || attr->flags & BPF_F_NO_COMMON_LRU))
		return -EINVAL;
	if (!attr->max_entries || !attr->key_size || !attr->value_size)
		return -EINVAL;
	if ((u64)attr->key_size + attr->value_size >= KMALLOC_MAX - HTAB_ELEM)
		return -E2BIG;
	if (percpu && stride > PCPU_MIN_UNIT)
		return -E2BIG;
	if (attr->max_entries > 1u << 28)
		return -E2BIG;
	if (!prealloc)
		return 0;
	return check_memory(attr->max_entries * (elem + stride * (percpu ? nr_cpus : 1)));
}

static int check_lpm(const struct ub_map_attr *attr)
{
	if (!attr->max_entries || !(attr->flags & BPF_F_NO_PREALLOC) ||
	    attr->flags & ~(BPF_F_NO_PREALLOC | BPF_F_NUMA_NODE | ACCESS_FLAGS) ||
	    !access_ok(attr->flags) || attr->key_size < 5 || attr->key_size > 4 + LPM_DATA_MAX ||
	    !attr->value_size || attr->value_size > KMALLOC_MAX - LPM_DATA_MAX - LPM_NODE)
		return -EINVAL;
	return attr->max_entries > 1u << 30 ? -ENOMEM : 0;
}

static int check_queue(const struct ub_map_attr *attr)
{
	if (!attr->max_entries || attr->key_size || !attr->value_size ||
	    attr->flags & ~(BPF_F_NUMA_NODE | ACCESS_FLAGS) || !access_ok(attr->flags))
		return -EINVAL;
	if (attr->value_size > KMALLOC_MAX)
		return -E2BIG;
	return check_memory(((u64)attr->max_entries + 1) * attr->value_size);
}

static int check_bloom(const struct ub_map_attr *attr)
{
	if (attr->key_size || !attr->value_size || !attr->max_entries ||
	    attr->flags & ~(BPF_F_NUMA_NODE | BPF_F_ZERO_SEED | ACCESS_FLAGS) ||
	    !access_ok(attr->flags) || attr->extra & ~0xfull)
		return -EINVAL;
	return attr->value_size > INT32_MAX ? -E2BIG : 0;
}

static int check_stack_trace(const struct ub_map_attr *attr)
{
	u32 elem = attr->flags & BPF_F_STACK_BUILD_ID ? 32 : 8;

	if (attr->flags & ~(BPF_F_NUMA_NODE | RW_FLAGS | BPF_F_STACK_BUILD_ID))
		return -EINVAL;
	if (!attr->max_entries || attr->key_size != 4 || attr->value_size < 8 ||
	    attr->value_size % 8 || attr->value_size % elem ||
	    attr->value_size / elem > MAX_STACK_DEPTH)
		return -EINVAL;
	if (attr->max_entries > 1u << 31)
		return -E2BIG;
	return check_memory(attr->max_entries * (32ull + attr->value_size));
}

static int check_ring(const struct ub_map_attr *attr)
{
	if (attr->flags & ~BPF_F_NUMA_NODE)
		return -EINVAL;
	if (attr->key_size || attr->value_size || !is_power_of_two(attr->max_entries) ||
	    attr->max_entries % PAGE)
		return -EINVAL;
	return check_memory(attr->max_entries);
}

/* bpf_local_storage_map_alloc_check(); whether it has BTF is for its creator to see. */
static int check_task_storage(const struct ub_map_attr *attr)
{
	if (attr->flags & ~(BPF_F_NO_PREALLOC | BPF_F_CLONE) ||
	    !(attr->flags & BPF_F_NO_PREALLOC) || attr->max_entries || attr->key_size != 4 ||
	    !attr->value_size)
		return -EINVAL;
	return attr->value_size > LOCAL_STORAGE_MAX ? -E2BIG : 0;
}

int ub_map_check(const struct ub_map_attr *attr, u32 nr_cpus)
{
	if (!nr_cpus || nr_cpus > 4096 || (attr->flags & RW_FLAGS) == RW_FLAGS)
		return -EINVAL;
	if (attr->extra && attr->type != BPF_MAP_TYPE_BLOOM_FILTER)
		return -EINVAL;
	switch (attr->type) {
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		return check_array(attr, nr_cpus);
	case BPF_MAP_TYPE_PROG_ARRAY:
	case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
	case BPF_MAP_TYPE_CGROUP_ARRAY:
	case BPF_MAP_TYPE_ARRAY_OF_MAPS:
		return check_fd_array(attr, nr_cpus);
	case BPF_MAP_TYPE_HASH_OF_MAPS:
		if (attr->value_size != 4)
			return -EINVAL;
		/* fall through */
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
		return check_hash(attr, nr_cpus);
	case BPF_MAP_TYPE_LPM_TRIE:
		return check_lpm(attr);
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
		return check_queue(attr);
	case BPF_MAP_TYPE_BLOOM_FILTER:
		return check_bloom(attr);
	case BPF_MAP_TYPE_STACK_TRACE:
		return check_stack_trace(attr);
	case BPF_MAP_TYPE_RINGBUF:
	case BPF_MAP_TYPE_USER_RINGBUF:
		return check_ring(attr);
	case BPF_MAP_TYPE_TASK_STORAGE:
		return check_task_storage(attr);
	default:
		return -EINVAL;
	}
}
