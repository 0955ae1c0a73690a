// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * CPython, whose probes have semaphores: garbage collections with what they are told and find,
 * audit events, and imports, which do or do not find something.
 */
#include "usdt_counts.h"

static __always_inline void count_text(struct pt_regs *ctx, struct passes_key *key, s64 number)
{
	bpf_probe_read_user_str(key->text, sizeof(key->text), (const char *)usdt_arg(ctx, 0));
	if (is_probed(key->text))
		add_pass(key, number);
}

SEC("usdt/:python:gc__start")
int gc_start(struct pt_regs *ctx)
{
	struct passes_key key = { .probe = "gc__start" };

	add_pass(&key, usdt_arg(ctx, 0));
	return 0;
}

SEC("usdt/:python:gc__done")
int gc_done(struct pt_regs *ctx)
{
	struct passes_key key = { .probe = "gc__done" };

	add_pass(&key, usdt_arg(ctx, 0));
	return 0;
}

SEC("usdt/:python:audit")
int audit(struct pt_regs *ctx)
{
	struct passes_key key = { .probe = "audit" };
	long nr = 0;

	/* The second argument is a tuple: a count of references, a type, the number of its
	 * items. */
	bpf_probe_read_user(&nr, sizeof(nr), (const void *)usdt_arg(ctx, 1) + 16);
	count_text(ctx, &key, nr);
	return 0;
}

SEC("usdt/:python:import__find__load__start")
int import_start(struct pt_regs *ctx)
{
	struct passes_key key = { .probe = "import__start" };

	count_text(ctx, &key, 0);
	return 0;
}

SEC("usdt/:python:import__find__load__done")
int import_done(struct pt_regs *ctx)
{
	struct passes_key key = { .probe = "import__done" };

	count_text(ctx, &key, usdt_arg(ctx, 1));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
