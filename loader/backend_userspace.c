// SPDX-License-Identifier: MIT
#include "backend.h"

#include <client/client.h>

#include "libbpf_link.h"

const struct ub_backend ub_backend_userspace = {
	.name = "userspace",
	.enter = ub_client_enter,
	.attach = ub_libbpf_attach,
	.detach = ub_libbpf_detach,
	.check_target = ub_tracee_may_trace,
};
