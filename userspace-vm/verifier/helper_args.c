/* SPDX-License-Identifier: MIT */
/*
 * What helpers accept: the kind of each argument, and the memory it points to.
 */
#include <verifier/env.h>

#define ANY_NULL PTR_MAYBE_NULL

/* Kinds of pointers that can stand for memory, in the order in which the log lists them. */
static const u32 mem_types[] = {
	PTR_TO_STACK,	  PTR_TO_PACKET, PTR_TO_PACKET_META,	   PTR_TO_MAP_KEY,
	PTR_TO_MAP_VALUE, PTR_TO_MEM,	 PTR_TO_MEM | MEM_RINGBUF, 0
};
static const u32 map_types[] = { CONST_PTR_TO_MAP, 0 };
static const u32 ctx_types[] = { PTR_TO_CTX, 0 };
static const u32 scalar_types[] = { SCALAR_VALUE, 0 };
static const u32 alloc_types[] = { PTR_TO_MEM | MEM_RINGBUF, 0 };
static const u32 value_types[] = { PTR_TO_MAP_VALUE, 0 };
static const u32 func_types[] = { PTR_TO_FUNC, 0 };
static const u32 stack_types[] = { PTR_TO_STACK, 0 };
static const u32 task_types[] = { PTR_TO_TASK, PTR_TO_TASK | PTR_TRUSTED, PTR_TO_TASK | MEM_RCU,
				  0 };
static const u32 dynptr_types[] = { PTR_TO_STACK, CONST_PTR_TO_DYNPTR, 0 };

static const struct {
	const u32 *types;
	bool nullable;
	bool readonly_ok;
} accepts[] = {
	[UB_ARG_CONST_MAP_PTR] = { map_types },
	[UB_ARG_PTR_TO_MAP_KEY] = { mem_types, .readonly_ok = true },
	[UB_ARG_PTR_TO_MAP_VALUE] = { mem_types, .readonly_ok = true },
	[UB_ARG_PTR_TO_UNINIT_MAP_VALUE] = { mem_types },
	[UB_ARG_PTR_TO_MEM] = { mem_types, .readonly_ok = true },
	[UB_ARG_PTR_TO_MEM_OR_NULL] = { mem_types, .nullable = true, .readonly_ok = true },
	[UB_ARG_PTR_TO_UNINIT_MEM] = { mem_types },
	[UB_ARG_CONST_SIZE] = { scalar_types },
	[UB_ARG_CONST_SIZE_OR_ZERO] = { scalar_types },
	[UB_ARG_CONST_ALLOC_SIZE_OR_ZERO] = { scalar_types },
	[UB_ARG_PTR_TO_CTX] = { ctx_types },
	[UB_ARG_PTR_TO_ALLOC_MEM] = { alloc_types },
	[UB_ARG_PTR_TO_SPIN_LOCK] = { value_types },
	[UB_ARG_PTR_TO_TIMER] = { value_types },
	[UB_ARG_PTR_TO_FUNC] = { func_types },
	[UB_ARG_PTR_TO_STACK_OR_NULL] = { stack_types, .nullable = true },
	[UB_ARG_PTR_TO_CONST_STR] = { value_types },
	[UB_ARG_PTR_TO_LONG] = { mem_types },
	[UB_ARG_PTR_TO_INT] = { mem_types },
	[UB_ARG_PTR_TO_DYNPTR] = { dynptr_types },
	[UB_ARG_PTR_TO_UNINIT_DYNPTR] = { dynptr_types },
	[UB_ARG_PTR_TO_FIXED_MEM] = { mem_types },
	[UB_ARG_PTR_TO_MAP_VALUE_OR_NULL] = { mem_types, .nullable = true, .readonly_ok = true },
	[UB_ARG_PTR_TO_TASK] = { task_types },
	[UB_ARG_PTR_TO_TASK_OR_NULL] = { task_types, .nullable = true },
};

