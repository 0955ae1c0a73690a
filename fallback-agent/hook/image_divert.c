// SPDX-License-Identifier: MIT
/*
 * What an image needs to take over return addresses (agent/divert.c): the table, and the hooks on
 * what every unwinder calls before it looks behind its own frames: _dl_find_object() (glibc since
 * 2.35 with GCC's unwinder since 12), dl_iterate_phdr() (all others), and where GCC's unwinder is
 * linked in statically the function that looks up a frame. A static program whose symbols name none
 * of them has no unwinder.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <agent/data.h>
#include <common/cleanup.h>
#include <hook/image_build.h>
#include <hook/memfd.h>

#define PAGE 4096ull

static bool is_library(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	return !strncmp(name, "libc.", 5) || !strncmp(name, "libc-2.", 7) ||
	       !strncmp(name, "ld-linux", 8) || !strncmp(name, "ld-2.", 5) ||
	       !strncmp(name, "ld-musl", 7);
}

struct found {
	u32 nr;
	bool is_go;
	bool has_symtab; /* some file has all its symbols */
};

static int hook_file(struct ub_image_build *build, const struct ub_point *point,
		     struct found *found)
{
	static const char *const names[] = { "_dl_find_object", "dl_iterate_phdr",
					     "_Unwind_Find_FDE" };
	struct ub_image_file *file;
	struct ub_elf *elf;
	int err = ub_image_find_file(build, point, &file, NULL);

	if (err)
		return err;
	elf = file->modules[0].elf;
	found->is_go |= elf->is_go;
	found->has_symtab |= elf->has_symtab;
	for (u32 i = 0; i < ub_array_size(names) && !err; i++) {
		const struct ub_elf_function *function;
		u64 address;

		if (ub_elf_symbol(elf, names[i], &address))
			continue;
		function = ub_elf_function_at(elf, address);
		if (!function || function->gap || function->start != address)
			continue;
		err = ub_image_add_hook(file, address, 0, UB_HOOK_UNDIVERT);
		found->nr++;
	}
	return err;
}

/* Collectors that find what a frame holds by its return address, in code that files hold: V8's
 * built-in functions, OCaml. They have no unwinder to be hooked. */
static bool has_collector(struct ub_elf *elf)
{
	static const char *const names[] = {
		"v8_Default_embedded_blob_code_",
		"_ZN2v88internal7Isolate19CurrentEmbeddedBlobCodeEv",
		"_ZNK2v88internal7Isolate18embedded_blob_codeEv",
		"caml_frametable",
	};
	u64 address;

	for (u32 i = 0; i < ub_array_size(names); i++)
		if (!ub_elf_symbol(elf, names[i], &address))
			return true;
	return false;
}

static void refuse_diverted(const struct ub_image_build *build)
{
	for (u32 i = 0; build->request->refused && i < build->nr_files; i++) {
		const struct ub_image_file *file = &build->files[i];

		for (u32 k = 0; k < file->nr_hooks; k++)
			if (file->hooks[k].kind == UB_HOOK_DIVERT)
				build->request->refused[file->hooks[k].link] = true;
	}
}

int ub_image_hook_unwinders(struct ub_image_build *build, struct ub_reason *why)
{
	const pid_t pid = build->request->pid;
	struct ub_point point = {};
	struct stat stat_ = {};
	struct found found = {};
	bool copies_stacks = false, collects = false;
	char path[64];
	int err = 0;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	if (!stat(path, &stat_)) {
		point.dev = stat_.st_dev;
		point.ino = stat_.st_ino;
		err = hook_file(build, &point, &found);
		/* Its file may have been replaced, or hold no code. */
		if (err == -ENOENT || err == -ENOEXEC)
			err = 0;
	}
	for (u32 i = 0; i < build->space.nr && !err; i++) {
		const struct ub_mapping *mapping = &build->space.mappings[i];

		copies_stacks |= strstr(mapping->name, "greenlet") != NULL;
		if (!mapping->ino || !(mapping->prot & PROT_EXEC) || !is_library(mapping->name) ||
		    ub_mapping_file(pid, mapping, &point.dev, &point.ino))
			continue;
		if (point.dev != stat_.st_dev || point.ino != stat_.st_ino)
			err = hook_file(build, &point, &found);
	}
	for (u32 i = 0; i < build->nr_files && !err; i++)
		collects |= has_collector(build->files[i].modules[0].elf);
	if (!err && !found.nr && stat(path, &stat_))
		return ub_reason_set(why, -ESRCH, "process %d is exiting", pid);
	if (err)
		return ub_reason_set(why, err, "can't hook the unwinders of process %d: %s", pid,
				     strerror(-err));
	if (found.is_go || copies_stacks || collects || (!found.nr && !found.has_symtab)) {
		refuse_diverted(build);
		return ub_reason_set(
			why, -EOPNOTSUPP,
			"a function to be probed leaves by a jump that can't be followed, and in "
			"process %d its return address can't be taken over: %s",
			pid,
			found.is_go	? "Go's runtime looks at them"
			: collects	? "its garbage collector looks at them"
			: copies_stacks ? "greenlets copy their stacks"
					: "its exceptions are handled by code without symbols");
	}
	return 0;
}

/* Code of files only: who compiles at run time may know frames by their return addresses. */
static void fill_callers(const struct ub_image_build *build, struct ub_diverts *diverts)
{
	for (u32 i = 0; i < build->space.nr; i++) {
		const struct ub_mapping *mapping = &build->space.mappings[i];
		u32 nr = diverts->nr_callers;

		if (!mapping->ino || !(mapping->prot & PROT_EXEC) || (mapping->prot & PROT_WRITE) ||
		    !strncmp(mapping->name, "/memfd:", 7) || !strncmp(mapping->name, "/dev/", 5))
			continue;
		if (nr && diverts->callers[nr - 1].end == mapping->start) {
			diverts->callers[nr - 1].end = mapping->end;
		} else if (nr < UB_MAX_CALLERS) {
			diverts->callers[nr].start = mapping->start;
			diverts->callers[nr].end = mapping->end;
			diverts->nr_callers++;
		}
	}
}

int ub_image_add_diverts(struct ub_image_build *build, struct ub_reason *why)
{
	_cleanup_free_ struct ub_diverts *diverts = calloc(1, sizeof(*diverts));
	struct ub_part part = {
		.kind = UB_PART_DIVERTS,
		.address = build->diverts,
		.size = ub_round_up(sizeof(*diverts), PAGE),
		.prot = PROT_READ | PROT_WRITE,
		.flags = MAP_PRIVATE,
		.owned = true,
	};
	int err;

	if (!diverts)
		return -ENOMEM;
	diverts->code = build->divert_code;
	diverts->process = build->image->data_address;
	fill_callers(build, diverts);
	/* The entries are zero, as the rest of the file is. */
	part.fd = ub_memfd_sealed(UB_NAME_PREFIX "returns", diverts,
				  offsetof(struct ub_diverts, entries), part.size);
	if (part.fd < 0)
		return ub_reason_set(why, part.fd, "can't make memory for return addresses: %s",
				     strerror(-part.fd));
	err = ub_image_add_part(build->image, &part);
	if (err)
		close(part.fd);
	return err;
}
