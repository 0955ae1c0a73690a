/* SPDX-License-Identifier: MIT */
/*
 * Before the walk: ld_imm64 of map fds become indexes into the program's map list, and opcodes that
 * do not exist are refused.
 */
#include <verifier/env.h>

/* Whether programs of this type may use maps of this kind, as the kernel's
 * check_map_prog_compatibility(). */
static int check_compatible(struct env *env, const struct ub_map_attr *map,
			    const struct map_fields *fields)
{
	bool tracing = ub_is_tracing(env->req->type);

	if (tracing && fields->other >= 0 &&
	    (!strcmp(fields->other_name, "bpf_list_head") ||
	     !strcmp(fields->other_name, "bpf_rb_root")))
		return ub_reject(env, -EINVAL,
				 "tracing progs cannot use bpf_{list_head,rb_root} yet\n");
	if (fields->spin_lock >= 0 && env->req->type == BPF_PROG_TYPE_SOCKET_FILTER)
		return ub_reject(env, -EINVAL,
				 "socket filter progs cannot use bpf_spin_lock yet\n");
	if (fields->spin_lock >= 0 && tracing)
		return ub_reject(env, -EINVAL, "tracing progs cannot use bpf_spin_lock yet\n");
	if (fields->timer >= 0 && tracing)
		return ub_reject(env, -EINVAL, "tracing progs cannot use bpf_timer yet\n");
	if (fields->other >= 0 && !strcmp(fields->other_name, "bpf_wq") && tracing)
		return ub_reject(env, -EINVAL, "tracing progs cannot use bpf_wq yet\n");
	if (!(env->req->prog_flags & BPF_F_SLEEPABLE))
		return 0;
	switch (map->type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
	case BPF_MAP_TYPE_ARRAY_OF_MAPS:
	case BPF_MAP_TYPE_HASH_OF_MAPS:
	case BPF_MAP_TYPE_RINGBUF:
	case BPF_MAP_TYPE_USER_RINGBUF:
	case BPF_MAP_TYPE_TASK_STORAGE:
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
		return 0;
	default:
		return ub_reject(
			env, -EINVAL,
			"Sleepable programs can only use array, hash, ringbuf and local storage maps\n");
	}
}

static int find_map(struct env *env, int fd, bool idx, s16 *out)
{
	struct ub_verifier_map map = { 0 };
	int err;

	if (!env->req->map_by_fd || !env->req->map_by_fd(env->req->opaque, fd, idx, &map))
		return ub_reject(env, -EBADF, "fd %d is not pointing to valid bpf_map\n", fd);
	for (u32 i = 0; i < env->nr_maps; i++) {
		if (env->maps[i].opaque == map.opaque) {
			*out = (s16)i;
			return 0;
		}
	}
	if (env->nr_maps >= UB_MAX_USED_MAPS)
		return ub_reject(
			env, -E2BIG,
			"The total number of maps per program has reached the limit of %u\n",
			UB_MAX_USED_MAPS);
	ub_btf_map_fields(&map, &env->fields[env->nr_maps]);
	err = check_compatible(env, &map.attr, &env->fields[env->nr_maps]);
	if (err)
		return err;
	env->maps[env->nr_maps] = map;
	*out = (s16)env->nr_maps++;
	return 0;
}

/* The value must lie in the one element of an array. */
static int check_direct_value(struct env *env, const struct ub_map_attr *map, u32 off)
{
	int err = 0;

	if (map->type != BPF_MAP_TYPE_ARRAY)
		return ub_reject(env, -EINVAL,
				 "no direct value access support for this map type\n");
	if (map->max_entries != 1)
		err = -ENOTSUPP;
	else if (off >= map->value_size)
		err = -EINVAL;
	if (err)
		return ub_reject(env, err,
				 "invalid access to map value pointer, value_size=%u off=%u\n",
				 map->value_size, off);
	return 0;
}

