// SPDX-License-Identifier: MIT
/*
 * Packets, for the network programs that BPF_PROG_TEST_RUN runs: net/core/filter.c over one linear
 * buffer. There are no sockets, so the checksum is never a device's.
 */
#include <helper/internal.h>

#include <program/context.h>

#define ENOTSUPP     524
#define ETH_HLEN     14
#define MAX_RELATIVE 0xffff

/* [@start + @offset, + @size) if it ends within the packet, else NULL. */
static u8 *within(const struct ub_packet_pointers *packet, u64 start, u64 offset, u64 size)
{
	u64 room = packet->data_end - start;

	if (start > packet->data_end || offset > room || size > room - offset)
		return NULL;
	return (u8 *)(start + offset);
}

static const struct ub_packet_pointers *packet_of(u64 ctx)
{
	return &((const struct ub_skb_context *)ctx)->pointers;
}

static long copy_or_clear(void *to, const u8 *from, u64 size)
{
	if (!from) {
		__builtin_memset(to, 0, size);
		return -EFAULT;
	}
	__builtin_memcpy(to, from, size);
	return 0;
}

/* (skb, offset, to, size) */
HELPER(skb_load_bytes)
{
	const struct ub_packet_pointers *packet = packet_of(r1);
	u32 offset = (u32)r2, size = (u32)r4;

	return copy_or_clear((void *)r3, within(packet, packet->data, offset, size), size);
}

/* (skb, offset, to, size, from which header) */
HELPER(skb_load_bytes_relative)
{
	const struct ub_packet_pointers *packet = packet_of(r1);
	u32 offset = (u32)r2, size = (u32)r4, header = (u32)r5;
	u64 start = packet->mac + (header == BPF_HDR_START_NET ? ETH_HLEN : 0);
	const u8 *from = NULL;

	if (offset <= MAX_RELATIVE && (header == BPF_HDR_START_MAC || header == BPF_HDR_START_NET))
		from = within(packet, start, offset, size);
	return copy_or_clear((void *)r3, from, size);
}

/* (skb, offset, from, size, flags) */
HELPER(skb_store_bytes)
{
	const struct ub_packet_pointers *packet = packet_of(r1);
	u32 offset = (u32)r2, size = (u32)r4;
	u8 *to;

	if (r5 & ~(u64)(BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH))
		return -EINVAL;
	to = within(packet, packet->data, offset, size);
	if (!to)
		return -EFAULT;
	__builtin_memcpy(to, (const void *)r3, size);
	return 0;
}

/* No device has summed this packet up. */
HELPER(csum_update)
{
	return -ENOTSUPP;
}

static u32 fold(u64 sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (u32)sum;
}

/* One's complement sum of the bytes as 16-bit words, on top of @seed. */
static u64 sum_of(const u8 *bytes, u32 size, u64 seed)
{
	u64 sum = seed;

	for (u32 i = 0; i + 1 < size; i += 2)
		sum += bytes[i] | (u32)bytes[i + 1] << 8;
	if (size & 1)
		sum += bytes[size - 1];
	return sum;
}

/* (from, its size, to, its size, seed): what replacing the one by the other does to a checksum. */
HELPER(csum_diff)
{
	u32 removed = (u32)r2, added = (u32)r4;
	u64 sum = (u32)r5;

	if (added)
		sum = sum_of((const u8 *)r3, added, sum);
	if (removed && added)
		sum += 0xffff - fold(sum_of((const u8 *)r1, removed, 0));
	else if (removed)
		sum = 0xffff - fold(sum_of((const u8 *)r1, removed, (u32)~r5));
	return fold(sum);
}
