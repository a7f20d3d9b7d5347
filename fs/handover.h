/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handover.h - whose a cache is
 */
#ifndef FS_HANDOVER_H
#define FS_HANDOVER_H

#include <sys/types.h>

#include "weightfs/err.h"

/*
 * For root: make the cache directory (and those above it, open to all to pass), or see that it is the
 * user's.  One that is root's, and empty or a cache, is given to the user with what is in it; so is
 * one of anybody to root.  May be called again after it was interrupted.
 * -EPERM: it is another's, or holds what is no cache's, or files that have other names elsewhere;
 * -EBUSY: a process uses it.
 */
int handover_cache(const char *cache, uid_t uid, gid_t gid, struct wfs_err *err);

#endif
