// SPDX-License-Identifier: MIT
/*
 * targets SECONDS ROUNDS PROGRAM [MODE]: a target program (victim.h) under entry and return probes
 * on all of its functions that are called probed_*.
 *
 * First the counts of ROUNDS rounds are compared with what the program itself counts; then it works
 * on while the probes are attached, replaced and detached over and over for SECONDS. Its results
 * must be right, and after each detach it must be as before.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/residue.h"
#include <hook/elf_file.h>

#include "../hook/apply.h"
#include "operate.h"

#define MAX_PROBED 16
#define FLAGS	   (UB_RESIDUE_NO_TASKS | UB_RESIDUE_NO_ANON)

static const char *program;
static struct ub_image_link links[2 * MAX_PROBED];
static u32 nr_links;

/* --- what is probed ------------------------------------------------------------------------- */

static void add_links(const struct stat *file, u64 offset, const struct ub_program *empty,
		      const struct ub_code *code)
{
	for (u32 i = 0; i < 2; i++) {
		if (nr_links == ub_array_size(links))
			fail("too many functions");
		links[nr_links] = (struct ub_image_link) {
			.point = { .kind = i ? UB_POINT_RETURN : UB_POINT_ENTRY,
				   .dev = file->st_dev,
				   .ino = file->st_ino,
				   .offset = offset },
			.link_id = nr_links,
			.program = empty,
			.code = code,
		};
		nr_links++;
	}
}

static void find_functions(const struct ub_program *empty, const struct ub_code *code)
{
	int fd = open(program, O_RDONLY | O_CLOEXEC);
	Elf_Scn *section = NULL;
	struct ub_elf *elf;
	struct stat file;
	Elf *handle;

	if (fd < 0 || fstat(fd, &file) || ub_elf_open(fd, &elf, NULL))
		fail("%s: %s", program, strerror(errno));
	elf_version(EV_CURRENT);
	handle = elf_begin(fd, ELF_C_READ, NULL);
	while ((section = elf_nextscn(handle, section))) {
		GElf_Shdr header;
		GElf_Sym symbol;

		if (!gelf_getshdr(section, &header) || header.sh_type != SHT_SYMTAB)
			continue;
		for (int i = 0; gelf_getsym(elf_getdata(section, NULL), i, &symbol); i++) {
			const char *name = elf_strptr(handle, header.sh_link, symbol.st_name);
			const struct ub_elf_segment *segment;

			/* Parts that the compiler moved away are no functions; nor are Go's
			 * functions within functions to be probed. */
			name += strncmp(name, "main.", 5) ? 0 : 5;
			if (GELF_ST_TYPE(symbol.st_info) != STT_FUNC ||
			    strncmp(name, "probed_", 7) || strchr(name, '.'))
				continue;
			segment = ub_elf_segment_at(elf, symbol.st_value);
			add_links(&file, symbol.st_value - segment->address + segment->offset,
				  empty, code);
		}
	}
	elf_end(handle);
	ub_elf_put(elf);
	close(fd);
	if (!nr_links)
		fail("%s has no functions to probe", program);
}

/* Of @counts the third says how often functions may have been entered again: Go does so when it has
 * made the stack larger. */
static void read_counts(long counts[3])
{
	char line[96];

	counts[2] = 0;
	if (!fgets(line, sizeof(line), from) ||
	    sscanf(line, "%ld %ld %ld", &counts[0], &counts[1], &counts[2]) < 2) {
		int status = 0;

		waitpid(pid, &status, 0);
		fail("%s ended, status 0x%x", program, status);
	}
}

static void count(const struct ub_image *image, u64 sums[2], u64 *misses)
{
	sums[0] = sums[1] = *misses = 0;
	for (u32 i = 0; i < nr_links; i++) {
		u64 hits, missed;

		ub_image_counters(image, i, &hits, &missed);
		sums[i % 2] += hits;
		*misses += missed;
	}
}

