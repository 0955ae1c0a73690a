/* SPDX-License-Identifier: MIT */
/*
 * The verifier: decides, before a program runs in somebody else's process, that it can do no harm.
 */
#ifndef UB_VERIFIER_VERIFIER_H
#define UB_VERIFIER_VERIFIER_H

#include <program/program.h>

struct btf; /* libbpf's */

/* What a map fd in the program stands for. */
struct ub_verifier_map {
	struct ub_map_attr attr;
	char name[BPF_OBJ_NAME_LEN];	 /* for the log */
	bool frozen;			 /* with BPF_F_RDONLY_PROG: contents are constants */
	const u8 *frozen_values;	 /* this process's address of its values, or NULL */
	const struct ub_map_attr *inner; /* of the template, for maps of maps */
	struct btf *btf;		 /* or NULL */
	u32 btf_value_type_id;		 /* 0 = none */
	void *opaque;			 /* the caller's object: returned in used[] */
};

struct ub_verify_request {
	enum bpf_prog_type type;
	enum bpf_attach_type expected_attach_type;
	const char *name;
	const char *license;	      /* GPL-compatible or not decides which helpers */
	const struct bpf_insn *insns; /* as given to BPF_PROG_LOAD */
	u32 nr_insns;
	u32 prog_flags; /* BPF_F_SLEEPABLE, STRICT_ALIGNMENT, ANY_ALIGNMENT, TEST_STATE_FREQ, ... */
	bool privileged; /* like CAP_BPF + CAP_PERFMON: true in every session of ours */
	/* fd -> map; false: no such fd or no map. @idx: BPF_PSEUDO_MAP_IDX, index into fd_array. */
	bool (*map_by_fd)(void *opaque, int fd, bool idx, struct ub_verifier_map *map);
	void *opaque;
	struct btf *btf; /* of the program, or NULL */
	const struct bpf_func_info *func_info;
	u32 nr_func_info;
	const struct bpf_line_info *line_info; /* for the log */
	u32 nr_line_info;
	u32 log_level; /* BPF_LOG_LEVEL1 | 2, BPF_LOG_STATS */
	void (*log)(void *opaque, const char *text, size_t size); /* or NULL */
	/* Soundness oracle: called in do_check before each instruction when set. */
	void (*observe)(void *opaque, u32 pc, const void *state);
	void *observe_opaque;
	/* For the same tests: compare no states, so that each way is walked to its end; */
	bool no_prune;
	/* stop after so many instructions instead of a million, 0 = a million; */
	u32 insn_limit;
	/* and where each instruction is in the resulting program, nr_insns entries, or NULL. An
	 * instruction that was dropped has the place of the next that was not. */
	u32 *place;
};

/* Verifies and rewrites. 0 and *out (the caller's, ub_program_free) with used[i] = opaque of
 * (*out)->maps[i]; or the errno Linux would give (-EINVAL, -EACCES, -EPERM, -E2BIG, -EBADF,
 * -ENOTSUPP, ...), the reason in the log's last line and in @why. */
int __must_check ub_verify(const struct ub_verify_request *request, struct ub_program **out,
			   void *used[UB_MAX_USED_MAPS], struct ub_reason *why);

#endif
