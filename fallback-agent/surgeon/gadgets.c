// SPDX-License-Identifier: MIT
/* Instructions of the target's own that a borrowed thread executes (remote.c). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <surgeon/remote.h>

#define SEARCH_CHUNK  65536
#define LOADING_TRIES 20

static const u8 syscall_ret[] = { 0x0f, 0x05, 0xc3 };
static const u8 sigreturn_rax[] = { 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05 };
static const u8 sigreturn_eax[] = { 0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05 };

/* Bytes that are going to be overwritten or unmapped are no place to execute. */
static bool avoided(const struct ub_image *image, u64 address, u64 size)
{
	for (u32 i = 0; image && i < image->nr_sites; i++) {
		if (address < image->sites[i].address + image->sites[i].len &&
		    image->sites[i].address < address + size)
			return true;
	}
	for (u32 i = 0; image && i < image->nr_parts; i++) {
		if (address < image->parts[i].address + image->parts[i].size &&
		    image->parts[i].address < address + size)
			return true;
	}
	return false;
}

struct search {
	const struct ub_image *avoid[2];
	const u8 *bytes; /* in memory at address */
	u64 address;
	size_t size;
};

static u64 search(const struct search *s, const u8 *pattern, size_t size)
{
	const u8 *at = s->bytes, *end = s->bytes + s->size;

	while ((at = memmem(at, end - at, pattern, size))) {
		u64 address = s->address + (at - s->bytes);

		if (!avoided(s->avoid[0], address, size) && !avoided(s->avoid[1], address, size))
			return address;
		at++;
	}
	return 0;
}

static int find_gadgets(struct ub_target *t, const struct ub_image *avoid,
			const struct ub_image *avoid_too)
{
	_cleanup_free_ u8 *chunk = malloc(SEARCH_CHUNK + 16);
	struct search s = { { avoid, avoid_too }, chunk, 0, 0 };

	if (!chunk)
		return -ENOMEM;
	for (u32 i = 0; i < t->nr_mappings && !(t->gadget && t->restorer); i++) {
		const struct ub_mapping *m = &t->mappings[i];

		if (!(m->prot & PROT_EXEC) || !(m->prot & PROT_READ) || (m->prot & PROT_WRITE) ||
		    strstr(ub_mapping_name(t, m), UB_NAME_PREFIX))
			continue;
		for (u64 at = m->start; at < m->end && !(t->gadget && t->restorer);
		     at += SEARCH_CHUNK) {
			s.address = at;
			s.size = m->end - at < SEARCH_CHUNK + 16 ? m->end - at : SEARCH_CHUNK + 16;
			if (ub_target_read(t, at, chunk, s.size))
				break;
			if (!t->gadget)
				t->gadget = search(&s, syscall_ret, sizeof(syscall_ret));
			if (!t->restorer)
				t->restorer = search(&s, sigreturn_rax, sizeof(sigreturn_rax));
			if (!t->restorer)
				t->restorer = search(&s, sigreturn_eax, sizeof(sigreturn_eax));
		}
	}
	return 0;
}

int ub_remote_prepare(struct ub_target *t, const struct ub_image *avoid,
		      const struct ub_image *avoid_too, struct ub_reason *why)
{
	int err;

	t->gadget = t->restorer = 0;
	err = find_gadgets(t, avoid, avoid_too);
	/* In the middle of execve() or of the dynamic linker's work libc may be missing. */
	for (u32 i = 0; i < LOADING_TRIES && !err && !(t->gadget && t->restorer); i++) {
		usleep(1000);
		if (ub_target_gone(t) || ub_target_read_mappings(t))
			break;
		err = find_gadgets(t, avoid, avoid_too);
	}
	if (err)
		return ub_reason_set(why, err, "out of memory");
	if ((!t->gadget || !t->restorer) && ub_target_gone(t))
		return ub_reason_set(why, -ESRCH,
				     "process %d has exited or executed another program", t->pid);
	if (!t->gadget || !t->restorer)
		return ub_reason_set(why, -EOPNOTSUPP,
				     "process %d has no %s instruction in its text to operate with",
				     t->pid, t->gadget ? "rt_sigreturn" : "syscall; ret");
	return 0;
}
