/* SPDX-License-Identifier: MIT */
/*
 * Bytes in the target's text. Before anything is written, everything is compared: memory must hold
 * what we believe it to hold. Writes go through the /proc/PID/mem that was opened before the stop:
 * it means that memory for ever, so a program that has been executed since is never hit.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>

#include <agent/layout.h>
#include <common/cleanup.h>
#include <surgeon/target.h>

#define JMP_REL32 0xe9
#define PAGE	  4096ull

static const struct ub_site *find_site(const struct ub_image *image, u64 address)
{
	u32 low = 0, high = image ? image->nr_sites : 0;

	while (low < high) {
		u32 mid = (low + high) / 2;

		if (image->sites[mid].address == address)
			return &image->sites[mid];
		if (image->sites[mid].address < address)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

/* Bytes which @image holds in [address, address + len), laid over @bytes. */
static void overlay(const struct ub_image *image, u64 address, u32 len, bool new_bytes, u8 *bytes)
{
	for (u32 low = 0, high = image ? image->nr_sites : 0; low < high;) {
		u32 mid = (low + high) / 2;
		const struct ub_site *site = &image->sites[mid];

		if (site->address + site->len <= address) {
			low = mid + 1;
			continue;
		}
		if (mid > low &&
		    image->sites[mid - 1].address + image->sites[mid - 1].len > address) {
			high = mid;
			continue;
		}
		for (; mid < image->nr_sites && image->sites[mid].address < address + len; mid++) {
			site = &image->sites[mid];
			for (u32 i = 0; i < site->len; i++) {
				if (site->address + i - address < len)
					bytes[site->address + i - address] =
						new_bytes ? site->new[i] : site->old[i];
			}
		}
		return;
	}
}

/* Reads sites' bytes, many at a time. -ESRCH. */
static int read_sites(struct ub_target *t, const struct ub_site *sites, u32 nr, u8 *bytes,
		      bool *readable)
{
	enum { BATCH = 128 };
	struct iovec here[BATCH], there[BATCH];

	for (u32 i = 0; i < nr; i += BATCH) {
		u32 n = nr - i < BATCH ? nr - i : BATCH;
		size_t want = 0;
		int err;

		for (u32 k = 0; k < n; k++) {
			here[k] = (struct iovec) { bytes + (i + k) * UB_SITE_BYTES,
						   sites[i + k].len };
			there[k] =
				(struct iovec) { (void *)sites[i + k].address, sites[i + k].len };
			want += sites[i + k].len;
		}
		memset(readable + i, true, n);
		if (process_vm_readv(t->alive, here, n, there, n, 0) == (ssize_t)want)
			continue;
		for (u32 k = 0; k < n; k++) {
			err = ub_target_read(t, sites[i + k].address, here[k].iov_base,
					     here[k].iov_len);
			if (err == -ESRCH)
				return err;
			readable[i + k] = !err;
		}
	}
	return 0;
}

/* Whether what @site was written to is no more there: its library has been unloaded, and perhaps
 * loaded again. */
static bool site_is_gone(const struct ub_target *t, const struct ub_site *site, const u8 *bytes)
{
	const struct ub_mapping *m = ub_target_mapping(t, site->address);

	return !m || !(m->prot & PROT_EXEC) || m->inode != site->ino ||
	       m->offset + (site->address - m->start) != site->offset ||
	       !memcmp(bytes, site->old, site->len);
}

/* OLD's sites that are still as it wrote them, in t->standing; others must be gone. */
static int find_standing(struct ub_target *t, const struct ub_image *old, u8 *bytes,
			 struct ub_reason *why)
{
	struct ub_site *sites = calloc(old->nr_sites + 1, sizeof(*sites));
	bool *readable = calloc(old->nr_sites + 1, sizeof(*readable));
	u32 nr = 0;
	int err;

