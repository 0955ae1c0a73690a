/* SPDX-License-Identifier: MIT */
/*
 * Stand-ins for what the daemon drives, so that its own promises can be tested alone: a kernel with
 * three commands, images that hold link ids, and a surgeon that "patches" a process by making the
 * file $UBPF_RUN_DIR/patched.PID, whose lines are the ids of its links. While there is a file
 * "overtake", every process is faster than the surgeon.
 */
#ifndef UB_TESTS_DAEMON_FAKE_H
#define UB_TESTS_DAEMON_FAKE_H

#include <common/types.h>

enum {
	FAKE_ATTACH = 1000, /* attr: struct fake_attach; returns a descriptor, the link */
	FAKE_ADD,	    /* attr: u64, which grows by one; returns 0 */
	FAKE_FILE,	    /* returns a memfd */
	FAKE_DETACH,	    /* attr: struct fake_attach, id */
};

struct fake_attach {
	s32 pid;
	u32 id;	    /* out: the link's */
	u64 offset; /* 0xbad: can't be hooked */
	u64 dev;
	u64 ino;
};

#endif
