/* SPDX-License-Identifier: MIT */
/*
 * The client's side of the userspace kernel: finds or starts the daemon, and places a process under
 * it, in-process (the own loader) or by a seccomp listener (exec).
 */
#ifndef UB_CLIENT_CLIENT_H
#define UB_CLIENT_CLIENT_H

#include <sys/types.h>

#include <common/reason.h>

/* Directory of this user's sockets: $UBPF_RUN_DIR, else $XDG_RUNTIME_DIR/ubpf-run, else
 * /run/ubpf-run (root) or /tmp/ubpf-run-UID, made with mode 0700 and checked to be ours. */
int __must_check ub_client_run_dir(char *path, size_t size, struct ub_reason *why);

/* A connection to this user's daemon, started if there is none. Returns a socket fd or -errno. */
int __must_check ub_client_connect(struct ub_reason *why);
/* As ub_client_connect(), but -ENOENT rather than start one, unless there is one to clean up after.
 * Both: -EHOSTDOWN: it is stopped. */
int __must_check ub_client_connect_running(struct ub_reason *why);

/*
 * Places this very process under the userspace kernel: from now on its bpf(2), perf_event_open(2),
 * perf ioctls and epoll_ctl(2) made through libc (also by libbpf) go to the daemon over a socket.
 * The executable interposes libc's syscall(), ioctl() and epoll_ctl() for that (interpose.c).
 */
int __must_check ub_client_enter(struct ub_reason *why);

/* From the next connection on: while anything waits for the daemon (which may be stopped), @fn is
 * called every 100 ms with for how long it has. When that says false the wait is given up, and with
 * it the connection, as if the daemon had gone: at once if the daemon is stopped, after 5 s if it is
 * only slow. */
void ub_client_on_wait(bool (*fn)(u64 ms));

/* Whether ub_client_enter() has been and the daemon went away since, or was given up: calls fail
 * with ENOSYS then, and @why says why. */
bool ub_client_lost(struct ub_reason *why);

/* In a child that is to be a target (after fork, before exec): where Yama restricts ptrace, lets
 * this session's daemon trace it. */
void ub_client_allow_tracing(void);

struct ub_exec_options {
	const pid_t *pids; /* -p: processes that a tool's pid -1 means */
	u32 nr_pids;
	bool no_listener; /* use the preload library even where a listener can be had */
};

/* How a tool would be placed there: 0: by a seccomp listener; else -errno and @why, and it gets the
 * preload library instead, which statically linked tools do not. */
int __must_check ub_client_exec_way(struct ub_reason *why);

/* The file that execvp() would execute for @name: 0, or -ENOENT, -EACCES ... */
int __must_check ub_client_find_program(const char *name, char *path, size_t size);

/* Becomes @argv under the userspace kernel, as `ubpf-run exec` does: executes it in this process,
 * so that terminal, job control, signals and exit status are its own. Returns only on failure:
 * -errno. */
int __must_check ub_client_exec(char *const *argv, const struct ub_exec_options *options,
				struct ub_reason *why);

/* Asks the daemon something, in one line of JSON, and gets a line of JSON (malloc'ed):
 * {"cmd":"list"},
 * {"cmd":"detach","pid":N}, {"cmd":"attached"} ... */
int __must_check ub_client_ask(const char *request, char **answer, struct ub_reason *why);

#endif
