/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.h - the Unix socket of a mount: one line in, one line of JSON out
 *
 *   status            the status object
 *   wait N MS         {"newest":S} once a version above N is shown; {"newest":S,"timeout":true} after MS
 *   events N          a line for each version above N from now on, the newest one first, if it is;
 *                     {"event":"end"} when the mount ends
 *   hooks NAME...     {"ok":true}: the caller runs these hooks until it closes; for owner and root
 *   hook NAME ...     what weightfs hooks says of one: control_hooks.c
 *   poke              look at the store now
 *   pin N, unpin N    keep version N from being evicted, or no longer; for its owner and root
 *   stop              end the mount, as SIGTERM does; for its owner and root
 *
 * A refusal is {"error":"..."}.  The socket is in the runtime directory of the mount's owner, named by
 * a hash of the mount point, and is never behind a reader of the mount.
 */
#ifndef FS_CONTROL_H
#define FS_CONTROL_H

#include <limits.h>
#include <sys/types.h>

#include "fs.h"

struct control;

/* Listen, with the rights that we still have: fs->mnt is known, the rest of fs comes later. */
int control_listen(struct control **out, struct fs *fs, struct wfs_err *err);
/* Name and inode of the socket, for whoever is to remove it when we may not. */
const char *control_socket(const struct control *c, ino_t *ino);
/* Serve from a thread of its own.  stop is called, once, for "stop" and for SIGTERM,
 * SIGINT and SIGHUP, which must be blocked in every thread. */
int control_start(struct control *c, void (*stop)(void *arg, const char *why), void *arg, struct wfs_err *err);
void control_stop(struct control *c);		/* NULL is fine */
void control_shown(struct control *c);		/* started; something was shown: look at who waits */

/* Where the socket of a mount owned by uid may be; i-th choice, -ENOENT past the last. */
int control_path(char out[PATH_MAX], const char *mnt, uid_t uid, unsigned i);

#endif
