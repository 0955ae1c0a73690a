// SPDX-License-Identifier: MIT
/* What a tool can learn about objects: ids, BPF_OBJ_GET_INFO_BY_FD, BPF_TASK_FD_QUERY, fdinfo. */
#include <kernel/kinds.h>

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define ENOTSUPP 524

s64 ub_cmd_get_next_id(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *attr,
		       enum ub_kind kind)
{
	struct ub_object *object;

	if (!ub_attr_tail_zero(attr, UB_ATTR_END(next_id)) || attr->a.start_id >= INT_MAX)
		return -EINVAL;
	object = ub_object_after(k, kind, attr->a.start_id);
	if (!object)
		return -ENOENT;
	attr->a.next_id = object->id;
	return UB_ATTR_WRITE(attr, c, next_id);
}

int ub_object_open(struct ub_object *object, u32 mode)
{
	if (object->kind == UB_KIND_MAP)
		return ub_kmap_open(ub_to_map(object), mode);
	return ub_file_socket(object, mode);
}

/* BPF_F_RDONLY and BPF_F_WRONLY as a mode; 0: both at once, or others. */
static u32 open_mode(u32 flags)
{
	switch (flags) {
	case 0:
		return UB_FILE_RDWR;
	case BPF_F_RDONLY:
		return UB_FILE_READ;
	case BPF_F_WRONLY:
		return UB_FILE_WRITE;
	default:
		return 0;
	}
}

s64 ub_cmd_get_fd_by_id(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *attr,
			enum ub_kind kind, int *fd)
{
	u32 mode = UB_FILE_RDWR;
	struct ub_object *object;

	if (!ub_attr_tail_zero(attr, kind == UB_KIND_MAP ? UB_ATTR_END(open_flags)
							 : UB_ATTR_END(start_id)))
		return -EINVAL;
	if (kind == UB_KIND_MAP) {
		mode = open_mode(attr->a.open_flags);
		if (!mode)
			return -EINVAL;
	}
	object = ub_object_by_id(k, kind, attr->a.start_id);
	if (!object)
		return -ENOENT;
	*fd = ub_object_open(object, mode);
	return *fd < 0 ? *fd : 0;
}

/* One info call: what the caller passed (pointers and sizes of its buffers) and what it gets. */
struct reply {
	struct ub_caller *caller;
	const struct ub_attr *attr;
	u64 address;
	u32 size; /* that the caller has room for and we know about */
};

/* Copies the caller's struct in; what it has beyond @known must be zero. */
static int begin(struct reply *r, struct ub_caller *c, const struct ub_attr *attr, void *info,
		 u32 known)
{
	u32 size = attr->a.info.info_len;
	u8 page[4096];
	int err;

	if (size > sizeof(page))
		return -E2BIG;
	*r = (struct reply) { .caller = c,
			      .attr = attr,
			      .address = attr->a.info.info,
			      .size = size < known ? size : known };
	err = size ? c->read(c, r->address, page, size) : 0;
	if (err)
		return err;
	for (u32 i = known; i < size; i++)
		if (page[i])
			return -E2BIG;
	memset(info, 0, known);
	memcpy(info, page, r->size);
	return 0;
}

static int finish(struct reply *r, const void *info)
{
	int err = r->size ? r->caller->write(r->caller, r->address, info, r->size) : 0;

	/* It says so already: each write costs as much as all else that is done here. */
	if (err || r->size == r->attr->a.info.info_len)
		return err;
	return ub_attr_write(r->attr, r->caller, offsetof(union bpf_attr, info.info_len), &r->size,
			     sizeof(r->size));
}

/* An array for which the caller gave @address and room for *@count elements: copies what fits, says
 * how many there are. */
static int give_array(struct ub_caller *c, u64 address, u32 *count, const void *from, u32 nr,
		      u32 element)
{
	u32 room = *count < nr ? *count : nr;

	*count = nr;
	if (!room || !from)
		return 0;
	return c->write(c, address, from, (size_t)room * element);
}

