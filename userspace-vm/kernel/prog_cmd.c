// SPDX-License-Identifier: MIT
/* Programs: BPF_PROG_LOAD and what else is done to them without running them. */
#include <kernel/kinds.h>

#include <string.h>
#include <time.h>

#include <helper/helper.h>
#include <verifier/verifier.h>

#include <bpf/btf.h>

#define BPF_F_TOKEN_FD	   (1U << 16)
#define MAX_LICENSE	   128
#define MIN_FUNC_INFO_SIZE 8
#define MIN_LINE_INFO_SIZE 16
#define MAX_INFO_REC_SIZE  252
#define KNOWN_PROG_FLAGS   0xffu /* STRICT_ALIGNMENT to TEST_REG_INVARIANTS */
#define LAST_PROG_TYPE	   32u	 /* BPF_PROG_TYPE_NETFILTER */

struct load {
	struct ub_kernel *kernel;
	struct ub_caller *caller;
	const struct ub_attr *attr;
	struct bpf_insn *insns;
	u32 nr_insns;
	char license[MAX_LICENSE];
	struct bpf_func_info *func_info;
	struct bpf_line_info *line_info;
	struct ub_log log;
	struct ub_kprog *prog;
};

/* bpf_prog_load_check_attach(): which expected_attach_type goes with which type. */
static int check_attach_type(u32 type, u32 expected)
{
	switch (type) {
	case BPF_PROG_TYPE_CGROUP_SOCK:
		return expected == BPF_CGROUP_INET_SOCK_CREATE ||
				       expected == BPF_CGROUP_INET_SOCK_RELEASE ||
				       expected == BPF_CGROUP_INET4_POST_BIND ||
				       expected == BPF_CGROUP_INET6_POST_BIND || !expected
			       ? 0
			       : -EINVAL;
	case BPF_PROG_TYPE_CGROUP_SKB:
		return expected == BPF_CGROUP_INET_INGRESS || expected == BPF_CGROUP_INET_EGRESS
			       ? 0
			       : -EINVAL;
	case BPF_PROG_TYPE_CGROUP_SOCK_ADDR:
		return expected >= BPF_CGROUP_INET4_BIND ? 0 : -EINVAL;
	case BPF_PROG_TYPE_CGROUP_SOCKOPT:
		return expected == BPF_CGROUP_SETSOCKOPT || expected == BPF_CGROUP_GETSOCKOPT
			       ? 0
			       : -EINVAL;
	case BPF_PROG_TYPE_SK_LOOKUP:
		return expected == BPF_SK_LOOKUP ? 0 : -EINVAL;
	case BPF_PROG_TYPE_SK_REUSEPORT:
		return expected == BPF_SK_REUSEPORT_SELECT ||
				       expected == BPF_SK_REUSEPORT_SELECT_OR_MIGRATE || !expected
			       ? 0
			       : -EINVAL;
	case BPF_PROG_TYPE_SYSCALL:
	case BPF_PROG_TYPE_EXT:
		return expected ? -EINVAL : 0;
	default:
		return 0;
	}
}

/* Copies @count records of @rec_size bytes, of which Linux knows the first @known:
 * bpf_check_uarg_tail_zero() for each. NULL and *err. */
static void *copy_records(struct ub_caller *c, u64 address, u32 count, u32 rec_size, u32 known,
			  int *err)
{
	_cleanup_free_ u8 *out = calloc(count, known);
	u8 record[MAX_INFO_REC_SIZE + 4];

	if (!out) {
		*err = -ENOMEM;
		return NULL;
	}
	if (rec_size == known) {
		*err = c->read(c, address, out, (size_t)count * known);
		return *err ? NULL : TAKE_PTR(out);
	}
	for (u32 i = 0; i < count; i++) {
		*err = c->read(c, address + (u64)i * rec_size, record, rec_size);
		if (*err)
			return NULL;
		for (u32 j = known; j < rec_size; j++) {
			if (record[j]) {
				*err = -E2BIG;
				return NULL;
			}
		}
		memcpy(out + (size_t)i * known, record, rec_size < known ? rec_size : known);
	}
	return TAKE_PTR(out);
}

