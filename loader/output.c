// SPDX-License-Identifier: MIT
#include "output.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <bpf/libbpf.h>

static void print_to_stderr(const char *fmt, va_list args)
{
	/* One write, so that lines of several processes do not mix. */
	char line[2048];
	int used = snprintf(line, sizeof(line), "ubpf-run: ");
	int more = vsnprintf(line + used, sizeof(line) - used - 1, fmt, args);

	if (more < 0)
		return;
	used += more;
	if (used > (int)sizeof(line) - 2)
		used = sizeof(line) - 2;
	line[used++] = '\n';
	fwrite(line, 1, used, stderr);
}

void ub_error(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	print_to_stderr(fmt, args);
	va_end(args);
}

void ub_note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	print_to_stderr(fmt, args);
	va_end(args);
}

void ub_json_line(struct json_object *object)
{
	puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN |
							    JSON_C_TO_STRING_NOSLASHESCAPE));
	fflush(stdout);
	json_object_put(object);
}

/* Levenshtein distance, cut off above @limit. */
static size_t distance(const char *a, const char *b, size_t limit)
{
	size_t la = strlen(a), lb = strlen(b);
	size_t row[64];

	if (lb >= ub_array_size(row) || la > lb + limit || lb > la + limit)
		return limit + 1;
	for (size_t j = 0; j <= lb; j++)
		row[j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[lb];
}

const char *ub_nearest(const char *name, const char *const *names, size_t nr)
{
	size_t limit = strlen(name) / 3 + 1;
	const char *best = NULL;

	for (size_t i = 0; i < nr; i++) {
		size_t d = distance(name, names[i], limit);

		if (d <= limit && (!best || d < limit)) {
			best = names[i];
			limit = d;
		}
	}
	return best;
}

void ub_clock_text(char text[9])
{
	time_t now = time(NULL);
	struct tm tm;

	localtime_r(&now, &tm);
	strftime(text, 9, "%H:%M:%S", &tm);
}

static int libbpf_verbose;
static char libbpf_warning[400];

/* Whether a line of the verifier's log, which may be its verdict. */
static bool may_be_verdict(const char *line)
{
	static const char *const others[] = { "\n",	      "processed ",  "verification time ",
					      "stack depth ", "cur state: ", "old state: " };

	for (size_t i = 0; i < ub_array_size(others); i++) {
		if (!strncmp(line, others[i], strlen(others[i])))
			return false;
	}
	return true;
}

/*
 * The first warning is the most telling one, unless the verifier's log follows: then it is the
 * log's last line that is neither statistics nor a state, which says what was wrong with the
 * program.
 */
static void keep_warning(const char *text)
{
	static const char begin[] = "-- BEGIN PROG LOAD LOG --\n";
	const char *log = strstr(text, begin), *line, *next, *verdict = NULL;

	if (!strncmp(text, "libbpf: ", 8))
		text += 8;
	if (!log) {
		if (!libbpf_warning[0])
			snprintf(libbpf_warning, sizeof(libbpf_warning), "%.*s",
				 (int)strcspn(text, "\n"), text);
		return;
	}
	for (line = log + sizeof(begin) - 1; *line; line = next) {
		size_t size = strcspn(line, "\n");

		next = line + size + (line[size] == '\n');
		if (!strncmp(line, "-- END", 6))
			break;
		if (may_be_verdict(line))
			verdict = line;
	}
	if (verdict)
		snprintf(libbpf_warning, sizeof(libbpf_warning), "%.*s%.*s", (int)(log - text),
			 text, (int)strcspn(verdict, "\n"), verdict);
}

static int libbpf_print(enum libbpf_print_level level, const char *fmt, va_list args)
{
	if (level == LIBBPF_WARN) {
		va_list copy;
		char *text = NULL;

		va_copy(copy, args);
		if (vasprintf(&text, fmt, copy) >= 0)
			keep_warning(text);
		va_end(copy);
		free(text);
	}
	if (level == LIBBPF_DEBUG ? libbpf_verbose < 2 : libbpf_verbose < 1)
		return 0;
	return vfprintf(stderr, fmt, args);
}

void ub_libbpf_log(int verbose)
{
	libbpf_verbose = verbose;
	libbpf_set_print(libbpf_print);
}

const char *ub_libbpf_warning(void)
{
	return libbpf_warning;
}

void ub_libbpf_forget(void)
{
	libbpf_warning[0] = '\0';
}
