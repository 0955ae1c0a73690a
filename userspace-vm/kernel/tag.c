// SPDX-License-Identifier: MIT
/*
 * A program's tag: the first bytes of the SHA-256 (FIPS 180-4) of its instructions as they were
 * given, without the numbers of maps, as Linux 6.18 computes it.
 */
#include <kernel/kinds.h>

#include <string.h>

#define BLOCK 64

struct sha256 {
	u32 state[8];
	u64 size;
	u8 block[BLOCK];
};

static u32 rotate(u32 x, int by)
{
	return x >> by | x << (32 - by);
}

static u32 load_be32(const u8 *at)
{
	return (u32)at[0] << 24 | (u32)at[1] << 16 | (u32)at[2] << 8 | at[3];
}

static void sha256_block(u32 *state, const u8 *block)
{
	/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
	static const u32 k[64] = {
		0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
		0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
		0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
		0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
		0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
		0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
		0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
		0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
		0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
		0xc67178f2,
	};
	u32 w[64], s[8];

	for (int i = 0; i < 16; i++)
		w[i] = load_be32(block + 4 * i);
	for (int i = 16; i < 64; i++) {
		u32 a = w[i - 15], b = w[i - 2];

		w[i] = w[i - 16] + w[i - 7] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) +
		       (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
	}
	memcpy(s, state, sizeof(s));
	for (int i = 0; i < 64; i++) {
		u32 e = s[4], a = s[0];
		u32 t1 = s[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) +
			 ((e & s[5]) ^ (~e & s[6])) + k[i] + w[i];
		u32 t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) +
			 ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));

		memmove(s + 1, s, 7 * sizeof(*s));
		s[4] += t1;
		s[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		state[i] += s[i];
}

static void sha256_add(struct sha256 *sha, const void *data, size_t size)
{
	const u8 *bytes = data;

	for (size_t i = 0; i < size; i++) {
		sha->block[sha->size++ % BLOCK] = bytes[i];
		if (sha->size % BLOCK == 0)
			sha256_block(sha->state, sha->block);
	}
}

/* Pads with a one bit, zeroes and the length in bits. */
static void sha256_finish(struct sha256 *sha)
{
	u64 bits = sha->size * 8;
	u8 length[8], byte = 0x80;

	for (int i = 0; i < 8; i++)
		length[i] = (u8)(bits >> (56 - 8 * i));
	sha256_add(sha, &byte, 1);
	byte = 0;
	while (sha->size % BLOCK != BLOCK - sizeof(length))
		sha256_add(sha, &byte, 1);
	sha256_add(sha, length, sizeof(length));
}

static bool loads_map(const struct bpf_insn *insn)
{
	return insn->code == (BPF_LD | BPF_IMM | BPF_DW) &&
	       (insn->src_reg == BPF_PSEUDO_MAP_FD || insn->src_reg == BPF_PSEUDO_MAP_VALUE);
}

void ub_prog_tag(const struct bpf_insn *insns, u32 nr, u8 *tag)
{
	struct sha256 sha = { .state = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
					 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 } };
	bool second_half = false;

	for (u32 i = 0; i < nr; i++) {
		struct bpf_insn insn = insns[i];

		if (second_half || loads_map(&insn))
			insn.imm = 0;
		second_half = !second_half && loads_map(&insns[i]);
		sha256_add(&sha, &insn, sizeof(insn));
	}
	sha256_finish(&sha);
	for (u32 i = 0; i < BPF_TAG_SIZE; i++)
		tag[i] = (u8)(sha.state[i / 4] >> (24 - 8 * (i % 4)));
}
