/* SPDX-License-Identifier: MIT */
/*
 * Loads, stores and atomics: through what kind of pointer, within which bounds.
 */
#include <stdio.h>

#include <verifier/env.h>

const struct ub_map_attr *ub_reg_map(const struct env *env, const struct reg *reg)
{
	if (reg->map < 0 || (u32)reg->map >= env->nr_maps)
		return NULL;
	return reg->inner ? env->maps[reg->map].inner : &env->maps[reg->map].attr;
}

const struct map_fields *ub_reg_fields(const struct env *env, const struct reg *reg)
{
	static const struct map_fields none = { -1, -1, -1, 0, NULL };

	if (reg->map < 0 || (u32)reg->map >= env->nr_maps || reg->inner)
		return &none;
	return &env->fields[reg->map];
}

int ub_check_ptr_off(struct env *env, const struct reg *reg, u32 regno, bool fixed_ok)
{
	if (reg->off < 0)
		return ub_reject(env, -EACCES, "negative offset %s ptr R%u off=%d disallowed\n",
				 ub_type_str(env, reg->type), regno, reg->off);
	if (!fixed_ok && reg->off)
		return ub_reject(env, -EACCES,
				 "dereference of modified %s ptr R%u off=%d disallowed\n",
				 ub_type_str(env, reg->type), regno, reg->off);
	if (!ub_tnum_is_const(reg->var_off) || reg->var_off.value)
		return ub_reject(
			env, -EACCES, "variable %s access var_off=(0x%llx; 0x%llx) disallowed\n",
			ub_type_str(env, reg->type), (unsigned long long)reg->var_off.value,
			(unsigned long long)reg->var_off.mask);
	return 0;
}

static int in_region(struct env *env, u32 regno, s64 off, s32 size, u32 mem_size, bool zero_size)
{
	struct reg *reg = &ub_cur_regs(env)[regno];

	if (off >= 0 && (size > 0 || (size == 0 && zero_size)) && (u64)off + size <= mem_size)
		return 0;
	switch (ub_base_type(reg->type)) {
	case PTR_TO_MAP_KEY:
		return ub_reject(env, -EACCES,
				 "invalid access to map key, key_size=%u off=%lld size=%d\n",
				 mem_size, (long long)off, size);
	case PTR_TO_MAP_VALUE:
		return ub_reject(env, -EACCES,
				 "invalid access to map value, value_size=%u off=%lld size=%d\n",
				 mem_size, (long long)off, size);
	case PTR_TO_PACKET:
	case PTR_TO_PACKET_META:
	case PTR_TO_PACKET_END:
		return ub_reject(
			env, -EACCES,
			"invalid access to packet, off=%lld size=%d, R%u(id=%u,off=%lld,r=%d)\n",
			(long long)off, size, regno, reg->id, (long long)off, (s32)mem_size);
	default:
		return ub_reject(env, -EACCES,
				 "invalid access to memory, mem_size=%u off=%lld size=%d\n",
				 mem_size, (long long)off, size);
	}
}

/* Both ends of the pointer's range must do. */
int ub_check_mem_region(struct env *env, u32 regno, s32 off, s32 size, u32 mem_size, bool zero_size)
{
	struct reg *reg = &ub_cur_regs(env)[regno];
	int err;

	if (reg->smin < 0 && (reg->smin == S64_MIN || off + reg->smin != (s32)(off + reg->smin) ||
			      reg->smin + off < 0))
		return ub_reject(
			env, -EACCES,
			"R%u min value is negative, either use unsigned index or do a if (index >=0) check.\n",
			regno);
	err = in_region(env, regno, reg->smin + off, size, mem_size, zero_size);
	if (err)
		return ub_reject(env, err, "R%u min value is outside of the allowed memory range\n",
				 regno);
	if (reg->umax >= MAX_VAR_OFF)
		return ub_reject(
			env, -EACCES,
			"R%u unbounded memory access, make sure to bounds check any such access\n",
			regno);
	err = in_region(env, regno, (s64)reg->umax + off, size, mem_size, zero_size);
	if (err)
		return ub_reject(env, err, "R%u max value is outside of the allowed memory range\n",
				 regno);
	return 0;
}

