// SPDX-License-Identifier: MIT
/*
 * What a file says: its segments, functions and ways into them; kept for the next that asks.
 */
#include <hook/elf_file.h>

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <hook/eh_frame.h>
#include <hook/go.h>
#include <hook/unwind.h>

#define CACHE_SIZE   16
#define SHT_RELR_    19		  /* SHT_RELR, which older <elf.h> lack */
#define MAX_SEGMENTS (1ull << 30) /* bytes, all together */

/* Files that were looked at lately, most recent first. The daemon is single-threaded. */
static struct ub_elf *cache[CACHE_SIZE];

static void elf_cleanup(Elf **elf)
{
	if (*elf)
		elf_end(*elf);
}

static void destroy(struct ub_elf *elf)
{
	if (!elf)
		return;
	for (u32 i = 0; i < elf->nr_segments; i++) {
		free(elf->segments[i].bytes);
		free(elf->segments[i].targets);
		free(elf->segments[i].labels);
	}
	free(elf->segments);
	for (u32 i = 0; i < elf->nr_functions; i++)
		free(elf->functions[i].ways);
	free(elf->functions);
	ub_unwind_table_free(elf->unwind);
	if (elf->fd >= 0)
		close(elf->fd);
	free(elf);
}

void ub_elf_put(struct ub_elf *elf)
{
	if (elf && --elf->references == 0)
		destroy(elf);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static struct ub_elf *cache_find(const struct stat *stat)
{
	for (u32 i = 0; i < CACHE_SIZE && cache[i]; i++) {
		struct ub_elf *found = cache[i];

		if (!same_file(&found->stat, stat))
			continue;
		memmove(cache + 1, cache, i * sizeof(cache[0]));
		cache[0] = found;
		found->references++;
		return found;
	}
	return NULL;
}

static void cache_add(struct ub_elf *elf)
{
	ub_elf_put(cache[CACHE_SIZE - 1]);
	memmove(cache + 1, cache, (CACHE_SIZE - 1) * sizeof(cache[0]));
	cache[0] = elf;
	elf->references++;
}

static void __attribute__((destructor)) cache_drop(void)
{
	for (u32 i = 0; i < CACHE_SIZE; i++) {
		ub_elf_put(cache[i]);
		cache[i] = NULL;
	}
}

struct function_list {
	struct ub_elf *elf;
	u32 capacity;
};

static int add_function(struct function_list *list, const struct ub_elf_function *function)
{
	const u64 start = function->start;
	u64 end = function->end;
	struct ub_elf *elf = list->elf;
	struct ub_elf_segment *segment = ub_elf_segment_at(elf, start);

	if (!segment || !segment->executable)
		return 0;
	if (end > segment->address + segment->size)
		end = segment->address + segment->size;
	if (elf->nr_functions == list->capacity) {
		u32 capacity = list->capacity ? list->capacity * 2 : 1024;
		struct ub_elf_function *grown =
			realloc(elf->functions, capacity * sizeof(elf->functions[0]));

		if (!grown)
			return -ENOMEM;
		elf->functions = grown;
		list->capacity = capacity;
	}
	elf->functions[elf->nr_functions] = *function;
	elf->functions[elf->nr_functions++].end = end;
	ub_elf_add_target(elf, start);
	return 0;
}

static int add_described(void *opaque, const struct ub_eh_entry *entry)
{
	const struct ub_elf_function function = {
		.start = entry->start,
		.end = entry->end,
		.lsda = entry->lsda,
		.described = true,
		.fragment = ub_eh_entry_is_fragment(entry),
	};

	return add_function(opaque, &function);
}

static int compare_functions(const void *a, const void *b)
{
	const struct ub_elf_function *x = a;
	const struct ub_elf_function *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return 0;
}

/*
 * One entry per start; the longest end and the exception table survive. A symbol without a size
 * ends where the next begins, and a function that others start inside of (aliases into the middle,
 * in hand-written assembly) is left as it is: their starts are targets.
 */
static void sort_functions(struct ub_elf *elf)
{
	u32 kept = 0;

	if (!elf->nr_functions)
		return;
	qsort(elf->functions, elf->nr_functions, sizeof(elf->functions[0]), compare_functions);
	for (u32 i = 1; i < elf->nr_functions; i++) {
		struct ub_elf_function *last = &elf->functions[kept];
		const struct ub_elf_function *next = &elf->functions[i];

		if (last->start == next->start) {
			if (next->end > last->end)
				last->end = next->end;
			last->described |= next->described;
			last->fragment |= next->fragment;
			last->not_called |= next->not_called;
			last->no_thread |= next->no_thread;
			last->g_in_r14 &= next->g_in_r14;
			if (next->lsda)
				last->lsda = next->lsda;
		} else {
			elf->functions[++kept] = *next;
		}
	}
	elf->nr_functions = kept + 1;
	for (u32 i = 0; i < elf->nr_functions; i++) {
		struct ub_elf_function *function = &elf->functions[i];
		const struct ub_elf_segment *segment = ub_elf_segment_at(elf, function->start);
		u64 next = i + 1 < elf->nr_functions ? elf->functions[i + 1].start : UINT64_MAX;

		if (function->end > function->start)
			continue;
		function->end = segment->address + segment->size;
		if (next < function->end)
			function->end = next;
	}
}

/* Whatever no function covers becomes an entry of its own, so that all code is some entry's. */
static int fill_gaps(struct ub_elf *elf)
{
	const u32 nr = elf->nr_functions;
	struct ub_elf_function *filled =
		calloc(2u * nr + elf->nr_segments + 1, sizeof(elf->functions[0]));
	u32 count = 0, next = 0;

	if (!filled)
		return -ENOMEM;
	for (;;) {
		const struct ub_elf_segment *segment = NULL;
		u64 at, end;

		/* Segments in the order of their addresses, as functions are. */
		for (u32 i = 0; i < elf->nr_segments; i++) {
			const struct ub_elf_segment *s = &elf->segments[i];

			if (s->executable && (!count || s->address >= filled[count - 1].end) &&
			    (!segment || s->address < segment->address))
				segment = s;
		}
		if (!segment)
			break;
		at = segment->address;
		end = at + segment->size;
		while (next < nr && elf->functions[next].start < end) {
			if (elf->functions[next].start > at)
				filled[count++] = (struct ub_elf_function) {
					.start = at, .end = elf->functions[next].start, .gap = true
				};
			filled[count++] = elf->functions[next];
			if (elf->functions[next].end > at)
				at = elf->functions[next].end;
			next++;
		}
		if (at < end)
			filled[count++] =
				(struct ub_elf_function) { .start = at, .end = end, .gap = true };
	}
	free(elf->functions);
	elf->functions = filled;
	elf->nr_functions = count;
	return 0;
}

static int add_symbols(struct function_list *list, Elf *elf, Elf_Scn *section,
		       const GElf_Shdr *header)
{
	Elf_Data *data = elf_getdata(section, NULL);
	size_t nr = header->sh_entsize ? header->sh_size / header->sh_entsize : 0;

	if (!data)
		return 0;
	for (size_t i = 0; i < nr; i++) {
		struct ub_elf_function function;
		const char *name;
		GElf_Sym symbol;
		int type, err;

		if (!gelf_getsym(data, (int)i, &symbol))
			break;
		type = GELF_ST_TYPE(symbol.st_info);
		if ((type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE) ||
		    symbol.st_shndx == SHN_UNDEF || !symbol.st_value)
			continue;
		/* Labels of hand-written assembly may be jumped to; they are no functions. */
		if (type == STT_NOTYPE) {
			ub_elf_add_target(list->elf, symbol.st_value);
			continue;
		}
		if (symbol.st_value + symbol.st_size < symbol.st_value)
			continue;
		name = elf_strptr(elf, header->sh_link, symbol.st_name);
		function = (struct ub_elf_function) { .start = symbol.st_value,
						      .end = symbol.st_value + symbol.st_size };
		ub_go_name(&function, name);
		err = add_function(list, &function);
		if (err)
			return err;
	}
	return 0;
}

/* Code addresses that data holds: what a relocation stores, tables of labels. */
static void add_relocations(struct ub_elf *elf, Elf_Scn *section, const GElf_Shdr *header)
{
	Elf_Data *data = elf_getdata(section, NULL);
	size_t nr = header->sh_entsize ? header->sh_size / header->sh_entsize : 0;

	if (!data || header->sh_type != SHT_RELA)
		return;
	for (size_t i = 0; i < nr; i++) {
		GElf_Rela rela;

		if (!gelf_getrela(data, (int)i, &rela))
			break;
		if (GELF_R_TYPE(rela.r_info) == R_X86_64_RELATIVE ||
		    GELF_R_TYPE(rela.r_info) == R_X86_64_IRELATIVE)
			ub_elf_add_label(elf, (u64)rela.r_addend);
	}
}

static int read_sections(struct function_list *list, Elf *elf)
{
	Elf_Scn *section = NULL;
	size_t strings;

	if (elf_getshdrstrndx(elf, &strings))
		return 0; /* no sections: .eh_frame has to do */
	while ((section = elf_nextscn(elf, section))) {
		GElf_Shdr header;
		const char *name;
		int err = 0;

		if (!gelf_getshdr(section, &header))
			continue;
		name = elf_strptr(elf, strings, header.sh_name);
		if (name && (!strcmp(name, ".go.buildinfo") || !strcmp(name, ".note.go.buildid") ||
			     !strcmp(name, ".gopclntab")))
			list->elf->is_go = true;
		list->elf->has_symtab |= header.sh_type == SHT_SYMTAB;
		if (header.sh_type == SHT_SYMTAB || header.sh_type == SHT_DYNSYM)
			err = add_symbols(list, elf, section, &header);
		else if (header.sh_type == SHT_RELR_)
			list->elf->has_relr = true;
		else if (header.sh_type == SHT_RELA)
			add_relocations(list->elf, section, &header);
		if (err)
			return err;
	}
	return 0;
}

static int read_segments(struct ub_elf *elf, Elf *handle, struct ub_reason *why)
{
	GElf_Ehdr header;
	u64 total = 0;
	size_t nr;

	if (!gelf_getehdr(handle, &header) || elf_getphdrnum(handle, &nr) || nr > 4096)
		return ub_reason_set(why, -ENOEXEC, "damaged ELF headers");
	if (header.e_machine != EM_X86_64 || header.e_ident[EI_CLASS] != ELFCLASS64)
		return ub_reason_set(why, -ENOEXEC, "not 64-bit x86 code (ELF machine %d)",
				     header.e_machine);
	elf->position_independent = header.e_type == ET_DYN;
	elf->segments = calloc(nr ? nr : 1, sizeof(elf->segments[0]));
	if (!elf->segments)
		return -ENOMEM;
	for (size_t i = 0; i < nr; i++) {
		struct ub_elf_segment *segment = &elf->segments[elf->nr_segments];
		GElf_Phdr program;

		if (!gelf_getphdr(handle, (int)i, &program))
			continue;
		elf->has_interpreter |= program.p_type == PT_INTERP;
		if (program.p_type == PT_GNU_EH_FRAME)
			elf->eh_frame_hdr = program.p_vaddr;
		if (program.p_type != PT_LOAD || !program.p_filesz)
			continue;
		total += program.p_filesz;
		if (program.p_filesz > MAX_SEGMENTS || total > MAX_SEGMENTS ||
		    program.p_offset > (u64)elf->stat.st_size ||
		    program.p_filesz > (u64)elf->stat.st_size - program.p_offset ||
		    program.p_vaddr + program.p_filesz < program.p_vaddr)
			return ub_reason_set(why, -ENOEXEC, "damaged ELF program headers");
		*segment = (struct ub_elf_segment) {
			.address = program.p_vaddr,
			.offset = program.p_offset,
			.size = program.p_filesz,
			.executable = program.p_flags & PF_X,
			.writable = program.p_flags & PF_W,
		};
		elf->nr_segments++;
		if (!segment->executable)
			continue;
		segment->targets = calloc(1, segment->size / 8 + 1);
		segment->labels = calloc(1, segment->size / 8 + 1);
		if (!segment->targets || !segment->labels || !ub_elf_load(elf, segment))
			return -ENOMEM;
	}
	return 0;
}

/*
 * Every near jump, branch and call of 32 bits that any byte of the code could start, whether it is
 * an instruction or not: no decoder can miss one, and one that is none costs next to nothing (few
 * random distances point into the code).
 */
static void scan_rel32(struct ub_elf *elf, struct ub_elf_segment *segment)
{
	const u8 *bytes = segment->bytes;
	const u64 size = segment->size;

	for (u64 i = 0; i + 5 <= size; i++) {
		u64 end, target;
		s32 rel;

		if ((bytes[i] & 0xfe) == 0xe8)
			end = i + 5;
		else if (bytes[i] == 0x0f && (bytes[i + 1] & 0xf0) == 0x80 && i + 6 <= size)
			end = i + 6;
		else
			continue;
		memcpy(&rel, bytes + end - 4, sizeof(rel));
		target = end + (u64)(s64)rel;
		if (target < size)
			segment->targets[target / 8] |= (u8)(1u << target % 8);
		else
			ub_elf_add_target(elf, segment->address + target);
	}
}

/* Code that is linked to a fixed address may hold tables of absolute addresses without relocations.
 */
static void scan_absolute(struct ub_elf *elf)
{
	for (u32 i = 0; i < elf->nr_segments; i++) {
		struct ub_elf_segment *segment = &elf->segments[i];

		if (segment->executable || !ub_elf_load(elf, segment))
			continue;
		for (u64 at = (8 - segment->address % 8) % 8; at + 8 <= segment->size; at += 8) {
			u64 value;

			memcpy(&value, segment->bytes + at, sizeof(value));
			ub_elf_add_label(elf, value);
		}
	}
}

static void find_gadget(struct ub_elf *elf, const u8 *code, u32 len, struct ub_elf_gadget *gadget)
{
	for (u32 i = 0; i < elf->nr_segments && !gadget->len; i++) {
		const struct ub_elf_segment *segment = &elf->segments[i];
		const u8 *found = segment->executable
					  ? memmem(segment->bytes, segment->size, code, len)
					  : NULL;

		if (found)
			*gadget = (struct ub_elf_gadget) {
				segment->address + (u64)(found - segment->bytes), len
			};
	}
}

/* Any function's stack check: cmp 16(%r14),%rsp; jbe. */
static void find_g(struct ub_elf *elf)
{
	static const u8 check[] = { 0x49, 0x3b, 0x66, 0x10, 0x76 };
	struct ub_elf_gadget found = {};

	if (elf->is_go)
		find_gadget(elf, check, sizeof(check), &found);
	elf->go_has_g = found.len;
}

static void find_gadgets(struct ub_elf *elf)
{
	static const u8 syscall_ret[] = { 0x0f, 0x05, 0xc3 };
	static const u8 sigreturn_rax[] = { 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05 };
	static const u8 sigreturn_eax[] = { 0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05 };

	if (elf->position_independent || elf->has_interpreter)
		return;
	find_gadget(elf, syscall_ret, sizeof(syscall_ret), &elf->gadgets[0]);
	find_gadget(elf, sigreturn_rax, sizeof(sigreturn_rax), &elf->gadgets[1]);
	find_gadget(elf, sigreturn_eax, sizeof(sigreturn_eax), &elf->gadgets[1]);
}

static int analyse(struct ub_elf *elf, struct ub_reason *why)
{
	_cleanup_(elf_cleanup) Elf *handle = NULL;
	struct function_list list = { .elf = elf };
	int err;

	if (elf_version(EV_CURRENT) == EV_NONE)
		return ub_reason_set(why, -ENOTSUP, "libelf: %s", elf_errmsg(-1));
	handle = elf_begin(elf->fd, ELF_C_READ, NULL);
	if (!handle || elf_kind(handle) != ELF_K_ELF)
		return ub_reason_set(why, -ENOEXEC, "not an ELF file");
	err = read_segments(elf, handle, why);
	if (err)
		return err;
	err = ub_eh_frame_each(elf, add_described, &list);
	if (err && err != -ENOENT)
		return err;
	err = read_sections(&list, handle);
	if (err)
		return err;
	sort_functions(elf);
	err = fill_gaps(elf);
	if (err)
		return err;
	for (u32 i = 0; i < elf->nr_segments; i++)
		if (elf->segments[i].executable)
			scan_rel32(elf, &elf->segments[i]);
	if (!elf->position_independent || elf->has_relr)
		scan_absolute(elf);
	find_gadgets(elf);
	find_g(elf);
	return 0;
}

int ub_elf_symbol(const struct ub_elf *elf, const char *name, u64 *address)
{
	_cleanup_(elf_cleanup) Elf *handle = elf_begin(elf->fd, ELF_C_READ, NULL);
	Elf_Scn *section = NULL;

	while (handle && (section = elf_nextscn(handle, section))) {
		GElf_Shdr header;
		Elf_Data *data;
		size_t nr;

		if (!gelf_getshdr(section, &header) || !header.sh_entsize ||
		    (header.sh_type != SHT_SYMTAB && header.sh_type != SHT_DYNSYM))
			continue;
		data = elf_getdata(section, NULL);
		nr = data ? header.sh_size / header.sh_entsize : 0;
		for (size_t i = 0; i < nr; i++) {
			const char *found;
			GElf_Sym symbol;

			if (!gelf_getsym(data, (int)i, &symbol) || symbol.st_shndx == SHN_UNDEF)
				continue;
			found = elf_strptr(handle, header.sh_link, symbol.st_name);
			if (found && !strcmp(found, name)) {
				*address = symbol.st_value;
				return 0;
			}
		}
	}
	return -ENOENT;
}

int ub_elf_open(int fd, struct ub_elf **out, struct ub_reason *why)
{
	struct ub_elf *elf;
	struct stat stat;
	int err;

	if (fstat(fd, &stat))
		return -errno;
	if (!S_ISREG(stat.st_mode))
		return ub_reason_set(why, -ENOEXEC, "not a regular file");
	elf = cache_find(&stat);
	if (elf) {
		*out = elf;
		return 0;
	}
	elf = calloc(1, sizeof(*elf));
	if (!elf)
		return -ENOMEM;
	elf->references = 1;
	elf->stat = stat;
	elf->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	err = elf->fd < 0 ? -errno : analyse(elf, why);
	if (err) {
		destroy(elf);
		return err;
	}
	cache_add(elf);
	*out = elf;
	return 0;
}
