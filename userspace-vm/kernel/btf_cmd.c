// SPDX-License-Identifier: MIT
/* BPF_BTF_LOAD. */
#include <kernel/kinds.h>

#include <bpf/btf.h>
#include <string.h>

#define MAX_BTF_SIZE (16u << 20)

static int bad(struct ub_log *log, u32 id, const char *what)
{
	ub_log_printf(log, "[%u] %s\n", id, what);
	return -EINVAL;
}

/* The type behind names and qualifiers, if it has a size; NULL otherwise. */
static const struct btf_type *sized(const struct btf *btf, u32 id, s64 *size)
{
	const struct btf_type *named = btf__type_by_id(btf, id), *type;
	s32 real = btf__resolve_type(btf, id);

	type = real > 0 ? btf__type_by_id(btf, (u32)real) : NULL;
	if (!type || btf_is_datasec(type) || btf_is_var(named)) /* of which one can't have one */
		return NULL;
	*size = btf__resolve_size(btf, id);
	return *size >= 0 ? type : NULL;
}

/* btf_type_int_is_regular(): what C has, no bit fields. */
static bool is_regular(const struct btf_type *t)
{
	u32 bits = btf_int_bits(t);

	return btf_int_offset(t) == 0 && bits >= 8 && bits <= 128 && !(bits & (bits - 1));
}

/* btf_struct_check_member() of the member's type: its place in the struct, and the shape of bit
 * fields. */
static int check_member(const struct btf *btf, const struct btf_type *t, u32 i, const char **what)
{
	const struct btf_member *m = &btf_members(t)[i];
	u32 bits = btf_member_bitfield_size(t, i);
	u64 offset = btf_member_bit_offset(t, i);
	const struct btf_type *type;
	s64 size;

	type = sized(btf, m->type, &size);
	*what = "Invalid member";
	if (!type || (!size && !btf_is_array(type) && !btf_is_composite(type)))
		return -EINVAL;
	*what = "Invalid member bits_offset";
	if (bits) {
		/* Only numbers can be bit fields. */
		if (!btf_is_int(type) && !btf_is_any_enum(type))
			return -EINVAL;
		if (btf_is_int(type) && !is_regular(type))
			return -EINVAL;
		if (bits > (u64)size * 8 || bits > 128)
			return -EINVAL;
		size = 0;
	} else if (btf_is_int(type)) {
		if (btf_kflag(t) && offset % 8)
			return -EINVAL;
		if (btf_kflag(t) && !is_regular(type))
			return -EINVAL;
		offset += btf_int_offset(type);
		bits = btf_int_bits(type);
		if (bits + offset % 8 > 128)
			return -EINVAL;
		size = 0;
	} else if (offset % 8) {
		return -EINVAL;
	}
	*what = "Member exceeds struct_size";
	return (offset + bits + 7) / 8 + (u64)size > t->size ? -EINVAL : 0;
}

static int check_array(const struct btf *btf, u32 id, struct ub_log *log)
{
	const struct btf_array *array = btf_array(btf__type_by_id(btf, id));
	const struct btf_type *type;
	s64 size;

	type = sized(btf, array->index_type, &size);
	if (!type || !btf_is_int(type) || !is_regular(type))
		return bad(log, id, "Invalid index");
	type = sized(btf, array->type, &size);
	if (!type || (btf_is_int(type) && !is_regular(type)))
		return bad(log, id, "Invalid elem");
	if (array->nelems && (u64)size > UINT32_MAX / array->nelems)
		return bad(log, id, "Array size overflows u32");
	return 0;
}

static int check_section(const struct btf *btf, u32 id, struct ub_log *log)
{
	const struct btf_type *t = btf__type_by_id(btf, id);

	for (u32 i = 0; i < btf_vlen(t); i++) {
		const struct btf_var_secinfo *info = &btf_var_secinfos(t)[i];
		const struct btf_type *var = btf__type_by_id(btf, info->type);
		s64 size;

		if (btf_is_var(var) && (!sized(btf, var->type, &size) || info->size < size))
			return bad(log, id, "Invalid size");
	}
	return 0;
}

static int check_function(const struct btf *btf, u32 id, struct ub_log *log)
{
	const struct btf_type *func = btf__type_by_id(btf, id);
	const struct btf_type *proto = btf__type_by_id(btf, func->type);

	for (u32 i = 0; i < btf_vlen(proto); i++) {
		u32 type = btf_params(proto)[i].type;

		/* Arguments that a function has names for have names and sizes. */
		if (type && !btf_params(proto)[i].name_off)
			return bad(log, id, "Invalid arg");
	}
	return 0;
}

static int check_prototype(const struct btf *btf, u32 id, struct ub_log *log)
{
	const struct btf_type *proto = btf__type_by_id(btf, id);
	s64 size;

	if (proto->type && !sized(btf, proto->type, &size))
		return bad(log, id, "Invalid return type");
	for (u32 i = 0; i < btf_vlen(proto); i++) {
		const struct btf_param *param = &btf_params(proto)[i];

		if (!param->type) /* variadic: last and without a name */ {
			if (i + 1 != btf_vlen(proto) || param->name_off)
				return bad(log, id, "Invalid arg");
			continue;
		}
		if (!sized(btf, param->type, &size))
			return bad(log, id, "Invalid arg");
	}
	return 0;
}

/* What depends on the sizes of types referred to, which the passes before have shown to be finite.
 */
static int check_sizes(const struct btf *btf, struct ub_log *log)
{
	u32 nr = btf__type_cnt(btf);
	int err = 0;

	for (u32 id = 1; id < nr && !err; id++) {
		const struct btf_type *t = btf__type_by_id(btf, id);
		const char *what;
		s64 size;

		switch (btf_kind(t)) {
		case BTF_KIND_STRUCT:
		case BTF_KIND_UNION:
			for (u32 i = 0; i < btf_vlen(t) && !err; i++) {
				err = check_member(btf, t, i, &what);
				if (err)
					err = bad(log, id, what);
			}
			break;
		case BTF_KIND_ARRAY:
			err = check_array(btf, id, log);
			break;
		case BTF_KIND_VAR:
			err = sized(btf, t->type, &size) ? 0 : bad(log, id, "Invalid type_id");
			break;
		case BTF_KIND_DATASEC:
			err = check_section(btf, id, log);
			break;
		case BTF_KIND_FUNC_PROTO:
			err = check_prototype(btf, id, log);
			break;
		case BTF_KIND_FUNC:
			err = check_function(btf, id, log);
			break;
		default:
			break;
		}
	}
	return err;
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
