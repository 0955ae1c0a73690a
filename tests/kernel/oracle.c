// SPDX-License-Identifier: MIT
/*
 * The same calls, good and bad, made to Linux and to the userspace kernel: what comes back must be
 * the same, errno by errno. Needs the right to use bpf(2).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/btf.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/btf.h>

#include "harness.h"

#define MAX_RESULTS 600

struct side {
	struct harness *h; /* NULL: Linux */
	u32 nr;
	const char *names[MAX_RESULTS];
	s64 results[MAX_RESULTS];
	int fds[64]; /* to close */
	u32 nr_fds;
};

static s64 call(struct side *s, int nr, u64 a0, u64 a1, u64 a2, u64 a3, u64 a4)
{
	long r;

	if (s->h)
		return harness_call(s->h, nr, a0, a1, a2, a3, a4, 0);
	r = syscall(nr, a0, a1, a2, a3, a4, 0);
	return r < 0 ? -errno : r;
}

static s64 note(struct side *s, const char *name, s64 result)
{
	if (s->nr < MAX_RESULTS) {
		s->names[s->nr] = name;
		s->results[s->nr++] = result;
	}
	return result;
}

/* A call that returns an fd if it succeeds: that it did counts, not its number. */
static int note_fd(struct side *s, const char *name, s64 result)
{
	note(s, name, result >= 0 ? 0 : result);
	if (result >= 0 && s->nr_fds < 64)
		s->fds[s->nr_fds++] = (int)result;
	return (int)result;
}

static s64 bpf(struct side *s, u32 cmd, const void *attr, u32 size)
{
	return call(s, SYS_bpf, cmd, (u64)attr, size, 0, 0);
}

static int map(struct side *s, const char *name, union bpf_attr attr)
{
	return note_fd(s, name, bpf(s, BPF_MAP_CREATE, &attr, sizeof(attr)));
}

#define MAP(s, name, ...) map(s, name, (union bpf_attr) { __VA_ARGS__ })
#define BPF(s, name, cmd, ...)                                                                     \
	({                                                                                         \
		union bpf_attr attr_ = { __VA_ARGS__ };                                            \
		note(s, name, bpf(s, cmd, &attr_, sizeof(attr_)));                                 \
	})
#define BPF_FD(s, name, cmd, ...)                                                                  \
	({                                                                                         \
		union bpf_attr attr_ = { __VA_ARGS__ };                                            \
		note_fd(s, name, bpf(s, cmd, &attr_, sizeof(attr_)));                              \
	})
#define BAD ((u64)8) /* an address where there is nothing */

