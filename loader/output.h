/* SPDX-License-Identifier: MIT */
/*
 * What people and tools read: lines on stdout, errors and remarks on stderr. Only commands and
 * sessions print.
 */
#ifndef UB_LOADER_OUTPUT_H
#define UB_LOADER_OUTPUT_H

#include <json-c/json.h>

#include <common/reason.h>
#include <common/types.h>

/* "ubpf-run: ..." on stderr. */
void ub_error(const char *fmt, ...) __printf_like(1, 2);
/* The same for remarks that are no errors. */
void ub_note(const char *fmt, ...) __printf_like(1, 2);

/* One object as one line on stdout, flushed; takes over @object. */
void ub_json_line(struct json_object *object);

/* The name among @names that @name is likely a misspelling of, or NULL. */
const char *ub_nearest(const char *name, const char *const *names, size_t nr);

/* Local time as HH:MM:SS. */
void ub_clock_text(char text[9]);

/* Sends libbpf's messages to stderr from @verbose 1 (information) or 2 (debug) on, and always keeps
 * the latest warnings for ub_libbpf_warning(). */
void ub_libbpf_log(int verbose);
/* The most telling warning since the last ub_libbpf_forget(), without "libbpf: " and newline, or
 * "". */
const char *ub_libbpf_warning(void);
void ub_libbpf_forget(void);

#endif
