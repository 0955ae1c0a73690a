/* SPDX-License-Identifier: MIT */
/*
 * Locals that clean themselves up. A local marked _cleanup_free_ or _cleanup_close_ is released
 * when it goes out of scope; TAKE_PTR and TAKE_FD move it out, leaving NULL or -1 behind.
 */
#ifndef UB_COMMON_CLEANUP_H
#define UB_COMMON_CLEANUP_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void ub_cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void ub_cleanup_close(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;

		close(*fd);
		errno = saved;
	}
}

static inline void ub_cleanup_fclose(FILE **file)
{
	if (*file)
		fclose(*file);
}

#define _cleanup_free_	 __attribute__((cleanup(ub_cleanup_free)))
#define _cleanup_close_	 __attribute__((cleanup(ub_cleanup_close)))
#define _cleanup_fclose_ __attribute__((cleanup(ub_cleanup_fclose)))
#define _cleanup_(f)	 __attribute__((cleanup(f)))

#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__typeof__(p) taken_ = (p);                                                        \
		(p) = NULL;                                                                        \
		taken_;                                                                            \
	})

#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int taken_ = (fd);                                                                 \
		(fd) = -1;                                                                         \
		taken_;                                                                            \
	})

#endif
