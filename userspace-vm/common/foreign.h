/* SPDX-License-Identifier: MIT */
/* Files of other processes, whose mount namespaces and root directories may be others than ours. */
#ifndef UB_COMMON_FOREIGN_H
#define UB_COMMON_FOREIGN_H

#include <stddef.h>

#include <common/types.h>

/*
 * The path by which we reach the file that maps or a link in @proc, "/proc/PID" or a thread's
 * directory there, shows as
 * @shown: through its root. -ENAMETOOLONG. Whether a file is there at all is for the caller to see.
 */
int __must_check ub_foreign_path(const char *proc, const char *shown, char *path, size_t size);

#endif
