/* SPDX-License-Identifier: MIT */
#include "inject.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <common/cleanup.h>
#include <hook/image_private.h>
#include <program/program.h>

#define PATIENCE_MS 30000
#define MAX_LATE    6 /* operations in a row that give up for want of a stop */

char test_case[128];

void skip(const char *reason)
{
	printf("skip: %s\n", reason);
	exit(77);
}

u64 monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

bool wait_until(bool (*done)(void *), void *opaque)
{
	u64 end = monotonic_ns() + PATIENCE_MS * 1000000ull;

	while (!done(opaque)) {
		if (monotonic_ns() > end)
			return false;
		usleep(1000);
	}
	return true;
}

/* --- victims ------------------------------------------------------------------------------- */

const char *victim_path(const char *name)
{
	static char paths[2][4352];
	static int next;
	char *path = paths[next++ & 1];
	const char *build = getenv("UBPF_BUILD");
	char self[4096];
	ssize_t n;

	if (build) {
		snprintf(path, sizeof(paths[0]), "%s/tests/lib/%s", build, name);
		return path;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	check(n > 0, "who am I?");
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	snprintf(path, sizeof(paths[0]), "%s/../lib/%s", self, name);
	return path;
}

void victim_exec(struct victim *v, const char *const *argv)
{
	int in[2], out[2];

	check(!pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC), "pipe: %s", strerror(errno));
	v->pid = fork();
	check(v->pid >= 0, "fork: %s", strerror(errno));
	if (!v->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		execv(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	v->in = in[1];
	v->out = out[0];
	v->pidfd = syscall(SYS_pidfd_open, v->pid, 0);
	check(v->pidfd >= 0, "pidfd_open: %s", strerror(errno));
}

void victim_start(struct victim *v, const char *arg, ...)
{
	const char *argv[32];
	va_list args;
	int n = 1;

	va_start(args, arg);
	if (arg && arg[0] == '/') {
		argv[0] = arg;
		arg = va_arg(args, const char *);
	} else {
		argv[0] = victim_path("ubpf-victim");
	}
	for (; arg && n < 31; arg = va_arg(args, const char *))
		argv[n++] = arg;
	va_end(args);
	argv[n] = NULL;
	victim_exec(v, argv);
	check(!strncmp(victim_line(v), "ready", 5), "the victim did not start");
}

const char *victim_line(struct victim *v)
{
	static char line[256];
	size_t n = 0;

	for (;;) {
		struct pollfd pfd = { v->out, POLLIN, 0 };

		check(poll(&pfd, 1, PATIENCE_MS) == 1, "the victim does not answer (state %c)",
		      victim_state(v));
		if (read(v->out, line + n, 1) != 1)
			return "";
		if (line[n] == '\n' || n == sizeof(line) - 2)
			break;
		n++;
	}
	line[n] = '\0';
	return line;
}

void victim_tell(struct victim *v, const char *line)
{
	check(write(v->in, line, strlen(line)) == (ssize_t)strlen(line) &&
		      write(v->in, "\n", 1) == 1,
	      "the victim does not listen");
}

const char *victim_ask(struct victim *v, const char *command)
{
	victim_tell(v, command);
	return victim_line(v);
}

bool victim_alive(const struct victim *v)
{
	siginfo_t info = { 0 };

	return !waitid(P_PID, v->pid, &info, WEXITED | WNOHANG | WNOWAIT) && !info.si_pid;
}

char victim_state(const struct victim *v)
{
	char path[64], text[512], *p;
	_cleanup_close_ int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", v->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return '?';
	text[n] = '\0';
	p = strrchr(text, ')');
	return p && p[1] ? p[2] : '?';
}

void victim_reap(struct victim *v)
{
	kill(v->pid, SIGKILL);
	waitpid(v->pid, NULL, 0);
	close(v->pidfd);
	close(v->in);
	close(v->out);
}

void victim_end(struct victim *v)
{
	siginfo_t info = { 0 };

	waitid(P_PID, v->pid, &info, WEXITED | WNOHANG | WNOWAIT);
	check(!info.si_pid, "the victim died: %s %d",
	      info.si_code == CLD_EXITED ? "exit" : "signal", info.si_status);
	victim_reap(v);
}

/* --- images -------------------------------------------------------------------------------- */

/* mov $0, %eax; ret */
static u8 empty_bytes[] = { 0xb8, 0, 0, 0, 0, 0xc3 };
static struct ub_code empty_code = { .bytes = empty_bytes,
				     .size = sizeof(empty_bytes),
				     .clobbers = 1 };

static struct ub_program *empty_program(void)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	static struct ub_program *program;
	struct ub_reason why;

	if (!program)
		check(!ub_program_from_insns(insns, 2, &program, &why), "program: %s", why.text);
	return program;
}

const char *libc_file(void)
{
	Dl_info info;

	check(dladdr((void *)getpid, &info) && strchr(info.dli_fname, '/'), "where is libc?");
	return info.dli_fname;
}

/* File offset of a function by the file's symbol tables. */
static u64 symbol_offset(const char *path, const char *symbol)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	Elf_Scn *section = NULL;
	u64 value = 0, offset = 0;
	Elf *elf;
	size_t nr;

	elf_version(EV_CURRENT);
	elf = elf_begin(fd, ELF_C_READ, NULL);
	check(elf, "%s: not ELF", path);
	while (!value && (section = elf_nextscn(elf, section))) {
		Elf_Data *data;
		GElf_Shdr header;
		GElf_Sym sym;

		gelf_getshdr(section, &header);
		if (header.sh_type != SHT_SYMTAB && header.sh_type != SHT_DYNSYM)
			continue;
		data = elf_getdata(section, NULL);
		for (size_t i = 0; i < header.sh_size / header.sh_entsize; i++) {
			const char *name;

			gelf_getsym(data, i, &sym);
			name = elf_strptr(elf, header.sh_link, sym.st_name);
			if (name && !strcmp(name, symbol) && sym.st_shndx)
				value = sym.st_value;
		}
	}
	check(value, "%s: no symbol %s", path, symbol);
	elf_getphdrnum(elf, &nr);
	for (size_t i = 0; i < nr; i++) {
		GElf_Phdr header;

		gelf_getphdr(elf, i, &header);
		if (header.p_type == PT_LOAD && value >= header.p_vaddr &&
		    value < header.p_vaddr + header.p_filesz)
			offset = value - header.p_vaddr + header.p_offset;
	}
	elf_end(elf);
	check(offset, "%s: %s is nowhere in the file", path, symbol);
	return offset;
}

