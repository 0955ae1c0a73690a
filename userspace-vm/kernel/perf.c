// SPDX-License-Identifier: MIT
/*
 * perf_event_open(2) and its ioctls, as far as BPF tools use them: uprobe events, software clocks
 * that run programs, and BPF_OUTPUT buffers. kernel/events/core.c and
 * kernel/trace/trace_event_perf.c.
 */
#include <kernel/kinds.h>
#include <kernel/worker.h>

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PAGE_SIZE	4096u
#define BUFFER_MAX	(1ull << 30) /* sparse: only what the client maps is ever used */
#define MIN_PERIOD_NS	10000
#define MAX_SAMPLE_RATE 100000 /* kernel.perf_event_max_sample_rate */
#define KNOWN_FLAGS                                                                                \
	(PERF_FLAG_FD_NO_GROUP | PERF_FLAG_FD_OUTPUT | PERF_FLAG_PID_CGROUP | PERF_FLAG_FD_CLOEXEC)

/* perf_copy_attr(): sizes as bpf(2)'s, but 0 means the first published one. */
static int copy_attr(struct ub_caller *c, u64 address, struct perf_event_attr *attr)
{
	u8 page[PAGE_SIZE];
	u32 size, ours = sizeof(*attr);
	int err;

	memset(attr, 0, sizeof(*attr));
	err = c->read(c, address + offsetof(struct perf_event_attr, size), &size, sizeof(size));
	if (err)
		return err;
	if (!size)
		size = PERF_ATTR_SIZE_VER0;
	if (size < PERF_ATTR_SIZE_VER0 || size > PAGE_SIZE)
		goto too_big;
	err = c->read(c, address, page, size);
	if (err)
		return err;
	memcpy(attr, page, size < ours ? size : ours);
	for (u32 i = ours; i < size; i++)
		if (page[i])
			goto too_big;
	attr->size = size;
	if (attr->__reserved_1 || attr->__reserved_2 || attr->__reserved_3)
		return -EINVAL;
	if (attr->sample_type & ~(u64)(PERF_SAMPLE_MAX - 1) ||
	    attr->read_format & ~(u64)0x1f /* PERF_FORMAT_MAX - 1 of Linux 6.0 */)
		return -EINVAL;
	return 0;

too_big:
	err = c->write(c, address + offsetof(struct perf_event_attr, size), &ours, sizeof(ours));
	return err ? err : -E2BIG;
}

static int init_uprobe(struct ub_kperf *event, struct ub_caller *c)
{
	struct ub_point_spec *point = &event->point;
	char path[PATH_MAX];
	u64 size;
	int err;

	if (!event->attr.config1) /* uprobe_path */
		return -EINVAL;
	err = ub_caller_string(c, event->attr.config1, path, sizeof(path));
	if (err < 0)
		return err;
	if (!path[0])
		return -EINVAL;
	point->is_return = event->attr.config & 1;
	point->ref_ctr_offset = event->attr.config >> 32;
	point->offset = event->attr.config2;
	point->pid = event->pid;
	err = ub_point_resolve(point, c, path, &size);
	if (err)
		return err;
	if (point->offset > size || point->ref_ctr_offset % sizeof(s16))
		return -EINVAL;
	/* uretprobes have no semaphore of their own problem: Linux treats both alike. */
	event->is_uprobe = true;
	return 0;
}

