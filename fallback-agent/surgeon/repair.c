/* SPDX-License-Identifier: MIT */
/*
 * Cleaning up after a daemon that is gone, from what the target itself records.
 *
 * Everything found in the target may be a forgery by its owner, so the site table is checked as a
 * whole (hook/site_table.h), a site is restored only to what its file holds, and nothing is
 * unmapped that does not bear our name. All of it happens in the target's own memory: a forger
 * harms himself only.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <agent/data.h>
#include <common/cleanup.h>
#include <surgeon/operation.h>

#define MAX_TABLES 16

/* --- whose it is --------------------------------------------------------------------------- */

static u64 start_time(pid_t pid)
{
	char path[64], text[1024], *p;
	unsigned long long start = 0;
	FILE *file;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	n = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[n] = '\0';
	p = strrchr(text, ')');
	if (!p)
		return 0;
	if (sscanf(p + 1,
		   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
		   &start) != 1)
		return 0;
	return start;
}

static bool owner_lives(const struct ub_site_table *table)
{
	return table->owner_pid && start_time(table->owner_pid) == table->owner_start;
}

/* Whether our caller built it for a process that forked this one, and not one that shares its
 * memory (vfork). */
static bool is_inherited(const struct ub_target *t, const struct ub_site_table *table)
{
	int same;

	if ((pid_t)table->owner_pid != getppid() || (pid_t)table->target_pid == t->pid)
		return false;
	same = ub_same_memory(t->pid, (pid_t)table->target_pid);
	return !same || same == -ESRCH;
}

/* --- the table as an image ----------------------------------------------------------------- */

struct loaded {
	void *bytes;
	struct ub_recorded_image recorded;
};

static void unload(struct loaded *loaded)
{
	struct ub_image *image = &loaded->recorded.image;

	free(loaded->bytes);
	free(image->parts);
	free(image->sites);
	free(image->moves_out);
	free(image->semaphores);
	*loaded = (struct loaded) { 0 };
}

static int fill(struct loaded *loaded, const struct ub_site_table_view *view)
{
	const struct ub_site_table *h = view->header;
	struct ub_image *image = &loaded->recorded.image;

	loaded->recorded.guards = h->guards;
	loaded->recorded.nr_guards = h->nr_guards;
	image->parts = calloc(h->nr_parts + 1, sizeof(*image->parts));
	image->sites = calloc(h->nr_sites + 1, sizeof(*image->sites));
	image->moves_out = calloc(h->nr_moves_out + 1, sizeof(*image->moves_out));
	image->semaphores = calloc(h->nr_semaphores + 1, sizeof(*image->semaphores));
	if (!image->parts || !image->sites || !image->moves_out || !image->semaphores)
		return -ENOMEM;
	image->generation = h->generation;
	image->data_address = h->state - UB_DATA_STATE;
	image->nr_parts = h->nr_parts;
	for (u32 i = 0; i < h->nr_parts; i++)
		image->parts[i] = (struct ub_part) {
			.kind = view->parts[i].kind,
			.address = view->parts[i].address,
			.size = view->parts[i].size,
			.fd = -1,
		};
	image->nr_sites = h->nr_sites;
	for (u32 i = 0; i < h->nr_sites; i++) {
		const struct ub_site_record *record = &view->sites[i];
		struct ub_site *site = &image->sites[i];

		site->address = record->address;
		site->len = record->len;
		site->dev = record->dev;
		site->ino = record->ino;
		site->offset = record->offset;
		memcpy(site->old, record->old, sizeof(site->old));
		memcpy(site->new, record->new, sizeof(site->new));
	}
	image->nr_moves_out = h->nr_moves_out;
	for (u32 i = 0; i < h->nr_moves_out; i++)
		image->moves_out[i] =
			(struct ub_move) { view->moves_out[i].from, view->moves_out[i].to };
	image->nr_semaphores = h->nr_semaphores;
	for (u32 i = 0; i < h->nr_semaphores; i++)
		image->semaphores[i] = (struct ub_semaphore) { view->semaphores[i].address,
							       view->semaphores[i].count };
	return 0;
}

/* Reads and checks the table that is mapped at @m. */
static int load(struct ub_target *t, const struct ub_mapping *m, struct loaded *loaded,
		struct ub_reason *why)
{
	struct ub_site_table_view view;
	struct ub_site_table header;
	int err;

	err = ub_target_read(t, m->start, &header, sizeof(header));
	if (err)
		return err;
	if (header.size < sizeof(header) || header.size > UB_SITE_TABLE_MAX ||
	    header.size > m->end - m->start)
		return ub_reason_set(why, -EBADMSG, "the site table in process %d is damaged",
				     t->pid);
	loaded->bytes = malloc(header.size);
	if (!loaded->bytes)
		return -ENOMEM;
	err = ub_target_read(t, m->start, loaded->bytes, header.size);
	if (!err)
		err = ub_site_table_check(loaded->bytes, header.size, &view, why);
	if (!err && view.header->address != m->start)
		err = ub_reason_set(why, -EBADMSG, "the site table in process %d is not its own",
				    t->pid);
	if (!err && is_inherited(t, view.header))
		t->copy = true;
	else if (!err && owner_lives(view.header))
		err = ub_reason_set(
			why, -EBUSY,
			"what is in process %d belongs to a running ubpf-run (pid %u, uid %u): "
			"detach there",
			t->pid, view.header->owner_pid, view.header->owner_uid);
	return err ? err : fill(loaded, &view);
}