static void attributes(struct side *s)
{
	u8 big[8192] = { 0 };

	memset(big, 0, sizeof(big));
	note(s, "attr null", bpf(s, BPF_MAP_LOOKUP_ELEM, NULL, 32));
	note(s, "attr bad address", bpf(s, BPF_MAP_LOOKUP_ELEM, (void *)BAD, 32));
	note(s, "attr size 0", bpf(s, BPF_MAP_LOOKUP_ELEM, big, 0));
	note(s, "attr above a page", bpf(s, BPF_MAP_LOOKUP_ELEM, big, 4097));
	note(s, "attr a page", bpf(s, BPF_MAP_LOOKUP_ELEM, big, 4096));
	big[1000] = 1;
	note(s, "attr unknown bytes set", bpf(s, BPF_MAP_LOOKUP_ELEM, big, 4096));
	big[1000] = 0;
	big[100] = 1;
	note(s, "attr tail of command set", bpf(s, BPF_MAP_LOOKUP_ELEM, big, 144));
	note(s, "attr tail of delete set", bpf(s, BPF_MAP_DELETE_ELEM, big, 144));
	note(s, "attr tail of next key set", bpf(s, BPF_MAP_GET_NEXT_KEY, big, 144));
	note(s, "command unknown", bpf(s, 9999, big, 144));
	note(s, "command -1", bpf(s, (u32)-1, big, 144));
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
	note(s, what, (s64)got[0]);
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
	note(s, "lookup's value", (s64)got[0]);
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
	note(s, "next's key", next);
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
		note(s, "peeked", (s64)got);
		BPF(s, "pop", BPF_MAP_LOOKUP_AND_DELETE_ELEM, .map_fd = fd, .value = (u64)&got);
		note(s, "popped", (s64)got);
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
		note(s, "batch update", bpf(s, BPF_MAP_UPDATE_BATCH, &attr, sizeof(attr)));
		note(s, "batch update count", attr.batch.count);
		attr.batch.count = 0;
		note(s, "batch update of none", bpf(s, BPF_MAP_UPDATE_BATCH, &attr, sizeof(attr)));
		attr.batch.flags = 1;
		attr.batch.count = 2;
		note(s, "batch flags", bpf(s, BPF_MAP_UPDATE_BATCH, &attr, sizeof(attr)));
		attr.batch.flags = 0;
		attr.batch.elem_flags = BPF_NOEXIST;
		note(s, "batch noexist", bpf(s, BPF_MAP_UPDATE_BATCH, &attr, sizeof(attr)));
		note(s, "batch noexist count", attr.batch.count);
		keys[1] = 1000;
		attr.batch.elem_flags = BPF_EXIST;
		attr.batch.count = 2;
		note(s, "batch exist", bpf(s, BPF_MAP_UPDATE_BATCH, &attr, sizeof(attr)));
		note(s, "batch exist count", attr.batch.count);
		for (u32 i = 0; i < 20; i++) {
			s64 r;

			attr = (union bpf_attr) { .batch = { .map_fd = both[m],
							     .keys = (u64)keys,
							     .values = (u64)values,
							     .count = 16,
							     .in_batch = i ? (u64)&in : 0,
							     .out_batch = (u64)&out } };
			r = bpf(s, BPF_MAP_LOOKUP_BATCH, &attr, sizeof(attr));
			total += attr.batch.count;
			if (r) {
				note(s, "batch lookup ends", r);
				break;
			}
			in = out;
		}
		note(s, "batch lookup total", total);
		attr = (union bpf_attr) { .batch = { .map_fd = both[m],
						     .keys = BAD,
						     .values = (u64)values,
						     .count = 16,
						     .out_batch = (u64)&out } };
		note(s, "batch lookup bad keys", bpf(s, BPF_MAP_LOOKUP_BATCH, &attr, sizeof(attr)));
		keys[0] = 0;
		keys[1] = 1;
		attr = (union bpf_attr) {
			.batch = { .map_fd = both[m], .keys = (u64)keys, .count = 2 }
		};
		note(s, "batch delete", bpf(s, BPF_MAP_DELETE_BATCH, &attr, sizeof(attr)));
		note(s, "batch delete count", attr.batch.count);
		attr.batch.count = 2;
		note(s, "batch delete again", bpf(s, BPF_MAP_DELETE_BATCH, &attr, sizeof(attr)));
		note(s, "batch delete again count", attr.batch.count);
		attr = (union bpf_attr) { .batch = { .map_fd = both[m],
						     .keys = (u64)keys,
						     .values = (u64)values,
						     .count = 16,
						     .out_batch = (u64)&out } };
		note(s, "batch lookup and delete",
		     bpf(s, BPF_MAP_LOOKUP_AND_DELETE_BATCH, &attr, sizeof(attr)));
		note(s, "batch lookup and delete count", attr.batch.count);
	}
	attr = (union bpf_attr) { .batch = { .map_fd = (u32)-1, .count = 1 } };
	note(s, "batch bad fd", bpf(s, BPF_MAP_LOOKUP_BATCH, &attr, sizeof(attr)));
}

static void maps_of_objects(struct side *s, int prog, int event)
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

