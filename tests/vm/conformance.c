// SPDX-License-Identifier: MIT
/*
 * conformance DIRECTORY...: every .data file in the interpreter, the JIT and, as root, the kernel.
 * A case passes when both of ours give the expected result, and the kernel, if it accepts the
 * program, too.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <isa/isa.h>

#include "harness.h"

static u32 nr_files, nr_failed, nr_kernel;

static void fail(const char *path, const char *engine, const char *what)
{
	printf("FAIL %s: %s: %s\n", path, engine, what);
	nr_failed++;
}

static void check_disassembly(const char *path, const struct vm_file *file)
{
	if (file->nr_raw && (file->nr_raw != file->test.nr ||
			     memcmp(file->raw, file->test.insns, file->nr_raw * 8)))
		fail(path, "assembler", "not the instructions that the file has");
}

/* A program that must be refused: by ub_isa_check(), or when it runs. */
static void run_error(const char *path, const struct vm_file *file)
{
	static struct vm_outcome out;

	for (int engine = VM_INTERPRETER; engine < VM_NR_ENGINES; engine++) {
		struct ub_reason why;

		if (engine == VM_KERNEL && !vm_kernel_available())
			continue;
		if (!vm_run(engine, &file->test, &out, &why))
			fail(path, vm_engine_names[engine], "was accepted");
		else if (engine != VM_KERNEL && !strstr(why.text, file->error))
			fail(path, vm_engine_names[engine], why.text);
	}
}

static void run_file(const char *path)
{
	static struct vm_file file;
	static struct vm_outcome out[VM_NR_ENGINES];
	struct ub_reason why = { "" };
	char text[128];

	nr_files++;
	if (vm_file_read(path, &file, &why)) {
		fail(path, "assembler", why.text);
		return;
	}
	check_disassembly(path, &file);
	if (file.has_error) {
		run_error(path, &file);
		return;
	}
	for (int engine = VM_INTERPRETER; engine < VM_NR_ENGINES; engine++) {
		int err;

		if (engine == VM_KERNEL && !vm_kernel_available())
			continue;
		err = vm_run(engine, &file.test, &out[engine], &why);
		if (err && engine == VM_KERNEL) {
			printf("note %s: the kernel refuses it: %s\n", path, why.text);
			continue;
		}
		nr_kernel += engine == VM_KERNEL;
		if (err) {
			fail(path, vm_engine_names[engine], why.text);
			continue;
		}
		snprintf(text, sizeof(text), "r0 = 0x%llx, not 0x%llx",
			 (unsigned long long)out[engine].r0, (unsigned long long)file.result);
		if (out[engine].r0 != file.result)
			fail(path, vm_engine_names[engine], text);
		else if (vm_outcome_differs(&file.test, &out[engine], &out[VM_INTERPRETER]))
			fail(path, vm_engine_names[engine], "other memory than the interpreter");
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int run_directory(const char *path)
{
	static char *names[4096];
	u32 nr = 0;
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		size_t n = strlen(entry->d_name);

		if (n > 5 && !strcmp(entry->d_name + n - 5, ".data") && nr < 4096 &&
		    asprintf(&names[nr], "%s/%s", path, entry->d_name) > 0)
			nr++;
	}
	closedir(dir);
	qsort(names, nr, sizeof(*names), by_name);
	for (u32 i = 0; i < nr; i++) {
		run_file(names[i]);
		free(names[i]);
	}
	return 0;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (run_directory(argv[i])) {
			printf("skip: %s is not there\n", argv[i]);
			return 77;
		}
	}
	printf("%u cases, %u failed; %u also in the kernel%s\n", nr_files, nr_failed, nr_kernel,
	       vm_kernel_available() ? "" : " (not allowed here)");
	return nr_failed || !nr_files;
}
