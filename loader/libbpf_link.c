// SPDX-License-Identifier: MIT
#include "libbpf_link.h"

#include <errno.h>
#include <string.h>

#include <client/client.h>

#include "output.h"

static int attach(const struct ub_probe *probe, pid_t pid, const char *path, u64 offset,
		  struct ub_backend_link **out)
{
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .retprobe = probe->kind == UB_PROBE_RETURN);
	struct bpf_link *link;

	ub_libbpf_forget();
	if (probe->kind == UB_PROBE_USDT)
		link = bpf_program__attach_usdt(probe->program, pid, path, probe->usdt_provider,
						probe->usdt_name, NULL);
	else
		link = bpf_program__attach_uprobe_opts(probe->program, pid, path, offset, &opts);
	if (!link)
		return errno ? -errno : -EINVAL;
	*out = (struct ub_backend_link *)link;
	return 0;
}

int ub_libbpf_attach(const struct ub_probe *probe, const struct ub_tracee *target,
		     const struct ub_tracee_file *file, u64 offset, struct ub_backend_link **out,
		     struct ub_reason *why)
{
	int err = attach(probe, target->pid, file->path, offset, out);

	if (!err)
		return 0;
	if (ub_client_lost(why))
		return err;
	if (ub_tracee_is_gone(target))
		return ub_reason_set(why, -ESRCH, "process %d has ended", target->pid);
	if (err == -ESRCH)
		return ub_reason_set(
			why, err,
			"process %d (%s) was exiting, or executing another program, while %s was "
			"attached to it: try again",
			target->pid, target->comm, probe->text);
	return ub_reason_set(why, err, "cannot attach %s to process %d (%s): %s%s%s", probe->text,
			     target->pid, target->comm, strerror(-err),
			     ub_libbpf_warning()[0] ? ": " : "", ub_libbpf_warning());
}

int ub_libbpf_attach_everywhere(const struct ub_probe *probe, const struct ub_tracee_file *file,
				u64 offset, struct ub_backend_link **out, struct ub_reason *why)
{
	int err = attach(probe, -1, file->path, offset, out);

	if (!err || ub_client_lost(why))
		return err;
	return ub_reason_set(why, err, "cannot attach %s to all processes: %s%s%s", probe->text,
			     strerror(-err), ub_libbpf_warning()[0] ? ": " : "",
			     ub_libbpf_warning());
}

void ub_libbpf_detach(struct ub_backend_link *link)
{
	bpf_link__destroy((struct bpf_link *)link);
}
