/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree.h - names and inode numbers of the versions
 *
 * The tree of a version is made at its first lookup from the version's list of files, and kept
 * while the version is shown or the kernel remembers one of its inodes.  It holds names and sizes,
 * no model: so it does not keep a version from being evicted.  Inode numbers are a hash of the
 * version's digest and the path: the same in every mount, never reused.  Any thread may call.
 */
#ifndef FS_TREE_H
#define FS_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "weightfs/digest.h"
#include "weightfs/err.h"
#include "weightfs/limits.h"
#include "weightfs/version.h"

/* Names that every mount has, and hub.c's two for each version from INO_HUB_VERSION on.  Hashed
 * numbers are never below INO_HASHED. */
enum {
	INO_ROOT = 1, INO_LATEST, INO_VERSIONS, INO_INFO, INO_STATUS, INO_PROGRAM, INO_TEST,
	INO_HUB = 10, INO_HUB_MODEL, INO_HUB_REFS, INO_HUB_SNAPSHOTS, INO_HUB_MAIN, INO_HUB_VERSION,
};
#define INO_HASHED (1ull << 55)		/* sequences are below 2^53 */

struct node {
	uint64_t ino, size, time_ns, sequence;
	struct wfs_digest version;
	bool dir, link;			/* link: the version itself, as a symbolic link */
	uint32_t nlink;
	uint32_t file;			/* index into wfs_version.files, unless dir */
};

struct tree;
typedef uint64_t tree_hash_fn(const void *data, size_t len);

/* hash: wfs_xxh3, except in tests of collisions.  NULL: out of memory. */
struct tree *tree_new(bool show_code, tree_hash_fn *hash);
void tree_free(struct tree *t);

/* Directory of a version, or (link) the symbolic link that it is shown as, which has a number of its own;
 * counts one lookup.  -ENOMEM. */
int tree_lookup_version(struct tree *t, const struct wfs_version *v, const struct wfs_digest *id, bool link,
			struct node *out);
/* A name in a directory; counts one lookup.  -ENOENT, -ESTALE. */
int tree_lookup(struct tree *t, uint64_t dir, const char *name, struct node *out);
/* An inode that the kernel holds.  -ESTALE: its version has left. */
int tree_get(struct tree *t, uint64_t ino, struct node *out);
/* i-th entry of a directory; counts one lookup when asked.  -ENOENT past the end, -ESTALE. */
int tree_child(struct tree *t, uint64_t dir, size_t i, bool count, char name[WFS_NAME_LEN_MAX + 1],
	       struct node *out);
/* Inode numbers of a version's n files, by index; 0: it has none yet. */
void tree_files(struct tree *t, const struct wfs_digest *version, uint64_t *inos, size_t n);
uint64_t tree_parent(struct tree *t, uint64_t ino);	/* INO_VERSIONS above a version */

void tree_forget(struct tree *t, uint64_t ino, uint64_t n);
void tree_left(struct tree *t, uint64_t sequence);	/* the version is not shown any more */

#endif
