// SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include <agent/data.h>
#include <common/cleanup.h>
#include <common/proc.h>
#include <hook/filter.h>
#include <hook/image_build.h>
#include <hook/memfd.h>
#include <map/event_ring.h>
#include <map/hold.h>

#define PAGE	      4096ull
#define SLOT_BITS     12 /* 4096 threads with counters of their own */
#define MIN_SLOT_BITS 8
_Static_assert(1u << SLOT_BITS <= UB_HOLD_NUMBERS, "threads are told apart by their holds' number");
#define MAX_COUNTERS (1ull << 29) /* bytes; only those of threads that hit are ever touched */
#define MAX_DATA     (1ull << 33)
#define MAX_RANGES   16
#define SMALL_EVENTS (1u << 18) /* bytes: a process's own event ring without perf buffers */

int ub_image_add_part(struct ub_image *image, const struct ub_part *part)
{
	struct ub_part *grown =
		realloc(image->parts, (image->nr_parts + 1) * sizeof(image->parts[0]));

	if (!grown)
		return -ENOMEM;
	image->parts = grown;
	image->parts[image->nr_parts++] = *part;
	return 0;
}

/* A shared part: made, mapped here and added to the image. */
static int shared_part(struct ub_image *image, enum ub_part_kind kind, const char *name,
		       u64 address, u64 size, u8 **here)
{
	_cleanup_close_ int fd = ub_memfd(name, false);
	struct ub_part part = {
		.kind = kind,
		.address = address,
		.size = size,
		.prot = PROT_READ | PROT_WRITE,
		.flags = MAP_SHARED,
		.owned = true,
	};
	void *mapped;
	int err;

	if (fd < 0)
		return fd;
	if (ftruncate(fd, (off_t)size))
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW))
		return -errno;
	mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED)
		return -errno;
	part.fd = fd;
	part.here = mapped;
	err = ub_image_add_part(image, &part);
	if (err) {
		munmap(mapped, size);
		return err;
	}
	TAKE_FD(fd);
	*here = mapped;
	return 0;
}

/* --- layout ---------------------------------------------------------------------------------- */

/* An address for @size bytes near the first zone, which nobody else gets. */
static int take(struct ub_image_build *build, u64 size, u64 *address)
{
	const struct ub_image_zone *zone = &build->zones[0];
	int err = ub_address_space_find(&build->space, zone->low, zone->high, size, address);

	/* Data need not be near: anywhere will do. */
	for (u64 at = 1ull << 32; err == -ENOSPC && at < 1ull << 46; at <<= 1)
		err = ub_address_space_find(&build->space, at, at, size, address);
	if (!err)
		err = ub_address_space_take(&build->space, *address, *address + size);
	return err;
}

/* Rings of records: the process's own is large only if all of a perf buffer's go through it. */
static void size_events(struct ub_image_build *build)
{
	const struct ub_image_request *request = build->request;

	build->own_events_size = SMALL_EVENTS;
	build->events_size = 0;
	for (u32 i = 0; i < request->nr_maps; i++) {
		const struct ub_map_attr *attr = &request->maps[i].attr;

		if (attr->type == BPF_MAP_TYPE_PERF_EVENT_ARRAY)
			build->own_events_size = UB_EVENT_RING_SIZE;
		else if (attr->type == BPF_MAP_TYPE_RINGBUF)
			build->events_size += ub_event_ring_size_of(attr);
	}
	build->events_size += ub_event_ring_size(build->own_events_size);
}

/* Addresses of the maps' rings, in the target. */
static void place_events(struct ub_image_build *build)
{
	u64 address = build->events_address + ub_event_ring_size(build->own_events_size);

	for (u32 i = 0; i < build->request->nr_maps; i++) {
		struct ub_map *map = &build->maps[i];

		if (map->attr.type != BPF_MAP_TYPE_RINGBUF)
			continue;
		map->type_words[UB_W_EVENTS] = address;
		address += ub_event_ring_size_of(&map->attr);
	}
}

