/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dir_remove.c - a store in a directory: what is there, and taking it away
 *
 * Removing is not synced: a name that comes back after a loss of power is removed the next time.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "store/dir.h"
#include "weightfs/base.h"
#include "weightfs/io.h"

int wfs_dir_each(struct wfs_store *st, const char *kind, wfs_each_fn *fn, void *arg, struct wfs_err *err)
{
	struct wfs_dir *d = st->priv;
	int fd = openat(d->fd, kind, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	struct stat sb;
	char name[300];

	if (!dir) {
		wfs_close_fd(&fd);
		return errno == ENOENT ? 0 : wfs_fail_sys(err, "read %s", kind);
	}
	while (r == 0 && (e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		if (fstatat(fd, e->d_name, &sb, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (snprintf(name, sizeof(name), "%s/%s", kind, e->d_name) >= (int)sizeof(name))
			continue;	/* none of ours */
		r = fn(arg, name, S_ISREG(sb.st_mode) ? (uint64_t)sb.st_size : 0,
		       (uint64_t)sb.st_mtim.tv_sec * 1000000000ull + (uint64_t)sb.st_mtim.tv_nsec);
	}
	closedir(dir);
	return r;
}

int wfs_dir_remove(struct wfs_store *st, const char *name, struct wfs_err *err)
{
	struct wfs_dir *d = st->priv;
	WFS_AUTO(wfs_close_fd) int parent = -1;
	const char *base;
	int r;

	r = wfs_dir_parent(&parent, &base, d->fd, name, err);
	if (r == 0 && strncmp(name, "models/", 7) == 0)
		r = wfs_remove_tree(parent, base, err);
	else if (r == 0 && unlinkat(parent, base, 0) < 0 && errno != ENOENT)
		r = wfs_fail_sys(err, "unlink");
	return r == 0 || r == -ENOENT ? 0 : wfs_wrap(err, r, "remove %s", name);
}
