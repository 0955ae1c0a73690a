/* SPDX-License-Identifier: MIT */
/*
 * What BTF tells: names and kinds of functions, arguments of global ones, special fields of maps.
 */
#include <bpf/btf.h>
#include <stdio.h>

#include <verifier/env.h>

static const struct btf_type *skip_mods(const struct btf *btf, u32 id)
{
	const struct btf_type *t = btf__type_by_id(btf, id);

	for (u32 depth = 0; t && depth < 32; depth++) {
		if (!btf_is_mod(t) && !btf_is_typedef(t))
			return t;
		t = btf__type_by_id(btf, t->type);
	}
	return NULL;
}

static const char *type_name(const struct btf *btf, const struct btf_type *t)
{
	const char *name = t ? btf__str_by_offset(btf, t->name_off) : NULL;

	return name ?: "";
}

/* Function infos name each subprogram, in order. */
/* Functions that may end early must return a number, and only BTF says that they do. */
static int check_abnormal_returns(struct env *env)
{
	for (u32 i = 1; i < env->nr_subprogs; i++) {
		if (env->subprogs[i].has_ld_abs)
			return ub_reject(env, -EINVAL,
					 "LD_ABS is not allowed in subprogs without BTF\n");
		if (env->subprogs[i].has_tail_call)
			return ub_reject(env, -EINVAL,
					 "tail_call is not allowed in subprogs without BTF\n");
	}
	return 0;
}

int ub_verifier_btf_check(struct env *env)
{
	const struct ub_verify_request *req = env->req;

	if (!req->nr_func_info && !req->nr_line_info)
		return check_abnormal_returns(env);
	if (!req->btf || !req->func_info || !req->nr_func_info)
		return 0;
	if (req->nr_func_info != env->nr_subprogs)
		return ub_reject(env, -EINVAL,
				 "number of funcs in func_info doesn't match number of subprogs\n");
	for (u32 i = 0; i < env->nr_subprogs; i++) {
		const struct btf_type *func = btf__type_by_id(req->btf, req->func_info[i].type_id);
		const struct btf_type *proto, *ret;

		if (req->func_info[i].insn_off != env->subprogs[i].start)
			return ub_reject(
				env, -EINVAL,
				"func_info BTF section doesn't match subprog layout in BPF program\n");
		if (!func || !btf_is_func(func))
			return ub_reject(env, -EINVAL, "invalid type id %u in func info\n",
					 req->func_info[i].type_id);
		proto = btf__type_by_id(req->btf, func->type);
		if (!proto || !btf_is_func_proto(proto))
			return ub_reject(env, -EINVAL, "invalid type id %u in func info\n",
					 req->func_info[i].type_id);
		ret = skip_mods(req->btf, proto->type);
		env->subprogs[i].name = type_name(req->btf, func);
		env->subprogs[i].btf_func = req->func_info[i].type_id;
		env->subprogs[i].global = btf_vlen(func) == BTF_FUNC_GLOBAL;
		env->subprogs[i].returns_void = proto->type == 0;
		if (!ret || (!btf_is_int(ret) && !btf_is_any_enum(ret))) {
			if (i && env->subprogs[i].has_ld_abs)
				return ub_reject(
					env, -EINVAL,
					"LD_ABS is only allowed in functions that return 'int'.\n");
			if (i && env->subprogs[i].has_tail_call)
				return ub_reject(
					env, -EINVAL,
					"tail_call is only allowed in functions that return 'int'.\n");
		}
	}
	env->subprogs[0].global = false;
	return 0;
}

static bool has_tag(const struct btf *btf, u32 func, u32 arg, const char *tag)
{
	for (u32 id = 1, n = btf__type_cnt(btf); id < n; id++) {
		const struct btf_type *t = btf__type_by_id(btf, id);

		if (btf_is_decl_tag(t) && t->type == func &&
		    btf_decl_tag(t)->component_idx == (s32)arg && !strcmp(type_name(btf, t), tag))
			return true;
	}
	return false;
}

/* The struct that programs of this type declare their context as. */
static bool is_ctx_type(const struct env *env, u32 id)
{
	const struct btf *btf = env->req->btf;
	const struct btf_type *t = btf__type_by_id(btf, id);
	const char *want, *also = NULL;

	switch (env->req->type) {
	case BPF_PROG_TYPE_KPROBE:
		want = "pt_regs";
		also = "bpf_user_pt_regs_t";
		break;
	case BPF_PROG_TYPE_PERF_EVENT:
		want = "bpf_perf_event_data";
		break;
	case BPF_PROG_TYPE_RAW_TRACEPOINT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE:
		want = "bpf_raw_tracepoint_args";
		break;
	case BPF_PROG_TYPE_XDP:
		want = "xdp_md";
		break;
	case BPF_PROG_TYPE_SOCKET_FILTER:
	case BPF_PROG_TYPE_SCHED_CLS:
	case BPF_PROG_TYPE_SCHED_ACT:
	case BPF_PROG_TYPE_CGROUP_SKB:
		want = "__sk_buff";
		break;
	default:
		return false;
	}
	while (t && (btf_is_mod(t) || btf_is_typedef(t))) {
		if (also && btf_is_typedef(t) && !strcmp(type_name(btf, t), also))
			return true;
		t = btf__type_by_id(btf, t->type);
	}
	return t && btf_is_struct(t) && !strcmp(type_name(btf, t), want);
}

/* "task_struct", or a flavour of it as programs write for CO-RE: task_struct___old. */
static bool is_task(const struct btf *btf, const struct btf_type *t)
{
	static const char task[] = "task_struct";
	const char *name = t && btf_is_struct(t) ? type_name(btf, t) : "";
	size_t n = sizeof(task) - 1;

	return !strncmp(name, task, n) && (!name[n] || !strncmp(name + n, "___", 3));
}

