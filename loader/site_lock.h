/* SPDX-License-Identifier: MIT */
/*
 * Between looking whether the other backend holds a site and taking it nobody else may take it, or
 * the process dies. What two users' loaders have in common, whatever their run directories and
 * mount namespaces, is the file that holds the site: its advisory lock (flock(2), which reading
 * permits) is held for as long as an attach takes.
 */
#ifndef UB_LOADER_SITE_LOCK_H
#define UB_LOADER_SITE_LOCK_H

/* A descriptor to close when the site is taken, or -1: a stranger who never lets go of the lock, or
 * a file system without locks, keeps nobody from attaching. */
int ub_site_lock(const char *path);

#endif
