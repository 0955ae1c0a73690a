// SPDX-License-Identifier: MIT
#include <client/client.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <common/proc.h>
#include <daemon/protocol.h>

#include "interpose.h"
#include "private.h"

#define MAX_ANSWER (64u << 20)
#define WAIT_MS	   100
#define SLOW_MS	   5000 /* so long a caller who wants to end waits for a daemon that runs */

/* --- the run directory --------------------------------------------------------------------------
 */

static int name_run_dir(char *path, size_t size)
{
	const char *given = getenv("UBPF_RUN_DIR");
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	int n;

	if (given && given[0])
		n = snprintf(path, size, "%s", given);
	else if (getuid() != 0 && runtime && runtime[0] == '/' && access(runtime, W_OK) == 0)
		n = snprintf(path, size, "%s/ubpf-run", runtime);
	else if (getuid() == 0)
		n = snprintf(path, size, "/run/ubpf-run");
	else
		n = snprintf(path, size, "/tmp/ubpf-run-%u", getuid());
	return n < (int)size ? 0 : -ENAMETOOLONG;
}

int ub_client_run_dir(char *path, size_t size, struct ub_reason *why)
{
	struct stat st;
	int err;

	err = name_run_dir(path, size);
	if (err)
		return ub_reason_set(why, err, "run directory: name too long");
	if (mkdir(path, 0700) && errno != EEXIST)
		return ub_reason_set(why, -errno, "can't make the run directory %s: %s", path,
				     strerror(errno));
	/* In /tmp somebody else may have been first. */
	if (lstat(path, &st))
		return ub_reason_set(why, -errno, "run directory %s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode) || st.st_uid != getuid() || (st.st_mode & 077))
		return ub_reason_set(
			why, -EPERM,
			"run directory %s must be a directory of uid %u with mode 0700: "
			"remove it, or name another in UBPF_RUN_DIR",
			path, getuid());
	return 0;
}

/* --- connecting ---------------------------------------------------------------------------------
 */

static int socket_address(const char *dir, struct sockaddr_un *address, struct ub_reason *why)
{
	*address = (struct sockaddr_un) { .sun_family = AF_UNIX };
	if (snprintf(address->sun_path, sizeof(address->sun_path), "%s/socket", dir) >=
	    (int)sizeof(address->sun_path))
		return ub_reason_set(why, -ENAMETOOLONG,
				     "the run directory's name is too long for a socket: %s", dir);
	return 0;
}

static bool (*on_wait)(u64 ms);

void ub_client_on_wait(bool (*fn)(u64 ms))
{
	on_wait = fn;
}

/* The daemon at the other end, if it is stopped, or 0. */
static pid_t stopped_peer(int sock)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &size))
		return 0;
	return ub_proc_stopped(peer.pid) ? peer.pid : 0;
}

int ub_client_receive(int sock, struct ub_msg *msg, void *data, size_t capacity, size_t *size,
		      int *fd, u64 *waited_ms)
{
	for (u64 ms = WAIT_MS;; ms += WAIT_MS) {
		int err = ub_msg_recv(sock, msg, data, capacity, size, fd);

		if (err != -EAGAIN)
			return err;
		/* One that is only slow has the answer that is waited for soon. */
		if (on_wait && !on_wait(ms) && (ms >= SLOW_MS || stopped_peer(sock))) {
			*waited_ms = ms;
			return -EINTR;
		}
	}
}

static int connect_to(const struct sockaddr_un *address)
{
	_cleanup_close_ int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	const struct timeval often = { 0, WAIT_MS * 1000 };

	if (sock < 0)
		return -errno;
	if (on_wait && setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &often, sizeof(often)))
		return -errno;
	while (connect(sock, (const struct sockaddr *)address, sizeof(*address))) {
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
		if (errno == EAGAIN) /* its queue is full */
			usleep(1000);
	}
	return TAKE_FD(sock);
}

static int lock_run_dir(const char *dir, struct ub_reason *why)
{
	pid_t holder;
	int lock = ub_run_dir_lock_wait(dir, on_wait, &holder);

	if (lock == -EWOULDBLOCK)
		return ub_reason_set(why, lock,
				     "process %d, which is stopped, holds %s/lock: continue it "
				     "(kill -CONT %d) or end it",
				     holder, dir, holder);
	if (lock < 0)
		return ub_reason_set(why, lock, "can't lock %s/lock: %s", dir, strerror(-lock));
	return lock;
}

/* When to start a daemon. */
enum start {
	NEVER,	     /* this may be a process of a tool, and /proc/self/exe not ours */
	IF_DESERTED, /* the last one was killed with its guard: to clean up after it */
	IF_NONE,
};

static int find_daemon(enum start start, struct ub_reason *why)
{
	_cleanup_close_ int lock = -1;
	struct sockaddr_un address;
	char dir[PATH_MAX];
	bool deserted;
	int sock, err;

	err = ub_client_run_dir(dir, sizeof(dir), why);
	if (!err)
		err = socket_address(dir, &address, why);
	if (err)
		return err;
	lock = lock_run_dir(dir, why);
	if (lock < 0)
		return lock;
	sock = connect_to(&address);
	if (sock >= 0)
		return sock;
	/* Of a daemon that was killed, and its guard too, or that is being cleaned up after. */
	deserted = sock == -ECONNREFUSED;
	if (sock != -ENOENT && !deserted)
		return ub_reason_set(why, sock, "can't connect to %s: %s", address.sun_path,
				     strerror(-sock));
	if (start < (deserted ? IF_DESERTED : IF_NONE))
		return ub_reason_set(why, -ENOENT, "no userspace session is running");
	unlink(address.sun_path);
	err = ub_client_start_daemon(&address, dir, deserted, why);
	if (err)
		return err;
	sock = connect_to(&address);
	if (sock < 0)
		return ub_reason_set(why, sock, "can't connect to %s: %s", address.sun_path,
				     strerror(-sock));
	return sock;
}