static int init_output(struct ub_kperf *event)
{
	struct perf_event_mmap_page page = { .version = 0, .data_offset = PAGE_SIZE };

	event->memfd = memfd_create("ubpf-run:perf", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (event->memfd < 0)
		return -errno;
	if (ftruncate(event->memfd, BUFFER_MAX + PAGE_SIZE) ||
	    pwrite(event->memfd, &page, sizeof(page), 0) != sizeof(page) ||
	    fcntl(event->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	return 0;
}

static int init_software(struct ub_kperf *event)
{
	struct perf_event_attr *attr = &event->attr;

	switch (attr->config) {
	case PERF_COUNT_SW_BPF_OUTPUT:
		return init_output(event);
	case PERF_COUNT_SW_CPU_CLOCK:
	case PERF_COUNT_SW_TASK_CLOCK:
		if (attr->freq && attr->sample_freq > MAX_SAMPLE_RATE)
			return -EINVAL;
		if (!attr->freq && attr->sample_period & 1ull << 63)
			return -EINVAL;
		return 0;
	default:
		return -ENOENT;
	}
}

static int check_target(struct ub_kernel *k, struct ub_kperf *event, struct ub_caller *c, s32 pid,
			s32 cpu)
{
	if (cpu < -1 || (cpu >= 0 && (u32)cpu >= k->nr_cpus))
		return -EINVAL;
	if (pid == -1 && cpu == -1)
		return -EINVAL;
	if (pid < -1)
		return -ESRCH;
	if (pid == 0)
		pid = c->pid;
	else if (pid > 0 && kill(pid, 0) && errno == ESRCH)
		return -ESRCH;
	event->pid = pid;
	event->cpu = cpu;
	return 0;
}

static int init_event(struct ub_kernel *k, struct ub_kperf *event, struct ub_caller *c)
{
	if (event->attr.type == k->uprobe_type)
		return init_uprobe(event, c);
	if (event->attr.type == PERF_TYPE_SOFTWARE)
		return init_software(event);
	/* Tracepoints and kprobes are the kernel's own: as for somebody without the right to use
	 * them. */
	return event->attr.type == PERF_TYPE_TRACEPOINT ? -EACCES : -ENOENT;
}

static s64 open_event(struct ub_kernel *k, struct ub_caller *c, const struct perf_event_attr *attr,
		      const struct ub_call *call, int *fd)
{
	_cleanup_object_ struct ub_object *object = NULL;
	struct ub_kperf *event = calloc(1, sizeof(*event));
	int err;

	if (!event)
		return -ENOMEM;
	event->attr = *attr;
	event->memfd = -1;
	event->eventfd = -1;
	event->owner = c->pid;
	event->enabled = !attr->disabled;
	err = ub_object_init(&event->object, k, UB_KIND_PERF, c);
	if (err) {
		free(event);
		return err;
	}
	object = &event->object;
	if (call->args[4] & PERF_FLAG_PID_CGROUP)
		return -EINVAL; /* no cgroups here */
	err = check_target(k, event, c, (s32)call->args[1], (s32)call->args[2]);
	if (!err)
		err = init_event(k, event, c);
	if (err)
		return err;
	*fd = event->memfd >= 0 ? ub_file_memory(object, event->memfd, UB_FILE_RDWR)
				: ub_file_socket(object, UB_FILE_RDWR);
	return *fd < 0 ? *fd : 0;
}

void ub_perf_open(struct ub_kernel *k, struct ub_caller *c, const struct ub_call *call,
		  struct ub_reply *reply)
{
	struct perf_event_attr attr;
	int fd = -1;

	if (call->args[4] & ~(u64)KNOWN_FLAGS) {
		reply->value = -EINVAL;
		return;
	}
	reply->value = copy_attr(c, call->args[0], &attr);
	if (reply->value)
		return;
	/* Counters of the processor's have nothing to do with us. */
	if (attr.type == PERF_TYPE_HARDWARE || attr.type == PERF_TYPE_HW_CACHE ||
	    attr.type == PERF_TYPE_RAW) {
		reply->pass = true;
		return;
	}
	reply->value = open_event(k, c, &attr, call, &fd);
	reply->fd = fd;
	reply->fd_flags = call->args[4] & PERF_FLAG_FD_CLOEXEC ? O_CLOEXEC : 0;
}

static u64 period_ns(const struct perf_event_attr *attr)
{
	u64 period = attr->sample_period;

	if (attr->freq)
		period = attr->sample_freq ? 1000000000ull / attr->sample_freq : 0;
	if (!period) /* counts, and never overflows */
		return 0;
	return period < MIN_PERIOD_NS ? MIN_PERIOD_NS : period;
}

static int attach(struct ub_kperf *event, struct ub_caller *caller)
{
	struct ub_kernel *k = event->object.kernel;
	struct ub_reason why = { "" };
	struct ub_link_view view;
	int err;

	if (!event->prog || event->attached)
		return 0;
	if (!event->is_uprobe) {
		if (!period_ns(&event->attr))
			return 0;
		err = ub_worker_start(event->prog, period_ns(&event->attr), event->point.cookie,
				      event->cpu < 0 ? 0 : (u32)event->cpu, &event->worker, &why);
	} else {
		ub_point_view(&event->point, event->prog, event->object.session, &view);
		err = k->ops->attach(k->opaque, &view, 1, caller, &why);
	}
	if (err) {
		if (k->ops->log && why.text[0])
			k->ops->log(k->opaque, event->object.session, why.text);
		return err;
	}
	event->attached = true;
	return 0;
}

static void detach(struct ub_kperf *event)
{
	struct ub_kernel *k = event->object.kernel;

	if (!event->attached)
		return;
	event->attached = false;
	if (event->is_uprobe) {
		k->ops->detach(k->opaque, &event->point.view_id, 1);
	} else {
		ub_worker_stop(event->worker);
		event->worker = NULL;
	}
}

int ub_perf_set_prog(struct ub_kperf *event, struct ub_kprog *prog, u64 cookie,
		     struct ub_object *link, struct ub_caller *caller)
{
	struct ub_kernel *k = event->object.kernel;
	enum bpf_prog_type type = prog->program->type;
	int err;

	if (event->is_uprobe) {
		/* There is nothing to override at a probe in a process. */
		if (type != BPF_PROG_TYPE_KPROBE || prog->overrides)
			return -EINVAL;
		if (event->prog)
			return -EEXIST;
	} else {
		if (event->prog)
			return -EEXIST;
		if (type != BPF_PROG_TYPE_PERF_EVENT)
			return -EINVAL;
	}
	event->prog = prog;
	event->point.cookie = cookie;
	event->point.view_id = link ? link->id : ub_object_reserve_id(k, UB_KIND_LINK);
	if (event->enabled) {
		err = attach(event, caller);
		if (err) {
			event->prog = NULL;
			return err;
		}
	}
	event->link = link;
	ub_object_get(&prog->object);
	return 0;
}

void ub_perf_clear_prog(struct ub_kperf *event)
{
	struct ub_kprog *prog = event->prog;

	detach(event);
	event->prog = NULL;
	event->link = NULL;
	if (prog)
		ub_object_put(&prog->object);
}

void ub_kperf_destroy(struct ub_object *object)
{
	struct ub_kperf *event = ub_to_perf(object);

	ub_perf_clear_prog(event);
	ub_point_exit(&event->point);
	if (event->page.base)
		munmap(event->page.base, PAGE_SIZE + event->page.data_size);
	if (event->memfd >= 0)
		close(event->memfd);
	if (event->eventfd >= 0)
		close(event->eventfd);
	free(event);
}

void ub_perf_set_size(struct ub_kperf *event, u64 length)
{
	void *base;

	/* Lengths that are none of a perf buffer's are not believed: another may come. */
	if (event->memfd < 0 || event->page.base || length < 2 * PAGE_SIZE ||
	    length > BUFFER_MAX + PAGE_SIZE || length % PAGE_SIZE ||
	    (length - PAGE_SIZE) & (length - PAGE_SIZE - 1))
		return;
	base = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, event->memfd,
		    0);
	if (base == MAP_FAILED)
		return;
	if (ub_perf_page_init(&event->page, base, length, event->object.id)) {
		munmap(base, length);
		event->page.base = NULL;
	}
}

void ub_perf_find_size(struct ub_kperf *event)
{
	_cleanup_fclose_ FILE *maps = NULL;
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	char path[32];
	struct stat st;
	u64 length = 0;

	if (event->memfd < 0 || event->page.base || fstat(event->memfd, &st))
		return;
	snprintf(path, sizeof(path), "/proc/%d/maps", event->owner);
	maps = fopen(path, "re");
	while (maps && getline(&line, &size, maps) > 0) {
		u64 start, end, offset, ino;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %" SCNu64, &start,
			   &end, &offset, &ino) != 4 ||
		    ino != st.st_ino || !strstr(line, "ubpf-run:perf"))
			continue;
		/* One mapping may be shown in pieces (different protection): they add up. */
		if (offset + (end - start) > length)
			length = offset + (end - start);
	}
	ub_perf_set_size(event, length);
}

