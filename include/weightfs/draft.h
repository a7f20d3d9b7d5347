/* SPDX-License-Identifier: Apache-2.0 */
/*
 * draft.h - an image written by the publisher, before its table (and so its name) exists
 *
 * The next publish diffs against it instead of building the last version from the store.
 */
#ifndef WEIGHTFS_DRAFT_H
#define WEIGHTFS_DRAFT_H

#include "weightfs/digest.h"
#include "weightfs/err.h"
#include "weightfs/replica.h"

struct wfs_draft;

/* A file of `size` bytes in the replica's cache.  -ENOSPC when the cache has no room. */
int wfs_draft_new(struct wfs_draft **out, struct wfs_replica *r, uint64_t size, struct wfs_err *err);

/* Block i in full (its length follows from the size).  Each block once; different blocks may be
 * written by different threads at the same time.  Blocks of zeros become holes. */
int wfs_draft_write(struct wfs_draft *d, uint32_t i, const void *data, size_t len, struct wfs_err *err);

/* All blocks were written: it is now the complete image of that table.  Frees d, also on error. */
int wfs_draft_commit(struct wfs_draft *d, const struct wfs_digest *table, struct wfs_err *err);
void wfs_draft_abort(struct wfs_draft *d);		/* NULL is fine */

/* Drop every image and object that m does not need (the publisher keeps one version). */
int wfs_replica_keep_only(struct wfs_replica *r, struct wfs_model *m, struct wfs_err *err);

#endif
