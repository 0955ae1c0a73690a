/* SPDX-License-Identifier: MIT */
/*
 * Puts the verifier between libbpf and the kernel: bpf(2) calls of this process go to the kernel as
 * they are, and every BPF_PROG_LOAD is also given to ub_verify(). Maps and BTF are real.
 */
#ifndef TESTS_VERIFIER_CAPTURE_H
#define TESTS_VERIFIER_CAPTURE_H

#include <linux/bpf.h>

#include <common/types.h>
#include <verifier/verifier.h>

struct capture {
	bool seen;	  /* a program was loaded since capture_reset() */
	int kernel;	  /* 0 or -errno */
	int ours;	  /* 0 or -errno */
	char *kernel_log; /* of the last load, as asked for by the loader */
	char *our_log;
	size_t our_log_size;
	u64 kernel_ns, our_ns;
	u32 insns;
	struct ub_program *program; /* ours, if accepted */
	struct ub_reason why;
};

extern struct capture capture;

/* Log level for ours, and whether the kernel is asked at all (else its verdict is ours). */
extern u32 capture_log_level;
extern bool capture_ask_kernel;
extern void (*capture_request)(struct ub_verify_request *request);

void capture_reset(void);

/* The last line that says why, without the statistics; in a static buffer. */
const char *capture_last_line(const char *log);

#endif
