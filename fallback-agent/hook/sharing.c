// SPDX-License-Identifier: MIT
/*
 * Keeping the count of processes that share the target's memory (struct ub_process.vm_sharers).
 *
 * A child made by vfork or posix_spawn runs in its parent's memory, with the parent's thread
 * pointer: what stands there about the thread's id is the parent's. While the count is not zero,
 * helpers ask the kernel; while it is, they may read the id from the thread's control block, which
 * is what makes bpf_get_current_pid_tgid() cheap.
 *
 * libc makes such children by three system calls, each of them written
 *
 *	mov $number,%eax; syscall		  7 bytes
 *
 * which run from a copy that counts up before and, in the parent, down afterwards: vfork always,
 * clone and clone3 by their flags. The parent of a vfork goes on only when its child is gone or has
 * executed something else. rcx, r11 and the flags are the system call's to overwrite, so nothing
 * needs to be saved.
 *
 * Where that can't be done (no glibc, a probe on these very instructions) no thread pointer is
 * trusted.
 */
#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include <agent/layout.h>
#include <hook/flow.h>
#include <hook/image_build.h>

#define SITE_LEN   7
#define FLAGS_MASK (CLONE_VM | CLONE_THREAD)

static u32 number_at(const u8 *bytes)
{
	u32 number;

	if (bytes[0] != 0xb8 || bytes[5] != 0x0f || bytes[6] != 0x05)
		return 0;
	memcpy(&number, bytes + 1, sizeof(number));
	return number == SYS_vfork || number == SYS_clone || number == SYS_clone3 ? number : 0;
}

/* Who makes a record signs it with its thread id, too. */
static bool asks_who(const struct ub_program *program)
{
	for (u32 i = 0; i < program->nr_insns; i++) {
		const struct bpf_insn *insn = &program->insns[i];

		if (insn->code != (BPF_JMP | BPF_CALL) || insn->src_reg)
			continue;
		switch (insn->imm) {
		case BPF_FUNC_get_current_pid_tgid:
		case BPF_FUNC_get_ns_current_pid_tgid:
		case BPF_FUNC_perf_event_output:
		case BPF_FUNC_ringbuf_output:
		case BPF_FUNC_ringbuf_reserve:
		case BPF_FUNC_ringbuf_reserve_dynptr:
			return true;
		}
	}
	return false;
}

bool ub_sharing_wanted(const struct ub_image_request *request)
{
	for (u32 i = 0; i < request->nr_links; i++)
		if (asks_who(request->links[i].program))
			return true;
	for (u32 i = 0; i < request->nr_callees; i++)
		if (asks_who(request->callees[i].program))
			return true;
	return false;
}

/* Whether a window of a probe comes near. */
static bool is_taken(const struct ub_image_file *file, u64 address)
{
	for (u32 i = 0; i < file->plan.nr_windows; i++) {
		const struct ub_plan_window *window = &file->plan.windows[i];

		if (window->address < address + SITE_LEN &&
		    window->address + window->len + 5 > address)
			return true;
	}
	return false;
}

int ub_sharing_find(struct ub_image_build *build, struct ub_image_file *file)
{
	struct ub_elf *elf = file->modules[0].elf;

	for (u32 s = 0; s < elf->nr_segments; s++) {
		const struct ub_elf_segment *segment = &elf->segments[s];
		const u8 *at = segment->bytes;

		if (!segment->executable || segment->size < SITE_LEN)
			continue;
		while (true) {
			const u8 *end = segment->bytes + segment->size;
			struct ub_elf_function *function;
			u64 address;

			at = memmem(at, (size_t)(end - at), "\x0f\x05", 2);
			if (!at)
				break;
			at += 2;
			if (at - segment->bytes < SITE_LEN || !number_at(at - SITE_LEN))
				continue;
			address = segment->address + (u64)(at - SITE_LEN - segment->bytes);
			function = ub_elf_function_at(elf, address);
			/* It may end before its call: glibc's clones have no unwind information from there on. */
			if (!function)
				return -EOPNOTSUPP;
			ub_flow_scan(elf, function);
			for (u32 i = 1; i < SITE_LEN; i++)
				if (ub_elf_is_target(elf, address + i))
					return -EOPNOTSUPP;
			if (is_taken(file, address) || build->nr_sharing == UB_MAX_SHARING)
				return -EOPNOTSUPP;
			build->sharing[build->nr_sharing++] = address;
		}
	}
	build->sharing_file = (u32)(file - build->files);
	return build->nr_sharing ? 0 : -ENOENT;
}

