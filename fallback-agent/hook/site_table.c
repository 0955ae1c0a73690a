// SPDX-License-Identifier: MIT
#include <hook/site_table.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <agent/data.h>
#include <common/cleanup.h>
#include <common/proc.h>
#include <hook/image_build.h>
#include <hook/memfd.h>

#define PAGE	 4096ull
#define USER_END 0x7ffffffff000ull

u64 ub_site_table_size(const struct ub_site_table *header)
{
	return sizeof(*header) + header->nr_parts * sizeof(struct ub_site_part) +
	       header->nr_sites * sizeof(struct ub_site_record) +
	       header->nr_moves_out * sizeof(struct ub_site_move) +
	       header->nr_semaphores * sizeof(struct ub_site_semaphore);
}

/* FNV-1a over 8-byte words: finds accidents and lazy forgeries; nothing relies on more. */
u64 ub_site_table_sum(const struct ub_site_table *table)
{
	const u8 *bytes = (const u8 *)table;
	u64 sum = 0xcbf29ce484222325ull;

	for (u64 at = 0; at + 8 <= table->size; at += 8) {
		u64 word;

		memcpy(&word, bytes + at, sizeof(word));
		if (at == offsetof(struct ub_site_table, checksum))
			word = 0;
		sum = (sum ^ word) * 0x100000001b3ull;
		sum ^= sum >> 29;
	}
	return sum;
}

static bool is_range(u64 address, u64 size)
{
	return address >= PAGE && address < USER_END && size <= USER_END - address;
}

static int bad(struct ub_reason *why, const char *what)
{
	return ub_reason_set(why, -EBADMSG, "the site table is damaged or forged: %s", what);
}

static int check_arrays(const struct ub_site_table_view *view, struct ub_reason *why)
{
	const struct ub_site_table *header = view->header;
	u64 end = 0;

	for (u32 i = 0; i < header->nr_parts; i++)
		if (!view->parts[i].size || view->parts[i].address % PAGE ||
		    view->parts[i].size % PAGE ||
		    !is_range(view->parts[i].address, view->parts[i].size))
			return bad(why, "part");
	for (u32 i = 0; i < header->nr_sites; i++) {
		const struct ub_site_record *site = &view->sites[i];

		if (!site->len || site->len > UB_SITE_BYTES ||
		    !is_range(site->address, site->len) || site->address < end)
			return bad(why, "site");
		end = site->address + site->len;
	}
	for (u32 i = 0; i < header->nr_moves_out; i++)
		if (!is_range(view->moves_out[i].from, 1) || !is_range(view->moves_out[i].to, 1) ||
		    (i && view->moves_out[i].from <= view->moves_out[i - 1].from))
			return bad(why, "move");
	for (u32 i = 0; i < header->nr_semaphores; i++)
		if (!is_range(view->semaphores[i].address, 2) || !view->semaphores[i].count ||
		    view->semaphores[i].count > UINT16_MAX)
			return bad(why, "semaphore");
	return 0;
}

int ub_site_table_check(const void *bytes, u64 size, struct ub_site_table_view *view,
			struct ub_reason *why)
{
	const struct ub_site_table *header = bytes;
	struct ub_site_table_view checked;
	int err;

	if (size < 32 || header->magic != UB_SITE_TABLE_MAGIC)
		return bad(why, "not a site table");
	if (header->version != UB_SITE_TABLE_VERSION)
		return ub_reason_set(
			why, -EPROTO,
			"the site table is of version %u, this program knows %u (process %u, uid "
			"%u, made it)",
			header->version, UB_SITE_TABLE_VERSION, header->owner_pid,
			header->owner_uid);
	if (size < sizeof(*header) || header->size > size || header->size > UB_SITE_TABLE_MAX ||
	    ub_site_table_size(header) != header->size)
		return bad(why, "size");
	if (ub_site_table_sum(header) != header->checksum)
		return bad(why, "checksum");
	if (!is_range(header->state, sizeof(struct ub_site_state)) || header->state % 8 ||
	    header->nr_guards > 1u << 20 || header->guards % 8 ||
	    !is_range(header->guards, (u64)header->nr_guards * sizeof(struct ub_thread_slot)))
		return bad(why, "addresses");
	checked.header = header;
	checked.parts = (const struct ub_site_part *)(header + 1);
	checked.sites = (const struct ub_site_record *)(checked.parts + header->nr_parts);
	checked.moves_out = (const struct ub_site_move *)(checked.sites + header->nr_sites);
	checked.semaphores =
		(const struct ub_site_semaphore *)(checked.moves_out + header->nr_moves_out);
	err = check_arrays(&checked, why);
	if (err)
		return err;
	*view = checked;
	return 0;
}

/* --- writing --------------------------------------------------------------------------------- */

static u32 nr_parts_then(const struct ub_image_build *build)
{
	/* Fork page, data, events, this table; taken return addresses, code and maps. */
	return 4 + build->needs_diverts + build->nr_zones + build->puns.nr +
	       build->request->nr_maps;
}

