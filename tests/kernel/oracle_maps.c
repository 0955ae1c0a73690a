// SPDX-License-Identifier: MIT
/* The oracle's calls on maps. */
#include "oracle.h"

#include <errno.h>
#include <linux/btf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/btf.h>

static void attributes(struct side *s)
{
	u8 big[8192] = { 0 };

	memset(big, 0, sizeof(big));
	oracle_note(s, "attr null", oracle_bpf(s, BPF_MAP_LOOKUP_ELEM, NULL, 32));
	oracle_note(s, "attr bad address", oracle_bpf(s, BPF_MAP_LOOKUP_ELEM, (void *)BAD, 32));
	oracle_note(s, "attr size 0", oracle_bpf(s, BPF_MAP_LOOKUP_ELEM, big, 0));
	oracle_note(s, "attr above a page", oracle_bpf(s, BPF_MAP_LOOKUP_ELEM, big, 4097));
	oracle_note(s, "attr a page", oracle_bpf(s, BPF_MAP_LOOKUP_ELEM, big, 4096));
	big[1000] = 1;
	oracle_note(s, "attr unknown bytes set", oracle_bpf(s, BPF_MAP_LOOKUP_ELEM, big, 4096));
	big[1000] = 0;
	big[100] = 1;
	oracle_note(s, "attr tail of command set", oracle_bpf(s, BPF_MAP_LOOKUP_ELEM, big, 144));
	oracle_note(s, "attr tail of delete set", oracle_bpf(s, BPF_MAP_DELETE_ELEM, big, 144));
	oracle_note(s, "attr tail of next key set", oracle_bpf(s, BPF_MAP_GET_NEXT_KEY, big, 144));
	oracle_note(s, "command unknown", oracle_bpf(s, 9999, big, 144));
	oracle_note(s, "command -1", oracle_bpf(s, (u32)-1, big, 144));
}

