// SPDX-License-Identifier: MIT
/*
 * Every instruction of opcodes.def with every class of operands, on the interpreter, the JIT (with
 * and without BMI2) and, as root, the kernel.
 *
 * Programs are made of groups. A group loads r0 .. r9 with values from the memory, runs the
 * instruction under test, and stores the registers and a marker (which tells whether a jump was
 * taken):
 *
 *	memory	0 .. 79 values, 80 + 88 * group results, from TARGET on what loads and stores
 *		work on
 *	stack	-8 memory pointer, -16 marker, -24 .. -103 registers, -256 .. -112 for loads and
 *		stores
 *
 * Which classes an instruction has been seen with is then counted from the programs that ran, not
 * from what was meant to run; the table of what is missing must be empty.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <interpreter/interpreter.h>
#include <isa/isa.h>
#include <jit/jit.h>

#include "../fuzz/generate.h"

#define RESULTS	    80
#define GROUP_SIZE  88
#define TARGET	    3072
#define MAX_GROUPS  ((TARGET - RESULTS) / GROUP_SIZE)
#define STACK_DEPTH 256
#define NR_MEMORIES 6

/* Classes of operands: dst 0 - 9, src 0 - 10, dst == src, immediates, offsets, jump taken or not.
 */
enum {
	CLASS_DST = 0,
	CLASS_SRC = CLASS_DST + 11,
	CLASS_SAME = CLASS_SRC + 11,
	CLASS_IMM_ZERO,
	CLASS_IMM_BYTE,	 /* fits a signed byte, positive */
	CLASS_IMM_MINUS, /* ... negative */
	CLASS_IMM_WORD,
	CLASS_IMM_WORD_MINUS,
	CLASS_OFF_ZERO,
	CLASS_OFF_BYTE,
	CLASS_OFF_MINUS,
	CLASS_OFF_WORD,
	NR_CLASSES,
};

static const char *const class_names[NR_CLASSES] = {
	"dst r0",  "dst r1",	"dst r2",    "dst r3",	 "dst r4",    "dst r5",	  "dst r6",
	"dst r7",  "dst r8",	"dst r9",    "dst r10",	 "src r0",    "src r1",	  "src r2",
	"src r3",  "src r4",	"src r5",    "src r6",	 "src r7",    "src r8",	  "src r9",
	"src r10", "dst = src", "imm 0",     "imm byte", "imm -byte", "imm word", "imm -word",
	"off 0",   "off byte",	"off -byte", "off word",
};

static u64 seen[UB_NR_OPS], seen_in_kernel[UB_NR_OPS];
static struct vm_case test;
static u32 nr_groups, nr_programs, nr_failed, nr_refused;

static void emit(u8 code, u8 dst, u8 src, s16 off, s32 imm)
{
	test.insns[test.nr++] = (struct bpf_insn) { code, dst, src, off, imm };
}

static u64 imm_class(s32 imm)
{
	if (!imm)
		return 1ull << CLASS_IMM_ZERO;
	if (imm == (s8)imm)
		return 1ull << (imm > 0 ? CLASS_IMM_BYTE : CLASS_IMM_MINUS);
	return 1ull << (imm > 0 ? CLASS_IMM_WORD : CLASS_IMM_WORD_MINUS);
}

static u64 off_class(s16 off)
{
	if (!off)
		return 1ull << CLASS_OFF_ZERO;
	if (off == (s8)off)
		return 1ull << (off > 0 ? CLASS_OFF_BYTE : CLASS_OFF_MINUS);
	return 1ull << CLASS_OFF_WORD;
}

/* The classes that @insn is an example of. */
static u64 classes_of(const struct bpf_insn *insn, enum ub_form form)
{
	u64 dst = 1ull << (CLASS_DST + insn->dst_reg), src = 1ull << (CLASS_SRC + insn->src_reg);

	if (insn->dst_reg == insn->src_reg)
		src |= 1ull << CLASS_SAME;
	switch (form) {
	case UB_FORM_ALU_REG:
	case UB_FORM_JUMP_REG:
		return dst | src;
	case UB_FORM_ALU_IMM:
	case UB_FORM_JUMP_IMM:
		return dst | imm_class(insn->imm);
	case UB_FORM_NEG:
	case UB_FORM_END:
		return dst;
	case UB_FORM_LOAD:
	case UB_FORM_LOAD_ACQ:
	case UB_FORM_STORE:
	case UB_FORM_STORE_REL:
	case UB_FORM_ATOMIC:
		return dst | src | off_class(insn->off);
	case UB_FORM_STORE_IMM:
		return dst | imm_class(insn->imm) | off_class(insn->off);
	case UB_FORM_LD_IMM64:
		return insn->src_reg ? 1 : dst | imm_class(insn->imm);
	default:
		return 1;
	}
}

