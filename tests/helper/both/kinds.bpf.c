// SPDX-License-Identifier: MIT
/* Maps of the types that the other programs here have none of. */
#include "both.bpf.h"

#define LRU_SIZE 1024

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, u64);
} percpu_hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, LRU_SIZE);
	__type(key, u32);
	__type(value, u64);
} lru SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, LRU_SIZE);
	__type(key, u32);
	__type(value, u64);
} lru_percpu SEC(".maps");

struct prefix {
	u32 bits;
	u8 address[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 3);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, u64);
} trie SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 64);
	__uint(map_extra, 3);
	__type(value, u64);
} bloom SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} user_ring SEC(".maps");

static __always_inline s64 value_at(void *map, const void *key)
{
	u64 *value = bpf_map_lookup_elem(map, key);

	return value ? (s64)*value : -1;
}

static long count_up(void *map, const u32 *key, u64 *value, u32 *nr)
{
	++*nr;
	return 0;
}

static long third(void *map, const u32 *key, u64 *value, u32 *nr)
{
	return ++*nr == 3;
}

/* The same for each of them. */
#define HASH(name, map)                                                                            \
	({                                                                                         \
		u32 key = 1, nr_ = 0;                                                              \
		u64 value = 10;                                                                    \
		CHECK(name " lookup none", value_at(&map, &key));                                  \
		CHECK(name " update exist", bpf_map_update_elem(&map, &key, &value, BPF_EXIST));   \
		CHECK(name " delete none", bpf_map_delete_elem(&map, &key));                       \
		CHECK(name " update", bpf_map_update_elem(&map, &key, &value, BPF_NOEXIST));       \
		CHECK(name " noexist", bpf_map_update_elem(&map, &key, &value, BPF_NOEXIST));      \
		CHECK(name " flags", bpf_map_update_elem(&map, &key, &value, 99));                 \
		CHECK(name " F_LOCK", bpf_map_update_elem(&map, &key, &value, BPF_F_LOCK));        \
		value = 11;                                                                        \
		CHECK(name " update again", bpf_map_update_elem(&map, &key, &value, BPF_EXIST));   \
		CHECK(name " lookup", value_at(&map, &key));                                       \
		CHECK(name " for_each", bpf_for_each_map_elem(&map, count_up, &nr_, 0));           \
		CHECK(name " for_each count", nr_);                                                \
		CHECK(name " delete", bpf_map_delete_elem(&map, &key));                            \
		CHECK(name " lookup deleted", value_at(&map, &key));                               \
	})

SEC("uprobe")
int hashes(struct pt_regs *ctx)
{
	u32 cpu = bpf_get_smp_processor_id(), one = 1, key;
	u64 value = 20, *at;

	start(ctx, 0);
	HASH("percpu_hash", percpu_hash);
	HASH("lru", lru);
	HASH("lru_percpu", lru_percpu);
	CHECK("percpu_hash push", bpf_map_update_elem(&percpu_hash, &one, &value, BPF_ANY));
	at = bpf_map_lookup_percpu_elem(&percpu_hash, &one, cpu);
	CHECK("percpu_hash, this CPU", at ? (s64)*at : -1);
	at = bpf_map_lookup_percpu_elem(&percpu_hash, &one, !cpu);
	/* As a program creates it, only its own CPU has the value. */
	CHECK("percpu_hash, another CPU", at ? (s64)*at : -1);
	CHECK("percpu_hash, no CPU", !!bpf_map_lookup_percpu_elem(&percpu_hash, &one, 100000));
	bpf_map_update_elem(&lru_percpu, &one, &value, BPF_ANY);
	at = bpf_map_lookup_percpu_elem(&lru_percpu, &one, cpu);
	CHECK("lru_percpu, this CPU", at ? (s64)*at : -1);
	key = 2;
	bpf_map_update_elem(&percpu_hash, &key, &value, BPF_ANY);
	key = 3;
	CHECK("percpu_hash full", bpf_map_update_elem(&percpu_hash, &key, &value, BPF_ANY));
	return 0;
}

struct crowd {
	u32 refused;
	u32 lost;
};

static long put_in(u32 key, void *opaque)
{
	struct crowd *crowd = opaque;
	u64 value = key + 7;

	crowd->refused += bpf_map_update_elem(&lru, &key, &value, BPF_NOEXIST) != 0;
	crowd->lost += value_at(&lru, &key) != (s64)value;
	return 0;
}

/* What an LRU map throws out is its own affair; that there is always room, and what was just put in
 * is there, is not. */
SEC("uprobe")
int crowds(struct pt_regs *ctx)
{
	struct crowd crowd = {};
	u32 nr = 0;

	start(ctx, 0);
	bpf_loop(4 * LRU_SIZE, put_in, &crowd, 0);
	CHECK("lru refused", crowd.refused);
	CHECK("lru lost what was put in", crowd.lost);
	bpf_for_each_map_elem(&lru, count_up, &nr, 0);
	CHECK("lru is not over full", nr > 0 && nr <= LRU_SIZE);
	nr = 0;
	CHECK("for_each ended at the third", bpf_for_each_map_elem(&lru, third, &nr, 0));
	CHECK("for_each's calls", nr);
	return 0;
}