/* Nobody shall wait, without a word, for a daemon that somebody has stopped. */
static int check_runs(int sock, struct ub_reason *why)
{
	pid_t pid;

	for (u64 ms = 0; (pid = stopped_peer(sock)); ms += WAIT_MS) {
		if (ms >= UB_STOPPED_MS)
			return ub_reason_set(why, -EHOSTDOWN,
					     "the userspace kernel's daemon is stopped: continue "
					     "it (kill -CONT %d) or end it (kill -KILL %d)",
					     pid, pid);
		if (on_wait && !on_wait(ms))
			return ub_reason_set(why, -EINTR, "interrupted");
		usleep(WAIT_MS * 1000);
	}
	return 0;
}

static int connect_daemon(enum start start, struct ub_reason *why)
{
	_cleanup_close_ int sock = find_daemon(start, why);
	int err = sock < 0 ? sock : check_runs(sock, why);

	return err ? err : TAKE_FD(sock);
}

int ub_client_connect(struct ub_reason *why)
{
	return connect_daemon(IF_NONE, why);
}

int ub_client_connect_running(struct ub_reason *why)
{
	return connect_daemon(IF_DESERTED, why);
}

int ub_client_hello(int sock, u32 kind, const pid_t *pids, u32 nr_pids, u64 session, int fd,
		    pid_t *guard, u64 *id, struct ub_reason *why)
{
	struct ub_msg msg = {
		.version = UB_PROTOCOL_VERSION,
		.type = UB_MSG_HELLO,
		.words = { kind, nr_pids, session },
	};
	u64 waited_ms;
	size_t size;
	int err;

	err = ub_msg_send(sock, &msg, pids, nr_pids * sizeof(*pids), fd);
	if (!err)
		err = ub_client_receive(sock, &msg, NULL, 0, &size, NULL, &waited_ms);
	if (!err && msg.type != UB_MSG_REPLY)
		err = -EBADMSG;
	if (err)
		return ub_reason_set(why, err, "the userspace kernel's daemon does not answer: %s",
				     err == -EBADMSG ? "it is of another version" : strerror(-err));
	err = (int)(s64)msg.words[0];
	if (err)
		return ub_reason_set(why, err, "the userspace kernel's daemon refused: %s",
				     strerror(-err));
	if (guard)
		*guard = (pid_t)msg.words[1];
	if (id)
		*id = msg.words[2];
	return 0;
}

void ub_client_allow_tracer(pid_t guard)
{
	/* EINVAL where there is no Yama, which is as good. */
	prctl(PR_SET_PTRACER, (unsigned long)guard, 0, 0, 0);
}

int ub_client_join(u64 session, struct ub_reason *why)
{
	_cleanup_close_ int sock = connect_daemon(NEVER, why);
	pid_t guard;
	int err;

	if (sock < 0)
		return TAKE_FD(sock);
	err = ub_client_hello(sock, UB_HELLO_MEMBER, NULL, 0, session, -1, &guard, NULL, why);
	if (err)
		return err;
	ub_client_allow_tracer(guard);
	return TAKE_FD(sock);
}

static pid_t guard_pid;

int ub_client_enter(struct ub_reason *why)
{
	_cleanup_close_ int sock = ub_client_connect(why);
	u64 session;
	int err;

	if (sock < 0)
		return sock;
	err = ub_client_hello(sock, UB_HELLO_CALLER, NULL, 0, 0, -1, &guard_pid, &session, why);
	if (err)
		return err;
	ub_client_allow_tracer(guard_pid);
	ub_interpose_start(TAKE_FD(sock), session, NULL);
	return 0;
}

void ub_client_allow_tracing(void)
{
	if (guard_pid > 0)
		ub_client_allow_tracer(guard_pid);
}

/* --- asking -------------------------------------------------------------------------------------
 */

static int receive_answer(int sock, char **answer)
{
	_cleanup_free_ char *text = NULL;
	size_t total = 0, size;
	struct ub_msg msg;
	u64 waited_ms;

	do {
		char *grown = realloc(text, total + UB_MSG_MAX_DATA + 1);
		int err;

		if (!grown)
			return -ENOMEM;
		text = grown;
		err = ub_client_receive(sock, &msg, text + total, UB_MSG_MAX_DATA, &size, NULL,
					&waited_ms);
		if (err)
			return err;
		if (msg.type != UB_MSG_ANSWER || total + size > MAX_ANSWER)
			return -EBADMSG;
		total += size;
	} while (msg.words[0]);
	text[total] = '\0';
	*answer = TAKE_PTR(text);
	return 0;
}

int ub_client_ask(const char *request, char **answer, struct ub_reason *why)
{
	_cleanup_close_ int sock = ub_client_connect_running(why);
	struct ub_msg msg = { .version = UB_PROTOCOL_VERSION, .type = UB_MSG_ASK };
	int err;

	if (sock < 0)
		return sock;
	err = ub_client_hello(sock, UB_HELLO_ASK, NULL, 0, 0, -1, NULL, NULL, why);
	if (err)
		return err;
	err = ub_msg_send(sock, &msg, request, strlen(request), -1);
	if (!err)
		err = receive_answer(sock, answer);
	if (err)
		return ub_reason_set(why, err, "the userspace kernel's daemon does not answer: %s",
				     strerror(-err));
	return 0;
}
