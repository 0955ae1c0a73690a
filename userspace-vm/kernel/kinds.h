/* SPDX-License-Identifier: MIT */
/*
 * The kinds of objects and what the commands do with them. Private to this folder.
 */
#ifndef UB_KERNEL_KINDS_H
#define UB_KERNEL_KINDS_H

#include <linux/perf_event.h>

#include <kernel/attr.h>
#include <kernel/file.h>
#include <kernel/object.h>
#include <map/client_ring.h>

struct btf;
struct ub_worker;

#define UB_MAX_LOG (UINT32_MAX >> 2)

/* --- maps (map_object.c, map_cmd.c, map_slots.c, map_batch.c) -------------------------------
 */

struct ub_kernel_map {
	struct ub_object object;
	struct ub_map map; /* bound in this process */
	int memfd;
	char name[BPF_OBJ_NAME_LEN];
	bool frozen;
	bool mmapable; /* its file is the memory itself */
	u32 mode;      /* UB_FILE_* by BPF_F_RDONLY and BPF_F_WRONLY */
	struct ub_kbtf *btf;
	u32 btf_key_type_id;
	u32 btf_value_type_id;
	/* Maps of objects: what each entry refers to, by index; for HASH_OF_MAPS in no order. */
	struct ub_object **slots;
	u32 nr_slots;
	u64 *cgroups;		  /* of CGROUP_ARRAY instead: ids, once there was one */
	struct ub_object *coming; /* inner map that will be shown in the place of another */
	struct ub_map_attr inner; /* of the template, for maps of maps; type 0: none */
	/* Batches of hash maps: the key after which entry batch_at comes. */
	u32 batch_at;
	u8 *batch_key;
	struct ub_client_ring ring; /* RINGBUF */
	struct ub_late *late;	    /* records that wait for room in it, in order */
	struct ub_late **late_end;
	u64 late_bytes;
	int eventfd; /* in the readers' epoll sets, or -1 */
	u64 lost;
	struct ub_timer *task_sweep; /* TASK_STORAGE: looks for threads that died */
	struct ub_timer *left_sweep; /* after one for what hits have left: the next */
	bool left;		     /* something more has been since */
};

/* A hit of a target was left for good and had something of @map: it is swept, now or soon. */
void ub_kmap_sweep_left(struct ub_kernel_map *map);
/* Forgets the records that wait for room. */
void ub_kmap_free_late(struct ub_kernel_map *map);

static inline struct ub_kernel_map *ub_to_map(struct ub_object *object)
{
	return ub_container_of(object, struct ub_kernel_map, object);
}

/* An fd for the client that stands for the map. */
int __must_check ub_kmap_open(struct ub_kernel_map *map, u32 mode);
/* Whether values of this map are given as fds of objects. */
bool ub_kmap_holds_objects(const struct ub_kernel_map *map);
/* The four operations on maps of objects, values being fds at update and ids at lookup. */
int __must_check ub_kmap_object_update(struct ub_kernel_map *map, struct ub_caller *caller,
				       const void *key, u32 fd, u64 flags);
int __must_check ub_kmap_object_lookup(struct ub_kernel_map *map, const void *key, u32 *id);
int __must_check ub_kmap_object_delete(struct ub_kernel_map *map, const void *key);
int __must_check ub_kmap_object_next_key(struct ub_kernel_map *map, const void *key, void *next);
/* Any map. */
int __must_check ub_kmap_update(struct ub_kernel_map *map, struct ub_caller *caller,
				const void *key, const void *value, u64 flags);
int __must_check ub_kmap_lookup(struct ub_kernel_map *map, const void *key, void *value, u64 flags);
int __must_check ub_kmap_delete(struct ub_kernel_map *map, const void *key);
int __must_check ub_kmap_next_key(struct ub_kernel_map *map, const void *key, void *next);
u32 ub_kmap_value_size(const struct ub_kernel_map *map);
/* Whether elements hold something that is not data: a spin lock or a timer. */
static inline bool ub_kmap_has_fields(const struct ub_kernel_map *map)
{
	return map->map.attr.lock || map->map.attr.timer;
}

/* CGROUP_ARRAY (map_cgroup.c), @index being good: 0, -EBADF: @fd is no control group, or
 * -ENOENT. */
int __must_check ub_kmap_cgroup_update(struct ub_kernel_map *map, const struct ub_caller *caller,
				       u32 index, s32 fd);
int __must_check ub_kmap_cgroup_delete(struct ub_kernel_map *map, u32 index);

