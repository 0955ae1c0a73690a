// SPDX-License-Identifier: MIT
/*
 * The target's vDSO: the same bytes as ours (one kernel, 64-bit both), at another address.
 */
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#include <hook/image_build.h>

/* Offset of a function in our own vDSO, or 0. */
static u64 offset_of(const u8 *vdso, const char *wanted)
{
	const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)vdso;
	const ElfW(Phdr) *programs = (const ElfW(Phdr) *)(vdso + header->e_phoff);
	const ElfW(Shdr) *sections = (const ElfW(Shdr) *)(vdso + header->e_shoff);
	const ElfW(Dyn) *dynamic = NULL;
	const ElfW(Sym) *symbols = NULL;
	const char *strings = NULL;
	u64 nr = 0, base = 0;

	for (u32 i = 0; i < header->e_phnum; i++) {
		if (programs[i].p_type == PT_LOAD)
			base = programs[i].p_vaddr;
		if (programs[i].p_type == PT_DYNAMIC)
			dynamic = (const ElfW(Dyn) *)(vdso + programs[i].p_offset);
	}
	for (u32 i = 0; header->e_shoff && i < header->e_shnum; i++)
		if (sections[i].sh_type == SHT_DYNSYM && sections[i].sh_entsize)
			nr = sections[i].sh_size / sections[i].sh_entsize;
	for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
		if (dynamic->d_tag == DT_SYMTAB)
			symbols = (const ElfW(Sym) *)(vdso + dynamic->d_un.d_ptr - base);
		else if (dynamic->d_tag == DT_STRTAB)
			strings = (const char *)(vdso + dynamic->d_un.d_ptr - base);
	}
	for (u64 i = 0; symbols && strings && i < nr; i++)
		if (!strcmp(strings + symbols[i].st_name, wanted) && symbols[i].st_shndx)
			return symbols[i].st_value - base;
	return 0;
}

void ub_vdso_find(const struct ub_address_space *space, struct ub_process *process)
{
	const u8 *own = (const u8 *)getauxval(AT_SYSINFO_EHDR);
	u64 clock, cpu;

	if (!own)
		return;
	for (u32 i = 0; i < space->nr; i++) {
		if (strcmp(space->mappings[i].name, "[vdso]"))
			continue;
		clock = offset_of(own, "__vdso_clock_gettime");
		cpu = offset_of(own, "__vdso_getcpu");
		if (clock)
			process->vdso_clock_gettime = space->mappings[i].start + clock;
		if (cpu)
			process->vdso_getcpu = space->mappings[i].start + cpu;
	}
}
