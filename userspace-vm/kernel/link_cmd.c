// SPDX-License-Identifier: MIT
/*
 * Links: BPF_LINK_CREATE, _UPDATE and _DETACH. kernel/bpf/syscall.c and kernel/trace/bpf_trace.c.
 */
#include <kernel/kinds.h>

#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_MULTI_COUNT	      (1u << 20) /* MAX_UPROBE_MULTI_CNT */
#define UPROBE_MULTI_RETURN   1u	 /* BPF_F_UPROBE_MULTI_RETURN */
#define ATTACH_KPROBE_SESSION 56

static int new_link(struct ub_kernel *k, struct ub_caller *c, u32 type, struct ub_kprog *prog,
		    struct ub_klink **out)
{
	struct ub_klink *link = calloc(1, sizeof(*link));
	int err;

	if (!link)
		return -ENOMEM;
	link->type = type;
	err = ub_object_init(&link->object, k, UB_KIND_LINK, c);
	if (err) {
		free(link);
		return err;
	}
	link->prog = prog;
	ub_object_get(&prog->object);
	*out = link;
	return 0;
}

static void detach_points(struct ub_klink *link)
{
	struct ub_kernel *k = link->object.kernel;
	_cleanup_free_ u32 *ids = NULL;

	if (!link->nr_points)
		return;
	ids = malloc(link->nr_points * sizeof(*ids));
	for (u32 i = 0; i < link->nr_points; i++) {
		if (ids)
			ids[i] = link->points[i].view_id;
		else /* no memory for one call: one by one */
			k->ops->detach(k->opaque, &link->points[i].view_id, 1);
	}
	if (ids)
		k->ops->detach(k->opaque, ids, link->nr_points);
	link->nr_points = 0;
}

void ub_klink_destroy(struct ub_object *object)
{
	struct ub_klink *link = ub_to_link(object);
	u32 nr = link->nr_points;

	if (link->perf) {
		if (link->perf->link == object)
			ub_perf_clear_prog(link->perf);
		ub_object_put(&link->perf->object);
	}
	detach_points(link);
	if (link->points && nr) /* all share one path */
		ub_point_exit(&link->points[0]);
	free(link->points);
	ub_object_put(&link->prog->object);
	free(link);
}

static s64 create_perf_link(struct ub_kernel *k, struct ub_caller *c, const union bpf_attr *a,
			    struct ub_kprog *prog, int *fd)
{
	_cleanup_object_ struct ub_object *object = NULL;
	struct ub_object *event;
	struct ub_klink *link;
	int err;

	if (a->link_create.flags)
		return -EINVAL;
	if (ub_file_object(k, c, (s32)a->link_create.target_fd, UB_KIND_PERF, &event))
		return -EBADF;
	err = new_link(k, c, BPF_LINK_TYPE_PERF_EVENT, prog, &link);
	if (err)
		return err;
	object = &link->object;
	link->cookie = a->link_create.perf_event.bpf_cookie;
	err = ub_perf_set_prog(ub_to_perf(event), prog, link->cookie, object, c);
	if (err)
		return err;
	ub_object_get(event);
	link->perf = ub_to_perf(event);
	link->pid = link->perf->pid;
	*fd = ub_object_open(object, UB_FILE_RDWR);
	return *fd < 0 ? *fd : 0;
}

/* Copies @count u64 from the caller. NULL address: NULL. */
static int copy_u64s(struct ub_caller *c, u64 address, u32 count, u64 **out)
{
	_cleanup_free_ u64 *values = NULL;
	int err;

	if (!address)
		return 0;
	values = malloc((size_t)count * sizeof(*values));
	if (!values)
		return -ENOMEM;
	err = c->read(c, address, values, (size_t)count * sizeof(*values));
	if (!err)
		*out = TAKE_PTR(values);
	return err;
}

static int fill_points(struct ub_kernel *k, struct ub_caller *c,
		       const struct ub_uprobe_multi_attr *m, struct ub_klink *link,
		       struct ub_point_spec *first)
{
	_cleanup_free_ u64 *offsets = NULL;
	_cleanup_free_ u64 *counters = NULL;
	_cleanup_free_ u64 *cookies = NULL;
	int err;

	err = copy_u64s(c, m->offsets, m->cnt, &offsets);
	if (!err)
		err = copy_u64s(c, m->ref_ctr_offsets, m->cnt, &counters);
	if (!err)
		err = copy_u64s(c, m->cookies, m->cnt, &cookies);
	if (err)
		return err;
	link->points = calloc(m->cnt, sizeof(*link->points));
	if (!link->points)
		return -ENOMEM;
	for (u32 i = 0; i < m->cnt; i++) {
		struct ub_point_spec *point = &link->points[i];

		if ((s64)offsets[i] < 0 || (counters && (s64)counters[i] < 0) ||
		    (counters && counters[i] % sizeof(s16)))
			return -EINVAL;
		*point = *first;
		point->offset = offsets[i];
		point->ref_ctr_offset = counters ? counters[i] : 0;
		point->cookie = cookies ? cookies[i] : 0;
		point->is_return = m->flags & UPROBE_MULTI_RETURN;
		point->pid = link->pid;
		point->view_id = i ? ub_object_reserve_id(k, UB_KIND_LINK) : link->object.id;
	}
	return 0;
}

static int attach_points(struct ub_kernel *k, struct ub_caller *c, struct ub_klink *link, u32 nr)
{
	_cleanup_free_ struct ub_link_view *views = calloc(nr, sizeof(*views));
	struct ub_reason why = { "" };
	int err;

	if (!views)
		return -ENOMEM;
	for (u32 i = 0; i < nr; i++)
		ub_point_view(&link->points[i], link->prog, link->object.session, &views[i]);
	err = k->ops->attach(k->opaque, views, nr, c, &why);
	if (err && k->ops->log && why.text[0])
		k->ops->log(k->opaque, link->object.session, why.text);
	return err;
}

