// SPDX-License-Identifier: MIT
/*
 * The userspace kernel's front door.
 *
 * A call comes in as the caller made it: a number and six words. Everything the words point to is
 * in the caller's memory and may change at any moment, so each piece is copied in exactly once and
 * only the copy is looked at: attr first (attr.c), then what it names. Results are written back
 * last, when nothing can fail any more but that write itself.
 *
 * What is checked, in which order, and which errno comes of it follows Linux's kernel/bpf/syscall.c
 * and kernel/events/core.c case by case: tools find out what a kernel can do by making calls that
 * must fail in a certain way. A capability is never asked for: whoever can reach this kernel may
 * use all of it, and what programs may be attached to is decided by whether the daemon may operate
 * on that process.
 *
 * Objects (object.c) are known to clients by real files (file.c). A reply carries a new fd; if the
 * transport can't deliver it, it closes it, which is the last close, which frees the object:
 * nothing needs undoing anywhere else.
 */
#include <kernel/kinds.h>

#include <fcntl.h>
#include <sys/syscall.h>

static int read_uprobe_type(void)
{
	_cleanup_fclose_ FILE *file = fopen("/sys/bus/event_source/devices/uprobe/type", "re");
	int type;

	/* Any number above the fixed types will do where the machine has no such PMU. */
	if (!file || fscanf(file, "%d", &type) != 1 || type <= PERF_TYPE_BREAKPOINT)
		return 8;
	return type;
}

struct ub_kernel *ub_kernel_new(struct ub_loop *loop, const struct ub_kernel_ops *ops, void *opaque,
				u32 nr_cpus)
{
	struct ub_kernel *kernel = calloc(1, sizeof(*kernel));
	int err;

	if (!kernel)
		return NULL;
	kernel->loop = loop;
	kernel->ops = ops;
	kernel->opaque = opaque;
	kernel->nr_cpus = nr_cpus;
	kernel->uprobe_type = read_uprobe_type();
	err = ub_files_init(kernel);
	if (err) {
		ub_kernel_free(kernel);
		errno = -err;
		return NULL;
	}
	return kernel;
}

void ub_kernel_free(struct ub_kernel *kernel)
{
	if (!kernel)
		return;
	ub_pins_exit(kernel);
	ub_files_exit(kernel);
	ub_timer_remove(kernel->tick);
	for (u32 i = 0; i < UB_KINDS; i++)
		free(kernel->ids[i].objects);
	free(kernel->ticking);
	free(kernel);
}

u32 ub_kernel_objects(const struct ub_kernel *kernel)
{
	return kernel->nr_objects;
}

u32 ub_kernel_uprobe_type(const struct ub_kernel *kernel)
{
	return kernel->uprobe_type;
}