/* Leaves only those sites whose old bytes are what the file holds. */
static void check_against_files(const struct ub_target *t, struct ub_image *image)
{
	const struct ub_mapping *m = NULL;
	_cleanup_close_ int fd = -1;
	struct stat st;
	u32 nr = 0;

	for (u32 i = 0; i < image->nr_sites; i++) {
		struct ub_site *site = &image->sites[i];
		u8 file[UB_SITE_BYTES];

		if (!m || site->address < m->start || site->address >= m->end) {
			if (fd >= 0)
				close(fd);
			m = ub_target_mapping(t, site->address);
			fd = m && m->inode ? ub_open_mapped(t, m) : -1;
			/* Another file by that name: its bytes say nothing about ours, and a site
			 * that stays patched without its trampoline kills. */
			if (fd >= 0 && (fstat(fd, &st) || st.st_ino != m->inode)) {
				close(fd);
				fd = -1;
			}
		}
		/* A file that can't be opened any more (upgraded, unlinked) proves nothing either
		 * way. */
		if (fd >= 0 && (pread(fd, file, site->len,
				      m->offset + (site->address - m->start)) != site->len ||
				memcmp(file, site->old, site->len)))
			continue;
		if (m)
			image->sites[nr++] = *site;
	}
	image->nr_sites = nr;
}

/* Mappings that no table tells of: an attach was killed before it had mapped one, so nothing leads
 * there. */
static bool told_of(const struct loaded *tables, u32 nr, u64 address)
{
	for (u32 i = 0; i < nr; i++) {
		const struct ub_image *image = &tables[i].recorded.image;

		for (u32 k = 0; k < image->nr_parts; k++) {
			if (address - image->parts[k].address < image->parts[k].size)
				return true;
		}
	}
	return false;
}

static int unmap_untold(struct ub_target *t, const struct loaded *tables, u32 nr,
			struct ub_ips *ips, struct ub_reason *why)
{
	struct ub_part parts[MAX_TABLES];
	struct ub_image image = { .pid = t->pid, .parts = parts };
	int err;

	for (u32 i = 0; i < t->nr_mappings && image.nr_parts < MAX_TABLES; i++) {
		const struct ub_mapping *m = &t->mappings[i];

		if (ub_mapping_is_trace(t, m) && !told_of(tables, nr, m->start))
			parts[image.nr_parts++] = (struct ub_part) {
				.kind = UB_PART_CODE,
				.address = m->start,
				.size = m->end - m->start,
				.fd = -1,
			};
	}
	if (!image.nr_parts)
		return 0;
	err = ub_take_out(t, &image, NULL, ips, why);
	return err ? err : ub_unmap(t, &image, why);
}

static int take_out_recorded(struct ub_target *t, struct loaded *tables, u32 nr,
			     struct ub_reason *why)
{
	struct ub_ips ips = { 0 };
	bool out[MAX_TABLES] = { 0 };
	int err = ub_ips_collect(t, &ips), inside = 0;

	for (u32 i = 0; i < nr && err >= 0; i++) {
		struct ub_image *image = &tables[i].recorded.image;

		check_against_files(t, image);
		err = ub_semaphores_take(t, image);
		if (!err)
			err = ub_take_out(t, image, NULL, &ips, why);
		if (err == 1) {
			inside = 1;
			err = 0;
		} else {
			out[i] = !err;
		}
	}
	if (!err && !inside)
		err = unmap_untold(t, tables, nr, &ips, why);
	for (u32 i = 0; i < nr && err >= 0; i++) {
		int unmapped = out[i] ? ub_unmap(t, &tables[i].recorded.image, why) : 0;

		err = unmapped ? unmapped : err;
	}
	ub_ips_free(&ips);
	if (inside || err == 1) {
		t->report->again = 1;
		err = err < 0 ? err : 0;
	}
	return err;
}

static int load_all(struct ub_target *t, struct loaded *tables, u32 *nr, struct ub_reason *why)
{
	int err = 0;

	for (u32 i = 0; i < t->nr_mappings && *nr < MAX_TABLES && !err; i++) {
		const struct ub_mapping *m = &t->mappings[i];

		if (ub_mapping_is_trace(t, m) && strstr(ub_mapping_name(t, m), UB_SITE_TABLE_NAME))
			err = load(t, m, &tables[(*nr)++], why);
	}
	return err;
}

static void unload_all(struct loaded *tables, u32 *nr)
{
	while (*nr)
		unload(&tables[--*nr]);
	memset(tables, 0, MAX_TABLES * sizeof(*tables));
}

