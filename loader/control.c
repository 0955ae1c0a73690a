// SPDX-License-Identifier: MIT
#include "control.h"

#include <dirent.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <client/client.h>
#include <common/cleanup.h>
#include <common/proc.h>

#define SOCKET_PREFIX "session-"

enum { MAX_LINE = 64 << 10, MAX_SESSIONS = 256, ANSWER_PATIENCE_S = 120 };

struct peer {
	struct ub_control *control;
	struct peer *next;
	struct ub_watch *watch;
	int fd;
	size_t used;
	char line[MAX_LINE];
};

struct ub_control {
	struct ub_loop *loop;
	struct ub_watch *watch;
	struct peer *peers;
	struct json_object *(*answer)(void *opaque, struct json_object *request);
	void *opaque;
	int fd;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

static void drop_peer(struct peer *peer)
{
	struct peer **at = &peer->control->peers;

	while (*at != peer)
		at = &(*at)->next;
	*at = peer->next;
	ub_watch_remove(peer->watch);
	close(peer->fd);
	free(peer);
}

/* Writes all of @text or gives up: a client that does not read its answer is not waited for long.
 */
static int send_all(int fd, const char *text, size_t size)
{
	while (size) {
		ssize_t n = send(fd, text, size, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -errno;
		text += n;
		size -= n;
	}
	return 0;
}

static int send_object(int fd, struct json_object *object)
{
	const char *text = json_object_to_json_string_ext(
		object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	int err = send_all(fd, text, strlen(text));

	return err ? err : send_all(fd, "\n", 1);
}

static int answer_line(struct peer *peer, const char *line)
{
	struct json_object *request = json_tokener_parse(line);
	struct json_object *answer;
	int err;

	if (!json_object_is_type(request, json_type_object)) {
		json_object_put(request);
		return -EINVAL;
	}
	answer = peer->control->answer(peer->control->opaque, request);
	err = send_object(peer->fd, answer);
	json_object_put(request);
	json_object_put(answer);
	return err;
}

static void on_peer(void *opaque, u32 events)
{
	struct peer *peer = opaque;
	char *newline;
	ssize_t n = recv(peer->fd, peer->line + peer->used, sizeof(peer->line) - 1 - peer->used,
			 MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop_peer(peer);
		return;
	}
	peer->used += n;
	peer->line[peer->used] = '\0';
	while ((newline = strchr(peer->line, '\n'))) {
		size_t size = newline + 1 - peer->line;

		*newline = '\0';
		if (answer_line(peer, peer->line)) {
			drop_peer(peer);
			return;
		}
		memmove(peer->line, newline + 1, peer->used - size + 1);
		peer->used -= size;
	}
	if (peer->used == sizeof(peer->line) - 1)
		drop_peer(peer);
}

static bool is_allowed(int fd)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) &&
	       (cred.uid == geteuid() || !cred.uid);
}

static void on_connection(void *opaque, u32 events)
{
	const struct timeval patience = { .tv_sec = 5 };
	struct ub_control *control = opaque;
	_cleanup_close_ int fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC);
	struct peer *peer;

	if (fd < 0 || !is_allowed(fd))
		return;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	peer = calloc(1, sizeof(*peer));
	if (!peer)
		return;
	peer->control = control;
	peer->fd = fd;
	peer->watch = ub_loop_watch(control->loop, fd, EPOLLIN, on_peer, peer);
	if (!peer->watch) {
		free(peer);
		return;
	}
	TAKE_FD(fd);
	peer->next = control->peers;
	control->peers = peer;
}

int ub_control_listen(struct ub_loop *loop,
		      struct json_object *(*answer)(void *opaque, struct json_object *request),
		      void *opaque, struct ub_control **out, struct ub_reason *why)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_free_ struct ub_control *control = calloc(1, sizeof(*control));
	_cleanup_close_ int fd = -1;
	char dir[sizeof(address.sun_path)];
	int n, err;

	if (!control)
		return ub_reason_set(why, -ENOMEM, "out of memory");
	err = ub_client_run_dir(dir, sizeof(dir), why);
	if (err)
		return err;
	n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/" SOCKET_PREFIX "%d", dir,
		     getpid());
	if (n >= (int)sizeof(address.sun_path))
		return ub_reason_set(why, -ENAMETOOLONG, "the run directory's name is too long: %s",
				     dir);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unlink(address.sun_path); /* of an earlier owner of our pid */
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 16))
		return ub_reason_set(why, -errno, "cannot listen on %s: %s", address.sun_path,
				     strerror(errno));
	*control =
		(struct ub_control) { .loop = loop, .answer = answer, .opaque = opaque, .fd = fd };
	memcpy(control->path, address.sun_path, sizeof(control->path));
	control->watch = ub_loop_watch(loop, fd, EPOLLIN, on_connection, control);
	if (!control->watch) {
		unlink(control->path);
		return ub_reason_set(why, -errno, "cannot watch the control socket: %s",
				     strerror(errno));
	}
	TAKE_FD(fd);
	*out = TAKE_PTR(control);
	return 0;
}

