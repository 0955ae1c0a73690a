// SPDX-License-Identifier: MIT
/*
 * Whoever dies, and when: a tool under exec or our own loader, its target, the daemon or its guard
 * is killed, interrupted or stopped at a random instant, from before the tool has its listener to
 * long after it is attached. Then the target must hold nothing of ours, its text be as in its file,
 * no process of the session be left, and no file but the lock.
 *
 *   kills [ROUNDS [SEED [BLOW]]]	BLOW: a number, only this one
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <common/types.h>

#define ROUNDS	    12
#define SPAN_US	    60000 /* in which it happens; attaching takes some milliseconds */
#define DEADLINE_MS 100000

static char run_dir[64] = "/tmp/ubpf-kills-XXXXXX";
static char ubpf_run[4096], self[4096];
static pid_t victim, tool;

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000 + (u64)ts.tv_nsec / 1000000;
}

/* --- processes -----------------------------------------------------------------------------------
 */

static pid_t start(char *const *argv)
{
	pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(127);
		dup2(null, 1);
		dup2(null, 2);
		execv(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static size_t read_proc(const char *pid, const char *name, char *text, size_t size)
{
	_cleanup_close_ int fd = -1;
	char path[300];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%s/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, size - 1);
	text[n < 0 ? 0 : n] = '\0';
	return n < 0 ? 0 : (size_t)n;
}

static bool is_dead(const char *pid)
{
	char text[1024];
	const char *end;

	read_proc(pid, "stat", text, sizeof(text));
	end = strrchr(text, ')');
	return !end || end[2] == 'Z' || end[2] == 'X';
}

/* A living process that works for our run directory and is called @name (NULL: whatever); 0:
 * none. */
static pid_t find_process(const char *name)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	pid_t found = 0;

	while (proc && !found && (entry = readdir(proc))) {
		char text[32768];
		pid_t pid = (pid_t)atoi(entry->d_name);
		size_t size;

		if (pid <= 0 || pid == getpid() || pid == victim)
			continue;
		size = read_proc(entry->d_name, "comm", text, sizeof(text));
		if (name && strncmp(text, name, strlen(name)) != 0)
			continue;
		size = read_proc(entry->d_name, "environ", text, sizeof(text));
		if (memmem(text, size, run_dir, strlen(run_dir)) && !is_dead(entry->d_name))
			found = pid;
	}
	if (proc)
		closedir(proc);
	return found;
}

/* --- what must be so afterwards ------------------------------------------------------------------
 */

static bool same_text(FILE *maps)
{
	_cleanup_close_ int mem = -1, file = -1;
	char line[512], path[64], rights[5], name[256];
	unsigned long start, end, offset;
	bool same = true;

	snprintf(path, sizeof(path), "/proc/%d/mem", victim);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	file = open(self, O_RDONLY | O_CLOEXEC);
	while (fgets(line, sizeof(line), maps)) {
		if (strstr(line, "ubpf-run:"))
			return false;
		if (sscanf(line, "%lx-%lx %4s %lx %*s %*s %255s", &start, &end, rights, &offset,
			   name) != 5 ||
		    rights[2] != 'x' || strcmp(name, self) != 0)
			continue;
		for (unsigned long at = 0; at < end - start; at += 4096) {
			char there[4096], here[4096] = "";

			if (pread(mem, there, 4096, (off_t)(start + at)) != 4096 ||
			    pread(file, here, 4096, (off_t)(offset + at)) <= 0)
				return false;
			same = same && !memcmp(there, here, 4096);
		}
	}
	return same;
}

/* The victim is dead, or as if it had never been touched. */
static bool victim_is_clean(void)
{
	_cleanup_fclose_ FILE *maps = NULL;
	char path[64], pid[16];

	snprintf(pid, sizeof(pid), "%d", victim);
	if (is_dead(pid))
		return true;
	snprintf(path, sizeof(path), "/proc/%d/maps", victim);
	maps = fopen(path, "re");
	return maps && same_text(maps);
}

