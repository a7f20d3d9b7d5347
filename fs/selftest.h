/* SPDX-License-Identifier: Apache-2.0 */
/*
 * selftest.h - a file whose bytes both ends of a test know
 *
 * The daemon writes it into the cache and registers it; somebody else reads it through the mount.  The
 * daemon answers no read of it: whoever gets its bytes got them from the kernel.
 */
#ifndef FS_SELFTEST_H
#define FS_SELFTEST_H

#include <stddef.h>
#include <stdint.h>

#include "weightfs/err.h"

#define SELFTEST_NAME	"self-test"		/* in MNT/.weightfs and CACHE/images */
#define SELFTEST_SIZE	20000u			/* ends inside a page */

/* Write it; a descriptor opened O_RDONLY. */
int selftest_make(const char *cache, uint64_t seed, struct wfs_err *err);
void selftest_remove(const char *cache);

/* Read and map path in every way that passes the kernel by different roads.  0, or a negative errno
 * with *step set. */
int selftest_read(const char *path, uint64_t seed, const char **step);

#endif
