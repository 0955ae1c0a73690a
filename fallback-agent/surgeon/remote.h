/* SPDX-License-Identifier: MIT */
/*
 * Private to remote.c and what it is made of. Each may call those above it: gadgets.c, frame.c,
 * host.c, remote.c.
 */
#ifndef UB_SURGEON_REMOTE_H
#define UB_SURGEON_REMOTE_H

#include <surgeon/target.h>

#define UB_FRAME_BYTES 512 /* pretcode, ucontext, siginfo */
/* Frames of remote.c and helper.c, arguments, and the first one's xstate. */
#define UB_STATE_OFFSET	 (3 * UB_FRAME_BYTES + UB_REMOTE_ARGUMENTS)
#define UB_SCRATCH_BYTES (UB_STATE_OFFSET + UB_MAX_XSTATE + 256)

/* --- frame.c --------------------------------------------------------------------------------- */

/* Writes the frame that gives the host everything back, at t->frame. -EOPNOTSUPP: its state has
 * grown beyond the room for it. */
int __must_check ub_frame_write(struct ub_target *t, u64 sigmask);
/* How much room a thread's xstate needs in it at most. */
u32 ub_frame_state_bytes(const struct ub_thread *thread);

/* --- host.c ---------------------------------------------------------------------------------- */

/* Finds t->scratch: dead memory for the frames. -EBUSY: not now; -ENOSPC. */
int __must_check ub_host_scratch(struct ub_target *t);

#endif