static void map_creation(struct side *s)
{
	static const u32 types[] = {
		BPF_MAP_TYPE_HASH,	  BPF_MAP_TYPE_ARRAY,
		BPF_MAP_TYPE_PROG_ARRAY,  BPF_MAP_TYPE_PERF_EVENT_ARRAY,
		BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY,
		BPF_MAP_TYPE_LRU_HASH,	  BPF_MAP_TYPE_LPM_TRIE,
		BPF_MAP_TYPE_QUEUE,	  BPF_MAP_TYPE_STACK,
		BPF_MAP_TYPE_STACK_TRACE, BPF_MAP_TYPE_BLOOM_FILTER,
	};

	MAP(s, "create type 0", .map_type = 0);
	MAP(s, "create type 1000", .map_type = 1000, .key_size = 4, .value_size = 4,
	    .max_entries = 1);
	MAP(s, "create hash", .map_type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 4,
	    .max_entries = 1);
	MAP(s, "create hash no entries", .map_type = BPF_MAP_TYPE_HASH, .key_size = 4,
	    .value_size = 4);
	MAP(s, "create hash no key", .map_type = BPF_MAP_TYPE_HASH, .value_size = 4,
	    .max_entries = 1);
	MAP(s, "create hash no value", .map_type = BPF_MAP_TYPE_HASH, .key_size = 4,
	    .max_entries = 1);
	MAP(s, "create hash key too large", .map_type = BPF_MAP_TYPE_HASH, .key_size = 4096,
	    .value_size = 4, .max_entries = 1);
	MAP(s, "create hash bad flags", .map_type = BPF_MAP_TYPE_HASH, .key_size = 4,
	    .value_size = 4, .max_entries = 1, .map_flags = 1u << 30);
	MAP(s, "create hash mmapable", .map_type = BPF_MAP_TYPE_HASH, .key_size = 4,
	    .value_size = 4, .max_entries = 1, .map_flags = BPF_F_MMAPABLE);
	MAP(s, "create array key 8", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 8, .value_size = 4,
	    .max_entries = 1);
	MAP(s, "create array", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4,
	    .max_entries = 1, .map_flags = BPF_F_MMAPABLE);
	MAP(s, "create array no prealloc", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4,
	    .value_size = 4, .max_entries = 1, .map_flags = BPF_F_NO_PREALLOC);
	MAP(s, "create rdonly and wronly", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4,
	    .value_size = 4, .max_entries = 1, .map_flags = BPF_F_RDONLY | BPF_F_WRONLY);
	MAP(s, "create rdonly_prog and wronly_prog", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4,
	    .value_size = 4, .max_entries = 1, .map_flags = BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG);
	MAP(s, "create name bad", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4,
	    .max_entries = 1, .map_name = "a-b");
	MAP(s, "create name dot", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4,
	    .max_entries = 1, .map_name = ".rodata");
	MAP(s, "create name unterminated", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4,
	    .value_size = 4, .max_entries = 1, .map_name = "0123456789abcdef");
	MAP(s, "create extra", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4,
	    .max_entries = 1, .map_extra = 1);
	MAP(s, "create btf key without value", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4,
	    .value_size = 4, .max_entries = 1, .btf_key_type_id = 1);
	MAP(s, "create btf bad fd", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4,
	    .max_entries = 1, .btf_key_type_id = 1, .btf_value_type_id = 1, .btf_fd = (u32)-1);
	MAP(s, "create btf vmlinux value", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4,
	    .value_size = 4, .max_entries = 1, .btf_vmlinux_value_type_id = 1);
	MAP(s, "create ringbuf", .map_type = BPF_MAP_TYPE_RINGBUF, .max_entries = 4096);
	MAP(s, "create ringbuf odd", .map_type = BPF_MAP_TYPE_RINGBUF, .max_entries = 5000);
	MAP(s, "create ringbuf key", .map_type = BPF_MAP_TYPE_RINGBUF, .key_size = 4,
	    .max_entries = 4096);
	MAP(s, "create ifindex", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4,
	    .max_entries = 1, .map_ifindex = 1000);
	MAP(s, "create numa node", .map_type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 4,
	    .max_entries = 1, .map_flags = BPF_F_NUMA_NODE, .numa_node = 1000);
	for (u32 i = 0; i < ub_array_size(types); i++) {
		u32 key = types[i] == BPF_MAP_TYPE_QUEUE || types[i] == BPF_MAP_TYPE_STACK ||
					  types[i] == BPF_MAP_TYPE_BLOOM_FILTER
				  ? 0
				  : 8;

		MAP(s, "create of each type", .map_type = types[i], .key_size = key,
		    .value_size = 8, .max_entries = 4);
		MAP(s, "create of each type, key 4", .map_type = types[i], .key_size = 4,
		    .value_size = 4, .max_entries = 4);
		MAP(s, "create of each type, no prealloc", .map_type = types[i], .key_size = key,
		    .value_size = 8, .max_entries = 4, .map_flags = BPF_F_NO_PREALLOC);
	}
}

