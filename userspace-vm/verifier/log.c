/* SPDX-License-Identifier: MIT */
/*
 * The log, in the kernel's form (kernel/bpf/log.c), so that libbpf, bpftrace and people read the
 * same words. It is kept in memory until the end because level 1 takes back what successful ways
 * said.
 */
#include <bpf/btf.h>
#include <linux/btf.h>
#include <stdio.h>

#include <verifier/env.h>

/* Beyond this the older half is dropped, as the kernel's rolling buffer does. */
#define LOG_MAX (16u << 20)

u64 ub_log_pos(const struct env *env)
{
	return env->log_dropped + env->log_len;
}

void ub_log_reset(struct env *env, u64 pos)
{
	env->log_len = pos > env->log_dropped ? pos - env->log_dropped : 0;
	if (env->prev_log_pos > ub_log_pos(env))
		env->prev_log_pos = 0;
}

static void append(struct env *env, const char *text, size_t size)
{
	if (env->log_len + size > env->log_cap) {
		u64 cap = env->log_cap ? env->log_cap * 2 : 4096;
		char *log;

		while (cap < env->log_len + size)
			cap *= 2;
		if (cap > LOG_MAX) {
			u64 drop = env->log_len / 2;

			memmove(env->log, env->log + drop, env->log_len - drop);
			env->log_len -= drop;
			env->log_dropped += drop;
		} else {
			log = realloc(env->log, cap);
			if (!log)
				return;
			env->log = log;
			env->log_cap = cap;
		}
	}
	if (env->log_len + size > env->log_cap)
		return;
	memcpy(env->log + env->log_len, text, size);
	env->log_len += size;
}

void ub_log_always(struct env *env, const char *text)
{
	append(env, text, strlen(text));
}

static void log_text(struct env *env, const char *fmt, va_list ap)
{
	char text[1024];
	int size = vsnprintf(text, sizeof(text), fmt, ap);

	if (size > 0)
		append(env, text, size < (int)sizeof(text) ? size : (int)sizeof(text) - 1);
}

void ub_log(struct env *env, const char *fmt, ...)
{
	va_list ap;

	if (!ub_log_on(env))
		return;
	va_start(ap, fmt);
	log_text(env, fmt, ap);
	va_end(ap);
}

int ub_reject(struct env *env, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(env->line, sizeof(env->line), fmt, ap);
	va_end(ap);
	if (ub_log_on(env))
		append(env, env->line, strlen(env->line));
	return err;
}

void ub_log_flush(struct env *env)
{
	if (env->req->log && env->log_len)
		env->req->log(env->req->opaque, env->log, env->log_len);
	env->log_len = 0;
}

const char *ub_func_name(u32 id)
{
	const struct ub_helper *helper = ub_helper_by_id(id);
	static __thread char name[64];

	if (!helper)
		return "unknown";
	snprintf(name, sizeof(name), "bpf_%s", helper->name);
	return name;
}

const char *ub_type_str(struct env *env, u32 type)
{
	static const char *const names[] = {
		[NOT_INIT] = "?",
		[SCALAR_VALUE] = "scalar",
		[PTR_TO_CTX] = "ctx",
		[CONST_PTR_TO_MAP] = "map_ptr",
		[PTR_TO_MAP_VALUE] = "map_value",
		[PTR_TO_MAP_KEY] = "map_key",
		[PTR_TO_STACK] = "fp",
		[PTR_TO_PACKET_META] = "pkt_meta",
		[PTR_TO_PACKET] = "pkt",
		[PTR_TO_PACKET_END] = "pkt_end",
		[PTR_TO_MEM] = "mem",
		[PTR_TO_FUNC] = "func",
		[PTR_TO_TASK] = "ptr_",
		[CONST_PTR_TO_DYNPTR] = "dynptr_ptr",
	};
	static __thread char text[4][64];
	static __thread u32 turn;
	char *out = text[turn++ % 4];

	snprintf(out, 64, "%s%s%s%s%s", type & MEM_RDONLY ? "rdonly_" : "",
		 type & MEM_RINGBUF ? "ringbuf_" : "",
		 type & PTR_TRUSTED ? "trusted_"
		 : type & MEM_RCU   ? "rcu_"
				    : "",
		 names[ub_base_type(type)], type & PTR_MAYBE_NULL ? "_or_null" : "");
	return out;
}

static void log_snum(struct env *env, s64 num)
{
	if (num >= INT16_MIN && num <= INT16_MAX)
		ub_log(env, "%lld", (long long)num);
	else
		ub_log(env, "0x%llx", (unsigned long long)num);
}

static void log_unum(struct env *env, u64 num)
{
	if (num <= UINT16_MAX)
		ub_log(env, "%llu", (unsigned long long)num);
	else
		ub_log(env, "0x%llx", (unsigned long long)num);
}

static u64 signed32(s32 value)
{
	return value >= INT16_MIN && value <= INT16_MAX ? (u64)(s64)value : (u32)value;
}

