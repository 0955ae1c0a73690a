/* SPDX-License-Identifier: MIT */
/*
 * Links made by libbpf: the same calls for every backend that answers bpf(2) and
 * perf_event_open(2).
 */
#ifndef UB_LOADER_LIBBPF_LINK_H
#define UB_LOADER_LIBBPF_LINK_H

#include "backend.h"

int __must_check ub_libbpf_attach(const struct ub_probe *probe, const struct ub_tracee *target,
				  const struct ub_tracee_file *file, u64 offset,
				  struct ub_backend_link **out, struct ub_reason *why);
int __must_check ub_libbpf_attach_everywhere(const struct ub_probe *probe,
					     const struct ub_tracee_file *file, u64 offset,
					     struct ub_backend_link **out, struct ub_reason *why);
void ub_libbpf_detach(struct ub_backend_link *link);

#endif