static struct ub_image *build_image(pid_t pid, const struct ub_image *current, const char *file,
				    const u64 *offsets, u32 nr)
{
	_cleanup_free_ struct ub_image_link *links = calloc(nr, sizeof(*links));
	static u32 generation;
	struct ub_image_request request = {
		.pid = pid,
		.nr_links = nr,
		.links = links,
		.nr_cpus = sysconf(_SC_NPROCESSORS_CONF),
		.tgid_in_client = pid,
		.generation = ++generation,
		.current = current,
	};
	struct ub_image *image = NULL;
	struct ub_reason why = { "" };
	struct stat st;
	int err;

	check(links && !stat(file, &st), "%s: %s", file, strerror(errno));
	for (u32 i = 0; i < nr; i++) {
		links[i] = (struct ub_image_link) {
			.point = { UB_POINT_ENTRY, st.st_dev, st.st_ino, offsets[i], 0 },
			.link_id = i + 1,
			.prog_id = 1,
			.program = empty_program(),
			.code = &empty_code,
		};
	}
	err = ub_image_build(&request, &image, &why);
	/* Others are busy with it, or it maps and unmaps code just now. */
	for (int i = 0; (err == -EBUSY || err == -EAGAIN) && i < 30000; i++) {
		usleep(1000);
		err = ub_image_build(&request, &image, &why);
	}
	if (err == -ESRCH || err == -ENOENT)
		return NULL;
	check(!err, "image: %s (%d)", why.text, err);
	return image;
}

struct ub_image *image_of(pid_t pid, const struct ub_image *current, const char *file,
			  const char *symbol, ...)
{
	u64 offsets[16];
	va_list args;
	u32 nr = 0;

	if (!file)
		file = libc_file();
	va_start(args, symbol);
	for (; symbol && nr < 16; symbol = va_arg(args, const char *))
		offsets[nr++] = symbol_offset(file, symbol);
	va_end(args);
	return build_image(pid, current, file, offsets, nr);
}

static int compare_u64(const void *a, const void *b)
{
	return *(const u64 *)a < *(const u64 *)b ? -1 : *(const u64 *)a > *(const u64 *)b;
}

struct ub_image *image_of_many(pid_t pid, u32 nr)
{
	_cleanup_close_ int fd = open(libc_file(), O_RDONLY | O_CLOEXEC);
	_cleanup_free_ u64 *offsets = NULL;
	Elf_Scn *section = NULL;
	u64 malloc_offset = libc_symbol("malloc");
	u32 nr_found = 0, kept = 0;
	Elf *elf;

