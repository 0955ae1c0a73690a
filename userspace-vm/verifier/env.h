/* SPDX-License-Identifier: MIT */
/*
 * What the verifier's files share: abstract registers, stack slots, frames, states, and the
 * environment of one verification. Private to this folder (and to the soundness tests).
 */
#ifndef UB_VERIFIER_ENV_H
#define UB_VERIFIER_ENV_H

#include <errno.h>
#include <limits.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <common/reason.h>
#include <helper/helper.h>
#include <isa/isa.h>
#include <verifier/state.h>
#include <verifier/verifier.h>

#ifndef ENOTSUPP
#define ENOTSUPP 524
#endif

#ifndef BPF_F_TEST_REG_INVARIANTS
#define BPF_F_TEST_REG_INVARIANTS (1u << 7)
#endif

#define S64_MIN INT64_MIN
#define S64_MAX INT64_MAX
#define U64_MAX UINT64_MAX
#define S32_MIN INT32_MIN
#define S32_MAX INT32_MAX
#define U32_MAX UINT32_MAX

#define MAX_VAR_OFF		 (1 << 29)
#define COMPLEXITY_LIMIT_INSNS	 1000000
#define COMPLEXITY_LIMIT_JMP_SEQ 8192
#define MAX_PACKET_OFF		 0xffff
#define MAX_LOOPS		 0x800000
#define CALLER_SAVED		 6
#define MAX_STATE_BYTES                                                                            \
	(512ull << 20) /* of all states together; Linux leaves that to the memory cgroup */

struct explored {
	struct state state; /* first: a state's parent is always one of these */
	struct explored *next;
	u64 bytes;
	u32 hits, misses;
	bool in_free_list;
};

struct pending {
	struct state state;
	u32 insn, prev_insn;
	struct pending *next;
	u64 log_pos;
	u64 bytes;
};

enum percpu_state {
	PERCPU_UNSET,
	PERCPU_YES,
	PERCPU_NO,
};

enum map_ptr_state {
	MAP_PTR_UNSET,
	MAP_PTR_ONE,
	MAP_PTR_POISON,
};

struct insn_aux {
	u32 ptr_type; /* kind of pointer a load or store went through */
	u32 seen;
	u16 live_before; /* registers whose value matters here */
	bool prune_point;
	bool jmp_point;
	bool force_checkpoint;
	bool calls_callback;
	u8 map_state;
	u8 percpu; /* enum percpu_state: of a load or store of a map value */
	s16 map;   /* of ld_imm64 or of a helper call's r1 */
};

struct subprog {
	u32 start;
	u32 exit_insn;
	u32 stack_depth;
	u32 stack_extra; /* for may_goto's counter */
	bool has_tail_call;
	bool tail_call_reachable;
	bool has_ld_abs;
	bool is_cb;
	bool is_async_cb;
	bool is_exception_cb;
	bool called;
	bool global;
	bool verified;
	bool might_sleep;
	bool args_cached;
	bool returns_void;
	const char *name;
	u32 btf_func;
	u32 nr_args;
	struct {
		u8 kind; /* enum arg_kind */
		bool nullable;
		u32 mem_size;
	} args[5];
};

enum arg_kind {
	ARG_SCALAR,
	ARG_CTX,
	ARG_MEM,
	ARG_DYNPTR,
	ARG_TASK,
	ARG_UNKNOWN,
};

/* Offsets of special fields in a map's value; -1 = none. */
struct map_fields {
	s32 spin_lock;
	s32 timer;
	s32 other; /* kptr, list head, ...: known and refused */
	u32 other_size;
	const char *other_name;
};

struct env {
	const struct ub_verify_request *req;
	struct ub_reason *why;
	struct bpf_insn *insns;
	struct insn_aux *aux;
	u32 nr_insns;

	struct ub_verifier_map maps[UB_MAX_USED_MAPS];
	struct map_fields fields[UB_MAX_USED_MAPS];
	u32 nr_maps;

	struct subprog subprogs[UB_MAX_SUBPROGS + 1];
	u32 nr_subprogs;

