// SPDX-License-Identifier: MIT
#include "session.h"

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>

#include <client/client.h>
#include <common/cleanup.h>
#include <common/loop.h>

#include "commands.h"
#include "control.h"
#include "link_manager.h"
#include "map_dump.h"
#include "output.h"
#include "session_private.h"
#include "spawn.h"

/* Watches for the end of an attached process. */
struct exit_watch {
	struct exit_watch *next;
	struct ub_session *session;
	struct ub_watch *watch;
	pid_t pid;
};

static void on_exit_of_target(void *opaque, u32 events)
{
	struct exit_watch *exit_watch = opaque;

	ub_session_reap(exit_watch->session);
}

static void watch_exit(struct ub_session *session, const struct ub_tracee *target)
{
	struct exit_watch *exit_watch = calloc(1, sizeof(*exit_watch));

	if (!exit_watch)
		return; /* the tick reaps too, only later */
	exit_watch->session = session;
	exit_watch->pid = target->pid;
	exit_watch->watch =
		ub_loop_watch(session->loop, target->pidfd, EPOLLIN, on_exit_of_target, exit_watch);
	exit_watch->next = session->exit_watches;
	session->exit_watches = exit_watch;
}

static void unwatch_exit(struct ub_session *session, pid_t pid)
{
	struct exit_watch **at = &session->exit_watches;

	while (*at) {
		struct exit_watch *exit_watch = *at;

		if (exit_watch->pid != pid) {
			at = &exit_watch->next;
			continue;
		}
		*at = exit_watch->next;
		ub_watch_remove(exit_watch->watch);
		free(exit_watch);
	}
}

/* A count under a pid belongs to the process that had it when it was counted: a new owner starts at
 * 0. */
static void forget_former_owner(struct ub_session *session, const struct ub_tracee *target)
{
	const struct ub_bundled *bundled = session->programs->bundled;
	struct owner *owner = session->owners;

	while (owner && owner->pid != target->pid)
		owner = owner->next;
	if (owner && owner->start_time == target->start_time)
		return;
	if (!owner) {
		owner = calloc(1, sizeof(*owner));
		if (!owner)
			return;
		owner->pid = target->pid;
		owner->next = session->owners;
		session->owners = owner;
	} else if (bundled && bundled->pid_map) {
		ub_map_forget(session->programs, bundled->pid_map, target->pid);
	}
	owner->start_time = target->start_time;
}

static const struct ub_attachment *attachment_of(const struct ub_session *session, pid_t pid)
{
	const struct ub_attachment *attachment;

	for (u32 i = 0; (attachment = ub_link_manager_at(session->manager, i)); i++) {
		if (attachment->target.pid == pid)
			return attachment;
	}
	return NULL;
}

int ub_session_attach(struct ub_session *session, pid_t pid, struct ub_reason *why)
{
	const struct ub_attachment *attachment;
	int err;

	ub_session_reap(session);
	err = ub_link_manager_attach(session->manager, pid, why);
	if (err)
		return err;
	attachment = attachment_of(session, pid);
	forget_former_owner(session, &attachment->target);
	watch_exit(session, &attachment->target);
	ub_session_show_attach(session, attachment);
	return 0;
}

static void before_detach(struct ub_session *session, pid_t pid)
{
	unwatch_exit(session, pid);
}

void ub_session_detach(struct ub_session *session, pid_t pid, struct ub_detach_outcome *outcome)
{
	before_detach(session, pid);
	ub_link_manager_detach(session->manager, pid, outcome);
	if (outcome->result != UB_WAS_NOT_ATTACHED)
		ub_session_show_detach(session, outcome);
}

static bool is_finished(const struct ub_session *session)
{
	return !session->options->stay && !session->options->everybody &&
	       !ub_link_manager_count(session->manager);
}

