/* SPDX-License-Identifier: MIT */
/*
 * Maps in shared memory. One map = one sealed memfd of ub_map_shared_size() bytes, mapped by the
 * daemon, by each target that runs a program using it, and (where its type can be mmapped) by the
 * client. struct ub_map is a process's own, private descriptor of it: whatever is relied on (sizes,
 * masks, offsets) is in there and never read from the shared memory, which is hostile input.
 *
 * The functions marked [F] are freestanding: they are also compiled into the agent. They make no
 * system call, take no lock that a dead or stopped participant could hold, and never wait.
 */
#ifndef UB_MAP_MAP_H
#define UB_MAP_MAP_H

#include <linux/bpf.h>

#include <common/types.h>

struct ub_run;

/* The shape of a map, as given to BPF_MAP_CREATE. */
struct ub_map_attr {
	u32 type; /* enum bpf_map_type */
	u32 key_size;
	u32 value_size;
	u32 max_entries;
	u32 flags; /* BPF_F_* */
	u32 id;	   /* the map's id, for information */
	u64 extra; /* map_extra: bloom filter's hash functions */
	u32 lock;  /* 1 + offset of the value's struct bpf_spin_lock; 0: it has none */
	u32 timer; /* 1 + offset of the value's struct bpf_timer; 0: it has none */
};

/*
 * Private descriptor. Plain data without pointers to functions, so that the image builder can
 * write it for another address space with addresses valid there.
 */
struct ub_map {
	struct ub_map_attr attr;
	u32 nr_cpus; /* number of per-CPU slots */
	u64 value_stride; /* bytes from one value to the next of the same element (per CPU); 0: no such */
	u64 elem_stride; /* bytes from one element's value to the next element's, on the same CPU */
	u64 values_offset; /* of the first value from shared: what LD_IMM64 MAP_VALUE is relative to */
	u64 mask; /* index mask (arrays: all ones below the next power of two) or bucket mask */
	u64 shared_size;
	u8 *shared; /* base of the shared memory in this process */
	struct ub_map **
		inner; /* maps of maps, PROG_ARRAY: per-process table of nr_inner pointers, or NULL */
	u64 type_words[8]; /* derived geometry, by type */
	u32 key_size; /* of a node's key: attr.key_size, but for TASK_STORAGE, see task_storage.h */
	u32 nr_inner; /* entries of inner: max_entries, but for maps of maps as many as was chosen */
};

/* Checks @attr as the kernel's map_alloc_check() and map_alloc() of the type do. 0, -EINVAL,
 * -E2BIG, -ENOMEM, -EPERM or -ENOTSUPP (524) as Linux answers. */
int __must_check ub_map_check(const struct ub_map_attr *attr, u32 nr_cpus);

/* Bytes of shared memory for a checked @attr, a multiple of the page size. */
u64 ub_map_shared_size(const struct ub_map_attr *attr, u32 nr_cpus);

/* Fills @map for shared memory at @shared (an address in whichever process will use @map; it is
 * not dereferenced). @attr has been checked. */
void ub_map_bind(struct ub_map *map, const struct ub_map_attr *attr, u32 nr_cpus, void *shared);

/* Formats fresh, zeroed shared memory, once, by its creator. @map is bound in this process. */
void ub_map_format(struct ub_map *map);

/* --- from programs [F]: per-CPU types use run->cpu ------------------------------------------ */

/* Address of the value, or NULL. Stays safe to read and write until the program returns. */
void *ub_map_lookup(struct ub_map *map, const void *key, struct ub_run *run);
/* 0, -EEXIST, -ENOENT, -E2BIG, -EINVAL, -EBUSY, -ENOMEM as the kernel's map_update_elem. */
long ub_map_update(struct ub_map *map, const void *key, const void *value, u64 flags,
		   struct ub_run *run);
long ub_map_delete(struct ub_map *map, const void *key, struct ub_run *run);
long ub_map_push(struct ub_map *map, const void *value, u64 flags);
long ub_map_push_run(struct ub_map *map, const void *value, u64 flags, struct ub_run *run);
long ub_map_pop(struct ub_map *map, void *value);
long ub_map_pop_run(struct ub_map *map, void *value, struct ub_run *run);
long ub_map_peek(struct ub_map *map, void *value);
void *ub_map_lookup_percpu(struct ub_map *map, const void *key, u32 cpu);

/*
 * mmap(2) by clients. ARRAY with BPF_F_MMAPABLE: the file as it is, values from offset 0,
 * round_up(value_size, 8) apart. RINGBUF and USER_RINGBUF: consumer position page, producer
 * position page, then the data *twice* (a plain file can't alias itself), 2 * page + 2 *
 * max_entries bytes as the kernel maps them: the daemon is the only writer of a RINGBUF's data and
 * writes both copies (map/client_ring.h); a USER_RINGBUF's data nobody but the client writes
 * (map/user_ring.h).
 */

/* --- from the bpf(2) surface: values of all CPUs, each rounded up to 8 bytes ----------------- */

/* Size of the value buffer that bpf(2) exchanges: value_size, or round_up(value_size, 8) *
 * nr_cpus. */
u32 ub_map_user_value_size(const struct ub_map *map);
int __must_check ub_map_sys_lookup(struct ub_map *map, const void *key, void *value, u64 flags);
int __must_check ub_map_sys_update(struct ub_map *map, const void *key, const void *value,
				   u64 flags);
int __must_check ub_map_sys_delete(struct ub_map *map, const void *key);
int __must_check ub_map_sys_lookup_and_delete(struct ub_map *map, const void *key, void *value,
					      u64 flags);
/* @key NULL: the first key; else not where @next_key is. While others write: each key that is there
 * all the time is met. -ENOENT after the last. */
int __must_check ub_map_sys_next_key(struct ub_map *map, const void *key, void *next_key);

/*
 * Gives back what participants left when they died in the middle of something, or were known to
 * have left it (UB_EVENT_LEFT): nodes that nobody links, hints that were not given. It harms
 * nothing at any time and waits for nobody. @is_alive(opaque, tgid): whether the process that
 * struct ub_process.tgid_pid names still lives. Returns the number of nodes given back.
 */
u64 ub_map_sweep(struct ub_map *map, bool (*is_alive)(void *opaque, u32 tgid), void *opaque);

/*
 * ARRAY_OF_MAPS, HASH_OF_MAPS: the values in shared memory are ids of inner maps (u32; 0 = none),
 * what bpf(2) lookup returns and ub_map_sys_update() stores. The per-process table `inner` holds,
 * in any order and with NULL for nothing, the struct ub_map of every inner map: ub_map_inner_add()
 * puts one in before its id is published in the shared memory. An id without a map in the table
 * looks up as NULL. PROG_ARRAY's table has an entry for each slot: where a tail call jumps to
 * (jit.h), 0 for an empty one. What the shared memory holds does not matter there. PROG_ARRAY,
 * PERF_EVENT_ARRAY: values are u32 as well: the program's id; nonzero where there is a perf event.
 * In a CGROUP_ARRAY an entry is the cgroup's id, of eight bytes, or 0.
 */
/* 0, or -ENOSPC. @table has @n (= nr_inner) entries. */
int ub_map_inner_add(struct ub_map **table, u32 n, struct ub_map *inner);
struct ub_map *ub_map_inner_find(struct ub_map *const *table, u32 n, u32 id); /* [F] */

#endif