static int map_info(struct ub_kernel_map *map, struct ub_caller *c, const struct ub_attr *attr)
{
	struct bpf_map_info info;
	struct reply reply;
	int err = begin(&reply, c, attr, &info, sizeof(info));

	if (err)
		return err;
	info = (struct bpf_map_info) {
		.type = map->map.attr.type,
		.id = map->object.id,
		.key_size = map->map.attr.key_size,
		.value_size = map->map.attr.value_size,
		.max_entries = map->map.attr.max_entries,
		.map_flags = map->map.attr.flags,
		.btf_id = map->btf ? map->btf->object.id : 0,
		.btf_key_type_id = map->btf_key_type_id,
		.btf_value_type_id = map->btf_value_type_id,
		.map_extra = map->map.attr.extra,
	};
	memcpy(info.name, map->name, sizeof(info.name));
	return finish(&reply, &info);
}

/* Instructions with ids in place of indexes into the program's maps. */
static struct bpf_insn *dump_insns(const struct ub_kprog *prog)
{
	const struct ub_program *p = prog->program;
	struct bpf_insn *insns = malloc((size_t)p->nr_insns * sizeof(*insns) + 1);

	if (!insns)
		return NULL;
	memcpy(insns, p->insns, (size_t)p->nr_insns * sizeof(*insns));
	for (u32 i = 0; i + 1 < p->nr_insns; i++) {
		struct bpf_insn *insn = &insns[i];

		if (insn->code != (BPF_LD | BPF_IMM | BPF_DW))
			continue;
		if ((insn->src_reg == BPF_PSEUDO_MAP_FD || insn->src_reg == BPF_PSEUDO_MAP_VALUE) &&
		    (u32)insn->imm < prog->nr_maps)
			insn->imm = (s32)prog->maps[insn->imm]->object.id;
		i++;
	}
	return insns;
}

static int give_maps(struct ub_kprog *prog, struct ub_caller *c, struct bpf_prog_info *info)
{
	u32 nr = prog->nr_maps + prog->nr_bound;
	_cleanup_free_ u32 *ids = malloc(nr * sizeof(*ids) + 1);

	if (!ids)
		return -ENOMEM;
	for (u32 i = 0; i < nr; i++)
		ids[i] = i < prog->nr_maps ? prog->maps[i]->object.id
					   : prog->bound[i - prog->nr_maps]->object.id;
	return give_array(c, info->map_ids, &info->nr_map_ids, ids, nr, sizeof(*ids));
}

static int give_code(struct ub_kprog *prog, struct ub_caller *c, struct bpf_prog_info *info)
{
	_cleanup_free_ struct bpf_insn *insns = dump_insns(prog);
	u64 address = 0; /* the code runs in many processes, each time somewhere else */
	int err;

	if (!insns)
		return -ENOMEM;
	err = give_array(c, info->xlated_prog_insns, &info->xlated_prog_len, insns,
			 prog->program->nr_insns * (u32)sizeof(*insns), 1);
	if (!err)
		err = give_array(c, info->jited_prog_insns, &info->jited_prog_len, prog->code.bytes,
				 prog->code.size, 1);
	if (!err)
		err = give_array(c, info->jited_ksyms, &info->nr_jited_ksyms, &address, 1,
				 sizeof(address));
	if (!err)
		err = give_array(c, info->jited_func_lens, &info->nr_jited_func_lens,
				 &prog->code.size, 1, sizeof(prog->code.size));
	return err;
}

/* Records go out with the size that we have, whatever the caller asks for: it learns that from
 * rec_size. */
static int give_btf(struct ub_kprog *prog, struct ub_caller *c, struct bpf_prog_info *info)
{
	int err = 0;

	info->btf_id = prog->btf ? prog->btf->object.id : 0;
	if (!info->nr_func_info || info->func_info_rec_size == sizeof(*prog->func_info))
		err = give_array(c, info->func_info, &info->nr_func_info, prog->func_info,
				 prog->nr_func_info, sizeof(*prog->func_info));
	else
		return -EINVAL;
	info->func_info_rec_size = sizeof(*prog->func_info);
	if (err)
		return err;
	if (info->nr_line_info && info->line_info_rec_size != sizeof(*prog->line_info))
		return -EINVAL;
	err = give_array(c, info->line_info, &info->nr_line_info, prog->line_info,
			 prog->nr_line_info, sizeof(*prog->line_info));
	info->line_info_rec_size = sizeof(*prog->line_info);
	info->nr_jited_line_info = 0;
	info->jited_line_info_rec_size = sizeof(u64);
	return err;
}

