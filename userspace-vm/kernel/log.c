// SPDX-License-Identifier: MIT
/* The log buffer that BPF_PROG_LOAD and BPF_BTF_LOAD fill: kernel/bpf/log.c. */
#include <kernel/kinds.h>

#include <stdarg.h>
#include <string.h>

#define LOG_LEVELS 3u /* BPF_LOG_LEVEL1 | BPF_LOG_LEVEL2 */
#define LOG_STATS  4u
#define LOG_FIXED  8u

int ub_log_init(struct ub_log *log, u32 level, u64 address, u32 size)
{
	*log = (struct ub_log) {
		.level = level, .fixed = level & LOG_FIXED, .address = address, .size = size
	};
	if (!!address != !!size || (address && !level))
		return -EINVAL;
	if (level & ~(LOG_LEVELS | LOG_STATS | LOG_FIXED))
		return -EINVAL;
	if (size > UB_MAX_LOG)
		return -EINVAL;
	return 0;
}

void ub_log_write(void *opaque, const char *text, size_t size)
{
	struct ub_log *log = opaque;
	size_t keep;

	if (!log->level)
		return;
	log->total += size;
	if (!log->size)
		return;
	if (log->fixed && log->used + size > log->size)
		size = log->size - log->used;
	/* Only the last size bytes count. The buffer grows to twice that, then is shifted down. */
	if (size > log->size) {
		text += size - log->size;
		size = log->size;
	}
	if (!log->text || log->used + size > (size_t)log->size * 2) {
		keep = log->used > log->size ? log->size : log->used;
		if (log->text && log->used > keep)
			memmove(log->text, log->text + log->used - keep, keep);
		log->used = keep;
	}
	if (!(log->used & (log->used + size) & ~(size_t)4095) || !log->text ||
	    (log->used >> 12) != ((log->used + size) >> 12)) {
		char *grown = realloc(log->text, ((log->used + size) | 4095) + 1);

		if (!grown)
			return;
		log->text = grown;
	}
	memcpy(log->text + log->used, text, size);
	log->used += size;
}

void ub_log_printf(struct ub_log *log, const char *fmt, ...)
{
	char line[1024];
	va_list args;
	int size;

	va_start(args, fmt);
	size = vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	if (size > 0)
		ub_log_write(log, line,
			     (size_t)size < sizeof(line) ? (size_t)size : sizeof(line) - 1);
}

int ub_log_finish(struct ub_log *log, struct ub_caller *caller, u32 *true_size)
{
	size_t room, start = 0;
	int err;

	*true_size = 0;
	if (!log->level)
		return 0;
	*true_size = log->total + 1 > UINT32_MAX ? UINT32_MAX : (u32)log->total + 1;
	if (!log->size)
		return 0;
	room = log->size - 1; /* without the NUL */
	if (log->used > room) {
		start = log->fixed ? 0 : log->used - room;
		log->used = start + room;
	}
	if (log->used > start) {
		err = caller->write(caller, log->address, log->text + start, log->used - start);
		if (err)
			return -EFAULT;
	}
	err = caller->write(caller, log->address + log->used - start, "", 1);
	if (err)
		return -EFAULT;
	return log->total + 1 > log->size ? -ENOSPC : 0;
}

void ub_log_exit(struct ub_log *log)
{
	free(log->text);
	log->text = NULL;
}
