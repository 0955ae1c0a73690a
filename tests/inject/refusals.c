/* SPDX-License-Identifier: MIT */
/*
 * What can't be operated on is refused in one clear line, and left as it was.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inject.h"

/* Must fail with @err and a line that contains @words. */
static void refused(const char *name, pid_t pid, struct ub_image *image, int err, const char *words)
{
	struct ub_surgery result;
	struct ub_reason why = { "" };
	int got;

	snprintf(test_case, sizeof(test_case), "%s", name);
	got = ub_surgeon_replace(pid, -1, NULL, image, &result, &why);
	check(got == err, "%d instead of %d (%s)", got, err, why.text);
	check(strstr(why.text, words), "says '%s', nothing of '%s'", why.text, words);
	check(!strchr(why.text, '\n') && strlen(why.text) > 10, "is no line: '%s'", why.text);
	printf("%-16s %s\n", name, why.text);
	fflush(stdout);
}

static pid_t find_kernel_thread(void)
{
	struct stat st;

	return !stat("/proc/2/exe", &st) ? 0 : 2;
}

/* A process called @name that traces @pid for @us, or until it is killed (0). */
static pid_t start_tracer(const char *name, pid_t pid, useconds_t us)
{
	int p[2];
	char byte;
	pid_t tracer;

	check(!pipe(p), "pipe");
	tracer = fork();
	if (!tracer) {
		prctl(PR_SET_NAME, name);
		byte = ptrace(PTRACE_SEIZE, pid, 0, 0) ? 'n' : 'y';
		if (write(p[1], &byte, 1) == 1) {
			if (us)
				usleep(us);
			else
				pause();
		}
		_exit(0);
	}
	check(read(p[0], &byte, 1) == 1 && byte == 'y', "cannot trace");
	close(p[0]);
	close(p[1]);
	return tracer;
}

static void traced(void)
{
	struct victim v;
	struct ub_image *image;
	pid_t tracer;

	victim_start(&v, "-d", "1000", NULL);
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	tracer = start_tracer("debugger", v.pid, 0);
	refused("traced", v.pid, image, -EBUSY, "debugger (pid ");
	kill(tracer, SIGKILL);
	waitpid(tracer, NULL, 0);
	/* Another user's daemon or a guard that looks after a killed one's processes: gone in a
	 * moment. */
	tracer = start_tracer("ubpf-guard", v.pid, 100000);
	must_replace(&v, NULL, image, NULL);
	waitpid(tracer, NULL, 0);
	must_replace(&v, image, NULL, NULL);
	ub_image_free(image);
	victim_end(&v);
}

static void zombie(struct ub_image *image)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	while (waitid(P_PID, pid, &(siginfo_t) { 0 }, WEXITED | WNOWAIT))
		;
	refused("zombie", pid, image, -ESRCH, "zombie");
	waitpid(pid, NULL, 0);
	refused("no such process", pid, image, -ESRCH, "no process with pid");
}

/* Another user's process, asked for by somebody without privilege. */
static void permission(void)
{
	struct victim v;
	struct ub_image *image;
	pid_t pid;
	int status;

	if (geteuid()) {
		printf("permission       not tried: needs root to become somebody else\n");
		return;
	}
	victim_start(&v, "-d", "1000", NULL);
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	pid = fork();
	if (!pid) {
		check(!setgid(65534) && !setuid(65534), "setuid");
		refused("permission", v.pid, image, -EPERM, "belongs to root and you are nobody");
		_exit(0);
	}
	waitpid(pid, &status, 0);
	check(!status, "permission");
	ub_image_free(image);
	victim_end(&v);
}

static void not_dumpable(struct ub_image *image)
{
	const char *argv[] = { victim_path("ubpf-odd-victim"), "undumpable", NULL };
	struct victim v;
	pid_t pid;
	int status;

	if (geteuid())
		return;
	victim_exec(&v, argv);
	victim_line(&v);
	pid = fork();
	if (!pid) {
		check(!setgid(65534) && !setuid(65534), "setuid");
		prctl(PR_SET_DUMPABLE, 1);
		refused("not dumpable", v.pid, image, -EPERM, "not dumpable");
		_exit(0);
	}
	waitpid(pid, &status, 0);
	check(!status, "not dumpable");
	victim_reap(&v);
}

/* An int3 in the text that is not the file's: what a kernel uprobe or a debugger leaves there. */
static void breakpoint(void)
{
	struct ub_image *image;
	struct victim v;
	char path[64];
	u64 address;
	u8 int3 = 0xcc, byte;
	FILE *mem;

	victim_start(&v, "-i", NULL);
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	address = image_first_site(image);
	snprintf(path, sizeof(path), "/proc/%d/mem", v.pid);
	mem = fopen(path, "r+");
	check(mem && !fseek(mem, address, SEEK_SET) && fread(&byte, 1, 1, mem) == 1, "mem");
	fseek(mem, address, SEEK_SET);
	check(fwrite(&int3, 1, 1, mem) == 1 && !fflush(mem), "mem");
	refused("breakpoint", v.pid, image, -EBUSY, "breakpoint");
	fseek(mem, address, SEEK_SET);
	check(fwrite(&byte, 1, 1, mem) == 1 && !fflush(mem), "mem");
	fclose(mem);
	must_replace(&v, NULL, image, NULL);
	must_replace(&v, image, NULL, NULL);
	ub_image_free(image);
	victim_end(&v);
}

/* The real thing, where the kernel lets us. */
static void kernel_uprobe(void)
{
	struct perf_event_attr attr = { .size = sizeof(attr) };
	struct ub_image *image;
	struct victim v;
	FILE *type = fopen("/sys/bus/event_source/devices/uprobe/type", "re");
	unsigned int nr = 0;
	int fd;

	if (!type || fscanf(type, "%u", &nr) != 1) {
		printf("kernel uprobe    not tried: this kernel has none\n");
		return;
	}
	fclose(type);
	victim_start(&v, "-i", NULL);
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	attr.type = nr;
	attr.config1 = (unsigned long)libc_file();
	attr.config2 = libc_symbol("malloc");
	fd = syscall(SYS_perf_event_open, &attr, v.pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0) {
		printf("kernel uprobe    not tried: %s\n", strerror(errno));
	} else {
		refused("kernel uprobe", v.pid, image, -EBUSY, "uprobe");
		close(fd);
	}
	ub_image_free(image);
	victim_end(&v);
}

static void bits32(struct ub_image *image)
{
	const char *argv[] = { victim_path("ubpf-32-bit"), NULL };
	struct victim v;

	victim_exec(&v, argv);
	if (strcmp(victim_line(&v), "ready"))
		printf("32 bits          not tried: this kernel does not run 32-bit programs\n");
	else
		refused("32 bits", v.pid, image, -EOPNOTSUPP, "32-bit");
	victim_reap(&v);
}

int main(void)
{
	struct ub_image *image;
	struct victim v;

	victim_start(&v, "-i", NULL);
	image = image_of(v.pid, NULL, NULL, "malloc", NULL);
	refused("own process", getpid(), image, -EINVAL, "its own target");
	refused("no pid", 0, image, -EINVAL, "not a process id");
	if (find_kernel_thread())
		refused("kernel thread", 2, image, -EOPNOTSUPP, "kernel thread");
	zombie(image);
	traced();
	permission();
	not_dumpable(image);
	breakpoint();
	kernel_uprobe();
	bits32(image);
	ub_image_free(image);
	victim_end(&v);
	return 0;
}
