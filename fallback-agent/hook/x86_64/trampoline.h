/* SPDX-License-Identifier: MIT */
/*
 * The code between a probed instruction and the programs of its links.
 */
#ifndef UB_HOOK_TRAMPOLINE_H
#define UB_HOOK_TRAMPOLINE_H

#include <common/types.h>
#include <hook/decode.h>
#include <hook/x86_64/emit.h>
#include <jit/jit.h>

/* One program to call. Addresses are the target's. */
struct ub_trampoline_link {
	const struct ub_code *code;
	struct ub_ctx_use ctx;
	u64 program;	 /* where code was placed */
	u64 info;	 /* struct ub_link_info */
	u64 maps;	 /* table of struct ub_map pointers */
	u32 counters;	 /* number of the link's struct ub_hit_counters */
	bool tail_calls; /* it may go on as another program, which may do anything */
};

/* What all trampolines of an image have in common. */
struct ub_trampoline_space {
	u64 data;	   /* address of the data part */
	u64 slot_function; /* ub_agent_slot in the same code part, and the others */
	u64 note_function;
	u64 noted_function;
	u64 divert_function;
	u64 undivert_function;
	u64 null_function;
	u64 diverts;	     /* struct ub_diverts, or 0 */
	u32 slot_bits;	     /* log2 of the number of thread slots */
	u64 shared_counters; /* of threads without a slot */
	bool self_pointer;   /* every thread's first TLS word is its own address: the fs base for a
				load */
	bool has_rseq;
	s32 rseq_cpu; /* where rseq's cpu_id is from the fs base; self_pointer only */
};

enum ub_trampoline_kind {
	UB_TRAMPOLINE_RUN,    /* run the programs */
	UB_TRAMPOLINE_RETURN, /* run them before a ret: ctx shows the caller's state right after it
			       */
	UB_TRAMPOLINE_NOTED,  /* the same, for those links that noted the place of this return
				 address */
	UB_TRAMPOLINE_NOTE,   /* note it, before a tail jump */
	UB_TRAMPOLINE_DIVERT, /* take it over */
	UB_TRAMPOLINE_UNDIVERT, /* put back all of the thread's, before an unwinder looks */
};

struct ub_trampoline_point {
	u64 ip; /* of the probed instruction */
	enum ub_trampoline_kind kind;
	bool keep_flags; /* the code may still need its flags */
	/* Go: the goroutine's stack may be all but used up. r12 and r13 are free, but for: */
	bool own_stack;
	bool keep_registers; /* they are saved below sp, */
	bool g_in_r14;
	bool look;	  /* whether there is room, with flags or r12 free for it (hook/go.h) */
	u64 continuation; /* UB_TRAMPOLINE_DIVERT: code that runs the links and returns */
	u32 nr_links;
	const struct ub_trampoline_link *links; /* in order */
};

/* What is emitted last, behind the window's code: filled by ub_trampoline_probe(). */
struct ub_trampoline_cold {
	u32 slow;		      /* where the jump to the slow path stands */
	u64 back;		      /* where it comes back to */
	u64 out;		      /* where it gives up */
	u32 disabled, child, nothing; /* where jumps over everything stand */
	u32 nested;		      /* where the jump for a hit within a hit stands */
	u64 nested_back;
	u32 no_room; /* where the jump stands for a stack that may end here, or 0 */
	u64 end;     /* of it all */
	const struct ub_trampoline_point *point;
};

/* Emits the programs' calls; registers, flags and stack are as before afterwards. */
void ub_trampoline_probe(struct ub_emit *emit, const struct ub_trampoline_space *space,
			 const struct ub_trampoline_point *point, struct ub_trampoline_cold *cold);
void ub_trampoline_cold(struct ub_emit *emit, const struct ub_trampoline_space *space,
			const struct ub_trampoline_cold *cold);

/*
 * null.c: a look at the base register before a moved instruction follows it (agent/null.c). Nothing
 * is emitted for instructions that no null pointer makes fault. Of @point counts what is in use
 * there.
 */
struct ub_trampoline_null {
	const struct ub_decoded *insn; /* NULL: nothing was emitted */
	u64 ip;			       /* where it was */
	u32 jump;		       /* where the jump for a null pointer stands */
	u64 back;		       /* the moved instruction */
	bool own_stack, keep_registers, keep_flags, look, g_in_r14;
	bool rcx_saved; /* on the stack, at the jump */
};
void ub_trampoline_null(struct ub_emit *emit, const struct ub_decoded *insn,
			const struct ub_trampoline_point *point, struct ub_trampoline_null *null);
/* Go: tests whether the @room bytes below sp might not be the goroutine's. Flags are lost. Returns
 * where the jump for that stands. */
u32 ub_trampoline_look_for_room(struct ub_emit *emit, bool g_in_r14, u32 room);
/* Where those words lie. */
#define UB_TRAMPOLINE_SAVED_R12	  (-8)
#define UB_TRAMPOLINE_SAVED_R13	  (-16)
#define UB_TRAMPOLINE_SAVED_FLAGS (-24)
void ub_trampoline_null_cold(struct ub_emit *emit, const struct ub_trampoline_space *space,
			     const struct ub_trampoline_null *null);
#define UB_TRAMPOLINE_NULL_BOUND 344u

/* r12 = data part. The slot's address into r13 where it is the one that the thread's key hashes to,
 * with r12 and r13 only; r12 = key. Returns where the jump for all else stands. */
u32 ub_trampoline_find_slot(struct ub_emit *emit, u32 bits);

/* divert.c: the code that the diverted return addresses lead to, UB_MAX_DIVERTS entries. Returns
 * its address. */
u64 ub_trampoline_diverts(struct ub_emit *emit, u64 diverts);
#define UB_TRAMPOLINE_DIVERTS_BOUND 66000u

/* At most this many bytes for a probe with @nr_links, cold part included. */
u32 ub_trampoline_bound(u32 nr_links);

#endif