SEC("uprobe")
int prefixes(struct pt_regs *ctx)
{
	struct prefix ten = { 8, { 10 } }, near = { 24, { 10, 1, 2 } }, all = { 0 };
	struct prefix host = { 32, { 10, 1, 2, 3 } }, other = { 32, { 10, 1, 3, 3 } };
	struct prefix far = { 32, { 11, 1, 2, 3 } }, wrong = { 33, { 10, 1, 2, 3 } };
	u64 value = 1;

	start(ctx, 0);
	CHECK("trie lookup none", value_at(&trie, &host));
	CHECK("trie update exist", bpf_map_update_elem(&trie, &ten, &value, BPF_EXIST));
	CHECK("trie update", bpf_map_update_elem(&trie, &ten, &value, BPF_NOEXIST));
	CHECK("trie update noexist", bpf_map_update_elem(&trie, &ten, &value, BPF_NOEXIST));
	CHECK("trie update flags", bpf_map_update_elem(&trie, &ten, &value, 99));
	CHECK("trie update F_LOCK", bpf_map_update_elem(&trie, &ten, &value, BPF_F_LOCK));
	CHECK("trie update too long", bpf_map_update_elem(&trie, &wrong, &value, BPF_ANY));
	CHECK("trie lookup too long", value_at(&trie, &wrong));
	value = 2;
	CHECK("trie update nearer", bpf_map_update_elem(&trie, &near, &value, BPF_ANY));
	CHECK("trie lookup host", value_at(&trie, &host));
	CHECK("trie lookup other", value_at(&trie, &other));
	CHECK("trie lookup far", value_at(&trie, &far));
	CHECK("trie lookup all", value_at(&trie, &all));
	value = 3;
	CHECK("trie update all", bpf_map_update_elem(&trie, &all, &value, BPF_ANY));
	CHECK("trie update full", bpf_map_update_elem(&trie, &host, &value, BPF_ANY));
	CHECK("trie lookup far", value_at(&trie, &far));
	CHECK("trie delete host", bpf_map_delete_elem(&trie, &host));
	CHECK("trie delete too long", bpf_map_delete_elem(&trie, &wrong));
	CHECK("trie delete nearer", bpf_map_delete_elem(&trie, &near));
	CHECK("trie lookup host", value_at(&trie, &host));
	return 0;
}

static long put_and_look(u32 i, void *opaque)
{
	u64 value = i;

	bpf_map_push_elem(&bloom, &value, BPF_ANY);
	*(u32 *)opaque += bpf_map_peek_elem(&bloom, &value) != 0;
	return 0;
}

SEC("uprobe")
int blooms(struct pt_regs *ctx)
{
	u64 value = 0x123456789;
	u32 unseen = 0;

	start(ctx, 0);
	CHECK("bloom peek none", bpf_map_peek_elem(&bloom, &value));
	CHECK("bloom push", bpf_map_push_elem(&bloom, &value, BPF_ANY));
	CHECK("bloom peek", bpf_map_peek_elem(&bloom, &value));
	CHECK("bloom push flags", bpf_map_push_elem(&bloom, &value, BPF_EXIST));
	CHECK("bloom push noexist", bpf_map_push_elem(&bloom, &value, BPF_NOEXIST));
	bpf_loop(64, put_and_look, &unseen, 0);
	CHECK("bloom unseen", unseen);
	return 0;
}

/* In a map: what the verifier knows is different for each sample otherwise. */
static struct drained {
	u64 nr;
	u64 sum;
	u64 stop_after;
	u64 read;
	u64 last;
} drained;

static long on_sample(struct bpf_dynptr *sample, void *opaque)
{
	u64 word = 0;

	drained.nr++;
	drained.read = bpf_dynptr_read(&word, sizeof(word), sample, 0, 0);
	drained.sum += word;
	drained.last = bpf_dynptr_write(sample, 0, &word, 8, 0);
	return drained.nr == drained.stop_after;
}

/* The loader has put in the words 1 to 6, a discarded one among them, and one of four bytes
 * (runner.c). */
SEC("uprobe")
int drains(struct pt_regs *ctx)
{
	start(ctx, 0);
	drained = (struct drained) { .stop_after = 2 };
	CHECK("user_ringbuf_drain flags", bpf_user_ringbuf_drain(&user_ring, on_sample, NULL, 4));
	CHECK("user_ringbuf_drain two", bpf_user_ringbuf_drain(&user_ring, on_sample, NULL, 0));
	CHECK("its calls", drained.nr);
	CHECK("its sum", drained.sum);
	CHECK("its write", drained.last);
	drained.stop_after = 0;
	CHECK("user_ringbuf_drain rest",
	      bpf_user_ringbuf_drain(&user_ring, on_sample, NULL, BPF_RB_NO_WAKEUP));
	CHECK("its calls", drained.nr);
	CHECK("its sum", drained.sum);
	CHECK("its last read", drained.read);
	CHECK("user_ringbuf_drain none",
	      bpf_user_ringbuf_drain(&user_ring, on_sample, NULL, BPF_RB_FORCE_WAKEUP));
	return 0;
}
