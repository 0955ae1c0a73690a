// SPDX-License-Identifier: MIT
#include "program.h"

#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include <bpf/btf.h>

#include <client/client.h>
#include <common/cleanup.h>

#include "output.h"

static void probe_free(struct ub_probe *probe)
{
	free(probe->file);
	free(probe->function);
	free(probe->usdt_provider);
	free(probe->usdt_name);
}

void ub_programs_free(struct ub_programs *programs)
{
	if (!programs)
		return;
	for (u32 i = 0; i < programs->nr_probes; i++)
		probe_free(&programs->probes[i]);
	free(programs->probes);
	bpf_object__close(programs->object);
	free(programs);
}

static void programs_cleanup(struct ub_programs **programs)
{
	ub_programs_free(*programs);
}

/* What is to be done about a file that is no BPF object file, whose first bytes are @header's. */
static const char *describe_other_file(const char *path, const Elf64_Ehdr *header)
{
	static const char bitcode[] = { 'B', 'C', (char)0xc0, (char)0xde };
	const char *suffix = strrchr(path, '.');

	if (!memcmp(header->e_ident, ELFMAG, SELFMAG)) {
		if (header->e_ident[EI_DATA] == ELFDATA2MSB)
			return "but a big-endian one: compile it with clang -target bpfel";
		if (header->e_type == ET_EXEC || header->e_type == ET_DYN)
			return "but a native executable or library: compile BPF source with clang -target bpf -g -O2";
		return "but a native one: compile its source with clang -target bpf -g -O2";
	}
	if (!memcmp(header->e_ident, bitcode, sizeof(bitcode)))
		return "but LLVM's bitcode: compile it without -emit-llvm and -flto";
	if (suffix && (!strcmp(suffix, ".c") || !strcmp(suffix, ".h")))
		return "but source: compile it with clang -target bpf -g -O2 -c";
	return "not even ELF";
}

/* Whether @path is an ELF file for the BPF machine. */
static int check_object_file(const char *path, struct ub_reason *why)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	Elf64_Ehdr header = { 0 };
	const char *what;
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return ub_reason_set(why, -errno, "cannot open program %s: %s", path,
				     strerror(errno));
	if (!S_ISREG(st.st_mode))
		return ub_reason_set(why, -ENOEXEC, "%s is not a regular file", path);
	if (pread(fd, &header, sizeof(header), 0) == sizeof(header) &&
	    !memcmp(header.e_ident, ELFMAG, SELFMAG) && header.e_machine == EM_BPF &&
	    header.e_ident[EI_CLASS] == ELFCLASS64 && header.e_ident[EI_DATA] == ELFDATA2LSB)
		return 0;
	what = describe_other_file(path, &header);
	return ub_reason_set(why, -ENOEXEC, "%s is not a BPF object file%s %s", path,
			     strncmp(what, "but", 3) ? ":" : "", what);
}

static int unknown_program(const char *name, struct ub_reason *why)
{
	const char *names[32];
	size_t nr = 0;
	const char *near;

	if (strspn(name, "0123456789") == strlen(name))
		return ub_reason_set(
			why, -ENOENT,
			"no program '%s'; if that is a process id: ubpf-run run malloc -p %s", name,
			name);
	for (size_t i = 0; i < ub_nr_bundled && nr < ub_array_size(names); i++)
		names[nr++] = ub_bundled[i].name;
	near = ub_nearest(name, names, nr);
	if (near)
		return ub_reason_set(why, -ENOENT, "no program '%s', did you mean '%s'?", name,
				     near);
	return ub_reason_set(
		why, -ENOENT,
		"no program '%s': neither bundled (see ubpf-run run --help) nor a file", name);
}

static int open_object(const char *name, struct ub_programs *programs, struct ub_reason *why)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts);
	const char *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
	int err;

	snprintf(programs->name, sizeof(programs->name), "%.*s",
		 (int)(strstr(base, ".bpf.o") ? strstr(base, ".bpf.o") - base : strlen(base)),
		 base);
	opts.object_name = programs->name;
	ub_libbpf_forget();
	programs->bundled = ub_bundled_find(name);
	if (programs->bundled) {
		size_t size;
		const void *bytes = programs->bundled->elf(&size);

		programs->object = bpf_object__open_mem(bytes, size, &opts);
	} else {
		if (access(name, F_OK) && !strchr(name, '/'))
			return unknown_program(name, why);
		err = check_object_file(name, why);
		if (err)
			return err;
		programs->object = bpf_object__open_file(name, &opts);
	}
	if (!programs->object)
		return ub_reason_set(why, -errno, "libbpf cannot open program %s: %s", name,
				     ub_libbpf_warning()[0] ? ub_libbpf_warning()
							    : strerror(errno));
	return 0;
}

