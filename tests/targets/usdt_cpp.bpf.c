// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * libstdc++: exceptions that are thrown, caught and thrown again, by their types; what is added up
 * is the int that they begin with.
 */
#include "usdt_counts.h"

static __always_inline void count(struct pt_regs *ctx, struct passes_key *key)
{
	const void *object = (const void *)usdt_arg(ctx, 0);
	const void *type = (const void *)usdt_arg(ctx, 1);
	const char *name = NULL;
	int number = 0;

	/* std::type_info: a table of virtual functions, the name. */
	bpf_probe_read_user(&name, sizeof(name), type + 8);
	bpf_probe_read_user_str(key->text, sizeof(key->text), name);
	bpf_probe_read_user(&number, sizeof(number), object);
	add_pass(key, number);
}

SEC("usdt/libstdc++:libstdcxx:throw")
int throw_exception(struct pt_regs *ctx)
{
	struct passes_key key = { .probe = "throw" };

	count(ctx, &key);
	return 0;
}

SEC("usdt/libstdc++:libstdcxx:catch")
int catch_exception(struct pt_regs *ctx)
{
	struct passes_key key = { .probe = "catch" };

	count(ctx, &key);
	return 0;
}

SEC("usdt/libstdc++:libstdcxx:rethrow")
int rethrow_exception(struct pt_regs *ctx)
{
	struct passes_key key = { .probe = "rethrow" };

	count(ctx, &key);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
