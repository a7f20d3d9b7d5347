/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.h - the mount's housekeeping thread
 *
 * It ends bindings, forgets versions that left (here and in the kernel's name cache), and settles
 * the mount once it is up.  The kernel may hold a notification back until a
 * request is answered, so it must not come from a thread that answers requests, nor from one of the
 * replica's.
 */
#ifndef FS_KEEPER_H
#define FS_KEEPER_H

#include <stdint.h>

#include "fs.h"

struct keeper;

struct keeper_hooks {
	void (*left)(void *arg, uint64_t sequence);	/* tell the kernel */
	void (*sweep)(void *arg);			/* once a second */
	void (*up)(void *arg);				/* the mount answers */
	void *arg;
};

/* Starts the thread. */
int keeper_start(struct keeper **out, struct fs *fs, const struct keeper_hooks *hooks,
		 struct wfs_err *err);
void keeper_init_seen(struct keeper *k);	/* the kernel has said hello */
/* The version has left; or (not gone) it is a link now and no directory, or the other way round: then
 * who is in the directory can go on there. */
void keeper_left(struct keeper *k, uint64_t sequence, bool gone);

/* No hook runs after this returns (one that the kernel holds is given up on after a second). */
void keeper_quiet(struct keeper *k);
void keeper_stop(struct keeper *k);		/* joins; NULL is fine */

#endif