	struct state *cur;
	struct pending *stack;
	u32 nr_stack;
	struct explored **explored; /* by instruction */
	struct explored *evicted;   /* not compared any more, but still somebody's parent */
	u32 nr_explored;
	u64 state_bytes; /* held by explored and pending states */
	u32 insn, prev_insn;
	u32 id_gen;

	/* log */
	char *log;
	u64 log_len, log_cap;
	u64 log_dropped;
	u64 prev_log_pos;
	u64 prev_insn_print_pos;
	u32 prev_insn_print_len;
	s32 prev_linfo;
	u32 scratched_regs;
	u64 scratched_slots;
	char line[1024];

	/* statistics */
	u32 insn_processed, prev_insn_processed;
	u32 jmps_processed, prev_jmps_processed;
	u32 total_states, peak_states, max_states_per_insn;

	bool strict_alignment;
	bool test_state_freq;
	bool test_reg_invariants;
	bool seen_direct_write;
	bool subprog_is_global; /* the function being verified on its own */
	u32 start_subprog;
	struct ub_ctx_use ctx_use;
	bool uses_task;
	bool uses_tail_call;
	u32 max_call_depth;

	struct history *cur_history; /* of the instruction being walked, if any yet */
};

/* What a call tells its helper's checks about itself. */
struct call_meta {
	s16 map;
	bool map_inner;
	u32 map_uid;
	bool raw_mode;
	u32 regno;
	int access_size;
	u32 mem_size;
	u64 msize_max;
	u32 ref_obj_id;
	u32 dynptr_id;
	u32 release_regno;
	u32 func_id;
	u32 subprog;
	s64 const_key; /* of an array lookup, or -1 */
	const struct ub_helper *helper;
};

/* --- log.c ----------------------------------------------------------------------------------- */
void ub_log(struct env *env, const char *fmt, ...) __printf_like(2, 3);
/* Appends to the log and returns @err: how a check fails in one statement. */
int ub_reject(struct env *env, int err, const char *fmt, ...) __printf_like(3, 4);
void ub_log_always(struct env *env, const char *text); /* at any level */
void ub_log_reset(struct env *env, u64 pos);
u64 ub_log_pos(const struct env *env);
void ub_log_line(struct env *env, u32 insn, const char *prefix);
void ub_log_insn_state(struct env *env, const struct state *state, u32 frameno);
void ub_log_state(struct env *env, const struct state *state, u32 frameno, bool all);
void ub_log_insn(struct env *env, u32 insn);
void ub_log_flush(struct env *env);
const char *ub_type_str(struct env *env, u32 type);
const char *ub_func_name(u32 id);

static inline bool ub_log_on(const struct env *env)
{
	return env->req->log_level & 3;
}

static inline bool ub_log_verbose(const struct env *env)
{
	return env->req->log_level & 2;
}

static inline void ub_scratch_reg(struct env *env, u32 regno)
{
	env->scratched_regs |= 1u << regno;
}

static inline void ub_scratch_slot(struct env *env, u32 spi)
{
	env->scratched_slots |= 1ull << spi;
}

/* --- range.c: scalars ------------------------------------------------------------------------ */
void ub_reg_const(struct reg *reg, u64 value); /* a known scalar; keeps type and off */
void ub_reg_unbounded(struct reg *reg);
void ub_reg_unbounded32(struct reg *reg);
void ub_reg_mark_not_init(struct reg *reg);
void ub_reg_mark_unknown(struct reg *reg);
void ub_reg_mark_known(struct reg *reg, u64 value);
void ub_reg_mark_known_zero(struct reg *reg);
void ub_range_sync(struct reg *reg);
int ub_range_check(struct env *env, struct reg *reg, const char *ctx);
void ub_range_update_from_tnum(struct reg *reg);
void ub_range_zext32(struct reg *reg);
void ub_range_assign32_into64(struct reg *reg);
void ub_range_coerce_size(struct reg *reg, u32 size);
void ub_range_coerce_size_sx(struct reg *reg, u32 size);
void ub_range_coerce_subreg_sx(struct reg *reg, u32 size);

static inline void ub_reg_unbounded_s64(struct reg *reg)
{
	reg->smin = S64_MIN;
	reg->smax = S64_MAX;
}

