/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_xattr.h - extended attributes of the files of versions (weightfs(1), "Attributes of files")
 */
#ifndef FS_OPS_XATTR_H
#define FS_OPS_XATTR_H

#include "fs.h"

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);

#endif