static u64 range(u32 first, u32 last)
{
	return (1ull << (last + 1)) - (1ull << first);
}

/* The classes that an instruction must have been seen with. */
static u64 classes_wanted(enum ub_op op)
{
	u64 dst = range(CLASS_DST, CLASS_DST + 9), src = range(CLASS_SRC, CLASS_SRC + 9);
	u64 same = 1ull << CLASS_SAME, fp_dst = 1ull << (CLASS_DST + 10);
	u64 fp_src = 1ull << (CLASS_SRC + 10);
	u64 imm = range(CLASS_IMM_ZERO, CLASS_IMM_WORD_MINUS);
	u64 off = range(CLASS_OFF_ZERO, CLASS_OFF_WORD);
	const struct ub_op_info *info = &ub_isa_ops[op];

	switch (info->form) {
	case UB_FORM_ALU_REG:
	case UB_FORM_JUMP_REG:
		return dst | src | same;
	case UB_FORM_ALU_IMM:
		if (BPF_OP(info->code) == BPF_LSH || BPF_OP(info->code) == BPF_RSH ||
		    BPF_OP(info->code) == BPF_ARSH)
			imm = 1ull << CLASS_IMM_ZERO | 1ull << CLASS_IMM_BYTE;
		if (BPF_OP(info->code) == BPF_DIV || BPF_OP(info->code) == BPF_MOD)
			imm &= ~(1ull << CLASS_IMM_ZERO);
		return dst | imm;
	case UB_FORM_JUMP_IMM:
		return dst | imm;
	case UB_FORM_NEG:
	case UB_FORM_END:
		return dst;
	case UB_FORM_LOAD:
	case UB_FORM_LOAD_ACQ:
		return dst | src | fp_src | same | off;
	case UB_FORM_STORE:
	case UB_FORM_STORE_REL:
	case UB_FORM_ATOMIC:
		return dst | src | fp_dst | off;
	case UB_FORM_STORE_IMM:
		return dst | fp_dst | imm | off;
	case UB_FORM_LD_IMM64:
		return op == UB_OP_LD_IMM64 ? dst | imm : 1;
	default:
		return 1;
	}
}

static void count(u64 *table)
{
	for (u32 pc = 0; pc < test.nr; pc++) {
		enum ub_op op = ub_isa_decode(&test.insns[pc]);

		table[op] |= classes_of(&test.insns[pc], ub_isa_ops[op].form);
		pc += ub_isa_ops[op].form == UB_FORM_LD_IMM64;
	}
}

static void fail(const char *engine, const char *what)
{
	printf("FAIL %s: %s\n", engine, what);
	for (u32 pc = 0; pc < test.nr && nr_failed < 2; pc++) {
		char text[128];

		ub_isa_print(&test.insns[pc], text, sizeof(text));
		printf("%4u: %s\n", pc, text);
		pc += test.insns[pc].code == (BPF_LD | BPF_IMM | BPF_DW);
	}
	nr_failed++;
}

