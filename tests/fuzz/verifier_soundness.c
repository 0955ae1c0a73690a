/* SPDX-License-Identifier: MIT */
/*
 * Is the verifier sound? Random programs; of each accepted one,
 *  - with all ways walked (no pruning) it must be accepted, too, and at every instruction of concrete runs, all registers and
 *    spilled registers must lie inside one of the abstract states that the verifier had there;
 *  - as in earnest, with pruning: no access of a concrete run leaves the map's value, the stack or the
 *    context.
 * Prints seed and finding, and exits 1, on the first unsound acceptance.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <interpreter/interpreter.h>
#include <map/map.h>
#include <verifier/env.h>

#include "verifier_fuzz.h"
#include "verifier_programs.h"

#define MAX_STATES 5000

static const struct ub_map_attr attr = { .type = BPF_MAP_TYPE_ARRAY,
					 .key_size = 4,
					 .value_size = PROGRAM_VALUE_SIZE,
					 .max_entries = 1 };

struct abstract {
	struct abstract *next; /* of the same instruction */
	u32 nr_frames;
	struct reg regs[NR_REGS];
	u32 nr_slots;
	struct slot *slots;
};

static struct abstract *states[PROGRAM_MAX];
static struct abstract *pool[MAX_STATES];
static u32 nr_states;
static bool overflow;

static struct ub_map map;
static u8 *value;
static u8 ctx[168] __attribute__((aligned(8)));
static u32 place[PROGRAM_MAX];
static u32 origin[PROGRAM_MAX * 12];
static const u8 *fps[UB_MAX_CALL_FRAMES];
static char finding[600];
static struct ub_reason reason;
static ub_helper_fn helpers[UB_MAX_HELPER];
static bool contain;

static bool map_by_fd(void *opaque, int fd, bool idx, struct ub_verifier_map *out)
{
	memset(out, 0, sizeof(*out));
	out->attr = attr;
	out->opaque = &map;
	return true;
}

static void on_abstract(void *opaque, u32 pc, const void *state)
{
	const struct state *s = state;
	const struct frame *frame = s->frame[s->curframe];
	struct abstract *a;

	if (nr_states >= MAX_STATES) {
		overflow = true;
		return;
	}
	a = calloc(1, sizeof(*a));
	a->nr_frames = s->curframe + 1;
	memcpy(a->regs, frame->regs, sizeof(a->regs));
	a->nr_slots = frame->nr_slots;
	if (a->nr_slots) {
		a->slots = malloc(a->nr_slots * sizeof(*a->slots));
		memcpy(a->slots, frame->stack, a->nr_slots * sizeof(*a->slots));
	}
	a->next = states[pc];
	states[pc] = a;
	pool[nr_states++] = a;
}

static void forget(void)
{
	for (u32 i = 0; i < nr_states; i++) {
		free(pool[i]->slots);
		free(pool[i]);
	}
	nr_states = 0;
	overflow = false;
	memset(states, 0, sizeof(states));
}

static bool inside(const struct reg *r, u64 v)
{
	u32 low = (u32)v;

	return (v & ~r->var_off.mask) == r->var_off.value && v >= r->umin && v <= r->umax &&
	       (s64)v >= r->smin && (s64)v <= r->smax && low >= r->umin32 && low <= r->umax32 &&
	       (s32)low >= r->smin32 && (s32)low <= r->smax32;
}

/* Of a pointer's variable part only the 64-bit views are kept. */
static bool inside64(const struct reg *r, u64 v)
{
	return (v & ~r->var_off.mask) == r->var_off.value && v >= r->umin && v <= r->umax &&
	       (s64)v >= r->smin && (s64)v <= r->smax;
}

static bool reg_contains(const struct reg *r, u64 v)
{
	switch (r->type) {
	case NOT_INIT:
		return true;
	case SCALAR_VALUE:
		return inside(r, v);
	case PTR_TO_CTX:
		return inside64(r, v - (u64)ctx - (s64)r->off);
	case PTR_TO_MAP_VALUE:
		return inside64(r, v - (u64)value - (s64)r->off);
	case PTR_TO_STACK:
		return inside64(r, v - (u64)fps[r->frameno] - (s64)r->off);
	}
	return true;
}

static bool state_contains(const struct abstract *a, u32 frame, const u64 *regs, const u8 *fp,
			   int *bad)
{
	if (a->nr_frames != frame + 1) {
		*bad = -1000;
		return false;
	}
	for (int i = 0; i < NR_REGS; i++) {
		if (!reg_contains(&a->regs[i], regs[i])) {
			*bad = i;
			return false;
		}
	}
	for (u32 i = 0; i < a->nr_slots; i++) {
		const struct slot *slot = &a->slots[i];
		const u8 *at = fp - 8 * (i + 1);
		u32 spilled = 0;
		struct reg reg;
		u64 v = 0;

		for (u32 k = 0; k < 8; k++) {
			/* type[7] is the lowest byte */
			if (slot->type[7 - k] == STACK_ZERO && at[k]) {
				*bad = -(int)i - 1;
				return false;
			}
			spilled += slot->type[7 - k] == STACK_SPILL;
		}
		if (slot->type[7] != STACK_SPILL)
			continue;
		memcpy(&v, at, spilled);
		reg = slot->reg;
		if (spilled < 8) {
			/* A narrow spill keeps the low bytes of what the register was. */
			if (spilled != 1 && spilled != 2 && spilled != 4)
				continue;
			if (reg.type != SCALAR_VALUE)
				continue;
			ub_range_coerce_size(&reg, spilled);
		}
		if (!reg_contains(&reg, v)) {
			*bad = -(int)i - 1;
			return false;
		}
	}
	return true;
}

