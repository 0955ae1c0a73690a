// SPDX-License-Identifier: MIT
#include "backend.h"

#include <errno.h>

#include <client/client.h>

#include "daemon_sessions.h"
#include "libbpf_link.h"

static int attach(const struct ub_probe *probe, const struct ub_tracee *target,
		  const struct ub_tracee_file *file, u64 offset, struct ub_backend_link **out,
		  struct ub_reason *why)
{
	int err = ub_libbpf_attach(probe, target, file, offset, out, why);
	struct ub_reason refusal;

	if (!err || err == -ESRCH)
		return err;
	/* libbpf has only the errno. */
	ub_daemon_refusal(&refusal);
	if (!refusal.text[0])
		return err;
	return ub_reason_set(why, err, "cannot attach %s to process %d (%s): %s", probe->text,
			     target->pid, target->comm, refusal.text);
}

const struct ub_backend ub_backend_userspace = {
	.name = "userspace",
	.enter = ub_client_enter,
	.attach = attach,
	.detach = ub_libbpf_detach,
	.check_target = ub_tracee_may_trace,
};