static void elements(struct side *s, const char *what, u32 type)
{
	int fd = MAP(s, what, .map_type = type, .key_size = 4, .value_size = 8, .max_entries = 3,
		     .map_name = "elements");
	u32 key = 1, next = 0, large = 100;
	u64 value[8] = { 5 }, got[8] = { 0 };
	char small[4];

	BPF(s, what, BPF_MAP_LOOKUP_ELEM, .map_fd = fd, .key = (u64)&key, .value = (u64)got);
	oracle_note(s, what, (s64)got[0]);
	BPF(s, "update", BPF_MAP_UPDATE_ELEM, .map_fd = fd, .key = (u64)&key, .value = (u64)value);
	BPF(s, "update noexist", BPF_MAP_UPDATE_ELEM, .map_fd = fd, .key = (u64)&key,
	    .value = (u64)value, .flags = BPF_NOEXIST);
	BPF(s, "update exist", BPF_MAP_UPDATE_ELEM, .map_fd = fd, .key = (u64)&key,
	    .value = (u64)value, .flags = BPF_EXIST);
	BPF(s, "update flags 3", BPF_MAP_UPDATE_ELEM, .map_fd = fd, .key = (u64)&key,
	    .value = (u64)value, .flags = 3);
	BPF(s, "update flags large", BPF_MAP_UPDATE_ELEM, .map_fd = fd, .key = (u64)&key,
	    .value = (u64)value, .flags = 1ull << 40);
	BPF(s, "update F_LOCK", BPF_MAP_UPDATE_ELEM, .map_fd = fd, .key = (u64)&key,
	    .value = (u64)value, .flags = BPF_F_LOCK);
	BPF(s, "update large key", BPF_MAP_UPDATE_ELEM, .map_fd = fd, .key = (u64)&large,
	    .value = (u64)value, .flags = BPF_EXIST);
	BPF(s, "update bad key", BPF_MAP_UPDATE_ELEM, .map_fd = fd, .key = BAD,
	    .value = (u64)value);
	BPF(s, "update bad value", BPF_MAP_UPDATE_ELEM, .map_fd = fd, .key = (u64)&key,
	    .value = BAD);
	BPF(s, "update bad fd", BPF_MAP_UPDATE_ELEM, .map_fd = (u32)-1, .key = (u64)&key,
	    .value = (u64)value);
	BPF(s, "update other's fd", BPF_MAP_UPDATE_ELEM, .map_fd = 1, .key = (u64)&key,
	    .value = (u64)value);
	BPF(s, "lookup", BPF_MAP_LOOKUP_ELEM, .map_fd = fd, .key = (u64)&key, .value = (u64)got);
	oracle_note(s, "lookup's value", (s64)got[0]);
	BPF(s, "lookup large", BPF_MAP_LOOKUP_ELEM, .map_fd = fd, .key = (u64)&large,
	    .value = (u64)got);
	BPF(s, "lookup flags", BPF_MAP_LOOKUP_ELEM, .map_fd = fd, .key = (u64)&key,
	    .value = (u64)got, .flags = 1);
	BPF(s, "lookup F_LOCK", BPF_MAP_LOOKUP_ELEM, .map_fd = fd, .key = (u64)&key,
	    .value = (u64)got, .flags = BPF_F_LOCK);
	BPF(s, "lookup bad key", BPF_MAP_LOOKUP_ELEM, .map_fd = fd, .key = BAD, .value = (u64)got);
	BPF(s, "lookup bad value", BPF_MAP_LOOKUP_ELEM, .map_fd = fd, .key = (u64)&key,
	    .value = BAD);
	BPF(s, "next of none", BPF_MAP_GET_NEXT_KEY, .map_fd = fd, .next_key = (u64)&next);
	oracle_note(s, "next's key", next);
	BPF(s, "next", BPF_MAP_GET_NEXT_KEY, .map_fd = fd, .key = (u64)&key,
	    .next_key = (u64)&next);
	BPF(s, "next of unknown", BPF_MAP_GET_NEXT_KEY, .map_fd = fd, .key = (u64)&large,
	    .next_key = (u64)&next);
	BPF(s, "next bad", BPF_MAP_GET_NEXT_KEY, .map_fd = fd, .key = BAD, .next_key = (u64)&next);
	BPF(s, "next bad next", BPF_MAP_GET_NEXT_KEY, .map_fd = fd, .next_key = BAD);
	BPF(s, "lookup and delete", BPF_MAP_LOOKUP_AND_DELETE_ELEM, .map_fd = fd, .key = (u64)&key,
	    .value = (u64)got);
	BPF(s, "lookup and delete again", BPF_MAP_LOOKUP_AND_DELETE_ELEM, .map_fd = fd,
	    .key = (u64)&key, .value = (u64)got);
	BPF(s, "lookup and delete flags", BPF_MAP_LOOKUP_AND_DELETE_ELEM, .map_fd = fd,
	    .key = (u64)&key, .value = (u64)got, .flags = 1);
	BPF(s, "delete", BPF_MAP_DELETE_ELEM, .map_fd = fd, .key = (u64)&key);
	BPF(s, "delete large", BPF_MAP_DELETE_ELEM, .map_fd = fd, .key = (u64)&large);
	BPF(s, "delete bad", BPF_MAP_DELETE_ELEM, .map_fd = fd, .key = BAD);
	for (u32 i = 0; i < 5; i++)
		BPF(s, "fill", BPF_MAP_UPDATE_ELEM, .map_fd = fd, .key = (u64)&i,
		    .value = (u64)value);
	BPF(s, "freeze", BPF_MAP_FREEZE, .map_fd = fd);
	BPF(s, "freeze again", BPF_MAP_FREEZE, .map_fd = fd);
	BPF(s, "update frozen", BPF_MAP_UPDATE_ELEM, .map_fd = fd, .key = (u64)&key,
	    .value = (u64)value);
	BPF(s, "delete frozen", BPF_MAP_DELETE_ELEM, .map_fd = fd, .key = (u64)&key);
	BPF(s, "lookup frozen", BPF_MAP_LOOKUP_ELEM, .map_fd = fd, .key = (u64)&key,
	    .value = (u64)got);
	(void)small;
}