/* TASK_STORAGE (map_task.c): the key in shared memory of the thread that the caller's pidfd @fd
 * means. 0, -EBADF: no pidfd; -ENOENT: it is gone. */
int __must_check ub_kmap_task_key(struct ub_caller *caller, s32 fd, u64 *pid_tgid);
/* Once in a while from now on: deletes what threads had that have died. */
void ub_kmap_task_watch(struct ub_kernel_map *map);

s64 ub_cmd_map_create(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a, int *fd);
s64 ub_cmd_map_lookup(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a);
s64 ub_cmd_map_update(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a);
s64 ub_cmd_map_delete(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a);
s64 ub_cmd_map_next_key(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a);
s64 ub_cmd_map_lookup_and_delete(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a);
s64 ub_cmd_map_freeze(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a);
s64 ub_cmd_map_batch(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a, u32 cmd);

/* --- programs (prog_cmd.c, test_run.c)
 * ------------------------------------------------------------- */

struct ub_kprog {
	struct ub_object object;
	struct ub_program *program;
	struct ub_code code;
	struct ub_kernel_map *maps[UB_MAX_USED_MAPS]; /* in the program's order */
	u32 nr_maps;
	struct ub_kernel_map **bound; /* by BPF_PROG_BIND_MAP */
	u32 nr_bound;
	struct ub_kbtf *btf;
	bool gpl;
	bool overrides; /* calls bpf_override_return() */
	u8 tag[BPF_TAG_SIZE];
	u64 load_time;
	struct bpf_func_info *func_info;
	u32 nr_func_info;
	struct bpf_line_info *line_info;
	u32 nr_line_info;
};

/* A program and all that tail calls lead to from it at this moment: no references are held. */
struct ub_reach {
	u32 nr;
	struct ub_kprog *progs[256]; /* further ones are as good as not there */
};
void ub_kprog_reach(struct ub_kprog *prog, struct ub_reach *reach);
/* Index of the program in slot @slot of a PROG_ARRAY, or -1: none that may be called from there. */
int ub_reach_slot(const struct ub_reach *reach, const struct ub_kernel_map *map, u32 slot);

static inline struct ub_kprog *ub_to_prog(struct ub_object *object)
{
	return ub_container_of(object, struct ub_kprog, object);
}

/* The tag of a program (tag.c), BPF_TAG_SIZE bytes. */
void ub_prog_tag(const struct bpf_insn *insns, u32 nr, u8 *tag);

s64 ub_cmd_prog_load(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a, int *fd);
s64 ub_cmd_prog_test_run(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a);
s64 ub_cmd_prog_bind_map(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a);
s64 ub_cmd_enable_stats(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a, int *fd);

/* The caller's log buffer (log.c). */
struct ub_log {
	u32 level;
	bool fixed; /* BPF_LOG_FIXED: keep the beginning, not the end */
	u64 address;
	u32 size;
	char *text; /* what is kept, at most size bytes and then some */
	size_t used;
	u64 total; /* all that was written, without the final NUL */
};

/* Checks level, buffer and size as bpf_vlog_init() does: 0 or -EINVAL. */
int __must_check ub_log_init(struct ub_log *log, u32 level, u64 address, u32 size);
void ub_log_write(void *log, const char *text, size_t size);
void ub_log_printf(struct ub_log *log, const char *fmt, ...) __printf_like(2, 3);
/* Copies it to the caller: 0, -EFAULT, or -ENOSPC if not all of it fitted. *true_size is set in any
 * case. */
int __must_check ub_log_finish(struct ub_log *log, struct ub_caller *caller, u32 *true_size);
void ub_log_exit(struct ub_log *log);

/* --- BTF (btf_cmd.c, btf_check.c)
 * -------------------------------------------------------------------- */

struct ub_kbtf {
	struct ub_object object;
	struct btf *btf; /* parsed by libbpf, after btf_check.c has let it through */
	u8 *data;	 /* as loaded */
	u32 size;
};

static inline struct ub_kbtf *ub_to_btf(struct ub_object *object)
{
	return ub_container_of(object, struct ub_kbtf, object);
}

/* Whether @data is BTF that the kernel would accept: 0, -EINVAL, -E2BIG, ...; the reason goes to
 * @log. */
int __must_check ub_btf_check(const u8 *data, u32 size, struct ub_log *log);
s64 ub_cmd_btf_load(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a, int *fd);

/* --- perf events (perf.c) and links (link_cmd.c)
 * -------------------------------------------------------- */

/* Where a program is attached to; owned by a perf event or a link. */
struct ub_point_spec {
	char *path;
	dev_t dev;
	ino_t ino;
	u64 offset;
	u64 ref_ctr_offset;
	u64 cookie;
	u32 view_id;
	bool is_return;
	pid_t pid;
};

