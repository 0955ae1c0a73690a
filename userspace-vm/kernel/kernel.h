/* SPDX-License-Identifier: MIT */
/*
 * The userspace kernel: answers bpf(2), perf_event_open(2), ioctl(2) on perf events and
 * epoll_ctl(2) on its files as Linux does. It knows objects (maps, programs, BTF, links, perf
 * events) and their files; it does not know how calls reach it (daemon/: seccomp listener or
 * socket) nor how targets are operated on (daemon/targets.c, through struct ub_kernel_ops).
 */
#ifndef UB_KERNEL_KERNEL_H
#define UB_KERNEL_KERNEL_H

#include <sys/types.h>

#include <common/loop.h>
#include <common/reason.h>
#include <jit/jit.h>
#include <map/event_ring.h>
#include <map/map.h>

struct ub_kernel;
struct ub_kernel_map;

/* A process that makes calls. Created by the transport, one per client process. */
struct ub_caller {
	pid_t pid; /* in the daemon's pid namespace */
	int pidfd;
	uid_t uid;
	gid_t gid;
	u64 session; /* which session's objects and sandbox it belongs to */
	/* Memory of the caller. 0 or -EFAULT. Checks that the call is still alive after reading. */
	int (*read)(struct ub_caller *caller, u64 address, void *into, size_t size);
	int (*write)(struct ub_caller *caller, u64 address, const void *from, size_t size);
	/* Puts a duplicate of @fd, with @flags (O_CLOEXEC), in the place of the caller's @number. 0
	 * or -errno. NULL: the transport can't. */
	int (*install)(struct ub_caller *caller, int fd, int number, u32 flags);
	/* The epoll file of the epoll_ctl() at hand, as a descriptor for us to close, or -errno.
	 * NULL: we take it from the caller's table, which containers forbid. */
	int (*epoll_file)(struct ub_caller *caller);
	void *opaque;
	u64 call_id; /* transport's */
};

struct ub_call {
	int nr; /* __NR_bpf, ... */
	u64 args[6];
};

/* What the transport does then: install @fd (if >= 0, closing its own copy) with @fd_flags and
 * return its number, else return
 * @value (result or -errno). A reply that can't be delivered is undone by closing the fd: last
 * close frees the object. @pass: the call is not ours; let the real kernel have it. */
struct ub_reply {
	s64 value;
	int fd;
	u32 fd_flags; /* O_CLOEXEC */
	bool pass;
};

/* A link as its attacher sees it; lives from attach to detach. */
struct ub_link_view {
	u32 link_id;
	u32 prog_id;
	pid_t pid; /* -1: every process that maps the file */
	u64 session;
	const char *path; /* as the client named it */
	dev_t dev;	  /* of that file, as the client sees it */
	ino_t ino;
	u64 offset;
	u64 ref_ctr_offset;
	u64 cookie;
	bool is_return;
	const struct ub_program *program;
	const struct ub_code *code;
	u32 nr_maps;
	struct ub_kernel_map *const *maps; /* the program's maps */
};

struct ub_kernel_ops {
	/* All or nothing; returns -errno and @why. Several views (uprobe_multi) go in one stop per
	 * process. */
	int (*attach)(void *opaque, const struct ub_link_view *views, u32 nr,
		      struct ub_caller *caller, struct ub_reason *why);
	/* Always ends with the links gone. */
	void (*detach)(void *opaque, const u32 *link_ids, u32 nr);
	void (*enable)(void *opaque, u32 link_id, bool enabled);
	void (*counters)(void *opaque, u32 link_id, u64 *hits, u64 *misses);
	/* Messages for people (daemon's log, session's terminal). */
	void (*log)(void *opaque, u64 session, const char *text);
	/* Optional (NULL): a line of trace_pipe, with its newline. */
	void (*trace)(void *opaque, const char *line, size_t size);
	/* Optional: an entry of a map of maps or of a PROG_ARRAY changes. What comes can be asked
	 * for (below) and is not shown to programs before this returns; what goes is not shown any
	 * more, or is still there if something comes in its place. */
	void (*map_changed)(void *opaque, struct ub_kernel_map *map);
	/* Optional: runs and misses of all links that a program has and had. */
	void (*program_counters)(void *opaque, u32 prog_id, u64 *hits, u64 *misses);
	/* Optional: the program is gone, and what was counted for it may be forgotten. */
	void (*program_gone)(void *opaque, u32 prog_id);
};