static int check_type(struct env *env, u32 regno, enum ub_arg_type arg)
{
	u32 type = ub_cur_regs(env)[regno].type;
	char expected[256]; /* the longest list takes 90 bytes */
	const u32 *t;

	if (accepts[arg].nullable)
		type &= ~PTR_MAYBE_NULL;
	if (accepts[arg].readonly_ok)
		type &= ~MEM_RDONLY;
	if (!accepts[arg].types)
		return ub_reject(env, -EFAULT, "unsupported arg type %d\n", arg);
	for (t = accepts[arg].types; *t; t++) {
		if (*t == type)
			return 0;
	}
	expected[0] = '\0';
	for (t = accepts[arg].types; *t; t++) {
		strcat(expected, ub_type_str(env, *t));
		if (t[1])
			strcat(expected, ", ");
	}
	return ub_reject(env, -EACCES, "R%u type=%s expected=%s\n", regno,
			 ub_type_str(env, ub_cur_regs(env)[regno].type), expected);
}

static int check_offset(struct env *env, u32 regno, enum ub_arg_type arg, bool release)
{
	struct reg *reg = &ub_cur_regs(env)[regno];

	if (release) {
		if (arg == UB_ARG_PTR_TO_DYNPTR && reg->type == PTR_TO_STACK)
			return 0;
		if (reg->off)
			return ub_reject(
				env, -EINVAL,
				"R%u must have zero offset when passed to release func or trusted arg to kfunc\n",
				regno);
		return ub_check_ptr_off(env, reg, regno, false);
	}
	switch (ub_base_type(reg->type)) {
	case PTR_TO_STACK:
	case PTR_TO_PACKET:
	case PTR_TO_PACKET_META:
	case PTR_TO_MAP_KEY:
	case PTR_TO_MAP_VALUE:
	case PTR_TO_MEM:
	case SCALAR_VALUE:
		return 0;
	}
	return ub_check_ptr_off(env, reg, regno, false);
}

/* The register is of the kind that @arg wants, where that takes no size or map to tell. */
int ub_check_arg_type(struct env *env, u32 regno, enum ub_arg_type arg)
{
	int err;

	if (accepts[arg].nullable && ub_reg_is_null(&ub_cur_regs(env)[regno]))
		return 0;
	err = check_type(env, regno, arg);
	return err ?: check_offset(env, regno, arg, false);
}

/* @size bytes from register @regno on, read or written by a helper. */
int ub_check_helper_access(struct env *env, u32 regno, s32 size, bool write, bool zero_ok,
			   struct call_meta *meta)
{
	struct reg *reg = &ub_cur_regs(env)[regno];
	const struct ub_map_attr *map;
	int err;

	switch (ub_base_type(reg->type)) {
	case PTR_TO_PACKET:
	case PTR_TO_PACKET_META:
		return ub_check_packet_access(env, regno, reg->off, size, zero_ok);
	case PTR_TO_MAP_KEY:
		if (write)
			return ub_reject(env, -EACCES, "R%u cannot write into %s\n", regno,
					 ub_type_str(env, reg->type));
		map = ub_reg_map(env, reg);
		return ub_check_mem_region(env, regno, reg->off, size, map ? map->key_size : 0,
					   false);
	case PTR_TO_MAP_VALUE:
		if (reg->type & PTR_MAYBE_NULL)
			break;
		err = ub_check_map_flags(env, regno, reg->off, size, write);
		return err ?: ub_check_map_access(env, regno, reg->off, size, zero_ok, true);
	case PTR_TO_MEM:
		if (reg->type & PTR_MAYBE_NULL)
			break;
		if (write && reg->type & MEM_RDONLY)
			return ub_reject(env, -EACCES, "R%u cannot write into %s\n", regno,
					 ub_type_str(env, reg->type));
		return ub_check_mem_region(env, regno, reg->off, size, reg->mem_size, zero_ok);
	case PTR_TO_STACK:
		return ub_stack_range_initialized(env, regno, reg->off, size, zero_ok, write, meta);
	}
	if (zero_ok && size == 0 && ub_reg_is_null(reg))
		return 0;
	return ub_reject(env, -EACCES, "R%u type=%s expected=%s\n", regno,
			 ub_type_str(env, reg->type), "fp");
}