/* check_btf_info(): the program's BTF, and what maps its instructions to functions and lines. */
static int copy_btf_info(struct load *load)
{
	const union bpf_attr *a = &load->attr->a;
	struct ub_object *object;
	int err;

	if (!a->func_info_cnt && !a->line_info_cnt)
		return 0;
	err = ub_file_object(load->kernel, load->caller, (s32)a->prog_btf_fd, UB_KIND_BTF, &object);
	if (err)
		return err;
	ub_object_get(object);
	load->prog->btf = ub_to_btf(object);
	if (a->func_info_cnt) {
		u32 size = a->func_info_rec_size;

		if (size < MIN_FUNC_INFO_SIZE || size > MAX_INFO_REC_SIZE || size % 4) {
			ub_log_printf(&load->log, "invalid func info rec size %u\n", size);
			return -EINVAL;
		}
		if (a->func_info_cnt > load->nr_insns)
			return -EINVAL;
		load->func_info = copy_records(load->caller, a->func_info, a->func_info_cnt, size,
					       sizeof(struct bpf_func_info), &err);
		if (err)
			return err;
	}
	if (a->line_info_cnt) {
		u32 size = a->line_info_rec_size;

		if (a->line_info_cnt > INT32_MAX / sizeof(struct bpf_line_info))
			return -EINVAL;
		if (size < MIN_LINE_INFO_SIZE || size > MAX_INFO_REC_SIZE || size % 4)
			return -EINVAL;
		/* Each instruction has one line at most. */
		if (a->line_info_cnt > load->nr_insns)
			return -EINVAL;
		load->line_info = copy_records(load->caller, a->line_info, a->line_info_cnt, size,
					       sizeof(struct bpf_line_info), &err);
		if (err)
			return err;
	}
	return 0;
}

static bool map_by_fd(void *opaque, int fd, bool idx, struct ub_verifier_map *out)
{
	struct load *load = opaque;
	struct ub_object *object;
	struct ub_kernel_map *map;

	if (idx) {
		s32 real;

		if (fd < 0 || !load->attr->a.fd_array ||
		    load->caller->read(load->caller,
				       load->attr->a.fd_array + (u64)fd * sizeof(real), &real,
				       sizeof(real)))
			return false;
		fd = real;
	}
	if (ub_file_object(load->kernel, load->caller, fd, UB_KIND_MAP, &object))
		return false;
	map = ub_to_map(object);
	*out = (struct ub_verifier_map) {
		.attr = map->map.attr,
		.frozen = map->frozen && map->map.attr.flags & BPF_F_RDONLY_PROG,
		.inner = map->inner.type ? &map->inner : NULL,
		.btf = map->btf ? map->btf->btf : NULL,
		.btf_value_type_id = map->btf_value_type_id,
		.opaque = map,
	};
	memcpy(out->name, map->name, sizeof(out->name));
	if (out->frozen)
		out->frozen_values = map->map.shared + map->map.values_offset;
	return true;
}

static bool gpl_compatible(const char *license)
{
	static const char *const names[] = {
		"GPL",		"GPL v2",	"GPL and additional rights",
		"Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"
	};

	for (u32 i = 0; i < ub_array_size(names); i++)
		if (!strcmp(license, names[i]))
			return true;
	return false;
}

static void verifier_log(void *opaque, const char *text, size_t size)
{
	struct load *load = opaque;

	ub_log_write(&load->log, text, size);
}

/* A program may be sound and yet ask for what no process has. Tools that probe for helpers look for
 * the first two words. */
static int check_helpers(struct load *load)
{
	const struct ub_program *program = load->prog->program;

	for (u32 i = 0; i < program->nr_insns; i++) {
		const struct bpf_insn *insn = &program->insns[i];
		const struct ub_helper *helper = NULL;

		if (insn->code == (BPF_JMP | BPF_CALL) && !insn->src_reg)
			helper = ub_helper_by_id((u32)insn->imm);
		if (helper && helper->id == BPF_FUNC_override_return)
			load->prog->overrides = true;
		if (!helper || !helper->why)
			continue;
		ub_log_printf(&load->log, "unknown func bpf_%s#%d: %s\n", helper->name, insn->imm,
			      helper->why);
		return -EINVAL;
	}
	return 0;
}

