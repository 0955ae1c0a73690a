// SPDX-License-Identifier: MIT
/*
 * Starting and ending a run: decoding, frames, callbacks. What each instruction does is in
 * execute.c.
 *
 * Each instruction is decoded once per run into one byte, its row in opcodes.def, which is the
 * index into a table of labels. Frames have stacks of their own, UB_STACK_SIZE bytes each, so that
 * an overrun meets the neighbour's bytes only where the checks are off, as with the JIT.
 *
 * A callback is an address in the program's instructions. Helpers call it through
 * ub_run_callback(), which comes back here and runs it on the next frame, within the helper's call.
 */
#include <errno.h>
#include <stdlib.h>

#include <interpreter/state.h>

/* Programs up to this size are decoded without an allocation. */
#define INLINE_OPS 1024

/* The only instruction with an opcode byte, or UB_OP_INVALID: look closer. */
static const u8 only_op[256] = {
#define UB_OP(name, opcode, sub, form)                                                             \
	[(opcode)] = UB_FORM_##form == UB_FORM_ALU_REG || UB_FORM_##form == UB_FORM_ALU_IMM ||     \
				     UB_FORM_##form == UB_FORM_END ||                              \
				     UB_FORM_##form == UB_FORM_ATOMIC ||                           \
				     UB_FORM_##form == UB_FORM_LOAD_ACQ ||                         \
				     UB_FORM_##form == UB_FORM_CALL ||                             \
				     UB_FORM_##form == UB_FORM_LD_IMM64 ||                         \
				     UB_FORM_##form == UB_FORM_MAY_GOTO                            \
			     ? UB_OP_INVALID                                                       \
			     : UB_OP_##name,
#define UB_OP_SUB(name, opcode, sub, form)
#include <isa/opcodes.def>
};

/* The instructions passed ub_isa_check(), so most are known by their opcode byte alone. */
static void decode_into(const struct ub_program *program, u8 *ops)
{
	for (u32 pc = 0; pc < program->nr_insns; pc++) {
		const struct bpf_insn *insn = &program->insns[pc];

		ops[pc] = only_op[insn->code];
		if (ops[pc])
			continue;
		ops[pc] = ub_isa_decode(insn);
		if (insn->code == (BPF_LD | BPF_IMM | BPF_DW) && pc + 1 < program->nr_insns)
			ops[++pc] = UB_OP_INVALID;
	}
}

const struct decoded *interpreter_decode(struct state *s, const struct ub_program *program,
					 struct ub_map **maps)
{
	struct decoded *code;

	for (code = s->decoded; code; code = code->next) {
		if (code->program == program && code->maps == maps)
			return code;
	}
	code = calloc(1, sizeof(*code));
	if (!code)
		return NULL;
	code->owned = malloc(program->nr_insns);
	if (!code->owned) {
		free(code);
		return NULL;
	}
	decode_into(program, code->owned);
	code->ops = code->owned;
	code->program = program;
	code->maps = maps;
	code->next = s->decoded;
	s->decoded = code;
	return code;
}

static void free_decoded(struct decoded *code, const struct decoded *first)
{
	while (code) {
		struct decoded *next = code->next;

		free(code->owned);
		if (code != first)
			free(code);
		code = next;
	}
}

static bool within(u64 addr, u32 size, u64 start, u64 length)
{
	return addr >= start && size <= length && addr - start <= length - size;
}

static bool in_map(const struct ub_map *map, u64 addr, u32 size)
{
	if (!map)
		return false;
	if (map->shared && within(addr, size, (u64)map->shared, map->shared_size))
		return true;
	if (!map->inner || (map->attr.type != BPF_MAP_TYPE_ARRAY_OF_MAPS &&
			    map->attr.type != BPF_MAP_TYPE_HASH_OF_MAPS))
		return false;
	for (u32 i = 0; i < map->attr.max_entries; i++) {
		const struct ub_map *inner = map->inner[i];

		if (inner && inner->shared &&
		    within(addr, size, (u64)inner->shared, inner->shared_size))
			return true;
	}
	return false;
}

