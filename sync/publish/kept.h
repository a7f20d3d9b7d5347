/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kept.h - which versions gc keeps, and all that these need
 */
#ifndef WFS_PUBLISH_KEPT_H
#define WFS_PUBLISH_KEPT_H

#include "publish/mark.h"
#include "weightfs/gc.h"

struct wfs_kept {
	struct wfs_store *store;
	const struct wfs_gc_opts *o;
	struct wfs_run run;
	struct wfs_marks marks;
	uint64_t now_ns;
	uint64_t *commits;		/* all sequences, rising */
	size_t n_commits, cap;
	size_t first;			/* the oldest kept one of them */
	struct wfs_err *err;
};

/* Look at the store, which may change meanwhile: then -EBADMSG may only mean that another gc is at work.
 * Free k in any case. */
int wfs_kept_find(struct wfs_kept *k, struct wfs_store *store, const struct wfs_gc_opts *o, struct wfs_err *err);

/* For who holds the lock: versions published since are kept too.  -ESTALE, without a message: a version
 * that was to be kept is gone, or the store is another one. */
int wfs_kept_catch_up(struct wfs_kept *k);
/* For marks made outside of gc: how what the oldest version lies upon may be reached, where an earlier gc has left
 * no more than that. */
int wfs_kept_shortcuts(struct wfs_marks *m, const struct wfs_version *oldest, struct wfs_err *err);
void wfs_kept_free(struct wfs_kept *k);

#endif