int ub_repair_stopped(struct ub_target *t, const struct ub_operation *op, struct ub_reason *why)
{
	struct loaded tables[MAX_TABLES] = { 0 };
	u32 nr = 0;
	int err;

	err = ub_target_open(t, op->pid, op->pidfd, why);
	if (!err && ub_target_read_mappings(t))
		err = ub_reason_set(why, -ESRCH, "process %d is gone", op->pid);
	if (err)
		return err;
	err = load_all(t, tables, &nr, why);
	/* What is to be unmapped is no place to find instructions: those mappings are left out by
	 * name. */
	if (!err)
		err = ub_remote_prepare(t, NULL, NULL, why);
	if (!err)
		err = ub_fault(t, UB_FAULT_looked);
	if (!err) {
		ub_watchdog_start(t->report, 5000);
		err = ub_seize(t, why);
	}
	if (!err && ub_target_read_mappings(t))
		err = ub_reason_set(why, -ESRCH, "process %d is gone", op->pid);
	/* Until it stopped somebody else may have attached to it: an image of his must not be taken
	 * for one that no table tells of. */
	if (!err) {
		unload_all(tables, &nr);
		err = load_all(t, tables, &nr, why);
		if (err)
			ub_release(t);
	}
	if (!err)
		err = ub_remote_choose(t, why);
	if (!err) {
		err = take_out_recorded(t, tables, nr, why);
		ub_remote_end(t);
		ub_release(t);
		ub_touch_dropped(t);
	}
	unload_all(tables, &nr);
	return err;
}

/* --- guards -------------------------------------------------------------------------------- */

static bool guard_set(struct ub_target *t, const struct ub_recorded_image *recorded, u64 fs_base,
		      u64 sp, bool elsewhere)
{
	u32 nr = recorded->nr_guards < 65536 ? recorded->nr_guards : 65536;
	struct ub_thread_slot slot;

	for (u32 i = 0; recorded->guards && i < nr; i++) {
		if (ub_target_read(t, recorded->guards + i * sizeof(slot), &slot, sizeof(slot)))
			return false;
		if (slot.key == fs_base + 1)
			return slot.guard && (elsewhere || sp <= slot.guard);
	}
	return false;
}

bool ub_thread_inside(struct ub_target *t, const struct ub_image *image,
		      const struct ub_thread *thread, bool elsewhere)
{
	u64 fs_base = thread->regs.fs_base;

	if (thread->state != UB_THREAD_STOPPED)
		return false;
	if (image->process)
		return ub_image_thread_inside(image, fs_base, thread->sp, elsewhere);
	/* Recorded images have no process here; hand-made parts lists no sites, so nobody enters.
	 */
	if (!image->nr_sites)
		return false;
	return guard_set(t, (const struct ub_recorded_image *)image, fs_base, thread->sp,
			 elsewhere);
}

/* --- for whoever wants to patch there by other means ---------------------------------------- */

/* Whether memory still differs from the file at @site. What can't be read is taken for ours. */
static bool is_patched(const struct ub_target *t, const struct ub_site_record *site)
{
	u8 now[UB_SITE_BYTES];

	return site->len > sizeof(now) || ub_target_read(t, site->address, now, site->len) ||
	       memcmp(now, site->old, site->len);
}

/*
 * Offsets are compared, not files: over some file systems /proc/PID/maps and stat() disagree about
 * device and inode, and to refuse once too often is harmless where the contrary kills a process.
 */
static bool table_holds(const struct ub_target *t, const struct ub_mapping *m, u64 offset, u64 size)
{
	struct ub_site_table_view view;
	struct ub_site_table header;
	_cleanup_free_ void *bytes = NULL;

	if (ub_target_read(t, m->start, &header, sizeof(header)) || header.size < sizeof(header) ||
	    header.size > UB_SITE_TABLE_MAX || header.size > m->end - m->start)
		return true;
	bytes = malloc(header.size);
	if (!bytes || ub_target_read(t, m->start, bytes, header.size) ||
	    ub_site_table_check(bytes, header.size, &view, NULL))
		return true;
	for (u32 i = 0; i < view.header->nr_sites; i++) {
		const struct ub_site_record *site = &view.sites[i];

		if (site->offset < offset + size && offset < site->offset + site->len &&
		    is_patched(t, site))
			return true;
	}
	return false;
}

int ub_surgeon_holds(pid_t pid, u64 offset, u64 size, struct ub_reason *why)
{
	struct ub_target t = { .mem = -1, .pid = pid };
	bool traces = false, tables = false, holds = false;
	int err;

	/* Most processes hold nothing, and may be looked at by more people than may be read. */
	err = ub_surgeon_find(pid, why);
	if (err <= 0)
		return err;
	err = ub_target_open(&t, pid, -1, why);
	if (!err && ub_target_read_mappings(&t))
		err = -ESRCH;
	for (u32 i = 0; i < t.nr_mappings && !err; i++) {
		const struct ub_mapping *m = &t.mappings[i];

		if (!ub_mapping_is_trace(&t, m))
			continue;
		traces = true;
		if (!strstr(ub_mapping_name(&t, m), UB_SITE_TABLE_NAME))
			continue;
		tables = true;
		holds |= table_holds(&t, m, offset, size);
	}
	ub_target_close(&t);
	/* Code that no table tells of may have led anywhere. */
	return err ? err : holds || (traces && !tables);
}