static int pointer_arg(struct env *env, struct subprog *sub, u32 i, const struct btf_type *ptr)
{
	const struct btf *btf = env->req->btf;
	const struct btf_type *to = skip_mods(btf, ptr->type);
	s64 size;

	if (has_tag(btf, sub->btf_func, i, "arg:ctx") || is_ctx_type(env, ptr->type)) {
		sub->args[i].kind = ARG_CTX;
		return 0;
	}
	if (to && btf_is_struct(to) && !strcmp(type_name(btf, to), "bpf_dynptr")) {
		sub->args[i].kind = ARG_DYNPTR;
		return 0;
	}
	if (is_task(btf, to) && has_tag(btf, sub->btf_func, i, "arg:trusted")) {
		sub->args[i].kind = ARG_TASK;
		sub->args[i].nullable = has_tag(btf, sub->btf_func, i, "arg:nullable");
		return 0;
	}
	size = to && ptr->type ? btf__resolve_size(btf, ptr->type) : -1;
	if (size <= 0 || size > INT32_MAX || has_tag(btf, sub->btf_func, i, "arg:trusted") ||
	    has_tag(btf, sub->btf_func, i, "arg:arena"))
		return ub_reject(env, -EINVAL,
				 "arg#%u reference type('%s %s') size cannot be determined: %d\n",
				 i, to && btf_is_struct(to) ? "struct" : "UNKNOWN",
				 type_name(btf, to), -EINVAL);
	sub->args[i].kind = ARG_MEM;
	sub->args[i].mem_size = size;
	sub->args[i].nullable = !has_tag(btf, sub->btf_func, i, "arg:nonnull");
	return 0;
}

int ub_btf_prepare_args(struct env *env, u32 subprog)
{
	const struct btf *btf = env->req->btf;
	struct subprog *sub = &env->subprogs[subprog];
	const struct btf_type *func, *proto, *ret;
	const struct btf_param *params;
	u32 nr;
	int err;

	if (sub->args_cached)
		return 0;
	if (!btf || !sub->btf_func)
		return -EINVAL;
	func = btf__type_by_id(btf, sub->btf_func);
	proto = btf__type_by_id(btf, func->type);
	params = btf_params(proto);
	nr = btf_vlen(proto);
	if (nr > 5)
		return ub_reject(env, -EINVAL,
				 "Global function %s() with %u > %d args. Buggy compiler.\n",
				 sub->name, nr, 5);
	ret = skip_mods(btf, proto->type);
	if (sub->returns_void || !ret || (!btf_is_int(ret) && !btf_is_any_enum(ret)))
		return ub_reject(
			env, -EINVAL,
			"Global function %s() doesn't return scalar. Only those are supported.\n",
			sub->name);
	for (u32 i = 0; i < nr; i++) {
		const struct btf_type *t = skip_mods(btf, params[i].type);

		if (t && (btf_is_int(t) || btf_is_any_enum(t))) {
			sub->args[i].kind = ARG_SCALAR;
			continue;
		}
		if (!t || !btf_is_ptr(t))
			return ub_reject(env, -EINVAL,
					 "Arg#%u type %s in %s() is not supported yet.\n", i,
					 type_name(btf, t), sub->name);
		err = pointer_arg(env, sub, i, t);
		if (err)
			return err;
	}
	sub->nr_args = nr;
	sub->args_cached = true;
	return 0;
}

static void find_fields(const struct btf *btf, u32 type_id, u32 base, struct map_fields *fields,
			u32 depth)
{
	static const char *const others[] = { "bpf_list_head",	   "bpf_list_node", "bpf_rb_root",
					      "bpf_rb_node",	   "bpf_refcount",  "bpf_wq",
					      "bpf_res_spin_lock", "bpf_task_work" };
	const struct btf_type *t = skip_mods(btf, type_id);
	const struct btf_member *m;

	if (!t || depth > 4 || !btf_is_struct(t))
		return;
	m = btf_members(t);
	for (u32 i = 0; i < btf_vlen(t); i++, m++) {
		const struct btf_type *mt = skip_mods(btf, m->type);
		u32 off = base + btf_member_bit_offset(t, i) / 8;
		const char *name = type_name(btf, mt);

		if (!mt)
			continue;
		if (btf_is_ptr(mt)) {
			const struct btf_type *tag = btf__type_by_id(btf, mt->type);

			if (tag && btf_is_type_tag(tag) && strstr(type_name(btf, tag), "kptr")) {
				fields->other = off;
				fields->other_size = 8;
				fields->other_name = "kptr";
			}
			continue;
		}
		if (!btf_is_struct(mt))
			continue;
		if (!strcmp(name, "bpf_spin_lock")) {
			fields->spin_lock = off;
			continue;
		}
		if (!strcmp(name, "bpf_timer")) {
			fields->timer = off;
			continue;
		}
		for (u32 k = 0; k < ub_array_size(others); k++) {
			if (!strcmp(name, others[k])) {
				fields->other = off;
				fields->other_size = mt->size;
				fields->other_name = others[k];
			}
		}
		find_fields(btf, m->type, off, fields, depth + 1);
	}
}

void ub_btf_map_fields(const struct ub_verifier_map *map, struct map_fields *fields)
{
	*fields = (struct map_fields) { -1, -1, -1, 0, NULL };
	if (map->btf && map->btf_value_type_id)
		find_fields(map->btf, map->btf_value_type_id, 0, fields, 0);
}