static bool touches(const struct reg *reg, s32 off, s32 size, s32 field, u32 field_size)
{
	return field >= 0 && reg->smin + off < (s64)field + field_size &&
	       (u64)field < reg->umax + off + size;
}

int ub_check_map_access(struct env *env, u32 regno, s32 off, s32 size, bool zero_size,
			bool by_helper)
{
	struct reg *reg = &ub_cur_regs(env)[regno];
	const struct ub_map_attr *map = ub_reg_map(env, reg);
	const struct map_fields *fields = ub_reg_fields(env, reg);
	const char *name = NULL;
	int err;

	if (!map)
		return ub_reject(env, -EACCES, "R%u points to an unknown map\n", regno);
	err = ub_check_mem_region(env, regno, off, size, map->value_size, zero_size);
	if (err)
		return err;
	if (touches(reg, off, size, fields->spin_lock, 4))
		name = "bpf_spin_lock";
	else if (touches(reg, off, size, fields->timer, 16))
		name = "bpf_timer";
	else if (touches(reg, off, size, fields->other, fields->other_size))
		name = "special field";
	if (!name)
		return 0;
	return ub_reject(env, -EACCES, "%s cannot be accessed %s\n", name,
			 by_helper ? "indirectly by helper" : "directly by load/store");
}

int ub_check_map_flags(struct env *env, u32 regno, s32 off, s32 size, bool write)
{
	const struct ub_map_attr *map = ub_reg_map(env, &ub_cur_regs(env)[regno]);

	if (!map)
		return 0;
	if (write && map->flags & BPF_F_RDONLY_PROG)
		return ub_reject(env, -EACCES,
				 "write into map forbidden, value_size=%u off=%d size=%d\n",
				 map->value_size, off, size);
	if (!write && map->flags & BPF_F_WRONLY_PROG)
		return ub_reject(env, -EACCES,
				 "read from map forbidden, value_size=%u off=%d size=%d\n",
				 map->value_size, off, size);
	return 0;
}

int ub_check_packet_access(struct env *env, u32 regno, s32 off, s32 size, bool zero_size)
{
	struct reg *reg = &ub_cur_regs(env)[regno];
	int err;

	if (reg->smin < 0)
		return ub_reject(
			env, -EACCES,
			"R%u min value is negative, either use unsigned index or do a if (index >=0) check.\n",
			regno);
	err = reg->range < 0 ? -EINVAL : in_region(env, regno, off, size, reg->range, zero_size);
	if (err)
		return ub_reject(env, err, "R%u offset is outside of the packet\n", regno);
	return 0;
}

bool ub_may_write_packet(struct env *env, bool by_helper)
{
	switch (env->req->type) {
	case BPF_PROG_TYPE_XDP:
	case BPF_PROG_TYPE_SCHED_CLS:
	case BPF_PROG_TYPE_SCHED_ACT:
	case BPF_PROG_TYPE_LWT_XMIT:
	case BPF_PROG_TYPE_SK_SKB:
	case BPF_PROG_TYPE_SK_MSG:
		return true;
	default:
		return false;
	}
}

