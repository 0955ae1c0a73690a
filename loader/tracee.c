// SPDX-License-Identifier: MIT
#include "tracee.h"

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include <common/cleanup.h>
#include <common/foreign.h>
#include <common/proc.h>
#include <surgeon/surgeon.h>

#include "output.h"
#include "symbol.h"

#define PF_KTHREAD    0x00200000ul /* include/linux/sched.h */
#define DELETED	      " (deleted)" /* behind the name of a file that has none any more */
#define LOADING_TRIES 10
#define LOADING_MS    3

static int pidfd_open(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* The parts of /proc/PID/stat that we use. */
struct proc_stat {
	char comm[16];
	char state;
	unsigned long flags;
	u64 start_time;
};

static int read_stat(pid_t pid, struct proc_stat *stat)
{
	char proc[32], text[UB_PROC_STAT_MAX];
	const char *open_paren, *close_paren;
	size_t size;

	snprintf(proc, sizeof(proc), "/proc/%d", pid);
	if (ub_proc_stat_read(proc, text))
		return -ESRCH;
	open_paren = strchr(text, '(');
	close_paren = strrchr(text, ')');
	if (!open_paren || !close_paren || close_paren < open_paren)
		return -EINVAL;
	size = close_paren - open_paren - 1;
	if (size >= sizeof(stat->comm))
		size = sizeof(stat->comm) - 1;
	memcpy(stat->comm, open_paren + 1, size);
	stat->comm[size] = '\0';
	stat->state = *ub_proc_stat_field(text, UB_PROC_STAT_STATE);
	stat->flags = strtoul(ub_proc_stat_field(text, UB_PROC_STAT_FLAGS), NULL, 10);
	stat->start_time = strtoull(ub_proc_stat_field(text, UB_PROC_STAT_START_TIME), NULL, 10);
	return 0;
}

/* What stands behind "@key:" in /proc/PID/status. */
static int read_status_line(pid_t pid, const char *key, char *text, size_t text_size)
{
	_cleanup_free_ char *status = NULL;
	const char *field;
	char proc[32];

	snprintf(proc, sizeof(proc), "/proc/%d", pid);
	if (ub_proc_status_read(proc, &status))
		return -ENOENT;
	field = ub_proc_status_field(status, key);
	snprintf(text, text_size, "%.*s", (int)strcspn(field, "\n"), field);
	return *field ? 0 : -ENOENT;
}

/* A number from there, or -1. */
static long read_status(pid_t pid, const char *key)
{
	char text[64];

	return read_status_line(pid, key, text, sizeof(text)) ? -1 : strtol(text, NULL, 10);
}

static int check_kind(const struct ub_tracee *target, const struct proc_stat *stat,
		      struct ub_reason *why)
{
	char exe[64];

	if (target->pid == getpid())
		return ub_reason_set(
			why, -EINVAL,
			"process %d is ubpf-run itself, which does not attach to itself",
			target->pid);
	if (stat->flags & PF_KTHREAD)
		return ub_reason_set(
			why, -EOPNOTSUPP,
			"process %d (%s) is a kernel thread: it has no user code to attach to",
			target->pid, stat->comm);
	if (stat->state == 'Z' || stat->state == 'X')
		return ub_reason_set(
			why, -ESRCH,
			"process %d (%s) is a zombie: it has ended already, only its parent "
			"has not looked yet",
			target->pid, stat->comm);
	snprintf(exe, sizeof(exe), "/proc/%d/exe", target->pid);
	if (ub_elf_check(exe, NULL) == -EOPNOTSUPP)
		return ub_reason_set(
			why, -EOPNOTSUPP,
			"process %d (%s) is a 32-bit process: only x86-64 is supported",
			target->pid, stat->comm);
	return 0;
}

int ub_tracee_open(pid_t pid, struct ub_tracee *target, struct ub_reason *why)
{
	struct ub_tracee opened = { .pid = pid, .pidfd = -1 };
	_cleanup_close_ int pidfd = -1;
	struct proc_stat stat;
	char path[64];
	struct stat st;
	long tgid;
	int err;

	if (pid <= 0)
		return ub_reason_set(why, -EINVAL, "%d is not a process id", pid);
	tgid = read_status(pid, "Tgid");
	if (tgid < 0)
		return ub_reason_set(why, -ESRCH, "no process %d", pid);
	if (tgid != pid)
		return ub_reason_set(why, -EINVAL,
				     "%d is a thread of process %ld: name the process", pid, tgid);
	pidfd = pidfd_open(pid);
	if (pidfd < 0)
		return ub_reason_set(why, -errno, "no process %d: %s", pid, strerror(errno));
	snprintf(path, sizeof(path), "/proc/%d", pid);
	if (read_stat(pid, &stat) || lstat(path, &st))
		return ub_reason_set(why, -ESRCH, "no process %d any more", pid);
	err = check_kind(&opened, &stat, why);
	if (err)
		return err;
	opened.start_time = stat.start_time;
	opened.uid = st.st_uid;
	memcpy(opened.comm, stat.comm, sizeof(opened.comm));
	opened.pidfd = TAKE_FD(pidfd);
	*target = opened;
	return 0;
}

void ub_tracee_close(struct ub_tracee *target)
{
	if (target->pidfd >= 0)
		close(target->pidfd);
	target->pidfd = -1;
}

bool ub_tracee_is_gone(const struct ub_tracee *target)
{
	struct pollfd pfd = { .fd = target->pidfd, .events = POLLIN };

	return poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLIN);
}