/* bpf_uprobe_multi_link_attach() */
static s64 create_multi_link(struct ub_kernel *k, struct ub_caller *c, const struct ub_attr *attr,
			     struct ub_kprog *prog, int *fd)
{
	const struct ub_uprobe_multi_attr *m = &attr->multi;
	_cleanup_object_ struct ub_object *object = NULL;
	struct ub_point_spec first = { 0 };
	struct ub_klink *link;
	char path[PATH_MAX];
	u64 size;
	int err;

	if (prog->program->expected_attach_type != UB_ATTACH_UPROBE_MULTI)
		return -EINVAL;
	if (attr->a.link_create.flags || m->flags & ~UPROBE_MULTI_RETURN)
		return -EINVAL;
	if (!m->path || !m->offsets || !m->cnt)
		return -EINVAL;
	if (m->cnt > MAX_MULTI_COUNT)
		return -E2BIG;
	if ((s32)m->pid < 0)
		return -EINVAL;
	err = ub_caller_string(c, m->path, path, sizeof(path));
	if (err < 0)
		return err;
	if (!path[0])
		return -EBADF;
	err = ub_point_resolve(&first, c, path, &size);
	if (err == -EINVAL)
		err = -EBADF; /* not a regular file */
	if (err)
		return err;
	if (m->pid && kill((pid_t)m->pid, 0) && errno == ESRCH) {
		ub_point_exit(&first);
		return -ESRCH;
	}
	err = new_link(k, c, UB_LINK_TYPE_UPROBE_MULTI, prog, &link);
	if (err) {
		ub_point_exit(&first);
		return err;
	}
	object = &link->object;
	link->pid = m->pid ? (pid_t)m->pid : -1;
	link->flags = m->flags;
	err = fill_points(k, c, m, link, &first);
	if (!err)
		err = attach_points(k, c, link, m->cnt);
	if (err) {
		ub_point_exit(&first);
		return err;
	}
	link->nr_points = m->cnt;
	*fd = ub_object_open(object, UB_FILE_RDWR);
	return *fd < 0 ? *fd : 0;
}

/* bpf_prog_attach_check_attach_type() for the types that can be attached here. */
static int check_attach_type(const struct ub_kprog *prog, u32 attach_type)
{
	u32 expected = prog->program->expected_attach_type;

	switch (prog->program->type) {
	case BPF_PROG_TYPE_KPROBE:
		if ((expected == BPF_TRACE_KPROBE_MULTI || expected == ATTACH_KPROBE_SESSION ||
		     expected == UB_ATTACH_UPROBE_MULTI || expected == UB_ATTACH_UPROBE_SESSION) &&
		    attach_type != expected)
			return -EINVAL;
		return attach_type == BPF_PERF_EVENT || attach_type == UB_ATTACH_UPROBE_MULTI
			       ? 0
			       : -EINVAL;
	case BPF_PROG_TYPE_PERF_EVENT:
	case BPF_PROG_TYPE_TRACEPOINT:
		return attach_type == BPF_PERF_EVENT ? 0 : -EINVAL;
	default:
		return -EINVAL;
	}
}

s64 ub_cmd_link_create(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *attr, int *fd)
{
	const union bpf_attr *a = &attr->a;
	struct ub_object *object;
	struct ub_kprog *prog;
	int err;

	if (!ub_attr_tail_zero(attr, offsetof(struct ub_attr, multi.pid) + 4))
		return -EINVAL;
	err = ub_file_object(k, c, (s32)a->link_create.prog_fd, UB_KIND_PROG, &object);
	if (err)
		return err;
	prog = ub_to_prog(object);
	err = check_attach_type(prog, a->link_create.attach_type);
	if (err)
		return err;
	if (a->link_create.attach_type == UB_ATTACH_UPROBE_MULTI)
		return create_multi_link(k, c, attr, prog, fd);
	return create_perf_link(k, c, a, prog, fd);
}

/* Neither perf nor multi links can be given another program, or be detached but by closing them:
 * Linux has no such operation for them. */
s64 ub_cmd_link_update(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *attr)
{
	const union bpf_attr *a = &attr->a;
	struct ub_object *object;
	int err;

	if (!ub_attr_tail_zero(attr, UB_ATTR_END(link_update.old_prog_fd)) ||
	    a->link_update.flags & ~(u32)BPF_F_REPLACE)
		return -EINVAL;
	err = ub_file_object(k, c, (s32)a->link_update.link_fd, UB_KIND_LINK, &object);
	if (!err)
		err = ub_file_object(k, c, (s32)a->link_update.new_prog_fd, UB_KIND_PROG, &object);
	if (err)
		return err;
	if (a->link_update.flags & BPF_F_REPLACE)
		err = ub_file_object(k, c, (s32)a->link_update.old_prog_fd, UB_KIND_PROG, &object);
	else if (a->link_update.old_prog_fd)
		err = -EINVAL;
	return err ? err : -EINVAL;
}

s64 ub_cmd_link_detach(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *attr)
{
	struct ub_object *object;
	int err;

	if (!ub_attr_tail_zero(attr, UB_ATTR_END(link_detach.link_fd)))
		return -EINVAL;
	err = ub_file_object(k, c, (s32)attr->a.link_detach.link_fd, UB_KIND_LINK, &object);
	return err ? err : -EOPNOTSUPP;
}
