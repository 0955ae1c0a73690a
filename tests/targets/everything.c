// SPDX-License-Identifier: MIT
/*
 * everything entries|returns[=PERCENT] FILE[,FILE]... INPUT COMMAND ARGS...: COMMAND works by lines
 * of input (@FILE: those in FILE) and prints results. Once as it is, and once while the entries, or
 * the returns, of all functions of FILEs are probed, but for PERCENT of them at most (2): same
 * output, and right counts after all. offsets=N[+FIRST]: all instructions of every Nth function, as
 * many as can be at once; offsets:NAME[:NAME]...: those of the functions of these names, but for
 * missing ones.
 *
 * The command prints "ready" first, goes on with INPUT and ends with the line "done"; then it waits
 * for the end of its input.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <hook/elf_file.h>
#include <hook/flow.h>
#include <hook/returns.h>

#include "../hook/apply.h"
#include "operate.h"

struct all {
	u32 nr, room, refused;
	struct ub_image_link *links;
};

static void add(struct all *all, const struct ub_image_link *link)
{
	if (all->nr == all->room) {
		all->room = all->room ? 2 * all->room : 4096;
		all->links = realloc(all->links, all->room * sizeof(*link));
		if (!all->links)
			abort();
	}
	all->links[all->nr] = *link;
	all->links[all->nr].link_id = all->nr;
	all->nr++;
}

/* All instructions of @function that are no padding. */
static void add_offsets(struct all *all, struct ub_elf *elf, const struct ub_elf_function *function,
			struct ub_image_link *link)
{
	const struct ub_elf_segment *segment = ub_elf_segment_at(elf, function->start);
	struct ub_flow_insns insns = {};

	if (ub_flow_decode(elf, function, &insns))
		abort();
	for (u32 i = 0; i < insns.nr; i++) {
		u64 size = 0;

		if (*ub_elf_bytes(elf, insns.insns[i].address, &size) == 0xcc)
			continue;
		link->point.offset = insns.insns[i].address - segment->address + segment->offset;
		add(all, link);
	}
	ub_flow_insns_free(&insns);
}

/* Whether the list @names, NULL: any, has @function's. */
static bool is_named(struct ub_elf *elf, const struct ub_elf_function *function, const char *names)
{
	bool found = !names;

	while (!found && names && *names) {
		const size_t len = strcspn(++names, ":");
		char *name = strndup(names, len);
		u64 address;

		found = name && !ub_elf_symbol(elf, name, &address) && address == function->start;
		free(name);
		names += len;
	}
	return found;
}

/* @every: instructions of each such function from number @first on; 0: @kind of all. */
static void add_file(struct all *all, const char *path, enum ub_point_kind kind, u32 every,
		     u32 first, const char *names, const struct ub_program *program,
		     const struct ub_code *code)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct ub_image_link link = { .program = program, .code = code };
	struct ub_reason why = {};
	struct ub_elf *elf;
	struct stat file;

	if (fd < 0) {
		printf("skip: %s is not there\n", path);
		exit(77);
	}
	if (fstat(fd, &file) || ub_elf_open(fd, &elf, &why))
		fail("%s: %s", path, why.text);
	for (u32 i = 0; i < elf->nr_functions; i++) {
		const struct ub_elf_function *function = &elf->functions[i];
		const struct ub_elf_segment *segment = ub_elf_segment_at(elf, function->start);
		struct ub_exit *exits = NULL;
		u32 nr;

		if (function->gap || function->fragment || !is_named(elf, function, names))
			continue;
		if (kind == UB_POINT_RETURN &&
		    ub_exits_find(elf, function->start, NULL, &exits, &nr, &why)) {
			/* Those that never return can't be told to. */
			all->refused += !strstr(why.text, "never returns");
			continue;
		}
		free(exits);
		link.point = (struct ub_point) {
			.kind = kind,
			.dev = file.st_dev,
			.ino = file.st_ino,
			.offset = function->start - segment->address + segment->offset,
		};
		if (!every)
			add(all, &link);
		else if (i % every == first)
			add_offsets(all, elf, function, &link);
	}
	ub_elf_put(elf);
	close(fd);
}

