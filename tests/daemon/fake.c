// SPDX-License-Identifier: MIT
#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <hook/image.h>
#include <kernel/kernel.h>
#include <surgeon/surgeon.h>

/* --- kernel -------------------------------------------------------------------------------------
 */

struct fake_link {
	struct ub_kernel *kernel;
	struct fake_link *next;
	struct ub_watch *watch;
	int sock;
	u32 id;
};

struct ub_kernel {
	struct ub_loop *loop;
	const struct ub_kernel_ops *ops;
	void *opaque;
	struct fake_link *links;
	u32 last_id;
};

struct ub_kernel *ub_kernel_new(struct ub_loop *loop, const struct ub_kernel_ops *ops, void *opaque,
				u32 nr_cpus)
{
	struct ub_kernel *kernel = calloc(1, sizeof(*kernel));

	*kernel = (struct ub_kernel) { .loop = loop, .ops = ops, .opaque = opaque };
	return kernel;
}

static void link_free(struct fake_link *link)
{
	struct ub_kernel *kernel = link->kernel;
	struct fake_link **at;

	for (at = &kernel->links; *at != link; at = &(*at)->next)
		;
	*at = link->next;
	kernel->ops->detach(kernel->opaque, &link->id, 1);
	ub_watch_remove(link->watch);
	close(link->sock);
	free(link);
}

static void on_last_close(void *opaque, u32 events)
{
	link_free(opaque);
}

void ub_kernel_free(struct ub_kernel *kernel)
{
	while (kernel->links)
		link_free(kernel->links);
	free(kernel);
}

static int attach(struct ub_kernel *kernel, struct ub_caller *caller, u64 address)
{
	struct fake_attach attr;
	struct ub_link_view view = { .path = "fake", .session = caller->session };
	struct ub_reason why = {};
	struct fake_link *link;
	int socks[2], err;

	if (caller->read(caller, address, &attr, sizeof(attr)))
		return -EFAULT;
	view.link_id = attr.id = ++kernel->last_id;
	view.pid = attr.pid;
	view.offset = attr.offset;
	view.dev = attr.dev;
	view.ino = attr.ino;
	err = kernel->ops->attach(kernel->opaque, &view, 1, caller, &why);
	if (err)
		return err;
	/* It may have been killed meanwhile. */
	if (caller->write(caller, address, &attr, sizeof(attr)) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks)) {
		kernel->ops->detach(kernel->opaque, &attr.id, 1);
		return -EFAULT;
	}
	link = calloc(1, sizeof(*link));
	link->kernel = kernel;
	link->id = attr.id;
	link->sock = socks[0];
	link->watch = ub_loop_watch(kernel->loop, link->sock, EPOLLRDHUP, on_last_close, link);
	link->next = kernel->links;
	kernel->links = link;
	return socks[1];
}

static s64 add(struct ub_caller *caller, u64 address)
{
	u64 value;

	if (caller->read(caller, address, &value, sizeof(value)))
		return -EFAULT;
	value++;
	return caller->write(caller, address, &value, sizeof(value));
}

void ub_kernel_call(struct ub_kernel *kernel, struct ub_caller *caller, const struct ub_call *call,
		    struct ub_reply *reply)
{
	int fd = -1;

	if (call->nr != SYS_bpf) {
		reply->pass = true;
		return;
	}
	switch (call->args[0]) {
	case FAKE_ATTACH:
		fd = attach(kernel, caller, call->args[1]);
		break;
	case FAKE_ADD:
		reply->value = add(caller, call->args[1]);
		return;
	case FAKE_FILE:
		fd = memfd_create("fake", MFD_CLOEXEC);
		break;
	default:
		fd = -EINVAL;
	}
	if (fd < 0) {
		reply->value = fd;
		return;
	}
	reply->fd = fd;
	reply->fd_flags = O_CLOEXEC;
}

void ub_kernel_delivered(struct ub_kernel *kernel)
{
}

u64 ub_kernel_ring_unread(struct ub_kernel *kernel, u32 map_id)
{
	return 0;
}

void ub_kernel_deliver_later(struct ub_kernel *kernel, const struct ub_event *event)
{
}

u64 ub_kernel_ring_position(struct ub_kernel *kernel, u32 map_id)
{
	return 0;
}

bool ub_kernel_deliver(struct ub_kernel *kernel, const struct ub_event *event)
{
	return true;
}

u64 ub_kernel_lost_of(struct ub_kernel *kernel, u32 map_id)
{
	return 0;
}

void ub_kernel_lost(struct ub_kernel *kernel, u32 map_id, u64 count)
{
}

int ub_kernel_map_fd(const struct ub_kernel_map *map)
{
	return -1;
}

const struct ub_map_attr *ub_kernel_map_attr(const struct ub_kernel_map *map)
{
	return NULL;
}

u32 ub_kernel_map_id(const struct ub_kernel_map *map)
{
	return 0;
}

u32 ub_kernel_map_slots(const struct ub_kernel_map *map)
{
	return 0;
}

struct ub_kernel_map *ub_kernel_map_inner(const struct ub_kernel_map *map, u32 index)
{
	return NULL;
}

bool ub_kernel_map_program(const struct ub_kernel_map *map, u32 index, struct ub_link_view *view)
{
	return false;
}

void ub_kernel_session_end(struct ub_kernel *kernel, u64 session)
{
}

void ub_kernel_sweep(struct ub_kernel *kernel, bool (*is_alive)(void *opaque, u32 tgid),
		     void *opaque)
{
}

u32 ub_kernel_uprobe_type(const struct ub_kernel *kernel)
{
	return 8;
}

int ub_kernel_fdinfo(struct ub_kernel *kernel, struct ub_caller *caller, int fd, char *out,
		     size_t size)
{
	return -EINVAL;
}

