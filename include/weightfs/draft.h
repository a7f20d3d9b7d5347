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

/*
 * The way back.  An undo is a table of a file against a later version, with its stored bytes, kept in the
 * cache: wfs_model_peek reads the older file by it.
 */
struct wfs_undo;
/* This replica keeps undo tables: before anything is planned. */
int wfs_undo_begin(struct wfs_replica *r, struct wfs_err *err);
int wfs_undo_new(struct wfs_undo **out, struct wfs_replica *r, struct wfs_err *err);
/* The table's one pack, in order. */
int wfs_undo_write(struct wfs_undo *u, const void *data, size_t len, struct wfs_err *err);
/* For the file that `primary` names.  Frees u, also on error. */
int wfs_undo_commit(struct wfs_undo *u, const struct wfs_digest *primary, const struct wfs_buf *table,
		    struct wfs_err *err);
void wfs_undo_abort(struct wfs_undo *u);		/* NULL is fine */
/* Those of all other files go with the next wfs_replica_keep_only. */
void wfs_undo_keep(struct wfs_replica *r, const struct wfs_digest *keep, size_t n);

/* Drop every image and object that m does not need (the publisher keeps one version). */
int wfs_replica_keep_only(struct wfs_replica *r, struct wfs_model *m, struct wfs_err *err);

#endif
