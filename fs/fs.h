/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs.h - what one mount consists of
 *
 * One struct fs a daemon, made in mount.c and handed to libfuse as its user data.  A read goes
 * ops.c (request) -> view.c (which file of which version) -> weightfs/replica.h (verified bytes).
 */
#ifndef FS_FS_H
#define FS_FS_H

#include <stdatomic.h>
#include <stdint.h>

#include "bind.h"
#include "hooktab.h"
#include "hub.h"
#include "options.h"
#include "tree.h"
#include "view.h"
#include "weightfs/replica.h"

/* Reads that wait for bytes hold memory of the kernel and ours: beyond this, -EAGAIN. */
#define FS_WAITERS_MAX 65536u
/* How often a read asks again when a block it waited for was found rotten meanwhile. */
#define FS_READ_TRIES 8u

struct fs {
	const struct options *opt;
	const char *store_url;		/* printable */
	const char *mnt;		/* real path */
	char hub_dir[HUB_DIR_MAX];	/* "models--ORG--NAME", or "": hub/ is empty */
	struct wfs_replica *replica;
	struct tree *tree;
	struct bind *bind;
	const struct privilege *priv;	/* who we are */
	struct hooktab *hooktab;	/* who was told which version */
	struct views *views;		/* every open file */
	struct passthrough *pass;
	struct modes *modes;		/* how each open inode is served */
	uint64_t start_ns;		/* wfs_now_ns when it was mounted */
	uint64_t start_wall_ns;
	struct waiting *waiting;	/* reads that wait for the replica */
	struct log_gate *gate;		/* at most so many lines about failed reads */
};

/* Append the status as one JSON object: mount, health, and what the replica says. */
int fs_status_json(struct fs *fs, struct wfs_buf *out);

/* The same of each file of a version, 0: the newest (status_files.c).  -ENOENT. */
int fs_files_json(struct fs *fs, struct wfs_buf *out, uint64_t sequence);
/* How file i is served: as it is open, *n_open times, or else as it would be. */
const char *fs_file_mode(struct fs *fs, struct wfs_model *m, size_t i, uint64_t ino, const struct wfs_file_status *st,
			 unsigned *n_open);

/* The list behind fs.waiting (ops_read.c). */
struct waiting *waiting_new(void);		/* NULL: out of memory */
void waiting_free(struct waiting *all);
unsigned waiting_count(struct waiting *all);

/* Log lines that a broken store could repeat for every read: a burst, then a count. */
struct log_gate *log_gate_new(void);
void log_gate_free(struct log_gate *g);
__attribute__((format(printf, 2, 3)))
void log_gate_err(struct log_gate *g, const char *fmt, ...);

#endif
