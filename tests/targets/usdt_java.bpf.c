// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * HotSpot: collections, methods and objects of classes called Probed*, monitors, sleeping. Its
 * texts are pointers with lengths.
 */
#include "usdt_counts.h"

/* Argument @n is a text, the next one its length. */
static __always_inline void read_text(struct pt_regs *ctx, u64 n, struct passes_key *key)
{
	u32 size = usdt_arg(ctx, n + 1);

	barrier_var(size); /* or compilers check another copy than they use */
	if (size > sizeof(key->text) - 1)
		size = sizeof(key->text) - 1;
	bpf_probe_read_user(key->text, size, (const void *)usdt_arg(ctx, n));
}

SEC("usdt/libjvm:hotspot:gc__begin")
int gc_begin(struct pt_regs *ctx)
{
	struct passes_key key = { .probe = "gc__begin" };

	add_pass(&key, usdt_arg(ctx, 0));
	return 0;
}

SEC("usdt/libjvm:hotspot:gc__end")
int gc_end(struct pt_regs *ctx)
{
	struct passes_key key = { .probe = "gc__end" };

	add_pass(&key, 0);
	return 0;
}

/* Arguments 0 and 1 name the collector, 2 and 3 the pool. */
SEC("usdt/libjvm:hotspot:mem__pool__gc__begin")
int pool_gc_begin(struct pt_regs *ctx)
{
	struct passes_key key = { .probe = "mem__pool__gc__begin" };

	read_text(ctx, 2, &key);
	/* The most that it may hold; what it holds differs from time to time. */
	add_pass(&key, usdt_arg(ctx, 7));
	return 0;
}

SEC("usdt/libjvm:hotspot:thread__sleep__begin")
int sleep_begin(struct pt_regs *ctx)
{
	struct passes_key key = { .probe = "thread__sleep__begin" };

	add_pass(&key, usdt_arg(ctx, 0));
	return 0;
}

/* This one stands at several places. */
SEC("usdt/libjvm:hotspot:thread__sleep__end")
int sleep_end(struct pt_regs *ctx)
{
	struct passes_key key = { .probe = "thread__sleep__end" };

	add_pass(&key, usdt_arg(ctx, 0));
	return 0;
}

SEC("usdt/libjvm:hotspot:object__alloc")
int object_alloc(struct pt_regs *ctx)
{
	struct passes_key key = { .probe = "object__alloc" };

	read_text(ctx, 1, &key);
	if (is_probed(key.text))
		add_pass(&key,
			 usdt_arg(ctx,
				  2)); /* the length of that name; its size is said by some only */
	return 0;
}

SEC("usdt/libjvm:hotspot:method__entry")
int method_entry(struct pt_regs *ctx)
{
	struct passes_key key = { .probe = "method__entry" };

	read_text(ctx, 3, &key);
	if (is_probed(key.text))
		add_pass(&key, usdt_arg(ctx, 6)); /* the length of its signature */
	return 0;
}

SEC("usdt/libjvm:hotspot:method__return")
int method_return(struct pt_regs *ctx)
{
	struct passes_key key = { .probe = "method__return" };

	read_text(ctx, 3, &key);
	if (is_probed(key.text))
		add_pass(&key, usdt_arg(ctx, 6));
	return 0;
}

SEC("usdt/libjvm:hotspot:monitor__wait")
int monitor_wait(struct pt_regs *ctx)
{
	struct passes_key key = { .probe = "monitor__wait" };

	read_text(ctx, 2, &key);
	if (is_probed(key.text))
		add_pass(&key, usdt_arg(ctx, 4)); /* milliseconds */
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