static int prog_info(struct ub_kprog *prog, struct ub_caller *c, const struct ub_attr *attr)
{
	struct bpf_prog_info info;
	struct reply reply;
	int err = begin(&reply, c, attr, &info, sizeof(info));

	if (err)
		return err;
	info.type = prog->program->type;
	info.id = prog->object.id;
	info.created_by_uid = prog->object.uid;
	info.gpl_compatible = prog->gpl;
	memcpy(info.tag, prog->tag, sizeof(info.tag));
	memcpy(info.name, prog->program->name, sizeof(info.name));
	info.load_time = prog->load_time;
	info.run_time_ns = 0; /* nobody takes the time of a probe */
	/* Always known here, whereas Linux counts runs while statistics are enabled only. */
	if (prog->object.kernel->ops->program_counters) {
		u64 hits = 0, misses = 0;

		prog->object.kernel->ops->program_counters(prog->object.kernel->opaque,
							   prog->object.id, &hits, &misses);
		info.run_cnt = hits;
		info.recursion_misses = misses;
	}
	info.verified_insns = prog->program->verified_insns;
	info.attach_btf_id = info.attach_btf_obj_id = 0;
	info.ifindex = 0;
	info.netns_dev = info.netns_ino = 0;
	err = give_maps(prog, c, &info);
	if (!err)
		err = give_code(prog, c, &info);
	if (!err)
		err = give_btf(prog, c, &info);
	if (!err)
		err = give_array(c, info.prog_tags, &info.nr_prog_tags, prog->tag, 1,
				 sizeof(prog->tag));
	return err ? err : finish(&reply, &info);
}

static int btf_info(struct ub_kbtf *btf, struct ub_caller *c, const struct ub_attr *attr)
{
	struct bpf_btf_info info;
	struct reply reply;
	int err = begin(&reply, c, attr, &info, sizeof(info));

	if (err)
		return err;
	info.id = btf->object.id;
	err = give_array(c, info.btf, &info.btf_size, btf->data, btf->size, 1);
	if (err)
		return err;
	info.kernel_btf = 0;
	if (!info.name != !info.name_len)
		return -EINVAL;
	if (info.name) { /* only the kernel's own BTF has a name */
		err = c->write(c, info.name, "", 1);
		if (err)
			return err;
	}
	info.name_len = 0;
	return finish(&reply, &info);
}

/* struct bpf_link_info of Linux 6.18; Debian 12's header knows less. */
struct link_info {
	u32 type;
	u32 id;
	u32 prog_id;
	u32 pad;
	union {
		struct {
			u64 path;
			u64 offsets;
			u64 ref_ctr_offsets;
			u64 cookies;
			u32 path_size;
			u32 count;
			u32 flags;
			u32 pid;
		} multi;
		struct {
			u32 type;
			u32 pad;
			u64 file_name;
			u32 name_len;
			u32 offset;
			u64 cookie;
			u64 ref_ctr_offset;
		} perf;
	};
};

#define PERF_EVENT_UPROBE    1
#define PERF_EVENT_URETPROBE 2
#define PERF_EVENT_EVENT     6

/* A string into a buffer of *@size bytes: -ENOSPC if cut, *@size = what it takes. */
static int give_string(struct ub_caller *c, u64 address, u32 *size, const char *from)
{
	u32 length = (u32)strlen(from) + 1, room = *size;
	int err;

	*size = length;
	if (!room || !address)
		return 0;
	if (room >= length)
		return c->write(c, address, from, length);
	err = room > 1 ? c->write(c, address, from, room - 1) : 0;
	if (!err)
		err = c->write(c, address + room - 1, "", 1);
	return err ? err : -ENOSPC;
}

static int perf_link_info(struct ub_klink *link, struct ub_caller *c, struct link_info *info)
{
	const struct ub_kperf *event = link->perf;

	if (!event->is_uprobe) {
		info->perf.type = PERF_EVENT_EVENT;
		return 0;
	}
	info->perf.type = event->point.is_return ? PERF_EVENT_URETPROBE : PERF_EVENT_UPROBE;
	info->perf.offset = (u32)event->point.offset;
	info->perf.cookie = link->cookie;
	info->perf.ref_ctr_offset = event->point.ref_ctr_offset;
	if (!info->perf.file_name != !info->perf.name_len)
		return -EINVAL;
	return give_string(c, info->perf.file_name, &info->perf.name_len, event->point.path);
}