static int check_alignment(struct env *env, const struct reg *reg, s32 off, s32 size,
			   bool strict_once)
{
	bool strict = env->strict_alignment || strict_once;
	const char *what = "";
	struct tnum at;

	switch (ub_base_type(reg->type)) {
	case PTR_TO_PACKET:
	case PTR_TO_PACKET_META:
		if (!strict || size == 1)
			return 0;
		/* Ethernet's 14 bytes leave the network header 2 off. */
		at = ub_tnum_add(reg->var_off, ub_tnum_const((s64)2 + reg->off + off));
		if (!ub_tnum_aligned(at, size))
			return ub_reject(
				env, -EACCES,
				"misaligned packet access off %d+(0x%llx; 0x%llx)+%d+%d size %d\n",
				2, (unsigned long long)reg->var_off.value,
				(unsigned long long)reg->var_off.mask, reg->off, off, size);
		return 0;
	case PTR_TO_MAP_KEY:
		what = "key ";
		break;
	case PTR_TO_MAP_VALUE:
		what = "value ";
		break;
	case PTR_TO_CTX:
		what = "context ";
		break;
	case PTR_TO_STACK:
		what = "stack ";
		strict = true; /* slots are tracked as aligned units */
		break;
	}
	if (!strict || size == 1)
		return 0;
	at = ub_tnum_add(reg->var_off, ub_tnum_const((s64)reg->off + off));
	if (!ub_tnum_aligned(at, size))
		return ub_reject(env, -EACCES,
				 "misaligned %saccess off (0x%llx; 0x%llx)+%d+%d size %d\n", what,
				 (unsigned long long)reg->var_off.value,
				 (unsigned long long)reg->var_off.mask, reg->off, off, size);
	return 0;
}

/* The constant at a place of a frozen, read-only map. */
static bool frozen_value(struct env *env, const struct reg *reg, s32 off, u32 size, bool sx,
			 u64 *value)
{
	const struct ub_verifier_map *map;
	s64 at = (s64)reg->var_off.value + off;

	if (reg->map < 0 || reg->inner || !ub_tnum_is_const(reg->var_off))
		return false;
	map = &env->maps[reg->map];
	if (map->attr.type != BPF_MAP_TYPE_ARRAY || map->attr.max_entries != 1 || !map->frozen ||
	    !(map->attr.flags & BPF_F_RDONLY_PROG) || !map->frozen_values)
		return false;
	if (at < 0 || at + size > map->attr.value_size)
		return false;
	*value = 0;
	memcpy(value, map->frozen_values + at, size);
	if (sx && size < 8)
		*value = (u64)((s64)(*value << (64 - size * 8)) >> (64 - size * 8));
	return true;
}

static bool is_percpu(u32 type)
{
	return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
	       type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
}

static void record_percpu(struct env *env, u32 insn_idx, const struct reg *reg)
{
	const struct ub_map_attr *map = ub_reg_map(env, reg);
	bool percpu = reg->type == PTR_TO_MAP_VALUE && map && is_percpu(map->type);
	u8 *state = &env->aux[insn_idx].percpu;

	if (*state == PERCPU_UNSET)
		*state = percpu ? PERCPU_YES : PERCPU_NO;
	else if (*state == PERCPU_YES && !percpu)
		*state = PERCPU_NO;
}

static int map_value(struct env *env, u32 regno, s32 off, s32 size, bool write, s32 value_regno,
		     bool sx)
{
	struct reg *regs = ub_cur_regs(env);
	u64 value;
	int err;

	err = ub_check_map_flags(env, regno, off, size, write);
	if (!err)
		err = ub_check_map_access(env, regno, off, size, false, false);
	if (err || write || value_regno < 0)
		return err;
	if (frozen_value(env, &regs[regno], off, size, sx, &value))
		ub_reg_mark_known(&regs[value_regno], value);
	else
		ub_reg_mark_unknown(&regs[value_regno]);
	return 0;
}

static int ctx(struct env *env, u32 regno, s32 off, s32 size, bool write, s32 value_regno, bool sx)
{
	struct reg *regs = ub_cur_regs(env);
	struct ctx_access access = { .type = SCALAR_VALUE, .ldsx = sx };
	int err;

	/* Contexts are rewritten by constant offset. */
	err = ub_check_ptr_off(env, &regs[regno], regno, false);
	if (!err)
		err = ub_ctx_check(env, off, size, write, &access);
	if (err || write || value_regno < 0)
		return err;
	if (access.type == SCALAR_VALUE) {
		ub_reg_mark_unknown(&regs[value_regno]);
	} else {
		ub_reg_mark_known(&regs[value_regno], 0);
		regs[value_regno].type = access.type;
	}
	return 0;
}

