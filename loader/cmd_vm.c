// SPDX-License-Identifier: MIT
/*
 * ubpf-run vm: runs one bare program, given as bytes, in the VM. For conformance suites, for
 * looking at compiled code, and for trying things. Nobody verifies the program: the interpreter
 * checks every access instead, and everything runs in a child that may crash.
 */
#include <argp.h>
#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <gelf.h>
#include <libelf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <common/reason.h>
#include <helper/helper.h>
#include <interpreter/interpreter.h>
#include <isa/isa.h>
#include <jit/dump.h>
#include <jit/jit.h>

#include "commands.h"

#define MAX_STDIN (64u << 20)

/* Relocation types of clang's BPF objects. */
#define R_BPF_64_64 1
#define R_BPF_64_32 10

struct arguments {
	bool jit, elf, dump, disassemble;
	const char *memory;
};

struct buffer {
	u8 *data;
	size_t size;
};

static int read_stdin(struct buffer *text)
{
	size_t capacity = 0;

	for (;;) {
		size_t got;

		if (text->size + 1 >= capacity) {
			u8 *grown;

			capacity = capacity ? 2 * capacity : 64 << 10;
			if (capacity > MAX_STDIN)
				return -EFBIG;
			grown = realloc(text->data, capacity);
			if (!grown)
				return -ENOMEM;
			text->data = grown;
		}
		got = fread(text->data + text->size, 1, capacity - text->size - 1, stdin);
		if (!got)
			break;
		text->size += got;
	}
	text->data[text->size] = 0;
	return ferror(stdin) ? -EIO : 0;
}

