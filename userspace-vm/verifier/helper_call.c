/* SPDX-License-Identifier: MIT */
/*
 * A call of a helper: may this program make it, and what is in r0 afterwards.
 */
#include <verifier/env.h>

/* __BPF_FUNC_MAX_ID of Linux 6.18: the headers here may be older. */
#define FUNC_MAX_ID 212

#define MAX_ERRNO 4095

static bool gpl_compatible(const char *license)
{
	static const char *const names[] = {
		"GPL",		"GPL v2",	"GPL and additional rights",
		"Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"
	};

	for (u32 i = 0; license && i < ub_array_size(names); i++) {
		if (!strcmp(license, names[i]))
			return true;
	}
	return false;
}

static bool one_of(u32 id, const u32 *ids)
{
	for (; *ids; ids++) {
		if (*ids == id)
			return true;
	}
	return false;
}

/* Some maps serve only some helpers, and some helpers only some maps. */
static bool map_fits(const struct ub_map_attr *map, u32 id)
{
	static const u32 tail[] = { BPF_FUNC_tail_call, 0 };
	static const u32 perf[] = { BPF_FUNC_perf_event_read, BPF_FUNC_perf_event_output,
				    BPF_FUNC_skb_output,      BPF_FUNC_perf_event_read_value,
				    BPF_FUNC_xdp_output,      0 };
	static const u32 ringbuf[] = { BPF_FUNC_ringbuf_output,
				       BPF_FUNC_ringbuf_reserve,
				       BPF_FUNC_ringbuf_query,
				       BPF_FUNC_ringbuf_reserve_dynptr,
				       BPF_FUNC_ringbuf_submit_dynptr,
				       BPF_FUNC_ringbuf_discard_dynptr,
				       0 };
	static const u32 drain[] = { BPF_FUNC_user_ringbuf_drain, 0 };
	static const u32 stackid[] = { BPF_FUNC_get_stackid, 0 };
	static const u32 cgroup[] = { BPF_FUNC_skb_under_cgroup, BPF_FUNC_current_task_under_cgroup,
				      0 };
	static const u32 lookup[] = { BPF_FUNC_map_lookup_elem, 0 };
	static const u32 queue[] = { BPF_FUNC_map_peek_elem, BPF_FUNC_map_pop_elem,
				     BPF_FUNC_map_push_elem, 0 };
	static const u32 bloom[] = { BPF_FUNC_map_peek_elem, BPF_FUNC_map_push_elem, 0 };
	static const u32 task[] = { BPF_FUNC_task_storage_get, BPF_FUNC_task_storage_delete, 0 };
	static const u32 none[] = { 0 };
	const u32 *ids = NULL;

	switch (map->type) {
	case BPF_MAP_TYPE_PROG_ARRAY:
		ids = tail;
		break;
	case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
		ids = perf;
		break;
	case BPF_MAP_TYPE_RINGBUF:
		ids = ringbuf;
		break;
	case BPF_MAP_TYPE_USER_RINGBUF:
		ids = drain;
		break;
	case BPF_MAP_TYPE_STACK_TRACE:
		ids = stackid;
		break;
	case BPF_MAP_TYPE_CGROUP_ARRAY:
		ids = cgroup;
		break;
	case BPF_MAP_TYPE_ARRAY_OF_MAPS:
	case BPF_MAP_TYPE_HASH_OF_MAPS:
		ids = lookup;
		break;
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
		ids = queue;
		break;
	case BPF_MAP_TYPE_BLOOM_FILTER:
		ids = bloom;
		break;
	case BPF_MAP_TYPE_TASK_STORAGE:
		ids = task;
		break;
	case BPF_MAP_TYPE_STRUCT_OPS:
		ids = none;
		break;
	}
	if (ids)
		return one_of(id, ids);
	if (one_of(id, tail) || one_of(id, perf) || one_of(id, ringbuf) || one_of(id, drain) ||
	    one_of(id, stackid) || one_of(id, cgroup) || one_of(id, queue) || one_of(id, task))
		return false;
	if (id == BPF_FUNC_map_lookup_percpu_elem)
		return map->type == BPF_MAP_TYPE_PERCPU_ARRAY ||
		       map->type == BPF_MAP_TYPE_PERCPU_HASH ||
		       map->type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
	return true;
}

