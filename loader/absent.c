// SPDX-License-Identifier: MIT
/*
 * The userspace kernel's daemon where it is not built.
 */
#include <errno.h>

#include <daemon/daemon.h>
#include <surgeon/surgeon.h>

int ub_daemon_main(int listen_fd)
{
	return 1;
}

int ub_surgeon_repair(pid_t pid, struct ub_reason *why)
{
	return ub_reason_set(why, -EOPNOTSUPP, "this build can't operate on processes");
}
