/* SPDX-License-Identifier: MIT */
/*
 * Where threads are, and where they will be.
 *
 * An instruction pointer may wait for its turn in a signal frame: a handler runs on top of the code
 * that it interrupted, and when it returns the thread continues there. Patching a window that holds
 * such an ip, or unmapping a trampoline that holds one, kills the thread later. So the stacks are
 * searched for frames, the one in use and from there to the ones that the frames themselves point
 * to (alternate stacks).
 *
 * A frame is recognised by its structure as the kernel writes it: code and stack selectors of
 * 64-bit user code, flags register with its fixed bits, uc_flags and uc_link, a return address into
 * executable memory, floating point state at an aligned address with its magic. A stale word that
 * looks like an address is nothing. Whole frames are stale where alternate stacks lie behind other
 * stacks in one mapping, as all of Go's do: a frame says which alternate stack it was put on, and
 * only who is on that one returns by it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include <common/cleanup.h>
#include <surgeon/target.h>

#define FRAME_SS_SP   24 /* of rt_sigframe: pretcode 8, uc_flags, uc_link, then uc_stack */
#define FRAME_SS_SIZE 40
#define FRAME_R8      48
#define FRAME_RSP     (FRAME_R8 + 15 * 8)
#define FRAME_RIP     (FRAME_R8 + 16 * 8)
#define FRAME_FLAGS   (FRAME_R8 + 17 * 8)
#define FRAME_CS      (FRAME_R8 + 18 * 8)
#define FRAME_FPSTATE (FRAME_R8 + 23 * 8)
#define FRAME_SIZE    (FRAME_R8 + 32 * 8 + 8)

#define RED_ZONE 128
#define CHUNK	 (64u << 10)
#define WHOLE_STACK                                                                                \
	(16ull << 20) /* mappings up to this size are searched whole, others this far: */
#define SCAN_MAX    (1ull << 20)
#define MAX_REGIONS 16

struct region {
	u64 start, end;
	u64 sp; /* that is looked at upwards from */
};