	free(t->standing.sites);
	t->standing = *old;
	t->standing.sites = sites;
	t->standing.nr_sites = 0;
	err = sites && readable ? read_sites(t, old->sites, old->nr_sites, bytes, readable)
				: -ENOMEM;
	if (err == -ESRCH)
		ub_reason_set(why, err, "process %d is gone", t->pid);
	for (u32 i = 0; i < old->nr_sites && !err; i++) {
		const struct ub_site *site = &old->sites[i];
		const u8 *now = bytes + i * UB_SITE_BYTES;

		if (!readable[i])
			continue;
		if (!memcmp(now, site->new, site->len))
			sites[nr++] = *site;
		else if (!site_is_gone(t, site, now))
			err = ub_refuse_bytes(t, site, now, why);
	}
	free(readable);
	t->standing.nr_sites = nr;
	return err;
}

bool ub_surgeon_stands(int mem, const struct ub_image *image)
{
	for (u32 i = 0; i < image->nr_sites; i++) {
		const struct ub_site *site = &image->sites[i];
		u8 bytes[UB_SITE_BYTES];

		if (i && site->ino == site[-1].ino && site->dev == site[-1].dev)
			continue;
		if (pread(mem, bytes, site->len, (off_t)site->address) != (ssize_t)site->len ||
		    memcmp(bytes, site->new, site->len))
			return false;
	}
	return true;
}

static int check_sites(struct ub_target *t, const struct ub_image *image,
		       const struct ub_image *over, u8 *bytes, struct ub_reason *why)
{
	_cleanup_free_ bool *readable = calloc(image->nr_sites + 1, sizeof(*readable));
	int err =
		readable ? read_sites(t, image->sites, image->nr_sites, bytes, readable) : -ENOMEM;

	if (err == -ESRCH)
		return ub_reason_set(why, err, "process %d is gone", t->pid);
	if (err)
		return err;
	for (u32 i = 0; i < image->nr_sites; i++) {
		const struct ub_site *site = &image->sites[i];
		u8 expected[UB_SITE_BYTES];

		if (!readable[i])
			return ub_reason_set(
				why, -EBUSY,
				"process %d: the code to be probed is not mapped any more", t->pid);
		memcpy(expected, site->old, site->len);
		overlay(over, site->address, site->len, true, expected);
		if (memcmp(bytes + i * UB_SITE_BYTES, expected, site->len))
			return ub_refuse_bytes(t, site, bytes + i * UB_SITE_BYTES, why);
	}
	return 0;
}

/*
 * A jump that overlaps the code behind its site (hook/pun.c) leads where bytes say that are not
 * ours. If somebody has changed those, by a breakpoint say, it would lead anywhere.
 */
static int check_overlapping(struct ub_target *t, const struct ub_image *image,
			     const struct ub_image *over, struct ub_reason *why)
{
	enum { MAX_JUMP = UB_SITE_BYTES + 5 };

	for (u32 i = 0; image && i < image->nr_sites; i++) {
		const struct ub_site *site = &image->sites[i];
		u8 bytes[MAX_JUMP];
		u32 opcode = 0;
		s32 distance;

		while (opcode < site->len && site->new[opcode] != JMP_REL32)
			opcode++;
		if (opcode == site->len || opcode + 5 <= site->len)
			continue;
		if (ub_target_read(t, site->address, bytes, opcode + 5))
			return ub_reason_set(
				why, -EBUSY,
				"process %d: the code behind %#lx is not mapped any more", t->pid,
				(unsigned long)site->address);
		overlay(over, site->address, opcode + 5, false, bytes);
		overlay(image, site->address, opcode + 5, true, bytes);
		memcpy(&distance, bytes + opcode + 1, sizeof(distance));
		if (!ub_image_inside(image, site->address + opcode + 5 + (s64)distance))
			return ub_reason_set(
				why, -EBUSY,
				"process %d: somebody else has changed the code behind "
				"%#lx (a breakpoint?), where a jump of ours would overlap it",
				t->pid, (unsigned long)site->address);
	}
	return 0;
}

int ub_sites_check(struct ub_target *t, const struct ub_image *old, const struct ub_image *new,
		   struct ub_reason *why)
{
	u32 nr = old && old->nr_sites > new->nr_sites ? old->nr_sites : new->nr_sites;
	u8 *bytes = malloc((size_t)(nr + 1) * UB_SITE_BYTES);
	int err = bytes ? 0 : -ENOMEM;

