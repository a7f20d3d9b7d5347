/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops.h - the FUSE callbacks; their user data is a struct fs
 */
#ifndef FS_OPS_H
#define FS_OPS_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

const struct fuse_lowlevel_ops *ops_table(void);

#endif
