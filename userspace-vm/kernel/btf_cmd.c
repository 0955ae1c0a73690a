// SPDX-License-Identifier: MIT
/* BPF_BTF_LOAD. */
#include <kernel/kinds.h>

#include <bpf/btf.h>
#include <string.h>

#define MAX_BTF_SIZE (16u << 20)

/* Members must fit in what they are members of, which check_metas() can't tell before sizes are known. */
static int check_sizes(const struct btf *btf, struct ub_log *log)
{
	u32 nr = btf__type_cnt(btf);

	for (u32 id = 1; id < nr; id++) {
		const struct btf_type *t = btf__type_by_id(btf, id);

		if (!btf_is_struct(t) && !btf_is_union(t))
			continue;
		for (u32 i = 0; i < btf_vlen(t); i++) {
			const struct btf_member *m = &btf_members(t)[i];
			u32 bits = btf_member_bitfield_size(t, i);
			u64 offset = btf_member_bit_offset(t, i);
			s64 size = btf__resolve_size(btf, m->type);

			if (size < 0 || offset + (bits ? bits : (u64)size * 8) > (u64)t->size * 8) {
				ub_log_printf(log, "[%u] Member exceeds struct_size\n", id);
				return -EINVAL;
			}
		}
	}
	return 0;
}

static int parse(struct ub_kbtf *btf, struct ub_log *log)
{
	int err = ub_btf_check(btf->data, btf->size, log);

	if (err)
		return err;
	btf->btf = btf__new(btf->data, btf->size);
	if (!btf->btf) {
		err = errno ? -errno : -EINVAL;
		ub_log_printf(log, "BTF is not understood\n");
		return err;
	}
	return check_sizes(btf->btf, log);
}

static int do_load(struct ub_kbtf *btf, struct ub_caller *c, const struct ub_attr *attr)
{
	struct ub_log log;
	u32 true_size;
	int err, log_err;

	err = ub_log_init(&log, attr->a.btf_log_level, attr->a.btf_log_buf, attr->a.btf_log_size);
	if (err)
		return err;
	btf->size = attr->a.btf_size;
	btf->data = malloc(btf->size ? btf->size : 1);
	if (!btf->data)
		return -ENOMEM;
	err = btf->size ? c->read(c, attr->a.btf, btf->data, btf->size) : 0;
	if (err)
		return err;
	err = parse(btf, &log);
	log_err = ub_log_finish(&log, c, &true_size);
	ub_log_exit(&log);
	if (log_err)
		err = log_err;
	if (attr->size >= offsetof(struct ub_attr, btf_log_true_size) + 4 &&
	    ub_attr_write(attr, c, offsetof(struct ub_attr, btf_log_true_size), &true_size,
			  sizeof(true_size)))
		err = -EFAULT;
	return err;
}

s64 ub_cmd_btf_load(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *attr, int *fd)
{
	_cleanup_object_ struct ub_object *object = NULL;
	struct ub_kbtf *btf;
	int err;

	if (!ub_attr_tail_zero(attr, offsetof(struct ub_attr, btf_log_true_size) + 4))
		return -EINVAL;
	if (attr->a.btf_size > MAX_BTF_SIZE)
		return -E2BIG;
	btf = calloc(1, sizeof(*btf));
	if (!btf)
		return -ENOMEM;
	err = ub_object_init(&btf->object, k, UB_KIND_BTF, c);
	if (err) {
		free(btf);
		return err;
	}
	object = &btf->object;
	err = do_load(btf, c, attr);
	if (err)
		return err;
	*fd = ub_object_open(object, UB_FILE_RDWR);
	return *fd < 0 ? *fd : 0;
}

void ub_kbtf_destroy(struct ub_object *object)
{
	struct ub_kbtf *btf = ub_to_btf(object);

	btf__free(btf->btf);
	free(btf->data);
	free(btf);
}
