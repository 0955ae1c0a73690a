// SPDX-License-Identifier: MIT
#include <hook/memfd.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <common/cleanup.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

int ub_memfd(const char *name, bool executable)
{
	/* Kernels before 6.3 do not know the flags about execution, later ones may insist on
	 * one. */
	const u32 flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd = memfd_create(name, flags | (executable ? MFD_EXEC : MFD_NOEXEC_SEAL));

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, flags);
	return fd < 0 ? -errno : fd;
}

int ub_memfd_sealed(const char *name, const void *bytes, u64 size, u64 rounded)
{
	_cleanup_close_ int fd = ub_memfd(name, !strcmp(name, UB_NAME_PREFIX "code"));
	u64 done = 0;

	if (fd < 0)
		return fd;
	if (ftruncate(fd, (off_t)rounded))
		return -errno;
	while (done < size) {
		ssize_t n = pwrite(fd, (const u8 *)bytes + done, size - done, (off_t)done);

		if (n < 0)
			return -errno;
		done += (u64)n;
	}
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
		return -errno;
	return TAKE_FD(fd);
}
