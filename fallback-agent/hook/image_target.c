// SPDX-License-Identifier: MIT
/*
 * What an image finds in its target: the bytes that it will overwrite, and USDT semaphores.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <hook/image_build.h>

static const struct ub_site *site_at(const struct ub_image *image, u64 address)
{
	u32 low = 0, high = image ? image->nr_sites : 0;

	while (low < high) {
		u32 middle = (low + high) / 2;
		const struct ub_site *site = &image->sites[middle];

		if (address >= site->address && address < site->address + site->len)
			return site;
		if (site->address < address)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* Whether what is mapped at @address is not what was when the image was begun: a library or a part
 * of one has gone meanwhile, and perhaps something else come. */
static bool has_changed(const struct ub_image_build *build, u64 address)
{
	const struct ub_mapping *then = ub_address_space_at(&build->space, address), *now;
	struct ub_address_space space;
	bool changed;

	if (ub_address_space_read(build->request->pid, &space, NULL))
		return false;
	now = ub_address_space_at(&space, address);
	changed = !then || !now || now->ino != then->ino || now->dev != then->dev ||
		  now->start - now->offset != then->start - then->offset;
	ub_address_space_free(&space);
	return changed;
}

static int read_site(const struct ub_image_build *build, int mem, const struct ub_site *site,
		     u8 *bytes, struct ub_reason *why)
{
	const ssize_t n = pread(mem, bytes, site->len, (off_t)site->address);

	if (n == site->len)
		return 0;
	if (n && has_changed(build, site->address))
		return ub_reason_set(why, -EAGAIN,
				     "process %d: the code at 0x%" PRIx64 " is not mapped any more",
				     build->image->pid, site->address);
	return ub_reason_set(why, -ESRCH, "can't read the code of process %d at 0x%" PRIx64,
			     build->image->pid, site->address);
}

/* Memory at the new sites must hold the file's bytes, or what we wrote there. */
int ub_image_check_memory(const struct ub_image_build *build, struct ub_reason *why)
{
	const struct ub_image *image = build->image;
	_cleanup_close_ int fd = -1;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", image->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return ub_reason_set(why, -errno, "can't read the memory of process %d: %s",
				     image->pid, strerror(errno));
	for (u32 i = 0; i < image->nr_sites; i++) {
		const struct ub_site *site = &image->sites[i];
		u8 bytes[UB_SITE_BYTES];

		int err = read_site(build, fd, site, bytes, why);

		if (err)
			return err;
		/* A library that was loaded again holds nothing of ours any more. */
		if (!memcmp(bytes, site->old, site->len))
			continue;
		for (u32 k = 0; k < site->len; k++) {
			const struct ub_site *ours =
				site_at(build->request->current, site->address + k);
			u8 expected =
				ours ? ours->new[site->address + k - ours->address] : site->old[k];

			if (bytes[k] == expected)
				continue;
			if (has_changed(build, site->address))
				return ub_reason_set(
					why, -EAGAIN,
					"process %d: other code is mapped at 0x%" PRIx64 " by now",
					image->pid, site->address);
			return ub_reason_set(
				why, -EBUSY,
				"the code at 0x%" PRIx64 " in process %d differs from its file: %s",
				site->address, image->pid,
				bytes[k] == 0xcc
					? "a debugger's breakpoint or a kernel uprobe is there"
					: "somebody else patched it");
		}
	}
	return 0;
}

/* --- semaphores ------------------------------------------------------------------------------ */

static int add_semaphore(struct ub_image *image, u64 address)
{
	struct ub_semaphore *grown;

	for (u32 i = 0; i < image->nr_semaphores; i++) {
		if (image->semaphores[i].address == address) {
			image->semaphores[i].count++;
			return 0;
		}
	}
	grown = realloc(image->semaphores,
			(image->nr_semaphores + 1) * sizeof(image->semaphores[0]));
	if (!grown)
		return -ENOMEM;
	image->semaphores = grown;
	image->semaphores[image->nr_semaphores++] = (struct ub_semaphore) { address, 1 };
	return 0;
}

int ub_image_find_semaphores(struct ub_image_build *build, struct ub_reason *why)
{
	for (u32 i = 0; i < build->request->nr_links; i++) {
		const struct ub_point *point = &build->request->links[i].point;
		struct ub_image_file *file;
		int err;

		if (!point->ref_ctr_offset)
			continue;
		err = ub_image_find_file(build, point, &file, why);
		for (u32 m = 0; !err && m < file->nr_modules; m++) {
			const struct ub_module *module = &file->modules[m];
			const struct ub_elf_segment *segment = NULL;
			u64 address;

			for (u32 s = 0; s < module->elf->nr_segments; s++) {
				segment = &module->elf->segments[s];
				if (segment->writable && segment->size >= 2 &&
				    point->ref_ctr_offset - segment->offset <= segment->size - 2)
					break;
				segment = NULL;
			}
			if (!segment)
				return ub_reason_set(why, -EINVAL,
						     "%s: no writable data at offset 0x%" PRIx64
						     ", where the semaphore should be",
						     module->name, point->ref_ctr_offset);
			address = module->bias + segment->address +
				  (point->ref_ctr_offset - segment->offset);
			/* Where only the code is mapped once more nobody counts. */
			if (file->nr_modules == 1 ||
			    ub_module_has(&build->space, module, address, PROT_WRITE))
				err = add_semaphore(build->image, address);
		}
		if (err)
			return err;
	}
	return 0;
}