static void modes(struct side *s)
{
	int ro = MAP(s, "rdonly", .map_type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 8,
		     .max_entries = 3, .map_flags = BPF_F_RDONLY);
	int wo = MAP(s, "wronly", .map_type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 8,
		     .max_entries = 3, .map_flags = BPF_F_WRONLY);
	u32 key = 0;
	u64 value = 1;

	BPF(s, "rdonly update", BPF_MAP_UPDATE_ELEM, .map_fd = ro, .key = (u64)&key,
	    .value = (u64)&value);
	BPF(s, "rdonly lookup", BPF_MAP_LOOKUP_ELEM, .map_fd = ro, .key = (u64)&key,
	    .value = (u64)&value);
	BPF(s, "rdonly delete", BPF_MAP_DELETE_ELEM, .map_fd = ro, .key = (u64)&key);
	BPF(s, "rdonly freeze", BPF_MAP_FREEZE, .map_fd = ro);
	BPF(s, "rdonly lookup and delete", BPF_MAP_LOOKUP_AND_DELETE_ELEM, .map_fd = ro,
	    .key = (u64)&key, .value = (u64)&value);
	BPF(s, "wronly update", BPF_MAP_UPDATE_ELEM, .map_fd = wo, .key = (u64)&key,
	    .value = (u64)&value);
	BPF(s, "wronly lookup", BPF_MAP_LOOKUP_ELEM, .map_fd = wo, .key = (u64)&key,
	    .value = (u64)&value);
	BPF(s, "wronly next", BPF_MAP_GET_NEXT_KEY, .map_fd = wo, .next_key = (u64)&key);
	BPF(s, "freeze bad fd", BPF_MAP_FREEZE, .map_fd = (u32)-1);
	BPF(s, "freeze other's fd", BPF_MAP_FREEZE, .map_fd = 1);
}

