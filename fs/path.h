/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.h - paths as given by a user, and what the kernel has mounted there
 */
#ifndef FS_PATH_H
#define FS_PATH_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "weightfs/err.h"

/* Replace *path by an absolute one when it is relative.  -ENOMEM, -ENOENT. */
int path_absolute(char **path, struct wfs_err *err);

/* True when path is dir or below it; both absolute and without links. */
bool path_below(const char *path, const char *dir);

/* The real path of a mount point that may be dead: then only the directories above are asked. */
int path_mount_point(char out[PATH_MAX], const char *mnt, struct wfs_err *err);

struct mount_entry {
	int id;				/* mnt_id in /proc/<pid>/fdinfo */
	unsigned major, minor;
	uid_t user;			/* who mounted it, as FUSE says */
	char type[64];			/* fuse.weightfs */
};

/* The topmost mount exactly at point (from path_mount_point).  -ENOENT: none.  Asks no file system. */
int mount_find(struct mount_entry *out, const char *point, struct wfs_err *err);
bool mount_is_ours(const struct mount_entry *e);

/* Detach or unmount through the kernel (root) or fusermount3.  -EBUSY without message. */
int mount_remove(const char *point, bool lazy, struct wfs_err *err);

#endif
