/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dir_list.c - a store in a directory: names that people read
 *
 *   models/7/model.safetensors -> ../../packs/<sha256>
 *
 * Symbolic links, as in a hub's cache: loaders follow them, a copy of the store keeps them, and they
 * count for nothing.  Made beside and renamed, so that a directory has all its names or is not there.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "store/dir.h"
#include "weightfs/base.h"
#include "weightfs/io.h"

/* dir/path and the way back from there to the store. */
static int add_name(int root, const char *dir, const struct wfs_store_name *name, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) char *at = NULL;
	WFS_AUTO(wfs_buf_free) struct wfs_buf target = WFS_BUF_INIT;
	char *slash;
	int fd, r = asprintf(&at, "%s/%s", dir, name->path) < 0 ? -ENOMEM : 0;

	for (const char *c = at; r == 0 && *c; c++)
		if (*c == '/')
			r = wfs_buf_append(&target, "../", 3);
	if (r == 0)
		r = wfs_buf_printf(&target, "%s", name->object);
	if (r < 0)
		return wfs_fail(err, -ENOMEM, "out of memory");
	slash = strrchr(at, '/');
	*slash = '\0';
	r = wfs_mkdirs(root, at, 0777, err);
	*slash = '/';
	if (r < 0)
		return r;
	if (name->object[0])
		return symlinkat((char *)target.data, root, at) < 0 ? wfs_fail_sys(err, "symlink") : 0;
	fd = openat(root, at, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (fd < 0)
		return wfs_fail_sys(err, "%s", at);
	close(fd);
	return 0;
}

static int make(int root, const char *dir, const char *temp, const struct wfs_store_name *names, size_t n,
		struct wfs_err *err)
{
	struct stat sb;
	int r = 0;

	if (fstatat(root, dir, &sb, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	r = wfs_remove_tree(root, temp, err);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_name(root, temp, &names[i], err);
	if (r == 0 && renameat(root, temp, root, dir) < 0)
		r = wfs_fail_sys(err, "rename");
	if (r < 0)
		wfs_remove_tree(root, temp, NULL);
	return r;
}

int wfs_dir_list(struct wfs_store *st, const char *dir, const struct wfs_store_name *names, size_t n, struct wfs_err *err)
{
	struct wfs_dir *d = st->priv;
	WFS_AUTO(wfs_free_ptr) char *temp = NULL;
	const char *slash = strchr(dir, '/');
	int r;

	if (!slash || asprintf(&temp, "%.*s/" WFS_TEMP_PREFIX "%s", (int)(slash - dir), dir, slash + 1) < 0)
		return wfs_fail(err, slash ? -ENOMEM : -EINVAL, "%s: out of memory", dir);
	r = make(d->fd, dir, temp, names, n, err);
	return r < 0 ? wfs_wrap(err, r, "list %s", dir) : 0;
}
