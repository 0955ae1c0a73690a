/* SPDX-License-Identifier: MIT */
/*
 * The agent as bytes: position-independent code without data, runnable wherever it is copied to.
 */
#ifndef UB_AGENT_BLOB_H
#define UB_AGENT_BLOB_H

#include <common/types.h>

#define UB_AGENT_HELPERS 256

extern const u8 ub_agent_blob[];
extern const u32 ub_agent_blob_size;
/* Offset of each helper by its id (enum bpf_func_id), plus 1; 0 = the agent has none. */
extern const u32 ub_agent_helpers[UB_AGENT_HELPERS];
extern const u32 ub_agent_slot_offset;
extern const u32 ub_agent_tail_note_offset;
extern const u32 ub_agent_tail_noted_offset;
extern const u32 ub_agent_divert_offset;
extern const u32 ub_agent_undivert_offset;
extern const u32 ub_agent_null_offset;

#endif