/* --- the tests ------------------------------------------------------------------------------ */

static void compare_counts(long rounds)
{
	struct ub_image *image = attach(links, nr_links);
	u64 hits[2], misses;
	long counts[3];

	fprintf(to, "%ld\n", rounds);
	read_counts(counts);
	count(image, hits, &misses);
	printf("%ld entered, %ld returned; counted %llu and %llu, %llu missed\n", counts[0],
	       counts[1], (unsigned long long)hits[0], (unsigned long long)hits[1],
	       (unsigned long long)misses);
	/* A return that an exception took away can't be told from one that was hidden. */
	if (hits[0] < (u64)counts[0] || hits[0] > (u64)(counts[0] + counts[2]) ||
	    hits[1] != (u64)counts[1] || misses > (u64)(counts[0] - counts[1]))
		fail("not the same");
	detach(image);
	ub_image_free(image);
}

static bool others_are_there(void)
{
	char path[64], line[4352];
	bool found = false;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	while (maps && fgets(line, sizeof(line), maps))
		found |= strstr(line, "ubpf-run") != NULL;
	if (maps)
		fclose(maps);
	return found;
}

static void cycle(double seconds)
{
	const double until = now() + seconds;
	u64 entered = 0, returned = 0, cycles = 0;
	struct ub_residue *before = NULL;
	long counts[3];

	/* Somebody else may be at work on all processes for a while. */
	for (u32 i = 0; i < 3000; i++) {
		ub_residue_free(before);
		if (ub_residue_snapshot(pid, FLAGS, &before))
			fail("no snapshot of %d", pid);
		if (!ub_residue_touched(before) && !others_are_there())
			break;
		usleep(20000);
	}
	fprintf(to, "0\n");
	do {
		struct ub_image *image = attach(links, nr_links);
		u64 hits[2], misses;

		/* Some that are gone again before anything happens, most not. */
		for (u32 i = 0; cycles % 8 && i < 3000; i++) {
			count(image, hits, &misses);
			if (hits[1] > 50)
				break;
			usleep(1000);
		}
		/* Returns that wait are handed on. */
		for (u32 i = 0; cycles % 4 == 1 && i < 4; i++) {
			struct ub_image *next = replace(image, links, nr_links);

			count(image, hits, &misses);
			entered += hits[0];
			returned += hits[1];
			ub_image_free(image);
			image = next;
		}
		detach(image);
		count(image, hits, &misses);
		entered += hits[0];
		returned += hits[1];
		cycles++;
		ub_image_free(image);
	} while (now() < until);
	fprintf(to, "\n");
	read_counts(counts);
	printf("%llu cycles, %llu of %ld entries and %llu of %ld returns counted\n",
	       (unsigned long long)cycles, (unsigned long long)entered, counts[0],
	       (unsigned long long)returned, counts[1]);
	if (!entered || !returned || entered > (u64)(counts[0] + counts[2]) ||
	    returned > (u64)counts[1])
		fail("impossible counts");
	/* All of ours was taken out, as far as the surgeon knows: what bears our name by now is
	 * another's. */
	if (ub_residue_check(pid, before, FLAGS, 60000, stderr) && !others_are_there())
		fail("residue");
	ub_residue_free(before);
}

int main(int argc, char **argv)
{
	struct ub_program *empty = empty_program();
	struct ub_reason why = {};
	struct ub_code code;

	if (argc < 4)
		return 2;
	program = argv[3];
	if (access(program, X_OK)) {
		printf("skip: %s was not built\n", program);
		return 77;
	}
	if (ub_jit_compile(empty, &code, &why))
		fail("%s", why.text);
	find_functions(empty, &code);
	start(argv + 3, "ready\n");
	compare_counts(strtol(argv[2], NULL, 10));
	cycle(strtod(argv[1], NULL));
	finish();
	ub_code_free(&code);
	ub_program_free(empty);
	return 0;
}
