// SPDX-License-Identifier: MIT
#include "backend.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include <bpf/bpf.h>

#include <common/cleanup.h>

#include "libbpf_link.h"

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

const struct ub_backend ub_backend_kernel = {
	.name = "kernel",
	.enter = ub_backend_kernel_try,
	.attach = ub_libbpf_attach,
	.attach_everywhere = ub_libbpf_attach_everywhere,
	.detach = ub_libbpf_detach,
};