static inline void ub_reg_unbounded_u64(struct reg *reg)
{
	reg->umin = 0;
	reg->umax = U64_MAX;
}

static inline u32 ub_base_type(u32 type)
{
	return type & TYPE_BASE;
}

static inline bool ub_is_pointer(const struct reg *reg)
{
	return reg->type != NOT_INIT && reg->type != SCALAR_VALUE;
}

/* As the kernel's is_tracing_prog_type(). */
static inline bool ub_is_tracing(enum bpf_prog_type type)
{
	return type == BPF_PROG_TYPE_KPROBE || type == BPF_PROG_TYPE_TRACEPOINT ||
	       type == BPF_PROG_TYPE_PERF_EVENT || type == BPF_PROG_TYPE_RAW_TRACEPOINT ||
	       type == BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE;
}

static inline bool ub_is_packet(u32 type)
{
	type = ub_base_type(type);
	return type == PTR_TO_PACKET || type == PTR_TO_PACKET_META;
}

static inline bool ub_reg_is_const(const struct reg *reg, bool low32)
{
	return reg->type == SCALAR_VALUE &&
	       ub_tnum_is_const(low32 ? ub_tnum_subreg(reg->var_off) : reg->var_off);
}

static inline u64 ub_reg_value(const struct reg *reg, bool low32)
{
	return low32 ? ub_tnum_subreg(reg->var_off).value : reg->var_off.value;
}

static inline bool ub_reg_is_null(const struct reg *reg)
{
	return reg->type == SCALAR_VALUE && ub_tnum_equals(reg->var_off, 0);
}

/* --- state.c --------------------------------------------------------------------------------- */
int ub_state_copy(struct state *dst, const struct state *src);
void ub_state_clear(struct state *state);
u64 ub_state_bytes(const struct state *state);
/* Accounts for a state to be kept: -ENOMEM beyond MAX_STATE_BYTES. */
int ub_state_charge(struct env *env, u64 bytes);
struct frame *ub_frame_new(s32 callsite, u32 frameno, u32 subprog);
void ub_frame_free(struct frame *frame);
int ub_frame_grow(struct env *env, struct frame *frame, u32 bytes);
int ub_ref_acquire(struct env *env, enum ref_type type, u32 id);
bool ub_ref_release(struct state *state, enum ref_type type, u32 id);
bool ub_ref_find(const struct state *state, u32 id);
/* A copy of the current state to be walked later, from @insn on. NULL: too many or no memory. */
struct state *ub_state_push(struct env *env, u32 insn, u32 prev_insn);
int ub_state_pop(struct env *env, u32 *insn, u32 *prev_insn, bool drop_log);
void ub_state_init(struct env *env, struct state *state, u32 subprog);

static inline struct frame *ub_cur_frame(const struct env *env)
{
	return env->cur->frame[env->cur->curframe];
}

static inline struct reg *ub_cur_regs(const struct env *env)
{
	return ub_cur_frame(env)->regs;
}

/* Runs @body for each register and spilled register of @state. */
#define ub_state_for_each_reg(state, frame_, reg_, body)                                           \
	do {                                                                                       \
		for (u32 fi_ = 0; fi_ <= (state)->curframe; fi_++) {                               \
			frame_ = (state)->frame[fi_];                                              \
			for (u32 ri_ = 0; ri_ < NR_REGS; ri_++) {                                  \
				reg_ = &frame_->regs[ri_];                                         \
				body                                                               \
			}                                                                          \
			for (u32 si_ = 0; si_ < frame_->nr_slots; si_++) {                         \
				if (frame_->stack[si_].type[SLOT_SIZE - 1] != STACK_SPILL)         \
					continue;                                                  \
				reg_ = &frame_->stack[si_].reg;                                    \
				body                                                               \
			}                                                                          \
		}                                                                                  \
	} while (0)

/* --- resolve.c, cfg.c, btf.c: before the walk ------------------------------------------------- */
int ub_resolve_maps(struct env *env);
int ub_subprogs_find(struct env *env);
int ub_subprogs_check(struct env *env);
int ub_cfg_check(struct env *env);
int ub_cfg_live_registers(struct env *env);
int ub_stack_depth_check(struct env *env);
int ub_subprog_find(const struct env *env, u32 start);
u32 ub_subprog_of(const struct env *env, u32 insn);
int ub_verifier_btf_check(struct env *env);
int ub_btf_prepare_args(struct env *env, u32 subprog);
void ub_btf_map_fields(const struct ub_verifier_map *map, struct map_fields *fields);