const char *ub_kernel_file_name(struct ub_kernel *kernel, struct ub_caller *caller, int fd)
{
	return NULL;
}

u32 ub_kernel_objects(const struct ub_kernel *kernel)
{
	u32 nr = 0;

	for (const struct fake_link *link = kernel->links; link; link = link->next)
		nr++;
	return nr;
}

/* --- images -------------------------------------------------------------------------------------
 */

struct ub_image {
	u32 nr;
	u32 *ids;
};

int ub_image_build(const struct ub_image_request *request, struct ub_image **out,
		   struct ub_reason *why)
{
	struct ub_image *image;

	for (u32 i = 0; i < request->nr_links; i++) {
		if (request->links[i].point.offset == 0xbad)
			return ub_reason_set(why, -EOPNOTSUPP, "bad offset");
	}
	image = calloc(1, sizeof(*image));
	image->nr = request->nr_links;
	image->ids = calloc(image->nr, sizeof(u32));
	for (u32 i = 0; i < image->nr; i++)
		image->ids[i] = request->links[i].link_id;
	*out = image;
	return 0;
}

void ub_image_free(struct ub_image *image)
{
	if (!image)
		return;
	free(image->ids);
	free(image);
}

void ub_image_counters(const struct ub_image *image, u32 link_id, u64 *hits, u64 *misses)
{
	*hits = 1;
	*misses = 0;
}

void ub_image_count(const struct ub_image *image,
		    void (*each)(void *opaque, u32 link_id, u64 hits, u64 misses), void *opaque)
{
	for (u32 i = 0; i < image->nr; i++)
		each(opaque, image->ids[i], 1, 0);
}

struct ub_event_ring *ub_image_events(const struct ub_image *image, u32 *data_size)
{
	return NULL;
}

struct ub_event_ring *ub_image_map_events(const struct ub_image *image, u32 i, u32 *map_id,
					  u32 *max_entries)
{
	return NULL;
}

bool ub_image_has_map(const struct ub_image *image, u32 map_id)
{
	return false;
}

struct ub_image_table *ub_image_table(const struct ub_image *image, u32 map_id)
{
	return NULL;
}

u32 ub_image_table_get(const struct ub_image_table *table, u32 slot)
{
	return 0;
}

void ub_image_table_clear(struct ub_image_table *table, u32 slot)
{
}

void ub_image_enable(struct ub_image *image, bool enabled)
{
}

void ub_image_forbid_syscalls(const struct ub_image *image, bool forbid)
{
}

bool ub_image_forbids_syscalls(const struct ub_image *image)
{
	return false;
}

bool ub_filter_on_any(pid_t pid, bool own_first, u32 nr_passing)
{
	return false;
}

/* --- surgeon ------------------------------------------------------------------------------------
 */

static void name(char *path, size_t size, pid_t pid)
{
	snprintf(path, size, "%s/patched.%d", getenv("UBPF_RUN_DIR"), pid);
}

int ub_surgeon_replace(pid_t pid, int pidfd, struct ub_image *old, struct ub_image *new,
		       struct ub_surgery *result, struct ub_reason *why)
{
	char path[4200];
	FILE *file;

	snprintf(path, sizeof(path), "%s/overtake", getenv("UBPF_RUN_DIR"));
	if (new && !access(path, F_OK))
		return ub_reason_set(why, -EAGAIN, "it was faster");
	name(path, sizeof(path), pid);
	if (!new) {
		unlink(path);
		return 0;
	}
	file = fopen(path, "we");
	if (!file)
		return -errno;
	for (u32 i = 0; i < new->nr; i++)
		fprintf(file, "%u\n", new->ids[i]);
	fclose(file);
	return 0;
}

int ub_surgeon_collect(pid_t pid, int pidfd, struct ub_image *old, struct ub_surgery *result,
		       struct ub_reason *why)
{
	return 0;
}

int ub_surgeon_repair(pid_t pid, bool own_filter, struct ub_reason *why)
{
	char path[4200];

	name(path, sizeof(path), pid);
	return unlink(path) ? -errno : 1;
}

bool ub_surgeon_stands(int mem, const struct ub_image *image)
{
	return true;
}

int ub_surgeon_find(pid_t pid, struct ub_reason *why)
{
	char path[4200];

	name(path, sizeof(path), pid);
	return access(path, F_OK) == 0;
}

int ub_surgeon_find_deserted(pid_t pid, struct ub_reason *why)
{
	return ub_surgeon_find(pid, why);
}

/* --- event rings --------------------------------------------------------------------------------
 */

struct ub_event_reader *ub_event_reader_new(struct ub_event_ring *ring, u32 data_size, u32 map_id)
{
	return NULL;
}

void ub_event_reader_free(struct ub_event_reader *reader)
{
}

int ub_event_read(struct ub_event_reader *reader, struct ub_event *event,
		  bool (*is_alive)(void *opaque, u64 tid), void *opaque)
{
	return 0;
}

bool ub_event_lost_of(const struct ub_event_ring *ring, u32 slot, u32 *map_id, u64 *count)
{
	return false;
}

void ub_event_unread(struct ub_event_reader *reader)
{
}

void ub_event_release(struct ub_event_reader *reader, u64 client, u64 slack)
{
}

u64 ub_event_lost(const struct ub_event_ring *ring)
{
	return 0;
}

void ub_event_prepare_sleep(struct ub_event_ring *ring)
{
}

bool ub_event_ready(const struct ub_event_ring *ring)
{
	return false;
}

u32 *ub_event_futex(struct ub_event_ring *ring)
{
	return NULL;
}

void ub_event_awake(struct ub_event_ring *ring)
{
}
