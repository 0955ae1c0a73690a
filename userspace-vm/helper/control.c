// SPDX-License-Identifier: MIT
/* Helpers that call back, tell about the probe, or act on the process. Freestanding. */
#include <helper/internal.h>

#define MAX_LOOPS  (8u << 20) /* BPF_MAX_LOOPS */
#define MAX_SIGNAL 64

HELPER(loop)
{
	u32 nr = (u32)r1;

	if (r4)
		return (u64)-EINVAL;
	if (nr > MAX_LOOPS)
		return (u64)-E2BIG;
	for (u32 i = 0; i < nr; i++) {
		if (ub_run_callback(run_, r2, i, r3, 0, 0))
			return i + 1;
	}
	return nr;
}

HELPER(get_func_ip)
{
	const struct ub_link_info *link = ((struct ub_run *)run_)->link;

	return link ? link->func_ip : 0;
}

HELPER(get_attach_cookie)
{
	const struct ub_link_info *link = ((struct ub_run *)run_)->link;

	return link ? link->cookie : 0;
}

/* The kernel lets nobody attach a program that calls it to a user probe: there is nothing to
 * override. */
HELPER(override_return)
{
	return 0;
}

HELPER(send_signal)
{
	u32 sig = (u32)r1;

	if (sig > MAX_SIGNAL)
		return (u64)-EINVAL;
	return (u64)sys_call(run_, SYS_kill, (u64)sys_call(run_, SYS_getpid, 0, 0, 0, 0, 0, 0), sig,
			     0, 0, 0, 0);
}

HELPER(send_signal_thread)
{
	u32 sig = (u32)r1;

	if (sig > MAX_SIGNAL)
		return (u64)-EINVAL;
	return (u64)sys_call(run_, SYS_tgkill, (u64)sys_call(run_, SYS_getpid, 0, 0, 0, 0, 0, 0),
			     (u64)sys_call(run_, SYS_gettid, 0, 0, 0, 0, 0, 0), sig, 0, 0, 0);
}