static void on_concrete(void *opaque, u32 pc, u32 frame, const u64 *regs, const u8 *fp)
{
	int bad = 0, last = 0;
	u32 n = 0;

	fps[frame] = fp;
	if (!contain || finding[0] || origin[pc] == UINT32_MAX)
		return;
	for (const struct abstract *a = states[origin[pc]]; a; a = a->next, n++) {
		if (state_contains(a, frame, regs, fp, &bad))
			return;
		if (bad != -1000)
			last = bad;
	}
	if (last < 0)
		snprintf(finding, sizeof(finding),
			 "before insn %u the slot fp%d is outside all %u abstract states",
			 origin[pc], last * 8, n);
	else
		snprintf(finding, sizeof(finding),
			 "before insn %u r%d = 0x%llx is outside all %u abstract states",
			 origin[pc], last, (unsigned long long)regs[last], n);
}

/* An input: at random, or near a number that the program compares with. */
static u64 input(const struct random_program *p, struct random_state *r)
{
	switch (random_next(r) % 4) {
	case 0:
		return random_next(r) % 64;
	case 1:
		return (u64)(s64)p->insns[random_next(r) % p->nr].imm + random_next(r) % 3 - 1;
	default:
		return random_value(r);
	}
}

static void run_once(const struct random_program *p, const struct ub_program *program,
		     struct random_state *r)
{
	struct ub_map *maps[1] = { &map };
	struct ub_process process = { .size = sizeof(process), .nr_cpus = 1 };
	struct ub_run run = { .ctx = ctx, .process = &process, .maps = maps };
	struct ub_interpret_options options = {
		.max_insns = 3000, .check = true, .observe = on_concrete, .helpers = helpers
	};
	struct ub_reason why = { 0 };
	u64 result;

	for (u32 i = 0; i < sizeof(ctx) / 8; i++) {
		u64 v = input(p, r);

		memcpy(ctx + i * 8, &v, 8);
	}
	for (u32 i = 0; i < PROGRAM_VALUE_SIZE / 8; i++) {
		u64 v = input(p, r);

		memcpy(value + i * 8, &v, 8);
	}
	if (ub_interpret(program, ctx, sizeof(ctx), &run, &options, &result, &why) == -EFAULT &&
	    !finding[0])
		snprintf(finding, sizeof(finding), "of the result %s", why.text);
}

/*
 * A load may find a pointer in a slot that another way left with any bytes at all. Linux, and so we,
 * take such slots for equal, and what is loaded for a number: it tells the program an address, which
 * does not matter in privileged programs. The unpruned walk then refuses arithmetic that a number
 * may do and a pointer may not. So what each load found in earnest is noted; where that was never a
 * pointer, it is none when all ways are walked once more.
 */
enum {
	FOUND_NUMBER = 1,
	FOUND_POINTER = 2,
};

static u8 found[PROGRAM_MAX];
static const struct random_program *walked;

/* Whether the instruction at @pc is about to read the stack, and the slot, or NULL: nobody wrote it, or
 * which one is not known. */
static bool reads_stack(const struct state *s, u32 pc, struct slot **slot)
{
	const struct bpf_insn *insn = &walked->insns[pc];
	bool load = BPF_CLASS(insn->code) == BPF_LDX;
	bool atomic = BPF_CLASS(insn->code) == BPF_STX && BPF_MODE(insn->code) == BPF_ATOMIC;
	const struct reg *base =
		&s->frame[s->curframe]->regs[atomic ? insn->dst_reg : insn->src_reg];
	s64 off = (s64)(base->var_off.value + (u64)(s64)base->off + (u64)(s64)insn->off);
	const struct frame *frame;

	if ((!load && !atomic) || base->type != PTR_TO_STACK)
		return false;
	*slot = NULL;
	if (base->var_off.mask || off >= 0 || off < -UB_STACK_SIZE)
		return true;
	frame = s->frame[base->frameno];
	if ((-off - 1) / SLOT_SIZE < frame->nr_slots)
		*slot = &frame->stack[(-off - 1) / SLOT_SIZE];
	return true;
}

static bool holds_pointer(const struct slot *slot)
{
	return slot && slot->type[SLOT_SIZE - 1] == STACK_SPILL && slot->reg.type != SCALAR_VALUE;
}

static void note_found(void *opaque, u32 pc, const void *state)
{
	struct slot *slot;

	if (reads_stack(state, pc, &slot))
		found[pc] |= holds_pointer(slot) ? FOUND_POINTER : FOUND_NUMBER;
}

