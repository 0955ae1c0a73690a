/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the oracle share: one side of the comparison, and calls whose results are
 * noted.
 */
#ifndef UB_TESTS_KERNEL_ORACLE_H
#define UB_TESTS_KERNEL_ORACLE_H

#include <linux/bpf.h>

#include "harness.h"

#define MAX_RESULTS 600

struct side {
	struct harness *h; /* NULL: Linux */
	u32 nr;
	const char *names[MAX_RESULTS];
	s64 results[MAX_RESULTS];
	int fds[64]; /* to close */
	u32 nr_fds;
};

s64 oracle_call(struct side *s, int nr, u64 a0, u64 a1, u64 a2, u64 a3, u64 a4);
s64 oracle_bpf(struct side *s, u32 cmd, const void *attr, u32 size);
s64 oracle_note(struct side *s, const char *name, s64 result);
/* A call that returns an fd if it succeeds: that it did counts, not its number. */
int oracle_note_fd(struct side *s, const char *name, s64 result);
int oracle_map(struct side *s, const char *name, union bpf_attr attr);

#define MAP(s, name, ...) oracle_map(s, name, (union bpf_attr) { __VA_ARGS__ })
#define BPF(s, name, cmd, ...)                                                                     \
	({                                                                                         \
		union bpf_attr attr_ = { __VA_ARGS__ };                                            \
		oracle_note(s, name, oracle_bpf(s, cmd, &attr_, sizeof(attr_)));                   \
	})
#define BPF_FD(s, name, cmd, ...)                                                                  \
	({                                                                                         \
		union bpf_attr attr_ = { __VA_ARGS__ };                                            \
		oracle_note_fd(s, name, oracle_bpf(s, cmd, &attr_, sizeof(attr_)));                \
	})
#define BAD ((u64)8) /* an address where there is nothing */

/* oracle_maps.c: what needs nothing but maps, and maps of @prog and the perf event @event. */
void oracle_maps(struct side *s);
void oracle_maps_of_objects(struct side *s, int prog, int event);
/* oracle_objects.c: programs, perf events, links, ids. */
void oracle_objects(struct side *s);
u32 oracle_uprobe_type(void);

#endif