static int multi_link_info(struct ub_klink *link, struct ub_caller *c, struct link_info *info)
{
	const struct {
		u64 address;
		size_t field;
	} arrays[] = {
		{ info->multi.offsets, offsetof(struct ub_point_spec, offset) },
		{ info->multi.ref_ctr_offsets, offsetof(struct ub_point_spec, ref_ctr_offset) },
		{ info->multi.cookies, offsetof(struct ub_point_spec, cookie) },
	};
	u32 room = info->multi.count;
	int err;

	if (!info->multi.path != !info->multi.path_size)
		return -EINVAL;
	if ((info->multi.offsets || info->multi.ref_ctr_offsets || info->multi.cookies) && !room)
		return -EINVAL;
	info->multi.count = link->nr_points;
	info->multi.flags = link->flags;
	info->multi.pid = link->pid < 0 ? 0 : (u32)link->pid;
	err = give_string(c, info->multi.path, &info->multi.path_size, link->points[0].path);
	if (err)
		return err;
	if (room > link->nr_points)
		room = link->nr_points;
	for (u32 a = 0; a < ub_array_size(arrays); a++) {
		for (u32 i = 0; arrays[a].address && i < room && !err; i++)
			err = c->write(c, arrays[a].address + (u64)i * sizeof(u64),
				       (const u8 *)&link->points[i] + arrays[a].field, sizeof(u64));
	}
	if (!err && room && room < link->nr_points)
		err = -ENOSPC;
	return err;
}

static int link_info(struct ub_klink *link, struct ub_caller *c, const struct ub_attr *attr)
{
	struct link_info info;
	struct reply reply;
	int err = begin(&reply, c, attr, &info, sizeof(info));

	if (err)
		return err;
	info.type = link->type;
	info.id = link->object.id;
	info.prog_id = link->prog->object.id;
	err = link->perf ? perf_link_info(link, c, &info) : multi_link_info(link, c, &info);
	return err ? err : finish(&reply, &info);
}

s64 ub_cmd_get_info(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *attr)
{
	struct ub_file *file;
	int err;

	if (!ub_attr_tail_zero(attr, UB_ATTR_END(info.info)))
		return -EINVAL;
	err = ub_file_get(k, c, (s32)attr->a.info.bpf_fd, &file);
	if (err)
		return err == -EBADF ? -EBADFD : err; /* this one command says it so */
	switch (file->object->kind) {
	case UB_KIND_MAP:
		return map_info(ub_to_map(file->object), c, attr);
	case UB_KIND_PROG:
		return prog_info(ub_to_prog(file->object), c, attr);
	case UB_KIND_BTF:
		return btf_info(ub_to_btf(file->object), c, attr);
	case UB_KIND_LINK:
		return link_info(ub_to_link(file->object), c, attr);
	default:
		return -EINVAL;
	}
}