/* "libc:malloc+0x4", "/bin/bash:readline", "/bin/bash:0x1234" */
static int parse_place(struct ub_probe *probe, const char *text)
{
	const char *colon = strrchr(text, ':');
	const char *plus;
	char *end;

	if (!colon || !colon[1])
		return -EINVAL;
	probe->file = strndup(text, colon - text);
	if (!probe->file)
		return -ENOMEM;
	if (colon[1] >= '0' && colon[1] <= '9') {
		probe->offset = strtoull(colon + 1, &end, 0);
		return *end ? -EINVAL : 0;
	}
	plus = strchr(colon, '+');
	probe->function = plus ? strndup(colon + 1, plus - colon - 1) : strdup(colon + 1);
	if (!probe->function)
		return -ENOMEM;
	if (plus) {
		probe->offset = strtoull(plus + 1, &end, 0);
		if (!plus[1] || *end)
			return -EINVAL;
	}
	return 0;
}

/* "libc:provider:name" */
static int parse_usdt(struct ub_probe *probe, const char *text)
{
	const char *last = strrchr(text, ':'), *first;

	if (!last || last == text || !last[1])
		return -EINVAL;
	for (first = last - 1; first > text && *first != ':';)
		first--;
	if (*first != ':')
		return -EINVAL;
	probe->file = strndup(text, first - text);
	probe->usdt_provider = strndup(first + 1, last - first - 1);
	probe->usdt_name = strdup(last + 1);
	return probe->file && probe->usdt_provider && probe->usdt_name ? 0 : -ENOMEM;
}

/* A section that says of no program of ours where it goes. */
static int unknown_section(const struct ub_programs *programs, const struct bpf_program *program,
			   struct ub_reason *why)
{
	static const char *const names[] = { "uprobe", "uretprobe", "usdt" };
	const char *section = bpf_program__section_name(program);
	char prefix[64], hint[96] = "";
	const char *near;

	snprintf(prefix, sizeof(prefix), "%.*s", (int)strcspn(section, "/"), section);
	near = ub_nearest(prefix, names, ub_array_size(names));
	/* kprobe and its like are names of their own, however near. */
	if (near && strcmp(prefix, "kprobe") && strcmp(prefix, "kretprobe"))
		snprintf(hint, sizeof(hint), ", did you mean '%s'?", near);
	return ub_reason_set(why, -EOPNOTSUPP,
			     "program %s of %s is of section '%s': only uprobe, uretprobe and usdt "
			     "programs can be attached to processes%s",
			     bpf_program__name(program), programs->name, section, hint);
}

static int add_probe(struct ub_programs *programs, struct bpf_program *program,
		     const char *default_place, struct ub_reason *why)
{
	static const struct {
		const char *prefix;
		enum ub_probe_kind kind;
	} sections[] = {
		{ "uprobe.s", UB_PROBE_ENTRY },	    { "uprobe", UB_PROBE_ENTRY },
		{ "uretprobe.s", UB_PROBE_RETURN }, { "uretprobe", UB_PROBE_RETURN },
		{ "usdt.s", UB_PROBE_USDT },	    { "usdt", UB_PROBE_USDT },
	};
	const char *section = bpf_program__section_name(program);
	struct ub_probe *probe = &programs->probes[programs->nr_probes];
	const char *place = NULL;
	int err;

	for (size_t i = 0; i < ub_array_size(sections) && !place; i++) {
		size_t size = strlen(sections[i].prefix);

		if (!strncmp(section, sections[i].prefix, size) &&
		    (!section[size] || section[size] == '/')) {
			probe->kind = sections[i].kind;
			place = section[size] ? section + size + 1 : "";
		}
	}
	if (!place)
		return unknown_section(programs, program, why);
	if (!*place)
		place = default_place;
	if (!place)
		return ub_reason_set(
			why, -EINVAL,
			"program %s of %s does not say where it goes: give %s after the program's "
			"name",
			bpf_program__name(program), programs->name,
			probe->kind == UB_PROBE_USDT ? "LIB:PROVIDER:NAME" : "LIB:FUNCTION");
	snprintf(probe->text, sizeof(probe->text), "%s %s",
		 probe->kind == UB_PROBE_ENTRY	  ? "uprobe"
		 : probe->kind == UB_PROBE_RETURN ? "uretprobe"
						  : "usdt",
		 place);
	probe->program = program;
	programs->nr_probes++;
	err = probe->kind == UB_PROBE_USDT ? parse_usdt(probe, place) : parse_place(probe, place);
	if (err)
		return ub_reason_set(why, err, "'%s' is not a place to attach to (%s): %s expected",
				     place, bpf_program__name(program),
				     probe->kind == UB_PROBE_USDT ? "FILE:PROVIDER:NAME"
								  : "FILE:FUNCTION[+OFFSET]");
	return 0;
}

