/* SPDX-License-Identifier: MIT */
/*
 * The daemon: one per user, started by the first userspace command, gone with the last client.
 */
#ifndef UB_DAEMON_DAEMON_H
#define UB_DAEMON_DAEMON_H

#include <common/reason.h>

/* Runs the daemon in this process until its last client is gone; @listen_fd: its listening socket.
 * Exit status. */
int ub_daemon_main(int listen_fd);

#endif
