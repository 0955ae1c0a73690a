// SPDX-License-Identifier: MIT
/*
 * BPF_OBJ_PIN and BPF_OBJ_GET. Pins are names under /sys/fs/bpf that only this kernel knows; no
 * file is made. They belong to the session that made them and end with it.
 */
#include <kernel/kinds.h>

#include <limits.h>
#include <string.h>

#define ROOT	 "/sys/fs/bpf/"
#define MAX_PINS 65536

struct ub_pin {
	struct ub_pin *next;
	struct ub_object *object;
	u64 session;
	char path[];
};

static void drop(struct ub_kernel *k, struct ub_pin **at)
{
	struct ub_pin *pin = *at;

	*at = pin->next;
	k->nr_pins--;
	ub_object_put_user(pin->object);
	free(pin);
}

void ub_pins_exit(struct ub_kernel *k)
{
	while (k->pins)
		drop(k, &k->pins);
}

void ub_kernel_session_end(struct ub_kernel *k, u64 session)
{
	struct ub_pin **at = &k->pins;

	while (*at) {
		if ((*at)->session == session)
			drop(k, at);
		else
			at = &(*at)->next;
	}
}

/* Makes "//" and "/./" one "/"; no ".." may be in it. */
static int normalise(char *path)
{
	char *to = path;

	for (const char *from = path; *from;) {
		if (from[0] == '/' && from[1] == '/') {
			from++;
		} else if (from[0] == '/' && from[1] == '.' && (from[2] == '/' || !from[2])) {
			from += 2;
		} else if (from[0] == '/' && from[1] == '.' && from[2] == '.' &&
			   (from[3] == '/' || !from[3])) {
			return -EPERM;
		} else {
			*to++ = *from++;
		}
	}
	*to = 0;
	return 0;
}

static int copy_path(struct ub_caller *c, u64 address, char *path)
{
	int length = ub_caller_string(c, address, path, PATH_MAX);

	if (length == -E2BIG)
		return -ENAMETOOLONG;
	if (length < 0)
		return length;
	return length ? normalise(path) : -ENOENT;
}

static struct ub_pin *find(struct ub_kernel *k, const char *path)
{
	struct ub_pin *pin = k->pins;

	while (pin && strcmp(pin->path, path))
		pin = pin->next;
	return pin;
}

s64 ub_cmd_obj_pin(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *attr)
{
	struct ub_pin *pin;
	struct ub_file *file;
	char path[PATH_MAX];
	int err;

	if (!ub_attr_tail_zero(attr, UB_ATTR_END(file_flags)) || attr->a.file_flags)
		return -EINVAL;
	if (ub_file_get(k, c, (s32)attr->a.bpf_fd, &file))
		return -EINVAL;
	if (file->object->kind != UB_KIND_MAP && file->object->kind != UB_KIND_PROG &&
	    file->object->kind != UB_KIND_LINK)
		return -EINVAL;
	err = copy_path(c, attr->a.pathname, path);
	if (err)
		return err;
	if (strncmp(path, ROOT, sizeof(ROOT) - 1)) /* not on a BPF file system */
		return -EPERM;
	if (find(k, path))
		return -EEXIST;
	if (k->nr_pins >= MAX_PINS)
		return -ENOSPC;
	pin = malloc(sizeof(*pin) + strlen(path) + 1);
	if (!pin)
		return -ENOMEM;
	pin->object = file->object;
	pin->session = c->session;
	strcpy(pin->path, path);
	pin->next = k->pins;
	k->pins = pin;
	k->nr_pins++;
	ub_object_get_user(pin->object);
	return 0;
}

s64 ub_cmd_obj_get(struct ub_kernel *k, struct ub_caller *c, struct ub_attr *attr, int *fd)
{
	u32 flags = attr->a.file_flags;
	struct ub_pin *pin;
	char path[PATH_MAX];
	int err;

	if (!ub_attr_tail_zero(attr, UB_ATTR_END(file_flags)) || attr->a.bpf_fd ||
	    flags & ~(u32)(BPF_F_RDONLY | BPF_F_WRONLY) || flags == (BPF_F_RDONLY | BPF_F_WRONLY))
		return -EINVAL;
	err = copy_path(c, attr->a.pathname, path);
	if (err)
		return err;
	pin = find(k, path);
	if (!pin)
		return -ENOENT;
	if (flags && pin->object->kind == UB_KIND_LINK)
		return -EINVAL; /* links are always opened for both */
	*fd = ub_object_open(pin->object, flags == BPF_F_RDONLY	  ? UB_FILE_READ
					  : flags == BPF_F_WRONLY ? UB_FILE_WRITE
								  : UB_FILE_RDWR);
	return *fd < 0 ? *fd : 0;
}