/* rcx = data; jumps out unless this is the process the image was made for and the call makes a
 * sharer. */
static u32 emit_condition(struct ub_emit *emit, u64 data, u32 number, u32 *out)
{
	static const u8 flags_clone[] = { 0x41, 0x89, 0xfb };  /* mov %edi,%r11d */
	static const u8 flags_clone3[] = { 0x44, 0x8b, 0x1f }; /* mov (%rdi),%r11d */
	static const u8 and[] = { 0x41, 0x81, 0xe3 };	       /* and $..,%r11d */
	static const u8 cmp[] = { 0x41, 0x81, 0xfb };	       /* cmp $..,%r11d */
	u32 nr = 0;

	ub_emit_set(emit, UB_RCX, data);
	ub_emit_cmp32_mem_imm8(emit, UB_RCX, UB_DATA_FORK, 0);
	out[nr++] = ub_emit_jcc_forward(emit, UB_CC_Z);
	if (number == SYS_vfork)
		return nr;
	ub_emit_bytes(emit, number == SYS_clone ? flags_clone : flags_clone3, 3);
	ub_emit_bytes(emit, and, sizeof(and));
	ub_emit_u32(emit, FLAGS_MASK);
	ub_emit_bytes(emit, cmp, sizeof(cmp));
	ub_emit_u32(emit, CLONE_VM);
	out[nr++] = ub_emit_jcc_forward(emit, UB_CC_NZ);
	return nr;
}

static void emit_count(struct ub_emit *emit, bool up)
{
	const u8 op[] = { 0xf0, 0xff, up ? 0x81 : 0x89 }; /* lock incl/decl disp32(%rcx) */

	ub_emit_bytes(emit, op, sizeof(op));
	ub_emit_u32(emit, offsetof(struct ub_process, vm_sharers));
}

void ub_sharing_emit(struct ub_emit *emit, u64 data, const u8 *bytes, u64 back, u64 *syscall_at,
		     u64 *back_at)
{
	static const u8 test_rax[] = { 0x48, 0x85, 0xc0 };
	static const u8 flags_clone[] = { 0x41, 0x89, 0xfb };
	static const u8 flags_clone3[] = { 0x44, 0x8b, 0x1f };
	static const u8 test_vfork[] = { 0x41, 0xf7, 0xc3 }; /* test $..,%r11d */
	const u32 number = number_at(bytes);
	u32 out[4], nr, vfork = 0;

	nr = emit_condition(emit, data, number, out);
	emit_count(emit, true);
	for (u32 i = 0; i < nr; i++)
		ub_emit_land(emit, out[i]);
	ub_emit_bytes(emit, bytes, 5);
	*syscall_at = ub_emit_here(emit);
	ub_emit_bytes(emit, bytes + 5, 2);

	ub_emit_bytes(emit, test_rax, sizeof(test_rax));
	out[0] = ub_emit_jcc_forward(emit, UB_CC_Z); /* the child */
	nr = 1 + emit_condition(emit, data, number, out + 1);
	if (number != SYS_vfork) {
		/* Without CLONE_VFORK the child lives on, unless it was never born. */
		ub_emit_bytes(emit, number == SYS_clone ? flags_clone : flags_clone3, 3);
		ub_emit_bytes(emit, test_vfork, sizeof(test_vfork));
		ub_emit_u32(emit, CLONE_VFORK);
		vfork = ub_emit_jcc_forward(emit, UB_CC_NZ);
		ub_emit_bytes(emit, test_rax, sizeof(test_rax));
		out[nr++] = ub_emit_jcc_forward(emit, UB_CC_NS);
		ub_emit_land(emit, vfork);
	}
	emit_count(emit, false);
	for (u32 i = 0; i < nr; i++)
		ub_emit_land(emit, out[i]);
	*back_at = ub_emit_here(emit);
	ub_emit_jmp(emit, back);
}