static int add_ip(struct ub_ips *ips, u64 ip, u64 where, u32 thread)
{
	if (ips->nr == ips->room) {
		u32 room = ips->room ? 2 * ips->room : 256;
		struct ub_ip *more = realloc(ips->ips, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		ips->ips = more;
		ips->room = room;
	}
	ips->ips[ips->nr++] = (struct ub_ip) { ip, where, thread };
	return 0;
}

void ub_ips_free(struct ub_ips *ips)
{
	free(ips->ips);
	*ips = (struct ub_ips) { 0 };
}

static u64 word(const u8 *bytes, u32 offset)
{
	u64 value;

	memcpy(&value, bytes + offset, 8);
	return value;
}

static bool executable(const struct ub_target *t, u64 address)
{
	const struct ub_mapping *m = ub_target_mapping(t, address);

	return m && (m->prot & PROT_EXEC);
}

/* @f: FRAME_SIZE bytes that have the selectors in the right place. */
static bool is_frame(const struct ub_target *t, const u8 *f)
{
	u64 flags = word(f, FRAME_FLAGS), fpstate = word(f, FRAME_FPSTATE);
	u32 magic = 0;

	if (word(f, 8) & ~7ull || word(f, 16) || !executable(t, word(f, 0)))
		return false;
	if ((flags & 0xffffffffffc0802aull) != 2 || !executable(t, word(f, FRAME_RIP)))
		return false;
	if (!fpstate)
		return true;
	if (fpstate & 63)
		return false;
	if (!(word(f, 8) & 1))
		return true;
	return !ub_target_read(t, fpstate + 464, &magic, 4) && magic == 0x46505853u;
}

/* Whether the frame @f at @address is of an alternate stack that @sp is not on. */
static bool is_elsewhere(const u8 *f, u64 address, u64 sp)
{
	u64 stack = word(f, FRAME_SS_SP), size = word(f, FRAME_SS_SIZE);

	return address - stack < size && sp - stack > size;
}

static bool add_region(const struct ub_target *t, struct region *regions, u32 *nr, u64 sp)
{
	const struct ub_mapping *m = ub_target_mapping(t, sp);
	u64 start = (sp - RED_ZONE) & ~7ull, end;

	if (!m || !(m->prot & PROT_READ) || *nr == MAX_REGIONS)
		return false;
	if (start < m->start)
		start = m->start;
	end = m->end - m->start <= WHOLE_STACK || m->end - start < SCAN_MAX ? m->end
									    : start + SCAN_MAX;
	for (u32 i = 0; i < *nr; i++) {
		if (start >= regions[i].start && start < regions[i].end)
			return false;
	}
	regions[(*nr)++] = (struct region) { start, end, sp };
	return true;
}

/* Selectors of 64-bit user code, with the stack's and (as kernels before 4.1 leave it) without. */
#define SELECTORS     0x002b000000000033ull
#define SELECTORS_OLD 0x33ull

typedef u64 words __attribute__((vector_size(32), aligned(8), may_alias));

/* The first word from @at on, below @end, that may be a frame's selectors; or @end. A thousand
 * stacks are looked through with all threads stopped. */
static const u8 *next_selectors(const u8 *at, const u8 *end)
{
	for (; at + 64 <= end; at += 64) {
		const words *block = (const words *)at;
		words hits = (block[0] == SELECTORS) | (block[0] == SELECTORS_OLD) |
			     (block[1] == SELECTORS) | (block[1] == SELECTORS_OLD);

		if (ub_unlikely(hits[0] | hits[1] | hits[2] | hits[3]))
			break;
	}
	for (; at + 8 <= end; at += 8) {
		u64 selectors = word(at, 0);

		if (selectors == SELECTORS || selectors == SELECTORS_OLD)
			return at;
	}
	return end;
}

/* Looks for frames in one region; adds their ips, and the stacks they point to. */
static int scan_region(const struct ub_target *t, struct region *regions, u32 *nr, u32 i,
		       u32 thread, u8 *chunk, struct ub_ips *ips)
{
	u64 at = regions[i].start, end = regions[i].end;

	while (at + FRAME_SIZE <= end) {
		size_t size = end - at < CHUNK ? end - at : CHUNK;
		struct iovec here = { chunk, size }, there = { (void *)at, size };
		ssize_t got = process_vm_readv(t->alive, &here, 1, &there, 1, 0);

		if (got < (ssize_t)FRAME_SIZE) {
			got = pread(t->mem, chunk, size, at);
			if (got < (ssize_t)FRAME_SIZE)
				return 0;
		}
		for (const u8 *found = chunk + FRAME_CS,
			      *last = chunk + got - FRAME_SIZE + FRAME_CS + 8;
		     (found = next_selectors(found, last)) < last; found += 8) {
			const u8 *frame = found - FRAME_CS;
			u64 where = at + (frame - chunk) + FRAME_RIP;
			int err;

			if (!is_frame(t, frame) ||
			    is_elsewhere(frame, at + (frame - chunk), regions[i].sp))
				continue;
			err = add_ip(ips, word(frame, FRAME_RIP), where, thread);
			if (err)
				return err;
			add_region(t, regions, nr, word(frame, FRAME_RSP));
		}
		if ((u64)got == end - at)
			break;
		at += got - FRAME_SIZE + 8;
		at &= ~7ull;
	}
	return 0;
}

int ub_ips_collect(struct ub_target *t, struct ub_ips *ips)
{
	_cleanup_free_ u8 *chunk = malloc(CHUNK);
	int err = 0;

	if (!chunk)
		return -ENOMEM;
	ips->nr = 0;
	for (u32 i = 0; i < t->nr_threads && !err; i++) {
		const struct ub_thread *thread = &t->threads[i];
		struct region regions[MAX_REGIONS];
		u32 nr = 0;

		if (thread->state == UB_THREAD_GONE)
			continue;
		err = add_ip(ips, thread->pc, 0, i);
		add_region(t, regions, &nr, thread->sp);
		for (u32 k = 0; k < nr && !err; k++)
			err = scan_region(t, regions, &nr, k, i, chunk, ips);
	}
	return err;
}

static int set_ip(struct ub_target *t, struct ub_ip *ip, u64 to)
{
	struct ub_thread *thread = &t->threads[ip->thread];
	int err;

	if (ip->where)
		err = ub_target_write(t, ip->where, &to, sizeof(to));
	else if (thread->state == UB_THREAD_STOPPED)
		err = ub_thread_set_ip(t, thread, to);
	else
		return -EBUSY; /* blocked in the kernel: its registers can't be changed */
	if (!err)
		ip->ip = to;
	return err == -ESRCH && thread->state != UB_THREAD_STOPPED ? 0 : err;
}

int ub_ips_move_in(struct ub_target *t, struct ub_ips *ips, const struct ub_image *new,
		   struct ub_reason *why)
{
	for (u32 i = 0; i < ips->nr; i++) {
		u64 ip = ips->ips[i].ip, to = ub_moves_find(new->moves_in, new->nr_moves_in, ip);
		int err;

		if (to == ip)
			continue;
		err = set_ip(t, &ips->ips[i], to);
		if (err)
			return ub_reason_set(
				why, err == -EBUSY ? -EAGAIN : err,
				"a thread of process %d is at %lx, inside the bytes to be patched, and "
				"blocked in the kernel",
				t->pid, ip);
	}
	return ub_fault(t, UB_FAULT_moved);
}

/* Whether @ip lies within the bytes that @image overwrites, behind their start. */
static bool within_site(const struct ub_image *image, u64 ip)
{
	for (u32 i = 0; image && i < image->nr_sites; i++) {
		if (ip > image->sites[i].address &&
		    ip - image->sites[i].address < image->sites[i].len)
			return true;
	}
	return false;
}

void ub_ips_move_out(struct ub_target *t, struct ub_ips *ips, const struct ub_image *image,
		     const struct ub_image *keep)
{
	for (u32 i = 0; i < ips->nr; i++) {
		u64 ip = ips->ips[i].ip;
		u64 to = ub_moves_find(image->moves_out, image->nr_moves_out, ip);

		/* Whoever can't be moved leaves by itself. */
		if (to != ip && !within_site(keep, to) && set_ip(t, &ips->ips[i], to))
			continue;
	}
}

bool ub_quiescent(struct ub_target *t, const struct ub_ips *ips, const struct ub_image *image,
		  struct ub_reason *left)
{
	for (u32 i = 0; i < ips->nr; i++) {
		const struct ub_thread *thread = &t->threads[ips->ips[i].thread];

		if (thread->state == UB_THREAD_GONE || !ub_image_inside(image, ips->ips[i].ip))
			continue;
		ub_reason_set(left, 0, "thread %d of process %d %s a probe", thread->tid, t->pid,
			      ips->ips[i].where ? "was interrupted by a signal inside"
						: "is inside");
		return false;
	}
	if (image->process && !ub_image_has_guards(image))
		return !ub_fault(t, UB_FAULT_quiescent);
	/* In a handler on another stack the stack pointer says nothing about the guard's. ips are
	 * in the order of threads. */
	for (u32 i = 0, k = 0; i < t->nr_threads; i++) {
		const struct ub_thread *thread = &t->threads[i];
		bool elsewhere = false;

		for (; k < ips->nr && ips->ips[k].thread <= i; k++)
			elsewhere |= ips->ips[k].thread == i && ips->ips[k].where;
		if (thread->state == UB_THREAD_GONE)
			continue;
		if (ub_thread_inside(t, image, thread, elsewhere)) {
			ub_reason_set(left, 0, "thread %d of process %d is inside a program",
				      thread->tid, t->pid);
			return false;
		}
	}
	return !ub_fault(t, UB_FAULT_quiescent);
}
