/* SPDX-License-Identifier: MIT */
/* Memory files, of which the parts of an image are mappings. */
#ifndef UB_HOOK_MEMFD_H
#define UB_HOOK_MEMFD_H

#include <common/types.h>

#define UB_NAME_PREFIX "ubpf-run:" /* of every one that is mapped in a target */

/* An empty one that can be sealed. The descriptor or -errno. */
int __must_check ub_memfd(const char *name, bool executable);
/* One of @rounded bytes that begins with @size bytes of @bytes and that nobody can change any
 * more; executable if its name says code. The descriptor or -errno. */
int __must_check ub_memfd_sealed(const char *name, const void *bytes, u64 size, u64 rounded);

#endif