int ub_check_mem(struct env *env, u32 insn_idx, u32 regno, s32 off, u32 bpf_size, bool write,
		 s32 value_regno, bool strict, bool sx)
{
	static const u8 bytes[] = {
		[BPF_W >> 3] = 4, [BPF_H >> 3] = 2, [BPF_B >> 3] = 1, [BPF_DW >> 3] = 8
	};
	struct reg *regs = ub_cur_regs(env);
	struct reg *reg = &regs[regno];
	s32 size = bytes[bpf_size >> 3];
	int err;

	err = check_alignment(env, reg, off, size, strict);
	if (err)
		return err;
	off += reg->off;
	record_percpu(env, insn_idx, reg);
	switch (reg->type) {
	case PTR_TO_MAP_KEY: {
		const struct ub_map_attr *map = ub_reg_map(env, reg);

		if (write)
			return ub_reject(env, -EACCES, "write to change key R%u not allowed\n",
					 regno);
		err = ub_check_mem_region(env, regno, off, size, map ? map->key_size : 0, false);
		if (!err && value_regno >= 0)
			ub_reg_mark_unknown(&regs[value_regno]);
		break;
	}
	case PTR_TO_MAP_VALUE:
		err = map_value(env, regno, off, size, write, value_regno, sx);
		break;
	case PTR_TO_MEM:
	case PTR_TO_MEM | MEM_RINGBUF:
	case PTR_TO_MEM | MEM_RDONLY:
		if (write && reg->type & MEM_RDONLY)
			return ub_reject(env, -EACCES, "R%u cannot write into %s\n", regno,
					 ub_type_str(env, reg->type));
		err = ub_check_mem_region(env, regno, off, size, reg->mem_size, false);
		if (!err && !write && value_regno >= 0)
			ub_reg_mark_unknown(&regs[value_regno]);
		break;
	case PTR_TO_CTX:
		err = ctx(env, regno, off, size, write, value_regno, sx);
		break;
	case PTR_TO_STACK:
		err = ub_stack_check_bounds(env, regno, off, size, false, write);
		if (!err)
			err = write ? ub_stack_write(env, regno, off, size, value_regno, insn_idx)
				    : ub_stack_read(env, regno, off, size, value_regno);
		break;
	case PTR_TO_PACKET:
	case PTR_TO_PACKET_META:
		if (write && !ub_may_write_packet(env, false))
			return ub_reject(env, -EACCES, "cannot write into packet\n");
		if (write)
			env->seen_direct_write = true;
		err = ub_check_packet_access(env, regno, off, size, false);
		if (!err && !write && value_regno >= 0)
			ub_reg_mark_unknown(&regs[value_regno]);
		break;
	case PTR_TO_TASK:
	case PTR_TO_TASK | PTR_TRUSTED:
		return ub_reject(
			env, -EACCES,
			"R%u points to struct task_struct, which can't be read here: there is no kernel memory in userspace\n",
			regno);
	default:
		return ub_reject(env, -EACCES, "R%u invalid mem access '%s'\n", regno,
				 ub_type_str(env, reg->type));
	}
	if (err)
		return err;
	if (size < 8 && value_regno >= 0 && !write && regs[value_regno].type == SCALAR_VALUE) {
		if (sx)
			ub_range_coerce_size_sx(&regs[value_regno], size);
		else
			ub_range_coerce_size(&regs[value_regno], size);
	}
	return 0;
}

static bool atomic_ok(const struct reg *reg)
{
	return reg->type != PTR_TO_CTX && !ub_is_packet(reg->type);
}