static int prog_load(struct side *s, const char *name, union bpf_attr attr)
{
	static const struct bpf_insn trivial[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K },
						   { .code = BPF_JMP | BPF_EXIT } };

	if (!attr.insns)
		attr.insns = (u64)trivial;
	if (!attr.insn_cnt)
		attr.insn_cnt = 2;
	if (!attr.license)
		attr.license = (u64) "GPL";
	return note_fd(s, name, bpf(s, BPF_PROG_LOAD, &attr, sizeof(attr)));
}
#define PROG(s, name, ...) prog_load(s, name, (union bpf_attr) { __VA_ARGS__ })

static void prog_checks(struct side *s)
{
	char log[256];

	PROG(s, "prog type 0", .prog_type = 0);
	PROG(s, "prog type 1000", .prog_type = 1000);
	PROG(s, "prog too long", .prog_type = BPF_PROG_TYPE_KPROBE, .insn_cnt = 1000001);
	PROG(s, "prog bad insns", .prog_type = BPF_PROG_TYPE_KPROBE, .insns = BAD);
	PROG(s, "prog bad license", .prog_type = BPF_PROG_TYPE_KPROBE, .license = BAD);
	PROG(s, "prog bad flags", .prog_type = BPF_PROG_TYPE_KPROBE, .prog_flags = 1u << 30);
	PROG(s, "prog bad name", .prog_type = BPF_PROG_TYPE_KPROBE, .prog_name = "a b");
	PROG(s, "prog long name", .prog_type = BPF_PROG_TYPE_KPROBE,
	     .prog_name = "0123456789abcdef");
	PROG(s, "prog log without level", .prog_type = BPF_PROG_TYPE_KPROBE, .log_buf = (u64)log,
	     .log_size = sizeof(log));
	PROG(s, "prog log without size", .prog_type = BPF_PROG_TYPE_KPROBE, .log_buf = (u64)log,
	     .log_level = 1);
	PROG(s, "prog log without buffer", .prog_type = BPF_PROG_TYPE_KPROBE, .log_size = 100,
	     .log_level = 1);
	PROG(s, "prog log level 16", .prog_type = BPF_PROG_TYPE_KPROBE, .log_buf = (u64)log,
	     .log_size = sizeof(log), .log_level = 16);
	PROG(s, "prog log size 1", .prog_type = BPF_PROG_TYPE_KPROBE, .log_buf = (u64)log,
	     .log_size = 1, .log_level = 1);
	PROG(s, "prog log bad buffer", .prog_type = BPF_PROG_TYPE_KPROBE, .log_buf = BAD,
	     .log_size = 100, .log_level = 1);
	PROG(s, "prog func info without btf", .prog_type = BPF_PROG_TYPE_KPROBE, .func_info_cnt = 1,
	     .func_info_rec_size = 8, .func_info = (u64)log, .prog_btf_fd = (u32)-1);
	PROG(s, "prog line info with wrong fd", .prog_type = BPF_PROG_TYPE_KPROBE,
	     .line_info_cnt = 1, .line_info_rec_size = 16, .line_info = (u64)log, .prog_btf_fd = 1);
	PROG(s, "prog attach btf", .prog_type = BPF_PROG_TYPE_KPROBE, .attach_btf_id = 1);
	PROG(s, "prog ifindex", .prog_type = BPF_PROG_TYPE_KPROBE, .prog_ifindex = 1);
	PROG(s, "sk_lookup without attach type", .prog_type = BPF_PROG_TYPE_SK_LOOKUP);
	PROG(s, "cgroup skb wrong attach type", .prog_type = BPF_PROG_TYPE_CGROUP_SKB,
	     .expected_attach_type = 99);
	PROG(s, "sockopt without attach type", .prog_type = BPF_PROG_TYPE_CGROUP_SOCKOPT);
	PROG(s, "syscall with attach type", .prog_type = BPF_PROG_TYPE_SYSCALL,
	     .expected_attach_type = 1, .prog_flags = BPF_F_SLEEPABLE);
}