u64 ub_image_site_table_bound(const struct ub_image_build *build)
{
	u64 nr_windows = 0, nr_insns = 0;

	for (u32 i = 0; i < build->nr_files; i++) {
		nr_windows += (u64)build->files[i].plan.nr_windows * build->files[i].nr_modules;
		nr_insns += (u64)build->files[i].plan.nr_insns * build->files[i].nr_modules;
	}
	nr_windows += build->nr_sharing;
	nr_insns += 2ull * build->nr_sharing;
	return ub_round_up(sizeof(struct ub_site_table) +
				   nr_parts_then(build) * sizeof(struct ub_site_part) +
				   nr_windows * sizeof(struct ub_site_record) +
				   (2 * nr_insns + nr_windows) * sizeof(struct ub_site_move) +
				   build->request->nr_links * sizeof(struct ub_site_semaphore),
			   PAGE);
}

int ub_image_add_site_table(struct ub_image_build *build, u64 address, u64 room,
			    struct ub_reason *why)
{
	struct ub_image *image = build->image;
	struct ub_site_table header = {
		.magic = UB_SITE_TABLE_MAGIC,
		.version = UB_SITE_TABLE_VERSION,
		.owner_pid = (u32)getpid(),
		.owner_uid = geteuid(),
		.owner_start = ub_proc_start_time(getpid()),
		.address = address,
		.target_pid = (u32)image->pid,
		.generation = image->generation,
		.state = image->data_address + UB_DATA_STATE,
		.guards = image->data_address + UB_DATA_SLOTS,
		.nr_guards = 1u << build->slot_bits,
		.nr_parts = image->nr_parts + 1,
		.nr_sites = image->nr_sites,
		.nr_moves_out = image->nr_moves_out,
		.nr_semaphores = image->nr_semaphores,
		.owner_pidns = ub_proc_pid_namespace("/proc/self"),
	};
	struct ub_part part = {
		.kind = UB_PART_SITES,
		.address = address,
		.prot = PROT_READ,
		.flags = MAP_PRIVATE,
		.owned = true,
	};
	_cleanup_free_ u8 *bytes = NULL;
	struct ub_site_semaphore *semaphores;
	struct ub_site_record *sites;
	struct ub_site_part *parts;
	struct ub_site_move *moves;
	int err;

	if (ub_site_table_size(&header) > UB_SITE_TABLE_MAX)
		return ub_reason_set(why, -E2BIG, "%u sites are too many", image->nr_sites);
	header.size = (u32)ub_site_table_size(&header);
	part.size = ub_round_up((u64)header.size, PAGE);
	if (part.size > room)
		return ub_reason_set(why, -ENOSPC, "the site table is larger than was reckoned");
	bytes = calloc(1, header.size);
	if (!bytes)
		return -ENOMEM;
	memcpy(bytes, &header, sizeof(header));
	parts = (struct ub_site_part *)(bytes + sizeof(header));
	for (u32 i = 0; i < image->nr_parts; i++)
		parts[i] = (struct ub_site_part) { .address = image->parts[i].address,
						   .size = image->parts[i].size,
						   .kind = image->parts[i].kind };
	parts[image->nr_parts] = (struct ub_site_part) { .address = address,
							 .size = part.size,
							 .kind = UB_PART_SITES };
	sites = (struct ub_site_record *)(parts + header.nr_parts);
	for (u32 i = 0; i < image->nr_sites; i++) {
		const struct ub_site *site = &image->sites[i];

		sites[i] = (struct ub_site_record) { .address = site->address,
						     .dev = site->dev,
						     .ino = site->ino,
						     .offset = site->offset,
						     .len = site->len };
		memcpy(sites[i].old, site->old, site->len);
		memcpy(sites[i].new, site->new, site->len);
	}
	moves = (struct ub_site_move *)(sites + header.nr_sites);
	for (u32 i = 0; i < image->nr_moves_out; i++)
		moves[i] =
			(struct ub_site_move) { image->moves_out[i].from, image->moves_out[i].to };
	semaphores = (struct ub_site_semaphore *)(moves + header.nr_moves_out);
	for (u32 i = 0; i < image->nr_semaphores; i++)
		semaphores[i] =
			(struct ub_site_semaphore) { .address = image->semaphores[i].address,
						     .count = image->semaphores[i].count };
	((struct ub_site_table *)bytes)->checksum =
		ub_site_table_sum((const struct ub_site_table *)bytes);

	part.fd = ub_memfd_sealed(UB_SITE_TABLE_NAME, bytes, header.size, part.size);
	if (part.fd < 0)
		return ub_reason_set(why, part.fd, "can't make memory for the site table: %s",
				     strerror(-part.fd));
	err = ub_image_add_part(image, &part);
	if (err)
		close(part.fd);
	return err;
}
