/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_read.h - open files: open, read, lseek, release
 */
#ifndef FS_OPS_READ_H
#define FS_OPS_READ_H

#include "fs.h"
#include "ops.h"

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t len, off_t off, struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

/* Answer reads whose readers are being killed.  Once a second, not from a worker. */
void ops_read_reap(struct fs *fs);

#endif