int ub_check_mem_size(struct env *env, u32 size_regno, bool zero_ok, bool write,
		      struct call_meta *meta)
{
	struct reg *reg = &ub_cur_regs(env)[size_regno];
	int err;

	meta->msize_max = reg->umax;
	/* A helper told to fill an unknown number of bytes initializes none for certain. */
	if (!ub_tnum_is_const(reg->var_off))
		meta = NULL;
	if (reg->smin < 0)
		return ub_reject(
			env, -EACCES,
			"R%u min value is negative, either use unsigned or 'var &= const'\n",
			size_regno);
	if (reg->umin == 0 && !zero_ok)
		return ub_reject(env, -EACCES, "R%u invalid zero-sized read: u64=[%lld,%lld]\n",
				 size_regno, (long long)reg->umin, (long long)reg->umax);
	if (reg->umax >= MAX_VAR_OFF)
		return ub_reject(
			env, -EACCES,
			"R%u unbounded memory access, use 'var &= const' or 'if (var < const)'\n",
			size_regno);
	err = ub_check_helper_access(env, size_regno - 1, reg->umax, write, zero_ok, meta);
	return err ?: ub_mark_precise(env, size_regno);
}

static int spin_lock(struct env *env, u32 regno, bool lock)
{
	struct reg *reg = &ub_cur_regs(env)[regno];
	const struct map_fields *fields = ub_reg_fields(env, reg);
	struct state *state = env->cur;
	s64 at = (s64)reg->var_off.value + reg->off;
	int err;

	if (!ub_tnum_is_const(reg->var_off))
		return ub_reject(
			env, -EINVAL,
			"R%u doesn't have constant offset. bpf_spin_lock has to be at the constant offset\n",
			regno);
	if (reg->map < 0 || !env->maps[reg->map].btf)
		return ub_reject(env, -EINVAL,
				 "map has to have BTF in order to use bpf_spin_lock\n");
	if (fields->spin_lock < 0)
		return ub_reject(env, -EINVAL, "map has no valid bpf_spin_lock\n");
	if (at != fields->spin_lock)
		return ub_reject(env, -EINVAL,
				 "off %lld doesn't point to 'struct bpf_spin_lock' that is at %d\n",
				 (long long)at, fields->spin_lock);
	if (lock) {
		if (state->active_locks)
			return ub_reject(env, -EINVAL,
					 "Locking two bpf_spin_locks are not allowed\n");
		err = ub_ref_acquire(env, REF_LOCK, reg->id);
		if (err)
			return err;
		state->refs[state->nr_refs - 1].map = reg->map;
		state->active_locks++;
		return 0;
	}
	if (!state->active_locks)
		return ub_reject(env, -EINVAL, "bpf_spin_unlock without taking a lock\n");
	for (u32 i = 0; i < state->nr_refs; i++) {
		if (state->refs[i].type == REF_LOCK && state->refs[i].map == (u32)reg->map &&
		    state->refs[i].id == reg->id) {
			ub_ref_release(state, REF_LOCK, reg->id);
			state->active_locks--;
			return 0;
		}
	}
	return ub_reject(env, -EINVAL, "bpf_spin_unlock of different lock\n");
}

static int timer(struct env *env, u32 regno, struct call_meta *meta)
{
	struct reg *reg = &ub_cur_regs(env)[regno];
	const struct map_fields *fields = ub_reg_fields(env, reg);
	s64 at = (s64)reg->var_off.value + reg->off;

	if (!ub_tnum_is_const(reg->var_off))
		return ub_reject(
			env, -EINVAL,
			"R%u doesn't have constant offset. bpf_timer has to be at the constant offset\n",
			regno);
	if (fields->timer < 0)
		return ub_reject(env, -EINVAL, "map has no valid bpf_timer\n");
	if (at != fields->timer)
		return ub_reject(env, -EINVAL,
				 "off %lld doesn't point to 'struct bpf_timer' that is at %d\n",
				 (long long)at, fields->timer);
	meta->map = reg->map;
	meta->map_inner = reg->inner;
	meta->map_uid = reg->map_uid;
	return 0;
}

