/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_deny.h - callbacks of calls that would change something: EROFS
 */
#ifndef FS_OPS_DENY_H
#define FS_OPS_DENY_H

#include "ops.h"

void deny_mknod(fuse_req_t req, fuse_ino_t ino, const char *name, mode_t mode, dev_t dev);
void deny_mkdir(fuse_req_t req, fuse_ino_t ino, const char *name, mode_t mode);
void deny_remove(fuse_req_t req, fuse_ino_t ino, const char *name);
void deny_symlink(fuse_req_t req, const char *target, fuse_ino_t ino, const char *name);
void deny_rename(fuse_req_t req, fuse_ino_t ino, const char *name, fuse_ino_t to,
		 const char *to_name, unsigned flags);
void deny_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t to, const char *name);
void deny_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int which,
		 struct fuse_file_info *fi);
void deny_create(fuse_req_t req, fuse_ino_t ino, const char *name, mode_t mode,
		 struct fuse_file_info *fi);
void deny_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t len, off_t off,
		 struct fuse_file_info *fi);
void deny_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		 size_t len, int flags);
void deny_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		 struct fuse_file_info *fi);

#endif
