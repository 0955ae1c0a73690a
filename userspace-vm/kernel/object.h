/* SPDX-License-Identifier: MIT */
/*
 * Objects of the userspace kernel, their ids, references and lifetimes (object.c), and the kernel's
 * own state. Private to this folder.
 *
 * An object lives while somebody holds a reference: a file of a client (file.c), a pin (pin.c), or
 * another object (a program holds its maps, a link its program, a perf event its program). All of
 * it runs inside the daemon's loop, so references are plain integers.
 */
#ifndef UB_KERNEL_OBJECT_H
#define UB_KERNEL_OBJECT_H

#include <common/cleanup.h>
#include <kernel/kernel.h>

enum ub_kind {
	UB_KIND_MAP,
	UB_KIND_PROG,
	UB_KIND_BTF,
	UB_KIND_LINK,
	UB_KIND_PERF,
	UB_KIND_STATS, /* the fd that BPF_ENABLE_STATS returns */
	UB_KINDS,
};

struct ub_object {
	enum ub_kind kind;
	u32 id;
	u32 refs;
	u32 files; /* of them, held by clients' files and by pins ("user references") */
	struct ub_kernel *kernel;
	struct ub_object *next_dying;
	u64 session;
	uid_t uid;
	struct ub_file *poll_file; /* the pipe that clients poll (poll.c), or NULL */
};

/* Objects of one kind by ascending id. Ids are never used twice, as long as there are 2^31 of them.
 */
struct ub_id_space {
	struct ub_object **objects;
	u32 nr;
	u32 capacity;
	u32 last_id;
};

#define UB_FILE_BUCKETS 1024

struct ub_file;
struct ub_pin;

struct ub_kernel {
	struct ub_loop *loop;
	const struct ub_kernel_ops *ops;
	void *opaque;
	u32 nr_cpus;
	u32 uprobe_type; /* the uprobe PMU's number */
	u32 nr_objects;
	u32 stats_enabled;
	u32 nr_workers;
	struct ub_id_space ids[UB_KINDS];
	struct ub_file *files[UB_FILE_BUCKETS]; /* by inode */
	u32 nr_files;
	int inotify_fd;
	struct ub_watch *inotify_watch;
	struct ub_timer *ask_timer; /* asks once more whether memory is still open */
	struct ub_pin *pins;
	u32 nr_pins;
	struct ub_object *dying; /* to be destroyed by the put that is at it */
	bool destroying;
	struct ub_timer *tick; /* wakes readers again that were woken and did not read */
	struct ub_kernel_map *unpublished; /* has records that its client does not see yet */
	struct ub_object **ticking;	   /* maps and perf events with unread records */
	u32 nr_ticking;
	u32 ticking_capacity;
};

/* Starts @object's life with one reference and a fresh id. -ENOMEM. */
int __must_check ub_object_init(struct ub_object *object, struct ub_kernel *kernel,
				enum ub_kind kind, const struct ub_caller *caller);
void ub_object_get(struct ub_object *object);
/* Drops a reference; the last one frees the object, and by way of its references others. */
void ub_object_put(struct ub_object *object);
/* References by files and pins: when the last of those goes, some kinds let go of what they hold.
 */
void ub_object_get_user(struct ub_object *object);
void ub_object_put_user(struct ub_object *object);

/* The object with @id, or NULL; no reference is taken. */
struct ub_object *ub_object_by_id(struct ub_kernel *kernel, enum ub_kind kind, u32 id);
/* The first object with an id above @id, or NULL. */
struct ub_object *ub_object_after(struct ub_kernel *kernel, enum ub_kind kind, u32 id);
/* A number from the kind's ids that no object has. */
u32 ub_object_reserve_id(struct ub_kernel *kernel, enum ub_kind kind);

static inline void ub_cleanup_object(struct ub_object **object)
{
	if (*object)
		ub_object_put(*object);
}
#define _cleanup_object_ __attribute__((cleanup(ub_cleanup_object)))

#define ub_container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Each kind's destructor; called with nobody referring to the object any more. */
void ub_kmap_destroy(struct ub_object *object);
void ub_kprog_destroy(struct ub_object *object);
void ub_kbtf_destroy(struct ub_object *object);
void ub_klink_destroy(struct ub_object *object);
void ub_kperf_destroy(struct ub_object *object);
void ub_kstats_destroy(struct ub_object *object);
/* The last file and pin of a map went: program arrays let go of their programs. */
void ub_kmap_release_user(struct ub_object *object);

/* The object stays known to be holding unread records until ub_tick_remove(). */
void ub_tick_add(struct ub_object *object);
void ub_tick_remove(struct ub_object *object);

#endif