/* A string that can't change: in a frozen read-only map. */
static int const_str(struct env *env, u32 regno)
{
	struct reg *reg = &ub_cur_regs(env)[regno];
	const struct ub_verifier_map *map;
	s64 at = (s64)reg->var_off.value + reg->off;
	int err;

	if (reg->map < 0 || reg->inner)
		return ub_reject(env, -EACCES, "R%u does not point to a readonly map'\n", regno);
	map = &env->maps[reg->map];
	if (!map->frozen || !(map->attr.flags & BPF_F_RDONLY_PROG))
		return ub_reject(env, -EACCES, "R%u does not point to a readonly map'\n", regno);
	if (!ub_tnum_is_const(reg->var_off))
		return ub_reject(env, -EACCES, "R%u is not a constant address'\n", regno);
	if (map->attr.type != BPF_MAP_TYPE_ARRAY || map->attr.max_entries != 1 ||
	    !map->frozen_values)
		return ub_reject(env, -EACCES,
				 "no direct value access support for this map type\n");
	err = ub_check_map_access(env, regno, reg->off, (s32)(map->attr.value_size - at), false,
				  true);
	if (err)
		return err;
	if (!memchr(map->frozen_values + at, 0, map->attr.value_size - at))
		return ub_reject(env, -EINVAL, "string is not zero-terminated\n");
	return 0;
}

/* The constant key of an array lookup, if it is one: then the result is not null. */
static int const_key(struct env *env, u32 regno, u32 key_size, s64 *key)
{
	struct reg *reg = &ub_cur_regs(env)[regno];
	struct frame *frame;
	struct slot *slot;
	u32 byte, spi;
	s64 off;

	*key = -1;
	if (reg->type != PTR_TO_STACK || !ub_tnum_is_const(reg->var_off) || key_size != 4)
		return 0;
	frame = env->cur->frame[reg->frameno];
	off = (s64)reg->var_off.value + reg->off;
	if (off < -UB_STACK_SIZE || off > -4 || off % 4)
		return 0;
	byte = (u32)(-off - 1);
	spi = byte / SLOT_SIZE;
	slot = &frame->stack[spi];
	for (u32 i = 0, zeros = 0; i < 4; i++) {
		zeros += slot->type[(byte - i) % SLOT_SIZE] == STACK_ZERO;
		if (zeros == 4) {
			*key = 0;
			return 0;
		}
	}
	if (off % SLOT_SIZE || !ub_slot_is_scalar_spill(slot))
		return 0;
	for (u32 i = 0; i < 4; i++) {
		if (slot->type[(byte - i) % SLOT_SIZE] != STACK_SPILL)
			return 0;
	}
	/* A wider spill's upper half is not the key's: only spills of just its size are trusted. */
	if (slot->type[3] == STACK_SPILL || !ub_tnum_is_const(slot->reg.var_off))
		return 0;
	*key = (u32)slot->reg.var_off.value;
	return ub_mark_slot_precise(env, frame->frameno, spi);
}