	if (!err && old)
		err = find_standing(t, old, bytes, why);
	old = old ? &t->standing : NULL;
	if (!err)
		err = check_sites(t, new, old, bytes, why);
	free(bytes);
	if (!err)
		err = check_overlapping(t, new, old, why);
	return err ? err : ub_fault(t, UB_FAULT_checked);
}

/* Where /proc/PID/mem refuses what ptrace may (proc_mem.force_override). */
static int poke(struct ub_target *t, u64 address, const u8 *bytes, u32 len)
{
	for (u32 i = 0; i < t->nr_threads; i++) {
		u64 start = address & ~7ull, words[UB_SITE_BYTES / 8 + 2];
		u32 nr = (address + len - start + 7) / 8;

		if (t->threads[i].state != UB_THREAD_STOPPED)
			continue;
		if (ub_target_read(t, start, words, nr * 8))
			return -EFAULT;
		memcpy((u8 *)words + (address - start), bytes, len);
		for (u32 k = 0; k < nr; k++) {
			if (ptrace(PTRACE_POKETEXT, t->threads[i].tid, start + 8 * k, words[k]))
				return -errno;
		}
		return 0;
	}
	return -EACCES;
}

static int write_bytes(struct ub_target *t, u64 address, const u8 *bytes, u32 len)
{
	u8 same[UB_SITE_BYTES];
	int err;

	/* Across two pages a write can be cut in half by a SIGKILL. Own copies of both pages
	 * beforehand, so that nothing is left to wait for in between. */
	if ((address & (PAGE - 1)) + len > PAGE && !ub_target_read(t, address, same, len)) {
		err = ub_target_write(t, address, same, len);
		if (err && err != -EFAULT)
			return err;
	}
	err = ub_target_write(t, address, bytes, len);
	return err && err != -ESRCH ? poke(t, address, bytes, len) : err;
}

/* How many sites from @first on lie on one page, and on no other. At least 1. */
static u32 sites_on_page(const struct ub_image *image, u32 first)
{
	u64 page = image->sites[first].address & ~(PAGE - 1);
	u32 n = 0;

	while (first + n < image->nr_sites &&
	       image->sites[first + n].address + image->sites[first + n].len <= page + PAGE)
		n++;
	return n ? n : 1;
}

/* New bytes of sites on one page at once: each write costs a walk to its page, and 1 000 of them
 * are most of the pause. */
static int write_sites(struct ub_target *t, const struct ub_site *sites, u32 nr)
{
	u64 start = sites[0].address, end = sites[nr - 1].address + sites[nr - 1].len;
	u8 bytes[PAGE];
	int err;

	if (nr > 1) {
		err = ub_target_read(t, start, bytes, end - start);
		for (u32 i = 0; i < nr && !err; i++)
			memcpy(bytes + (sites[i].address - start), sites[i].new, sites[i].len);
		if (!err)
			err = ub_target_write(t, start, bytes, end - start);
		if (!err || err == -ESRCH)
			return err;
	}
	err = 0;
	for (u32 i = 0; i < nr && !err; i++)
		err = write_bytes(t, sites[i].address, sites[i].new, sites[i].len);
	return err;
}

int ub_sites_write(struct ub_target *t, const struct ub_image *old, const struct ub_image *new,
		   struct ub_reason *why)
{
	int err = 0;

	/* Only what ub_sites_check() has found there; and what stays patched at the same place with
	 * the same length is overwritten once: NEW below. */
	old = old ? &t->standing : NULL;
	for (u32 i = 0; old && i < old->nr_sites && !err; i++) {
		const struct ub_site *site = &old->sites[i], *next = find_site(new, site->address);
		u8 bytes[UB_SITE_BYTES];

		if (next && next->len >= site->len)
			continue;
		memcpy(bytes, site->old, site->len);
		overlay(new, site->address, site->len, true, bytes);
		err = write_bytes(t, site->address, bytes, site->len);
		if (!err)
			err = ub_fault(t, UB_FAULT_writing);
	}
	for (u32 i = 0, n; new &&i < new->nr_sites && !err; i += n) {
		n = sites_on_page(new, i);
		err = write_sites(t, &new->sites[i], n);
		if (!err)
			err = ub_fault(t, UB_FAULT_writing);
	}
	if (err)
		return ub_reason_set(why, err, "cannot write to the text of process %d: %s", t->pid,
				     strerror(-err));
	return ub_fault(t, UB_FAULT_written);
}