static bool can_iterate(u32 type)
{
	switch (type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		return true;
	}
	return false;
}

static void record_map(struct env *env, u32 insn_idx, const struct call_meta *meta)
{
	struct insn_aux *aux = &env->aux[insn_idx];

	if (meta->map < 0)
		return;
	if (aux->map_state == MAP_PTR_UNSET && !meta->map_inner) {
		aux->map_state = MAP_PTR_ONE;
		aux->map = meta->map;
	} else if (aux->map_state != MAP_PTR_ONE || aux->map != meta->map || meta->map_inner) {
		aux->map_state = MAP_PTR_POISON;
	}
}

void ub_clear_packet_pointers(struct env *env)
{
	struct frame *frame;
	struct reg *reg;

	ub_state_for_each_reg(env->cur, frame, reg, {
		if (ub_is_packet(reg->type) || reg->type == PTR_TO_PACKET_END)
			ub_reg_mark_unknown(reg);
	});
}

static bool changes_packet(u32 id)
{
	switch (id) {
	case BPF_FUNC_skb_vlan_push:
	case BPF_FUNC_skb_vlan_pop:
	case BPF_FUNC_skb_store_bytes:
	case BPF_FUNC_skb_change_proto:
	case BPF_FUNC_skb_change_head:
	case BPF_FUNC_skb_change_tail:
	case BPF_FUNC_skb_adjust_room:
	case BPF_FUNC_skb_pull_data:
	case BPF_FUNC_l3_csum_replace:
	case BPF_FUNC_l4_csum_replace:
	case BPF_FUNC_clone_redirect:
	case BPF_FUNC_xdp_adjust_head:
	case BPF_FUNC_xdp_adjust_meta:
	case BPF_FUNC_xdp_adjust_tail:
	case BPF_FUNC_tail_call:
		return true;
	}
	return false;
}

/* The object is gone: whoever points to it points to nothing. */
int ub_release_reference(struct env *env, u32 ref_obj_id)
{
	struct frame *frame;
	struct reg *reg;

	if (!ub_ref_release(env->cur, REF_PTR, ref_obj_id))
		return -EINVAL;
	ub_state_for_each_reg(env->cur, frame, reg, {
		if (reg->ref_obj_id == ref_obj_id)
			ub_reg_mark_unknown(reg);
	});
	return 0;
}

static int release(struct env *env, const struct bpf_insn *insn, const struct call_meta *meta)
{
	struct reg *regs = ub_cur_regs(env);
	int err = -EINVAL;

	if (!meta->release_regno)
		return 0;
	if (meta->helper->args[meta->release_regno - 1] == UB_ARG_PTR_TO_DYNPTR)
		err = ub_dynptr_release(env, meta->ref_obj_id);
	else if (meta->ref_obj_id)
		err = ub_release_reference(env, meta->ref_obj_id);
	else if (ub_reg_is_null(&regs[meta->release_regno]))
		err = 0;
	if (err)
		return ub_reject(env, err, "func %s#%d reference has not been acquired before\n",
				 ub_func_name(insn->imm), insn->imm);
	return 0;
}

