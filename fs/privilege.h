/* SPDX-License-Identifier: Apache-2.0 */
/*
 * privilege.h - who the daemon is when root mounts, and how it stops being root
 *
 * choose says who; prepare, still as root, gives that user the cache and finds out what the user may not
 * read; drop, before there are threads and after what needs root is done, cannot be undone.
 * Where an ordinary user mounts nothing changes, and nothing is confined: that daemon unmounts by
 * a set-uid program.
 */
#ifndef FS_PRIVILEGE_H
#define FS_PRIVILEGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "options.h"

struct privilege {
	uid_t uid;			/* who the daemon is */
	gid_t gid;
	char name[64];			/* of uid; its number where it has none */
	bool drop;			/* we are root, and uid is not */
	bool reads_all;			/* keeps CAP_DAC_READ_SEARCH, in a Landlock domain */
	bool landlock;			/* confined; known after drop */
	const char *store;		/* the directory of the store, NULL when it is none; known after prepare */
};

/*
 * run_as NULL: for root the owner of an existing cache, else the user weightfs, else nobody; where this
 * process cannot become another user, root, with one line in the log.
 * -EPERM: run_as of an ordinary user, or it cannot be; -ENOENT: no such user.
 */
int privilege_choose(struct privilege *p, const struct options *o, struct wfs_err *err);
/* -EACCES: the user cannot read what it must, and the kernel has no Landlock. */
int privilege_prepare(struct privilege *p, const struct options *o, const struct wfs_store *store, struct wfs_err *err);
int privilege_drop(struct privilege *p, const struct options *o, struct wfs_err *err);

/* For a command that root runs on a cache: become its owner.  1: did so, and the cache is the working
 * directory, because its owner may not find the way there; 0: nothing has changed. */
int privilege_as_owner(const char *cache, struct wfs_err *err);

bool privilege_has_cap(int cap);	/* effective, of this thread */
/* Drop every capability but those of the mask, for good, and the way to new ones.  -errno. */
int privilege_keep_caps(uint64_t mask);

#endif
