/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dir.c - a store in a directory: opening and reading it
 *
 * Readers write nothing: the directory may be on a read-only mount.  Below the root no symbolic
 * link is followed, so a store that others can write leads nowhere else, and only regular files
 * are read.
 */
#include "store/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "weightfs/base.h"
#include "weightfs/io.h"

#define READ_SIZE (256u << 10)
#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

int wfs_dir_parent(int *fd_out, const char **base, int root, const char *name, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int here = openat(root, ".", DIR_FLAGS);
	const char *slash;

	while (here >= 0 && (slash = strchr(name, '/'))) {
		char part[256];
		int next;

		memcpy(part, name, (size_t)(slash - name));	/* names are shorter: store.c */
		part[slash - name] = '\0';
		next = openat(here, part, DIR_FLAGS);
		if (next < 0 && errno == ENOENT)
			return -ENOENT;
		if (next < 0)
			return wfs_fail_sys(err, "open directory %s", part);
		close(here);
		here = next;
		name = slash + 1;
	}
	if (here < 0)
		return wfs_fail_sys(err, "open the store's directory");
	*base = name;
	*fd_out = here;
	here = -1;
	return 0;
}

static int open_object(int *fd_out, uint64_t *size, int root, const char *name, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int parent = -1;
	WFS_AUTO(wfs_close_fd) int fd = -1;
	const char *base;
	struct stat sb;
	int r;

	r = wfs_dir_parent(&parent, &base, root, name, err);
	if (r < 0)
		return r;
	fd = openat(parent, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0 && errno == ELOOP)
		return wfs_fail(err, -ELOOP, "is a symbolic link");
	if (fd < 0 || fstat(fd, &sb) < 0)
		return wfs_fail_sys(err, "open");
	if (!S_ISREG(sb.st_mode))
		return wfs_fail(err, -EBADMSG, "not a regular file");
	*size = (uint64_t)sb.st_size;
	*fd_out = fd;
	fd = -1;
	return 0;
}

static int read_object(struct wfs_store *st, struct wfs_attempt *a, int fd, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) uint8_t *buf = malloc(READ_SIZE);
	uint64_t end = WFS_MIN(a->end, a->total);

	if (!buf)
		return wfs_fail(err, -ENOMEM, "out of memory");
	while (a->pos < end) {
		size_t len = (size_t)WFS_MIN(end - a->pos, (uint64_t)READ_SIZE);
		int r = wfs_attempt_hold(st, a);

		if (r == 0 && wfs_is_set(a->get->cancel))
			r = -ECANCELED;
		if (r == 0)
			r = wfs_pread(fd, buf, len, a->pos, err);
		if (r == -ENODATA)
			r = wfs_fail(err, -EBADMSG, "the file became shorter while it was read");
		if (r < 0)
			return r;
		wfs_store_count(st, len);
		r = wfs_attempt_deliver(a, a->pos, buf, len, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int dir_get(struct wfs_store *st, struct wfs_attempt *a, struct wfs_err *err)
{
	const struct wfs_dir *d = st->priv;
	WFS_AUTO(wfs_close_fd) int fd = -1;
	uint64_t size = 0;
	int r;

	if (wfs_is_set(a->get->cancel))
		return -ECANCELED;
	r = open_object(&fd, &size, d->fd, a->get->name, err);
	if (r == 0)
		r = wfs_attempt_size(a, size, err);
	if (r == 0)
		r = read_object(st, a, fd, err);
	a->transient = r == -ESTALE;	/* a network file system lost its handle */
	return r;
}

static void dir_close(struct wfs_store *st)
{
	struct wfs_dir *d = st->priv;

	if (!d)
		return;
	wfs_close_fd(&d->lock);		/* lets go of the lock */
	wfs_close_fd(&d->fd);
	free(d);
}

static const struct wfs_backend dir_backend = {
	.local = true,
	.close = dir_close,
	.get = dir_get,
	.put = wfs_dir_put,
	.create = wfs_dir_create,
	.replace = wfs_dir_replace,
	.put_begin = wfs_dir_put_begin,
	.list = wfs_dir_list,
	.lock = wfs_dir_lock,
	.unlock = wfs_dir_unlock,
	.each = wfs_dir_each,
	.remove = wfs_dir_remove,
};

/* What a publisher that got no further has left there, or the file system. */
static bool counts(const char *name)
{
	static const char *const none[] = { ".", "..", "lost+found", "lock", "tmp" };

	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		if (strcmp(name, none[i]) == 0)
			return false;
	return strncmp(name, ".nfs", 4) != 0;
}

/* Arguments swapped, or a word forgotten: a store is not begun between somebody's files. */
static int check_new(const struct wfs_dir *d, const char *path, struct wfs_err *err)
{
	char odd[NAME_MAX + 1] = "";
	struct dirent *e;
	struct stat sb;
	DIR *dir;
	int fd;

	if (fstatat(d->fd, "weightfs-store", &sb, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	fd = openat(d->fd, ".", DIR_FLAGS);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		wfs_close_fd(&fd);
		return wfs_fail_sys(err, "read %s", path);
	}
	while (!*odd && (e = readdir(dir)))
		if (counts(e->d_name))
			snprintf(odd, sizeof(odd), "%s", e->d_name);
	closedir(dir);
	return !*odd ? 0 : wfs_fail(err, -EINVAL, "%s is no store, and not empty (it holds %s): a new store needs a directory "
				    "of its own, a new or an empty one", path, odd);
}

int wfs_dir_open(struct wfs_store *st, const char *path, bool create, struct wfs_err *err)
{
	struct wfs_dir *d;
	int r;

	if (create) {
		r = wfs_mkdirs(AT_FDCWD, path, 0777, err);
		if (r < 0)
			return r;
	}
	d = malloc(sizeof(*d));
	st->url = strdup(path);
	if (!d || !st->url) {
		free(d);
		return wfs_fail(err, -ENOMEM, "out of memory");
	}
	st->priv = d;
	st->backend = &dir_backend;
	d->lock = -1;
	d->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->fd < 0)
		return wfs_fail_sys(err, "store %s", path);
	st->watch.dir = d->fd;
	return create ? check_new(d, path, err) : 0;
}