static inline bool ub_is_ldimm64(const struct bpf_insn *insn)
{
	return insn->code == (BPF_LD | BPF_IMM | BPF_DW);
}

static inline bool ub_is_pseudo_call(const struct bpf_insn *insn)
{
	return insn->code == (BPF_JMP | BPF_CALL) && insn->src_reg == BPF_PSEUDO_CALL;
}

static inline bool ub_is_helper_call(const struct bpf_insn *insn)
{
	return insn->code == (BPF_JMP | BPF_CALL) && insn->src_reg == 0;
}

static inline bool ub_is_may_goto(const struct bpf_insn *insn)
{
	return insn->code == (BPF_JMP | BPF_JCOND) && insn->src_reg == 0;
}

static inline bool ub_is_pseudo_func(const struct bpf_insn *insn)
{
	return ub_is_ldimm64(insn) && insn->src_reg == BPF_PSEUDO_FUNC;
}

bool ub_is_sync_callback_helper(u32 id);
bool ub_is_async_callback_helper(u32 id);

/* --- check.c: the walk ----------------------------------------------------------------------- */
enum reg_use {
	USE_SRC,
	USE_DST,
	USE_DST_NO_MARK,
};
int ub_check_reg(struct env *env, u32 regno, enum reg_use use);
int ub_check_all(struct env *env);
void ub_mark_reg_unknown(struct env *env, struct reg *regs, u32 regno);

/* --- alu.c, scalar.c, branch.c, compare.c ----------------------------------------------------- */
int ub_check_alu(struct env *env, const struct bpf_insn *insn);
/* @d = @d op @src, both numbers. */
void ub_scalar_op(const struct bpf_insn *insn, struct reg *d, const struct reg *src);
/* Gives all that are linked to @known what is known of it. */
void ub_linked_refresh(struct env *env, struct state *state, const struct reg *known, u64 linked);
int ub_check_cond_jmp(struct env *env, const struct bpf_insn *insn, u32 *insn_idx);
/* The comparison that says the same with its sides exchanged. */
u8 ub_jump_flip(u8 op);
/* Whether "a op b" is 1: always true, 0: never, -1: maybe. */
int ub_scalar_taken(const struct reg *a, const struct reg *b, u8 op, bool is32);
/* What "a op b" being true, or false, tells of both; nothing unless they are numbers. */
int ub_scalar_learn(struct env *env, struct reg *true_a, struct reg *true_b, struct reg *false_a,
		    struct reg *false_b, u8 op, bool is32);

/* --- mem.c, stack.c, ctx.c ------------------------------------------------------------------- */
int ub_check_mem(struct env *env, u32 insn_idx, u32 regno, s32 off, u32 bpf_size, bool write,
		 s32 value_regno, bool strict, bool sign_extend);
int ub_check_atomic(struct env *env, const struct bpf_insn *insn);
int ub_check_mem_region(struct env *env, u32 regno, s32 off, s32 size, u32 mem_size,
			bool zero_size);
int ub_check_map_access(struct env *env, u32 regno, s32 off, s32 size, bool zero_size,
			bool by_helper);
int ub_check_packet_access(struct env *env, u32 regno, s32 off, s32 size, bool zero_size);
int ub_check_map_flags(struct env *env, u32 regno, s32 off, s32 size, bool write);
int ub_check_ptr_off(struct env *env, const struct reg *reg, u32 regno, bool fixed_ok);
bool ub_may_write_packet(struct env *env, bool by_helper);
void ub_clear_packet_pointers(struct env *env);
const struct ub_map_attr *ub_reg_map(const struct env *env, const struct reg *reg);
const struct map_fields *ub_reg_fields(const struct env *env, const struct reg *reg);

int ub_stack_check_bounds(struct env *env, u32 regno, s32 off, s32 size, bool by_helper,
			  bool write);
