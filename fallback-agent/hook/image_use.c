// SPDX-License-Identifier: MIT
/*
 * A finished image: what daemon and surgeon ask of it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <agent/data.h>
#include <hook/image_build.h>

void ub_image_free(struct ub_image *image)
{
	if (!image)
		return;
	for (u32 i = 0; i < image->nr_parts; i++) {
		if (image->parts[i].here)
			munmap(image->parts[i].here, image->parts[i].size);
		if (image->parts[i].owned && image->parts[i].fd >= 0)
			close(image->parts[i].fd);
	}
	free(image->parts);
	free(image->sites);
	free(image->moves_in);
	free(image->moves_out);
	free(image->semaphores);
	if (image->counting) {
		free(image->counting->link_ids);
		free(image->counting->sums);
		free(image->counting->functions);
		free(image->counting->continuations);
		free(image->counting->map_events);
	}
	free(image->counting);
	ub_image_tables_free(image->tables);
	free(image);
}

/* Adds what all threads counted of the links [@from, @to) to their sums. */
static void sum_up(const struct ub_image *image, u32 from, u32 to, struct ub_hit_counters *sums)
{
	const struct ub_image_counting *counting = image->counting;
	const u8 *data = (const u8 *)image->process;
	const struct ub_thread_slot *slots = (const struct ub_thread_slot *)(data + UB_DATA_SLOTS);

	for (u32 slot = 0; slot <= counting->nr_slots; slot++) {
		const struct ub_hit_counters *counters =
			(const struct ub_hit_counters *)(data + counting->counters_offset +
							 slot * counting->counters_stride);

		if (slot < counting->nr_slots && !ub_read_once(slots[slot].key))
			continue;
		for (u32 link = from; link < to; link++) {
			sums[link - from].hits += ub_read_once(counters[link].hits);
			sums[link - from].misses += ub_read_once(counters[link].misses);
		}
	}
}

void ub_image_counters(const struct ub_image *image, u32 link_id, u64 *hits, u64 *misses)
{
	const struct ub_image_counting *counting = image->counting;
	struct ub_hit_counters sum = {};

	for (u32 link = 0; link < counting->nr_links; link++)
		if (counting->link_ids[link] == link_id)
			sum_up(image, link, link + 1, &sum);
	*hits = sum.hits;
	*misses = sum.misses;
}

void ub_image_count(const struct ub_image *image,
		    void (*each)(void *opaque, u32 link_id, u64 hits, u64 misses), void *opaque)
{
	const struct ub_image_counting *counting = image->counting;
	struct ub_hit_counters *sums = counting->sums;

	memset(sums, 0, counting->nr_links * sizeof(*sums));
	sum_up(image, 0, counting->nr_links, sums);
	for (u32 link = 0; link < counting->nr_links; link++)
		each(opaque, counting->link_ids[link], sums[link].hits, sums[link].misses);
}

struct ub_event_ring *ub_image_events(const struct ub_image *image, u32 *data_size)
{
	*data_size = image->counting->events_size;
	return image->counting->events;
}

struct ub_event_ring *ub_image_map_events(const struct ub_image *image, u32 i, u32 *map_id,
					  u32 *max_entries)
{
	const struct ub_image_counting *counting = image->counting;

	if (i >= counting->nr_map_events)
		return NULL;
	*map_id = counting->map_events[i].map_id;
	*max_entries = counting->map_events[i].max_entries;
	return counting->map_events[i].ring;
}

void ub_image_enable(struct ub_image *image, bool enabled)
{
	__atomic_store_n(&image->process->enabled, enabled, __ATOMIC_SEQ_CST);
}

void ub_image_forbid_syscalls(const struct ub_image *image, bool forbid)
{
	__atomic_store_n(&image->process->no_syscalls, forbid, __ATOMIC_SEQ_CST);
}

bool ub_image_forbids_syscalls(const struct ub_image *image)
{
	return __atomic_load_n(&image->process->no_syscalls, __ATOMIC_RELAXED);
}

/* The jump in @bytes, of which there are @nr: where it leads, or 0. */
static u64 jump_target(const u8 *bytes, u64 nr, u64 address)
{
	static const u8 prefixes[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64 };
	u64 at = 0;
	s32 distance;

	while (at < nr && at < UB_SITE_BYTES && memchr(prefixes, bytes[at], sizeof(prefixes)))
		at++;
	if (at + 5 > nr || bytes[at] != 0xe9)
		return 0;
	memcpy(&distance, bytes + at + 1, sizeof(distance));
	return address + at + 5 + (u64)(s64)distance;
}

