/* SPDX-License-Identifier: MIT */
/*
 * Between looking whether the other backend holds a site and taking it nobody else may take it, or
 * the process dies. What two users' loaders have in common, whatever their run directories and
 * mount namespaces, is the file that holds the site: its advisory lock (flock(2), which reading
 * permits) is held for as long as an attach takes.
 *
 * The kernel backend is alone while it looks and takes. Those of userspace share the lock: each
 * looks and takes with the process stopped, so they can't come in between each other. The file may
 * be libc, and who holds the lock may be stopped, or wait for a daemon that is: whoever comes then
 * does not wait for long, and who waits lets go of it (ub_site_lock_let_go()).
 */
#ifndef UB_LOADER_SITE_LOCK_H
#define UB_LOADER_SITE_LOCK_H

#include <common/types.h>

/* Takes the lock over @path for one attach, alone or with others that are not. Who never gets it
 * (a stranger does not let go, a file system has no locks) goes on without, after 3 s in all the
 * attaches of this process. */
void ub_site_lock(const char *path, bool alone);
/* The attach is over, or takes too long for others to wait for it. */
void ub_site_lock_let_go(void);

#endif