static int find_probes(struct ub_programs *programs, const char *place, struct ub_reason *why)
{
	struct bpf_program *program;
	bool needs_place = false;
	u32 nr = 0;
	int err;

	bpf_object__for_each_program(program, programs->object) nr++;
	if (!nr)
		return ub_reason_set(why, -EINVAL, "%s has no program in it", programs->name);
	programs->probes = calloc(nr, sizeof(*programs->probes));
	if (!programs->probes)
		return -ENOMEM;
	bpf_object__for_each_program(program, programs->object)
	{
		err = add_probe(programs, program, place, why);
		if (err)
			return err;
		needs_place |= !strchr(bpf_program__section_name(program), '/');
	}
	if (place && !needs_place)
		return ub_reason_set(why, -EINVAL, "%s says itself where it goes: '%s' has no use",
				     programs->name, place);
	return 0;
}

static int no_constant(const struct ub_programs *programs, const struct btf *btf,
		       const struct btf_type *section, const char *variable, struct ub_reason *why)
{
	const struct btf_var_secinfo *info = btf_var_secinfos(section);
	char names[256] = "";
	size_t used = 0;

	for (int i = 0; i < btf_vlen(section); i++, info++) {
		const struct btf_type *var = btf__type_by_id(btf, info->type);
		const char *name = btf__name_by_offset(btf, var->name_off);

		/* Neither strings that the compiler put there nor what our header needs. */
		if (strchr(name, '.') || !strncmp(name, "ubpf_", 5) ||
		    used + strlen(name) + 3 > sizeof(names))
			continue;
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
					 used ? ", " : "", name);
	}
	return ub_reason_set(why, -ENOENT, "%s has no constant '%s'%s%s%s", programs->name,
			     variable, names[0] ? " (it has: " : "", names, names[0] ? ")" : "");
}

/* Writes @value into the constant @variable of .rodata. */
static int set_constant(struct ub_programs *programs, const char *variable, const char *value,
			struct ub_reason *why)
{
	struct btf *btf = bpf_object__btf(programs->object);
	s32 section = btf ? btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC) : -1;
	struct bpf_map *map = bpf_object__find_map_by_name(programs->object, ".rodata");
	const struct btf_var_secinfo *info;
	const struct btf_type *type;
	_cleanup_free_ char *changed = NULL;
	const void *data;
	size_t size;
	char *end;
	u64 number;

	if (section < 0 || !map)
		return ub_reason_set(why, -EINVAL, "%s has no constants to set (%s)",
				     programs->name, variable);
	data = bpf_map__initial_value(map, &size);
	number = strtoull(value, &end, 0);
	if (!*value || *end)
		return ub_reason_set(why, -EINVAL, "'%s' is not a number (for %s)", value,
				     variable);
	type = btf__type_by_id(btf, section);
	info = btf_var_secinfos(type);
	for (int i = 0; i < btf_vlen(type); i++, info++) {
		const struct btf_type *var = btf__type_by_id(btf, info->type);

		if (strcmp(btf__name_by_offset(btf, var->name_off), variable))
			continue;
		if (!data || info->size > sizeof(number) || info->offset + info->size > size)
			return ub_reason_set(why, -EINVAL, "constant %s of %s is not a number",
					     variable, programs->name);
		changed = malloc(size);
		if (!changed)
			return -ENOMEM;
		memcpy(changed, data, size);
		memcpy(changed + info->offset, &number, info->size);
		return bpf_map__set_initial_value(map, changed, size);
	}
	return no_constant(programs, btf, type, variable, why);
}

