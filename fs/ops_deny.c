/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_deny.c - what nobody may do
 *
 * The kernel refuses these itself on a read-only mount.  Root can remount one read-write; then
 * they come here, and a call without a callback would give ENOSYS.
 */
#include <errno.h>

#include "ops_deny.h"

void deny_mknod(fuse_req_t req, fuse_ino_t ino, const char *name, mode_t mode, dev_t dev)
{
	(void)ino, (void)name, (void)mode, (void)dev;
	fuse_reply_err(req, EROFS);
}

void deny_mkdir(fuse_req_t req, fuse_ino_t ino, const char *name, mode_t mode)
{
	(void)ino, (void)name, (void)mode;
	fuse_reply_err(req, EROFS);
}

void deny_remove(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	(void)ino, (void)name;
	fuse_reply_err(req, EROFS);
}

void deny_symlink(fuse_req_t req, const char *target, fuse_ino_t ino, const char *name)
{
	(void)target, (void)ino, (void)name;
	fuse_reply_err(req, EROFS);
}

void deny_rename(fuse_req_t req, fuse_ino_t ino, const char *name, fuse_ino_t to,
		 const char *to_name, unsigned flags)
{
	(void)ino, (void)name, (void)to, (void)to_name, (void)flags;
	fuse_reply_err(req, EROFS);
}

void deny_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t to, const char *name)
{
	(void)ino, (void)to, (void)name;
	fuse_reply_err(req, EROFS);
}

void deny_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int which,
		 struct fuse_file_info *fi)
{
	(void)ino, (void)st, (void)which, (void)fi;
	fuse_reply_err(req, EROFS);
}

void deny_create(fuse_req_t req, fuse_ino_t ino, const char *name, mode_t mode,
		 struct fuse_file_info *fi)
{
	(void)ino, (void)name, (void)mode, (void)fi;
	fuse_reply_err(req, EROFS);
}

void deny_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t len, off_t off,
		 struct fuse_file_info *fi)
{
	(void)ino, (void)buf, (void)len, (void)off, (void)fi;
	fuse_reply_err(req, EROFS);
}

void deny_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		 size_t len, int flags)
{
	(void)ino, (void)name, (void)value, (void)len, (void)flags;
	fuse_reply_err(req, EROFS);
}

void deny_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		 struct fuse_file_info *fi)
{
	(void)ino, (void)mode, (void)off, (void)len, (void)fi;
	fuse_reply_err(req, EROFS);
}