static s64 perf(struct side *s, struct perf_event_attr attr, pid_t pid, int cpu, u64 flags)
{
	if (!attr.size)
		attr.size = sizeof(attr);
	return call(s, SYS_perf_event_open, (u64)&attr, (u64)(s64)pid, (u64)(s64)cpu, (u64)-1,
		    flags);
}
#define PERF(s, name, pid, cpu, flags, ...)                                                        \
	note_fd(s, name, perf(s, (struct perf_event_attr) { __VA_ARGS__ }, pid, cpu, flags))

static u32 uprobe_type(void)
{
	FILE *f = fopen("/sys/bus/event_source/devices/uprobe/type", "r");
	u32 type = 0;

	if (!f || fscanf(f, "%u", &type) != 1)
		type = 0;
	if (f)
		fclose(f);
	return type;
}

/* A place in this program's file where a probe may be put. */
static __attribute__((noinline)) int probed(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

static u64 probe_offset(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	u64 start, end, offset, found = 0, address = (u64)probed;
	char line[4096];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) == 3 &&
		    address >= start && address < end)
			found = address - start + offset;
	if (f)
		fclose(f);
	return found;
}

static s64 ioc(struct side *s, int fd, u64 cmd, u64 arg)
{
	return call(s, SYS_ioctl, (u64)fd, cmd, arg, 0, 0);
}

