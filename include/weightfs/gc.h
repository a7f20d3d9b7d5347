/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gc.h - drop what no kept version needs from a store
 *
 * Kept are the newest `keep` versions, and older ones while the version that put them out of that number
 * is younger than `grace`; with them all that a reader needs to build them from nothing.  Removed are
 * the other commits, and objects that nothing kept names and that are older than `grace` themselves.
 *
 * Readers and publishers may be at work.  Readers see versions vanish from the old end, and plan anew when an
 * object is gone.  The store's lock is held for about a second at a time while things are removed; versions
 * published meanwhile are kept.  Killed at any instant, the store is sound, and the next run goes on.
 */
#ifndef WEIGHTFS_GC_H
#define WEIGHTFS_GC_H

#include <stdatomic.h>

#include "weightfs/err.h"
#include "weightfs/store.h"
#include "weightfs/version.h"

struct wfs_gc_opts {
	uint64_t keep;			/* at least 1 */
	uint64_t grace_ns;
	bool dry_run;			/* count only; takes no lock */
	struct wfs_lock lock;		/* how it waits for a publisher, or another gc: wait_ns, tell */
	const atomic_bool *cancel;	/* may be NULL */
};

struct wfs_gc_result {
	uint64_t newest, oldest;	/* kept */
	uint64_t versions, objects, bytes;	/* removed; objects: all names, the commits too */
	uint64_t kept_objects, kept_bytes;
};

/* -ENOENT: nothing is published.  -EBUSY: a publisher was at work for as long as it waits; what was removed
 * before stays removed.  -EOPNOTSUPP: not a directory.  -EBADMSG: a kept version is damaged; nothing was removed.  -ECANCELED. */
int wfs_gc(struct wfs_store *store, const struct wfs_gc_opts *o, struct wfs_gc_result *out, struct wfs_err *err);

/*
 * What versions are built from, for those who check a store.  Where gc has been, that is more than what the
 * versions name, and not all of what was there: how gc went is told by the oldest version that has a commit.
 */
struct wfs_needs;
int wfs_needs_begin(struct wfs_needs **out, struct wfs_store *store, const atomic_bool *cancel, struct wfs_err *err);
void wfs_needs_end(struct wfs_needs *n);			/* NULL is fine */
/* Before the first file.  -EBADMSG: a version object before it is damaged. */
int wfs_needs_oldest(struct wfs_needs *n, const struct wfs_version *oldest, struct wfs_err *err);
/* Reads tables from the store.  -EBADMSG: one is damaged or missing; the rest is still found for other files. */
int wfs_needs_file(struct wfs_needs *n, const struct wfs_file *f, struct wfs_err *err);
/* All tables so far, in any order, until fn returns something else than 0. */
int wfs_needs_each(const struct wfs_needs *n, int (*fn)(void *arg, const struct wfs_digest *table), void *arg);

#endif