static void queues(struct side *s)
{
	static const u32 types[] = { BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK };

	for (u32 i = 0; i < 2; i++) {
		int fd = MAP(s, "queue", .map_type = types[i], .value_size = 8, .max_entries = 2);
		u64 value = 5, got = 0;
		u32 key = 0;

		if (fd < 0)
			continue;
		BPF(s, "peek empty", BPF_MAP_LOOKUP_ELEM, .map_fd = fd, .value = (u64)&got);
		BPF(s, "push", BPF_MAP_UPDATE_ELEM, .map_fd = fd, .value = (u64)&value);
		value = 6;
		BPF(s, "push", BPF_MAP_UPDATE_ELEM, .map_fd = fd, .value = (u64)&value);
		BPF(s, "push full", BPF_MAP_UPDATE_ELEM, .map_fd = fd, .value = (u64)&value);
		BPF(s, "push noexist", BPF_MAP_UPDATE_ELEM, .map_fd = fd, .value = (u64)&value,
		    .flags = BPF_NOEXIST);
		BPF(s, "push with key", BPF_MAP_UPDATE_ELEM, .map_fd = fd, .key = (u64)&key,
		    .value = (u64)&value);
		BPF(s, "peek", BPF_MAP_LOOKUP_ELEM, .map_fd = fd, .value = (u64)&got);
		oracle_note(s, "peeked", (s64)got);
		BPF(s, "pop", BPF_MAP_LOOKUP_AND_DELETE_ELEM, .map_fd = fd, .value = (u64)&got);
		oracle_note(s, "popped", (s64)got);
		BPF(s, "pop flags", BPF_MAP_LOOKUP_AND_DELETE_ELEM, .map_fd = fd,
		    .value = (u64)&got, .flags = BPF_F_LOCK);
		BPF(s, "delete", BPF_MAP_DELETE_ELEM, .map_fd = fd);
		BPF(s, "next", BPF_MAP_GET_NEXT_KEY, .map_fd = fd, .next_key = (u64)&key);
	}
}

static void batches(struct side *s)
{
	int hash = MAP(s, "batch hash", .map_type = BPF_MAP_TYPE_HASH, .key_size = 4,
		       .value_size = 8, .max_entries = 16);
	int array = MAP(s, "batch array", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4,
			.value_size = 8, .max_entries = 16);
	int both[2] = { hash, array };
	u32 keys[16], out = 0, in = 0;
	u64 values[16];
	union bpf_attr attr;

	for (u32 m = 0; m < 2; m++) {
		u32 total = 0;

		for (u32 i = 0; i < 16; i++) {
			keys[i] = i;
			values[i] = i * 10;
		}
		attr = (union bpf_attr) { .batch = { .map_fd = both[m],
						     .keys = (u64)keys,
						     .values = (u64)values,
						     .count = 10 } };
		oracle_note(s, "batch update",
			    oracle_bpf(s, BPF_MAP_UPDATE_BATCH, &attr, sizeof(attr)));
		oracle_note(s, "batch update count", attr.batch.count);
		attr.batch.count = 0;
		oracle_note(s, "batch update of none",
			    oracle_bpf(s, BPF_MAP_UPDATE_BATCH, &attr, sizeof(attr)));
		attr.batch.flags = 1;
		attr.batch.count = 2;
		oracle_note(s, "batch flags",
			    oracle_bpf(s, BPF_MAP_UPDATE_BATCH, &attr, sizeof(attr)));
		attr.batch.flags = 0;
		attr.batch.elem_flags = BPF_NOEXIST;
		oracle_note(s, "batch noexist",
			    oracle_bpf(s, BPF_MAP_UPDATE_BATCH, &attr, sizeof(attr)));
		oracle_note(s, "batch noexist count", attr.batch.count);
		keys[1] = 1000;
		attr.batch.elem_flags = BPF_EXIST;
		attr.batch.count = 2;
		oracle_note(s, "batch exist",
			    oracle_bpf(s, BPF_MAP_UPDATE_BATCH, &attr, sizeof(attr)));
		oracle_note(s, "batch exist count", attr.batch.count);
		for (u32 i = 0; i < 20; i++) {
			s64 r;

			attr = (union bpf_attr) { .batch = { .map_fd = both[m],
							     .keys = (u64)keys,
							     .values = (u64)values,
							     .count = 16,
							     .in_batch = i ? (u64)&in : 0,
							     .out_batch = (u64)&out } };
			r = oracle_bpf(s, BPF_MAP_LOOKUP_BATCH, &attr, sizeof(attr));
			total += attr.batch.count;
			if (r) {
				oracle_note(s, "batch lookup ends", r);
				break;
			}
			in = out;
		}
		oracle_note(s, "batch lookup total", total);
		attr = (union bpf_attr) { .batch = { .map_fd = both[m],
						     .keys = BAD,
						     .values = (u64)values,
						     .count = 16,
						     .out_batch = (u64)&out } };
		oracle_note(s, "batch lookup bad keys",
			    oracle_bpf(s, BPF_MAP_LOOKUP_BATCH, &attr, sizeof(attr)));
		keys[0] = 0;
		keys[1] = 1;
		attr = (union bpf_attr) {
			.batch = { .map_fd = both[m], .keys = (u64)keys, .count = 2 }
		};
		oracle_note(s, "batch delete",
			    oracle_bpf(s, BPF_MAP_DELETE_BATCH, &attr, sizeof(attr)));
		oracle_note(s, "batch delete count", attr.batch.count);
		attr.batch.count = 2;
		oracle_note(s, "batch delete again",
			    oracle_bpf(s, BPF_MAP_DELETE_BATCH, &attr, sizeof(attr)));
		oracle_note(s, "batch delete again count", attr.batch.count);
		attr = (union bpf_attr) { .batch = { .map_fd = both[m],
						     .keys = (u64)keys,
						     .values = (u64)values,
						     .count = 16,
						     .out_batch = (u64)&out } };
		oracle_note(s, "batch lookup and delete",
			    oracle_bpf(s, BPF_MAP_LOOKUP_AND_DELETE_BATCH, &attr, sizeof(attr)));
		oracle_note(s, "batch lookup and delete count", attr.batch.count);
	}
	attr = (union bpf_attr) { .batch = { .map_fd = (u32)-1, .count = 1 } };
	oracle_note(s, "batch bad fd", oracle_bpf(s, BPF_MAP_LOOKUP_BATCH, &attr, sizeof(attr)));
}