/* Whether memory holds the site's new bytes, or is torn between new and old at a page border. */
static bool holds_new(const struct ub_site *site, const u8 *bytes)
{
	u32 first = PAGE - (site->address & (PAGE - 1));

	if (!memcmp(bytes, site->new, site->len))
		return true;
	return first < site->len && !memcmp(bytes, site->new, first) &&
	       !memcmp(bytes + first, site->old + first, site->len - first);
}

int ub_sites_restore(struct ub_target *t, const struct ub_image *image, u32 *restored)
{
	u8 bytes[UB_SITE_BYTES];
	int err = 0;

	for (u32 i = 0; i < image->nr_sites && !err; i++) {
		const struct ub_site *site = &image->sites[i];

		err = ub_target_read(t, site->address, bytes, site->len);
		if (err == -ESRCH)
			return err;
		if (err || !holds_new(site, bytes) || !memcmp(bytes, site->old, site->len)) {
			err = 0; /* unmapped since, restored already, or overwritten by others */
			continue;
		}
		err = write_bytes(t, site->address, site->old, site->len);
		if (!err && restored)
			(*restored)++;
		if (!err)
			err = ub_fault(t, UB_FAULT_restoring);
	}
	return err ? err : ub_fault(t, UB_FAULT_restored);
}

int ub_sites_put_back(struct ub_target *t, const struct ub_image *image)
{
	u8 bytes[UB_SITE_BYTES];
	int err = 0;

	for (u32 i = 0; i < image->nr_sites && !err; i++) {
		const struct ub_site *site = &image->sites[i];

		err = ub_target_read(t, site->address, bytes, site->len);
		if (err == -ESRCH)
			return err;
		if (!err && !memcmp(bytes, site->old, site->len))
			err = write_bytes(t, site->address, site->new, site->len);
	}
	return err;
}

/* --- progress, as the target itself keeps it ----------------------------------------------- */

static u64 state_address(const struct ub_image *image)
{
	const struct ub_site_state *here = ub_image_state(image);

	for (u32 i = 0; here && i < image->nr_parts; i++) {
		const struct ub_part *part = &image->parts[i];
		u64 offset = (const u8 *)here - part->here;

		if (part->here && (const u8 *)here >= part->here && offset < part->size)
			return part->address + offset;
	}
	return image->data_address + UB_DATA_STATE;
}

bool ub_stage_known(const struct ub_target *t, const struct ub_image *image)
{
	const struct ub_mapping *m = ub_target_mapping(t, state_address(image));

	return m && strstr(ub_mapping_name(t, m), UB_NAME_PREFIX);
}

static int write_state(struct ub_target *t, const struct ub_image *image,
		       const struct ub_site_state *state)
{
	/* The mapping is shared with the process that it was made for. */
	if (t->copy)
		return 0;
	return ub_target_write(t, state_address(image), state, sizeof(*state));
}

int ub_stage_get(struct ub_target *t, const struct ub_image *image, struct ub_site_state *state)
{
	return ub_target_read(t, state_address(image), state, sizeof(*state));
}

void ub_stage_set(struct ub_target *t, const struct ub_image *image, enum ub_site_stage stage)
{
	struct ub_site_state state = { .stage = stage };

	if (ub_stage_get(t, image, &state))
		return;
	state.stage = stage;
	if (write_state(t, image, &state))
		return; /* gone: nothing to keep track of */
}

/* --- semaphores ---------------------------------------------------------------------------- */

static bool has_sites_of(const struct ub_image *image, u64 inode)
{
	for (u32 i = 0; i < image->nr_sites; i++) {
		if (image->sites[i].ino == inode)
			return true;
	}
	return false;
}

/* Whether the library of a semaphore was unloaded: its address may be anybody's now. Loaded again,
 * it counts from the start. */
