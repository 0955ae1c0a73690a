// SPDX-License-Identifier: MIT
#include <common/foreign.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int ub_foreign_path(const char *proc, const char *shown, char *path, size_t size)
{
	char link[128], root[PATH_MAX];
	int n = snprintf(path, size, "%s/root%s", proc, shown);
	ssize_t length;

	if (n < 0 || (size_t)n >= size)
		return -ENAMETOOLONG;
	if (!access(path, F_OK))
		return 0;
	/* Linux shows paths from where we, or the namespace's mounts, begin. A root directory of
	 * the process below that (chroot) is shown likewise, and is part of what it shows. */
	snprintf(link, sizeof(link), "%s/root", proc);
	length = readlink(link, root, sizeof(root));
	if (length > 1 && (size_t)length < sizeof(root) && !strncmp(shown, root, (size_t)length) &&
	    shown[length] == '/')
		snprintf(path, size, "%s/root%s", proc, shown + length);
	return 0;
}
