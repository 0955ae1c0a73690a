/* SPDX-License-Identifier: MIT */
/*
 * A file's unwind table, compiled from its .eh_frame.
 */
#ifndef UB_HOOK_UNWIND_H
#define UB_HOOK_UNWIND_H

#include <hook/elf_file.h>
#include <run/unwind.h>

struct ub_unwind_table {
	u64 base; /* address in the file that rows count from */
	u64 size; /* bytes of text that they cover, from there */
	u64 nr_rows;
	u64 memory; /* size of the memfd */
	int fd;	    /* sealed memfd of struct ub_unwind_row[nr_rows], sorted */
};

/* The table of @elf, made when it is first asked for; it stays the file's. -ENOENT: there is no
 * .eh_frame; -ENOMEM; -errno. */
int __must_check ub_unwind_table(struct ub_elf *elf, const struct ub_unwind_table **out);
void ub_unwind_table_free(struct ub_unwind_table *table);

/* For tests: the sorted rows of @elf, to be freed. */
int __must_check ub_unwind_compile(struct ub_elf *elf, struct ub_unwind_row **rows, u64 *nr,
				   u64 *base, u64 *size);

#endif