void ub_session_reap(struct ub_session *session)
{
	const struct ub_attachment *attachment;
	struct ub_detach_outcome outcome;

	/* The watch goes before the pidfd that it watches. */
	for (u32 i = 0; (attachment = ub_link_manager_at(session->manager, i)); i++) {
		if (ub_tracee_is_gone(&attachment->target))
			unwatch_exit(session, attachment->target.pid);
	}
	while (ub_link_manager_reap(session->manager, &outcome))
		ub_session_show_detach(session, &outcome);
	if (session->started && is_finished(session))
		ub_loop_stop(session->loop);
}

static void on_link(void *opaque, const struct ub_tracee *target, const char *line)
{
	const struct ub_session *session = opaque;

	if (session->options->verbose)
		ub_note("attach %d (%s): %s", target->pid, target->comm, line);
}

bool ub_session_is_lost(struct ub_session *session)
{
	if (!ub_client_lost())
		return false;
	if (!session->lost)
		ub_error(
			"the userspace kernel's daemon has ended; its guard takes the probes out of "
			"the processes: start the session again");
	session->lost = true;
	ub_loop_stop(session->loop);
	return true;
}

static void on_tick(void *opaque)
{
	struct ub_session *session = opaque;

	if (ub_session_is_lost(session))
		return;
	ub_session_reap(session);
	ub_session_show_tick(session);
	if (ferror(stdout)) {
		/* Like a reader that went away (head): nobody is told anything any more. */
		ub_loop_stop(session->loop);
		return;
	}
	session->next_tick_ns += (u64)(session->options->interval * 1e9);
	ub_session_arm_tick(session);
}

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000ull + (u64)ts.tv_nsec;
}

/* At a steady pace: a print that took long does not shift the following ones. */
void ub_session_arm_tick(struct ub_session *session)
{
	u64 now = now_ns();

	if (session->next_tick_ns < now)
		session->next_tick_ns = now;
	ub_loop_after(session->loop, (session->next_tick_ns - now) / 1000000, on_tick, session);
}

static void on_deadline(void *opaque)
{
	struct ub_session *session = opaque;

	ub_loop_stop(session->loop);
}

static void on_signal(void *opaque, u32 events)
{
	struct ub_session *session = opaque;
	struct signalfd_siginfo info;

	while (read(session->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo != SIGCHLD)
			ub_loop_stop(session->loop);
	}
}

static int block_signals(struct ub_session *session, struct ub_reason *why)
{
	static const int ends[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ub_array_size(ends); i++) {
		/* A script's background job starts with some of them ignored, and signalfd never
		 * sees those. */
		signal(ends[i], SIG_DFL);
		sigaddset(&set, ends[i]);
	}
	sigprocmask(SIG_BLOCK, &set, NULL);
	session->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (session->signal_fd >= 0)
		session->signal_watch = ub_loop_watch(session->loop, session->signal_fd, EPOLLIN,
						      on_signal, session);
	if (!session->signal_watch)
		return ub_reason_set(why, -errno, "cannot watch for signals: %s", strerror(errno));
	return 0;
}

static int prepare(struct ub_session *session, struct ub_reason *why)
{
	const struct ub_session_options *options = session->options;
	int err;

	/* With our signals not yet blocked: a daemon that this starts inherits the mask. */
	err = options->backend->enter(why);
	if (err)
		return ub_reason_prefix(why, err, "the %s backend does not work here",
					options->backend->name);
	session->loop = ub_loop_new();
	if (!session->loop)
		return ub_reason_set(why, -errno, "cannot make an event loop: %s", strerror(errno));
	err = block_signals(session, why);
	if (err)
		return err;
	err = ub_programs_load(options->program, options->args, options->nr_args,
			       &session->programs, why);
	if (err)
		return err;
	session->manager = ub_link_manager_new(options->backend, session->programs);
	if (!session->manager)
		return ub_reason_set(why, -ENOMEM, "out of memory");
	ub_link_manager_on_link(session->manager, on_link, session);
	err = ub_session_events_open(session, why);
	if (err)
		return err;
	if (options->follow_forks)
		err = ub_session_forks_follow(session, why);
	if (err)
		return err;
	return ub_control_listen(session->loop, ub_session_answer, session, &session->control, why);
}