static void perf_events(struct side *s, int prog, int tracepoint_prog)
{
	u32 type = uprobe_type();
	u64 exe = (u64) "/proc/self/exe", id = 0;
	u8 large[4096] = { 0 };
	u32 query[4] = { 0 };
	int event, output, clock, link;

	PERF(s, "perf flags", -1, 0, 1u << 20, .type = type, .config1 = exe);
	PERF(s, "perf pid and cpu -1", -1, -1, 0, .type = type, .config1 = exe);
	PERF(s, "perf no such cpu", -1, 100000, 0, .type = type, .config1 = exe);
	PERF(s, "perf no such pid", 0x3fffffff, -1, 0, .type = type, .config1 = exe);
	PERF(s, "perf no path", -1, 0, 0, .type = type);
	PERF(s, "perf bad path", -1, 0, 0, .type = type, .config1 = BAD);
	PERF(s, "perf empty path", -1, 0, 0, .type = type, .config1 = (u64) "");
	PERF(s, "perf no such file", -1, 0, 0, .type = type, .config1 = (u64) "/no/such/file");
	PERF(s, "perf directory", -1, 0, 0, .type = type, .config1 = (u64) "/");
	PERF(s, "perf offset", -1, 0, 0, .type = type, .config1 = exe, .config2 = 1ull << 40);
	PERF(s, "perf ref_ctr odd", -1, 0, 0, .type = type, .config1 = exe,
	     .config2 = probe_offset(), .config = 3ull << 32);
	PERF(s, "perf size 1", -1, 0, 0, .type = type, .size = 1, .config1 = exe);
	PERF(s, "perf size 8192", -1, 0, 0, .type = type, .size = 8192, .config1 = exe);
	PERF(s, "perf unknown type", -1, 0, 0, .type = 12345);
	PERF(s, "perf sample type", -1, 0, 0, .type = type, .config1 = exe,
	     .sample_type = 1ull << 40);
	PERF(s, "perf read format", -1, 0, 0, .type = type, .config1 = exe,
	     .read_format = 1ull << 40);
	memcpy(large, &(struct perf_event_attr) { .type = type, .size = 4096 },
	       sizeof(struct perf_event_attr));
	large[4000] = 1;
	note(s, "perf unknown bytes",
	     call(s, SYS_perf_event_open, (u64)large, (u64)-1, 0, (u64)-1, 0));
	note(s, "perf size told", *(u32 *)(void *)(large + 4) >= 64);
	note(s, "perf bad attr", call(s, SYS_perf_event_open, BAD, (u64)-1, 0, (u64)-1, 0));

	output = PERF(s, "bpf output", -1, 0, PERF_FLAG_FD_CLOEXEC, .type = PERF_TYPE_SOFTWARE,
		      .config = PERF_COUNT_SW_BPF_OUTPUT, .sample_type = PERF_SAMPLE_RAW,
		      .sample_period = 1, .wakeup_events = 1);
	clock = PERF(s, "clock", -1, 0, 0, .type = PERF_TYPE_SOFTWARE,
		     .config = PERF_COUNT_SW_CPU_CLOCK, .sample_period = 1000000000, .disabled = 1);
	PERF(s, "clock too fast", -1, 0, 0, .type = PERF_TYPE_SOFTWARE,
	     .config = PERF_COUNT_SW_CPU_CLOCK, .freq = 1, .sample_freq = 100000000, .disabled = 1);
	event = PERF(s, "uprobe", getpid(), -1, PERF_FLAG_FD_CLOEXEC, .type = type, .config1 = exe,
		     .config2 = probe_offset(), .disabled = 1);

	note(s, "ioctl enable", ioc(s, output, PERF_EVENT_IOC_ENABLE, 0));
	note(s, "ioctl id", ioc(s, output, PERF_EVENT_IOC_ID, (u64)&id));
	note(s, "ioctl id bad", ioc(s, output, PERF_EVENT_IOC_ID, BAD));
	note(s, "ioctl unknown", ioc(s, output, 0x24ff, 0));
	note(s, "set bpf bad fd", ioc(s, event, PERF_EVENT_IOC_SET_BPF, (u64)-1));
	note(s, "set bpf wrong fd", ioc(s, event, PERF_EVENT_IOC_SET_BPF, (u64)output));
	note(s, "set bpf wrong type", ioc(s, event, PERF_EVENT_IOC_SET_BPF, (u64)tracepoint_prog));
	note(s, "clock set bpf wrong type", ioc(s, clock, PERF_EVENT_IOC_SET_BPF, (u64)prog));
	note(s, "query", ioc(s, event, PERF_EVENT_IOC_QUERY_BPF, (u64)query));
	note(s, "period", ioc(s, clock, PERF_EVENT_IOC_PERIOD, BAD));
	id = 0;
	note(s, "period 0", ioc(s, clock, PERF_EVENT_IOC_PERIOD, (u64)&id));

	BPF(s, "link bad prog", BPF_LINK_CREATE, .link_create = { .prog_fd = (u32)-1 });
	BPF(s, "link bad target", BPF_LINK_CREATE,
	    .link_create = {
		    .prog_fd = prog, .target_fd = (u32)-1, .attach_type = BPF_PERF_EVENT });
	BPF(s, "link wrong target", BPF_LINK_CREATE,
	    .link_create = { .prog_fd = prog, .target_fd = prog, .attach_type = BPF_PERF_EVENT });
	BPF(s, "link flags", BPF_LINK_CREATE,
	    .link_create = { .prog_fd = prog,
			     .target_fd = event,
			     .attach_type = BPF_PERF_EVENT,
			     .flags = 1 });
	BPF(s, "link wrong attach type", BPF_LINK_CREATE,
	    .link_create = { .prog_fd = prog, .target_fd = event, .attach_type = BPF_XDP });
	BPF(s, "link attach type 1000", BPF_LINK_CREATE,
	    .link_create = { .prog_fd = prog, .target_fd = event, .attach_type = 1000 });
	BPF(s, "link wrong prog", BPF_LINK_CREATE,
	    .link_create = { .prog_fd = tracepoint_prog,
			     .target_fd = event,
			     .attach_type = BPF_PERF_EVENT });
	BPF(s, "link tracepoint bad target", BPF_LINK_CREATE,
	    .link_create = { .prog_fd = tracepoint_prog,
			     .target_fd = (u32)-1,
			     .attach_type = BPF_PERF_EVENT });
	link = BPF_FD(s, "link", BPF_LINK_CREATE,
		      .link_create = {
			      .prog_fd = prog, .target_fd = event, .attach_type = BPF_PERF_EVENT });
	BPF(s, "link again", BPF_LINK_CREATE,
	    .link_create = { .prog_fd = prog, .target_fd = event, .attach_type = BPF_PERF_EVENT });
	note(s, "set bpf again", ioc(s, event, PERF_EVENT_IOC_SET_BPF, (u64)prog));
	BPF(s, "link detach", BPF_LINK_DETACH, .link_detach.link_fd = link);
	BPF(s, "link detach bad", BPF_LINK_DETACH, .link_detach.link_fd = (u32)-1);
	BPF(s, "link detach wrong", BPF_LINK_DETACH, .link_detach.link_fd = prog);
	BPF(s, "link update", BPF_LINK_UPDATE,
	    .link_update = { .link_fd = link, .new_prog_fd = prog });
	BPF(s, "link update flags", BPF_LINK_UPDATE,
	    .link_update = { .link_fd = link, .new_prog_fd = prog, .flags = 1 });
	maps_of_objects(s, prog, output);
}