/* "user NAME (uid N)" */
static void describe_user(uid_t uid, char *text, size_t size)
{
	const struct passwd *pw = getpwuid(uid);

	if (pw)
		snprintf(text, size, "user %s (uid %u)", pw->pw_name, uid);
	else
		snprintf(text, size, "uid %u", uid);
}

/* Whether the ids after @key ("Uid", "Gid") of process @pid, its real, effective and saved one, are
 * not all the same. */
static bool ids_differ(pid_t pid, const char *key, unsigned int ids[3])
{
	char text[64];

	return !read_status_line(pid, key, text, sizeof(text)) &&
	       sscanf(text, "%u %u %u", &ids[0], &ids[1], &ids[2]) == 3 &&
	       (ids[0] != ids[1] || ids[0] != ids[2]);
}

/* Files of a process that is not are root's, whoever it belongs to. */
static bool is_dumpable(pid_t pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	return stat(path, &st) || st.st_uid == geteuid();
}

static void describe_module(char *text, size_t size)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
	int scope = 0;

	if (!file || fscanf(file, "%d", &scope) != 1 || scope <= 0)
		snprintf(text, size, "a security module forbids ptrace");
	else if (scope == 1)
		snprintf(
			text, size,
			"kernel.yama.ptrace_scope is 1, so it must be started by ubpf-run (run PROGRAM -- "
			"CMD), or that be set to 0 by root");
	else
		snprintf(text, size, "kernel.yama.ptrace_scope is %d", scope);
}

/* Why not, although it is the caller's own. */
static void describe_privilege(const struct ub_tracee *target, char *text, size_t size)
{
	unsigned int ids[3];
	char caps[64], who[128];

	if (ids_differ(target->pid, "Uid", ids)) {
		describe_user(ids[1] != ids[0] ? ids[1] : ids[2], who, sizeof(who));
		snprintf(text, size, "it runs a set-user-id program with the rights of %s", who);
	} else if (ids_differ(target->pid, "Gid", ids)) {
		snprintf(text, size, "it runs a set-group-id program with the rights of group %u",
			 ids[1] != ids[0] ? ids[1] : ids[2]);
	} else if (!read_status_line(target->pid, "CapPrm", caps, sizeof(caps)) &&
		   strtoull(caps, NULL, 16)) {
		snprintf(text, size, "it has capabilities (0x%llx)", strtoull(caps, NULL, 16));
	} else if (!is_dumpable(target->pid)) {
		snprintf(
			text, size,
			"it is not dumpable (its executable can't be read, it was privileged, or it "
			"said so by prctl)");
	} else {
		describe_module(text, size);
	}
}

static int permission_denied(const struct ub_tracee *target, struct ub_reason *why)
{
	uid_t owner = (uid_t)read_status(target->pid, "Uid");
	char who[128], privilege[256];

	if (owner == (uid_t)-1)
		owner = target->uid;
	describe_user(owner, who, sizeof(who));
	if (!geteuid())
		return ub_reason_set(
			why, -EPERM,
			"no permission for process %d (%s) though you are root: CAP_SYS_PTRACE is "
			"missing (a container?), or a security module forbids ptrace",
			target->pid, target->comm);
	if (owner != geteuid())
		return ub_reason_set(
			why, -EPERM,
			"no permission for process %d (%s): it belongs to %s; run ubpf-run as "
			"that user or as root",
			target->pid, target->comm, who);
	describe_privilege(target, privilege, sizeof(privilege));
	return ub_reason_set(
		why, -EPERM,
		"no permission for process %d (%s) though it belongs to you (%s): %s; run "
		"ubpf-run as root",
		target->pid, target->comm, who, privilege);
}