static s64 bpf(struct ub_kernel *k, struct ub_caller *c, u64 cmd, struct ub_attr *a, int *fd)
{
	switch (cmd) {
	case BPF_MAP_CREATE:
		return ub_cmd_map_create(k, c, a, fd);
	case BPF_MAP_LOOKUP_ELEM:
		return ub_cmd_map_lookup(k, c, a);
	case BPF_MAP_UPDATE_ELEM:
		return ub_cmd_map_update(k, c, a);
	case BPF_MAP_DELETE_ELEM:
		return ub_cmd_map_delete(k, c, a);
	case BPF_MAP_GET_NEXT_KEY:
		return ub_cmd_map_next_key(k, c, a);
	case BPF_MAP_LOOKUP_AND_DELETE_ELEM:
		return ub_cmd_map_lookup_and_delete(k, c, a);
	case BPF_MAP_FREEZE:
		return ub_cmd_map_freeze(k, c, a);
	case BPF_MAP_LOOKUP_BATCH:
	case BPF_MAP_LOOKUP_AND_DELETE_BATCH:
	case BPF_MAP_UPDATE_BATCH:
	case BPF_MAP_DELETE_BATCH:
		return ub_cmd_map_batch(k, c, a, (u32)cmd);
	case BPF_PROG_LOAD:
		return ub_cmd_prog_load(k, c, a, fd);
	case BPF_PROG_TEST_RUN:
		return ub_cmd_prog_test_run(k, c, a);
	case BPF_PROG_BIND_MAP:
		return ub_cmd_prog_bind_map(k, c, a);
	case BPF_ENABLE_STATS:
		return ub_cmd_enable_stats(k, c, a, fd);
	case BPF_BTF_LOAD:
		return ub_cmd_btf_load(k, c, a, fd);
	case BPF_PROG_GET_NEXT_ID:
		return ub_cmd_get_next_id(k, c, a, UB_KIND_PROG);
	case BPF_MAP_GET_NEXT_ID:
		return ub_cmd_get_next_id(k, c, a, UB_KIND_MAP);
	case BPF_BTF_GET_NEXT_ID:
		return ub_cmd_get_next_id(k, c, a, UB_KIND_BTF);
	case BPF_LINK_GET_NEXT_ID:
		return ub_cmd_get_next_id(k, c, a, UB_KIND_LINK);
	case BPF_PROG_GET_FD_BY_ID:
		return ub_cmd_get_fd_by_id(k, c, a, UB_KIND_PROG, fd);
	case BPF_MAP_GET_FD_BY_ID:
		return ub_cmd_get_fd_by_id(k, c, a, UB_KIND_MAP, fd);
	case BPF_BTF_GET_FD_BY_ID:
		return ub_cmd_get_fd_by_id(k, c, a, UB_KIND_BTF, fd);
	case BPF_LINK_GET_FD_BY_ID:
		return ub_cmd_get_fd_by_id(k, c, a, UB_KIND_LINK, fd);
	case BPF_OBJ_GET_INFO_BY_FD:
		return ub_cmd_get_info(k, c, a);
	case BPF_TASK_FD_QUERY:
		return ub_cmd_task_fd_query(k, c, a);
	case BPF_OBJ_PIN:
		return ub_cmd_obj_pin(k, c, a);
	case BPF_OBJ_GET:
		return ub_cmd_obj_get(k, c, a, fd);
	case BPF_LINK_CREATE:
		return ub_cmd_link_create(k, c, a, fd);
	case BPF_LINK_UPDATE:
		return ub_cmd_link_update(k, c, a);
	case BPF_LINK_DETACH:
		return ub_cmd_link_detach(k, c, a);
	default:
		/* Kernels without cgroups, networking, raw tracepoints and iterators say the same.
		 */
		return -EINVAL;
	}
}

static void call_bpf(struct ub_kernel *kernel, struct ub_caller *caller, const struct ub_call *call,
		     struct ub_reply *reply)
{
	struct ub_attr attr;
	int fd = -1;
	int err = ub_attr_copy_in(&attr, caller, call->args[1], (u32)call->args[2]);

	if (err) {
		reply->value = err;
		return;
	}
	reply->value = bpf(kernel, caller, (u32)call->args[0], &attr, &fd);
	reply->fd = fd;
	reply->fd_flags = O_CLOEXEC; /* as all fds of bpf(2) */
}

/* A client maps one of our files. Of a perf buffer it is the only moment at which its size is said.
 */
static void call_mmap(struct ub_kernel *kernel, struct ub_caller *caller,
		      const struct ub_call *call)
{
	struct ub_file *file;

	if ((s32)call->args[4] < 0 || ub_file_get(kernel, caller, (s32)call->args[4], &file))
		return;
	if (file->object->kind == UB_KIND_PERF && !call->args[5])
		ub_perf_set_size(ub_to_perf(file->object), call->args[1]);
	if (file == file->object->poll_file)
		ub_poll_before_mmap(caller, (s32)call->args[4], file);
}

void ub_kernel_call(struct ub_kernel *kernel, struct ub_caller *caller, const struct ub_call *call,
		    struct ub_reply *reply)
{
	*reply = (struct ub_reply) { .fd = -1 };
	switch (call->nr) {
	case __NR_bpf:
		call_bpf(kernel, caller, call, reply);
		return;
	case __NR_perf_event_open:
		ub_perf_open(kernel, caller, call, reply);
		return;
	case __NR_ioctl:
		ub_perf_ioctl(kernel, caller, call, reply);
		return;
	case __NR_epoll_ctl:
		ub_epoll_ctl(kernel, caller, call, reply);
		return;
	case __NR_poll:
	case __NR_ppoll:
	case __NR_select:
	case __NR_pselect6:
		ub_poll_call(kernel, caller, call);
		reply->pass = true;
		return;
	case __NR_mmap:
		call_mmap(kernel, caller, call);
		reply->pass = true;
		return;
	default:
		reply->pass = true;
	}
}
