// SPDX-License-Identifier: MIT
#include "harness.h"

#include <errno.h>
#include <linux/btf.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <helper/helper.h>
#include <interpreter/interpreter.h>
#include <jit/jit.h>
#include <jit/x86_64/compile.h>

const char *const vm_engine_names[VM_NR_ENGINES] = { "interpreter", "jit", "jit without bmi2",
						     "kernel" };

static u64 helper_ktime(u64 r1, u64 r2, u64 r3, u64 r4, u64 r5, void *run)
{
	return 1;
}

/* The real helpers, but for one whose results nobody could compare. */
static const ub_helper_fn *test_helpers(void)
{
	static ub_helper_fn helpers[UB_MAX_HELPER];

	if (helpers[BPF_FUNC_ktime_get_ns])
		return helpers;
	for (u32 id = 0; id < UB_MAX_HELPER; id++) {
		const struct ub_helper *helper = ub_helper_by_id(id);

		helpers[id] = helper ? helper->fn : NULL;
	}
	helpers[BPF_FUNC_ktime_get_ns] = helper_ktime;
	return helpers;
}

struct vm_loaded {
	enum vm_engine engine;
	struct ub_program *program; /* interpreter */
	struct ub_interpret_target target;
	struct ub_jitted *jitted;
	int fd; /* kernel */
};

static int make_program(const struct bpf_insn *insns, u32 nr, const struct vm_case *test, u32 shift,
			struct ub_program **out, struct ub_reason *why)
{
	struct ub_program *program;
	int err;

	err = ub_program_from_insns(insns, nr, &program, why);
	if (err)
		return err;
	for (u32 i = 0; test->stack_depth && i < program->nr_subprogs; i++)
		program->subprogs[i].stack_depth = test->stack_depth;
	if (test->has_maps) {
		program->nr_maps = VM_NR_MAPS;
		memcpy(program->maps, vm_map_attrs, sizeof(vm_map_attrs));
	}
	if (test->has_flags) {
		program->aux = calloc(nr, sizeof(*program->aux));
		for (u32 pc = 0; program->aux && pc < test->nr; pc++)
			program->aux[pc + shift].flags = test->flags[pc];
	}
	*out = program;
	return 0;
}

static int load_jit(const struct vm_case *test, bool bmi2, struct vm_loaded *loaded,
		    struct ub_reason *why)
{
	_cleanup_free_ struct bpf_insn *insns = calloc(test->nr + 2, sizeof(*insns));
	struct ub_program *program;
	struct ub_code code;
	int err;

	if (!insns)
		return -ENOMEM;
	/* Compiled programs get r1 only: the length comes as a constant. */
	insns[0] = (struct bpf_insn) {
		.code = BPF_LD | BPF_IMM | BPF_DW,
		.dst_reg = 2,
		.imm = (s32)test->memory_size,
	};
	memcpy(insns + 2, test->insns, test->nr * sizeof(*insns));
	err = make_program(insns, test->nr + 2, test, 2, &program, why);
	if (err)
		return err;
	err = jit_compile_x86_64(program, bmi2, &code, why);
	ub_program_free(program);
	if (err)
		return err;
	err = ub_jitted_create(&code, (const u64 *)test_helpers(),
			       test->has_maps ? vm_maps(loaded->engine) : NULL, &loaded->jitted,
			       why);
	ub_code_free(&code);
	return err;
}