bool interpreter_may_access(const struct state *s, u64 addr, u32 size, bool write)
{
	const struct decoded *code = s->frames[s->depth].code;

	for (u32 i = 0; i <= s->depth; i++) {
		if (within(addr, size, (u64)s->stack[i], UB_STACK_SIZE))
			return true;
	}
	if (within(addr, size, s->ctx, s->ctx_size))
		return true;
	for (u32 i = 0; i < s->options->nr_memory; i++) {
		const struct ub_memory *memory = &s->options->memory[i];

		if (within(addr, size, memory->start, memory->size) && (!write || memory->writable))
			return true;
	}
	for (u32 i = 0; code->maps && i < code->program->nr_maps; i++) {
		if (in_map(code->maps[i], addr, size))
			return true;
	}
	return false;
}

/* ub_run.call_callback. An error is left in the state for the instruction that called the helper.
 */
static u64 run_callback(u64 callback, u64 a1, u64 a2, u64 a3, u64 a4, struct ub_run *run)
{
	struct state *s = run->interpreter;
	const struct decoded *code = s->frames[s->depth].code;
	const struct ub_program *program = code->program;
	u64 pc = (callback - (u64)program->insns) / sizeof(*program->insns);
	u64 regs[11] = { 0, a1, a2, a3, a4 };
	u64 result = 0;
	bool known = false;

	if (s->err)
		return 0;
	for (u32 i = 0; i < program->nr_subprogs; i++)
		known |= program->subprogs[i].start == pc;
	if (!known || (callback - (u64)program->insns) % sizeof(*program->insns)) {
		s->err = ub_reason_set(s->why, -EFAULT,
				       "a helper called 0x%llx, which is no subprogram",
				       (unsigned long long)callback);
		return 0;
	}
	if (s->depth + 1 >= UB_MAX_CALL_FRAMES) {
		s->err = ub_reason_set(s->why, -ELOOP, "insn %llu: more than %d frames deep",
				       (unsigned long long)pc, UB_MAX_CALL_FRAMES);
		return 0;
	}
	s->depth++;
	s->frames[s->depth].code = code;
	s->frames[s->depth].loops_left = MAX_LOOPS;
	regs[10] = (u64)s->stack[s->depth] + UB_STACK_SIZE;
	s->err = interpreter_execute(s, pc, regs, &result);
	s->depth--;
	return result;
}

int ub_interpret(const struct ub_program *program, void *ctx, u64 r2, struct ub_run *run,
		 const struct ub_interpret_options *options, u64 *result, struct ub_reason *why)
{
	static const struct ub_interpret_options no_options;
	u8 ops[INLINE_OPS];
	struct decoded first = { .program = program, .maps = run->maps };
	struct ub_map **saved_maps = run->maps;
	const struct ub_program *saved_program = run->program;
	void *outer = run->interpreter;
	u64 regs[11] = { 0, (u64)ctx, r2 };
	struct state s;
	int err;

	if (!options)
		options = &no_options;
	if (program->nr_insns > INLINE_OPS) {
		first.owned = malloc(program->nr_insns);
		if (!first.owned)
			return -ENOMEM;
	}
	first.ops = first.owned ? first.owned : ops;
	decode_into(program, first.owned ? first.owned : ops);

	s.options = options;
	s.run = run;
	s.why = why;
	s.check = options->check;
	s.tracing = options->observe || options->max_insns;
	s.err = 0;
	s.insns_left = options->max_insns;
	s.ctx = (u64)ctx;
	s.ctx_size = ctx ? r2 : 0;
	s.depth = 0;
	s.decoded = &first;
	s.frames[0].code = &first;
	s.frames[0].loops_left = MAX_LOOPS;
	regs[10] = (u64)s.stack[0] + UB_STACK_SIZE;

	run->call_callback = run_callback;
	run->interpreter = &s;
	run->program = program;
	err = interpreter_execute(&s, 0, regs, result);
	run->call_callback = outer ? run_callback : NULL;
	run->interpreter = outer;
	run->program = saved_program;
	run->maps = saved_maps;
	if (ub_unlikely(s.decoded != &first || first.owned))
		free_decoded(s.decoded, &first);
	return err;
}