int ub_stack_read(struct env *env, u32 regno, s32 off, s32 size, s32 dst_regno);
int ub_stack_write(struct env *env, u32 regno, s32 off, s32 size, s32 value_regno, u32 insn_idx);
int ub_stack_range_initialized(struct env *env, u32 regno, s32 off, s32 size, bool zero_size,
			       bool write, struct call_meta *meta);
void ub_stack_mark_read(struct env *env, u32 frameno, u32 spi);
int ub_stack_fixed_write(struct env *env, struct frame *frame, s32 off, s32 size, s32 value_regno,
			 u32 insn_idx);
int ub_stack_depth_update(struct env *env, struct frame *frame, s32 off);
bool ub_slot_is_spill(const struct slot *slot);
bool ub_slot_is_scalar_spill(const struct slot *slot);

struct ctx_access {
	u32 type; /* of the loaded value: SCALAR_VALUE or a packet pointer */
	bool ldsx;
};
int ub_ctx_check(struct env *env, s32 off, u32 size, bool write, struct ctx_access *access);
/* Rewrites one load or store of a networking context to this VM's layout; number of instructions
 * put into out[], 0 = leave it. */
u32 ub_ctx_convert(struct env *env, const struct bpf_insn *insn, struct bpf_insn *out, u32 max);
bool ub_ctx_known_type(enum bpf_prog_type type);

/* --- helper_call.c, call.c ------------------------------------------------------------------- */
int ub_check_helper_call(struct env *env, const struct bpf_insn *insn, u32 *insn_idx);
int ub_check_helper_args(struct env *env, struct call_meta *meta);
int ub_check_arg_type(struct env *env, u32 regno, enum ub_arg_type arg);
int ub_check_mem_size(struct env *env, u32 size_regno, bool zero_ok, bool write,
		      struct call_meta *meta);
int ub_check_helper_access(struct env *env, u32 regno, s32 size, bool write, bool zero_ok,
			   struct call_meta *meta);
int ub_check_func_call(struct env *env, const struct bpf_insn *insn, u32 *insn_idx);
int ub_push_callback(struct env *env, const struct bpf_insn *insn, u32 insn_idx, u32 subprog,
		     bool async);
int ub_push_tail_return(struct env *env, u32 insn_idx);
int ub_return_from_callee(struct env *env, u32 *insn_idx);
int ub_check_exit(struct env *env, const struct bpf_insn *insn, u32 *insn_idx, bool *done);
int ub_check_no_references(struct env *env, const char *what);
void ub_clear_caller_saved(struct env *env, struct reg *regs);
bool ub_in_sleepable(const struct env *env);
bool ub_may_spin_lock_hold(struct env *env, u32 func_id);
int ub_release_reference(struct env *env, u32 ref_obj_id);
int ub_dynptr_init(struct env *env, u32 regno, enum dynptr_type type);
int ub_dynptr_arg(struct env *env, u32 regno, struct call_meta *meta, bool uninit);
int ub_dynptr_destroy_overlap(struct env *env, struct frame *frame, u32 spi);
int ub_dynptr_release(struct env *env, u32 ref_obj_id);

/* --- prune.c, precision.c -------------------------------------------------------------------- */
int ub_is_state_visited(struct env *env, u32 insn);
struct state *ub_previous_visit(const struct state *state, u32 insn);
void ub_widen(struct state *prev, struct state *cur);
int ub_history_push(struct env *env, bool stack_access, u32 frame, u32 spi, u64 linked);
int ub_mark_precise(struct env *env, u32 regno);
int ub_mark_slot_precise(struct env *env, u32 frame, u32 spi);
int ub_precise_propagate(struct env *env, const struct state *old, struct state *cur);
void ub_mark_all_precise(struct env *env, struct state *state);
void ub_update_branch_counts(struct env *env, struct state *state);
void ub_linked_regs_collect(struct env *env, struct state *state, u32 id, u64 *linked);
const struct history *ub_history_get(const struct state *state, s32 end, u32 idx);

/* --- fixup.c --------------------------------------------------------------------------------- */
void ub_fixup_reserve(struct env *env);
int ub_fixup(struct env *env, struct ub_program **out);

#endif