static void log_ranges(struct env *env, const struct reg *reg, const char **sep)
{
	struct {
		const char *name;
		u64 value;
		bool omit;
	} bound[8] = {
		{ "smin", (u64)reg->smin, reg->smin == S64_MIN },
		{ "smax", (u64)reg->smax, reg->smax == S64_MAX },
		{ "umin", reg->umin, reg->umin == 0 },
		{ "umax", reg->umax, reg->umax == U64_MAX },
		{ "smin32", signed32(reg->smin32), reg->smin32 == S32_MIN },
		{ "smax32", signed32(reg->smax32), reg->smax32 == S32_MAX },
		{ "umin32", reg->umin32, reg->umin32 == 0 },
		{ "umax32", reg->umax32, reg->umax32 == U32_MAX },
	};

	for (u32 i = 0; i < 8; i++) {
		bool negative = bound[i].name[0] == 's' && (s64)bound[i].value < 0;

		if (bound[i].omit)
			continue;
		ub_log(env, "%s%s=", *sep, bound[i].name);
		*sep = ",";
		for (u32 j = i + 2; j < 8; j += 2) {
			if (bound[j].omit || bound[j].value != bound[i].value ||
			    (bound[j].name[0] == 's' && (s64)bound[j].value < 0) != negative)
				continue;
			bound[j].omit = true;
			ub_log(env, "%s=", bound[j].name);
		}
		if (bound[i].name[0] == 's')
			log_snum(env, (s64)bound[i].value);
		else
			log_unum(env, bound[i].value);
	}
}

static void log_reg(struct env *env, const struct frame *frame, const struct reg *reg)
{
	u32 base = ub_base_type(reg->type);
	const char *sep = "";

	if (reg->type == SCALAR_VALUE && reg->precise)
		ub_log(env, "P");
	if (reg->type == SCALAR_VALUE && ub_tnum_is_const(reg->var_off)) {
		log_snum(env, (s64)(reg->var_off.value));
		return;
	}
	ub_log(env, "%s", ub_type_str(env, reg->type));
	if (base == PTR_TO_STACK) {
		if (frame->frameno != reg->frameno)
			ub_log(env, "[%u]", reg->frameno);
		if (ub_tnum_is_const(reg->var_off)) {
			log_snum(env, (s64)reg->var_off.value + reg->off);
			return;
		}
	}
	if (base == PTR_TO_TASK)
		ub_log(env, "task_struct");
	ub_log(env, "(");
#define FIELD(...) (ub_log(env, "%s", sep), ub_log(env, __VA_ARGS__), sep = ",")
	if (reg->id)
		FIELD("id=%u", reg->id & ~ID_ADD_CONST);
	if (reg->id & ID_ADD_CONST)
		ub_log(env, "%+d", reg->off);
	if (reg->ref_obj_id)
		FIELD("ref_obj_id=%u", reg->ref_obj_id);
	if (base == CONST_PTR_TO_MAP || base == PTR_TO_MAP_VALUE || base == PTR_TO_MAP_KEY) {
		const struct ub_map_attr *map = ub_reg_map(env, reg);

		if (map && !reg->inner && env->maps[reg->map].name[0])
			FIELD("map=%s", env->maps[reg->map].name);
		if (map)
			FIELD("ks=%u,vs=%u", map->key_size, map->value_size);
	}
	if (base != SCALAR_VALUE && reg->off) {
		FIELD("off=");
		log_snum(env, reg->off);
	}
	if (ub_is_packet(reg->type)) {
		FIELD("r=");
		log_unum(env, (u64)(s64)reg->range);
	}
	if (base == PTR_TO_MEM) {
		FIELD("sz=");
		log_unum(env, reg->mem_size);
	}
	if (base == CONST_PTR_TO_DYNPTR)
		FIELD("type=%s", reg->dynptr == DYNPTR_RINGBUF ? "ringbuf" : "local");
	if (ub_tnum_is_const(reg->var_off)) {
		if (reg->var_off.value) {
			FIELD("imm=");
			log_snum(env, (s64)reg->var_off.value);
		}
	} else {
		log_ranges(env, reg, &sep);
		if (!ub_tnum_is_unknown(reg->var_off))
			FIELD("var_off=(0x%llx; 0x%llx)", (unsigned long long)reg->var_off.value,
			      (unsigned long long)reg->var_off.mask);
	}
#undef FIELD
	ub_log(env, ")");
}

static void log_slot(struct env *env, const struct frame *frame, u32 spi)
{
	static const char type_char[] = { '?', 'r', 'm', '0', 'd' };
	const struct slot *slot = &frame->stack[spi];
	char types[SLOT_SIZE + 1] = "";
	s32 off = -(s32)(spi + 1) * SLOT_SIZE;
	bool valid = false;

	for (u32 i = 0; i < SLOT_SIZE; i++) {
		valid |= slot->type[i] != STACK_INVALID;
		types[i] = type_char[slot->type[i]];
	}
	if (!valid)
		return;
	switch (slot->type[SLOT_SIZE - 1]) {
	case STACK_SPILL:
		for (u32 i = 0; i < SLOT_SIZE; i++) {
			if (slot->type[i] == STACK_SPILL) {
				types[i] = '\0';
				break;
			}
		}
		ub_log(env, " fp%d=%s", off, types);
		log_reg(env, frame, &slot->reg);
		break;
	case STACK_DYNPTR:
		if (!slot->reg.first_slot)
			return;
		ub_log(env, " fp%d=dynptr_%s(", off - SLOT_SIZE,
		       slot->reg.dynptr == DYNPTR_RINGBUF ? "ringbuf" : "local");
		if (slot->reg.id)
			ub_log(env, "id=%u", slot->reg.id);
		if (slot->reg.ref_obj_id)
			ub_log(env, "%sref_id=%u", slot->reg.id ? "," : "", slot->reg.ref_obj_id);
		if (slot->reg.dynptr_id)
			ub_log(env, ",dynptr_id=%u", slot->reg.dynptr_id);
		ub_log(env, ")");
		break;
	default:
		ub_log(env, " fp%d=%s", off, types);
	}
}