static int hex_digit(int c)
{
	if (isdigit(c))
		return c - '0';
	c = tolower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Hex bytes with or without blanks between them, in place. */
static int parse_hex(const char *text, size_t length, u8 *out, size_t *size, struct ub_reason *why)
{
	size_t nr = 0;
	int high = -1;

	for (const char *p = text; p < text + length; p++) {
		int digit = hex_digit((unsigned char)*p);

		if (isspace((unsigned char)*p))
			continue;
		if (digit < 0)
			return ub_reason_set(why, -EINVAL,
					     isprint((unsigned char)*p)
						     ? "not a hex digit: '%c'"
						     : "not a hex digit: \\x%02x",
					     (unsigned char)*p);
		if (high < 0) {
			high = digit;
			continue;
		}
		out[nr++] = high << 4 | digit;
		high = -1;
	}
	if (high >= 0)
		return ub_reason_set(why, -EINVAL, "an odd number of hex digits");
	*size = nr;
	return 0;
}

/* The section with the program: .text, else the first other one with code in it. */
static Elf_Scn *find_code(Elf *elf)
{
	Elf_Scn *section = NULL, *first = NULL;
	size_t strings;

	if (elf_getshdrstrndx(elf, &strings))
		return NULL;
	while ((section = elf_nextscn(elf, section))) {
		GElf_Shdr header;
		const char *name;

		if (!gelf_getshdr(section, &header) || header.sh_type != SHT_PROGBITS ||
		    !(header.sh_flags & SHF_EXECINSTR) || !header.sh_size)
			continue;
		name = elf_strptr(elf, strings, header.sh_name);
		if (name && !strcmp(name, ".text"))
			return section;
		if (!first)
			first = section;
	}
	return first;
}

static int relocate_call(struct bpf_insn *insns, u32 nr, const GElf_Rel *rel,
			 const GElf_Sym *symbol, size_t code, struct ub_reason *why)
{
	u64 pc = rel->r_offset / sizeof(*insns);
	s64 target;

	if (GELF_R_TYPE(rel->r_info) != R_BPF_64_32 || symbol->st_shndx != code || pc >= nr)
		return ub_reason_set(
			why, -ENOTSUP,
			"insn %llu refers to a map or to data: a bare program has none "
			"(use ubpf-run run)",
			(unsigned long long)pc);
	/* Against a section, the instruction holds the distance from where it points to - 1. */
	target = symbol->st_value / sizeof(*insns);
	if (GELF_ST_TYPE(symbol->st_info) == STT_SECTION)
		target += (s64)insns[pc].imm + 1;
	insns[pc].imm = (s32)(target - (s64)pc - 1);
	return 0;
}

static int relocate(Elf *elf, size_t code, struct bpf_insn *insns, u32 nr, struct ub_reason *why)
{
	Elf_Scn *section = NULL;

	while ((section = elf_nextscn(elf, section))) {
		GElf_Shdr header;
		Elf_Data *rels, *symbols;

		if (!gelf_getshdr(section, &header) || header.sh_type != SHT_REL ||
		    header.sh_info != code || !header.sh_entsize)
			continue;
		rels = elf_getdata(section, NULL);
		symbols = elf_getdata(elf_getscn(elf, header.sh_link), NULL);
		for (u32 i = 0; rels && symbols && i < header.sh_size / header.sh_entsize; i++) {
			GElf_Rel rel;
			GElf_Sym symbol;
			int err;

			if (!gelf_getrel(rels, i, &rel) ||
			    !gelf_getsym(symbols, GELF_R_SYM(rel.r_info), &symbol))
				return ub_reason_set(why, -EINVAL, "malformed relocation");
			err = relocate_call(insns, nr, &rel, &symbol, code, why);
			if (err)
				return err;
		}
	}
	return 0;
}

/* Where the first global function of section @code starts. */
static u32 find_entry(Elf *elf, size_t code, u32 nr)
{
	Elf_Scn *section = NULL;
	u64 entry = UINT64_MAX;

	while ((section = elf_nextscn(elf, section))) {
		GElf_Shdr header;
		GElf_Sym symbol;
		Elf_Data *data;

		if (!gelf_getshdr(section, &header) || header.sh_type != SHT_SYMTAB ||
		    !header.sh_entsize)
			continue;
		data = elf_getdata(section, NULL);
		for (int i = 0; data && i < (int)(header.sh_size / header.sh_entsize); i++) {
			if (gelf_getsym(data, i, &symbol) && symbol.st_shndx == code &&
			    GELF_ST_TYPE(symbol.st_info) == STT_FUNC &&
			    GELF_ST_BIND(symbol.st_info) == STB_GLOBAL && symbol.st_value < entry)
				entry = symbol.st_value;
		}
	}
	entry /= sizeof(struct bpf_insn);
	return entry < nr ? (u32)entry : 0;
}

static int program_from_elf(u8 *data, size_t size, struct ub_program **out, struct ub_reason *why)
{
	_cleanup_free_ struct bpf_insn *insns = NULL;
	Elf *elf;
	Elf_Scn *section;
	Elf_Data *code;
	u32 nr, entry, head;
	int err;

	elf_version(EV_CURRENT);
	elf = elf_memory((char *)data, size);
	section = elf && elf_kind(elf) == ELF_K_ELF ? find_code(elf) : NULL;
	code = section ? elf_getdata(section, NULL) : NULL;
	if (!code || !code->d_buf || code->d_size % sizeof(*insns)) {
		elf_end(elf);
		return ub_reason_set(why, -EINVAL, "not an ELF object with a program in it");
	}
	nr = (u32)(code->d_size / sizeof(*insns));
	insns = calloc(nr + 2, sizeof(*insns));
	if (!insns) {
		elf_end(elf);
		return -ENOMEM;
	}
	memcpy(insns + 2, code->d_buf, code->d_size);
	err = relocate(elf, elf_ndxscn(section), insns + 2, nr, why);
	entry = find_entry(elf, elf_ndxscn(section), nr);
	elf_end(elf);
	if (err) {
		/* cppcheck-suppress memleak ; insns frees itself */
		return err;
	}
	/* The program starts at instruction 0; where the function doesn't, call it. */
	head = entry ? 0 : 2;
	insns[0] = (struct bpf_insn) {
		.code = BPF_JMP | BPF_CALL,
		.src_reg = BPF_PSEUDO_CALL,
		.imm = (s32)entry + 1,
	};
	insns[1] = (struct bpf_insn) { .code = BPF_JMP | BPF_EXIT };
	return ub_program_from_insns(insns + head, nr + 2 - head, out, why);
}

static int read_program(const struct arguments *args, struct ub_program **out,
			struct ub_reason *why)
{
	struct buffer text = { 0 };
	_cleanup_free_ u8 *data = NULL;
	size_t size = 0;
	int err;

	err = read_stdin(&text);
	data = text.data;
	if (err)
		return ub_reason_set(why, err, "reading the program: %s", strerror(-err));
	err = parse_hex((const char *)data, text.size, data, &size, why);
	if (err)
		return ub_reason_prefix(why, err, "reading the program");
	if (args->elf)
		return program_from_elf(data, size, out, why);
	if (size % sizeof(struct bpf_insn))
		return ub_reason_set(why, -EINVAL,
				     "the program is truncated: %zu bytes, instructions have 8",
				     size);
	return ub_program_from_insns((const struct bpf_insn *)data, size / sizeof(struct bpf_insn),
				     out, why);
}

static void collect_helpers(ub_helper_fn *helpers)
{
	for (u32 id = 0; id < UB_MAX_HELPER; id++) {
		const struct ub_helper *helper = ub_helper_by_id(id);

		helpers[id] = helper ? helper->fn : NULL;
	}
}

/* Compiled code takes r1 only: a constant in front of the program gives r2. */
static int with_r2(const struct ub_program *program, u64 r2, struct ub_program **out,
		   struct ub_reason *why)
{
	_cleanup_free_ struct bpf_insn *insns = calloc(program->nr_insns + 2, sizeof(*insns));

	if (!insns)
		return -ENOMEM;
	insns[0] = (struct bpf_insn) {
		.code = BPF_LD | BPF_IMM | BPF_DW,
		.dst_reg = 2,
		.imm = (s32)r2,
	};
	insns[1].imm = (s32)(r2 >> 32);
	memcpy(insns + 2, program->insns, program->nr_insns * sizeof(*insns));
	return ub_program_from_insns(insns, program->nr_insns + 2, out, why);
}

/* A program that is ready to run: jitted, or to be interpreted. */
struct subject {
	const struct ub_program *program;
	struct ub_jitted *jitted;
	void *memory;
	u64 size;
	struct ub_run *run;
	const ub_helper_fn *helpers;
};

/* What the child that ran it reports. */
struct outcome {
	u64 result;
	int err;
	struct ub_reason why;
};

static void run_subject(const struct subject *subject, struct outcome *outcome)
{
	struct ub_interpret_options options = { .check = true, .helpers = subject->helpers };

	if (subject->jitted)
		outcome->result = ub_jitted_run(subject->jitted, subject->memory, subject->run);
	else
		outcome->err =
			ub_interpret(subject->program, subject->memory, subject->size, subject->run,
				     &options, &outcome->result, &outcome->why);
}

/* Compiled code may do anything, and so may a helper that is given a pointer to anywhere. */
static int run_in_child(const struct subject *subject, u64 *result, struct ub_reason *why)
{
	struct outcome outcome = { 0 };
	int pipe_fds[2], status = 0;
	ssize_t got;
	pid_t pid;

	if (pipe(pipe_fds))
		return ub_reason_set(why, -errno, "pipe: %s", strerror(errno));
	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		close(pipe_fds[0]);
		close(pipe_fds[1]);
		return ub_reason_set(why, -errno, "fork: %s", strerror(errno));
	}
	if (!pid) {
		static const int faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE };

		/* A sanitizer's handlers would make an exit status of it. */
		for (size_t i = 0; i < ub_array_size(faults); i++)
			signal(faults[i], SIG_DFL);
		run_subject(subject, &outcome);
		_exit(write(pipe_fds[1], &outcome, sizeof(outcome)) != sizeof(outcome));
	}
	close(pipe_fds[1]);
	do
		got = read(pipe_fds[0], &outcome, sizeof(outcome));
	while (got < 0 && errno == EINTR);
	close(pipe_fds[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		return ub_reason_set(why, -EFAULT, "the program crashed: %s",
				     strsignal(WTERMSIG(status)));
	if (got != sizeof(outcome))
		return ub_reason_set(why, -EIO, "the program gave no result");
	*result = outcome.result;
	*why = outcome.why;
	return outcome.err;
}

static int dump_jit(const struct ub_program *program, struct ub_reason *why)
{
	struct ub_code code = { 0 };
	int err = ub_jit_compile(program, &code, why);

	if (!err)
		ub_jit_dump(program, &code, stdout);
	ub_code_free(&code);
	return err;
}

static int run_jit(struct subject *subject, u64 *result, struct ub_reason *why)
{
	struct ub_program *program = NULL;
	struct ub_code code = { 0 };
	int err;

	err = with_r2(subject->program, subject->size, &program, why);
	if (!err)
		err = ub_jit_compile(program, &code, why);
	if (!err)
		err = ub_jitted_create(&code, (const u64 *)subject->helpers, NULL, &subject->jitted,
				       why);
	if (!err)
		err = run_in_child(subject, result, why);
	ub_jitted_destroy(subject->jitted);
	ub_code_free(&code);
	ub_program_free(program);
	return err;
}

static void disassemble(const struct ub_program *program)
{
	for (u32 pc = 0; pc < program->nr_insns; pc++) {
		char text[128];

		ub_isa_print(&program->insns[pc], text, sizeof(text));
		printf("%u: %s\n", pc, text);
		pc += program->insns[pc].code == (BPF_LD | BPF_IMM | BPF_DW);
	}
}

static void free_program(struct ub_program **program)
{
	ub_program_free(*program);
}

static int run(const struct arguments *args, struct ub_reason *why)
{
	static ub_helper_fn helpers[UB_MAX_HELPER];
	_cleanup_(free_program) struct ub_program *program = NULL;
	struct ub_process process = {
		.size = sizeof(process),
		.nr_cpus = (u32)sysconf(_SC_NPROCESSORS_CONF),
		.tgid_pid = (u64)getpid(),
		.own_tgid = (u32)getpid(),
		.uid_gid = (u64)getgid() << 32 | getuid(),
		.enabled = 1,
	};
	struct ub_run state = { .process = &process, .cpu = UB_CPU_UNKNOWN };
	struct subject subject = { .run = &state, .helpers = helpers };
	_cleanup_free_ u8 *memory = NULL;
	size_t size = 0;
	u64 result = 0;
	int err;

	if (args->memory) {
		memory = calloc(1, strlen(args->memory) + 16);
		if (!memory)
			return -ENOMEM;
		err = parse_hex(args->memory, strlen(args->memory), memory, &size, why);
		if (err)
			return ub_reason_prefix(why, err, "MEMORY_HEX");
	}
	err = read_program(args, &program, why);
	if (err || !program)
		return err;
	if (args->dump)
		return dump_jit(program, why);
	if (args->disassemble) {
		disassemble(program);
		return 0;
	}
	collect_helpers(helpers);
	state.ctx = size ? memory : NULL;
	subject.program = program;
	subject.memory = state.ctx;
	subject.size = size;
	err = args->jit ? run_jit(&subject, &result, why) : run_in_child(&subject, &result, why);
	if (!err)
		printf("%llx\n", (unsigned long long)result);
	return err;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct arguments *args = state->input;

	switch (key) {
	case 'i':
		args->jit = false;
		return 0;
	case 'J':
		args->jit = true;
		return 0;
	case 'e':
		args->elf = true;
		return 0;
	case 'D':
		args->dump = true;
		return 0;
	case 'd':
		args->disassemble = true;
		return 0;
	case ARGP_KEY_ARG:
		if (args->memory)
			argp_error(state, "only one MEMORY_HEX");
		args->memory = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int cmd_vm(struct ub_options *global, int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "interpret", 'i', NULL, 0,
		  "Run in the interpreter, every access checked (default)", 0 },
		{ "jit", 'J', NULL, 0, "Compile and run", 0 },
		{ "elf", 'e', NULL, 0, "What stands on stdin is an ELF object", 0 },
		{ "dump-jit", 'D', NULL, 0, "Compile and print the code instead of running it", 0 },
		{ "disassemble", 'd', NULL, 0, "Print the instructions instead of running them",
		  0 },
		{ 0 }
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "[MEMORY_HEX]",
		.doc = "Runs the BPF program whose instructions stand on stdin as hex bytes, with r1 = "
		       "MEMORY_HEX's bytes and r2 = their number, and prints r0 in hex.",
	};
	struct arguments args = { 0 };
	struct ub_reason why = { "" };
	int rest, err;

	if (ub_parse(&argp, argc, argv, &args, &rest))
		return UB_EXIT_USAGE;
	err = run(&args, &why);
	if (!err)
		return 0;
	fprintf(stderr, "ubpf-run: vm: %s\n", why.text[0] ? why.text : strerror(-err));
	return UB_EXIT_FAILED;
}