static void forget_pointer(void *opaque, u32 pc, const void *state)
{
	struct slot *slot;

	if (reads_stack(state, pc, &slot) && holds_pointer(slot) && found[pc] == FOUND_NUMBER) {
		memset(slot->type, STACK_MISC, SLOT_SIZE);
		memset(&slot->reg, 0, sizeof(slot->reg));
	}
}

enum walk {
	PRUNED,
	ALL_WAYS,
	ALL_WAYS_AS_FOUND,
};

static int verify(const struct random_program *p, enum walk walk, struct ub_program **out)
{
	static void (*const observers[])(void *, u32, const void *) = {
		[PRUNED] = note_found,
		[ALL_WAYS] = on_abstract,
		[ALL_WAYS_AS_FOUND] = forget_pointer,
	};
	struct ub_verify_request req = {
		.type = BPF_PROG_TYPE_KPROBE,
		.name = "fuzz",
		.license = "GPL",
		.insns = p->insns,
		.nr_insns = p->nr,
		/* Unpruned, ways that no run takes can be told by the contradictions they lead to:
		 * -EFAULT. */
		.prog_flags = p->flags | (walk != PRUNED ? BPF_F_TEST_REG_INVARIANTS : 0),
		.privileged = true,
		.map_by_fd = map_by_fd,
		.no_prune = walk != PRUNED,
		.insn_limit = walk != PRUNED ? MAX_STATES : 30000,
		.place = place,
		.observe = observers[walk],
	};
	void *used[UB_MAX_USED_MAPS];

	walked = p;
	return ub_verify(&req, out, used, &reason);
}

/* Whether an unpruned walk that ended with @err tells that the program is unsafe. */
static bool refused(int err)
{
	return err && err != -E2BIG && err != -ENOMEM && err != -EFAULT;
}

/* After a walk that was refused: whether it was for a pointer that a load takes for a number. */
static bool is_leak(const struct random_program *p)
{
	struct ub_program *program = NULL;
	int err = verify(p, ALL_WAYS_AS_FOUND, &program);

	ub_program_free(program);
	return !refused(err);
}

static void find_origins(const struct random_program *p, const struct ub_program *program)
{
	memset(origin, 0xff, sizeof(origin));
	/* Backwards: a dropped instruction shares its place with the next, whose own it is. */
	for (u32 i = 0; i < p->nr; i++) {
		if (place[i] < program->nr_insns && p->insns[i].code)
			origin[place[i]] = i;
	}
}

/* 1 accepted, 0 rejected, -1 unsound */
static int one(u64 seed)
{
	struct random_state r = { seed ^ 0x5eed };
	struct ub_program *program = NULL;
	static struct random_program p;
	int accepted = 0;

	finding[0] = '\0';
	random_program(&p, seed, 1);
	memset(found, 0, sizeof(found));
	if (!verify(&p, PRUNED, &program)) {
		accepted = 1;
		contain = false;
		for (int i = 0; i < 6 && !finding[0]; i++)
			run_once(&p, program, &r);
		ub_program_free(program);
		program = NULL;
	}
	if (!finding[0] && accepted && !p.unbounded) {
		int err = verify(&p, ALL_WAYS, &program);

		if (refused(err) && !is_leak(&p)) {
			/* Walked to the end, the ways that were cut are not safe. */
			snprintf(finding, sizeof(finding), "only pruning lets it pass: %.400s",
				 reason.text);
		} else if (!err && !overflow) {
			contain = true;
			find_origins(&p, program);
			for (int i = 0; i < 6 && !finding[0]; i++)
				run_once(&p, program, &r);
		}
		ub_program_free(program);
		forget();
	}
	return finding[0] ? -1 : accepted;
}

int main(int argc, char **argv)
{
	u64 accepted = 0;
	struct fuzz fuzz;

	if (!fuzz_init(&fuzz, argc, argv))
		return 2;
	for (u32 i = 0; i < UB_MAX_HELPER; i++)
		helpers[i] = ub_helper_by_id(i) ? ub_helper_by_id(i)->fn : NULL;
	ub_map_bind(&map, &attr, 1, NULL);
	if (posix_memalign((void **)&map.shared, 4096, map.shared_size))
		return 1;
	memset(map.shared, 0, map.shared_size);
	ub_map_format(&map);
	value = map.shared + map.values_offset;
	while (fuzz_next(&fuzz)) {
		int ret = one(fuzz.seed);

		if (ret < 0) {
			printf("seed %llu: %s\n", (unsigned long long)fuzz.seed, finding);
			free(map.shared);
			return 1;
		}
		accepted += ret;
		if (fuzz.verbose)
			printf("seed %llu: %s\n", (unsigned long long)fuzz.seed,
			       ret ? "accepted" : reason.text);
	}
	printf("%llu programs, %llu accepted, none unsound\n", (unsigned long long)fuzz.tried,
	       (unsigned long long)accepted);
	free(map.shared);
	return 0;
}
