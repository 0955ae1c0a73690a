/* SPDX-License-Identifier: MIT */
/*
 * The attribute of a bpf(2) call: copied in from the caller once, so that a client which rewrites
 * it meanwhile changes nothing, and checked as Linux does.
 */
#ifndef UB_KERNEL_ATTR_H
#define UB_KERNEL_ATTR_H

#include <linux/bpf.h>

#include <kernel/object.h>

/* sizeof(union bpf_attr) of the Linux whose behaviour is followed (6.18); Debian 12's header is
 * older. */
#define UB_ATTR_SIZE 168

/* BPF_LINK_CREATE's arguments for uprobe_multi (Linux 6.6), at attr + 16. */
struct ub_uprobe_multi_attr {
	u64 path;
	u64 offsets;
	u64 ref_ctr_offsets;
	u64 cookies;
	u32 cnt;
	u32 flags;
	u32 pid;
};

struct ub_attr {
	union {
		union bpf_attr a;
		u8 bytes[UB_ATTR_SIZE];
		struct {
			u8 before_log_true_size[140];
			u32 log_true_size; /* Linux 6.4 */
			s32 prog_token_fd;
			u32 fd_array_cnt;
		};
		struct {
			u8 before_btf_log_true_size[28];
			u32 btf_log_true_size;
			u32 btf_flags;
			s32 btf_token_fd;
		};
		struct {
			u8 before_multi[16];
			struct ub_uprobe_multi_attr multi;
		};
	};
	u64 address; /* where the caller has it */
	u32 size;    /* that the caller gave, at most UB_ATTR_SIZE */
};

/* Offset of the end of a field of union bpf_attr. */
#define UB_ATTR_END(field) (offsetof(union bpf_attr, field) + sizeof(((union bpf_attr *)0)->field))

/* 0, -EFAULT, -E2BIG (larger than a page, or bytes set that are not known). */
int __must_check ub_attr_copy_in(struct ub_attr *attr, struct ub_caller *caller, u64 address,
				 u32 size);
/* Whether everything from byte @end on is zero: Linux's !CHECK_ATTR(). */
bool ub_attr_tail_zero(const struct ub_attr *attr, size_t end);
/* Writes @size bytes back into the caller's attribute. */
int __must_check ub_attr_write(const struct ub_attr *attr, struct ub_caller *caller, size_t offset,
			       const void *from, size_t size);
#define UB_ATTR_WRITE(attr, caller, field)                                                         \
	ub_attr_write(attr, caller, offsetof(union bpf_attr, field), &(attr)->a.field,             \
		      sizeof((attr)->a.field))

/* Copies a name of BPF_OBJ_NAME_LEN bytes: letters, digits, '_' and '.', NUL-terminated. -EINVAL.
 */
int __must_check ub_attr_name(char *into, const char *from);
/* Copies a string of at most @size bytes with its NUL from the caller: its length without it,
 * -EFAULT, or -E2BIG. */
int __must_check ub_caller_string(struct ub_caller *caller, u64 address, char *into, size_t size);

#endif