static int memory_arg(struct env *env, u32 regno, enum ub_arg_type arg, struct call_meta *meta)
{
	const struct ub_helper *helper = meta->helper;
	u32 size = arg == UB_ARG_PTR_TO_LONG ? 8 : arg == UB_ARG_PTR_TO_INT ? 4 : helper->mem_size;
	bool write = arg != UB_ARG_PTR_TO_FIXED_MEM || helper->flags & UB_HELPER_WRITES_MEM;
	struct reg *reg = &ub_cur_regs(env)[regno];
	struct tnum at;
	int err;

	meta->raw_mode = write;
	err = ub_check_helper_access(env, regno, size, write, false, meta);
	if (err || arg == UB_ARG_PTR_TO_FIXED_MEM)
		return err;
	at = ub_tnum_add(reg->var_off, ub_tnum_const((s64)reg->off));
	if (!ub_tnum_aligned(at, size))
		return ub_reject(env, -EACCES,
				 "misaligned access off (0x%llx; 0x%llx)+%d+0 size %u\n",
				 (unsigned long long)reg->var_off.value,
				 (unsigned long long)reg->var_off.mask, reg->off, size);
	return 0;
}

/* Whether the memory before this size argument is written. */
static bool writes(const struct call_meta *meta, u32 i)
{
	enum ub_arg_type arg = meta->helper->args[i];

	return arg == UB_ARG_PTR_TO_UNINIT_MEM || (meta->func_id == BPF_FUNC_snprintf && i == 0);
}

/* Helpers to which packet memory may be passed. */
static bool reads_packet(u32 id)
{
	switch (id) {
	case BPF_FUNC_map_lookup_elem:
	case BPF_FUNC_map_update_elem:
	case BPF_FUNC_map_delete_elem:
	case BPF_FUNC_map_push_elem:
	case BPF_FUNC_map_lookup_percpu_elem:
	case BPF_FUNC_csum_diff:
		return true;
	}
	return false;
}

/* Whether it is what the helper takes, and what it holds a reference to. */
static int check_kind(struct env *env, u32 regno, enum ub_arg_type arg, struct call_meta *meta)
{
	struct reg *reg = &ub_cur_regs(env)[regno];
	bool release = meta->helper->flags & UB_HELPER_RELEASES &&
		       (arg == UB_ARG_PTR_TO_ALLOC_MEM || arg == UB_ARG_PTR_TO_DYNPTR);
	int err;

	if (ub_is_packet(reg->type) && !reads_packet(meta->func_id))
		return ub_reject(env, -EACCES, "helper access to the packet is not allowed\n");
	if (!(ub_reg_is_null(reg) && accepts[arg].nullable)) {
		err = check_type(env, regno, arg);
		err = err ?: check_offset(env, regno, arg, release);
		if (err)
			return err;
	}
	if (release) {
		if (arg == UB_ARG_PTR_TO_ALLOC_MEM && !reg->ref_obj_id && !ub_reg_is_null(reg))
			return ub_reject(env, -EINVAL,
					 "R%u must be referenced when passed to release function\n",
					 regno);
		meta->release_regno = regno;
	}
	if (reg->ref_obj_id) {
		if (meta->ref_obj_id)
			return ub_reject(env, -EFAULT,
					 "more than one arg with ref_obj_id R%u %u %u\n", regno,
					 reg->ref_obj_id, meta->ref_obj_id);
		meta->ref_obj_id = reg->ref_obj_id;
	}
	return 0;
}

