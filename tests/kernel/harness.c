// SPDX-License-Identifier: MIT
#include "harness.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NR_CPUS 2

static int caller_read(struct ub_caller *caller, u64 address, void *into, size_t size)
{
	struct harness *h = caller->opaque;
	struct iovec local = { into, size }, remote = { (void *)address, size };

	if (h->before_read)
		h->before_read(h, address);
	return process_vm_readv(caller->pid, &local, 1, &remote, 1, 0) == (ssize_t)size ? 0
											: -EFAULT;
}

static int caller_write(struct ub_caller *caller, u64 address, const void *from, size_t size)
{
	struct iovec local = { (void *)from, size }, remote = { (void *)address, size };

	return process_vm_writev(caller->pid, &local, 1, &remote, 1, 0) == (ssize_t)size ? 0
											 : -EFAULT;
}

static int attach(void *opaque, const struct ub_link_view *views, u32 nr, struct ub_caller *caller,
		  struct ub_reason *why)
{
	struct harness *h = opaque;

	h->nr_attaches++;
	if (h->attach_error)
		return ub_reason_set(why, h->attach_error, "told to fail");
	if (h->nr_views + nr > MAX_VIEWS)
		return ub_reason_set(why, -ENOSPC, "too many links for the test");
	for (u32 i = 0; i < nr; i++)
		h->views[h->nr_views++] = (struct view) { .link_id = views[i].link_id,
							  .prog_id = views[i].prog_id,
							  .pid = views[i].pid,
							  .offset = views[i].offset,
							  .ref_ctr_offset = views[i].ref_ctr_offset,
							  .cookie = views[i].cookie,
							  .ino = views[i].ino,
							  .is_return = views[i].is_return,
							  .enabled = true };
	return 0;
}

static void detach(void *opaque, const u32 *link_ids, u32 nr)
{
	struct harness *h = opaque;

	h->nr_detaches++;
	for (u32 i = 0; i < nr; i++)
		for (u32 j = 0; j < h->nr_views; j++)
			if (h->views[j].link_id == link_ids[i])
				h->views[j] = h->views[--h->nr_views];
}

static void enable(void *opaque, u32 link_id, bool enabled)
{
	struct harness *h = opaque;

	for (u32 i = 0; i < h->nr_views; i++)
		if (h->views[i].link_id == link_id)
			h->views[i].enabled = enabled;
}

static void counters(void *opaque, u32 link_id, u64 *hits, u64 *misses)
{
	*hits = *misses = 0;
}

static void map_changed(void *opaque, struct ub_kernel_map *map)
{
	struct harness *h = opaque;

	h->nr_map_changes++;
}

static const struct ub_kernel_ops ops = { .attach = attach,
					  .detach = detach,
					  .enable = enable,
					  .counters = counters,
					  .map_changed = map_changed };

void harness_init(struct harness *h)
{
	harness_init_cpus(h, NR_CPUS);
}

void harness_init_cpus(struct harness *h, u32 nr_cpus)
{
	memset(h, 0, sizeof(*h));
	h->loop = ub_loop_new();
	h->kernel = ub_kernel_new(h->loop, &ops, h, nr_cpus);
	h->caller = (struct ub_caller) { .pid = getpid(),
					 .uid = getuid(),
					 .gid = getgid(),
					 .session = 1,
					 .read = caller_read,
					 .write = caller_write,
					 .opaque = h };
	h->caller.pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
}

void harness_exit(struct harness *h)
{
	ub_kernel_free(h->kernel);
	ub_loop_free(h->loop);
	close(h->caller.pidfd);
}

static void stop(void *opaque)
{
	ub_loop_stop(opaque);
}

void harness_pump(struct harness *h)
{
	if (ub_loop_after(h->loop, 1, stop, h->loop) && ub_loop_run(h->loop))
		return;
}

bool harness_wait(struct harness *h, bool (*done)(void *opaque), void *opaque)
{
	time_t end = time(NULL) + 30;

	while (!done(opaque)) {
		if (time(NULL) > end)
			return false;
		harness_pump(h);
	}
	return true;
}

bool harness_wait_objects(struct harness *h, u32 count)
{
	time_t end = time(NULL) + 30;

	while (ub_kernel_objects(h->kernel) != count) {
		if (time(NULL) > end)
			return false;
		harness_pump(h);
	}
	return true;
}

s64 harness_call(struct harness *h, int nr, u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)
{
	struct ub_call call = { nr, { a0, a1, a2, a3, a4, a5 } };
	struct ub_reply reply;

	ub_kernel_call(h->kernel, &h->caller, &call, &reply);
	if (reply.pass)
		return HARNESS_PASSED;
	return reply.fd >= 0 ? reply.fd : reply.value;
}

s64 harness_bpf(struct harness *h, u32 cmd, void *attr, u32 size)
{
	return harness_call(h, SYS_bpf, cmd, (u64)attr, size, 0, 0, 0);
}

int harness_map(struct harness *h, u32 type, u32 key, u32 value, u32 entries, u32 flags)
{
	union bpf_attr attr = { .map_type = type,
				.key_size = key,
				.value_size = value,
				.max_entries = entries,
				.map_flags = flags };

	return (int)harness_bpf(h, BPF_MAP_CREATE, &attr, sizeof(attr));
}

static int element(struct harness *h, u32 cmd, int fd, const void *key, const void *value,
		   u64 flags)
{
	union bpf_attr attr = {
		.map_fd = (u32)fd, .key = (u64)key, .value = (u64)value, .flags = flags
	};

	return (int)harness_bpf(h, cmd, &attr, sizeof(attr));
}

int harness_update(struct harness *h, int fd, const void *key, const void *value, u64 flags)
{
	return element(h, BPF_MAP_UPDATE_ELEM, fd, key, value, flags);
}

int harness_lookup(struct harness *h, int fd, const void *key, void *value)
{
	return element(h, BPF_MAP_LOOKUP_ELEM, fd, key, value, 0);
}

int harness_delete(struct harness *h, int fd, const void *key)
{
	return element(h, BPF_MAP_DELETE_ELEM, fd, key, NULL, 0);
}

int harness_next_key(struct harness *h, int fd, const void *key, void *next)
{
	return element(h, BPF_MAP_GET_NEXT_KEY, fd, key, next, 0);
}

int harness_prog(struct harness *h, u32 type, u32 attach_type, const struct bpf_insn *insns, u32 nr)
{
	union bpf_attr attr = { .prog_type = type,
				.expected_attach_type = attach_type,
				.insns = (u64)insns,
				.insn_cnt = nr,
				.license = (u64) "GPL",
				.prog_name = "test" };

	return (int)harness_bpf(h, BPF_PROG_LOAD, &attr, sizeof(attr));
}

int harness_uprobe(struct harness *h, const char *path, u64 offset, bool is_return, pid_t pid,
		   int cpu)
{
	struct perf_event_attr attr = { .size = sizeof(attr),
					.type = ub_kernel_uprobe_type(h->kernel),
					.config = is_return,
					.config1 = (u64)path,
					.config2 = offset };

	return (int)harness_call(h, SYS_perf_event_open, (u64)&attr, (u64)pid, (u64)cpu, (u64)-1,
				 PERF_FLAG_FD_CLOEXEC, 0);
}