/* Attaches to all that can be probed together: what is next to each other may be in the way of each
 * other. What is left out has no hits. */
static struct ub_image *attach_all(struct all *all, u32 percent)
{
	bool *refused = calloc(all->nr, sizeof(*refused));
	struct ub_image *image = NULL;
	struct ub_reason why = {};
	int err = try_attach(all->links, all->nr, &image, refused, &why);

	for (u32 i = 0; i < all->nr; i++)
		all->refused += refused[i];
	free(refused);
	if (err || all->refused > (u64)all->nr * percent / 100)
		fail("%d: %s (%u refused)", err, why.text, all->refused);
	return image;
}

/* All output from now to "done", with @input; to be freed. */
static char *work(const char *input)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	char line[4096];

	fputs(input, to);
	fflush(to);
	do {
		if (!fgets(line, sizeof(line), from))
			fail("no more output after: %s", text);
		fputs(line, out);
		fflush(out);
	} while (!strstr(line, "done"));
	fclose(out);
	return text;
}

/* The lines that @input gives or names; to be freed. */
static char *lines_of(const char *input)
{
	char *lines = NULL;
	size_t size = 0;
	FILE *file;

	if (*input != '@')
		return strdup(input);
	file = fopen(input + 1, "re");
	if (!file || getdelim(&lines, &size, '\0', file) < 0)
		fail("%s: %s", input + 1, strerror(errno));
	fclose(file);
	return lines;
}

struct counted {
	u64 hits, misses;
};

static void add_counts(void *opaque, u32 link_id, u64 hits, u64 misses)
{
	struct counted *counted = opaque;

	counted->hits += hits;
	counted->misses += misses;
}

int main(int argc, char **argv)
{
	const bool offsets = argc > 1 && *argv[1] == 'o';
	struct ub_program *program = offsets ? busy_program() : empty_program();
	struct ub_reason why = {};
	struct all all = {};
	struct ub_image *image;
	struct ub_code code;
	const char *number = argc > 1 ? strchr(argv[1], '=') : NULL;
	const u32 every = offsets ? number ? (u32)atoi(number + 1) : 1 : 0;
	const u32 first =
		offsets && number && strchr(number, '+') ? (u32)atoi(strchr(number, '+')) : 0;
	const char *names = offsets ? strchr(argv[1], ':') : NULL;
	const u32 percent = offsets ? 100 : number ? (u32)atoi(number + 1) : 2;
	char *expected, *got, *files, *file, *input;
	struct counted counted = {};
	double began;

	if (argc < 5)
		return 2;
	if (ub_jit_compile(program, &code, &why))
		fail("%s", why.text);
	input = lines_of(argv[3]);
	files = strdup(argv[2]);
	for (file = strtok(files, ","); file; file = strtok(NULL, ","))
		add_file(&all, file, *argv[1] == 'r' ? UB_POINT_RETURN : UB_POINT_ENTRY, every,
			 first, names, program, &code);
	signal(SIGPIPE, SIG_IGN);
	start(argv + 4, "ready");
	expected = work(input);
	finish();
	start(argv + 4, "ready");
	began = now();
	image = attach_all(&all, percent);
	printf("%u points (%u refused) attached in %.0f ms\n", all.nr, all.refused,
	       1000 * (now() - began));
	got = work(input);
	began = now();
	detach(image);
	printf("detached in %.0f ms\n", 1000 * (now() - began));
	ub_image_count(image, add_counts, &counted);
	printf("%llu hits, %llu misses\n", (unsigned long long)counted.hits,
	       (unsigned long long)counted.misses);
	if (!counted.hits)
		fail("no hits");
	finish();
	if (strcmp(expected, got))
		fail("expected:\n%s\ngot:\n%s", expected, got);
	ub_image_free(image);
	ub_code_free(&code);
	ub_program_free(program);
	free(expected);
	free(got);
	free(files);
	free(input);
	free(all.links);
	return 0;
}