/* Runs the program that has been emitted, on several memories, and starts another. */
static void run_program(bool in_kernel)
{
	static struct vm_outcome out[VM_NR_ENGINES];
	struct random_state r = { ++nr_programs };

	emit(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
	emit(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	test.memory_size = HARNESS_MAX_MEMORY;
	test.stack_depth = STACK_DEPTH;
	for (int engine = 0; engine < VM_NR_ENGINES; engine++) {
		struct vm_loaded *loaded;
		struct ub_reason why;

		if (engine == VM_KERNEL && (!in_kernel || !vm_kernel_available()))
			continue;
		if (vm_load(engine, &test, &loaded, &why)) {
			if (engine != VM_KERNEL) {
				fail(vm_engine_names[engine], why.text);
			} else if (!nr_refused++) {
				printf("note: the kernel refuses a program: %s\n", why.text);
			}
			continue;
		}
		for (u32 i = 0; i < NR_MEMORIES; i++) {
			static u8 expected[NR_MEMORIES][HARNESS_MAX_MEMORY];

			memset(out[engine].memory, 0, HARNESS_MAX_MEMORY);
			r.word = 1000 * nr_programs + i;
			for (u32 at = 0; at < HARNESS_MAX_MEMORY; at += 8) {
				u64 value = random_value(&r);

				if (at < RESULTS || at >= TARGET)
					memcpy(out[engine].memory + at, &value, 8);
			}
			if (vm_execute(loaded, &test, &out[engine], &why))
				fail(vm_engine_names[engine], why.text);
			else if (engine == VM_INTERPRETER)
				memcpy(expected[i], out[engine].memory, HARNESS_MAX_MEMORY);
			else if (memcmp(expected[i], out[engine].memory, HARNESS_MAX_MEMORY))
				fail(vm_engine_names[engine], "other memory than the interpreter");
		}
		vm_unload(loaded);
		if (engine == VM_KERNEL)
			count(seen_in_kernel);
	}
	count(seen);
	test.nr = nr_groups = 0;
}

static void begin_program(void)
{
	test.nr = nr_groups = 0;
	emit(BPF_STX | BPF_MEM | BPF_DW, 10, 1, -8, 0);
	for (s16 off = -256; off <= -112; off += 8)
		emit(BPF_ST | BPF_MEM | BPF_DW, 10, 0, off, (s32)(0x01030507u * (u32)off));
}

static void begin_group(void)
{
	emit(BPF_LDX | BPF_MEM | BPF_DW, 1, 10, -8, 0);
	for (u8 reg = 0; reg < 10; reg++) {
		if (reg != 1)
			emit(BPF_LDX | BPF_MEM | BPF_DW, reg, 1, 8 * reg, 0);
	}
	emit(BPF_LDX | BPF_MEM | BPF_DW, 1, 1, 8, 0);
	emit(BPF_ST | BPF_MEM | BPF_DW, 10, 0, -16, 1);
}

static void end_group(void)
{
	s16 results = (s16)(RESULTS + GROUP_SIZE * nr_groups++);

	for (u8 reg = 0; reg < 10; reg++)
		emit(BPF_STX | BPF_MEM | BPF_DW, 10, reg, (s16)(-24 - 8 * reg), 0);
	emit(BPF_LDX | BPF_MEM | BPF_DW, 1, 10, -8, 0);
	for (u8 word = 0; word < 11; word++) {
		emit(BPF_LDX | BPF_MEM | BPF_DW, 0, 10, (s16)(-16 - 8 * word), 0);
		emit(BPF_STX | BPF_MEM | BPF_DW, 1, 0, (s16)(results + 8 * word), 0);
	}
}

/* Ends a program that is nearly full, or is complete. */
static void flush(bool complete)
{
	if (nr_groups && (complete || nr_groups + 1 > 25)) {
		run_program(true);
		begin_program();
	}
}

static void test_alu(const struct ub_op_info *info, u8 dst, u8 src, s16 off, s32 imm)
{
	begin_group();
	emit(info->code, dst, src, off, imm);
	end_group();
	flush(false);
}

static void test_jump(const struct ub_op_info *info, u8 dst, u8 src, s32 imm)
{
	begin_group();
	emit(info->code, dst, src, 1, imm);
	emit(BPF_ST | BPF_MEM | BPF_DW, 10, 0, -16, 2);
	end_group();
	flush(false);
}

/* An access at @base + @off; @insn's registers and offset are filled in already. */
static void test_access(struct bpf_insn insn, u8 base, bool match)
{
	u8 other = insn.dst_reg == base ? insn.src_reg : insn.dst_reg;
	bool load = BPF_CLASS(insn.code) == BPF_LDX ||
		    (BPF_MODE(insn.code) == BPF_ATOMIC && insn.imm == BPF_LOAD_ACQ);

	begin_group();
	if (base != 10) {
		emit(BPF_LDX | BPF_MEM | BPF_DW, base, 10, -8, 0);
		emit(BPF_ALU64 | BPF_ADD | BPF_K, base, 0, 0, TARGET + 256);
	}
	if (match && base != 0)
		emit(BPF_LDX | BPF_MEM | BPF_SIZE(insn.code), 0, base, insn.off, 0);
	test.insns[test.nr++] = insn;
	if (insn.imm == BPF_CMPXCHG && BPF_SIZE(insn.code) == BPF_W)
		emit(BPF_ALU | BPF_MOV | BPF_X, 0, 0, 0, 0);
	/* Addresses are not the same everywhere. */
	if (base != 10 && !(load && other == base))
		emit(BPF_ALU64 | BPF_MOV | BPF_K, base, 0, 0, 0);
	end_group();
	flush(false);
}

static const s32 immediates[] = {
	0,	    1,	       -1, 2,	3,   5,	   7,	 8,	9,	    10,
	16,	    31,	       63, 127, 128, 255,  256,	 1000,	65535,	    65536,
	0x7fffffff, INT32_MIN, -2, -3,	-10, -128, -129, -1000, 0x00ff00ff,
};

static bool imm_allowed(const struct ub_op_info *info, s32 imm)
{
	u8 op = BPF_OP(info->code);
	s32 width = BPF_CLASS(info->code) == BPF_ALU64 ? 64 : 32;

	if (info->form != UB_FORM_ALU_IMM)
		return true;
	if (op == BPF_DIV || op == BPF_MOD)
		return imm != 0;
	if (op == BPF_LSH || op == BPF_RSH || op == BPF_ARSH)
		return imm >= 0 && imm < width;
	return true;
}

static void cover_registers(enum ub_op op)
{
	const struct ub_op_info *info = &ub_isa_ops[op];

	for (u8 dst = 0; dst < 10; dst++) {
		for (u8 src = 0; src < 10; src++) {
			if (info->form == UB_FORM_JUMP_REG)
				test_jump(info, dst, src, 0);
			else
				test_alu(info, dst, src, (s16)info->sub, 0);
		}
	}
}

static void cover_immediates(enum ub_op op)
{
	const struct ub_op_info *info = &ub_isa_ops[op];

	for (u8 dst = 0; dst < 10; dst++) {
		for (u32 i = 0; i < ub_array_size(immediates); i++) {
			/* All of them with three registers, some with the others. */
			if (!imm_allowed(info, immediates[i]) || (dst % 3 && (i + dst) % 5))
				continue;
			if (info->form == UB_FORM_JUMP_IMM)
				test_jump(info, dst, 0, immediates[i]);
			else
				test_alu(info, dst, 0, (s16)info->sub, immediates[i]);
		}
	}
}

static void cover_accesses(enum ub_op op)
{
	static const s16 memory_offsets[] = { 0, 8, 120, 128, 256, -8, -128, -136 };
	static const s16 stack_offsets[] = { -112, -120, -128, -136, -256 };
	static const s32 values[] = { 0, 1, -1, 0x7f, -128, 0x1234, 0x12345678, INT32_MIN };
	const struct ub_op_info *info = &ub_isa_ops[op];
	bool from = info->form == UB_FORM_LOAD || info->form == UB_FORM_LOAD_ACQ;

	for (u8 base = 0; base <= 10; base++) {
		for (u32 i = 0; i < 10 * ub_array_size(memory_offsets); i++) {
			u8 reg = i % 10;
			s16 off = base == 10 ? stack_offsets[(i / 10 + reg) % 5]
					     : memory_offsets[(i / 10 + reg) % 8];
			struct bpf_insn insn = { info->code, base, reg, off, info->sub };

			if (i >= 10 && (i / 10 + reg + base) % 4)
				continue;
			if (info->form == UB_FORM_STORE_IMM) {
				insn.src_reg = 0;
				insn.imm = values[(i + base) % 8];
			} else if (from) {
				insn.dst_reg = reg;
				insn.src_reg = base;
			} else if (reg == base ||
				   (op != UB_OP_INVALID && base == 0 && info->sub == BPF_CMPXCHG)) {
				continue; /* would store an address, or compare with one */
			}
			test_access(insn, base, info->sub == BPF_CMPXCHG && i % 2);
		}
	}
	/* What the loop above leaves out: storing or comparing an address, without the kernel. */
	if (info->sub == BPF_CMPXCHG && info->form == UB_FORM_ATOMIC) {
		begin_group();
		emit(BPF_LDX | BPF_MEM | BPF_DW, 0, 10, -8, 0);
		emit(info->code, 0, 3, TARGET, info->sub);
		emit(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
		end_group();
		run_program(false);
		begin_program();
	}
}

static void cover_constants(void)
{
	static const u64 values[] = { 0,
				      1,
				      0x7fffffff,
				      0x80000000,
				      0xffffffff,
				      0x100000000ull,
				      ~0ull,
				      1ull << 63,
				      0xffffffff80000000ull,
				      0x123456789abcdef0ull,
				      0xffffff00000000ffull };

	for (u8 dst = 0; dst < 10; dst++) {
		for (u32 i = 0; i < ub_array_size(values); i++) {
			begin_group();
			emit(BPF_LD | BPF_IMM | BPF_DW, dst, 0, 0, (s32)values[i]);
			emit(0, 0, 0, 0, (s32)(values[i] >> 32));
			end_group();
			flush(false);
		}
	}
}

static void cover(enum ub_op op)
{
	const struct ub_op_info *info = &ub_isa_ops[op];

	begin_program();
	switch (info->form) {
	case UB_FORM_ALU_REG:
	case UB_FORM_JUMP_REG:
		cover_registers(op);
		break;
	case UB_FORM_ALU_IMM:
	case UB_FORM_JUMP_IMM:
		cover_immediates(op);
		break;
	case UB_FORM_NEG:
	case UB_FORM_END:
		for (u8 dst = 0; dst < 10; dst++)
			test_alu(info, dst, 0, 0, info->form == UB_FORM_END ? info->sub : 0);
		break;
	case UB_FORM_LOAD:
	case UB_FORM_LOAD_ACQ:
	case UB_FORM_STORE:
	case UB_FORM_STORE_REL:
	case UB_FORM_STORE_IMM:
	case UB_FORM_ATOMIC:
		cover_accesses(op);
		break;
	case UB_FORM_LD_IMM64:
		if (op == UB_OP_LD_IMM64)
			cover_constants();
		break;
	default:
		break;
	}
	flush(true);
}

/* Jumps without condition, calls, callbacks: in one program of their own. */
static void cover_control(void)
{
	begin_program();
	begin_group();
	emit(BPF_JMP | BPF_JCOND, 0, 0, 1, 0);
	emit(BPF_ST | BPF_MEM | BPF_DW, 10, 0, -16, 2);
	emit(BPF_JMP | BPF_JSGT | BPF_K, 5, 0, 2, 0);
	emit(BPF_ST | BPF_MEM | BPF_DW, 10, 0, -16, 3);
	emit(BPF_JMP | BPF_JA, 0, 0, 3, 0);
	emit(BPF_JMP | BPF_JSGT | BPF_K, 6, 0, 1, 0);
	emit(BPF_JMP32 | BPF_JA, 0, 0, 0, 1);
	emit(BPF_ST | BPF_MEM | BPF_DW, 10, 0, -16, 4);
	end_group();
	flush(true);

	begin_program();
	begin_group();
	emit(BPF_ALU64 | BPF_MOV | BPF_K, 1, 0, 0, 5);
	emit(BPF_LD | BPF_IMM | BPF_DW, 2, BPF_PSEUDO_FUNC, 0, 16);
	emit(0, 0, 0, 0, 0);
	emit(BPF_ALU64 | BPF_MOV | BPF_X, 3, 10, 0, 0);
	emit(BPF_ALU64 | BPF_ADD | BPF_K, 3, 0, 0, -112);
	emit(BPF_ALU64 | BPF_MOV | BPF_K, 4, 0, 0, 0);
	emit(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_loop);
	emit(BPF_ALU64 | BPF_MOV | BPF_X, 1, 0, 0, 0);
	emit(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 6);
	emit(BPF_LDX | BPF_MEM | BPF_DW, 1, 10, -8, 0);
	emit(BPF_STX | BPF_MEM | BPF_DW, 1, 0, RESULTS, 0);
	emit(BPF_LDX | BPF_MEM | BPF_DW, 0, 10, -112, 0);
	emit(BPF_STX | BPF_MEM | BPF_DW, 1, 0, RESULTS + 8, 0);
	emit(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
	emit(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	/* u64 local(u64 a) { return a + 100; } */
	emit(BPF_ALU64 | BPF_MOV | BPF_X, 0, 1, 0, 0);
	emit(BPF_ALU64 | BPF_ADD | BPF_K, 0, 0, 0, 100);
	emit(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	/* long callback(u64 i, u64 *sum) { *sum += i; return 0; } */
	emit(BPF_LDX | BPF_MEM | BPF_DW, 3, 2, 0, 0);
	emit(BPF_ALU64 | BPF_ADD | BPF_X, 3, 1, 0, 0);
	emit(BPF_STX | BPF_MEM | BPF_DW, 2, 3, 0, 0);
	run_program(true);
}

/* Instructions that are known in order to be refused. */
static void cover_refused(void)
{
	for (enum ub_op op = 1; op < UB_NR_OPS; op++) {
		const struct ub_op_info *info = &ub_isa_ops[op];
		struct bpf_insn insns[] = {
			{ info->code, 0, 0, 0, 0 },
			{ 0 },
			{ BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0 },
			{ BPF_JMP | BPF_EXIT },
		};
		struct ub_program *program = NULL;
		struct ub_code code;
		struct ub_run run = { 0 };
		u64 result;
		bool refused;

		if (info->form != UB_FORM_PACKET && info->form != UB_FORM_KFUNC &&
		    op != UB_OP_LD_BTF_ID && op != UB_OP_LD_MAP_IDX && op != UB_OP_LD_MAP_IDX_VALUE)
			continue;
		if (info->form != UB_FORM_LD_IMM64)
			insns[1] = insns[2];
		if (info->form != UB_FORM_PACKET)
			insns[0].src_reg = (u8)info->sub;
		if (ub_program_from_insns(insns, 4, &program, NULL)) {
			seen[op] |= 1;
			continue;
		}
		refused = ub_jit_compile(program, &code, NULL) &&
			  ub_interpret(program, NULL, 0, &run, NULL, &result, NULL);
		ub_program_free(program);
		if (refused) {
			seen[op] |= 1;
			continue;
		}
		printf("FAIL %s is not refused\n", info->name);
		nr_failed++;
	}
	/* Covered where there are maps: tests/vm/maps. */
	seen[UB_OP_LD_MAP_FD] |= 1;
	seen[UB_OP_LD_MAP_VALUE] |= 1;
}

static u32 print_missing(const char *where, const u64 *table)
{
	u32 nr = 0;

	for (enum ub_op op = 1; op < UB_NR_OPS; op++) {
		u64 missing = classes_wanted(op) & ~table[op];

		for (u32 class = 0; class < NR_CLASSES; class ++) {
			if (!(missing & 1ull << class))
				continue;
			printf("not covered %s: %s with %s\n", where, ub_isa_ops[op].name,
			       class_names[class]);
			nr++;
		}
	}
	return nr;
}

int main(void)
{
	u32 nr_missing;

	cover_refused();
	if (vm_kernel_available())
		memcpy(seen_in_kernel, seen, sizeof(seen));
	for (enum ub_op op = 1; op < UB_NR_OPS; op++)
		cover(op);
	cover_control();
	nr_missing = print_missing("by interpreter and jit", seen);
	if (vm_kernel_available()) {
		/* The one that would compare an address: see cover_accesses(). */
		seen_in_kernel[UB_OP_CMPXCHG32] |= 1;
		seen_in_kernel[UB_OP_CMPXCHG64] |= 1;
		nr_missing += print_missing("by the kernel", seen_in_kernel);
	}
	printf("%u instructions, %u programs, %u refused by the kernel%s: %u failed, %u not covered\n",
	       UB_NR_OPS - 1, nr_programs, nr_refused,
	       vm_kernel_available() ? "" : " (not asked: not allowed here)", nr_failed,
	       nr_missing);
	return nr_failed || nr_missing;
}
