/* SPDX-License-Identifier: MIT */
/*
 * A userspace kernel whose only client is this very process: calls go straight to ub_kernel_call(),
 * fds in replies are already ours.
 */
#ifndef UB_TESTS_KERNEL_HARNESS_H
#define UB_TESTS_KERNEL_HARNESS_H

#include <linux/bpf.h>

#include <kernel/kernel.h>

#define MAX_VIEWS 64

struct view {
	u32 link_id;
	u32 prog_id;
	pid_t pid;
	u64 offset;
	u64 ref_ctr_offset;
	u64 cookie;
	ino_t ino;
	bool is_return;
	bool enabled;
};

struct harness {
	struct ub_loop *loop;
	struct ub_kernel *kernel;
	struct ub_caller caller;
	struct view views[MAX_VIEWS]; /* attached now */
	u32 nr_views;
	u32 nr_attaches;
	u32 nr_detaches;
	u32 nr_map_changes;
	int attach_error; /* what attach is to answer */
	/* Called before each read of the caller's memory, to change it meanwhile. */
	void (*before_read)(struct harness *h, u64 address);
};

void harness_init(struct harness *h);
/* The same with per-CPU values for @nr_cpus; harness_init() has two. */
void harness_init_cpus(struct harness *h, u32 nr_cpus);
void harness_exit(struct harness *h);
/* Lets the kernel's loop do what is due (closes noticed, ...). */
void harness_pump(struct harness *h);
/* Pumps until @done or 30 seconds: whether it came about. */
bool harness_wait(struct harness *h, bool (*done)(void *opaque), void *opaque);
/* Waits until the kernel has @count objects. */
bool harness_wait_objects(struct harness *h, u32 count);

/* As syscall(nr, ...): a result or -errno. HARNESS_PASSED: the kernel wants nothing to do with it.
 */
#define HARNESS_PASSED INT64_MIN
s64 harness_call(struct harness *h, int nr, u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5);
s64 harness_bpf(struct harness *h, u32 cmd, void *attr, u32 size);

/* Shorthands over harness_bpf(). */
int harness_map(struct harness *h, u32 type, u32 key, u32 value, u32 entries, u32 flags);
int harness_update(struct harness *h, int fd, const void *key, const void *value, u64 flags);
int harness_lookup(struct harness *h, int fd, const void *key, void *value);
int harness_delete(struct harness *h, int fd, const void *key);
int harness_next_key(struct harness *h, int fd, const void *key, void *next);
int harness_prog(struct harness *h, u32 type, u32 attach_type, const struct bpf_insn *insns,
		 u32 nr);
int harness_uprobe(struct harness *h, const char *path, u64 offset, bool is_return, pid_t pid,
		   int cpu);

#endif