static int callbacks(struct env *env, const struct bpf_insn *insn, u32 insn_idx,
		     const struct call_meta *meta)
{
	struct reg *regs = ub_cur_regs(env);
	int err;

	switch (insn->imm) {
	case BPF_FUNC_tail_call:
		env->uses_tail_call = true;
		err = ub_check_no_references(env, "tail_call");
		return err ?: ub_push_tail_return(env, insn_idx);
	case BPF_FUNC_for_each_map_elem:
		if (meta->map < 0 || !can_iterate(meta->map_inner ? env->maps[meta->map].inner->type
								  : env->maps[meta->map].attr.type))
			return ub_reject(env, -ENOTSUPP, "callback function not allowed for map\n");
		return ub_push_callback(env, insn, insn_idx, meta->subprog, false);
	case BPF_FUNC_timer_set_callback:
		return ub_push_callback(env, insn, insn_idx, meta->subprog, true);
	case BPF_FUNC_loop:
		/* How often it may be called depends on r1. */
		if (regs[BPF_REG_1].type != SCALAR_VALUE)
			return ub_reject(env, -EINVAL, "R1 is not a scalar\n");
		err = ub_mark_precise(env, BPF_REG_1);
		if (err)
			return err;
		if (ub_cur_frame(env)->callback_depth < regs[BPF_REG_1].umax)
			return ub_push_callback(env, insn, insn_idx, meta->subprog, false);
		ub_cur_frame(env)->callback_depth = 0;
		if (ub_log_verbose(env))
			ub_log(env, "frame%u bpf_loop iteration limit reached\n",
			       env->cur->curframe);
		return 0;
	case BPF_FUNC_dynptr_from_mem:
		/* The dynptr may outlive a frame, and is no place to hide other pointers in. */
		if (regs[BPF_REG_1].type != PTR_TO_MAP_VALUE)
			return ub_reject(env, -EACCES,
					 "Unsupported reg type %s for bpf_dynptr_from_mem data\n",
					 ub_type_str(env, regs[BPF_REG_1].type));
		return 0;
	case BPF_FUNC_user_ringbuf_drain:
		return ub_push_callback(env, insn, insn_idx, meta->subprog, false);
	}
	return 0;
}

static void refine_result(struct env *env, u32 id, const struct call_meta *meta, struct reg *r0)
{
	switch (id) {
	case BPF_FUNC_get_stack:
	case BPF_FUNC_get_task_stack:
	case BPF_FUNC_probe_read_str:
	case BPF_FUNC_probe_read_kernel_str:
	case BPF_FUNC_probe_read_user_str:
		r0->smax = (s64)meta->msize_max;
		r0->smax32 = meta->msize_max > S32_MAX ? S32_MAX : (s32)meta->msize_max;
		r0->smin = -MAX_ERRNO;
		r0->smin32 = -MAX_ERRNO;
		ub_range_sync(r0);
		break;
	case BPF_FUNC_get_smp_processor_id:
		/* Programs move to other machines less than numbers of CPUs change: any sane
		 * number. */
		r0->umax = 8191;
		r0->umin = 0;
		r0->smax = 8191;
		r0->smin = 0;
		r0->umax32 = 8191;
		r0->umin32 = 0;
		r0->smax32 = 8191;
		r0->smin32 = 0;
		ub_range_sync(r0);
		break;
	}
	(void)env;
}

static int set_result(struct env *env, u32 id, const struct call_meta *meta)
{
	struct reg *r0 = &ub_cur_regs(env)[BPF_REG_0];
	const struct ub_map_attr *map;
	u32 ref;
	int err;

	switch (meta->helper->ret) {
	case UB_RET_INTEGER:
		ub_reg_mark_unknown(r0);
		refine_result(env, id, meta, r0);
		return 0;
	case UB_RET_VOID:
		return 0;
	case UB_RET_PTR_TO_MAP_VALUE:
	case UB_RET_PTR_TO_MAP_VALUE_OR_NULL:
		if (meta->map < 0)
			return ub_reject(env, -EINVAL, "kernel subsystem misconfigured verifier\n");
		map = meta->map_inner ? env->maps[meta->map].inner : &env->maps[meta->map].attr;
		ub_reg_mark_known(r0, 0);
		r0->type = PTR_TO_MAP_VALUE | PTR_MAYBE_NULL;
		r0->map = meta->map;
		r0->inner = meta->map_inner;
		r0->map_uid = meta->map_uid;
		if (meta->helper->ret == UB_RET_PTR_TO_MAP_VALUE ||
		    (meta->const_key >= 0 && meta->const_key < map->max_entries))
			r0->type &= ~PTR_MAYBE_NULL;
		r0->id = ++env->id_gen;
		return 0;
	case UB_RET_PTR_TO_ALLOC_MEM_OR_NULL:
		ub_reg_mark_known(r0, 0);
		r0->type = PTR_TO_MEM | MEM_RINGBUF | PTR_MAYBE_NULL;
		r0->mem_size = meta->mem_size;
		ref = ++env->id_gen;
		err = ub_ref_acquire(env, REF_PTR, ref);
		r0->id = r0->ref_obj_id = ref;
		return err;
	case UB_RET_PTR_TO_TASK:
		ub_reg_mark_known(r0, 0);
		r0->type = PTR_TO_TASK | PTR_TRUSTED;
		return 0;
	case UB_RET_PTR_TO_DYNPTR_MEM_OR_NULL:
		ub_reg_mark_known(r0, 0);
		r0->type = PTR_TO_MEM | PTR_MAYBE_NULL;
		r0->mem_size = meta->mem_size;
		r0->id = ++env->id_gen;
		r0->dynptr_id = meta->dynptr_id;
		r0->ref_obj_id = meta->ref_obj_id;
		return 0;
	}
	return ub_reject(env, -EINVAL, "unknown return type %u of func %s#%u\n", meta->helper->ret,
			 ub_func_name(id), id);
}

