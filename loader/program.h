/* SPDX-License-Identifier: MIT */
/*
 * A BPF object file, bundled or from disk, opened and loaded by libbpf, and where its programs want
 * to be attached.
 */
#ifndef UB_LOADER_PROGRAM_H
#define UB_LOADER_PROGRAM_H

#include <bpf/libbpf.h>

#include <common/reason.h>

#include "bundled.h"

enum ub_probe_kind { UB_PROBE_ENTRY, UB_PROBE_RETURN, UB_PROBE_USDT };

/* One program of the object, and the place that its section names:
 * SEC("uprobe/libc:malloc"), SEC("uretprobe//bin/bash:readline"), SEC("usdt/libc:libc:setjmp"). */
struct ub_probe {
	struct bpf_program *program;
	enum ub_probe_kind kind;
	char *file;	/* "libc", a path, or "" for the target's executable */
	char *function; /* NULL for USDT, or if only an offset is given */
	u64 offset;	/* from the function's start, else in the file */
	char *usdt_provider;
	char *usdt_name;
	char text[160]; /* "uprobe libc:malloc", for messages */
};

struct ub_programs {
	char name[64];			  /* "malloc" */
	const struct ub_bundled *bundled; /* NULL for a file */
	struct bpf_object *object;
	struct ub_probe *probes;
	u32 nr_probes;
};

/*
 * Opens the bundled program @name, or the object file of that path, applies @args (LIB:FUNCTION for
 * sections that name no place, VARIABLE=VALUE for constants) and loads it into the kernel that this
 * process is under. -ENOENT with a "did you mean", -ENOEXEC if it is not BPF, -EOPNOTSUPP for
 * program or map types that are not supported, or libbpf's error.
 */
int __must_check ub_programs_load(const char *name, char *const *args, u32 nr_args,
				  struct ub_programs **out, struct ub_reason *why);
void ub_programs_free(struct ub_programs *programs);

#endif
