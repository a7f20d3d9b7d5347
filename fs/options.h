/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.h - the options of a mount, one table for -o, weightfs.conf and mount(8)
 */
#ifndef FS_OPTIONS_H
#define FS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "bind.h"
#include "weightfs/config.h"
#include "weightfs/replica.h"
#include "weightfs/store.h"

struct options {
	char *cache, *config, *cacert, *fsname, *hub, *run_as;
	struct wfs_strings base;
	unsigned serve;			/* 0, or OPTIONS_SERVE_LINK */
	unsigned ready;			/* enum wfs_ready, or OPTIONS_READY_AUTO */
	unsigned log_level;		/* enum wfs_log_level */
	unsigned poll_ms, read_timeout_ms, scrub_ms, linger_ms, join_ms;
	unsigned bind;			/* enum bind_mode */
	unsigned passthrough;		/* PASSTHROUGH_* */
	unsigned uid, gid, umask;
	unsigned keep_versions, workers;
	uint64_t rate, cache_size, min_free;
	bool lazy, allow_other, foreground, accept_run, show_code, noexec;
};

/* `complete`, except that the first version of an empty cache is shown at once. */
#define OPTIONS_READY_AUTO 3u
#define OPTIONS_SERVE_LINK 1u

/*
 * Defaults, then /etc/weightfs/weightfs.conf and ~/.config/weightfs/weightfs.conf (or only the file
 * of -o config=), then list.  mnt selects the section [mount "MNT"].  list may be NULL.
 * -EINVAL says what would be right.  On success options_free.
 */
int options_load(struct options *out, const char *list, const char *mnt, struct wfs_err *err);
/* The files that options_load reads: fn returns -ENOENT for one that is not there, which is an error only
 * for config (not NULL: only that one). */
int options_each_file(const char *config, int (*fn)(void *arg, const char *path, struct wfs_err *err), void *arg,
		      struct wfs_err *err);
void options_free(struct options *o);

void options_help(FILE *f);		/* one line an option */

/* What the store and the replica need of them; the strings stay o's. */
void options_store(struct wfs_store_opts *out, const struct options *o);
void options_replica(struct wfs_replica_opts *out, const struct options *o);
void options_bind(struct bind_opts *out, const struct options *o);

/* Make cache (filled in when empty), base and cacert absolute, so that the daemon may leave its
 * directory.  url keys the default cache. */
int options_resolve(struct options *o, const char *url, struct wfs_err *err);

#endif