static int verify(struct load *load)
{
	const union bpf_attr *a = &load->attr->a;
	struct ub_kprog *prog = load->prog;
	struct ub_reason why = { "" };
	void *used[UB_MAX_USED_MAPS] = { 0 };
	char name[BPF_OBJ_NAME_LEN];
	struct ub_verify_request request = {
		.type = a->prog_type,
		.expected_attach_type = a->expected_attach_type,
		.name = name,
		.license = load->license,
		.insns = load->insns,
		.nr_insns = load->nr_insns,
		.prog_flags = a->prog_flags,
		.privileged = true,
		.map_by_fd = map_by_fd,
		.opaque = load,
		.btf = prog->btf ? prog->btf->btf : NULL,
		.func_info = load->func_info,
		.nr_func_info = a->func_info_cnt,
		.line_info = load->line_info,
		.nr_line_info = a->line_info_cnt,
		.log_level = load->log.level,
		.log = load->log.level ? verifier_log : NULL,
	};
	int err = ub_attr_name(name, a->prog_name);

	if (err < 0)
		return err;
	err = ub_verify(&request, &prog->program, used, &why);
	if (err)
		return err;
	for (u32 i = 0; i < prog->program->nr_maps; i++) {
		prog->maps[i] = used[i];
		ub_object_get(&prog->maps[i]->object);
		prog->nr_maps++;
	}
	memcpy(prog->program->name, name, sizeof(name));
	err = check_helpers(load);
	if (err)
		return err;
	err = ub_jit_compile(prog->program, &prog->code, &why);
	if (err)
		ub_log_printf(&load->log, "compiling for x86-64 failed: %s\n", why.text);
	return err;
}

static int check_load(const struct ub_attr *attr)
{
	const union bpf_attr *a = &attr->a;

	if (!ub_attr_tail_zero(attr, offsetof(struct ub_attr, log_true_size) + 4))
		return -EINVAL;
	if (a->prog_flags & ~KNOWN_PROG_FLAGS)
		return -EINVAL;
	if (!a->insn_cnt || a->insn_cnt > UB_MAX_INSNS)
		return -E2BIG;
	/* Attaching to other programs, kernel functions or devices: there are none here. */
	if (a->attach_prog_fd || a->attach_btf_id || a->prog_ifindex)
		return -EINVAL;
	return check_attach_type(a->prog_type, a->expected_attach_type);
}

static int copy_program(struct load *load)
{
	const union bpf_attr *a = &load->attr->a;
	int err;

	load->nr_insns = a->insn_cnt;
	load->insns = malloc((size_t)a->insn_cnt * sizeof(*load->insns));
	if (!load->insns)
		return -ENOMEM;
	err = load->caller->read(load->caller, a->insns, load->insns,
				 (size_t)a->insn_cnt * sizeof(*load->insns));
	if (err)
		return err;
	err = ub_caller_string(load->caller, a->license, load->license, sizeof(load->license));
	if (err == -E2BIG)
		load->license[sizeof(load->license) - 1] = 0;
	else if (err < 0)
		return err;
	if (!a->prog_type || a->prog_type > LAST_PROG_TYPE)
		return -EINVAL;
	/* Same order as Linux: the name is looked at before the verifier starts. */
	err = ub_attr_name((char[BPF_OBJ_NAME_LEN]) { 0 }, a->prog_name);
	return err < 0 ? err : 0;
}

static u64 boottime_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (u64)ts.tv_sec * 1000000000ull + (u64)ts.tv_nsec;
}

static int do_load(struct load *load)
{
	const union bpf_attr *a = &load->attr->a;
	struct ub_kprog *prog = load->prog;
	u32 true_size;
	int err, log_err;

	err = copy_program(load);
	if (err)
		return err;
	err = ub_log_init(&load->log, a->log_level, a->log_buf, a->log_size);
	if (err)
		return err;
	err = copy_btf_info(load);
	if (!err)
		err = verify(load);
	log_err = ub_log_finish(&load->log, load->caller, &true_size);
	if (log_err)
		err = log_err;
	if (load->attr->size >= offsetof(struct ub_attr, log_true_size) + 4 &&
	    ub_attr_write(load->attr, load->caller, offsetof(struct ub_attr, log_true_size),
			  &true_size, sizeof(true_size)))
		err = -EFAULT;
	if (err)
		return err;
	prog->gpl = gpl_compatible(load->license);
	prog->load_time = boottime_ns();
	ub_prog_tag(load->insns, load->nr_insns, prog->tag);
	prog->func_info = TAKE_PTR(load->func_info);
	prog->nr_func_info = a->func_info_cnt;
	prog->line_info = TAKE_PTR(load->line_info);
	prog->nr_line_info = a->line_info_cnt;
	return 0;
}