void oracle_maps_of_objects(struct side *s, int prog, int event)
{
	int inner = MAP(s, "inner", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8,
			.max_entries = 2);
	int other = MAP(s, "other", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8,
			.max_entries = 3);
	int outer[2] = {
		MAP(s, "array of maps", .map_type = BPF_MAP_TYPE_ARRAY_OF_MAPS, .key_size = 4,
		    .value_size = 4, .max_entries = 2, .inner_map_fd = inner),
		MAP(s, "hash of maps", .map_type = BPF_MAP_TYPE_HASH_OF_MAPS, .key_size = 4,
		    .value_size = 4, .max_entries = 2, .inner_map_fd = inner),
	};
	int progs = MAP(s, "prog array", .map_type = BPF_MAP_TYPE_PROG_ARRAY, .key_size = 4,
			.value_size = 4, .max_entries = 2);
	int events = MAP(s, "perf array", .map_type = BPF_MAP_TYPE_PERF_EVENT_ARRAY, .key_size = 4,
			 .value_size = 4, .max_entries = 2);
	u32 key = 1, large = 9, id = 0, bad = (u32)-1;

	MAP(s, "array of maps without inner", .map_type = BPF_MAP_TYPE_ARRAY_OF_MAPS, .key_size = 4,
	    .value_size = 4, .max_entries = 2, .inner_map_fd = (u32)-1);
	MAP(s, "array of maps value 8", .map_type = BPF_MAP_TYPE_ARRAY_OF_MAPS, .key_size = 4,
	    .value_size = 8, .max_entries = 2, .inner_map_fd = inner);
	MAP(s, "prog array inside", .map_type = BPF_MAP_TYPE_ARRAY_OF_MAPS, .key_size = 4,
	    .value_size = 4, .max_entries = 2, .inner_map_fd = progs);
	if (outer[0] >= 0)
		MAP(s, "maps of maps of maps", .map_type = BPF_MAP_TYPE_ARRAY_OF_MAPS,
		    .key_size = 4, .value_size = 4, .max_entries = 2, .inner_map_fd = outer[0]);
	for (u32 i = 0; i < 2; i++) {
		if (outer[i] < 0)
			continue;
		BPF(s, "outer empty", BPF_MAP_LOOKUP_ELEM, .map_fd = outer[i], .key = (u64)&key,
		    .value = (u64)&id);
		BPF(s, "outer update", BPF_MAP_UPDATE_ELEM, .map_fd = outer[i], .key = (u64)&key,
		    .value = (u64)&inner);
		BPF(s, "outer update other", BPF_MAP_UPDATE_ELEM, .map_fd = outer[i],
		    .key = (u64)&key, .value = (u64)&other);
		BPF(s, "outer update bad fd", BPF_MAP_UPDATE_ELEM, .map_fd = outer[i],
		    .key = (u64)&key, .value = (u64)&bad);
		BPF(s, "outer update prog", BPF_MAP_UPDATE_ELEM, .map_fd = outer[i],
		    .key = (u64)&key, .value = (u64)&prog);
		BPF(s, "outer update noexist", BPF_MAP_UPDATE_ELEM, .map_fd = outer[i],
		    .key = (u64)&key, .value = (u64)&inner, .flags = BPF_NOEXIST);
		BPF(s, "outer lookup", BPF_MAP_LOOKUP_ELEM, .map_fd = outer[i], .key = (u64)&key,
		    .value = (u64)&id);
		BPF(s, "outer lookup large", BPF_MAP_LOOKUP_ELEM, .map_fd = outer[i],
		    .key = (u64)&large, .value = (u64)&id);
		BPF(s, "outer delete", BPF_MAP_DELETE_ELEM, .map_fd = outer[i], .key = (u64)&key);
		BPF(s, "outer delete again", BPF_MAP_DELETE_ELEM, .map_fd = outer[i],
		    .key = (u64)&key);
		BPF(s, "outer delete large", BPF_MAP_DELETE_ELEM, .map_fd = outer[i],
		    .key = (u64)&large);
	}
	BPF(s, "prog array lookup empty", BPF_MAP_LOOKUP_ELEM, .map_fd = progs, .key = (u64)&key,
	    .value = (u64)&id);
	BPF(s, "prog array update", BPF_MAP_UPDATE_ELEM, .map_fd = progs, .key = (u64)&key,
	    .value = (u64)&prog);
	BPF(s, "prog array update flags", BPF_MAP_UPDATE_ELEM, .map_fd = progs, .key = (u64)&key,
	    .value = (u64)&prog, .flags = BPF_NOEXIST);
	BPF(s, "prog array update map", BPF_MAP_UPDATE_ELEM, .map_fd = progs, .key = (u64)&key,
	    .value = (u64)&inner);
	BPF(s, "prog array update large", BPF_MAP_UPDATE_ELEM, .map_fd = progs, .key = (u64)&large,
	    .value = (u64)&prog);
	BPF(s, "prog array lookup", BPF_MAP_LOOKUP_ELEM, .map_fd = progs, .key = (u64)&key,
	    .value = (u64)&id);
	BPF(s, "prog array delete", BPF_MAP_DELETE_ELEM, .map_fd = progs, .key = (u64)&key);
	BPF(s, "prog array delete again", BPF_MAP_DELETE_ELEM, .map_fd = progs, .key = (u64)&key);
	BPF(s, "prog array freeze", BPF_MAP_FREEZE, .map_fd = progs);
	BPF(s, "perf array update", BPF_MAP_UPDATE_ELEM, .map_fd = events, .key = (u64)&key,
	    .value = (u64)&event);
	BPF(s, "perf array update prog", BPF_MAP_UPDATE_ELEM, .map_fd = events, .key = (u64)&key,
	    .value = (u64)&prog);
	BPF(s, "perf array update bad", BPF_MAP_UPDATE_ELEM, .map_fd = events, .key = (u64)&key,
	    .value = (u64)&bad);
	BPF(s, "perf array lookup", BPF_MAP_LOOKUP_ELEM, .map_fd = events, .key = (u64)&key,
	    .value = (u64)&id);
	BPF(s, "perf array delete", BPF_MAP_DELETE_ELEM, .map_fd = events, .key = (u64)&key);
	BPF(s, "perf array delete again", BPF_MAP_DELETE_ELEM, .map_fd = events, .key = (u64)&key);
}

