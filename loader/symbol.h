/* SPDX-License-Identifier: MIT */
/*
 * Functions of ELF files.
 */
#ifndef UB_LOADER_SYMBOL_H
#define UB_LOADER_SYMBOL_H

#include <common/reason.h>

/* File offset of function @name of the ELF file @path. -ENOENT with a "did you mean"; -EOPNOTSUPP
 * for indirect functions, whose code is chosen at run time; -ENOEXEC if it is no 64-bit x86 ELF
 * file. */
int __must_check ub_symbol_offset(const char *path, const char *name, u64 *offset,
				  struct ub_reason *why);

/* Whether @path is a 64-bit x86 ELF file: 0, -EOPNOTSUPP if it is an ELF file of another kind,
 * -ENOEXEC if none, or why it can't be read. */
int __must_check ub_elf_check(const char *path, struct ub_reason *why);

/* Whether @path defines function @name. */
bool ub_symbol_defined(const char *path, const char *name);
/* Whether @path is a program or library whose table of symbols was stripped off. */
bool ub_symbol_stripped(const char *path);

#endif
