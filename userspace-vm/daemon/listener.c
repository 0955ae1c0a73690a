// SPDX-License-Identifier: MIT
/*
 * Calls that arrive as seccomp user notifications.
 *
 * A notification is answered before the next is taken and never kept: while it is out, its thread
 * can only be killed, so a kept one would take Ctrl-C away from the user. For the same reason a
 * caller can't be stopped for surgery before its reply: update.c puts that off and
 * ub_daemon_targets_release() brings the stop and the reply into the right order.
 *
 * The same holds for a call that was received and waits for the loop, which another operation is
 * in. Whoever operates on processes therefore asks ub_daemon_listener_owes() first, or, where it
 * can't be put off, has such calls answered before (ub_daemon_listeners_quiet()). Both call the
 * threads out of NOTIF_RECV; until the loop is left none goes there again, and a call that is not
 * received is ended by a stop, and made again, as any slow one. (By a signal's handler too, which
 * Linux would not let end these: so threads are called out only where a tool may be the target.)
 *
 * Each listener has a thread that sleeps in NOTIF_RECV, and so can be woken on the caller's CPU
 * (SYNC_WAKE_UP: caller and daemon wait for each other in turns). Woken through epoll it would be
 * put on an idle CPU, and rousing that costs more than all the rest of a call. The thread serves
 * the call itself, inside the loop (ub_loop_enter), so that all else is as single-threaded as it
 * looks. A kernel without SYNC_WAKE_UP (before 6.6) has the loop receive notifications.
 *
 * The memory of the caller is read by tid; NOTIF_ID_VALID afterwards (caller.c) says whether it was
 * still the caller's. A reply that can't be delivered is undone by closing its descriptor.
 */
#include "private.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <linux/seccomp.h>

#include <common/cleanup.h>
#include <common/proc.h>
#include <daemon/procfs.h>

#include "targets.h"

#define THREAD_STACK (8u << 20) /* it runs the verifier */
#define REAP_MS	     10

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS	   SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

/* A process under the listener, kept so that a call does not have to read /proc. */
struct process {
	struct process *next;
	struct listener *listener;
	struct ub_watch *watch;
	struct caller caller;
	pid_t last_tid; /* a thread known to be of this process */
};

struct listener {
	struct listener *next;
	struct ub_daemon *daemon;
	struct session *session;
	struct ub_watch *watch;
	struct process *processes;
	int fd;
	bool has_thread;
	bool ended; /* the thread shall end */
	pthread_t thread;
	bool receiving; /* the thread is in NOTIF_RECV, or will be without asking the loop; atomic */
	bool has_call;	/* otherwise: it received @notif, which nobody has answered yet */
	struct seccomp_notif notif;
	pid_t answering; /* the thread whose call is being answered, or 0; answers may nest */
};

static void process_free(struct process *process)
{
	struct process **at;

	for (at = &process->listener->processes; *at != process; at = &(*at)->next)
		;
	*at = process->next;
	ub_watch_remove(process->watch);
	ub_daemon_caller_deinit(&process->caller);
	free(process);
}

static void on_process_exit(void *opaque, u32 events)
{
	process_free(opaque);
}

static struct process *process_new(struct listener *listener, pid_t tid)
{
	struct process *process = calloc(1, sizeof(*process));
	struct ub_procfs_status status;
	int pidfd;

	if (!process || ub_procfs_status(tid, &status)) {
		free(process);
		return NULL;
	}
	pidfd = (int)syscall(SYS_pidfd_open, status.tgid, 0);
	if (pidfd < 0) {
		free(process);
		return NULL;
	}
	ub_daemon_caller_init(&process->caller, status.tgid, pidfd, status.uid, status.gid,
			      listener->session->id);
	ub_daemon_caller_listen(&process->caller, listener->fd);
	process->last_tid = tid;
	process->listener = listener;
	process->watch =
		ub_loop_watch(listener->daemon->loop, pidfd, EPOLLIN, on_process_exit, process);
	if (!process->watch) {
		ub_daemon_caller_deinit(&process->caller);
		free(process);
		return NULL;
	}
	process->next = listener->processes;
	listener->processes = process;
	return process;
}

/* tgkill() with signal 0 says whether a thread is (still) of a process. */
static struct process *process_of(struct listener *listener, pid_t tid)
{
	struct ub_procfs_status status;
	struct process *process;

	for (process = listener->processes; process; process = process->next) {
		if (process->last_tid == tid &&
		    syscall(SYS_tgkill, process->caller.base.pid, tid, 0) == 0)
			return process;
	}
	if (ub_procfs_status(tid, &status))
		return NULL;
	for (process = listener->processes; process; process = process->next) {
		if (process->caller.base.pid == status.tgid) {
			process->last_tid = tid;
			return process;
		}
	}
	return process_new(listener, tid);
}