static int btf_load(struct side *s, const char *name, const void *data, u32 size)
{
	union bpf_attr attr = { .btf = (u64)data, .btf_size = size };

	return oracle_note_fd(s, name, oracle_bpf(s, BPF_BTF_LOAD, &attr, sizeof(attr)));
}

static void btf_maps(struct side *s)
{
	struct btf *btf = btf__new_empty();
	int u32_id = btf__add_int(btf, "int", 4, 0), u64_id = btf__add_int(btf, "long", 8, 0);
	int var = btf__add_var(btf, "v", BTF_VAR_GLOBAL_ALLOCATED, u64_id);
	int sec = btf__add_datasec(btf, ".bss", 8);
	static const u32 types[] = {
		BPF_MAP_TYPE_HASH,	   BPF_MAP_TYPE_ARRAY,	      BPF_MAP_TYPE_PERCPU_HASH,
		BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_LRU_HASH,     BPF_MAP_TYPE_STACK_TRACE,
		BPF_MAP_TYPE_QUEUE,	   BPF_MAP_TYPE_BLOOM_FILTER, BPF_MAP_TYPE_LPM_TRIE,
	};
	const void *data;
	u32 size;
	int fd;

	btf__add_datasec_var_info(btf, var, 0, 8);
	data = btf__raw_data(btf, &size);
	fd = btf_load(s, "btf", data, size);
	for (u32 i = 0; i < ub_array_size(types); i++) {
		u32 key = types[i] == BPF_MAP_TYPE_QUEUE || types[i] == BPF_MAP_TYPE_BLOOM_FILTER
				  ? 0
				  : 4;

		MAP(s, "btf map", .map_type = types[i], .key_size = key, .value_size = 8,
		    .max_entries = 1, .btf_fd = fd, .btf_key_type_id = u32_id,
		    .btf_value_type_id = u64_id);
		MAP(s, "btf map keyless", .map_type = types[i], .key_size = key, .value_size = 8,
		    .max_entries = 1, .btf_fd = fd, .btf_value_type_id = u64_id);
		MAP(s, "btf map wrong value", .map_type = types[i], .key_size = key,
		    .value_size = 8, .max_entries = 1, .btf_fd = fd, .btf_key_type_id = u32_id,
		    .btf_value_type_id = u32_id);
		MAP(s, "btf map wrong key", .map_type = types[i], .key_size = key, .value_size = 8,
		    .max_entries = 1, .btf_fd = fd, .btf_key_type_id = u64_id,
		    .btf_value_type_id = u64_id);
	}
	MAP(s, "btf datasec", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8,
	    .max_entries = 1, .map_flags = BPF_F_MMAPABLE, .btf_fd = fd, .btf_value_type_id = sec);
	MAP(s, "btf datasec of two", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8,
	    .max_entries = 2, .btf_fd = fd, .btf_value_type_id = sec);
	MAP(s, "btf no such type", .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8,
	    .max_entries = 2, .btf_fd = fd, .btf_key_type_id = 99, .btf_value_type_id = u64_id);
	btf__free(btf);
}

void oracle_maps(struct side *s)
{
	attributes(s);
	map_creation(s);
	elements(s, "hash", BPF_MAP_TYPE_HASH);
	elements(s, "array", BPF_MAP_TYPE_ARRAY);
	modes(s);
	queues(s);
	batches(s);
	btf_maps(s);
}