struct ub_kernel *ub_kernel_new(struct ub_loop *loop, const struct ub_kernel_ops *ops, void *opaque,
				u32 nr_cpus);
void ub_kernel_free(struct ub_kernel *kernel);

void ub_kernel_call(struct ub_kernel *kernel, struct ub_caller *caller, const struct ub_call *call,
		    struct ub_reply *reply);

/* A record that a target produced: goes to the ring or perf buffer of the map it names, whose
 * readers are woken. That the process's image holds that map was checked by the caller. False: a
 * ring buffer that has no room for it now. */
bool ub_kernel_deliver(struct ub_kernel *kernel, const struct ub_event *event);
/* The same for a ring buffer's record that can't be had again: kept until there is room. Lost, and
 * counted, is what would take too much memory. */
void ub_kernel_deliver_later(struct ub_kernel *kernel, const struct ub_event *event);
/* Bytes in the ring buffer @map_id that its client has not read. */
u64 ub_kernel_ring_unread(struct ub_kernel *kernel, u32 map_id);
/* Where the next record of the ring buffer @map_id will stand, of all that were ever delivered. */
u64 ub_kernel_ring_position(struct ub_kernel *kernel, u32 map_id);
/* After one or many of these, before anything else: the readers see them and are woken. */
void ub_kernel_delivered(struct ub_kernel *kernel);
/* Records that programs could not put into @map_id for want of room, so far. */
u64 ub_kernel_lost_of(struct ub_kernel *kernel, u32 map_id);
/* Records that were lost before they reached us, for @map_id. */
void ub_kernel_lost(struct ub_kernel *kernel, u32 map_id, u64 count);

/* The memfd and shape of a map, for images. */
int ub_kernel_map_fd(const struct ub_kernel_map *map);
const struct ub_map_attr *ub_kernel_map_attr(const struct ub_kernel_map *map);
u32 ub_kernel_map_id(const struct ub_kernel_map *map);

/* Entries of a map that holds objects: how many there are at most (0: no such map), the inner map
 * of one, or the program of one (PROG_ARRAY; only its program, code and maps are filled in). NULL,
 * false: empty. For HASH_OF_MAPS the entries are in no order and a value in shared memory is the
 * inner map's id. */
u32 ub_kernel_map_slots(const struct ub_kernel_map *map);
struct ub_kernel_map *ub_kernel_map_inner(const struct ub_kernel_map *map, u32 index);
bool ub_kernel_map_program(const struct ub_kernel_map *map, u32 index, struct ub_link_view *view);

/* ub_map_sweep() of every map: after a process with maps died. @is_alive(opaque, tgid). */
void ub_kernel_sweep(struct ub_kernel *kernel, bool (*is_alive)(void *opaque, u32 tgid),
		     void *opaque);

/* The number that clients must find in /sys/bus/event_source/devices/uprobe/type. */
u32 ub_kernel_uprobe_type(const struct ub_kernel *kernel);

/* The session is over: what it pinned lets go. Everything else ends with its files. */
void ub_kernel_session_end(struct ub_kernel *kernel, u64 session);

/* What /proc/PID/fdinfo/FD says about an object of ours after Linux's own lines: number of bytes,
 * as snprintf(); -EBADF, -EINVAL: not ours. */
int ub_kernel_fdinfo(struct ub_kernel *kernel, struct ub_caller *caller, int fd, char *out,
		     size_t size);

/* What readlink() says in /proc/PID/fd of an object of ours on Linux; NULL: not ours. */
const char *ub_kernel_file_name(struct ub_kernel *kernel, struct ub_caller *caller, int fd);

/* Number of objects alive, so that the daemon knows when it is idle. */
u32 ub_kernel_objects(const struct ub_kernel *kernel);

#endif