	elf_version(EV_CURRENT);
	elf = elf_begin(fd, ELF_C_READ, NULL);
	check(elf, "%s: not ELF", libc_file());
	while ((section = elf_nextscn(elf, section))) {
		GElf_Shdr header;
		Elf_Data *data;
		size_t symbols;

		gelf_getshdr(section, &header);
		if (header.sh_type != SHT_DYNSYM)
			continue;
		data = elf_getdata(section, NULL);
		symbols = header.sh_size / header.sh_entsize;
		offsets = calloc(symbols + 1, sizeof(*offsets));
		for (size_t i = 0; i < symbols; i++) {
			GElf_Sym sym;

			gelf_getsym(data, i, &sym);
			/* Text lies in libc's file where it lies in memory. */
			if (GELF_ST_TYPE(sym.st_info) == STT_FUNC && sym.st_size >= 16)
				offsets[nr_found++] = sym.st_value;
		}
	}
	elf_end(elf);
	qsort(offsets, nr_found, sizeof(*offsets), compare_u64);
	for (u32 i = 0; i < nr_found; i++) {
		if (!kept || offsets[i] != offsets[kept - 1])
			offsets[kept++] = offsets[i];
	}
	check(kept >= nr, "libc has %u functions only", kept);
	for (u32 i = 0; i < nr; i++)
		offsets[i] = offsets[(u64)i * kept / nr];
	offsets[0] = malloc_offset;
	return build_image(pid, NULL, libc_file(), offsets, nr);
}

u64 libc_symbol(const char *symbol)
{
	return symbol_offset(libc_file(), symbol);
}

u64 image_first_site(const struct ub_image *image)
{
	check(image->nr_sites, "an image without sites");
	return image->sites[0].address;
}

u64 image_hits(const struct ub_image *image)
{
	u64 sum = 0;

	for (u32 id = 1; id <= 16; id++) {
		u64 hits = 0, misses = 0;

		ub_image_counters(image, id, &hits, &misses);
		sum += hits + misses;
	}
	return sum;
}

/* --- operations ---------------------------------------------------------------------------- */

u32 nr_too_late;

/* A thread that gets no CPU for seconds stops later. */
static bool may_try_again(int err, u32 *late)
{
	if (err == -ETIMEDOUT)
		nr_too_late++;
	return err == -EBUSY || (err == -ETIMEDOUT && (*late)++ < MAX_LATE);
}

int replace_patiently(struct victim *v, struct ub_image *old, struct ub_image *new,
		      struct ub_surgery *result, struct ub_reason *why)
{
	int err = ub_surgeon_replace(v->pid, v->pidfd, old, new, result, why);
	u32 late = 0;

	for (int i = 0; may_try_again(err, &late) && i < 30000; i++) {
		usleep(1000);
		err = ub_surgeon_replace(v->pid, v->pidfd, old, new, result, why);
	}
	return err;
}

void must_replace(struct victim *v, struct ub_image *old, struct ub_image *new,
		  struct ub_surgery *result)
{
	struct ub_surgery mine = { 0 };
	struct ub_reason why = { "" };
	int err, tries = 0;

	if (!result)
		result = &mine;
	err = replace_patiently(v, old, new, result, &why);
	check(!err, "replace: %s (%d)", why.text, err);
	while (result->removal == UB_REMOVED_LATER && tries++ < 3000) {
		usleep(10000);
		err = ub_surgeon_collect(v->pid, v->pidfd, old, result, &why);
		check(!err, "collect: %s (%d)", why.text, err);
	}
	check(result->removal == UB_REMOVED_CLEAN, "removal ended %d: %s", result->removal,
	      result->left.text);
}

/* Two that are alike, a while apart: threads that are being born have other signals blocked, and
 * memory that comes and goes. */
struct ub_residue *before(struct victim *v, unsigned int flags)
{
	struct ub_residue *snapshot;
	int err = ub_residue_snapshot(v->pid, flags, &snapshot);

	for (int i = 0; !err && i < 3000; i++) {
		usleep(10000);
		if (!ub_residue_touched(snapshot) &&
		    !ub_residue_check(v->pid, snapshot, flags, 0, NULL))
			break;
		ub_residue_free(snapshot);
		err = ub_residue_snapshot(v->pid, flags, &snapshot);
	}
	check(!err, "snapshot: %s", strerror(-err));
	return snapshot;
}

void must_be_clean(struct victim *v, struct ub_residue *snapshot, unsigned int flags)
{
	int nr = ub_residue_check(v->pid, snapshot, flags, PATIENCE_MS, stderr);

	check(!nr, "%d differences are left in the victim (state %c)", nr, victim_state(v));
}
