// SPDX-License-Identifier: MIT
#include "operate.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <surgeon/surgeon.h>

pid_t pid;
FILE *to, *from;
static int pidfd;

void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	if (pid > 0)
		kill(pid, SIGKILL);
	exit(1);
}

double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void start(char **argv, const char *ready)
{
	char line[256] = "";
	int in[2], out[2];

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		fail("pipe: %s", strerror(errno));
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in[0], 0);
		dup2(out[1], 1);
		execvp(argv[0], argv);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	to = fdopen(in[1], "w");
	from = fdopen(out[0], "r");
	setvbuf(to, NULL, _IOLBF, 0);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	while (!strstr(line, ready))
		if (!fgets(line, sizeof(line), from))
			fail("%s did not start", argv[0]);
}

void finish(void)
{
	int status;

	fclose(to);
	if (waitpid(pid, &status, 0) != pid || status)
		fail("it ended with status 0x%x", status);
	fclose(from);
	close(pidfd);
}

int try_attach(const struct ub_image_link *links, u32 nr_links, struct ub_image **image,
	       bool *refused, struct ub_reason *why)
{
	const struct ub_image_request request = {
		.pid = pid, .nr_links = nr_links, .links = links, .nr_cpus = 64, .refused = refused
	};
	const double deadline = now() + 60;
	struct ub_surgery surgery;
	int err;

	for (;;) {
		*image = NULL;
		err = ub_image_build(&request, image, why);
		if (!err)
			err = ub_surgeon_replace(pid, pidfd, NULL, *image, &surgery, why);
		if (!err || now() > deadline ||
		    (err != -EAGAIN && err != -ETIMEDOUT && err != -EBUSY))
			return err;
		ub_image_free(*image);
		usleep(20000);
	}
}

struct ub_image *attach(const struct ub_image_link *links, u32 nr_links)
{
	struct ub_image *image = NULL;
	struct ub_reason why = {};
	int err = try_attach(links, nr_links, &image, NULL, &why);

	if (err)
		fail("%d: %s", err, why.text);
	return image;
}

struct ub_image *replace(struct ub_image *old, const struct ub_image_link *links, u32 nr_links)
{
	const struct ub_image_request request = {
		.pid = pid, .nr_links = nr_links, .links = links, .nr_cpus = 64, .current = old
	};
	const double deadline = now() + 60;
	struct ub_image *image = NULL;
	struct ub_surgery surgery;
	struct ub_reason why = {};
	int err;

	for (;;) {
		err = ub_image_build(&request, &image, &why);
		if (!err)
			err = ub_surgeon_replace(pid, pidfd, old, image, &surgery, &why);
		if (!err)
			break;
		if (now() > deadline || (err != -EAGAIN && err != -ETIMEDOUT && err != -EBUSY))
			fail("%d: %s", err, why.text);
		ub_image_free(image);
		image = NULL;
		usleep(20000);
	}
	while (surgery.removal == UB_REMOVED_LATER) {
		if (now() > deadline)
			fail("%s", surgery.left.text);
		usleep(20000);
		err = ub_surgeon_collect(pid, pidfd, old, &surgery, &why);
		if (err && err != -EAGAIN && err != -ETIMEDOUT && err != -EBUSY)
			fail("%d: %s", err, why.text);
	}
	return image;
}

void detach(struct ub_image *image)
{
	const double deadline = now() + 60;
	struct ub_surgery surgery;
	struct ub_reason why = {};
	int err;

	for (;;) {
		err = ub_surgeon_replace(pid, pidfd, image, NULL, &surgery, &why);
		if (!err && surgery.removal != UB_REMOVED_LATER)
			break;
		if (now() > deadline ||
		    (err && err != -EAGAIN && err != -ETIMEDOUT && err != -EBUSY && err != -EINTR))
			fail("%d: %s", err, err ? why.text : surgery.left.text);
		usleep(20000);
	}
	if (surgery.removal != UB_REMOVED_CLEAN)
		fail("the program is gone");
}
