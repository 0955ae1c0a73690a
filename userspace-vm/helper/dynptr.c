// SPDX-License-Identifier: MIT
/*
 * Dynptrs: memory whose size is known only when the program runs. A dynptr is 16 bytes of the
 * program's stack, which the verifier lets only helpers touch. Freestanding.
 */
#include <helper/internal.h>

#include <map/event_ring.h>
#include <map/user_ring.h>

/* As the kernel's struct bpf_dynptr_kern: the size's upper bits say what it is. */
struct dynptr {
	void *data; /* NULL: invalid, every access fails */
	u32 size;
	u32 offset;
};

#define SIZE_MASK  0xffffffu
#define TYPE_SHIFT 28
#define TYPE_LOCAL 1u
#define TYPE_RING  2u
#define BIT_RDONLY (1u << 31)
#define MAX_SIZE   SIZE_MASK

static void init(struct dynptr *dynptr, void *data, u32 size, u32 type)
{
	*dynptr = (struct dynptr) { .data = data, .size = size | type << TYPE_SHIFT };
}

static u32 size_of(const struct dynptr *dynptr)
{
	return dynptr->size & SIZE_MASK;
}

static int check_range(const struct dynptr *dynptr, u32 offset, u32 size)
{
	u32 all = size_of(dynptr);

	return size > all || offset > all - size ? -E2BIG : 0;
}

/* The two may overlap. */
static void move(void *to, const void *from, u64 size)
{
	u8 *t = to;
	const u8 *f = from;

	if (t <= f || t >= f + size) {
		ub_mem_copy(to, from, size);
		return;
	}
	while (size--)
		*(volatile u8 *)(t + size) = *(const volatile u8 *)(f + size);
}

HELPER(dynptr_from_mem)
{
	struct dynptr *dynptr = (struct dynptr *)r4;
	u32 size = (u32)r2;

	*dynptr = (struct dynptr) { NULL, 0, 0 };
	if (size > MAX_SIZE)
		return (u64)-E2BIG;
	if (r3)
		return (u64)-EINVAL;
	init(dynptr, (void *)r1, size, TYPE_LOCAL);
	return 0;
}

HELPER(dynptr_read)
{
	const struct dynptr *from = (const struct dynptr *)r3;
	u32 size = (u32)r2, offset = (u32)r4;
	int err;

	if (!from->data || r5)
		return (u64)-EINVAL;
	err = check_range(from, offset, size);
	if (err)
		return (u64)err;
	move((void *)r1, (const u8 *)from->data + from->offset + offset, size);
	return 0;
}

HELPER(dynptr_write)
{
	const struct dynptr *to = (const struct dynptr *)r1;
	u32 offset = (u32)r2, size = (u32)r4;
	int err;

	if (!to->data || to->size & BIT_RDONLY)
		return (u64)-EINVAL;
	err = check_range(to, offset, size);
	if (err)
		return (u64)err;
	if (r5)
		return (u64)-EINVAL;
	move((u8 *)to->data + to->offset + offset, (const void *)r3, size);
	return 0;
}

HELPER(dynptr_data)
{
	const struct dynptr *dynptr = (const struct dynptr *)r1;
	u32 offset = (u32)r2;

	if (!dynptr->data || check_range(dynptr, offset, (u32)r3) || dynptr->size & BIT_RDONLY)
		return 0;
	return (u64)((u8 *)dynptr->data + dynptr->offset + offset);
}

HELPER(ringbuf_reserve_dynptr)
{
	struct dynptr *dynptr = (struct dynptr *)r4;
	u32 size = (u32)r2;
	void *data;

	*dynptr = (struct dynptr) { NULL, 0, 0 };
	if (r3)
		return (u64)-EINVAL;
	if (size > MAX_SIZE)
		return (u64)-E2BIG;
	data = (void *)ub_helper_ringbuf_reserve(r1, size, 0, 0, 0, run_);
	if (!data)
		return (u64)-EINVAL;
	init(dynptr, data, size, TYPE_RING);
	return 0;
}

static u64 commit(struct dynptr *dynptr, bool discard, u64 flags, void *run)
{
	if (dynptr->data)
		ub_event_commit(dynptr->data, discard, flags, run);
	*dynptr = (struct dynptr) { NULL, 0, 0 };
	return 0;
}

HELPER(ringbuf_submit_dynptr)
{
	return commit((struct dynptr *)r1, false, r2, run_);
}

HELPER(ringbuf_discard_dynptr)
{
	return commit((struct dynptr *)r1, true, r2, run_);
}

struct drain {
	struct ub_run *run;
	u64 callback;
	u64 opaque;
};

static long hand_sample(void *opaque, void *data, u32 size)
{
	const struct drain *drain = opaque;
	struct dynptr dynptr;

	init(&dynptr, data, size & SIZE_MASK, TYPE_LOCAL);
	return (long)ub_run_callback(drain->run, drain->callback, (u64)&dynptr, drain->opaque, 0,
				     0);
}

HELPER(user_ringbuf_drain)
{
	struct drain drain = { run_, r2, r3 };

	return (u64)ub_user_ring_drain((struct ub_map *)r1, r4, hand_sample, &drain, run_);
}