static void multi_links(struct side *s)
{
	struct {
		u32 prog_fd, target_fd, attach_type, flags;
		u64 path, offsets, ref_ctr_offsets, cookies;
		u32 cnt, multi_flags, pid;
		u32 rest[20];
	} attr;
	u64 offsets[2] = { 0x40, (u64)-1 };
	int prog = PROG(s, "multi prog", .prog_type = BPF_PROG_TYPE_KPROBE,
			.expected_attach_type = 48);

	if (prog < 0)
		return;
#define MULTI(name, ...)                                                                           \
	do {                                                                                       \
		memset(&attr, 0, sizeof(attr));                                                    \
		attr.prog_fd = (u32)prog;                                                          \
		attr.attach_type = 48;                                                             \
		attr.path = (u64) "/proc/self/exe";                                                \
		attr.offsets = (u64)offsets;                                                       \
		attr.cnt = 1;                                                                      \
		__VA_ARGS__;                                                                       \
		note_fd(s, name, bpf(s, BPF_LINK_CREATE, &attr, sizeof(attr)));                    \
	} while (0)
	MULTI("multi no path", attr.path = 0);
	MULTI("multi bad path", attr.path = BAD);
	MULTI("multi empty path", attr.path = (u64) "");
	MULTI("multi no such file", attr.path = (u64) "/no/such/file");
	MULTI("multi directory", attr.path = (u64) "/");
	MULTI("multi no offsets", attr.offsets = 0);
	MULTI("multi bad offsets", attr.offsets = BAD);
	MULTI("multi bad cookies", attr.cookies = BAD);
	MULTI("multi no count", attr.cnt = 0);
	MULTI("multi large count", attr.cnt = 1u << 21);
	MULTI("multi bad flags", attr.multi_flags = 8);
	MULTI("multi flags", attr.flags = 1);
	MULTI("multi no such pid", attr.pid = 0x3fffffff);
	MULTI("multi negative offset", attr.cnt = 2);
	MULTI("multi perf attach type", attr.attach_type = BPF_PERF_EVENT);
	MULTI("multi tail", attr.rest[5] = 1);
}

