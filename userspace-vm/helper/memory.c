// SPDX-License-Identifier: MIT
/*
 * Helpers that read and write the process's memory. A program gives any address; the process must
 * not notice. Plain loads are used only where the memory can't go away in the middle: the page that
 * the stack pointer of the probed code is in, our own frames up to struct ub_run, and ranges that
 * the daemon listed as never unmapped. All else goes through process_vm_readv(2) on the process
 * itself, which fails with EFAULT instead of faulting. Looking first and loading then would be a
 * race with munmap(2). Freestanding.
 */
#include <helper/internal.h>

#define PAGE	      4096ull
#define USER_TOP      0x00007ffffffff000ull
#define STR_CHUNK     256
#define MAX_OWN_STACK 16384

struct kernel_iovec {
	u64 base;
	u64 len;
};

static bool is_within(u64 address, u64 size, u64 start, u64 end)
{
	return address >= start && address < end && size <= end - address;
}

static bool is_safe(const struct ub_run *run, u64 address, u64 size)
{
	const struct ub_safe_ranges *ranges;
	u64 frame = (u64)__builtin_frame_address(0) & ~(PAGE - 1), end = (u64)(run + 1);
	u64 sp = run->user_sp & ~(PAGE - 1);

	if (is_within(address, size, frame, frame + PAGE))
		return true;
	if (end > frame && end - frame <= MAX_OWN_STACK && is_within(address, size, frame, end))
		return true;
	if (sp && is_within(address, size, sp, sp + PAGE))
		return true;
	if (!run->process || !run->process->safe_ranges)
		return false;
	ranges = (const void *)run->process->safe_ranges;
	for (u32 i = 0; i < ranges->nr; i++) {
		if (is_within(address, size, ranges->range[i].start, ranges->range[i].end))
			return true;
	}
	return false;
}

/* From what @is_safe. A string's piece may reach beyond the variable that it is in, which ASan, where it watches the
 * process itself, would take for an error. */
static void copy_safe(void *into, u64 address, u64 size)
{
#ifdef __SANITIZE_ADDRESS__
	__asm__ volatile("rep movsb" : "+D"(into), "+S"(address), "+c"(size) : : "memory");
#else
	ub_mem_copy(into, (const void *)address, size);
#endif
}

int ub_memory_read(struct ub_run *run, void *into, u64 address, u64 size)
{
	struct kernel_iovec local = { (u64)into, size }, remote = { address, size };

	if (!size)
		return 0;
	if (address >= USER_TOP || size > USER_TOP - address)
		return -EFAULT;
	if (is_safe(run, address, size)) {
		copy_safe(into, address, size);
		return 0;
	}
	if (sys_call(run, SYS_process_vm_readv, ub_run_own_pid(run), (u64)&local, 1, (u64)&remote,
		     1, 0) != (long)size)
		return -EFAULT;
	return 0;
}

/* Zeroes what could not be read, then returns @error. */
static u64 read_or_zero(struct ub_run *run, u64 to, u64 size, u64 from, long error)
{
	if (!ub_memory_read(run, (void *)to, from, (u32)size))
		return 0;
	ub_mem_zero((void *)to, (u32)size);
	return (u64)error;
}

/*
 * Writes the string of @size bytes at most, NUL included. With @words what is behind the NUL in its
 * word is zeroed, as far as it is readable in the source: strncpy_from_user() copies words, and
 * programs use what it leaves as keys. Returns as that does.
 */
static long read_string(struct ub_run *run, char *to, u64 size, u64 from, bool words)
{
	char chunk[STR_CHUNK];
	u64 done = 0;

	while (done < size) {
		u64 n = PAGE - (from + done) % PAGE;

		n = n < STR_CHUNK ? n : STR_CHUNK;
		n = n < size - done ? n : size - done;
		if (ub_memory_read(run, chunk, from + done, n))
			return -EFAULT;
		for (u64 i = 0; i < n; i++) {
			u64 at = done + i, word = at & ~7ull;

			to[at] = chunk[i];
			if (chunk[i])
				continue;
			if (words && word + 8 <= size &&
			    (word + 8 <= done + n || !ub_memory_read(run, chunk, from + word, 8)))
				ub_mem_zero(to + at, word + 8 - at);
			return (long)(at + 1);
		}
		done += n;
	}
	to[size - 1] = 0;
	return (long)size;
}

static u64 read_user_string(struct ub_run *run, u64 to, u64 size, u64 from)
{
	long n;

	size = (u32)size;
	if (!size)
		return 0;
	n = read_string(run, (char *)to, size, from, true);
	if (n < 0)
		ub_mem_zero((void *)to, size);
	return (u64)n;
}

HELPER(probe_read)
{
	return read_or_zero(run_, r1, r2, r3, -EFAULT);
}

HELPER(probe_read_user)
{
	return read_or_zero(run_, r1, r2, r3, -EFAULT);
}

/*
 * A program's own memory (maps, stack) is the process's: the same reading serves, of all that is
 * the process's. What the kernel would not even try gets the kernel's answer.
 */
static long kernel_error(u64 from)
{
	return (s64)from >> 47 == -1 ? -EFAULT : -ERANGE;
}

HELPER(probe_read_kernel)
{
	return read_or_zero(run_, r1, r2, r3, kernel_error(r3));
}

HELPER(copy_from_user)
{
	return read_or_zero(run_, r1, r2, r3, -EFAULT);
}

/* The only task that a program gets hold of is the one that runs it. */
HELPER(copy_from_user_task)
{
	if (r5)
		return (u64)-EINVAL;
	return read_or_zero(run_, r1, r2, r3, -EFAULT);
}

HELPER(probe_read_str)
{
	return read_user_string(run_, r1, r2, r3);
}

HELPER(probe_read_user_str)
{
	return read_user_string(run_, r1, r2, r3);
}

HELPER(probe_read_kernel_str)
{
	u64 size = (u32)r2;
	long n;

	if (!size)
		return 0;
	n = read_string(run_, (char *)r1, size, r3, false);
	if (n >= 0)
		return (u64)n;
	ub_mem_zero((void *)r1, size);
	return (u64)kernel_error(r3);
}

HELPER(probe_write_user)
{
	struct kernel_iovec local = { r2, (u32)r3 }, remote = { r1, (u32)r3 };

	if (r1 >= USER_TOP || remote.len > USER_TOP - r1)
		return (u64)-EFAULT;
	if (sys_call(run_, SYS_process_vm_writev, ub_run_own_pid(run_), (u64)&local, 1,
		     (u64)&remote, 1, 0) != (long)remote.len)
		return (u64)-EFAULT;
	return 0;
}
