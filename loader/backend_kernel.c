// SPDX-License-Identifier: MIT
#include "backend.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <bpf/bpf.h>

#include <common/cleanup.h>
#include <surgeon/surgeon.h>

#include "libbpf_link.h"
#include "orphan.h"

/* A uprobe replaces up to 5 bytes, runs a copy of the file's instruction and goes on behind it. */
enum { REACH = 16 };

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

/*
 * Linux knows nothing of what the userspace backend wrote into a process: it would put its int3
 * into the middle of a jump, and later the file's byte, and either kills the process. A uprobe that
 * is bound to a pid is written into that process's memory only, any other into everybody's.
 */
static int refuse_patched(const struct ub_probe *probe, pid_t pid, u64 offset,
			  struct ub_reason *why)
{
	/* Where a USDT probe is only libbpf finds out; then anywhere is too near. */
	int held = probe->kind == UB_PROBE_USDT ? ub_surgeon_find(pid, why)
						: ub_surgeon_holds(pid, offset, REACH, why);

	if (held == -EPERM)
		return ub_reason_prefix(
			why, held,
			"cannot tell whether the userspace backend holds process %d, root could",
			pid);
	if (held <= 0)
		return 0;
	return ub_reason_set(
		why, -EBUSY,
		"the userspace backend holds %s in process %d, and a kernel uprobe there would kill "
		"it: `ubpf-run detach %d` first, or use --userspace",
		probe->text, pid, pid);
}

static int attach(const struct ub_probe *probe, const struct ub_tracee *target,
		  const struct ub_tracee_file *file, u64 offset, struct ub_backend_link **out,
		  struct ub_reason *why)
{
	int err = refuse_patched(probe, target->pid, offset, why);

	return err ? err : ub_libbpf_attach(probe, target, file, offset, out, why);
}

static int attach_everywhere(const struct ub_probe *probe, const struct ub_tracee_file *file,
			     u64 offset, struct ub_backend_link **out, struct ub_reason *why)
{
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	int err = 0;

	if (!dir)
		return ub_reason_set(why, -errno, "cannot list processes: %s", strerror(errno));
	/* A process that even we may not look into can't have been operated on either. */
	while (err != -EBUSY && (entry = readdir(dir))) {
		if (isdigit((unsigned char)entry->d_name[0]))
			err = refuse_patched(probe, (pid_t)strtol(entry->d_name, NULL, 10), offset,
					     why);
	}
	closedir(dir);
	if (err == -EBUSY)
		return err;
	return ub_libbpf_attach_everywhere(probe, file, offset, out, why);
}

const struct ub_backend ub_backend_kernel = {
	.name = "kernel",
	.enter = ub_backend_kernel_try,
	.attach = attach,
	.attach_everywhere = attach_everywhere,
	.detach = ub_libbpf_detach,
};