int ub_tracee_may_trace(const struct ub_tracee *target, struct ub_reason *why)
{
	_cleanup_close_ int mem = -1;
	char path[64];
	long tracer;

	snprintf(path, sizeof(path), "/proc/%d/mem", target->pid);
	mem = open(path, O_RDWR | O_CLOEXEC);
	if (mem < 0) {
		if (ub_tracee_is_gone(target))
			return ub_reason_set(why, -ESRCH, "process %d has ended", target->pid);
		return permission_denied(target, why);
	}
	ub_surgeon_await(target->pid);
	tracer = read_status(target->pid, "TracerPid");
	if (tracer > 0) {
		struct proc_stat stat = { .comm = "?" };

		(void)!read_stat((pid_t)tracer, &stat);
		return ub_reason_set(
			why, -EBUSY,
			"process %d (%s) is traced already, by process %ld (%s): detach that "
			"first",
			target->pid, target->comm, tracer, stat.comm);
	}
	return 0;
}

/* Whether the file name @base is that of library @name: "libc" is libc.so.6 and libc-2.36.so, but
 * not libcrypto.so.3; a name with ".so" in it is meant literally. */
static bool is_library(const char *base, const char *name)
{
	size_t size = strlen(name);

	if (!strcmp(base, name) || (!strncmp(base, name, size) && !strcmp(base + size, DELETED)))
		return true;
	if (!strcmp(name, "libc") && !strncmp(base, "ld-musl-", 8))
		return true;
	if (strncmp(base, name, size))
		return false;
	if (!strncmp(base + size, ".so", 3) || !strncmp(base + size, ".musl-", 6))
		return true;
	return base[size] == '-' && base[size + 1] >= '0' && base[size + 1] <= '9' &&
	       strstr(base + size, ".so");
}

static bool same_mount_namespace(const struct ub_tracee *target)
{
	char path[64];
	struct stat mine, theirs, my_root, their_root;

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", target->pid);
	if (stat("/proc/self/ns/mnt", &mine) || stat(path, &theirs) || mine.st_ino != theirs.st_ino)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/root", target->pid);
	return !stat("/", &my_root) && !stat(path, &their_root) &&
	       my_root.st_dev == their_root.st_dev && my_root.st_ino == their_root.st_ino;
}

static bool is_deleted(const char *shown)
{
	const size_t size = strlen(shown);

	return size > strlen(DELETED) && !strcmp(shown + size - strlen(DELETED), DELETED);
}

static int cannot_read(const struct ub_tracee *target, const char *shown, struct ub_reason *why)
{
	if (is_deleted(shown))
		return ub_reason_set(
			why, -ENOENT,
			"cannot read %s of process %d: it was removed or replaced while the process runs; "
			"restart the process, or run this as root",
			shown, target->pid);
	return ub_reason_set(why, -errno, "cannot read %s of process %d: %s", shown, target->pid,
			     strerror(errno));
}

/* Fills *file for the path @shown in the target's mount namespace. @link (may be NULL) leads there
 * even if the file has no name any more, say by an upgrade of its package; not everybody may follow
 * it. */
static int name_file(const struct ub_tracee *target, const char *shown, const char *link,
		     struct ub_tracee_file *file, struct ub_reason *why)
{
	struct ub_tracee_file named;
	char proc[32];
	int err = 0;

	snprintf(proc, sizeof(proc), "/proc/%d", target->pid);
	if (snprintf(named.shown, sizeof(named.shown), "%s", shown) >= (int)sizeof(named.shown))
		err = -ENAMETOOLONG;
	else if (same_mount_namespace(target))
		memcpy(named.path, named.shown, sizeof(named.shown));
	else
		err = ub_foreign_path(proc, shown, named.path, sizeof(named.path));
	if (err)
		return ub_reason_set(why, err, "the path %s is too long", shown);
	if (access(named.path, R_OK)) {
		if (!link || !is_deleted(shown) || access(link, R_OK))
			return cannot_read(target, shown, why);
		snprintf(named.path, sizeof(named.path), "%s", link);
	}
	*file = named;
	return 0;
}