static int format_events(struct ub_image_build *build, u8 *events)
{
	struct ub_image_counting *counting = build->image->counting;
	u32 nr = 0;

	counting->events = (struct ub_event_ring *)events;
	counting->events_size = build->own_events_size;
	ub_event_ring_format(counting->events, counting->events_size);
	counting->map_events = calloc(build->request->nr_maps + 1, sizeof(counting->map_events[0]));
	if (!counting->map_events)
		return -ENOMEM;
	for (u32 i = 0; i < build->request->nr_maps; i++) {
		const struct ub_map *map = &build->maps[i];
		struct ub_image_map_events *ring = &counting->map_events[nr];
		u64 position;

		if (map->attr.type != BPF_MAP_TYPE_RINGBUF)
			continue;
		ring->map_id = map->attr.id;
		ring->max_entries = map->attr.max_entries;
		ring->ring = (struct ub_event_ring *)(events + (map->type_words[UB_W_EVENTS] -
								build->events_address));
		ub_event_ring_format(ring->ring, ub_event_ring_data_size(&map->attr));
		/* What it already holds; of what is on its way its reader will tell. */
		if (pread(build->request->maps[i].fd, &position, sizeof(position), PAGE) ==
		    sizeof(position))
			ub_event_ring_start(ring->ring, position);
		nr++;
	}
	counting->nr_map_events = nr;
	return 0;
}

int ub_image_lay_out_data(struct ub_image_build *build, struct ub_reason *why)
{
	const struct ub_image_request *request = build->request;
	u64 nr_slots, offset, address;
	int err;

	build->counters_stride =
		ub_round_up(request->nr_links * sizeof(struct ub_hit_counters), 64ull);
	build->slot_bits = SLOT_BITS;
	while (build->slot_bits > MIN_SLOT_BITS &&
	       build->counters_stride << build->slot_bits > MAX_COUNTERS)
		build->slot_bits--;
	nr_slots = 1ull << build->slot_bits;

	offset = UB_DATA_SLOTS + nr_slots * UB_SLOT_SIZE;
	build->infos_offset = offset;
	offset += ub_round_up(request->nr_links * sizeof(struct ub_link_info), 64ull);
	build->maps_offset = offset;
	offset += ub_round_up(request->nr_maps * sizeof(struct ub_map), 64ull);
	build->tables_offset = offset;
	for (u32 i = 0; i < request->nr_links; i++)
		offset += request->links[i].nr_maps * sizeof(u64);
	offset = ub_round_up(offset, 64ull);
	build->inner_offset = offset;
	offset = ub_round_up(offset + ub_image_tables_size(request), 64ull);
	build->ranges_offset = offset;
	offset += ub_round_up(sizeof(struct ub_safe_ranges) + MAX_RANGES * 16, 64ull);
	offset = ub_round_up(offset, (u64)UB_HOLDS_SIZE);
	build->holds_offset = offset;
	offset += nr_slots * UB_HOLDS_SIZE;
	build->tails_offset = offset;
	if (build->needs_tails)
		offset += nr_slots * UB_TAILS_SIZE;
	offset = ub_round_up(offset, PAGE);
	build->stacks_offset = offset;
	if (build->image->single_instruction)
		offset += nr_slots << UB_STACK_SHIFT;
	build->counters_offset = ub_round_up(offset, PAGE);
	/* One more than there are slots: threads without one share it. */
	build->data_size =
		ub_round_up(build->counters_offset + (nr_slots + 1) * build->counters_stride, PAGE);
	if (build->data_size > MAX_DATA)
		return ub_reason_set(why, -E2BIG, "%u links on one process are too many",
				     request->nr_links);

	build->maps = calloc(request->nr_maps + 1, sizeof(build->maps[0]));
	build->map_addresses = calloc(request->nr_maps + 1, sizeof(u64));
	build->map_tables = calloc(request->nr_links + 1, sizeof(u64));
	build->infos = calloc(request->nr_links + 1, sizeof(u64));
	build->callees = calloc(request->nr_callees + 1, sizeof(u64));
	if (!build->maps || !build->map_addresses || !build->map_tables || !build->infos ||
	    !build->callees)
		return -ENOMEM;

	err = take(build, PAGE + build->data_size, &address);
	if (err)
		return ub_reason_set(why, err, "no room for %llu bytes of data in process %d",
				     (unsigned long long)build->data_size, request->pid);
	build->image->data_address = address + PAGE;
	size_events(build);
	err = take(build, build->events_size, &build->events_address);
	if (err)
		return ub_reason_set(why, err, "no room for the event ring in process %d",
				     request->pid);

	if (build->needs_diverts) {
		err = take(build, ub_round_up(sizeof(struct ub_diverts), PAGE), &build->diverts);
		if (err)
			return ub_reason_set(why, err, "no room for return addresses in process %d",
					     request->pid);
	}

	offset = build->tables_offset;
	for (u32 i = 0; i < request->nr_links; i++) {
		build->infos[i] = build->image->data_address + build->infos_offset +
				  i * sizeof(struct ub_link_info);
		build->map_tables[i] = build->image->data_address + offset;
		offset += request->links[i].nr_maps * sizeof(u64);
	}
	for (u32 i = 0; i < request->nr_maps; i++) {
		const struct ub_image_map *map = &request->maps[i];
		u64 size = ub_map_shared_size(&map->attr, request->nr_cpus);

		build->map_addresses[i] =
			build->image->data_address + build->maps_offset + i * sizeof(struct ub_map);
		address = 0;
		if (size) {
			err = take(build, size, &address);
			if (err)
				return ub_reason_set(
					why, err, "no room for a map of %llu bytes in process %d",
					(unsigned long long)size, request->pid);
		}
		ub_map_bind(&build->maps[i], &map->attr, request->nr_cpus,
			    (void *)(uintptr_t)address); // NOLINT: the target's address
	}
	place_events(build);
	ub_image_tables_bind(build);
	return 0;
}

