/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub.h - the versions once more, as a Hugging Face cache: HF_HUB_CACHE=MNT/hub
 *
 *   hub/models--ORG--NAME/refs/42                a file: the commit of version 42, 40 hex digits
 *   hub/models--ORG--NAME/refs/main              symlink to 42, answered per caller like `latest`
 *   hub/models--ORG--NAME/snapshots/<40 hex>     symlink to ../../../versions/42
 *
 * A commit is the first 40 digits of the version's digest.  Only refs/main depends on who asks, so
 * whoever resolved it once stays with one version by the path alone.
 */
#ifndef FS_HUB_H
#define FS_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ops.h"
#include "weightfs/buf.h"
#include "weightfs/err.h"

#define HUB_DIR_MAX 256u

struct dirbuf;
struct fs;

/* The directory's name for the option hub=ORG/NAME (-EINVAL: not a repository's name) or, when name is
 * NULL, for the last component of the store's URL; "" when that cannot be a name. */
int hub_dir(char out[HUB_DIR_MAX], const char *name, const char *store_url, struct wfs_err *err);

/* Is the inode one of hub/, itself included? */
bool hub_is(uint64_t ino);

int hub_stat(struct stat *st, fuse_req_t req, uint64_t ino);			/* -ESTALE */
int hub_lookup(uint64_t *ino, struct fs *fs, uint64_t parent, const char *name);	/* -ENOENT */
uint64_t hub_parent(uint64_t dir);
int hub_list(struct dirbuf *d, uint64_t dir, uint64_t off);
int hub_readlink(char *out, size_t cap, fuse_req_t req, uint64_t ino);		/* -EINVAL, -ENOENT, -ESTALE */
int hub_text(struct wfs_buf *out, struct fs *fs, uint64_t ino);			/* -EISDIR, -ESTALE */

#endif