static bool no_process(void)
{
	return !find_process(NULL);
}

/* The next file that has no reason to be there, or NULL. */
static const struct dirent *next_file(DIR *dir)
{
	const struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] != '.' && strcmp(entry->d_name, "lock") != 0)
			return entry;
	}
	return NULL;
}

/* The name of the session's socket in the file system is the daemon's to remove. */
static bool no_file(void)
{
	DIR *dir = opendir(run_dir);
	bool none = !next_file(dir);

	if (dir)
		closedir(dir);
	return none;
}

/* Sockets are known by a line in /proc/net/unix: it is there while one of that name is open. */
static bool is_open(const char *path)
{
	_cleanup_fclose_ FILE *sockets = fopen("/proc/net/unix", "re");
	char line[512];

	while (sockets && fgets(line, sizeof(line), sockets)) {
		const char *name = strchr(line, '/');

		if (name && !strncmp(name, path, strlen(path)) && name[strlen(path)] == '\n')
			return true;
	}
	return false;
}

static void tell_files(void)
{
	DIR *dir = opendir(run_dir);
	const struct dirent *entry;

	while ((entry = next_file(dir))) {
		char path[512];
		struct stat st;

		snprintf(path, sizeof(path), "%s/%s", run_dir, entry->d_name);
		if (lstat(path, &st))
			continue;
		fprintf(stderr, "  %s: mode %o, uid %u, %lld s old, %s\n", path, st.st_mode,
			st.st_uid, (long long)(time(NULL) - st.st_mtime),
			is_open(path) ? "somebody has it open" : "nobody listens");
	}
	if (dir)
		closedir(dir);
	fprintf(stderr, "  living: daemon %d, guard %d, any of ours %d\n",
		find_process("ubpf-daemon"), find_process("ubpf-guard"), find_process(NULL));
}

static bool await(bool (*condition)(void), const char *what, const char *blow)
{
	u64 until = now_ms() + DEADLINE_MS;

	while (!condition()) {
		if (now_ms() > until) {
			fprintf(stderr, "after %s: %s\n", blow, what);
			return false;
		}
		usleep(5000);
	}
	return true;
}

/* --- the blows -----------------------------------------------------------------------------------
 */

static void hit(pid_t pid, int signal)
{
	if (pid > 0)
		kill(pid, signal);
}

static void pause_then(pid_t pid, int signal)
{
	hit(pid, SIGSTOP);
	usleep((useconds_t)(random() % SPAN_US));
	hit(pid, signal);
	hit(pid, SIGCONT);
}

static void kill_tool(void)
{
	hit(tool, SIGKILL);
}
static void interrupt_tool(void)
{
	hit(tool, SIGINT);
}
static void stop_tool(void)
{
	pause_then(tool, SIGKILL);
}
static void kill_victim(void)
{
	hit(victim, SIGKILL);
}
static void stop_victim(void)
{
	pause_then(victim, SIGCONT);
}
static void kill_daemon(void)
{
	hit(find_process("ubpf-daemon"), SIGKILL);
}
static void end_daemon(void)
{
	hit(find_process("ubpf-daemon"), SIGTERM);
}
static void stop_daemon(void)
{
	pause_then(find_process("ubpf-daemon"), SIGCONT);
}
static void stop_and_kill_daemon(void)
{
	pause_then(find_process("ubpf-daemon"), SIGKILL);
}
static void kill_guard(void)
{
	hit(find_process("ubpf-guard"), SIGKILL);
}

static void kill_tool_and_daemon(void)
{
	kill_daemon();
	kill_tool();
}

/* Both at once, in either order: the next command cleans up. */
static void kill_daemon_and_guard(void)
{
	pid_t daemon = find_process("ubpf-daemon"), guard = find_process("ubpf-guard");

	hit(guard, random() % 2 ? SIGKILL : SIGSTOP);
	hit(daemon, SIGKILL);
	hit(guard, SIGKILL);
}

