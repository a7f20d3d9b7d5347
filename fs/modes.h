/* SPDX-License-Identifier: Apache-2.0 */
/*
 * modes.h - how an inode is served, from its first open to its last release
 *
 * The kernel allows one way at a time: an open answered in the other is EIO for its caller.  So the first
 * open decides (complete: by the kernel; else by the daemon), the others follow, and the next
 * choice comes after the last release, as seen here: the kernel lets go before it tells us.
 * Any thread may call.
 */
#ifndef FS_MODES_H
#define FS_MODES_H

#include <stddef.h>
#include <stdint.h>

#include "passthrough.h"
#include "weightfs/replica.h"

struct modes;
struct modes *modes_new(struct passthrough *p);		/* NULL: out of memory */
void modes_free(struct modes *ms);			/* NULL is fine */

/* Count an open of ino, which is file i of m.  The backing id to answer it with; 0: the daemon serves
 * it; -ENOMEM.  Each must be followed by one modes_leave. */
int modes_enter(struct modes *ms, uint64_t ino, struct wfs_model *m, size_t i);
void modes_leave(struct modes *ms, uint64_t ino);

/* How many opens of ino there are, and whether the kernel serves them. */
unsigned modes_get(struct modes *ms, uint64_t ino, bool *passthrough);

#endif