static int executable(const struct ub_tracee *target, struct ub_tracee_file *file,
		      struct ub_reason *why)
{
	char link[64], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/exe", target->pid);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return errno == EACCES || errno == EPERM
			       ? permission_denied(target, why)
			       : ub_reason_set(why, -errno, "process %d has no executable file: %s",
					       target->pid, strerror(errno));
	path[n] = '\0';
	return name_file(target, path, link, file, why);
}

/* "/usr/lib/libc.so.6" as people name it: "libc". */
static void library_name(const char *base, char *name, size_t size)
{
	const char *end = strstr(base, ".so");

	snprintf(name, size, "%.*s", end ? (int)(end - base) : (int)strlen(base), base);
}

/* Looks among the mapped files. 1 found, with its path and a link to it, 0 not and *near is what may
 * have been meant, or -errno. */
static int mapped_library(const struct ub_tracee *target, const char *name, char path[PATH_MAX],
			  char link[64], char near[64], struct ub_reason *why)
{
	_cleanup_fclose_ FILE *maps = NULL;
	_cleanup_free_ char *line = NULL;
	char candidates[2][64] = { "" };
	const char *const names[] = { candidates[0], candidates[1] };
	char proc[64];
	size_t size = 0;
	ssize_t n;

	snprintf(proc, sizeof(proc), "/proc/%d/maps", target->pid);
	maps = fopen(proc, "re");
	if (!maps) {
		if (errno == EACCES || errno == EPERM)
			return permission_denied(target, why);
		return ub_reason_set(why, -ESRCH, "no process %d any more", target->pid);
	}
	while ((n = getline(&line, &size, maps)) > 0) {
		char *start = strchr(line, '/');
		const char *base;

		if (line[n - 1] == '\n')
			line[n - 1] = '\0';
		if (!start)
			continue;
		base = strrchr(start, '/') + 1;
		if (is_library(base, name) && strlen(start) < PATH_MAX) {
			memcpy(path, start, strlen(start) + 1);
			snprintf(link, 64, "/proc/%d/map_files/%.*s", target->pid,
				 (int)strcspn(line, " "), line);
			return 1;
		}
		library_name(base, candidates[1], sizeof(candidates[1]));
		if (ub_nearest(name, names, ub_array_size(names)) == candidates[1])
			memcpy(candidates[0], candidates[1], sizeof(candidates[0]));
	}
	memcpy(near, candidates[0], sizeof(candidates[0]));
	return 0;
}

static int find_file(const struct ub_tracee *target, const char *name, const char *symbol,
		     struct ub_tracee_file *file, struct ub_reason *why)
{
	struct ub_tracee_file exe;
	char path[PATH_MAX], link[64], near[64], hint[128] = "";
	int found, err;

	if (!*name)
		return executable(target, file, why);
	if (*name == '/')
		return name_file(target, name, NULL, file, why);
	found = mapped_library(target, name, path, link, near, why);
	if (found < 0)
		return found;
	if (found)
		return name_file(target, path, link, file, why);
	err = executable(target, &exe, why);
	if (err)
		return err;
	if (is_library(strrchr(exe.shown, '/') + 1, name) ||
	    (symbol && ub_symbol_defined(exe.path, symbol))) {
		*file = exe;
		return 0;
	}
	if (near[0])
		snprintf(hint, sizeof(hint), ", did you mean '%s'?", near);
	else if (symbol && ub_symbol_stripped(exe.path))
		snprintf(hint, sizeof(hint),
			 " (it is stripped of symbols; its path and an offset would do: "
			 "FILE:0xOFFSET)");
	if (symbol)
		return ub_reason_set(
			why, -ENOENT,
			"process %d (%s) maps no '%s', and its executable %s defines no '%s'%s",
			target->pid, target->comm, name, exe.shown, symbol, hint);
	return ub_reason_set(why, -ENOENT, "process %d (%s) maps no '%s'%s", target->pid,
			     target->comm, name, hint);
}

int ub_tracee_find_file(const struct ub_tracee *target, const char *name, const char *symbol,
			struct ub_tracee_file *file, struct ub_reason *why)
{
	const struct timespec pause = { 0, LOADING_MS * 1000000 };
	int err = find_file(target, name, symbol, file, why);

	/* Right after execve() its libraries are not mapped yet. */
	for (int i = 0; i < LOADING_TRIES && err == -ENOENT; i++) {
		nanosleep(&pause, NULL);
		err = find_file(target, name, symbol, file, why);
	}
	return err;
}
