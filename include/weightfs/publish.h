/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish.h - a model directory becomes the next version of a store
 *
 * Streams: memory does not depend on the model's size.  Nothing a reader sees changes before the
 * commit; killed at any instant, the store is as it was, plus unreferenced objects.
 * Every stored block was decoded again and compared with the directory's bytes.
 */
#ifndef WEIGHTFS_PUBLISH_H
#define WEIGHTFS_PUBLISH_H

#include "weightfs/config.h"
#include "weightfs/err.h"
#include "weightfs/replica.h"
#include "weightfs/store.h"
#include "weightfs/version.h"

#define WFS_ANCHOR_LIMIT 1500u		/* of a packed bf16 model: what the plain files would be */

struct wfs_publish_opts {
	const char *label;		/* may be NULL */
	const char *previous;		/* directory that equals the store's last version; NULL: use cache */
	const char *cache;		/* directory for the last version's image; NULL: a place in
					 * the user's cache directory */
	struct wfs_strings include, exclude;	/* globs on relative paths, fnmatch(3) */
	bool allow_empty;		/* commit although nothing changed */
	bool full;			/* store this version in full too (an anchor) */
	bool plain;			/* what is stored in full is stored as it is: models/<sequence> */
	unsigned anchor_limit;		/* thousandths of a full copy that a reader without anything may
					 * fetch before there is an anchor; 0: WFS_ANCHOR_LIMIT */
	uint64_t strides[WFS_STRIDES_MAX];	/* at multiples of these also deltas from so far back;
					 * rising from 2, each divides the next */
	unsigned n_strides;
	unsigned workers;		/* 0: one a core */
	struct wfs_lock lock;		/* how it waits for a gc, or another publisher; not `gc' */
};

struct wfs_publish_result {
	uint64_t sequence;		/* of the new version, or the last one when unchanged */
	bool unchanged;
	uint64_t size;			/* bytes of the version's files */
	uint64_t travel;		/* what a reader one version behind fetches */
	uint64_t store_growth;		/* bytes added to the store */
	uint64_t n_files, changed_bytes;	/* changed_bytes: bytes in elements that differ */
	uint64_t strides;		/* of the growth: deltas from further back than the parent */
	bool anchor;
};

/* -EBUSY: the directory is being written, or a gc or another publisher holds the store; -EEXIST: another
 * publisher committed first (nothing changed; run again); -EBADMSG: the directory is not a sound
 * model; -ECANCELED. */
int wfs_publish(struct wfs_store *store, const char *dir, const struct wfs_publish_opts *opts,
		struct wfs_publish_result *out, const struct wfs_progress *progress,
		struct wfs_err *err);

#endif
