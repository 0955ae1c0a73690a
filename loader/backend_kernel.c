// SPDX-License-Identifier: MIT
#include "backend.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <bpf/bpf.h>

#include <common/cleanup.h>

#include "libbpf_link.h"
#include "orphan.h"

int ub_backend_kernel_try(struct ub_reason *why)
{
	static const struct bpf_insn return_0[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	_cleanup_close_ int fd = -1;

	/* Kernels before 5.11 charge maps to it; failing to raise it only matters there. */
	setrlimit(RLIMIT_MEMLOCK, &unlimited);
	fd = bpf_prog_load(BPF_PROG_TYPE_KPROBE, "ubpf_try", "GPL", return_0,
			   ub_array_size(return_0), NULL);
	if (fd < 0)
		return ub_reason_set(
			why, -errno, "the kernel does not let this process load programs (%s)%s",
			strerror(errno),
			errno == EPERM ? ": root, or CAP_BPF and CAP_PERFMON, would help" : "");
	return 0;
}

/* A kernel uprobe on a site that we patched goes on, after its int3, in the middle of our jump: the
 * process would crash. */
static int check_target(const struct ub_tracee *target, struct ub_reason *why)
{
	if (ub_orphan_find(target, NULL) != 1)
		return 0;
	return ub_reason_set(
		why, -EBUSY,
		"process %d (%s) holds probes of a userspace session, and a kernel uprobe on top "
		"of one would crash it: ubpf-run detach %d first (as user %u)",
		target->pid, target->comm, target->pid, target->uid);
}

static int attach_everywhere(const struct ub_probe *probe, const struct ub_tracee_file *file,
			     u64 offset, struct ub_backend_link **out, struct ub_reason *why)
{
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	int err = 0;

	while (dir && !err && (entry = readdir(dir))) {
		struct ub_tracee target = { .pidfd = -1 };
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (pid <= 0 || ub_tracee_open(pid, &target, NULL))
			continue;
		err = check_target(&target, why);
		ub_tracee_close(&target);
	}
	if (dir)
		closedir(dir);
	return err ? err : ub_libbpf_attach_everywhere(probe, file, offset, out, why);
}

const struct ub_backend ub_backend_kernel = {
	.name = "kernel",
	.enter = ub_backend_kernel_try,
	.attach = ub_libbpf_attach,
	.attach_everywhere = attach_everywhere,
	.check_target = check_target,
	.detach = ub_libbpf_detach,
};