/* --- contents -------------------------------------------------------------------------------- */

/* What the process calls itself: the last of its NSpid. */
static u32 own_tgid(pid_t pid)
{
	_cleanup_free_ char *status = NULL;
	const char *field, *last;
	char proc[32];

	snprintf(proc, sizeof(proc), "/proc/%d", pid);
	if (ub_proc_status_read(proc, &status))
		return (u32)pid;
	field = ub_proc_status_field(status, "NSpid");
	last = memrchr(field, '\t', strcspn(field, "\n"));
	return last ? (u32)strtoul(last + 1, NULL, 10) : (u32)pid;
}

static void fill_process(struct ub_image_build *build, struct ub_process *process)
{
	const struct ub_image_request *request = build->request;
	const u32 own = own_tgid(request->pid);

	*process = (struct ub_process) {
		.size = sizeof(*process),
		.nr_cpus = request->nr_cpus,
		.tgid_pid = request->tgid_in_client ? request->tgid_in_client : (u64)request->pid,
		.uid_gid = request->uid_gid,
		.own_tgid = own,
		.enabled = 1,
		.generation = request->generation,
		.has_fsgsbase = !!(getauxval(AT_HWCAP2) & 2),
		.events = (struct ub_event_ring *)(uintptr_t)build->events_address,
		.fork_page = build->image->data_address - PAGE,
		.no_syscalls = ub_filter_on_any(request->pid, request->own_filter, 0),
	};
	process->own_pidns_same = process->tgid_pid == own;
	ub_cgroup_find(request->pid, process);
	ub_vdso_find(&build->space, process);
	ub_runtime_find(build, process);
}

/*
 * Of a client's ring buffer a target sees how far it is filled and read, and can't write even that:
 * what libbpf reads there it believes. A description that was opened for reading can't be made
 * writable by mprotect(2) either.
 */
