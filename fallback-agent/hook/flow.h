/* SPDX-License-Identifier: MIT */
/*
 * Where control may come to inside a function other than from the instruction before.
 */
#ifndef UB_HOOK_FLOW_H
#define UB_HOOK_FLOW_H

#include <hook/decode.h>
#include <hook/elf_file.h>

/* Makes ub_elf_is_target() complete for the addresses of @function. */
void ub_flow_scan(struct ub_elf *elf, struct ub_elf_function *function);
/* The same for [@from, @to), each time anew. */
void ub_flow_scan_range(struct ub_elf *elf, u64 from, u64 to);

/* Of all functions of a file: none has nearly as many. 24 bytes each. */
#define UB_FLOW_MAX_WAYS (1u << 21)

/* How @function is left, in the order of addresses: kept with the file. 0, -ENOMEM, -E2BIG: there
 * are too many. */
int __must_check ub_flow_ways(struct ub_elf *elf, struct ub_elf_function *function,
			      const struct ub_way **ways, u32 *nr);

/* The instructions of one function, decoded from its start. */
struct ub_flow_insns {
	const struct ub_elf_function *function; /* whose they are, or NULL */
	u64 next;				/* where decoding goes on */
	u64 end;
	u32 nr;
	u32 capacity;
	struct ub_decoded *insns;
};

/* Decodes @function into @insns, replacing what was there; bytes that are no instruction are
 * skipped one at a time. 0 or -ENOMEM. */
int __must_check ub_flow_decode(struct ub_elf *elf, const struct ub_elf_function *function,
				struct ub_flow_insns *insns);

/*
 * The same by and by: long functions are mostly probed at their start. What begin() prepares,
 * decode_to() decodes: at least all that starts at @through or before and UB_FLOW_AHEAD instructions
 * behind, which is further than any window or what it is made of reaches. 0 or -ENOMEM.
 */
#define UB_FLOW_AHEAD 32
void ub_flow_begin(struct ub_elf *elf, const struct ub_elf_function *function,
		   struct ub_flow_insns *insns);
int __must_check ub_flow_decode_to(struct ub_elf *elf, u64 through, struct ub_flow_insns *insns);
void ub_flow_insns_free(struct ub_flow_insns *insns);
/* Index of the instruction that starts at @address, or -1. */
s64 ub_flow_find(const struct ub_flow_insns *insns, u64 address);

#endif