s64 ub_cmd_prog_load(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *attr, int *fd)
{
	struct load load = { .kernel = k, .caller = c, .attr = attr };
	_cleanup_object_ struct ub_object *object = NULL;
	int err = check_load(attr);

	if (err)
		return err;
	load.prog = calloc(1, sizeof(*load.prog));
	if (!load.prog)
		return -ENOMEM;
	err = ub_object_init(&load.prog->object, k, UB_KIND_PROG, c);
	if (err) {
		free(load.prog);
		return err;
	}
	object = &load.prog->object;
	err = do_load(&load);
	ub_log_exit(&load.log);
	free(load.insns);
	free(load.func_info);
	free(load.line_info);
	if (err)
		return err;
	*fd = ub_object_open(object, UB_FILE_RDWR);
	return *fd < 0 ? *fd : 0;
}

void ub_kprog_destroy(struct ub_object *object)
{
	struct ub_kprog *prog = ub_to_prog(object);

	if (object->kernel->ops && object->kernel->ops->program_gone)
		object->kernel->ops->program_gone(object->kernel->opaque, object->id);
	for (u32 i = 0; i < prog->nr_maps; i++)
		ub_object_put(&prog->maps[i]->object);
	for (u32 i = 0; i < prog->nr_bound; i++)
		ub_object_put(&prog->bound[i]->object);
	if (prog->btf)
		ub_object_put(&prog->btf->object);
	free(prog->bound);
	free(prog->func_info);
	free(prog->line_info);
	if (prog->program)
		ub_code_free(&prog->code);
	ub_program_free(prog->program);
	free(prog);
}

s64 ub_cmd_prog_bind_map(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *attr)
{
	const union bpf_attr *a = &attr->a;
	struct ub_object *object, *map;
	struct ub_kernel_map **grown;
	struct ub_kprog *prog;
	int err;

	if (!ub_attr_tail_zero(attr, UB_ATTR_END(prog_bind_map.flags)) || a->prog_bind_map.flags)
		return -EINVAL;
	err = ub_file_object(k, c, (s32)a->prog_bind_map.prog_fd, UB_KIND_PROG, &object);
	if (!err)
		err = ub_file_object(k, c, (s32)a->prog_bind_map.map_fd, UB_KIND_MAP, &map);
	if (err)
		return err;
	prog = ub_to_prog(object);
	for (u32 i = 0; i < prog->nr_maps; i++)
		if (&prog->maps[i]->object == map)
			return 0;
	for (u32 i = 0; i < prog->nr_bound; i++)
		if (&prog->bound[i]->object == map)
			return 0;
	grown = reallocarray(prog->bound, prog->nr_bound + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	prog->bound = grown;
	prog->bound[prog->nr_bound++] = ub_to_map(map);
	ub_object_get(map);
	return 0;
}

void ub_kstats_destroy(struct ub_object *object)
{
	object->kernel->stats_enabled--;
	free(object);
}

s64 ub_cmd_enable_stats(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *attr, int *fd)
{
	struct ub_object *object;
	int err;

	if (!ub_attr_tail_zero(attr, UB_ATTR_END(enable_stats.type)) ||
	    attr->a.enable_stats.type != BPF_STATS_RUN_TIME)
		return -EINVAL;
	object = calloc(1, sizeof(*object));
	if (!object)
		return -ENOMEM;
	err = ub_object_init(object, k, UB_KIND_STATS, c);
	if (err) {
		free(object);
		return err;
	}
	k->stats_enabled++;
	*fd = ub_object_open(object, UB_FILE_RDWR);
	ub_object_put(object);
	return *fd < 0 ? *fd : 0;
}