static int atomic_rmw(struct env *env, const struct bpf_insn *insn)
{
	struct reg *regs = ub_cur_regs(env);
	s32 load = -1;
	int err;

	if (BPF_SIZE(insn->code) != BPF_W && BPF_SIZE(insn->code) != BPF_DW)
		return ub_reject(env, -EINVAL, "invalid atomic operand size\n");
	err = ub_check_reg(env, insn->src_reg, USE_SRC);
	if (!err)
		err = ub_check_reg(env, insn->dst_reg, USE_SRC);
	if (!err && insn->imm == BPF_CMPXCHG)
		err = ub_check_reg(env, BPF_REG_0, USE_SRC);
	if (err)
		return err;
	if (!atomic_ok(&regs[insn->dst_reg]))
		return ub_reject(env, -EACCES, "BPF_ATOMIC stores into R%u %s is not allowed\n",
				 insn->dst_reg, ub_type_str(env, regs[insn->dst_reg].type));
	if (insn->imm & BPF_FETCH) {
		load = insn->imm == BPF_CMPXCHG ? BPF_REG_0 : insn->src_reg;
		err = ub_check_reg(env, load, USE_DST_NO_MARK);
		if (err)
			return err;
	}
	err = ub_check_mem(env, env->insn, insn->dst_reg, insn->off, BPF_SIZE(insn->code), false,
			   -1, true, false);
	/* Once more for the register that receives the old value. */
	if (!err && load >= 0)
		err = ub_check_mem(env, env->insn, insn->dst_reg, insn->off, BPF_SIZE(insn->code),
				   false, load, true, false);
	if (!err)
		err = ub_check_mem(env, env->insn, insn->dst_reg, insn->off, BPF_SIZE(insn->code),
				   true, -1, true, false);
	return err;
}

int ub_check_atomic(struct env *env, const struct bpf_insn *insn)
{
	struct reg *regs = ub_cur_regs(env);
	u32 *type = &env->aux[env->insn].ptr_type;
	u32 base;
	int err;

	switch (insn->imm) {
	case BPF_ADD:
	case BPF_ADD | BPF_FETCH:
	case BPF_AND:
	case BPF_AND | BPF_FETCH:
	case BPF_OR:
	case BPF_OR | BPF_FETCH:
	case BPF_XOR:
	case BPF_XOR | BPF_FETCH:
	case BPF_XCHG:
	case BPF_CMPXCHG:
		base = insn->dst_reg < NR_REGS ? ub_base_type(regs[insn->dst_reg].type) : 0;
		err = atomic_rmw(env, insn);
		break;
	case BPF_LOAD_ACQ:
		err = ub_check_reg(env, insn->src_reg, USE_SRC);
		if (!err)
			err = ub_check_reg(env, insn->dst_reg, USE_DST_NO_MARK);
		if (err)
			return err;
		if (!atomic_ok(&regs[insn->src_reg]))
			return ub_reject(env, -EACCES,
					 "BPF_ATOMIC loads from R%u %s is not allowed\n",
					 insn->src_reg, ub_type_str(env, regs[insn->src_reg].type));
		base = ub_base_type(regs[insn->src_reg].type);
		err = ub_check_mem(env, env->insn, insn->src_reg, insn->off, BPF_SIZE(insn->code),
				   false, insn->dst_reg, true, false);
		break;
	case BPF_STORE_REL:
		err = ub_check_reg(env, insn->src_reg, USE_SRC);
		if (!err)
			err = ub_check_reg(env, insn->dst_reg, USE_SRC);
		if (err)
			return err;
		if (!atomic_ok(&regs[insn->dst_reg]))
			return ub_reject(env, -EACCES,
					 "BPF_ATOMIC stores into R%u %s is not allowed\n",
					 insn->dst_reg, ub_type_str(env, regs[insn->dst_reg].type));
		base = ub_base_type(regs[insn->dst_reg].type);
		err = ub_check_mem(env, env->insn, insn->dst_reg, insn->off, BPF_SIZE(insn->code),
				   true, insn->src_reg, true, false);
		break;
	default:
		return ub_reject(env, -EINVAL, "BPF_ATOMIC uses invalid atomic opcode %02x\n",
				 insn->imm);
	}
	if (!err && *type == NOT_INIT)
		*type = base;
	return err;
}