static void ids_and_info(struct side *s, int prog)
{
	int fd = MAP(s, "info map", .map_type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 8,
		     .max_entries = 3, .map_name = "named");
	struct bpf_map_info map_info = { 0 };
	struct bpf_prog_info prog_info = { 0 };
	u8 large[4096] = { 0 };
	u32 ids[4];
	union bpf_attr attr;

	BPF(s, "next id too large", BPF_MAP_GET_NEXT_ID, .start_id = 0x7fffffff);
	BPF(s, "next id at end", BPF_MAP_GET_NEXT_ID, .start_id = 0x7ffffffe);
	BPF(s, "next id first", BPF_MAP_GET_NEXT_ID, .start_id = 0);
	BPF(s, "prog next id first", BPF_PROG_GET_NEXT_ID, .start_id = 0);
	BPF(s, "link next id at end", BPF_LINK_GET_NEXT_ID, .start_id = 0x7ffffffe);
	BPF(s, "next id with more", BPF_MAP_GET_NEXT_ID, .start_id = 0, .open_flags = 1);
	BPF(s, "fd by id none", BPF_MAP_GET_FD_BY_ID, .map_id = 0x7ffffffe);
	BPF(s, "fd by id flags", BPF_MAP_GET_FD_BY_ID, .map_id = 0x7ffffffe, .open_flags = 1);
	BPF(s, "prog fd by id none", BPF_PROG_GET_FD_BY_ID, .prog_id = 0x7ffffffe);
	BPF(s, "prog fd by id flags", BPF_PROG_GET_FD_BY_ID, .prog_id = 0x7ffffffe,
	    .open_flags = 8);
	BPF(s, "btf fd by id none", BPF_BTF_GET_FD_BY_ID, .btf_id = 0x7ffffffe);
	BPF(s, "link fd by id none", BPF_LINK_GET_FD_BY_ID, .link_id = 0x7ffffffe);

	BPF(s, "info bad fd", BPF_OBJ_GET_INFO_BY_FD,
	    .info = { .bpf_fd = (u32)-1, .info_len = 10, .info = (u64)&map_info });
	BPF(s, "info wrong fd", BPF_OBJ_GET_INFO_BY_FD,
	    .info = { .bpf_fd = 1, .info_len = 10, .info = (u64)&map_info });
	BPF(s, "info bad address", BPF_OBJ_GET_INFO_BY_FD,
	    .info = { .bpf_fd = fd, .info_len = 10, .info = BAD });
	attr = (union bpf_attr) { .info = {
					  .bpf_fd = fd, .info_len = 24, .info = (u64)&map_info } };
	note(s, "info short", bpf(s, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)));
	note(s, "info short length", attr.info.info_len);
	note(s, "info short value size", map_info.value_size);
	note(s, "info short name", map_info.name[0]);
	large[4000] = 1;
	attr = (union bpf_attr) { .info = { .bpf_fd = fd, .info_len = 4096, .info = (u64)large } };
	note(s, "info large", bpf(s, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)));
	large[4000] = 0;
	note(s, "info large zero", bpf(s, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)));
	attr.info.info_len = 4097;
	note(s, "info above a page", bpf(s, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)));
	attr = (union bpf_attr) {
		.info = { .bpf_fd = fd, .info_len = sizeof(map_info), .info = (u64)&map_info }
	};
	note(s, "info map", bpf(s, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)));
	note(s, "info map name", strcmp(map_info.name, "named"));
	note(s, "info map type", map_info.type);
	note(s, "info map entries", map_info.max_entries);

	prog_info.nr_map_ids = 4;
	prog_info.map_ids = (u64)ids;
	attr = (union bpf_attr) {
		.info = { .bpf_fd = prog, .info_len = sizeof(prog_info), .info = (u64)&prog_info }
	};
	note(s, "info prog", bpf(s, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)));
	note(s, "info prog maps", prog_info.nr_map_ids);
	note(s, "info prog xlated", prog_info.xlated_prog_len);
	note(s, "info prog type", prog_info.type);
	note(s, "info prog gpl", prog_info.gpl_compatible);
	note(s, "info prog uid", prog_info.created_by_uid);
	note(s, "info prog func info", prog_info.nr_func_info);
	prog_info = (struct bpf_prog_info) { .xlated_prog_len = 16, .xlated_prog_insns = BAD };
	note(s, "info prog bad insns", bpf(s, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)));

	BPF(s, "test run of kprobe", BPF_PROG_TEST_RUN, .test = { .prog_fd = prog });
	BPF(s, "test run ctx without size", BPF_PROG_TEST_RUN,
	    .test = { .prog_fd = prog, .ctx_in = (u64)ids });
	BPF(s, "test run bad fd", BPF_PROG_TEST_RUN, .test = { .prog_fd = (u32)-1 });
	BPF(s, "bind map", BPF_PROG_BIND_MAP, .prog_bind_map = { .prog_fd = prog, .map_fd = fd });
	BPF(s, "bind map again", BPF_PROG_BIND_MAP,
	    .prog_bind_map = { .prog_fd = prog, .map_fd = fd });
	BPF(s, "bind map flags", BPF_PROG_BIND_MAP,
	    .prog_bind_map = { .prog_fd = prog, .map_fd = fd, .flags = 1 });
	BPF(s, "bind map bad", BPF_PROG_BIND_MAP,
	    .prog_bind_map = { .prog_fd = prog, .map_fd = prog });
	prog_info = (struct bpf_prog_info) { .nr_map_ids = 0 };
	note(s, "info after bind", bpf(s, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)));
	note(s, "info after bind maps", prog_info.nr_map_ids);
	BPF_FD(s, "enable stats", BPF_ENABLE_STATS, .enable_stats.type = 0);
	BPF(s, "enable stats type", BPF_ENABLE_STATS, .enable_stats.type = 5);
	BPF(s, "pin null", BPF_OBJ_PIN, .bpf_fd = fd);
	BPF(s, "pin flags", BPF_OBJ_PIN, .bpf_fd = fd, .file_flags = 1);
	BPF(s, "pin bad fd", BPF_OBJ_PIN, .bpf_fd = (u32)-1, .pathname = (u64) "/sys/fs/bpf/x");
	BPF(s, "pin not there", BPF_OBJ_PIN, .bpf_fd = fd, .pathname = (u64) "/tmp/ubpf-run-pin");
	BPF(s, "get with fd", BPF_OBJ_GET, .bpf_fd = fd, .pathname = (u64) "/sys/fs/bpf/x");
	BPF(s, "get none", BPF_OBJ_GET, .pathname = (u64) "/sys/fs/bpf/no-such-pin");
}