static int check_arg(struct env *env, u32 i, struct call_meta *meta)
{
	enum ub_arg_type arg = meta->helper->args[i];
	u32 regno = BPF_REG_1 + i;
	struct reg *reg = &ub_cur_regs(env)[regno];
	const struct ub_map_attr *map = NULL;
	int err;

	if (arg == UB_ARG_NONE)
		return 0;
	err = ub_check_reg(env, regno, USE_SRC);
	if (err || arg == UB_ARG_ANYTHING)
		return err;
	err = check_kind(env, regno, arg, meta);
	if (err)
		return err;
	if (meta->map >= 0)
		map = meta->map_inner ? env->maps[meta->map].inner : &env->maps[meta->map].attr;
	switch (arg) {
	case UB_ARG_CONST_MAP_PTR:
		if (meta->map >= 0 && (meta->map_uid != reg->map_uid || meta->map != reg->map))
			return ub_reject(
				env, -EINVAL,
				"timer pointer in R1 map_uid=%u doesn't match map pointer in R2 map_uid=%u\n",
				meta->map_uid, reg->map_uid);
		meta->map = reg->map;
		meta->map_inner = reg->inner;
		meta->map_uid = reg->map_uid;
		return 0;
	case UB_ARG_PTR_TO_MAP_KEY:
		if (!map)
			return ub_reject(env, -EACCES, "invalid map_ptr to access map->key\n");
		err = ub_check_helper_access(env, regno, map->key_size, false, false, NULL);
		if (!err && meta->func_id == BPF_FUNC_map_lookup_elem &&
		    (map->type == BPF_MAP_TYPE_ARRAY || map->type == BPF_MAP_TYPE_PERCPU_ARRAY))
			err = const_key(env, regno, map->key_size, &meta->const_key);
		return err;
	case UB_ARG_PTR_TO_MAP_VALUE_OR_NULL:
		if (ub_reg_is_null(reg))
			return 0;
		/* fallthrough */
	case UB_ARG_PTR_TO_MAP_VALUE:
	case UB_ARG_PTR_TO_UNINIT_MAP_VALUE:
		if (!map)
			return ub_reject(env, -EACCES, "invalid map_ptr to access map->value\n");
		meta->raw_mode = arg == UB_ARG_PTR_TO_UNINIT_MAP_VALUE;
		return ub_check_helper_access(env, regno, map->value_size, meta->raw_mode, false,
					      meta);
	case UB_ARG_PTR_TO_SPIN_LOCK:
		return spin_lock(env, regno, meta->func_id == BPF_FUNC_spin_lock);
	case UB_ARG_PTR_TO_TIMER:
		return timer(env, regno, meta);
	case UB_ARG_PTR_TO_FUNC:
		meta->subprog = reg->subprog;
		return 0;
	case UB_ARG_PTR_TO_MEM:
	case UB_ARG_PTR_TO_MEM_OR_NULL:
	case UB_ARG_PTR_TO_UNINIT_MEM:
		/* Checked with the size that follows. */
		meta->raw_mode = arg == UB_ARG_PTR_TO_UNINIT_MEM;
		return 0;
	case UB_ARG_CONST_SIZE:
	case UB_ARG_CONST_SIZE_OR_ZERO:
		if (!i)
			return -EFAULT;
		return ub_check_mem_size(env, regno, arg == UB_ARG_CONST_SIZE_OR_ZERO,
					 writes(meta, i - 1), meta);
	case UB_ARG_CONST_ALLOC_SIZE_OR_ZERO:
		if (!ub_tnum_is_const(reg->var_off))
			return ub_reject(env, -EACCES, "R%u is not a known constant'\n", regno);
		meta->mem_size = reg->var_off.value > U32_MAX ? U32_MAX : reg->var_off.value;
		return ub_mark_precise(env, regno);
	case UB_ARG_PTR_TO_CONST_STR:
		return const_str(env, regno);
	case UB_ARG_PTR_TO_LONG:
	case UB_ARG_PTR_TO_INT:
	case UB_ARG_PTR_TO_FIXED_MEM:
		return memory_arg(env, regno, arg, meta);
	case UB_ARG_PTR_TO_DYNPTR:
		return ub_dynptr_arg(env, regno, meta, false);
	case UB_ARG_PTR_TO_UNINIT_DYNPTR:
		err = ub_dynptr_arg(env, regno, meta, true);
		if (err)
			return err;
		return ub_dynptr_init(env, regno,
				      meta->func_id == BPF_FUNC_ringbuf_reserve_dynptr
					      ? DYNPTR_RINGBUF
					      : DYNPTR_LOCAL);
	default:
		return 0;
	}
}

int ub_check_helper_args(struct env *env, struct call_meta *meta)
{
	for (u32 i = 0; i < 5; i++) {
		int err = check_arg(env, i, meta);

		if (err)
			return err;
	}
	return 0;
}