static int wrong_argument(const char *arg, struct ub_reason *why)
{
	char hint[96] = "";

	if (strspn(arg, "0123456789") == strlen(arg))
		snprintf(hint, sizeof(hint), " (a process id goes after -p)");
	else if (!strncmp(arg, "lib", 3) && !strpbrk(arg, ":="))
		snprintf(hint, sizeof(hint), ", say %.64s:FUNCTION", arg);
	else if (!strpbrk(arg, ":=/"))
		snprintf(hint, sizeof(hint), ", say libc:%.64s", arg);
	return ub_reason_set(why, -EINVAL,
			     "'%s' is no argument of a program: LIB:FUNCTION or CONSTANT=VALUE "
			     "expected%s",
			     arg, hint);
}

static int apply_args(struct ub_programs *programs, char *const *args, u32 nr_args,
		      const char **place, struct ub_reason *why)
{
	*place = NULL;
	for (u32 i = 0; i < nr_args; i++) {
		char *equals = strchr(args[i], '=');

		if (equals && !strchr(args[i], ':')) {
			_cleanup_free_ char *variable = strndup(args[i], equals - args[i]);
			int err = variable ? set_constant(programs, variable, equals + 1, why)
					   : -ENOMEM;

			if (err)
				return err;
		} else if (strchr(args[i], ':') && !*place) {
			*place = args[i];
		} else {
			return wrong_argument(args[i], why);
		}
	}
	return 0;
}

/* The first map whose type is not to be had here, or NULL. */
static const struct bpf_map *find_unsupported_map(const struct ub_programs *programs)
{
	const struct bpf_map *map;

	bpf_object__for_each_map(map, programs->object)
	{
		if (libbpf_probe_bpf_map_type(bpf_map__type(map), NULL) <= 0)
			return map;
	}
	return NULL;
}

static int explain_load_failure(const struct ub_programs *programs, int err, struct ub_reason *why)
{
	/* Before the probes make libbpf warn again. */
	struct ub_reason saved;
	const char *said = saved.text;
	const struct bpf_map *map;

	if (ub_client_lost(why))
		return err;
	ub_reason_set(&saved, err, "%s", ub_libbpf_warning());
	if (err == -EPERM)
		return ub_reason_set(
			why, err,
			"the kernel does not let this process load programs (%s): run as "
			"root, or use --userspace",
			said[0] ? said : strerror(-err));
	if (err == -ENOSYS)
		return ub_reason_set(
			why, err,
			"cannot load %s: nobody answers bpf(2): Linux was built without it, or, under "
			"ubpf-run exec, the userspace kernel's daemon has ended",
			programs->name);
	map = find_unsupported_map(programs);
	if (map) {
		const char *type = libbpf_bpf_map_type_str(bpf_map__type(map));
		char number[16];

		snprintf(number, sizeof(number), "%u", bpf_map__type(map));
		return ub_reason_set(
			why, -EOPNOTSUPP,
			"cannot load %s: its map '%s' is of type %s, which this backend does not "
			"support",
			programs->name, bpf_map__name(map), type ? type : number);
	}
	return ub_reason_set(why, err, "cannot load %s: %s%s%s (-v shows more)", programs->name,
			     strerror(-err), said[0] ? ": " : "", said);
}

int ub_programs_load(const char *name, char *const *args, u32 nr_args, struct ub_programs **out,
		     struct ub_reason *why)
{
	_cleanup_(programs_cleanup) struct ub_programs *programs = calloc(1, sizeof(*programs));
	char *const *used_args = args;
	const char *place;
	int err;

	if (!programs)
		return -ENOMEM;
	err = open_object(name, programs, why);
	if (err)
		return err;
	if (!nr_args && programs->bundled) {
		used_args = (char *const *)programs->bundled->default_args;
		while (nr_args < ub_array_size(programs->bundled->default_args) &&
		       used_args[nr_args])
			nr_args++;
	}
	err = apply_args(programs, used_args, nr_args, &place, why);
	if (!err)
		err = find_probes(programs, place, why);
	if (err)
		return err;
	ub_libbpf_forget();
	err = bpf_object__load(programs->object);
	if (err)
		return explain_load_failure(programs, err, why);
	*out = TAKE_PTR(programs);
	return 0;
}