static int only_positions(struct ub_part *part)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", part->fd);
	part->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (part->fd < 0)
		return -errno;
	part->owned = true;
	part->prot = PROT_READ;
	part->size = 2 * PAGE;
	return 0;
}

int ub_image_fill_data(struct ub_image_build *build, struct ub_reason *why)
{
	const struct ub_image_request *request = build->request;
	struct ub_image *image = build->image;
	struct ub_part fork = {
		.kind = UB_PART_FORK,
		.address = image->data_address - PAGE,
		.size = PAGE,
		.prot = PROT_READ | PROT_WRITE,
		.flags = MAP_PRIVATE | MAP_ANONYMOUS,
		.fd = -1,
	};
	struct ub_data_header *header;
	struct ub_link_info *infos;
	u8 *data, *events;
	int err;

	err = ub_image_add_part(image, &fork);
	if (!err)
		err = shared_part(image, UB_PART_DATA, UB_NAME_PREFIX "data", image->data_address,
				  build->data_size, &data);
	if (!err)
		err = shared_part(image, UB_PART_EVENTS, UB_NAME_PREFIX "events",
				  build->events_address, build->events_size, &events);
	if (err)
		return ub_reason_set(why, err, "can't make shared memory: %s", strerror(-err));
	err = format_events(build, events);
	if (err)
		return err;

	image->process = (struct ub_process *)data;
	fill_process(build, image->process);
	ub_runtime_safe_ranges(build, (struct ub_safe_ranges *)(data + build->ranges_offset),
			       MAX_RANGES);
	image->process->safe_ranges = image->data_address + build->ranges_offset;
	header = (struct ub_data_header *)(data + UB_DATA_HEADER);
	header->slots_end =
		image->data_address + UB_DATA_SLOTS + ((u64)UB_SLOT_SIZE << build->slot_bits);
	header->counters = image->data_address + build->counters_offset;
	header->tails = image->data_address + build->tails_offset;
	header->holds = image->data_address + build->holds_offset;
	header->stacks = image->data_address + build->stacks_offset;
	header->counters_stride = build->counters_stride;

	infos = (struct ub_link_info *)(data + build->infos_offset);
	for (u32 i = 0; i < request->nr_links; i++) {
		const struct ub_image_link *link = &request->links[i];
		u64 *table = (u64 *)(data + (build->map_tables[i] - image->data_address));

		infos[i].cookie = link->cookie;
		infos[i].link_id = link->link_id;
		infos[i].prog_id = link->prog_id;
		for (u32 k = 0; k < link->nr_maps; k++)
			table[k] = build->map_addresses[link->maps[k]];
	}
	if (request->nr_maps)
		memcpy(data + build->maps_offset, build->maps,
		       request->nr_maps * sizeof(build->maps[0]));
	for (u32 i = 0; i < request->nr_maps; i++) {
		struct ub_part part = {
			.kind = UB_PART_MAP,
			.address = (u64)(uintptr_t)build->maps[i].shared,
			.size = ub_map_shared_size(&request->maps[i].attr, request->nr_cpus),
			.prot = PROT_READ | PROT_WRITE,
			.flags = MAP_SHARED,
			.fd = request->maps[i].fd,
		};
		int seals = fcntl(part.fd, F_GET_SEALS);

		if (!part.size)
			continue;
		if (request->maps[i].attr.type == BPF_MAP_TYPE_RINGBUF) {
			err = only_positions(&part);
			if (err)
				return ub_reason_set(why, err, "can't open a ring buffer: %s",
						     strerror(-err));
		}
		/* Frozen: the kernel refuses new writable mappings. */
		if (seals >= 0 && seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
			part.prot = PROT_READ;
		err = ub_image_add_part(image, &part);
		if (err) {
			if (part.owned)
				close(part.fd);
			return err;
		}
	}
	return 0;
}
