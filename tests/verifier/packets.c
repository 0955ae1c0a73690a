/* SPDX-License-Identifier: MIT */
/*
 * What network programs get out of a packet: loads of classic BPF, also from offsets that name a
 * header, and the helpers of helper/packet.c. Each program is run here, and by BPF_PROG_TEST_RUN
 * where the kernel lets us: same return value.
 *   verifier_packets
 */
#include <errno.h>
#include <linux/filter.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <helper/helper.h>
#include <interpreter/interpreter.h>
#include <program/context.h>
#include <verifier/verifier.h>

#define PACKET	 64
#define ETH_HLEN 14

#define INSN(c, d, s, o, i)                                                                        \
	((struct bpf_insn) { .code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i) })
#define MOV(d, i)	INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define COPY(d, s)	INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define ADD(d, i)	INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, i)
#define STORE(o, i)	INSN(BPF_ST | BPF_MEM | BPF_DW, 10, 0, o, i)
#define LOAD(d, o)	INSN(BPF_LDX | BPF_MEM | BPF_W, d, 10, o, 0)
#define ABS(size, i)	INSN(BPF_LD | BPF_ABS | (size), 0, 0, 0, i)
#define IND(size, s, i) INSN(BPF_LD | BPF_IND | (size), 0, s, 0, i)
#define CALL(id)	INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_##id)
#define EXIT		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
#define FILTER(...)                                                                                \
	{                                                                                          \
		BPF_PROG_TYPE_SOCKET_FILTER,                                                       \
		{                                                                                  \
			COPY(6, 1), __VA_ARGS__, EXIT                                              \
		}                                                                                  \
	}
#define CLASSIFIER(...)                                                                            \
	{                                                                                          \
		BPF_PROG_TYPE_SCHED_CLS,                                                           \
		{                                                                                  \
			COPY(6, 1), __VA_ARGS__, EXIT                                              \
		}                                                                                  \
	}
#define ON_STACK(reg, o) COPY(reg, 10), ADD(reg, o)
#define DIFF(from, to, seed)                                                                       \
	STORE(-8, 0x12345678), STORE(-16, 0x7eadbeef), ON_STACK(1, -8), MOV(2, from),              \
		ON_STACK(3, -16), MOV(4, to), MOV(5, seed), CALL(csum_diff)
#define READ(offset, size)                                                                         \
	STORE(-8, -1), MOV(2, offset), ON_STACK(3, -8), MOV(4, size), CALL(skb_load_bytes)
#define READ_FROM(header, offset, size)                                                            \
	STORE(-8, -1), MOV(2, offset), ON_STACK(3, -8), MOV(4, size), MOV(5, header),              \
		CALL(skb_load_bytes_relative)
#define WRITE(offset, size, flags)                                                                 \
	STORE(-8, 0x61626364), MOV(2, offset), ON_STACK(3, -8), MOV(4, size), MOV(5, flags),       \
		CALL(skb_store_bytes)

static const struct {
	enum bpf_prog_type type;
	struct bpf_insn insns[24];
} programs[] = {
	FILTER(ABS(BPF_B, 0)),
	FILTER(ABS(BPF_H, 1)),
	FILTER(ABS(BPF_W, PACKET - ETH_HLEN - 4)),
	FILTER(ABS(BPF_W, PACKET - ETH_HLEN - 3)),
	FILTER(ABS(BPF_H, SKF_NET_OFF + 2)),
	FILTER(ABS(BPF_W, SKF_LL_OFF)),
	FILTER(ABS(BPF_W, SKF_LL_OFF + PACKET - 4)),
	FILTER(ABS(BPF_W, SKF_LL_OFF + PACKET - 3)),
	FILTER(MOV(7, 5), IND(BPF_H, 7, 3)),
	FILTER(MOV(7, -2), IND(BPF_H, 7, 3)),
	FILTER(MOV(7, 2), IND(BPF_H, 7, SKF_NET_OFF)),
	FILTER(MOV(7, 2), IND(BPF_B, 7, SKF_LL_OFF)),
	FILTER(MOV(7, 1), IND(BPF_B, 7, SKF_LL_OFF), COPY(0, 7)),
	FILTER(MOV(7, -1), IND(BPF_B, 7, SKF_NET_OFF), MOV(0, 9)),
	FILTER(MOV(7, 0x7fffffff), IND(BPF_B, 7, 0x7fffffff), MOV(0, 9)),
	FILTER(MOV(7, 0x7fffffff), IND(BPF_B, 7, 1), MOV(0, 9)),
	CLASSIFIER(ABS(BPF_W, 0)),
	CLASSIFIER(ABS(BPF_W, SKF_NET_OFF)),
	CLASSIFIER(ABS(BPF_W, SKF_LL_OFF + 1)),
	FILTER(READ(0, 4), LOAD(0, -8)),
	FILTER(READ(PACKET - ETH_HLEN - 4, 4), LOAD(0, -8)),
	FILTER(READ(PACKET - ETH_HLEN - 3, 4)),
	FILTER(READ(PACKET - ETH_HLEN - 3, 4), LOAD(0, -8)),
	FILTER(READ(-1, 4)),
	FILTER(READ_FROM(BPF_HDR_START_MAC, 2, 4), LOAD(0, -8)),
	FILTER(READ_FROM(BPF_HDR_START_NET, 2, 4), LOAD(0, -8)),
	FILTER(READ_FROM(BPF_HDR_START_NET, PACKET - ETH_HLEN - 3, 4)),
	FILTER(READ_FROM(BPF_HDR_START_MAC, 0x10000, 4)),
	FILTER(READ_FROM(2, 0, 4)),
	CLASSIFIER(WRITE(3, 4, 0)),
	CLASSIFIER(WRITE(3, 4, 0), ABS(BPF_W, 2)),
	CLASSIFIER(WRITE(PACKET - 3, 4, 0)),
	CLASSIFIER(WRITE(0, 4, 4)),
	CLASSIFIER(WRITE(0, 4, BPF_F_RECOMPUTE_CSUM)),
	CLASSIFIER(MOV(2, 7), CALL(csum_update)),
	CLASSIFIER(DIFF(0, 8, 0)),
	CLASSIFIER(DIFF(8, 0, 0)),
	CLASSIFIER(DIFF(8, 8, 0)),
	CLASSIFIER(DIFF(4, 8, 0x12345678)),
	CLASSIFIER(DIFF(8, 4, -1)),
	CLASSIFIER(DIFF(0, 0, 0x12345678)),
	CLASSIFIER(DIFF(4, 0, -1)),
	CLASSIFIER(DIFF(0, 4, -2)),
};

