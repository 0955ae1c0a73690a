/* SPDX-License-Identifier: MIT */
/* What btf_check.c and btf_references.c share. */
#ifndef UB_KERNEL_BTF_CHECK_H
#define UB_KERNEL_BTF_CHECK_H

#include <linux/btf.h>

#include <kernel/kinds.h>

/* Debian 12's header has these, older ones have not. */
#define UB_BTF_KIND_DECL_TAG 17
#define UB_BTF_KIND_TYPE_TAG 18
#define UB_BTF_KIND_ENUM64   19

/* BTF while it is checked. */
struct ub_btf_check {
	const u8 *types;
	u32 type_len;
	const char *strings;
	u32 str_len;
	struct ub_log *log;
	u32 nr;	      /* types, without void; ids are 1 .. nr */
	u32 *offsets; /* of each type in types, by id */
	u32 capacity;
	u8 *state; /* of the walk, by id */
};

static inline const struct btf_type *ub_btf_type_at(const struct ub_btf_check *c, u32 id)
{
	return (const struct btf_type *)(const void *)(c->types + c->offsets[id]);
}

/* Says why, and returns @err. */
static inline int ub_btf_bad(struct ub_log *log, int err, const char *what)
{
	ub_log_printf(log, "%s\n", what);
	return err;
}

/* btf_references.c: whether every type's references hold, once each is well formed by itself. */
int __must_check ub_btf_check_references(struct ub_btf_check *c);

#endif
