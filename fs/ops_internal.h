/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_internal.h - what the files of callbacks share
 */
#ifndef FS_OPS_INTERNAL_H
#define FS_OPS_INTERNAL_H

#include <sys/stat.h>

#include "fs.h"
#include "ops.h"

#define FOREVER		1e9		/* seconds */
#define BLKSIZE		4096		/* O_DIRECT readers align to st_blksize */

static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline struct bind_key caller(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct bind_key key = bind_caller(fs_of(req)->bind, ctx->pid);

	key.user = ctx->uid;
	return key;
}

/* Names outside the versions are asked for every time. */
static inline bool ops_changes(uint64_t ino)
{
	return ino < INO_HASHED;
}

/* How long the kernel may keep attributes.  Of the root and of versions/, which every walk passes, until a
 * version comes or leaves: then the mount takes them back. */
static inline double ops_attr_time(uint64_t ino)
{
	return ino == INO_ROOT || ino == INO_VERSIONS || !ops_changes(ino) ? 1e9 : 0;
}

/* A name that every mount has. */
struct fixed {
	uint64_t parent, ino;
	const char *name;
	mode_t type;
};

const struct fixed *ops_fixed(size_t i);	/* NULL past the last */

/* Attributes of any inode; 0 or a negative errno. */
int ops_stat(struct stat *st, fuse_req_t req, uint64_t ino);
void ops_fill(struct stat *st, struct fs *fs, uint64_t ino, mode_t mode, unsigned nlink,
	      uint64_t size, uint64_t ns);
void ops_fill_node(struct stat *st, struct fs *fs, const struct node *n);
uint64_t ops_newest_time(struct fs *fs);
unsigned ops_n_versions(struct fs *fs);
int ops_parse_sequence(uint64_t *out, const char *name);	/* -ENOENT */
int ops_find_version(struct node *out, struct fs *fs, const char *name);	/* counts one lookup */

/* ops_dir.c */
struct dirbuf {
	fuse_req_t req;
	char *data;
	size_t cap, len;
	bool plus;
};

/* Add an entry; next: the offset behind it.  False: it does not fit any more. */
bool dir_add_plain(struct dirbuf *d, const char *name, uint64_t ino, mode_t type, uint64_t next);

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);

#endif
