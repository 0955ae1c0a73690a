// SPDX-License-Identifier: MIT
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <common/cleanup.h>

#include "assembler.h"
#include "harness.h"

#define MAX_FILE (64 << 10)

static void strip(char *line)
{
	size_t n;
	char *comment = strchr(line, '#');

	if (comment)
		*comment = 0;
	n = strlen(line);
	while (n && isspace((unsigned char)line[n - 1]))
		line[--n] = 0;
}

static int add_memory(struct vm_case *test, const char *line, struct ub_reason *why)
{
	while (*line) {
		unsigned int byte;

		while (isspace((unsigned char)*line))
			line++;
		if (!*line)
			break;
		if (sscanf(line, "%2x", &byte) != 1 || test->memory_size == HARNESS_MAX_MEMORY)
			return ub_reason_set(why, -EINVAL, "not memory: %s", line);
		test->memory[test->memory_size++] = (u8)byte;
		line += isxdigit((unsigned char)line[1]) ? 2 : 1;
	}
	return 0;
}

static int add_line(struct vm_file *file, const char *section, char *line, char *code,
		    struct ub_reason *why)
{
	if (!strcmp(section, "asm")) {
		if (strlen(code) + strlen(line) + 2 > MAX_FILE)
			return -E2BIG;
		strcat(code, line);
		strcat(code, "\n");
		return 0;
	}
	strip(line);
	if (!*line)
		return 0;
	if (!strcmp(section, "mem"))
		return add_memory(&file->test, line, why);
	if (!strcmp(section, "raw")) {
		u64 raw = strtoull(line, NULL, 0);

		if (file->nr_raw < HARNESS_MAX_INSNS)
			memcpy(&file->raw[file->nr_raw++], &raw, sizeof(raw));
	} else if (!strcmp(section, "percpu")) {
		u32 pc = (u32)strtoul(line, NULL, 0);

		if (pc >= HARNESS_MAX_INSNS)
			return -EINVAL;
		file->test.flags[pc] |= UB_INSN_PERCPU;
		file->test.has_flags = true;
	} else if (!strcmp(section, "result")) {
		file->result = strtoull(line, NULL, 0);
		file->has_result = true;
	} else if (!strcmp(section, "error")) {
		snprintf(file->error, sizeof(file->error), "%.250s", line);
		file->has_error = true;
	}
	return 0;
}

int vm_file_read(const char *path, struct vm_file *file, struct ub_reason *why)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	_cleanup_free_ char *code = calloc(1, MAX_FILE);
	char line[1024], section[64] = "";
	int nr, err;

	if (!f || !code)
		return ub_reason_set(why, -errno, "%s: %s", path, strerror(errno));
	memset(file, 0, sizeof(*file));
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\r\n")] = 0;
		if (!strncmp(line, "-- ", 3)) {
			strip(line);
			snprintf(section, sizeof(section), "%.60s", line + 3);
			continue;
		}
		err = add_line(file, section, line, code, why);
		if (err)
			return err;
	}
	if (!*code) {
		memcpy(file->test.insns, file->raw, sizeof(file->raw));
		file->test.nr = file->nr_raw;
		file->nr_raw = 0;
		return 0;
	}
	nr = assemble(code, file->test.insns, HARNESS_MAX_INSNS, why);
	if (nr < 0)
		return nr;
	file->test.nr = nr;
	return 0;
}
