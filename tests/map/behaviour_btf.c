// SPDX-License-Identifier: MIT
#include "behaviour.h"

#include <bpf/btf.h>
#include <errno.h>

int load_btf(struct side *side)
{
	struct btf *btf = btf__new_empty();
	union bpf_attr attr = { 0 };
	const void *data;
	u32 size;
	s64 fd;

	if (!btf)
		return -ENOMEM;
	btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
	btf__add_int(btf, "u64", 8, 0);
	btf__add_struct(btf, "bpf_spin_lock", 4);
	btf__add_field(btf, "val", BTF_INT, 0, 0);
	btf__add_struct(btf, "value", BTF_VALUE_SIZE);
	btf__add_field(btf, "first", BTF_U64, 0, 0);
	btf__add_field(btf, "second", BTF_U64, 64, 0);
	btf__add_field(btf, "third", BTF_U64, 128, 0);
	btf__add_struct(btf, "locked", BTF_VALUE_SIZE);
	btf__add_field(btf, "first", BTF_U64, 0, 0);
	btf__add_field(btf, "lock", BTF_LOCK, 8 * BTF_LOCK_AT, 0);
	btf__add_field(btf, "second", BTF_INT, 96, 0);
	btf__add_field(btf, "third", BTF_U64, 128, 0);
	btf__add_func_proto(btf, BTF_INT);
	btf__add_func(btf, "main", BTF_FUNC_STATIC, BTF_PROTO);
	btf__add_func(btf, "callback", BTF_FUNC_STATIC, BTF_PROTO);
	data = btf__raw_data(btf, &size);
	attr.btf = (u64)data;
	attr.btf_size = size;
	fd = data ? side_bpf(side, BPF_BTF_LOAD, &attr) : -ENOMEM;
	btf__free(btf);
	return (int)fd;
}