static s64 set_bpf(struct ub_kernel *k, struct ub_caller *c, struct ub_kperf *event, s32 fd)
{
	struct ub_object *object;
	int err = ub_file_object(k, c, fd, UB_KIND_PROG, &object);

	return err ? err : ub_perf_set_prog(event, ub_to_prog(object), 0, NULL, c);
}

static s64 enable(struct ub_kernel *k, struct ub_caller *c, struct ub_kperf *event, bool on)
{
	int err = 0;

	if (on == event->enabled) {
		ub_perf_find_size(event);
		return 0;
	}
	if (!on && !event->is_uprobe)
		detach(event);
	else if (event->attached)
		k->ops->enable(k->opaque, event->point.view_id, on);
	else if (on)
		err = attach(event, c);
	if (err)
		return err;
	event->enabled = on;
	ub_perf_find_size(event);
	return 0;
}

static s64 ioctl_event(struct ub_kernel *k, struct ub_caller *c, struct ub_kperf *event, u32 cmd,
		       u64 arg)
{
	u64 value;
	int err;

	switch (cmd) {
	case PERF_EVENT_IOC_ENABLE:
		return enable(k, c, event, true);
	case PERF_EVENT_IOC_DISABLE:
		return enable(k, c, event, false);
	case PERF_EVENT_IOC_RESET:
		return 0;
	case PERF_EVENT_IOC_ID:
		value = event->object.id;
		return c->write(c, arg, &value, sizeof(value));
	case PERF_EVENT_IOC_SET_BPF:
		return set_bpf(k, c, event, (s32)arg);
	case PERF_EVENT_IOC_PERIOD:
		err = c->read(c, arg, &value, sizeof(value));
		if (err)
			return err;
		if (event->is_uprobe || !value || value >> 63)
			return -EINVAL;
		if (event->attr.freq && value > MAX_SAMPLE_RATE)
			return -EINVAL;
		event->attr.sample_period = value;
		if (!event->attached)
			return 0;
		detach(event);
		return attach(event, c);
	case PERF_EVENT_IOC_QUERY_BPF: /* of tracepoints only */
		return -EINVAL;
	case PERF_EVENT_IOC_PAUSE_OUTPUT:
		return event->memfd >= 0 ? 0 : -EINVAL;
	case PERF_EVENT_IOC_REFRESH:
	case PERF_EVENT_IOC_SET_OUTPUT:
	case PERF_EVENT_IOC_SET_FILTER:
		return -EINVAL;
	default:
		return -ENOTTY;
	}
}

void ub_perf_ioctl(struct ub_kernel *k, struct ub_caller *c, const struct ub_call *call,
		   struct ub_reply *reply)
{
	struct ub_object *object;

	if (ub_file_object(k, c, (s32)call->args[0], UB_KIND_PERF, &object)) {
		reply->pass = true;
		return;
	}
	reply->value = ioctl_event(k, c, ub_to_perf(object), (u32)call->args[1], call->args[2]);
}