void ub_control_close(struct ub_control *control)
{
	if (!control)
		return;
	unlink(control->path);
	while (control->peers)
		drop_peer(control->peers);
	ub_watch_remove(control->watch);
	close(control->fd);
	free(control);
}

/* Connects to socket @name of @dir; removes it if nobody listens any more. */
static int open_session(const char *dir, const char *name, struct ub_session_ref *session)
{
	const struct timeval patience = { .tv_sec = ANSWER_PATIENCE_S };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = -1;
	struct stat st;
	int n;

	n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", dir, name);
	if (n >= (int)sizeof(address.sun_path) || stat(address.sun_path, &st))
		return -ENOENT;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* One that is stopped, or hangs, must not keep everybody else waiting. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		if (errno == ECONNREFUSED)
			unlink(address.sun_path);
		return -ENOENT;
	}
	*session = (struct ub_session_ref) {
		.pid = (pid_t)strtol(name + strlen(SOCKET_PREFIX), NULL, 10),
		.started_ns = (u64)st.st_mtim.tv_sec * 1000000000ull + (u64)st.st_mtim.tv_nsec,
		.fd = TAKE_FD(fd),
	};
	return 0;
}

static int newest_first(const void *a, const void *b)
{
	const struct ub_session_ref *x = a, *y = b;

	return x->started_ns > y->started_ns ? -1 : x->started_ns < y->started_ns;
}

int ub_sessions_open(struct ub_session_ref **sessions, u32 *nr, struct ub_reason *why)
{
	struct ub_session_ref *found;
	const struct dirent *entry;
	u32 nr_found = 0;
	char path[108];
	DIR *dir;
	int err;

	err = ub_client_run_dir(path, sizeof(path), why);
	if (err)
		return err;
	dir = opendir(path);
	if (!dir)
		return ub_reason_set(why, -errno, "cannot read %s: %s", path, strerror(errno));
	found = calloc(MAX_SESSIONS, sizeof(*found));
	if (!found) {
		closedir(dir);
		return -ENOMEM;
	}
	while ((entry = readdir(dir)) && nr_found < MAX_SESSIONS) {
		if (!strncmp(entry->d_name, SOCKET_PREFIX, strlen(SOCKET_PREFIX)) &&
		    !open_session(path, entry->d_name, &found[nr_found]))
			nr_found++;
	}
	closedir(dir);
	qsort(found, nr_found, sizeof(*found), newest_first);
	*sessions = found;
	*nr = nr_found;
	return 0;
}

void ub_sessions_close(struct ub_session_ref *sessions, u32 nr)
{
	for (u32 i = 0; i < nr; i++)
		close(sessions[i].fd);
	free(sessions);
}

static int receive_line(int fd, char **line)
{
	size_t size = 0, capacity = 4096;
	char *text = malloc(capacity);
	int err = -ECONNRESET;

	while (text) {
		ssize_t n;

		if (size + 1 == capacity) {
			char *more = realloc(text, capacity * 2);

			if (!more)
				break;
			text = more;
			capacity *= 2;
		}
		n = recv(fd, text + size, capacity - size - 1, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			err = -EAGAIN;
		if (n <= 0)
			break;
		size += n;
		if (text[size - 1] == '\n') {
			text[size - 1] = '\0';
			*line = text;
			return 0;
		}
	}
	free(text);
	return err;
}

bool ub_session_is_stopped(const struct ub_session_ref *session)
{
	return ub_proc_stopped(session->pid);
}

int ub_session_ask(const struct ub_session_ref *session, struct json_object *request,
		   struct json_object **answer, struct ub_reason *why)
{
	_cleanup_free_ char *line = NULL;
	int err = send_object(session->fd, request);

	if (!err)
		err = receive_line(session->fd, &line);
	if (err == -EAGAIN)
		return ub_reason_set(why, -ETIMEDOUT, "session %d does not answer", session->pid);
	if (err)
		return ub_reason_set(why, err, "session %d ended before it answered", session->pid);
	*answer = json_tokener_parse(line);
	if (!*answer)
		return ub_reason_set(why, -EPROTO, "session %d gave an answer that is not JSON",
				     session->pid);
	return 0;
}
