/* SPDX-License-Identifier: MIT */
/*
 * What the planner knows of one ELF file: its code bytes, where functions start and end, and which
 * addresses control may come to other than from the instruction before. All addresses in here are
 * the file's own (p_vaddr); a mapping's bias is added by the caller. The file is hostile input.
 */
#ifndef UB_HOOK_ELF_FILE_H
#define UB_HOOK_ELF_FILE_H

#include <sys/stat.h>

#include <common/reason.h>

struct ub_elf_segment {
	u64 address; /* p_vaddr */
	u64 offset;  /* in the file */
	u64 size;    /* p_filesz */
	bool executable;
	bool writable;
	u8 *bytes;   /* loaded, or NULL: see ub_elf_bytes() */
	u8 *targets; /* executable: bit n = something may jump to address + n */
	u8 *labels;  /* executable: bit n = data holds address + n */
};

enum ub_way_kind {
	UB_WAY_RETURN,
	UB_WAY_JUMP,	/* to `to` */
	UB_WAY_POINTER, /* to where the pointer at `to` leads */
	UB_WAY_UNKNOWN, /* through a register, by no table of the function's own */
};

/* An instruction by which a function is left other than by calls, and where it leads. */
struct ub_way {
	u64 address;
	u64 to;
	enum ub_way_kind kind;
};

struct ub_elf_function {
	u64 start;
	u64 end;
	u64 lsda;	     /* address of its exception table, or 0 */
	u32 nr_ways;	     /* once it was scanned */
	struct ub_way *ways; /* by address */
	bool gap;	     /* no function: what lies between two, bounds and contents unknown */
	bool described;	     /* by .eh_frame */
	bool not_called;     /* in Go: entered with registers in use that calls leave free */
	bool g_in_r14;	     /* in Go: by its calling convention */
	bool no_thread;	 /* in Go: within it no stack (a red zone of C's) or TLS is there for us */
	bool fragment;	 /* a part that the compiler moved away: jumped to, not called */
	bool scanned;	 /* its own jumps are in `targets`, and its ways out in `ways` */
	bool surveyed;	 /* so are all whose short jumps reach it */
	bool no_memory;	 /* for all of `ways` */
	bool too_many;	 /* ways, in all of the file */
	bool has_tables; /* it jumps through a table of its own */
	bool loops_to_start; /* it jumps to its own first instruction */
	bool unknown_jumps;  /* it jumps through a table that was not understood */
};

struct ub_unwind_table;

struct ub_elf_gadget {
	u64 address;
	u32 len; /* 0: there is none */
};

struct ub_elf {
	u32 references;
	int fd;
	struct stat stat;
	u32 nr_segments;
	struct ub_elf_segment *segments;
	u32 nr_functions;
	struct ub_elf_function *functions; /* sorted, starts differ */
	u32 nr_ways;			   /* of all of them */
	bool position_independent;
	bool is_go;
	bool go_has_g; /* in r14: since Go 1.17 */
	bool has_relr; /* relative relocations without addends */
	bool has_symtab;
	bool has_interpreter;
	/* Of a static program, which has no other: `syscall; ret`, and rt_sigreturn(), that stay as
	 * they are so that system calls can be made in its processes (surgeon/remote.c). */
	struct ub_elf_gadget gadgets[2];
	u64 eh_frame_hdr;
	struct ub_unwind_table *unwind; /* once it was asked for */
};

/* Reads the file behind @fd, which stays the caller's. Kept in a small cache by device, inode, size
 * and times, so that the next image finds it ready. -ENOEXEC not an ELF file for x86-64; -errno. */
int __must_check ub_elf_open(int fd, struct ub_elf **out, struct ub_reason *why);
void ub_elf_put(struct ub_elf *elf);

/* The segment that holds @address, or NULL. */
struct ub_elf_segment *ub_elf_segment_at(struct ub_elf *elf, u64 address);
/* File offset to address in an executable segment; 0 or -ENOENT. */
int __must_check ub_elf_address(const struct ub_elf *elf, u64 offset, u64 *address);
/* Up to *size bytes at @address, or NULL; *size becomes how many there are to the end of the
 * segment. Loads the segment if needed. */
const u8 *ub_elf_bytes(struct ub_elf *elf, u64 address, u64 *size);

/* The function that contains @address, or NULL. */
struct ub_elf_function *ub_elf_function_at(struct ub_elf *elf, u64 address);
/* Lowest function start above @address, or UINT64_MAX. */
u64 ub_elf_next_start(const struct ub_elf *elf, u64 address);
u64 ub_elf_previous_start(const struct ub_elf *elf, u64 address);

/* Address of the symbol @name in .dynsym or .symtab: 0 or -ENOENT. */
int __must_check ub_elf_symbol(const struct ub_elf *elf, const char *name, u64 *address);

/* Reads the segment's bytes, if they are not there. False: no memory. */
bool ub_elf_load(struct ub_elf *elf, struct ub_elf_segment *segment);
bool ub_elf_is_target(struct ub_elf *elf, u64 address);
void ub_elf_add_target(struct ub_elf *elf, u64 address);
/* An address that data holds: a target, and perhaps a label of a table. */
void ub_elf_add_label(struct ub_elf *elf, u64 address);
/* Whether data holds an address in [@from, @to): labels of a table, if it is inside a function. */
bool ub_elf_has_label(struct ub_elf *elf, u64 from, u64 to);

#endif