static bool semaphore_is_gone(const struct ub_target *t, const struct ub_image *image, u64 address)
{
	const struct ub_mapping *m = ub_target_mapping(t, address);

	if (!m || !m->inode || m->shared)
		return true;
	return t->standing.data_address == image->data_address && has_sites_of(image, m->inode) &&
	       !has_sites_of(&t->standing, m->inode);
}

/* One semaphore by @delta, so that whoever comes after a SIGKILL at any instant knows whether it
 * was done: `before` is written, then the semaphore, then `next`. */
static int count(struct ub_target *t, const struct ub_image *image, u32 i, bool add,
		 struct ub_site_state *state)
{
	const struct ub_semaphore *semaphore = &image->semaphores[i];
	u16 value, changed;
	int err;

	if (semaphore_is_gone(t, image, semaphore->address))
		return 0;
	err = ub_target_read(t, semaphore->address, &value, sizeof(value));
	if (err)
		return err == -EFAULT ? 0 : err;
	state->next = i;
	state->before = value;
	err = write_state(t, image, state);
	if (err)
		return err;
	changed = add			      ? value + semaphore->count
		  : value >= semaphore->count ? value - semaphore->count
					      : 0;
	err = ub_target_write(t, semaphore->address, &changed, sizeof(changed));
	if (err)
		return err;
	state->next = add ? i + 1 : i;
	state->before = 0x10000; /* done */
	err = write_state(t, image, state);
	return err ? err : ub_fault(t, UB_FAULT_semaphores);
}

int ub_semaphores_add(struct ub_target *t, const struct ub_image *image)
{
	struct ub_site_state state = { .stage = UB_STAGE_SEMAPHORES, .before = 0x10000 };
	int err = 0;

	if (!image || !image->nr_semaphores)
		return 0;
	err = write_state(t, image, &state);
	for (u32 i = 0; i < image->nr_semaphores && !err; i++)
		err = count(t, image, i, true, &state);
	return err;
}

int ub_semaphores_take(struct ub_target *t, const struct ub_image *image)
{
	struct ub_site_state state;
	u16 value;
	u32 nr;
	int err;

	if (!image || !image->nr_semaphores || !ub_stage_known(t, image))
		return 0;
	err = ub_stage_get(t, image, &state);
	if (err)
		return err == -EFAULT ? 0 : err;
	switch (state.stage) {
	case UB_STAGE_LIVE:
		nr = image->nr_semaphores;
		break;
	case UB_STAGE_SEMAPHORES:
	case UB_STAGE_UNCOUNTING:
		/* Interrupted: was the one in work done? */
		nr = state.next;
		if (nr < image->nr_semaphores && state.before <= 0xffff &&
		    !ub_target_read(t, image->semaphores[nr].address, &value, sizeof(value))) {
			bool changed = value != (u16)state.before;

			if (state.stage == UB_STAGE_SEMAPHORES ? changed : !changed)
				nr++;
		}
		break;
	default:
		return 0;
	}
	if (nr > image->nr_semaphores)
		nr = image->nr_semaphores;
	state = (struct ub_site_state) { UB_STAGE_UNCOUNTING, nr, 0x10000, { 0 } };
	err = write_state(t, image, &state);
	while (nr && !err)
		err = count(t, image, --nr, false, &state);
	return err;
}

int ub_semaphores_put_back(struct ub_target *t, const struct ub_image *image)
{
	struct ub_site_state state;
	u32 first;
	int err;

	if (!image->nr_semaphores)
		return 0;
	err = ub_stage_get(t, image, &state);
	if (err || (state.stage != UB_STAGE_UNCOUNTING && state.stage != UB_STAGE_SEMAPHORES))
		return err;
	first = state.next;
	/* The one in work is there if it was counted up, or was not yet counted down. */
	if (first < image->nr_semaphores && state.before <= 0xffff) {
		u16 value;

		if (!ub_target_read(t, image->semaphores[first].address, &value, sizeof(value)) &&
		    (value != (u16)state.before) == (state.stage == UB_STAGE_SEMAPHORES))
			first++;
	}
	state.stage = UB_STAGE_SEMAPHORES;
	for (u32 i = first; i < image->nr_semaphores && !err; i++)
		err = count(t, image, i, true, &state);
	if (!err)
		ub_stage_set(t, image, UB_STAGE_LIVE);
	return err;
}