int ub_jumps_check(const struct ub_site *sites, u32 nr,
		   const u8 *(*file)(void *opaque, const struct ub_site *site, u64 *available),
		   void *opaque, struct ub_reason *why)
{
	for (u32 i = 0; i < nr; i++) {
		const struct ub_site *site = &sites[i];
		u8 bytes[UB_SITE_BYTES];
		u64 available = 0, to;
		const u8 *old = file(opaque, site, &available);

		if (available > sizeof(bytes))
			available = sizeof(bytes);
		if (!old || !site->len || site->len > available ||
		    (i + 1 < nr && sites[i + 1].address - site->address < site->len))
			return ub_reason_set(
				why, -EINVAL,
				"what would be written at 0x%" PRIx64
				" overlaps something else, so nothing is: please report "
				"this",
				site->address);
		memcpy(bytes, old, available);
		for (u32 k = i; k < nr && sites[k].address - site->address < available; k++) {
			const u64 at = sites[k].address - site->address;
			const u64 left = available - at;

			memcpy(bytes + at, sites[k].new, sites[k].len < left ? sites[k].len : left);
		}
		to = jump_target(bytes, available, site->address);
		if (to != site->to)
			return ub_reason_set(why, -EINVAL,
					     "the jump at 0x%" PRIx64 " would lead to 0x%" PRIx64
					     " instead of 0x%" PRIx64
					     ", so nothing is written: please report this",
					     site->address, to, site->to);
	}
	return 0;
}

u64 ub_moves_find(const struct ub_move *moves, u32 nr, u64 ip)
{
	u32 low = 0, high = nr;

	while (low < high) {
		u32 middle = (low + high) / 2;

		if (moves[middle].from == ip)
			return moves[middle].to;
		if (moves[middle].from < ip)
			low = middle + 1;
		else
			high = middle;
	}
	return ip;
}

bool ub_image_inside(const struct ub_image *image, u64 ip)
{
	for (u32 i = 0; i < image->nr_parts; i++)
		if (image->parts[i].kind == UB_PART_CODE &&
		    ip - image->parts[i].address < image->parts[i].size)
			return true;
	return false;
}

bool ub_image_thread_inside(const struct ub_image *image, u64 fs_base, u64 sp, bool on_altstack)
{
	const u8 *data = (const u8 *)image->process;
	const struct ub_thread_slot *slots = (const struct ub_thread_slot *)(data + UB_DATA_SLOTS);

	for (u32 i = 0; i < image->counting->nr_slots; i++) {
		u64 guard;

		if (ub_read_once(slots[i].key) != fs_base + 1)
			continue;
		guard = ub_read_once(slots[i].guard);
		return guard && (on_altstack || sp <= guard);
	}
	return false;
}

bool ub_image_has_guards(const struct ub_image *image)
{
	const u8 *data = (const u8 *)image->process;
	const struct ub_thread_slot *slots = (const struct ub_thread_slot *)(data + UB_DATA_SLOTS);

	for (u32 i = 0; i < image->counting->nr_slots; i++) {
		if (ub_read_once(slots[i].guard))
			return true;
	}
	return false;
}

void ub_image_identify(const struct ub_image *image, int mem,
		       const struct ub_thread_identity *threads, u32 nr, u32 sharers)
{
	/* Of struct pthread: glibc since 2.4, 64-bit. */
	static const u32 candidates[] = { 0x2d0 };
	struct ub_process *process = image->process;

	if (sharers)
		__atomic_fetch_add(&process->vm_sharers, sharers, __ATOMIC_SEQ_CST);
	if (!image->trust_tid || !nr || !process->has_fsgsbase ||
	    (pid_t)process->own_tgid != image->pid)
		return;
	for (u32 i = 0; i < ub_array_size(candidates); i++) {
		u32 fitting = 0;

		for (u32 k = 0; k < nr; k++) {
			u64 at = threads[k].fs_base + candidates[i];
			u64 self = 0;
			u32 tid = 0;

			if (threads[k].fs_base &&
			    pread(mem, &self, sizeof(self), (off_t)threads[k].fs_base) ==
				    sizeof(self) &&
			    pread(mem, &tid, sizeof(tid), (off_t)at) == sizeof(tid) &&
			    self == threads[k].fs_base && (pid_t)tid == threads[k].tid)
				fitting++;
		}
		if (fitting == nr) {
			process->tid_offset = candidates[i];
			return;
		}
	}
}

struct ub_site_state *ub_image_state(const struct ub_image *image)
{
	return (struct ub_site_state *)((u8 *)image->process + UB_DATA_STATE);
}
