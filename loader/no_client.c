// SPDX-License-Identifier: MIT
/*
 * What the loader needs of the userspace kernel's client where that is not built: only the run
 * directory; the rest says that it is not there.
 */
#include <client/client.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <common/cleanup.h>

int ub_client_run_dir(char *path, size_t size, struct ub_reason *why)
{
	const char *dir = getenv("UBPF_RUN_DIR");
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	struct stat st;

	if (dir)
		snprintf(path, size, "%s", dir);
	else if (runtime && *runtime)
		snprintf(path, size, "%s/ubpf-run", runtime);
	else if (!geteuid())
		snprintf(path, size, "/run/ubpf-run");
	else
		snprintf(path, size, "/tmp/ubpf-run-%u", geteuid());
	if (mkdir(path, 0700) && errno != EEXIST)
		return ub_reason_set(why, -errno, "cannot make %s: %s", path, strerror(errno));
	if (lstat(path, &st) || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
		return ub_reason_set(why, -EPERM, "%s is not a private directory of yours", path);
	return 0;
}

static int absent(struct ub_reason *why)
{
	return ub_reason_set(why, -EOPNOTSUPP, "this build has no userspace backend");
}

int ub_client_connect(struct ub_reason *why)
{
	return absent(why);
}

int ub_client_connect_running(struct ub_reason *why)
{
	return -ENOENT;
}

int ub_client_enter(struct ub_reason *why)
{
	return absent(why);
}

int ub_client_ask(const char *request, char **answer, struct ub_reason *why)
{
	return absent(why);
}
