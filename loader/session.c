// SPDX-License-Identifier: MIT
#include "session.h"

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <common/cleanup.h>
#include <common/clock.h>
#include <common/loop.h>

#include "commands.h"
#include "control.h"
#include "link_manager.h"
#include "output.h"
#include "session_private.h"
#include "spawn.h"

static void on_link(void *opaque, const struct ub_tracee *target, const char *line)
{
	const struct ub_session *session = opaque;

	if (session->options->verbose)
		ub_note("attach %d (%s): %s", target->pid, target->comm, line);
}

static void on_tick(void *opaque);

/* At a steady pace: a print that took long does not shift the following ones. */
static void arm_tick(struct ub_session *session)
{
	u64 now = ub_now_ns();

	if (session->next_tick_ns < now)
		session->next_tick_ns = now;
	ub_loop_after(session->loop, (session->next_tick_ns - now) / 1000000, on_tick, session);
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
	arm_tick(session);
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
		/* A script's background job starts with some of them ignored, which signalfd would
		 * honour. Only nohup means it. */
		if (signal(ends[i], SIG_DFL) == SIG_IGN && ends[i] == SIGHUP)
			signal(SIGHUP, SIG_IGN);
		else
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
	ub_session_forget_processes(session);
	ub_link_manager_free(session->manager);
	ub_programs_free(session->programs);
	ub_watch_remove(session->signal_watch);
	ub_loop_free(session->loop);
	if (session->signal_fd >= 0)
		close(session->signal_fd);
}

static int loop(struct ub_session *session)
{
	const struct ub_session_options *options = session->options;

	ub_session_show_start(session);
	session->started = true;
	session->next_tick_ns = ub_now_ns() + (u64)(options->interval * 1e9);
	arm_tick(session);
	if (options->seconds > 0)
		ub_loop_after(session->loop, (u64)(options->seconds * 1000), on_deadline, session);
	if (ub_session_is_finished(session))
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
	ub_session_is_lost(&session);
	end_child(&session);
	ub_session_events_count_lost(&session);
	ub_session_show_summary(&session);
	close_session(&session);
	if (err) {
		ub_error("%s", strerror(-err));
		return UB_EXIT_FAILED;
	}
	return session.lost ? UB_EXIT_FAILED : UB_EXIT_OK;
}