static int btf_load(struct side *s, const char *name, const void *data, u32 size)
{
	union bpf_attr attr = { .btf = (u64)data, .btf_size = size };

	return note_fd(s, name, bpf(s, BPF_BTF_LOAD, &attr, sizeof(attr)));
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

static void scenario(struct side *s)
{
	int prog, tracepoint_prog;

	attributes(s);
	map_creation(s);
	elements(s, "hash", BPF_MAP_TYPE_HASH);
	elements(s, "array", BPF_MAP_TYPE_ARRAY);
	modes(s);
	queues(s);
	batches(s);
	btf_maps(s);
	prog_checks(s);
	prog = PROG(s, "kprobe", .prog_type = BPF_PROG_TYPE_KPROBE, .prog_name = "oracle");
	tracepoint_prog = PROG(s, "tracepoint", .prog_type = BPF_PROG_TYPE_TRACEPOINT);
	ids_and_info(s, prog);
	perf_events(s, prog, tracepoint_prog);
	multi_links(s);
}

static void finish(struct side *s)
{
	for (u32 i = 0; i < s->nr_fds; i++)
		close(s->fds[i]);
}

int main(void)
{
	static struct side kernel, ours;
	static struct harness h;
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1
	};
	int fd = (int)syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr));
	int differ = 0;

	if (fd < 0 || !uprobe_type()) {
		printf("skip: bpf(2) or uprobe events may not be used here: %s\n", strerror(errno));
		return 77;
	}
	close(fd);
	harness_init(&h);
	ours.h = &h;
	scenario(&kernel);
	finish(&kernel);
	scenario(&ours);
	finish(&ours);
	for (u32 i = 0; i < kernel.nr && i < ours.nr; i++) {
		if (kernel.results[i] == ours.results[i])
			continue;
		printf("%u %s (after %s): Linux %lld, here %lld\n", i, kernel.names[i],
		       i ? kernel.names[i - 1] : "", (long long)kernel.results[i],
		       (long long)ours.results[i]);
		differ++;
	}
	if (kernel.nr != ours.nr) {
		printf("%u results of Linux, %u here\n", kernel.nr, ours.nr);
		differ++;
	}
	printf("%u results compared, %d differ\n", kernel.nr, differ);
	if (!harness_wait_objects(&h, 0)) {
		printf("%u objects outlive their files\n", ub_kernel_objects(h.kernel));
		differ++;
	}
	harness_exit(&h);
	return differ != 0;
}
