// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <agent/data.h>
#include <common/cleanup.h>
#include <surgeon/recorded.h>

bool ub_recorded_is_owned(const struct ub_target *t, const struct ub_mapping *m)
{
	struct ub_site_table header;

	return !ub_target_read(t, m->start, &header, sizeof(header)) && ub_owner_lives(t, &header);
}

/* Whether our caller built it for a process that forked this one, and not one that shares its
 * memory (vfork). */
static bool is_inherited(const struct ub_target *t, const struct ub_site_table *table)
{
	int same;

	if (!ub_owner_is_here(table) || (pid_t)table->owner_pid != getppid() ||
	    (pid_t)table->target_pid == t->pid)
		return false;
	same = ub_same_memory(t->pid, (pid_t)table->target_pid);
	return !same || same == -ESRCH;
}

static void unload(struct ub_loaded *loaded)
{
	struct ub_image *image = &loaded->recorded.image;

	free(loaded->bytes);
	free(image->parts);
	free(image->sites);
	free(image->moves_out);
	free(image->semaphores);
	*loaded = (struct ub_loaded) { 0 };
}

static int fill(struct ub_loaded *loaded, const struct ub_site_table_view *view)
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
static int load(struct ub_target *t, const struct ub_mapping *m, struct ub_loaded *loaded,
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
	else if (!err && ub_owner_lives(t, view.header))
		err = ub_reason_set(
			why, -EBUSY,
			"what is in process %d belongs to a running ubpf-run (pid %u%s, uid %u): "
			"detach there",
			t->pid, view.header->owner_pid,
			ub_owner_is_here(view.header) ? "" : " in a container or outside ours",
			view.header->owner_uid);
	return err ? err : fill(loaded, &view);
}

void ub_recorded_check_files(const struct ub_target *t, struct ub_image *image)
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

int ub_recorded_load(struct ub_target *t, struct ub_loaded *tables, u32 *nr, struct ub_reason *why)
{
	int err = 0;

	for (u32 i = 0; i < t->nr_mappings && *nr < UB_MAX_TABLES && !err; i++) {
		const struct ub_mapping *m = &t->mappings[i];

		if (ub_mapping_is_trace(t, m) && strstr(ub_mapping_name(t, m), UB_SITE_TABLE_NAME))
			err = load(t, m, &tables[(*nr)++], why);
	}
	return err;
}

void ub_recorded_unload(struct ub_loaded *tables, u32 *nr)
{
	while (*nr)
		unload(&tables[--*nr]);
	memset(tables, 0, UB_MAX_TABLES * sizeof(*tables));
}