bool ub_daemon_listener_has(const struct ub_daemon *daemon, pid_t pid)
{
	for (const struct listener *listener = daemon->listeners; listener;
	     listener = listener->next) {
		for (const struct process *process = listener->processes; process;
		     process = process->next) {
			if (process->caller.base.pid == pid)
				return true;
		}
	}
	return false;
}

static void send_value(struct listener *listener, u64 id, s64 value, bool pass)
{
	struct seccomp_notif_resp response = { .id = id };

	if (pass)
		response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	else if (value < 0)
		response.error = (s32)value;
	else
		response.val = value;
	/* ENOENT: the caller died, and with it whatever was to be undone. */
	ioctl(listener->fd, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

static void send_reply(struct listener *listener, u64 id, struct ub_reply *reply)
{
	struct seccomp_notif_addfd add = {
		.id = id,
		.flags = SECCOMP_ADDFD_FLAG_SEND,
		.srcfd = (u32)reply->fd,
		.newfd_flags = reply->fd_flags,
	};

	if (reply->fd < 0) {
		send_value(listener, id, reply->value, reply->pass);
		return;
	}
	if (ioctl(listener->fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add) < 0 && errno != ENOENT)
		send_value(listener, id, errno == EMFILE ? -EMFILE : -ENFILE, false);
	close(reply->fd);
	reply->fd = -1;
}

static void serve(struct listener *listener, const struct seccomp_notif *notif)
{
	struct ub_daemon *daemon = listener->daemon;
	struct ub_call call = { .nr = notif->data.nr };
	struct process *process;
	struct ub_reply reply;
	int err;

	if (daemon->told_to_go) { /* as when we are gone */
		send_value(listener, notif->id, -ENOSYS, false);
		return;
	}
	process = process_of(listener, (pid_t)notif->pid);
	if (!process) {
		send_value(listener, notif->id, -EPERM, false);
		return;
	}
	memcpy(call.args, notif->data.args, sizeof(call.args));
	ub_daemon_caller_begin(&process->caller, (pid_t)notif->pid, notif->id);
	listener->answering = (pid_t)notif->pid;
	ub_daemon_call(daemon, &process->caller, &call, true, &reply);
	err = ub_daemon_targets_before_reply(daemon->targets);
	if (err && reply.fd >= 0 && call.nr == SYS_bpf && call.args[0] == BPF_LINK_CREATE) {
		/* The link goes with its descriptor. */
		close(reply.fd);
		reply = (struct ub_reply) { .value = err, .fd = -1 };
	}
	send_reply(listener, notif->id, &reply);
	listener->answering = 0;
	ub_daemon_targets_release(daemon->targets);
}

/* --- the thread ----------------------------------------------------------------------------------
 */

/* 0; -errno: nothing was received. */
static int receive(struct listener *listener, struct seccomp_notif *notif)
{
	/* The kernel wants it zeroed. */
	memset(notif, 0, sizeof(*notif));
	return ioctl(listener->fd, SECCOMP_IOCTL_NOTIF_RECV, notif) ? -errno : 0;
}

static void serve_received(struct listener *listener)
{
	const struct seccomp_notif notif = listener->notif;

	if (!listener->has_call)
		return;
	listener->has_call = false;
	serve(listener, &notif);
}

static void *receiver_main(void *opaque)
{
	struct listener *listener = opaque;
	struct ub_loop *loop = listener->daemon->loop;
	bool ended = false;

	while (!ended) {
		struct pollfd ready = { .fd = listener->fd, .events = POLLIN };
		int err = receive(listener, &listener->notif);

		/* The call went away meanwhile, or all of the callers: do not ask in circles. */
		if (err == -ENOENT)
			poll(&ready, 1, -1);
		listener->has_call = !err;
		__atomic_store_n(&listener->receiving, false, __ATOMIC_RELEASE);
		ub_loop_enter(loop);
		ended = listener->ended || (ready.revents & (POLLHUP | POLLERR));
		if (!ended)
			serve_received(listener);
		__atomic_store_n(&listener->receiving, !ended, __ATOMIC_RELEASE);
		ub_loop_leave(loop);
	}
	return NULL;
}

/* Has the thread come out of NOTIF_RECV. A signal that comes just before NOTIF_RECV is lost. */
static void call_out(struct listener *listener)
{
	while (__atomic_load_n(&listener->receiving, __ATOMIC_ACQUIRE)) {
		pthread_kill(listener->thread, SIGUSR1);
		ub_daemon_sleep_us(20);
	}
}

bool ub_daemon_listener_may_have(const struct ub_daemon *daemon, pid_t pid)
{
	char proc[32];
	u64 mode;

	if (!daemon->listeners)
		return false;
	snprintf(proc, sizeof(proc), "/proc/%d", pid);
	return !ub_proc_status(proc, "Seccomp", 10, &mode) && mode == SECCOMP_MODE_FILTER;
}

bool ub_daemon_listener_owes(struct ub_daemon *daemon, pid_t pid)
{
	if (!ub_daemon_listener_may_have(daemon, pid))
		return false;
	for (struct listener *listener = daemon->listeners; listener; listener = listener->next) {
		if (listener->answering && syscall(SYS_tgkill, pid, listener->answering, 0) == 0)
			return true;
		if (!listener->has_thread)
			continue;
		call_out(listener);
		if (listener->has_call &&
		    syscall(SYS_tgkill, pid, (pid_t)listener->notif.pid, 0) == 0)
			return true;
	}
	return false;
}

void ub_daemon_listeners_quiet(struct ub_daemon *daemon)
{
	for (struct listener *listener = daemon->listeners; listener; listener = listener->next) {
		if (!listener->has_thread)
			continue;
		call_out(listener);
		serve_received(listener);
	}
}

static int start_receiver(struct listener *listener)
{
	pthread_attr_t attr;
	int err;

	if (pthread_attr_init(&attr))
		return -ENOMEM;
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	listener->receiving = true;
	err = -pthread_create(&listener->thread, &attr, receiver_main, listener);
	pthread_attr_destroy(&attr);
	listener->has_thread = !err;
	return err;
}

static void on_reap_timer(void *opaque);

/* Frees listeners whose thread has ended. A thread in NOTIF_RECV is called out of it by a signal,
 * once more each time, since one that comes just before NOTIF_RECV is lost. */
static void reap(struct ub_daemon *daemon)
{
	struct listener **at = &daemon->ended_listeners;

	while (*at) {
		struct listener *listener = *at;

		if (pthread_tryjoin_np(listener->thread, NULL)) {
			pthread_kill(listener->thread, SIGUSR1);
			at = &listener->next;
			continue;
		}
		*at = listener->next;
		close(listener->fd);
		free(listener);
	}
	if (daemon->ended_listeners && !daemon->reap_timer)
		daemon->reap_timer = ub_loop_after(daemon->loop, REAP_MS, on_reap_timer, daemon);
}

static void on_reap_timer(void *opaque)
{
	struct ub_daemon *daemon = opaque;

	daemon->reap_timer = NULL;
	reap(daemon);
}

void ub_daemon_listeners_wait(struct ub_daemon *daemon)
{
	for (;;) {
		ub_loop_enter(daemon->loop);
		reap(daemon);
		ub_loop_leave(daemon->loop);
		if (!daemon->ended_listeners)
			return;
		usleep(1000);
	}
}

/* --- a listener's life ---------------------------------------------------------------------------
 */

void ub_daemon_listener_free(struct listener *listener)
{
	struct ub_daemon *daemon = listener->daemon;
	struct session *session = listener->session;
	struct listener **at;

	for (at = &daemon->listeners; *at != listener; at = &(*at)->next)
		;
	*at = listener->next;
	while (listener->processes)
		process_free(listener->processes);
	ub_watch_remove(listener->watch);
	/* The process that prints our notes goes with it. */
	if (session->notes)
		ub_daemon_connection_over(session->notes);
	ub_daemon_session_leave(session);
	if (listener->has_thread) {
		listener->ended = true;
		listener->next = daemon->ended_listeners;
		daemon->ended_listeners = listener;
		reap(daemon);
	} else {
		close(listener->fd);
		free(listener);
	}
	ub_daemon_check_idle(daemon);
}

static void on_listener(void *opaque, u32 events)
{
	struct listener *listener = opaque;
	struct seccomp_notif notif;

	if ((events & EPOLLIN) && !listener->has_thread) {
		if (!receive(listener, &notif))
			serve(listener, &notif);
		return;
	}
	if (events & (EPOLLHUP | EPOLLERR))
		ub_daemon_listener_free(listener);
}

int ub_daemon_listener_new(struct ub_daemon *daemon, struct session *session, int fd)
{
	struct listener *listener;
	bool sync;
	u64 none = 0;

	/* Any other kind of file answers ENOTTY or EINVAL here, and would make RECV wait for ever.
	 */
	if (ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &none) == 0 || errno != ENOENT)
		return -EINVAL;
	listener = calloc(1, sizeof(*listener));
	if (!listener)
		return -ENOMEM;
	listener->daemon = daemon;
	listener->session = session;
	listener->fd = fd;
	sync = ioctl(fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) == 0;
	listener->watch =
		ub_loop_watch(daemon->loop, fd, sync ? 0 : EPOLLIN, on_listener, listener);
	if (!listener->watch || (sync && start_receiver(listener))) {
		ub_watch_remove(listener->watch);
		free(listener);
		return -EAGAIN;
	}
	ub_daemon_session_enter(session);
	listener->next = daemon->listeners;
	daemon->listeners = listener;
	return 0;
}