void ub_log_state(struct env *env, const struct state *state, u32 frameno, bool all)
{
	const struct frame *frame = state->frame[frameno];

	if (frame->frameno)
		ub_log(env, " frame%u:", frame->frameno);
	for (u32 i = 0; i < NR_REGS; i++) {
		if (frame->regs[i].type == NOT_INIT)
			continue;
		if (!all && !(env->scratched_regs & (1u << i)))
			continue;
		ub_log(env, " R%u=", i);
		log_reg(env, frame, &frame->regs[i]);
	}
	for (u32 i = 0; i < frame->nr_slots; i++) {
		if (!all && !(env->scratched_slots & (1ull << i)))
			continue;
		log_slot(env, frame, i);
	}
	for (u32 i = 0; i < state->nr_refs; i++)
		ub_log(env, i ? ",%u" : " refs=%u", state->refs[i].id);
	if (frame->in_callback)
		ub_log(env, " cb");
	if (frame->in_async_callback)
		ub_log(env, " async_cb");
	ub_log(env, "\n");
	if (!all)
		env->scratched_regs = env->scratched_slots = 0;
}

static u32 alignment(u32 pos)
{
	u32 want = pos + 4 > 40 ? pos + 4 : 40;

	return ub_round_up(want, 8u) - pos - 1;
}

void ub_log_insn_state(struct env *env, const struct state *state, u32 frameno)
{
	if (env->prev_log_pos && env->prev_log_pos == ub_log_pos(env)) {
		/* Nothing was said since the instruction: its result goes on the same line. */
		ub_log_reset(env, env->prev_log_pos - 1);
		ub_log(env, "%*c;", (int)alignment(env->prev_insn_print_len), ' ');
	} else {
		ub_log(env, "%u:", env->insn);
	}
	ub_log_state(env, state, frameno, false);
}

void ub_log_line(struct env *env, u32 insn, const char *prefix)
{
	const struct ub_verify_request *req = env->req;
	const char *line, *file, *slash;
	s32 low = 0, high = (s32)req->nr_line_info - 1, found = -1;

	if (!req->btf || !req->nr_line_info || !ub_log_on(env))
		return;
	while (low <= high) {
		s32 mid = (low + high) / 2;

		if (req->line_info[mid].insn_off <= insn) {
			found = mid;
			low = mid + 1;
		} else {
			high = mid - 1;
		}
	}
	if (found < 0 || found == env->prev_linfo)
		return;
	/* Two columns of one line are shown once. */
	if (env->prev_linfo >= 0 &&
	    req->line_info[found].file_name_off == req->line_info[env->prev_linfo].file_name_off &&
	    BPF_LINE_INFO_LINE_NUM(req->line_info[found].line_col) ==
		    BPF_LINE_INFO_LINE_NUM(req->line_info[env->prev_linfo].line_col))
		return;
	env->prev_linfo = found;
	line = btf__str_by_offset(req->btf, req->line_info[found].line_off);
	file = btf__str_by_offset(req->btf, req->line_info[found].file_name_off);
	if (!line || !file)
		return;
	while (*line == ' ' || *line == '\t')
		line++;
	slash = strrchr(file, '/');
	ub_log(env, "%s%.800s @ %.100s:%u\n", prefix, line, slash ? slash + 1 : file,
	       BPF_LINE_INFO_LINE_NUM(req->line_info[found].line_col));
}

void ub_log_insn(struct env *env, u32 idx)
{
	const struct bpf_insn *insn = &env->insns[idx];
	char text[256];

	if (ub_is_helper_call(insn)) {
		snprintf(text, sizeof(text), "(85) call %s#%d", ub_func_name(insn->imm), insn->imm);
	} else if (ub_is_pseudo_call(insn)) {
		snprintf(text, sizeof(text), "(85) call pc%+d", insn->imm);
	} else if (ub_is_ldimm64(insn) && insn->src_reg) {
		/* Addresses are not for the log; so it is in Linux for those who may not see
		 * them. */
		snprintf(text, sizeof(text), "(18) r%u = 0x%x", insn->dst_reg,
			 insn->src_reg == BPF_PSEUDO_FUNC ? insn->imm : 0);
	} else {
		ub_isa_print(insn, text, sizeof(text));
	}
	ub_log(env, "%s\n", text);
}
