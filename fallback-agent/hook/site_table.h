/* SPDX-License-Identifier: MIT */
/*
 * The site table: what a target itself records about what was done to it, enough for anybody to
 * undo it without the daemon that did it. It is the content of the mapping
 * "[memfd:]ubpf-run:sites": read-only and sealed, one per image. While an image is being replaced,
 * a process may hold two.
 *
 * A reader treats every word as hostile: the target (or another process of its owner) may have
 * mapped a forgery. ub_site_table_check() bounds everything, and a site is restored only where
 * memory holds exactly its new bytes and the *file* (opened by the reader through
 * /proc/PID/map_files) holds its old ones.
 *
 * Versions: a reader accepts the magic and its own version only. Format changes get a new version;
 * the header's first 32 bytes (magic, version, size, checksum, owner) never change, so that any
 * version can name the owner of any other.
 */
#ifndef UB_HOOK_SITE_TABLE_H
#define UB_HOOK_SITE_TABLE_H

#include <common/reason.h>

#define UB_SITE_TABLE_NAME    "ubpf-run:sites"
#define UB_SITE_TABLE_MAGIC   0x6e75722d66706275ull /* "ubpf-run" */
#define UB_SITE_TABLE_VERSION 1
#define UB_SITE_TABLE_MAX     (64u << 20) /* bytes */
#define UB_SITE_BYTES	      24

struct ub_site_table {
	u64 magic;
	u32 version;
	u32 size;      /* of the whole table */
	u64 checksum;  /* ub_site_table_sum() of the table with this field zero */
	u32 owner_pid; /* the daemon that built it, and its user */
	u32 owner_uid;
	/* -- end of what never changes -- */
	u64 owner_start; /* its start time: field 22 of /proc/PID/stat */
	u64 address;	 /* of this table in the target */
	u32 target_pid;	 /* as the owner sees it */
	u32 generation;
	u64 state;  /* address of struct ub_site_state in the target */
	u64 guards; /* address of struct ub_thread_slot[nr_guards] */
	u32 nr_guards;
	u32 nr_parts; /* arrays follow the header in this order */
	u32 nr_sites;
	u32 nr_moves_out;
	u32 nr_semaphores;
	u32 owner_pidns; /* the pid namespace of owner_pid and target_pid: inode of /proc/PID/ns/pid */
	u32 reserved[4];
};

struct ub_site_part {
	u64 address;
	u64 size;
	u32 kind; /* enum ub_part_kind */
	u32 reserved;
};

struct ub_site_record {
	u64 address;
	u64 dev; /* of the mapped file */
	u64 ino;
	u64 offset; /* in the file */
	u32 len;
	u32 reserved;
	u8 old[UB_SITE_BYTES];
	u8 new[UB_SITE_BYTES];
};

struct ub_site_move {
	u64 from;
	u64 to;
};

struct ub_site_semaphore {
	u64 address;
	u32 count;
	u32 reserved;
};

/*
 * How far the surgeon came, written by it into the data part. Semaphores are counted one at a time:
 * `next` is the semaphore in work and `before` its value before, so that whoever finds the rest
 * knows whether it was added.
 */
struct ub_site_state {
	u32 stage; /* enum ub_site_stage */
	u32 next;
	u32 before;
	u32 reserved[13];
};

enum ub_site_stage {
	UB_STAGE_MAPPED = 0,	 /* nothing written yet */
	UB_STAGE_WRITING = 1,	 /* sites are being written */
	UB_STAGE_SEMAPHORES = 2, /* all sites written; semaphores below `next` counted */
	UB_STAGE_LIVE = 3,
	UB_STAGE_UNCOUNTING = 4, /* semaphores below `next` taken away again */
	UB_STAGE_REMOVING = 5,	 /* sites are being restored */
	UB_STAGE_REMOVED = 6,	 /* only mappings are left */
};

/* A checked table: pointers into the bytes that were checked. */
struct ub_site_table_view {
	const struct ub_site_table *header;
	const struct ub_site_part *parts;
	const struct ub_site_record *sites;
	const struct ub_site_move *moves_out;
	const struct ub_site_semaphore *semaphores;
};

/* Checks @size bytes (8-byte aligned, the reader's own copy): magic, version, sizes, checksum,
 * bounds, order, no overlap. 0 and *view; -EPROTO another version; -EBADMSG anything else, @why
 * says what. */
int __must_check ub_site_table_check(const void *bytes, u64 size, struct ub_site_table_view *view,
				     struct ub_reason *why);
u64 ub_site_table_size(const struct ub_site_table *header);
u64 ub_site_table_sum(const struct ub_site_table *table);

#endif
