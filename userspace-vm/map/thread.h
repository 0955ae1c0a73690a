/* SPDX-License-Identifier: MIT */
/* Which thread this is. Freestanding. */
#ifndef UB_MAP_THREAD_H
#define UB_MAP_THREAD_H

#include <map/cpu.h>

/* The thread's id as the process itself sees it; the process's where no system call may be made and
 * the thread can't be told otherwise. @run NULL: not a program, but this very process. */
u32 ub_thread_id(const struct ub_run *run);

#endif
