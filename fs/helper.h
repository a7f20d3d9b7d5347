/* SPDX-License-Identifier: Apache-2.0 */
/*
 * helper.h - the one process that keeps privileges when root mounts
 *
 * The daemon parses bytes from the network.  What of its work needs CAP_SYS_ADMIN is done by this small
 * process, which it asks over a socket: mount, register a file of the cache with the kernel, raise
 * the readahead, unmount.  The helper knows mount point, cache and owner from before the daemon
 * had read a byte, takes nothing but numbers and descriptors from it, and ends with it.
 *
 * Calls may come from any thread; each takes some microseconds, mounting aside.
 */
#ifndef FS_HELPER_H
#define FS_HELPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "weightfs/err.h"

struct helper;

struct helper_conf {
	const char *point;		/* where to mount; real path */
	const char *source;		/* shown in the mount table */
	const char *cache;		/* directory; exists */
	const char *remove;		/* a socket to be removed at the end, if it is still that inode; may be NULL */
	ino_t remove_ino;
	uid_t owner;			/* of the cache's files: who the daemon is */
	bool allow_other, noexec;
};

/* Are we root, with the capability that it keeps? */
bool helper_possible(void);
/* Fork it.  To be called by root, before there are threads.  Borrows conf's strings until it returns. */
int helper_start(struct helper **out, const struct helper_conf *conf, struct wfs_err *err);
/* Hang up and wait for its end.  NULL is fine. */
void helper_stop(struct helper *h);

/* Mount; once.  The descriptor of the FUSE connection, the caller's to close. */
int helper_mount(struct helper *h, struct wfs_err *err);
/* Detach what helper_mount mounted, if it is still there. */
int helper_unmount(struct helper *h);

/* Let the kernel read fd, a complete image opened O_RDONLY, by itself: a backing id (above 0) or
 * -errno; -EACCES is the helper's own refusal.  fd stays the caller's and is not needed any more. */
int helper_backing_open(struct helper *h, int fd);
void helper_backing_close(struct helper *h, int id);	/* soon: it does not wait */

/*
 * What is done from outside of the daemon, by a process of its own.  seed 0: wait until the kernel has taken
 * the answer to INIT, and raise the readahead.  Else compare the file SELFTEST_NAME of the mount with
 * selftest.h's bytes of that seed.  Each once.  Returns a descriptor on which a struct helper_settled arrives.
 */
struct helper_settled {
	int read_ahead;			/* KiB in force; below 0: unknown */
	int test;			/* 0 or a negative errno */
	char step[32];			/* at which it failed */
};
int helper_settle(struct helper *h, uint64_t seed);

/* ---- for its own test ---- */

/* May the daemon's descriptor fd be registered?  images: the directory below which it must lie, on one
 * mount; owner: whose it must be.  0 or -EACCES. */
int helper_check(int fd, int images, uid_t owner);

#endif