static int attach_first(struct ub_session *session, struct ub_reason *why)
{
	const struct ub_session_options *options = session->options;
	int err;

	for (u32 i = 0; i < options->nr_pids; i++) {
		err = ub_session_attach(session, options->pids[i], why);
		if (err)
			return err;
	}
	if (options->everybody)
		return ub_session_attach_everybody(session, why);
	if (!options->command)
		return 0;
	err = ub_spawn_stopped(options->command, &session->child, why);
	if (err)
		return err;
	err = ub_session_attach(session, session->child, why);
	if (err)
		return err;
	ub_spawn_resume(session->child);
	return 0;
}

/* For so long the command may take to end after SIGTERM; then it gets SIGKILL. */
#define CHILD_PATIENCE_MS 5000

static bool wait_child(pid_t pid, int *status)
{
	for (int ms = 0; ms < CHILD_PATIENCE_MS; ms += 10) {
		if (waitpid(pid, status, WNOHANG))
			return true;
		usleep(10000);
	}
	return false;
}

/* Ends the command that we started, if it still runs, and says how it ended. */
static void end_child(struct ub_session *session)
{
	int status;

	if (!session->child)
		return;
	if (!waitpid(session->child, &status, WNOHANG)) {
		kill(session->child, SIGTERM);
		kill(session->child, SIGCONT);
		if (!wait_child(session->child, &status)) {
			kill(session->child, SIGKILL);
			waitpid(session->child, &status, 0);
		}
	}
	session->child_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	session->child = 0;
}

static void detach_everything(struct ub_session *session)
{
	const struct ub_attachment *attachment;

	while ((attachment = ub_link_manager_at(session->manager, 0))) {
		struct ub_detach_outcome outcome;

		ub_session_detach(session, attachment->target.pid, &outcome);
	}
}

static void close_session(struct ub_session *session)
{
	ub_control_close(session->control);
	ub_session_forks_unfollow(session);
	ub_session_events_close(session);
	ub_session_detach_everybody(session);
	while (session->exit_watches)
		unwatch_exit(session, session->exit_watches->pid);
	ub_link_manager_free(session->manager);
	ub_programs_free(session->programs);
	ub_watch_remove(session->signal_watch);
	ub_loop_free(session->loop);
	if (session->signal_fd >= 0)
		close(session->signal_fd);
	while (session->owners) {
		struct owner *owner = session->owners;

		session->owners = owner->next;
		free(owner);
	}
}

static int loop(struct ub_session *session)
{
	const struct ub_session_options *options = session->options;

	ub_session_show_start(session);
	session->started = true;
	session->next_tick_ns = now_ns() + (u64)(options->interval * 1e9);
	ub_session_arm_tick(session);
	if (options->seconds > 0)
		ub_loop_after(session->loop, (u64)(options->seconds * 1000), on_deadline, session);
	if (is_finished(session))
		return 0;
	return ub_loop_run(session->loop);
}

int ub_session_run(const struct ub_session_options *options)
{
	struct ub_session session = { .options = options, .signal_fd = -1 };
	struct ub_reason why = { 0 };
	int err;

	ub_libbpf_log(options->verbose);
	err = prepare(&session, &why);
	if (!err)
		err = attach_first(&session, &why);
	if (err) {
		end_child(&session);
		ub_error("%s", why.text[0] ? why.text : strerror(-err));
		close_session(&session);
		return UB_EXIT_FAILED;
	}
	err = loop(&session);
	ub_session_forks_unfollow(&session);
	ub_session_events_drain(&session);
	detach_everything(&session);
	end_child(&session);
	ub_session_show_summary(&session);
	close_session(&session);
	if (err) {
		ub_error("%s", strerror(-err));
		return UB_EXIT_FAILED;
	}
	return session.lost ? UB_EXIT_FAILED : UB_EXIT_OK;
}