struct ub_kperf {
	struct ub_object object;
	struct perf_event_attr attr;
	bool is_uprobe;
	struct ub_point_spec point;
	pid_t pid;
	s32 cpu;
	bool enabled;
	bool attached; /* the daemon has been told */
	struct ub_kprog *prog;
	struct ub_object *link;	  /* that put prog there, not counted; NULL: ioctl did */
	struct ub_worker *worker; /* runs prog on a clock */
	/* BPF_OUTPUT: the buffer's memory, and our mapping of it once the client's has told its
	 * size. */
	int memfd;
	struct ub_perf_page page; /* base NULL: not known yet */
	u64 lost;		  /* until then */
	int eventfd;
	pid_t owner;
};

static inline struct ub_kperf *ub_to_perf(struct ub_object *object)
{
	return ub_container_of(object, struct ub_kperf, object);
}

struct ub_klink {
	struct ub_object object;
	u32 type; /* enum bpf_link_type */
	struct ub_kprog *prog;
	struct ub_kperf *perf;	      /* PERF_EVENT */
	struct ub_point_spec *points; /* UPROBE_MULTI */
	u32 nr_points;
	u32 flags;
	pid_t pid;
	u64 cookie;
};

static inline struct ub_klink *ub_to_link(struct ub_object *object)
{
	return ub_container_of(object, struct ub_klink, object);
}

#define UB_LINK_TYPE_UPROBE_MULTI 12
#define UB_ATTACH_UPROBE_MULTI	  48
#define UB_ATTACH_UPROBE_SESSION  57

void ub_perf_open(struct ub_kernel *k, struct ub_caller *c, const struct ub_call *call,
		  struct ub_reply *reply);
void ub_perf_ioctl(struct ub_kernel *k, struct ub_caller *c, const struct ub_call *call,
		   struct ub_reply *reply);
/* Puts @prog on @event, for SET_BPF (@link NULL) or a link; attaches if the event is enabled. */
int __must_check ub_perf_set_prog(struct ub_kperf *event, struct ub_kprog *prog, u64 cookie,
				  struct ub_object *link, struct ub_caller *caller);
void ub_perf_clear_prog(struct ub_kperf *event);
/* The size of the client's mapping of a BPF_OUTPUT event, once that can be found out. */
void ub_perf_find_size(struct ub_kperf *event);
void ub_perf_set_size(struct ub_kperf *event, u64 length);

s64 ub_cmd_link_create(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a, int *fd);
s64 ub_cmd_link_update(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a);
s64 ub_cmd_link_detach(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a);
/* Finds the file that the caller means by @path. 0, -ENOENT, -EINVAL (no regular file), ... */
int __must_check ub_point_resolve(struct ub_point_spec *point, struct ub_caller *caller,
				  const char *path, u64 *size);
void ub_point_exit(struct ub_point_spec *point);
void ub_point_view(const struct ub_point_spec *point, const struct ub_kprog *prog, u64 session,
		   struct ub_link_view *view);

/* --- the rest
 * ------------------------------------------------------------------------------------------- */

s64 ub_cmd_get_next_id(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a,
		       enum ub_kind kind);
s64 ub_cmd_get_fd_by_id(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a,
			enum ub_kind kind, int *fd);
s64 ub_cmd_get_info(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a);
s64 ub_cmd_task_fd_query(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a);
s64 ub_cmd_obj_pin(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a);
s64 ub_cmd_obj_get(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *a, int *fd);
void ub_pins_exit(struct ub_kernel *k);
/* A client's fd for any object. */
int __must_check ub_object_open(struct ub_object *object, u32 mode);

void ub_epoll_ctl(struct ub_kernel *k, struct ub_caller *c, const struct ub_call *call,
		  struct ub_reply *reply);
/* Whether the readers of @object have not read everything. */
bool ub_object_unread(struct ub_object *object);
void ub_object_wake(struct ub_object *object);
/* Whether clients can wait for records in it. */
bool ub_object_can_wait(const struct ub_object *object);

/* poll(2) and select(2) on such objects (poll.c). */
void ub_poll_call(struct ub_kernel *k, struct ub_caller *c, const struct ub_call *call);
/* Before an mmap of the caller's @number, which is @file, a pipe. */
void ub_poll_before_mmap(struct ub_caller *c, int number, struct ub_file *file);
/* Makes who polls the object ready, or not, as there are records unread or not. */
void ub_poll_level(struct ub_object *object);

#endif
