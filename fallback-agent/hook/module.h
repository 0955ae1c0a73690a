/* SPDX-License-Identifier: MIT */
/*
 * A target's address space: what is mapped where, and which files those are in the target's own
 * mount namespace.
 */
#ifndef UB_HOOK_MODULE_H
#define UB_HOOK_MODULE_H

#include <sys/types.h>

#include <common/reason.h>
#include <hook/elf_file.h>

struct ub_mapping {
	u64 start;
	u64 end;
	u64 offset;
	dev_t dev; /* as /proc/PID/maps prints it: not always st_dev */
	ino_t ino;
	int prot;
	bool taken; /* nothing is there yet: ub_address_space_take() */
	char *name; /* path, "[heap]", "" */
};

struct ub_address_space {
	u32 nr;
	u32 capacity;
	struct ub_mapping *mappings; /* sorted */
};

/* One file, mapped executable, at one bias. */
struct ub_module {
	dev_t dev; /* st_dev, st_ino */
	ino_t ino;
	struct ub_elf *elf;
	u64 bias; /* address in the target - address in the file */
	u64 low;  /* all of its mappings */
	u64 high;
	char *name;
};

/* -ESRCH, -EPERM, -EACCES, ... */
int __must_check ub_address_space_read(pid_t pid, struct ub_address_space *space,
				       struct ub_reason *why);
void ub_address_space_free(struct ub_address_space *space);
/* Notes that [@start, @end) is going to be taken. */
int __must_check ub_address_space_take(struct ub_address_space *space, u64 start, u64 end);

/* What was so noted is free again. */
void ub_address_space_release(struct ub_address_space *space);

/* The mapping that holds @address, or NULL. */
const struct ub_mapping *ub_address_space_at(const struct ub_address_space *space, u64 address);

/* All executable instances of the file with @dev and @ino: *modules is an array, freed with
 * ub_modules_free(); the first is one that was loaded, if any was. -ENOENT: not mapped. */
int __must_check ub_modules_find(pid_t pid, const struct ub_address_space *space, dev_t dev,
				 ino_t ino, struct ub_module **modules, u32 *nr,
				 struct ub_reason *why);
/* st_dev and st_ino of a mapping's file, as the target sees it. */
int __must_check ub_mapping_file(pid_t pid, const struct ub_mapping *mapping, dev_t *dev,
				 ino_t *ino);
/* The same for the file of one of the mappings, whatever it is. */
int __must_check ub_modules_find_mapping(pid_t pid, const struct ub_address_space *space,
					 const struct ub_mapping *mapping,
					 struct ub_module **modules, u32 *nr);
void ub_modules_free(struct ub_module *modules, u32 nr);
/* Whether the byte of @module at @address of the target is mapped there with @prot: who maps a part
 * of a file once more (runtimes do that to have it near their code) has other things around it. */
bool ub_module_has(const struct ub_address_space *space, const struct ub_module *module,
		   u64 address, int prot);

/* A free place for @size bytes from where both @low and @high are within reach of 32 bits. -ENOSPC.
 */
int __must_check ub_address_space_find(const struct ub_address_space *space, u64 low, u64 high,
				       u64 size, u64 *address);

/* Whether mapping number @index belongs to a file as a loader maps it: from its first byte on, code
 * included. Parts of files that somebody reads or maps once more do not. */
bool ub_address_space_is_loaded(const struct ub_address_space *space, u32 index);

/* Whether nothing is mapped in [@start, @start + @size). */
bool ub_address_space_is_free(const struct ub_address_space *space, u64 start, u64 size);

#endif