static bool uses_current_task(u32 id)
{
	switch (id) {
	case BPF_FUNC_get_current_pid_tgid:
	case BPF_FUNC_get_current_uid_gid:
	case BPF_FUNC_get_current_comm:
	case BPF_FUNC_get_ns_current_pid_tgid:
	case BPF_FUNC_get_current_task:
	case BPF_FUNC_get_current_task_btf:
		return true;
	}
	return false;
}

int ub_check_helper_call(struct env *env, const struct bpf_insn *insn, u32 *insn_idx)
{
	const struct ub_helper *helper = ub_helper_by_id(insn->imm);
	struct call_meta meta = {
		.map = -1, .func_id = insn->imm, .helper = helper, .const_key = -1
	};
	u32 id = insn->imm, call = *insn_idx;
	const struct ub_map_attr *map;
	int err;

	if (insn->imm <= 0 || insn->imm >= FUNC_MAX_ID)
		return ub_reject(env, -EINVAL, "invalid func %s#%d\n", ub_func_name(id), insn->imm);
	if (helper && helper->flags & UB_HELPER_NO_PROTO)
		return ub_reject(env, -EINVAL, "unknown func %s#%d: %s\n", ub_func_name(id),
				 insn->imm, helper->why);
	if (!helper || !ub_helper_allowed(helper, env->req->type))
		return ub_reject(env, -EINVAL, "program of this type cannot use helper %s#%d\n",
				 ub_func_name(id), insn->imm);
	if (helper->flags & UB_HELPER_GPL_ONLY && !gpl_compatible(env->req->license))
		return ub_reject(
			env, -EINVAL,
			"cannot call GPL-restricted function from non-GPL compatible program\n");
	if (helper->flags & UB_HELPER_MIGHT_SLEEP && !ub_in_sleepable(env))
		return ub_reject(env, -EINVAL, "helper call might sleep in a non-sleepable prog\n");
	err = ub_check_helper_args(env, &meta);
	if (err)
		return err;
	record_map(env, call, &meta);
	/* What the helper fills is initialized now. */
	for (s32 i = 0; i < meta.access_size; i++) {
		err = ub_check_mem(env, call, meta.regno, i, BPF_B, true, -1, false, false);
		if (err)
			return err;
	}
	if (id == BPF_FUNC_dynptr_from_mem && ub_cur_regs(env)[BPF_REG_1].type != PTR_TO_MAP_VALUE)
		return ub_reject(env, -EACCES,
				 "Unsupported reg type %s for bpf_dynptr_from_mem data\n",
				 ub_type_str(env, ub_cur_regs(env)[BPF_REG_1].type));
	err = release(env, insn, &meta);
	err = err ?: callbacks(env, insn, call, &meta);
	if (err)
		return err;
	env->uses_task |= uses_current_task(id);
	if (helper->args[0] == UB_ARG_PTR_TO_CTX)
		env->ctx_use.escapes = true;
	ub_clear_caller_saved(env, ub_cur_regs(env));
	err = set_result(env, id, &meta);
	if (err)
		return err;
	if (meta.map >= 0) {
		map = meta.map_inner ? env->maps[meta.map].inner : &env->maps[meta.map].attr;
		if (!map || !map_fits(map, id))
			return ub_reject(env, -EINVAL, "cannot pass map_type %u into func %s#%u\n",
					 map ? map->type : 0, ub_func_name(id), id);
	}
	if (changes_packet(id))
		ub_clear_packet_pointers(env);
	return 0;
}
