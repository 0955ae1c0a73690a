/* SPDX-License-Identifier: MIT */
/*
 * Operations on maps as hits make them, and traps at any instruction of them. For tests.
 *
 * The program's own text is writable (instants_start()): an int3 stands for the instruction before
 * which something is to happen, and single steps have told beforehand which instructions an
 * operation has.
 */
#ifndef UB_TESTS_MAP_INSTANTS_H
#define UB_TESTS_MAP_INSTANTS_H

#include <setjmp.h>

#include <map/event_ring.h>
#include <map/hold.h>
#include <map/map.h>

#define MAX	  8 /* entries of most maps */
#define RING_SIZE 65536
#define SAMPLE	  16

/* Under sanitizers an operation has many times as many instructions: some of them do. */
static inline bool sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return true;
#else
	return false;
#endif
}

typedef void (*operation)(struct ub_map *map, struct ub_run *run);

struct kind {
	struct ub_map_attr attr;
	operation op;
};

/* All types that take something. */
extern const struct kind kinds[];
extern const u32 nr_kinds;

/* The thread that hits, whose holds a forked child has, too, and its process. */
extern struct ub_holds *holds;
extern struct ub_process process;

/* False: traps can't be set here. @on_altstack: handlers run there. */
bool instants_start(bool on_altstack);
/* Learns which instructions @op has. */
void learn(struct ub_map *map, operation op);
/* The next one at or behind @at, or NULL. */
u8 *next_instruction(u8 *at);
u8 *first_instruction(void);
/* One by chance. */
u8 *some_instruction(void);

/* What is to happen once before the instruction @at: @then (in a signal handler), or, if that is
 * NULL, siglongjmp(*@leave, 1). */
void plant(u8 *at, void (*then)(void), sigjmp_buf *leave);
/* Whether it has not happened. */
bool unplant(void);

/* As a trampoline does: the run on the stack, deeper by @depth bytes. */
void deep_hit(struct ub_map *map, operation op, u32 depth);
/* Whether such a hit came to @at, where it was left, or interrupted by @then. */
bool hit_until(struct ub_map *map, operation op, u32 depth, u8 *at, void (*then)(void));

/* Two records, one of which is written while the other is not submitted. */
void write_records(struct ub_map *map, struct ub_run *run);
void change_hash(struct ub_map *map, struct ub_run *run);
/* Adds a sample to a user ring buffer and drains it. Whoever is in there while another is, fails. */
void drain(struct ub_map *map, struct ub_run *run);
extern u32 nr_draining;

/* The map, and a thread that has done nothing yet. */
void make(struct ub_map *map, const struct ub_map_attr *attr);
/* A ring buffer whose records go through the process's event ring; write_records() is learnt. */
void make_ring(struct ub_map *map);
/* Number of its records that have come since, none of which is waited for. */
u32 read_records(void);
void destroy_ring(struct ub_map *map);
bool is_of_nodes(const struct ub_map *map);
u32 nr_used(const struct ub_map *map);
void sweep(struct ub_map *map);
/* What the map links is in use, and linked once. */
void check_linked(const struct ub_map *map);
/* Nothing is used in the emptied map, and all can be found. */
void check_whole(struct ub_map *map);
void check_no_holds(void);

#endif
