/* SPDX-License-Identifier: MIT */
/*
 * What sessions that died may have left in processes.
 */
#ifndef UB_LOADER_ORPHAN_H
#define UB_LOADER_ORPHAN_H

#include "tracee.h"

/* Whether @target holds something of a userspace session, living or dead: looks at its mappings'
 * names. -EACCES if it may not be looked at. */
int __must_check ub_orphan_find(const struct ub_tracee *target, struct ub_reason *why);

/* Removes it, unless a living daemon owns it. Number of sites restored, or -errno. */
int __must_check ub_orphan_clean(const struct ub_tracee *target, struct ub_reason *why);

#endif
