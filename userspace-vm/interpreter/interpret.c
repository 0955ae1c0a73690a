// SPDX-License-Identifier: MIT
/*
 * Starting and ending a run: frames, callbacks. What each instruction does is in
 * execute.c.
 *
 * Frames have stacks of their own, FRAME_STACK bytes each, so that
 * an overrun meets the neighbour's bytes only where the checks are off, as with the JIT.
 *
 * A callback is an address in the program's instructions. Helpers call it through
 * ub_run_callback(), which comes back here and runs it on the next frame, within the helper's call.
 */
#include <errno.h>

#include <interpreter/state.h>

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
	for (u32 i = 0; i < map->nr_inner; i++) {
		const struct ub_map *inner = map->inner[i];

		if (inner && inner->shared &&
		    within(addr, size, (u64)inner->shared, inner->shared_size))
			return true;
	}
	return false;
}

bool interpreter_may_access(const struct state *s, u64 addr, u32 size, bool write)
{
	struct ub_map **maps = s->run->maps;

	for (u32 i = 0; i <= s->depth; i++) {
		if (within(addr, size, (u64)s->stack[i], FRAME_STACK))
			return true;
	}
	if (within(addr, size, s->ctx, s->ctx_size))
		return true;
	for (u32 i = 0; i < s->options->nr_memory; i++) {
		const struct ub_memory *memory = &s->options->memory[i];

		if (within(addr, size, memory->start, memory->size) && (!write || memory->writable))
			return true;
	}
	for (u32 i = 0; maps && i < s->run->program->nr_maps; i++) {
		if (in_map(maps[i], addr, size))
			return true;
	}
	return false;
}

/* ub_run.call_callback. An error is left in the state for the instruction that called the helper.
 */
static u64 run_callback(u64 callback, u64 a1, u64 a2, u64 a3, u64 a4, struct ub_run *run)
{
	struct state *s = run->interpreter;
	const struct ub_program *program = run->program;
	struct ub_map **maps = run->maps;
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
	if (s->depth + 1 >= s->max_frames || s->depth + 1 >= MAX_FRAMES) {
		s->err = ub_reason_set(s->why, -ELOOP, "insn %llu: more than %d frames deep",
				       (unsigned long long)pc, UB_MAX_CALL_FRAMES);
		return 0;
	}
	s->depth++;
	s->frames[s->depth].loops_left = MAX_LOOPS;
	regs[10] = (u64)s->stack[s->depth] + FRAME_STACK;
	s->err = interpreter_execute(s, pc, regs, &result);
	s->depth--;
	run->program = program;
	run->maps = maps;
	return result;
}

int ub_interpret(const struct ub_program *program, void *ctx, u64 r2, struct ub_run *run,
		 const struct ub_interpret_options *options, u64 *result, struct ub_reason *why)
{
	static const struct ub_interpret_options no_options;
	struct ub_map **saved_maps = run->maps;
	const struct ub_program *saved_program = run->program;
	void *outer = run->interpreter;
	u64 regs[11] = { 0, (u64)ctx, r2 };
	struct state s;
	int err;

	if (!options)
		options = &no_options;
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
	s.max_frames = UB_MAX_CALL_FRAMES;
	s.frames[0].loops_left = MAX_LOOPS;
	regs[10] = (u64)s.stack[0] + FRAME_STACK;

	run->call_callback = run_callback;
	run->interpreter = &s;
	run->program = program;
	err = interpreter_execute(&s, 0, regs, result);
	run->call_callback = outer ? run_callback : NULL;
	run->interpreter = outer;
	run->program = saved_program;
	run->maps = saved_maps;
	return err;
}
