// SPDX-License-Identifier: MIT
/*
 * The same calls, good and bad, made to Linux and to the userspace kernel: what comes back must be
 * the same, errno by errno. Needs the right to use bpf(2).
 */
#include "oracle.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

s64 oracle_call(struct side *s, int nr, u64 a0, u64 a1, u64 a2, u64 a3, u64 a4)
{
	long r;

	if (s->h)
		return harness_call(s->h, nr, a0, a1, a2, a3, a4, 0);
	r = syscall(nr, a0, a1, a2, a3, a4, 0);
	return r < 0 ? -errno : r;
}

s64 oracle_note(struct side *s, const char *name, s64 result)
{
	if (s->nr < MAX_RESULTS) {
		s->names[s->nr] = name;
		s->results[s->nr++] = result;
	}
	return result;
}

/* A call that returns an fd if it succeeds: that it did counts, not its number. */
int oracle_note_fd(struct side *s, const char *name, s64 result)
{
	oracle_note(s, name, result >= 0 ? 0 : result);
	if (result >= 0 && s->nr_fds < 64)
		s->fds[s->nr_fds++] = (int)result;
	return (int)result;
}

s64 oracle_bpf(struct side *s, u32 cmd, const void *attr, u32 size)
{
	return oracle_call(s, SYS_bpf, cmd, (u64)attr, size, 0, 0);
}

int oracle_map(struct side *s, const char *name, union bpf_attr attr)
{
	return oracle_note_fd(s, name, oracle_bpf(s, BPF_MAP_CREATE, &attr, sizeof(attr)));
}

static void finish(struct side *s)
{
	for (u32 i = 0; i < s->nr_fds; i++)
		close(s->fds[i]);
}

int main(void)
{
	static struct side kernel, ours;
	static struct harness h;
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1
	};
	int fd = (int)syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr));
	int differ = 0;

	if (fd < 0 || !oracle_uprobe_type()) {
		printf("skip: bpf(2) or uprobe events may not be used here: %s\n", strerror(errno));
		return 77;
	}
	close(fd);
	harness_init(&h);
	ours.h = &h;
	oracle_maps(&kernel);
	oracle_objects(&kernel);
	finish(&kernel);
	oracle_maps(&ours);
	oracle_objects(&ours);
	finish(&ours);
	for (u32 i = 0; i < kernel.nr && i < ours.nr; i++) {
		if (kernel.results[i] == ours.results[i])
			continue;
		printf("%u %s (after %s): Linux %lld, here %lld\n", i, kernel.names[i],
		       i ? kernel.names[i - 1] : "", (long long)kernel.results[i],
		       (long long)ours.results[i]);
		differ++;
	}
	if (kernel.nr != ours.nr) {
		printf("%u results of Linux, %u here\n", kernel.nr, ours.nr);
		differ++;
	}
	printf("%u results compared, %d differ\n", kernel.nr, differ);
	if (!harness_wait_objects(&h, 0)) {
		printf("%u objects outlive their files\n", ub_kernel_objects(h.kernel));
		differ++;
	}
	harness_exit(&h);
	return differ != 0;
}
