// SPDX-License-Identifier: MIT
/*
 * What the target's C library says of its threads. Nothing here is needed; all of it makes hits
 * cheaper.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <hook/image_build.h>

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool is_glibc(const char *name)
{
	return !strcmp(name, "libc.so.6") || !strncmp(name, "libc-2.", 7);
}

static bool is_loader(const char *name)
{
	return !strncmp(name, "ld-linux", 8) || !strncmp(name, "ld-2.", 5) ||
	       !strncmp(name, "ld-musl", 7);
}

const struct ub_mapping *ub_runtime_glibc(const struct ub_address_space *space)
{
	for (u32 i = 0; i < space->nr; i++)
		if (space->mappings[i].ino && (space->mappings[i].prot & PROT_EXEC) &&
		    is_glibc(base_name(space->mappings[i].name)))
			return &space->mappings[i];
	return NULL;
}

/* What is mapped of programs that translate a process's code instead of having it executed. */
static const struct {
	const char *file, *program;
} translators[] = {
	{ "vgpreload_core-", "Valgrind" },
	{ "libdynamorio.so", "DynamoRIO" },
	{ "libpinjit.so", "Pin" },
	{ "pinbin", "Pin" },
};

int ub_runtime_check(pid_t pid, const struct ub_address_space *space, struct ub_reason *why)
{
	for (u32 i = 0; i < space->nr; i++) {
		const struct ub_mapping *mapping = &space->mappings[i];
		const char *name = base_name(mapping->name);

		if (!mapping->ino || !(mapping->prot & PROT_EXEC))
			continue;
		for (u32 t = 0; t < ub_array_size(translators); t++)
			if (!strncmp(name, translators[t].file, strlen(translators[t].file)))
				return ub_reason_set(
					why, -EOPNOTSUPP,
					"process %d runs under %s, which translates its code and does not know of "
					"what would be added there: probe it without %s",
					pid, translators[t].program, translators[t].program);
	}
	return 0;
}

static int read_u32(pid_t pid, u64 address, u32 *value)
{
	_cleanup_close_ int fd = -1;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return pread(fd, value, sizeof(*value), (off_t)address) == sizeof(*value) ? 0 : -EFAULT;
}

/* __rseq_offset and __rseq_size (glibc 2.35 and later) in the loader. */
static void find_rseq(struct ub_image_build *build, const struct ub_mapping *mapping,
		      struct ub_process *process)
{
	const pid_t pid = build->request->pid;
	struct ub_module *modules = NULL;
	u64 offset_at, size_at;
	u32 nr = 0, offset, size;

	if (ub_modules_find_mapping(pid, &build->space, mapping, &modules, &nr))
		return;
	if (!ub_elf_symbol(modules[0].elf, "__rseq_offset", &offset_at) &&
	    !ub_elf_symbol(modules[0].elf, "__rseq_size", &size_at) &&
	    !read_u32(pid, offset_at + modules[0].bias, &offset) &&
	    !read_u32(pid, size_at + modules[0].bias, &size) && size) {
		process->has_rseq = 1;
		process->rseq_offset = (s32)offset;
	}
	ub_modules_free(modules, nr);
}

/* Unwinders are called when threads have long had their control blocks. */
static bool runs_programs(const struct ub_image_file *file)
{
	for (u32 i = 0; i < file->nr_hooks; i++)
		if (file->hooks[i].kind != UB_HOOK_UNDIVERT)
			return true;
	return false;
}

void ub_runtime_find(struct ub_image_build *build, struct ub_process *process)
{
	const struct ub_mapping *loader = NULL;
	bool glibc = false, probes_loader = false;

	for (u32 i = 0; i < build->space.nr; i++) {
		const struct ub_mapping *mapping = &build->space.mappings[i];
		const char *name = base_name(mapping->name);

		if (!mapping->ino || !(mapping->prot & PROT_EXEC))
			continue;
		glibc |= is_glibc(name);
		if (is_loader(name))
			loader = mapping;
	}
	for (u32 i = 0; i < build->nr_files; i++)
		probes_loader |= is_loader(base_name(build->files[i].modules[0].name)) &&
				 runs_programs(&build->files[i]);
	/*
	 * In glibc %fs:0 is the thread's own address by the ABI (psABI, thread-local storage). Only
	 * the loader runs before threads have one.
	 */
	build->self_pointer = glibc && !probes_loader;
	if (loader && glibc)
		find_rseq(build, loader, process);
}

static bool is_kept(const struct ub_mapping *mapping, const char *exe)
{
	const char *name = base_name(mapping->name);

	return !strcmp(mapping->name, "[stack]") ||
	       (mapping->ino && (is_glibc(name) || is_loader(name) || !strcmp(mapping->name, exe)));
}

/*
 * The program itself, libc and the loader, and the first thread's stack, which only grows: never
 * unmapped while the process lives, so programs may read them by plain loads. Their zeroed data
 * follow without a name. The heap shrinks, stacks of other threads go, libraries are unloaded:
 * those are read by ways that can fail.
 */
void ub_runtime_safe_ranges(const struct ub_image_build *build, struct ub_safe_ranges *ranges,
			    u32 max)
{
	const struct ub_address_space *space = &build->space;
	char link[64], exe[4096];
	bool data = false;
	u64 end = 0;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/exe", build->request->pid);
	n = readlink(link, exe, sizeof(exe) - 1);
	exe[n > 0 ? n : 0] = '\0';
	ranges->nr = 0;
	for (u32 i = 0; i < space->nr; i++) {
		const struct ub_mapping *mapping = &space->mappings[i];
		const bool zeroed = data && !mapping->ino && !mapping->name[0] &&
				    mapping->start == end && (mapping->prot & PROT_WRITE);
		/* What is mapped otherwise may be unmapped: runtimes map parts of themselves next
		 * to their code, and whoever reads symbols maps all. */
		const bool kept = is_kept(mapping, exe) &&
				  (!mapping->ino || ub_address_space_is_loaded(space, i));

		data = kept && (mapping->prot & PROT_WRITE);
		end = mapping->end;
		if ((!kept && !zeroed) || !(mapping->prot & PROT_READ))
			continue;
		if (ranges->nr && ranges->range[ranges->nr - 1].end == mapping->start) {
			ranges->range[ranges->nr - 1].end = mapping->end;
			continue;
		}
		if (ranges->nr == max)
			return;
		ranges->range[ranges->nr].start = mapping->start;
		ranges->range[ranges->nr++].end = mapping->end;
	}
}