/* What is attached behind a perf event or link of some process: bpftool perf, bcc. */
s64 ub_cmd_task_fd_query(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *attr)
{
	union bpf_attr *a = &attr->a;
	struct ub_caller other = *c;
	struct ub_kperf *event = NULL;
	struct ub_file *file;
	char path[32];
	struct stat st;
	int err;

	if (!ub_attr_tail_zero(attr, UB_ATTR_END(task_fd_query.probe_addr)) ||
	    a->task_fd_query.flags)
		return -EINVAL;
	other.pid = (pid_t)a->task_fd_query.pid;
	snprintf(path, sizeof(path), "/proc/%d", other.pid);
	if (other.pid <= 0 || stat(path, &st))
		return -ENOENT;
	err = ub_file_get(k, &other, (s32)a->task_fd_query.fd, &file);
	if (err == -EINVAL)
		return -ENOTSUPP;
	if (err)
		return err;
	if (file->object->kind == UB_KIND_PERF)
		event = ub_to_perf(file->object);
	else if (file->object->kind == UB_KIND_LINK)
		event = ub_to_link(file->object)->perf;
	if (!event || !event->prog)
		return event ? -ENOENT : -ENOTSUPP;
	if (!event->is_uprobe)
		return -EOPNOTSUPP;
	a->task_fd_query.prog_id = event->prog->object.id;
	a->task_fd_query.fd_type =
		event->point.is_return ? BPF_FD_TYPE_URETPROBE : BPF_FD_TYPE_UPROBE;
	a->task_fd_query.probe_offset = event->point.offset;
	a->task_fd_query.probe_addr = 0;
	err = give_string(c, a->task_fd_query.buf, &a->task_fd_query.buf_len, event->point.path);
	a->task_fd_query.buf_len = (u32)strlen(event->point.path);
	if (err && err != -ENOSPC)
		return err;
	if (UB_ATTR_WRITE(attr, c, task_fd_query.buf_len) ||
	    UB_ATTR_WRITE(attr, c, task_fd_query.prog_id) ||
	    UB_ATTR_WRITE(attr, c, task_fd_query.fd_type) ||
	    UB_ATTR_WRITE(attr, c, task_fd_query.probe_offset) ||
	    UB_ATTR_WRITE(attr, c, task_fd_query.probe_addr))
		return -EFAULT;
	return err;
}

int ub_kernel_fdinfo(struct ub_kernel *kernel, struct ub_caller *caller, int fd, char *out,
		     size_t size)
{
	struct ub_file *file;
	int err = ub_file_get(kernel, caller, fd, &file);
	const struct ub_object *object;

	if (err)
		return err;
	object = file->object;
	if (object->kind == UB_KIND_MAP) {
		const struct ub_kernel_map *map = ub_to_map(file->object);

		return snprintf(
			out, size,
			"map_type:\t%u\nkey_size:\t%u\nvalue_size:\t%u\nmax_entries:\t%u\n"
			"map_flags:\t0x%x\nmap_extra:\t0x%llx\nmemlock:\t%llu\nmap_id:\t%u\n"
			"frozen:\t%u\n",
			map->map.attr.type, map->map.attr.key_size, map->map.attr.value_size,
			map->map.attr.max_entries, map->map.attr.flags,
			(unsigned long long)map->map.attr.extra,
			(unsigned long long)map->map.shared_size, object->id, map->frozen);
	}
	if (object->kind == UB_KIND_PROG) {
		const struct ub_kprog *prog = ub_to_prog(file->object);
		char tag[2 * BPF_TAG_SIZE + 1];

		for (u32 i = 0; i < BPF_TAG_SIZE; i++)
			snprintf(tag + 2 * i, 3, "%02x", prog->tag[i]);
		return snprintf(out, size,
				"prog_type:\t%u\nprog_jited:\t1\nprog_tag:\t%s\nmemlock:\t%u\n"
				"prog_id:\t%u\nrun_time_ns:\t0\nrun_cnt:\t0\n"
				"recursion_misses:\t0\nverified_insns:\t%u\n",
				prog->program->type, tag, 4096, object->id,
				prog->program->verified_insns);
	}
	if (object->kind == UB_KIND_LINK) {
		const struct ub_klink *link = ub_to_link(file->object);

		return snprintf(out, size, "link_type:\t%s\nlink_id:\t%u\nprog_id:\t%u\n",
				link->perf ? "perf" : "uprobe_multi", object->id,
				link->prog->object.id);
	}
	if (object->kind == UB_KIND_BTF)
		return snprintf(out, size, "btf_id:\t%u\n", object->id);
	return snprintf(out, size, "%s", "");
}

const char *ub_kernel_file_name(struct ub_kernel *kernel, struct ub_caller *caller, int fd)
{
	static const char *const names[UB_KINDS] = {
		[UB_KIND_MAP] = "anon_inode:bpf-map",
		[UB_KIND_PROG] = "anon_inode:bpf-prog",
		[UB_KIND_BTF] = "anon_inode:btf",
		[UB_KIND_LINK] = "anon_inode:bpf_link",
		[UB_KIND_PERF] = "anon_inode:[perf_event]",
		[UB_KIND_STATS] = "anon_inode:bpf-stats",
	};
	struct ub_file *file;

	return ub_file_get(kernel, caller, fd, &file) ? NULL : names[file->object->kind];
}
