// SPDX-License-Identifier: MIT
#include <daemon/procfs.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <common/foreign.h>
#include <common/proc.h>

/* Reads at most @size - 1 bytes of /proc/@pid/@name; their number or -errno. */
static ssize_t read_file(pid_t pid, const char *name, char *text, size_t size)
{
	_cleanup_close_ int fd = -1;
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, size - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	return n;
}

int ub_procfs_status(pid_t pid, struct ub_procfs_status *status)
{
	struct ub_procfs_status out = {};
	_cleanup_free_ char *text = NULL;
	char proc[32];
	int err;

	snprintf(proc, sizeof(proc), "/proc/%d", pid);
	err = pid > 0 ? ub_proc_status_read(proc, &text) : -ESRCH;
	if (err)
		return err;
	if (sscanf(text, "Name:\t%15[^\n]", out.comm) != 1)
		out.comm[0] = '\0';
	sscanf(ub_proc_status_field(text, "State"), " %c", &out.state);
	sscanf(ub_proc_status_field(text, "Tgid"), "%d", &out.tgid);
	sscanf(ub_proc_status_field(text, "PPid"), "%d", &out.parent);
	sscanf(ub_proc_status_field(text, "Uid"), "%u", &out.uid);
	sscanf(ub_proc_status_field(text, "Gid"), "%u", &out.gid);
	out.has_memory = *ub_proc_status_field(text, "VmSize") != '\0';
	if (out.tgid <= 0)
		return -ESRCH;
	*status = out;
	return 0;
}

pid_t ub_procfs_tracer(pid_t pid)
{
	char text[512]; /* it is the eighth line */

	if (read_file(pid, "status", text, sizeof(text)) <= 0)
		return 0;
	return (pid_t)strtol(ub_proc_status_field(text, "TracerPid"), NULL, 10);
}

int ub_procfs_start_time(pid_t pid, u64 *ticks)
{
	const u64 start = pid > 0 ? ub_proc_start_time(pid) : 0;

	if (!start)
		return -ESRCH;
	*ticks = start;
	return 0;
}

void ub_procfs_command(pid_t pid, char *text, size_t size)
{
	ssize_t n = read_file(pid, "cmdline", text, size);

	if (n < 0)
		n = 0;
	text[n] = '\0';
	while (n > 0 && !text[n - 1])
		n--;
	for (ssize_t i = 0; i < n; i++) {
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			text[i] = ' ';
	}
}

int ub_procfs_files(pid_t pid, int (*fn)(void *opaque, const struct ub_procfs_file *file),
		    void *opaque)
{
	_cleanup_fclose_ FILE *maps = NULL;
	_cleanup_free_ char *line = NULL;
	struct ub_procfs_file last = {};
	size_t capacity = 0;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	if (!maps)
		return -errno;
	while (getline(&line, &capacity, maps) > 0) {
		struct ub_procfs_file file;
		unsigned int major, minor;
		unsigned long ino;
		int name = 0, err;

		if (sscanf(line, "%*x-%*x %*4s %*x %x:%x %lu %n", &major, &minor, &ino, &name) <
			    3 ||
		    !ino)
			continue;
		file.dev = makedev(major, minor);
		file.ino = ino;
		if (file.dev == last.dev && file.ino == last.ino)
			continue;
		line[strcspn(line, "\n")] = '\0';
		file.path = line + name;
		err = fn(opaque, &file);
		if (err)
			return err;
		last = file;
	}
	return 0;
}

struct wanted_file {
	pid_t pid;
	dev_t dev;
	ino_t ino;
};

static int is_wanted(void *opaque, const struct ub_procfs_file *file)
{
	const struct wanted_file *wanted = opaque;
	char proc[32], path[4200];
	struct stat st;

	if (file->ino != wanted->ino)
		return 0;
	if (file->dev == wanted->dev)
		return 1;
	/* btrfs and overlayfs: maps shows the file system's device, stat() the subvolume's. */
	snprintf(proc, sizeof(proc), "/proc/%d", wanted->pid);
	return !ub_foreign_path(proc, file->path, path, sizeof(path)) && !stat(path, &st) &&
	       st.st_dev == wanted->dev && st.st_ino == wanted->ino;
}

int ub_procfs_maps_file(pid_t pid, dev_t dev, ino_t ino)
{
	struct wanted_file wanted = { pid, dev, ino };

	return ub_procfs_files(pid, is_wanted, &wanted);
}

u64 ub_procfs_last_pid(void)
{
	_cleanup_close_ int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	char text[128];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	const char *at;

	text[n < 0 ? 0 : n] = '\0';
	at = strrchr(text, ' ');
	return at ? strtoull(at, NULL, 10) : 0;
}

u64 ub_procfs_pages(pid_t pid)
{
	char text[128];

	return read_file(pid, "statm", text, sizeof(text)) > 0 ? strtoull(text, NULL, 10) : 0;
}

u32 ub_procfs_possible_cpus(void)
{
	_cleanup_fclose_ FILE *file = fopen("/sys/devices/system/cpu/possible", "re");
	unsigned int first, last = 0;
	u32 highest = 0;

	/* "0-3" or "0,2-5": CPUs are numbered up to the highest. */
	while (file && fscanf(file, "%u", &first) == 1) {
		int sep = fgetc(file);

		last = first;
		if (sep == '-' && fscanf(file, "%u", &last) == 1)
			sep = fgetc(file);
		if (last > highest)
			highest = last;
		if (sep != ',')
			return highest + 1;
	}
	return highest ? highest + 1 : (u32)sysconf(_SC_NPROCESSORS_CONF);
}