static u8 packet[PACKET];
static ub_helper_fn helpers[UB_MAX_HELPER];

static int count(const struct bpf_insn *insns)
{
	int n = 24;

	while (!insns[n - 1].code)
		n--;
	return n;
}

static int run_here(enum bpf_prog_type type, const struct bpf_insn *insns, u32 *result)
{
	struct {
		struct ub_skb_context skb;
		u8 packet[PACKET];
	} ctx = { 0 };
	const u32 skip = type == BPF_PROG_TYPE_SCHED_CLS ? 0 : ETH_HLEN;
	struct ub_verify_request req = { .type = type,
					 .name = "packet",
					 .license = "GPL",
					 .insns = insns,
					 .nr_insns = count(insns),
					 .privileged = true };
	const struct ub_memory memory = { (u64)ctx.packet, PACKET, true };
	const struct ub_interpret_options options = {
		.check = true, .memory = &memory, .nr_memory = 1, .helpers = helpers
	};
	struct ub_process process = { .size = sizeof(process), .nr_cpus = 1 };
	struct ub_run run = { .ctx = &ctx, .process = &process };
	struct ub_program *program = NULL;
	void *used[UB_MAX_USED_MAPS];
	struct ub_reason why = { 0 };
	u64 value = 0;
	int err;

	memcpy(ctx.packet, packet, PACKET);
	ctx.skb.skb.len = PACKET - skip;
	ctx.skb.pointers.mac = (u64)ctx.packet;
	ctx.skb.pointers.data = ctx.skb.pointers.data_meta = (u64)ctx.packet + skip;
	ctx.skb.pointers.data_end = (u64)ctx.packet + PACKET;
	err = ub_verify(&req, &program, used, &why);
	err = err ?: ub_interpret(program, &ctx, sizeof(ctx.skb), &run, &options, &value, &why);
	ub_program_free(program);
	if (err)
		printf("%s\n", why.text);
	*result = (u32)value;
	return err;
}

static long sys_bpf(int cmd, union bpf_attr *a)
{
	return syscall(__NR_bpf, cmd, a, sizeof(*a)) < 0 ? -errno : 0;
}

/* 1: not to be had here. */
static int run_there(enum bpf_prog_type type, const struct bpf_insn *insns, u32 *result)
{
	union bpf_attr a = { .prog_type = type,
			     .insns = (u64)insns,
			     .insn_cnt = count(insns),
			     .license = (u64) "GPL" };
	int fd = syscall(__NR_bpf, BPF_PROG_LOAD, &a, sizeof(a)), err;

	if (fd < 0)
		return errno == EPERM || errno == ENOSYS ? 1 : -errno;
	memset(&a, 0, sizeof(a));
	a.test.prog_fd = fd;
	a.test.data_in = (u64)packet;
	a.test.data_size_in = PACKET;
	err = (int)sys_bpf(BPF_PROG_TEST_RUN, &a);
	close(fd);
	*result = a.test.retval;
	return err;
}

int main(void)
{
	u32 compared = 0, failed = 0;

	for (u32 i = 0; i < UB_MAX_HELPER; i++)
		helpers[i] = ub_helper_by_id(i) ? ub_helper_by_id(i)->fn : NULL;
	for (u32 i = 0; i < PACKET; i++)
		packet[i] = (u8)(i * 37 + 11);
	for (u32 i = 0; i < ub_array_size(programs); i++) {
		u32 ours = 0, theirs = 0;
		int err = run_here(programs[i].type, programs[i].insns, &ours);
		int there = err ? 1 : run_there(programs[i].type, programs[i].insns, &theirs);

		compared += !there;
		if (err || there < 0 || (!there && ours != theirs)) {
			printf("program %u: %d, 0x%x here, %d, 0x%x in the kernel\n", i, err, ours,
			       there, theirs);
			failed++;
		}
	}
	printf("%zu programs, %u compared with the kernel, %u failed\n", ub_array_size(programs),
	       compared, failed);
	return failed ? 1 : 0;
}