static bool opcode_exists(u8 code)
{
	u8 op = BPF_OP(code), size = BPF_SIZE(code), mode = BPF_MODE(code);

	switch (BPF_CLASS(code)) {
	case BPF_ALU:
	case BPF_ALU64:
		if (op > BPF_END)
			return false;
		return op != BPF_NEG || BPF_SRC(code) == BPF_K;
	case BPF_JMP:
		if (op == BPF_CALL)
			return true;
		if (op == BPF_JCOND)
			return BPF_SRC(code) == BPF_K;
		if (op == BPF_JA || op == BPF_EXIT)
			return BPF_SRC(code) == BPF_K;
		return op <= BPF_JSLE;
	case BPF_JMP32:
		if (op == BPF_JA)
			return BPF_SRC(code) == BPF_K;
		return op <= BPF_JSLE && op != BPF_CALL && op != BPF_EXIT;
	case BPF_LD:
		if (mode == BPF_IMM)
			return size == BPF_DW;
		return (mode == BPF_ABS || mode == BPF_IND) && size != BPF_DW;
	case BPF_LDX:
		return mode == BPF_MEM || (mode == BPF_MEMSX && size != BPF_DW);
	case BPF_ST:
		return mode == BPF_MEM;
	default: /* BPF_STX */
		return mode == BPF_MEM || mode == BPF_ATOMIC;
	}
}

int ub_resolve_maps(struct env *env)
{
	struct bpf_insn *insn = env->insns;
	int err;

	for (u32 i = 0; i < env->nr_insns; i++, insn++) {
		s16 map = -1;

		env->aux[i].map = -1;
		if (BPF_CLASS(insn->code) == BPF_LDX &&
		    ((BPF_MODE(insn->code) != BPF_MEM && BPF_MODE(insn->code) != BPF_MEMSX) ||
		     insn->imm))
			return ub_reject(env, -EINVAL, "BPF_LDX uses reserved fields\n");
		if (insn[0].code == (BPF_LD | BPF_IMM | BPF_DW)) {
			if (i == env->nr_insns - 1 || insn[1].code || insn[1].dst_reg ||
			    insn[1].src_reg || insn[1].off)
				return ub_reject(env, -EINVAL, "invalid bpf_ld_imm64 insn\n");
			if (insn->src_reg == 0 || insn->src_reg == BPF_PSEUDO_FUNC)
				goto next;
			if (insn->src_reg == BPF_PSEUDO_BTF_ID)
				return ub_reject(
					env, -EINVAL,
					"kernel symbols (ksyms) do not exist in the userspace kernel\n");
			if (insn->src_reg > BPF_PSEUDO_MAP_IDX_VALUE)
				return ub_reject(env, -EINVAL, "unrecognized bpf_ld_imm64 insn\n");
			if ((insn->src_reg == BPF_PSEUDO_MAP_FD ||
			     insn->src_reg == BPF_PSEUDO_MAP_IDX) &&
			    insn[1].imm)
				return ub_reject(env, -EINVAL, "unrecognized bpf_ld_imm64 insn\n");
			err = find_map(env, insn->imm,
				       insn->src_reg == BPF_PSEUDO_MAP_IDX ||
					       insn->src_reg == BPF_PSEUDO_MAP_IDX_VALUE,
				       &map);
			if (err)
				return err;
			if (insn->src_reg == BPF_PSEUDO_MAP_FD ||
			    insn->src_reg == BPF_PSEUDO_MAP_IDX) {
				insn->src_reg = BPF_PSEUDO_MAP_FD;
			} else {
				if (insn[1].imm < 0 || insn[1].imm >= MAX_VAR_OFF)
					return ub_reject(
						env, -EINVAL,
						"direct value offset of %u is not allowed\n",
						insn[1].imm);
				err = check_direct_value(env, &env->maps[map].attr, insn[1].imm);
				if (err)
					return err;
				insn->src_reg = BPF_PSEUDO_MAP_VALUE;
			}
			insn->imm = map;
			env->aux[i].map = map;
		next:
			env->aux[i + 1].map = -1;
			insn++;
			i++;
			continue;
		}
		if (!opcode_exists(insn->code))
			return ub_reject(env, -EINVAL, "unknown opcode %02x\n", insn->code);
	}
	return 0;
}
