/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hooktab.h - what the daemon knows of hooks: who was told which version, and holds it
 *
 * The version that an engine was told stays until it is told the next one: it may be asked for again
 * by path.  So a hook holds a reference to it, and the list of holds is kept in the cache
 * (CACHE/hooks), so that they outlive hooks and daemon.  Any thread may call.
 */
#ifndef FS_HOOKTAB_H
#define FS_HOOKTAB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "weightfs/buf.h"
#include "weightfs/replica.h"

struct hooktab;

/* Reads CACHE/hooks and holds what it names; before the replica is started.  -ENOMEM. */
int hooktab_open(struct hooktab **out, struct wfs_replica *r, const char *cache, struct wfs_err *err);
void hooktab_close(struct hooktab *t);		/* NULL is fine */

/* weightfs hooks has come, with these hooks (names with spaces between): others are forgotten.
 * -EBUSY: another one runs.  -EINVAL. */
int hooktab_attach(struct hooktab *t, const char *names, pid_t pid, struct wfs_err *err);
void hooktab_detach(struct hooktab *t);

/* -ENOENT: no such hook. */
int hooktab_known(struct hooktab *t, const char *name);
int hooktab_begin(struct hooktab *t, const char *name, struct wfs_model *m);	/* it is being told m: hold it */
int hooktab_told(struct hooktab *t, const char *name, uint64_t sequence);
int hooktab_failed(struct hooktab *t, const char *name, const char *why);
/* The version it was told last; NULL: none that is still here.  The caller puts it. */
struct wfs_model *hooktab_last(struct hooktab *t, const char *name);

void hooktab_save(struct hooktab *t);		/* what changed; once a second, not from the control thread */
/* Append a JSON array (weightfs(1), "Status"). */
int hooktab_status(struct hooktab *t, struct wfs_buf *out);

#endif