static const struct {
	const char *name;
	void (*strike)(void);
	bool of_daemon; /* or guard: nobody cleans up after who dies later */
} blows[] = {
	{ "SIGKILL of the tool", kill_tool },
	{ "SIGINT of the tool", interrupt_tool },
	{ "SIGSTOP of the tool", stop_tool },
	{ "SIGKILL of the target", kill_victim },
	{ "SIGSTOP of the target", stop_victim },
	{ "SIGKILL of the daemon", kill_daemon, true },
	{ "SIGTERM of the daemon", end_daemon, true },
	{ "SIGSTOP of the daemon", stop_daemon },
	{ "SIGSTOP and SIGKILL of the daemon", stop_and_kill_daemon, true },
	{ "SIGKILL of the guard", kill_guard, true },
	{ "SIGKILL of tool and daemon", kill_tool_and_daemon, true },
	{ "SIGKILL of daemon and guard", kill_daemon_and_guard, true },
};

/* A loader that outlives its daemon, and is killed, leaves its socket to the next command. */
static bool next_command(void)
{
	char *argv[] = { ubpf_run, "--userspace", "list", NULL };
	int status;

	return waitpid(start(argv), &status, 0) > 0 && WIFEXITED(status);
}

static bool round_of(u32 nr, u32 kind)
{
	const char *blow = blows[kind].name;
	char number[16];
	char *victim_argv[] = { self, "--victim", NULL };
	char *tool_argv[] = { ubpf_run, "exec", "--", self, "--attach", number, NULL };
	char *loader_argv[] = { ubpf_run, "--userspace", "run", "malloc", "-p", number, NULL };
	bool clean;

	unsetenv("UBPF_RUN_DIR");
	victim = start(victim_argv);
	setenv("UBPF_RUN_DIR", run_dir, 1);
	snprintf(number, sizeof(number), "%d", victim);
	tool = start(nr % 3 == 2 ? loader_argv : tool_argv);
	usleep((useconds_t)(random() % SPAN_US));
	blows[kind].strike();
	usleep((useconds_t)(random() % SPAN_US));
	/* The tool goes on where it can; its end is a part of every round. */
	hit(tool, nr / ub_array_size(blows) % 2 ? SIGINT : SIGKILL);
	waitpid(tool, NULL, 0);
	clean = await(no_process, "a process is left", blow) &&
		(!blows[kind].of_daemon || next_command()) &&
		await(victim_is_clean, "the target is not clean", blow) &&
		await(no_file, "a file is left", blow);
	if (!clean)
		tell_files();
	if (!clean)
		fprintf(stderr, "round %u: run directory %s, target %d\n", nr, run_dir, victim);
	hit(victim, SIGKILL);
	waitpid(victim, NULL, 0);
	return clean;
}

int main(int argc, char **argv)
{
	const char *build = getenv("UBPF_BUILD");
	long rounds = argc > 1 ? atol(argv[1]) : ROUNDS;
	char command[128];
	bool clean = true;

	if (!build) {
		printf("skip: UBPF_BUILD is not set\n");
		return 77;
	}
	srandom(argc > 2 ? (unsigned int)atol(argv[2]) : (unsigned int)time(NULL));
	snprintf(ubpf_run, sizeof(ubpf_run), "%s/loader/ubpf-run", build);
	snprintf(self, sizeof(self), "%s/tests/daemon/tools/tool_self", build);
	if (!mkdtemp(run_dir))
		return 1;
	for (u32 i = 0; clean && i < rounds; i++)
		clean = round_of(i, argc > 3 ? (u32)atoi(argv[3]) % ub_array_size(blows)
					     : i % ub_array_size(blows));
	snprintf(command, sizeof(command), "rm -rf %s", run_dir);
	return system(command) || !clean ? 1 : 0;
}
