// SPDX-License-Identifier: MIT
/*
 * Compiled code in a mapping of this process. Written through one mapping of a memfd and run
 * through another, so that no page is ever writable and executable.
 *
 * The mapping is asked for near the helpers, which calls must reach; where the address space does
 * not allow that, calls go through jumps that follow the code.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <helper/helper.h>
#include <jit/jit.h>

struct ub_jitted {
	void *base;
	size_t size;
};

/* jmp *0(%rip); .quad target */
#define VENEER_SIZE 16

static void put_veneer(u8 *at, u64 target)
{
	static const u8 jump[8] = { 0xff, 0x25, 0x02, 0, 0, 0, 0xcc, 0xcc };

	memcpy(at, jump, sizeof(jump));
	memcpy(at + sizeof(jump), &target, sizeof(target));
}

static bool reaches(const void *base, size_t size, u64 target)
{
	s64 from_start = (s64)(target - (u64)base), from_end = from_start - (s64)size;

	return from_start == (s32)from_start && from_end == (s32)from_end;
}

/* Executable mapping of @fd, near @near if that can be had (0: anywhere). */
static void *map_near(int fd, size_t size, u64 near)
{
	static const s64 steps[] = { 16, -16, 64, -64, 256, -256, 768, -768 };
	void *base;

	for (u32 i = 0; near && i < ub_array_size(steps); i++) {
		u64 hint = (near & ~0xfffull) + steps[i] * (1 << 20);

		base = mmap((void *)hint, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
		if (base == MAP_FAILED)
			return base;
		if (reaches(base, size, near))
			return base;
		munmap(base, size);
	}
	return mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
}

static int make_memfd(size_t size)
{
	int fd = memfd_create("ubpf-code", MFD_CLOEXEC | 0x10u /* MFD_EXEC */);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("ubpf-code", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, size)) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

static u64 first_helper(const struct ub_code *code, const u64 *helpers)
{
	for (u32 i = 0; i < code->nr_relocs; i++) {
		if (code->relocs[i].kind == UB_RELOC_HELPER &&
		    code->relocs[i].index < UB_MAX_HELPER)
			return helpers[code->relocs[i].index];
	}
	return 0;
}

static u32 count_maps(const struct ub_code *code)
{
	u32 nr = 0;

	for (u32 i = 0; i < code->nr_relocs; i++) {
		const struct ub_reloc *reloc = &code->relocs[i];

		if ((reloc->kind == UB_RELOC_MAP || reloc->kind == UB_RELOC_MAP_VALUE) &&
		    reloc->index >= nr)
			nr = reloc->index + 1;
	}
	return nr;
}

/* Puts a jump behind the code for each helper that is out of reach and makes it the helper's
 * address in @near. */
static void put_veneers(const struct ub_code *code, const u64 *helpers, u64 *near, u8 *into,
			u64 base, size_t size)
{
	u32 at = ub_round_up(code->size, VENEER_SIZE);

	memcpy(near, helpers, UB_MAX_HELPER * sizeof(*near));
	for (u32 i = 0; i < code->nr_relocs; i++) {
		const struct ub_reloc *reloc = &code->relocs[i];

		if (reloc->kind != UB_RELOC_HELPER || reloc->index >= UB_MAX_HELPER ||
		    !near[reloc->index] || near[reloc->index] != helpers[reloc->index] ||
		    reaches((void *)base, size, near[reloc->index]))
			continue;
		put_veneer(into + at, helpers[reloc->index]);
		near[reloc->index] = base + at;
		at += VENEER_SIZE;
	}
}

int ub_jitted_create(const struct ub_code *code, const u64 *helpers, struct ub_map *const *maps,
		     struct ub_jitted **out, struct ub_reason *why)
{
	size_t size = ub_round_up(code->size + (size_t)(code->nr_relocs + 1) * VENEER_SIZE, 4096);
	u32 nr_maps = count_maps(code);
	_cleanup_free_ struct ub_map *bound = calloc(nr_maps + 1, sizeof(*bound));
	_cleanup_free_ u64 *addresses = calloc(nr_maps + 1, sizeof(*addresses));
	_cleanup_free_ u64 *near = calloc(UB_MAX_HELPER, sizeof(*near));
	_cleanup_free_ struct ub_jitted *jitted = calloc(1, sizeof(*jitted));
	_cleanup_close_ int fd = -1;
	struct ub_code_space space;
	u8 *into;
	int err;

	if (!bound || !addresses || !near || !jitted)
		return -ENOMEM;
	for (u32 i = 0; i < nr_maps; i++) {
		if (!maps || !maps[i])
			return ub_reason_set(why, -EINVAL, "map #%u of the program is not there",
					     i);
		bound[i] = *maps[i];
		addresses[i] = (u64)maps[i];
	}
	fd = make_memfd(size);
	if (fd < 0)
		return ub_reason_set(why, fd, "memory for compiled code: %s", strerror(-fd));
	jitted->size = size;
	jitted->base = map_near(fd, size, first_helper(code, helpers));
	if (jitted->base == MAP_FAILED)
		return ub_reason_set(why, -errno, "mapping compiled code: %s", strerror(errno));
	into = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (into == MAP_FAILED) {
		err = ub_reason_set(why, -errno, "mapping compiled code: %s", strerror(errno));
		munmap(jitted->base, size);
		return err;
	}
	memset(into, 0xcc, size);
	put_veneers(code, helpers, near, into, (u64)jitted->base, size);
	space = (struct ub_code_space) {
		.base = (u64)jitted->base,
		.helpers = near,
		.maps = bound,
		.map_addresses = addresses,
	};
	err = ub_code_place(code, &space, into, why);
	munmap(into, size);
	if (err) {
		munmap(jitted->base, size);
		return err;
	}
	*out = TAKE_PTR(jitted);
	return 0;
}

u64 ub_jitted_run(const struct ub_jitted *jitted, void *ctx, struct ub_run *run)
{
	return ((ub_program_fn)jitted->base)(ctx, run);
}

u64 ub_jitted_entry(const struct ub_jitted *jitted)
{
	return (u64)jitted->base;
}

void ub_jitted_destroy(struct ub_jitted *jitted)
{
	if (!jitted)
		return;
	munmap(jitted->base, jitted->size);
	free(jitted);
}
