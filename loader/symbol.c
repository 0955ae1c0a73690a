// SPDX-License-Identifier: MIT
#include "symbol.h"

#include <elf.h>
#include <fcntl.h>
#include <gelf.h>
#include <string.h>
#include <sys/stat.h>

#include <common/cleanup.h>

#include "output.h"

enum { MAX_SUGGESTIONS = 4096 };

struct elf_file {
	int fd;
	Elf *elf;
};

static void elf_file_close(struct elf_file *file)
{
	if (file->elf)
		elf_end(file->elf);
	if (file->fd >= 0)
		close(file->fd);
}

#define _cleanup_elf_ _cleanup_(elf_file_close)

int ub_elf_check(const char *path, struct ub_reason *why)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	Elf64_Ehdr header;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st))
		return ub_reason_set(why, -errno, "cannot open %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return ub_reason_set(why, -ENOEXEC, "%s is not a regular file", path);
	n = pread(fd, &header, sizeof(header), 0);
	if (n < (ssize_t)sizeof(header) || memcmp(header.e_ident, ELFMAG, SELFMAG))
		return ub_reason_set(why, -ENOEXEC, "%s is not an ELF file", path);
	if (header.e_ident[EI_CLASS] != ELFCLASS64)
		return ub_reason_set(why, -EOPNOTSUPP,
				     "%s is a 32-bit program: only x86-64 is supported", path);
	if (header.e_machine != EM_X86_64)
		return ub_reason_set(
			why, -EOPNOTSUPP,
			"%s is for another machine (e_machine %u): only x86-64 is supported", path,
			header.e_machine);
	return 0;
}

static int elf_file_open(const char *path, struct elf_file *file, struct ub_reason *why)
{
	int err = ub_elf_check(path, why);

	if (err)
		return err;
	elf_version(EV_CURRENT);
	file->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (file->fd < 0)
		return ub_reason_set(why, -errno, "cannot open %s: %s", path, strerror(errno));
	file->elf = elf_begin(file->fd, ELF_C_READ_MMAP, NULL);
	if (!file->elf)
		return ub_reason_set(why, -ENOEXEC, "%s: %s", path, elf_errmsg(-1));
	return 0;
}

/* Calls @fn for each named function of @file until it returns true. */
static bool each_function(Elf *elf, bool (*fn)(void *opaque, const char *name, const GElf_Sym *sym),
			  void *opaque)
{
	Elf_Scn *section = NULL;

	while ((section = elf_nextscn(elf, section))) {
		GElf_Shdr header;
		Elf_Data *data;

		if (!gelf_getshdr(section, &header) || !header.sh_entsize ||
		    (header.sh_type != SHT_SYMTAB && header.sh_type != SHT_DYNSYM))
			continue;
		data = elf_getdata(section, NULL);
		for (u64 i = 0; data && i < header.sh_size / header.sh_entsize; i++) {
			const char *name;
			GElf_Sym sym;
			int type;

			if (!gelf_getsym(data, (int)i, &sym))
				break;
			type = GELF_ST_TYPE(sym.st_info);
			if ((type != STT_FUNC && type != STT_GNU_IFUNC) ||
			    sym.st_shndx == SHN_UNDEF || !sym.st_value)
				continue;
			name = elf_strptr(elf, header.sh_link, sym.st_name);
			if (name && *name && fn(opaque, name, &sym))
				return true;
		}
	}
	return false;
}

struct wanted {
	const char *name;
	GElf_Sym sym;
};

static bool is_wanted(void *opaque, const char *name, const GElf_Sym *sym)
{
	struct wanted *wanted = opaque;

	if (strcmp(name, wanted->name))
		return false;
	wanted->sym = *sym;
	return true;
}

struct suggestions {
	const char *names[MAX_SUGGESTIONS];
	size_t nr;
	const char *like;
};

static bool suggest(void *opaque, const char *name, const GElf_Sym *sym)
{
	struct suggestions *suggestions = opaque;

	if (ub_nearest(suggestions->like, &name, 1))
		suggestions->names[suggestions->nr++] = name;
	return suggestions->nr == MAX_SUGGESTIONS;
}

static bool has_symbols(Elf *elf)
{
	Elf_Scn *section = NULL;
	GElf_Shdr header;

	while ((section = elf_nextscn(elf, section))) {
		if (gelf_getshdr(section, &header) && header.sh_type == SHT_SYMTAB)
			return true;
	}
	return false;
}

static int not_found(Elf *elf, const char *path, const char *name, struct ub_reason *why)
{
	_cleanup_free_ struct suggestions *suggestions = calloc(1, sizeof(*suggestions));
	const char *near = NULL;

	if (suggestions) {
		suggestions->like = name;
		each_function(elf, suggest, suggestions);
		near = ub_nearest(name, suggestions->names, suggestions->nr);
	}
	if (near)
		return ub_reason_set(why, -ENOENT, "no function '%s' in %s, did you mean '%s'?",
				     name, path, near);
	if (!has_symbols(elf))
		return ub_reason_set(
			why, -ENOENT,
			"no function '%s' in %s, which has no symbol table (stripped): "
			"name a function that it exports, or the offset in the file: "
			"%s:0xOFFSET",
			name, path, path);
	return ub_reason_set(why, -ENOENT, "no function '%s' in %s", name, path);
}

static int file_offset(Elf *elf, u64 address, u64 *offset)
{
	size_t nr;

	if (elf_getphdrnum(elf, &nr))
		return -ENOEXEC;
	for (size_t i = 0; i < nr; i++) {
		GElf_Phdr header;

		if (!gelf_getphdr(elf, (int)i, &header) || header.p_type != PT_LOAD)
			continue;
		if (address >= header.p_vaddr && address - header.p_vaddr < header.p_filesz) {
			*offset = address - header.p_vaddr + header.p_offset;
			return 0;
		}
	}
	return -ENOEXEC;
}

int ub_symbol_offset(const char *path, const char *name, u64 *offset, struct ub_reason *why)
{
	_cleanup_elf_ struct elf_file file = { .fd = -1 };
	struct wanted wanted = { .name = name };
	int err = elf_file_open(path, &file, why);

	if (err)
		return err;
	if (!each_function(file.elf, is_wanted, &wanted))
		return not_found(file.elf, path, name, why);
	if (GELF_ST_TYPE(wanted.sym.st_info) == STT_GNU_IFUNC)
		return ub_reason_set(
			why, -EOPNOTSUPP,
			"'%s' in %s is an indirect function, whose code is chosen when the "
			"program starts: name a variant or an offset instead",
			name, path);
	if (file_offset(file.elf, wanted.sym.st_value, offset))
		return ub_reason_set(why, -ENOEXEC, "'%s' lies in no segment of %s", name, path);
	return 0;
}

bool ub_symbol_defined(const char *path, const char *name)
{
	_cleanup_elf_ struct elf_file file = { .fd = -1 };
	struct wanted wanted = { .name = name };

	return !elf_file_open(path, &file, NULL) && each_function(file.elf, is_wanted, &wanted);
}

bool ub_symbol_stripped(const char *path)
{
	_cleanup_elf_ struct elf_file file = { .fd = -1 };

	return !elf_file_open(path, &file, NULL) && !has_symbols(file.elf);
}
