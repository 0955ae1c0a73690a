/* SPDX-License-Identifier: MIT */
#ifndef UB_CLIENT_PRIVATE_H
#define UB_CLIENT_PRIVATE_H

#include <sys/types.h>
#include <sys/un.h>

#include <client/client.h>
#include <common/types.h>
#include <daemon/protocol.h>

/* What became of a daemon that hung up, for people. */
#define UB_CLIENT_LOST                                                                              \
	"the userspace kernel's daemon has ended (killed?); its guard takes the probes out of the " \
	"processes"

/* client.c: says hello on @sock. 0 and the daemon's answer, or -errno. */
int __must_check ub_client_hello(int sock, u32 kind, const pid_t *pids, u32 nr_pids, u64 session,
				 int fd, pid_t *guard, u64 *id, struct ub_reason *why);
/* client.c: ub_msg_recv(), but given up when who was named to ub_client_on_wait() says so: -EINTR
 * and how long that took. */
int __must_check ub_client_receive(int sock, struct ub_msg *msg, void *data, size_t capacity,
				   size_t *size, int *fd, u64 *waited_ms);
/* client.c: a connection of this process in a session that exists. fd or -errno. */
int __must_check ub_client_join(u64 session, struct ub_reason *why);
/* client.c: lets @guard and what it starts trace this process where Yama asks for that. */
void ub_client_allow_tracer(pid_t guard);

/* start.c: starts a daemon, which cleans up after the last one first if @repair; when this returns,
 * clients may connect to @address. 0 or -errno. */
int __must_check ub_client_start_daemon(const struct sockaddr_un *address, const char *run_dir,
					bool repair, struct ub_reason *why);

#endif