static int sys_bpf(int cmd, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

/* The map that memory and result travel in: result at 0, memory at 16. */
static int kernel_map(void)
{
	static int fd = -2;

	if (fd == -2) {
		union bpf_attr attr = {
			.map_type = BPF_MAP_TYPE_ARRAY,
			.key_size = 4,
			.value_size = 16 + HARNESS_MAX_MEMORY,
			.max_entries = 1,
		};

		fd = sys_bpf(BPF_MAP_CREATE, &attr);
	}
	return fd;
}

bool vm_kernel_available(void)
{
	return !geteuid() && kernel_map() >= 0;
}

/*
 * main: r6 = the map's value; r1 = its memory, r2 = length; call the case; value[0] = r0; return 0.
 * The kernel gives only 32 bits of a result. The target of a tail call returns r0 instead, to the
 * case that made it. r3 = the context.
 */
static u32 wrap(const struct vm_case *test, struct bpf_insn *insns)
{
	struct bpf_insn head[] = {
		{ BPF_ALU64 | BPF_MOV | BPF_X, 7, 1, 0, 0 },
		{ BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, 0, kernel_map() },
		{ 0 },
		{ BPF_ALU64 | BPF_MOV | BPF_X, 2, 10, 0, 0 },
		{ BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -8 },
		{ BPF_ST | BPF_MEM | BPF_DW, 10, 0, -8, 0 },
		{ BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem },
		{ BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 7, 0 },
		{ BPF_ALU64 | BPF_MOV | BPF_X, 6, 0, 0, 0 },
		{ BPF_ALU64 | BPF_MOV | BPF_X, 1, 0, 0, 0 },
		{ BPF_ALU64 | BPF_ADD | BPF_K, 1, 0, 0, 16 },
		{ BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, (s32)test->memory_size },
		{ BPF_ALU64 | BPF_MOV | BPF_X, 3, 7, 0, 0 },
		{ BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 3 },
		{ BPF_STX | BPF_MEM | BPF_DW, 6, 0, 0, 0 },
		{ BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0 },
		{ BPF_JMP | BPF_EXIT },
	};

	if (test->is_target) {
		const struct bpf_insn nothing = { BPF_JMP | BPF_JA };

		head[ub_array_size(head) - 3] = nothing;
		head[ub_array_size(head) - 2] = nothing;
	}
	memcpy(insns, head, sizeof(head));
	memcpy(insns + ub_array_size(head), test->insns, test->nr * sizeof(*insns));
	if (test->has_tail_calls)
		insns[ub_array_size(head)].src_reg = 3;
	return ub_array_size(head) + test->nr;
}

/* Linux 6.18 does not survive the freeing of very many programs at once. */
static void let_kernel_breathe(void)
{
	static u32 loads;

	if (++loads % 64 == 0)
		syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

/* The interesting line of a verifier log: the one before the statistics. */
static void last_line(char *log, struct ub_reason *why)
{
	char *stats = strstr(log, "processed "), *end = stats ? stats : log + strlen(log), *start;

	while (end > log && end[-1] == '\n')
		end--;
	*end = 0;
	start = strrchr(log, '\n');
	ub_reason_set(why, 0, "%s", start ? start + 1 : log);
}

/* A type for every function, which the kernel wants where functions are passed to helpers. */
static int function_btf(void)
{
	static const struct {
		struct btf_header header;
		struct {
			struct btf_type type;
			u32 encoding;
		} integer;
		struct btf_type prototype, function;
		char strings[8];
	} data = {
		.header = {
			.magic = BTF_MAGIC,
			.version = BTF_VERSION,
			.hdr_len = sizeof(data.header),
			.type_len = sizeof(data.integer) + 2 * sizeof(struct btf_type),
			.str_off = sizeof(data.integer) + 2 * sizeof(struct btf_type),
			.str_len = sizeof(data.strings),
		},
		.integer = { { .name_off = 1, .info = BTF_KIND_INT << 24, .size = 8 }, 64 },
		.prototype = { .info = BTF_KIND_FUNC_PROTO << 24, .type = 1 },
		.function = { .name_off = 6, .info = BTF_KIND_FUNC << 24, .type = 2 },
		.strings = "\0long\0f",
	};
	static int fd = -2;
	union bpf_attr attr = { .btf = (u64)&data, .btf_size = sizeof(data) };

	if (fd == -2)
		fd = sys_bpf(BPF_BTF_LOAD, &attr);
	return fd;
}

/* Describes the functions of a program that has callbacks or makes tail calls; how many there are.
 */
static u32 describe_functions(const struct bpf_insn *insns, u32 nr, struct bpf_func_info *info)
{
	struct ub_program *program;
	u32 nr_functions = 0;

	if (ub_program_from_insns(insns, nr, &program, NULL))
		return 0;
	for (u32 i = 0; i < program->nr_subprogs; i++) {
		info[i] = (struct bpf_func_info) { program->subprogs[i].start, 3 };
		if (program->subprogs[i].is_callback || program->uses_tail_call)
			nr_functions = program->nr_subprogs;
	}
	ub_program_free(program);
	return nr_functions;
}

static int kernel_load(const struct bpf_insn *insns, u32 nr, struct ub_reason *why)
{
	static char log[1 << 20];
	struct bpf_func_info info[UB_MAX_SUBPROGS];
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
		.insns = (u64)insns,
		.insn_cnt = nr,
		.license = (u64) "GPL",
	};
	int fd;

	attr.func_info_cnt = describe_functions(insns, nr, info);
	if (attr.func_info_cnt) {
		attr.prog_btf_fd = function_btf();
		attr.func_info = (u64)info;
		attr.func_info_rec_size = sizeof(info[0]);
	}
	let_kernel_breathe();
	fd = sys_bpf(BPF_PROG_LOAD, &attr);
	if (fd >= 0)
		return fd;
	if (errno == E2BIG) /* after a million instructions: not once more, for the log */
		return ub_reason_set(why, -E2BIG, "it has too many ways through it");
	log[0] = 0;
	attr.log_buf = (u64)log;
	attr.log_size = sizeof(log);
	attr.log_level = 1;
	fd = sys_bpf(BPF_PROG_LOAD, &attr);
	if (fd >= 0)
		return fd;
	fd = -errno;
	last_line(log, why);
	return fd;
}

static int load_kernel(const struct vm_case *test, struct vm_loaded *loaded, struct ub_reason *why)
{
	_cleanup_free_ struct bpf_insn *insns = calloc(test->nr + 32, sizeof(*insns));

	u32 nr;

	if (!insns)
		return -ENOMEM;
	nr = wrap(test, insns);
	for (u32 pc = nr - test->nr; pc < nr; pc++) {
		if (insns[pc].code != (BPF_LD | BPF_IMM | BPF_DW))
			continue;
		if (insns[pc].src_reg == BPF_PSEUDO_MAP_FD ||
		    insns[pc].src_reg == BPF_PSEUDO_MAP_VALUE)
			insns[pc].imm = vm_map_fd((u32)insns[pc].imm);
		pc++;
	}
	loaded->fd = kernel_load(insns, nr, why);
	return loaded->fd < 0 ? loaded->fd : 0;
}

static int run_kernel(int fd, struct vm_outcome *out, struct ub_reason *why)
{
	static u8 value[16 + HARNESS_MAX_MEMORY];
	u8 packet[64] = { 0 };
	u32 key = 0;
	union bpf_attr attr = { .map_fd = kernel_map(), .key = (u64)&key, .value = (u64)value };

	memcpy(value + 16, out->memory, HARNESS_MAX_MEMORY);
	if (sys_bpf(BPF_MAP_UPDATE_ELEM, &attr))
		return -errno;
	attr = (union bpf_attr) { 0 };
	attr.test.prog_fd = fd;
	attr.test.data_in = (u64)packet;
	attr.test.data_size_in = sizeof(packet);
	if (sys_bpf(BPF_PROG_TEST_RUN, &attr))
		return ub_reason_set(why, -errno, "BPF_PROG_TEST_RUN: %s", strerror(errno));
	attr = (union bpf_attr) { .map_fd = kernel_map(), .key = (u64)&key, .value = (u64)value };
	if (sys_bpf(BPF_MAP_LOOKUP_ELEM, &attr))
		return -errno;
	memcpy(&out->r0, value, 8);
	memcpy(out->memory, value + 16, HARNESS_MAX_MEMORY);
	return 0;
}

int vm_load(enum vm_engine engine, const struct vm_case *test, struct vm_loaded **out,
	    struct ub_reason *why)
{
	struct vm_loaded *loaded = calloc(1, sizeof(*loaded));
	int err;

	if (!loaded)
		return -ENOMEM;
	why->text[0] = 0;
	loaded->engine = engine;
	loaded->fd = -1;
	switch (engine) {
	case VM_INTERPRETER:
		err = make_program(test->insns, test->nr, test, 0, &loaded->program, why);
		break;
	case VM_JIT:
		err = load_jit(test, true, loaded, why);
		break;
	case VM_JIT_PLAIN:
		err = load_jit(test, false, loaded, why);
		break;
	default:
		err = load_kernel(test, loaded, why);
		break;
	}
	if (err) {
		free(loaded);
		return err;
	}
	*out = loaded;
	return 0;
}

int vm_execute(struct vm_loaded *loaded, const struct vm_case *test, struct vm_outcome *out,
	       struct ub_reason *why)
{
	struct ub_run run = {
		.cpu = UB_CPU_UNKNOWN,
		.ctx = out->memory,
		.process = vm_process(),
		.maps = test->has_maps && loaded->engine != VM_KERNEL ? vm_maps(loaded->engine)
								      : NULL,
	};
	struct ub_interpret_options options = {
		.check = true,
		.helpers = test_helpers(),
		/* With and without something to do before each instruction. */
		.max_insns = test->nr & 1 ? 1u << 26 : 0,
	};

	out->r0 = 0;
	if (loaded->engine == VM_KERNEL)
		return run_kernel(loaded->fd, out, why);
	if (loaded->engine == VM_INTERPRETER)
		return ub_interpret(loaded->program, out->memory, test->memory_size, &run, &options,
				    &out->r0, why);
	out->r0 = ub_jitted_run(loaded->jitted, out->memory, &run);
	return 0;
}

int vm_set_target(enum vm_engine engine, struct vm_loaded *loaded)
{
	u64 target = 0;
	int err = 0;

	if (loaded && engine == VM_KERNEL) {
		target = (u64)loaded->fd;
	} else if (loaded && engine == VM_INTERPRETER) {
		loaded->target = (struct ub_interpret_target) { loaded->program, vm_maps(engine) };
		target = (u64)&loaded->target;
	} else if (loaded) {
		target = ub_jitted_entry(loaded->jitted);
	}
	for (u32 slot = 0; slot < VM_PROG_SLOTS && !err; slot += 2)
		err = vm_set_slot(engine, slot, target);
	return err;
}

void vm_unload(struct vm_loaded *loaded)
{
	if (!loaded)
		return;
	ub_program_free(loaded->program);
	ub_jitted_destroy(loaded->jitted);
	if (loaded->fd >= 0)
		close(loaded->fd);
	free(loaded);
}

int vm_run(enum vm_engine engine, const struct vm_case *test, struct vm_outcome *out,
	   struct ub_reason *why)
{
	struct vm_loaded *loaded;
	int err;

	err = vm_load(engine, test, &loaded, why);
	if (err)
		return err;
	memcpy(out->memory, test->memory, sizeof(out->memory));
	err = vm_execute(loaded, test, out, why);
	vm_unload(loaded);
	return err;
}

bool vm_outcome_differs(const struct vm_case *test, const struct vm_outcome *a,
			const struct vm_outcome *b)
{
	return a->r0 != b->r0 || memcmp(a->memory, b->memory, test->memory_size);
}
