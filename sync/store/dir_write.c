/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dir_write.c - a store in a directory: what publishers do
 *
 *   tmp/<random>   in flight
 *
 * 1. A name outside tmp/ appears with its whole content: written and synced in tmp/, then linked
 *    or renamed, then its directory synced.
 * 2. A commit is created by link(2), which fails when the name is taken; rename(2) would replace
 *    the other publisher's commit.
 * 3. A crash leaves garbage only in tmp/.  Whoever gets the lock (dir_lock.c) sweeps it when it is old.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "weightfs/base.h"
#include "weightfs/io.h"
#include "store/dir.h"

struct wfs_put {
	struct wfs_dir *dir;
	int fd;
	char temp[64];
	uint64_t size;
	int error;			/* a write failed: never committed */
};

static int make_temp(struct wfs_put *p, struct wfs_dir *d, struct wfs_err *err)
{
	int r = wfs_mkdirs(d->fd, "tmp", 0777, err);

	*p = (struct wfs_put) { .dir = d, .fd = -1 };
	return r < 0 ? r : wfs_temp_file(&p->fd, p->temp, d->fd, "tmp", err);
}

static int append(struct wfs_put *p, const void *data, size_t len, struct wfs_err *err)
{
	int r = p->error ? p->error : wfs_write(p->fd, data, len, err);

	if (r < 0)
		p->error = r;
	else
		p->size += len;
	return r;
}

/* After a failed fsync the pages are lost though later calls succeed: the file is given up. */
static int sync_temp(struct wfs_put *p, struct wfs_err *err)
{
	if (p->error)
		return wfs_fail(err, p->error, "an earlier write failed");
	return fsync(p->fd) < 0 ? wfs_fail_sys(err, "fsync") : 0;
}

static int write_temp(struct wfs_put *p, struct wfs_dir *d, const void *data, size_t len, struct wfs_err *err)
{
	int r = make_temp(p, d, err);

	if (r == 0)
		r = append(p, data, len, err);
	return r == 0 ? sync_temp(p, err) : r;
}

static void drop_temp(struct wfs_put *p)
{
	if (p->fd < 0)
		return;
	unlinkat(p->dir->fd, p->temp, 0);
	close(p->fd);
	p->fd = -1;
}

/* The directory of name, made when it is missing (names have at most one). */
static int make_parent(int *fd_out, const char **base, struct wfs_dir *d, const char *name, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) char *parent = NULL;
	int r = wfs_dir_parent(fd_out, base, d->fd, name, err);

	if (r != -ENOENT)
		return r;
	parent = strndup(name, (size_t)(strrchr(name, '/') - name));
	if (!parent)
		return wfs_fail(err, -ENOMEM, "out of memory");
	r = wfs_mkdirs(d->fd, parent, 0777, err);
	if (r == 0)
		r = wfs_fsync_dir(d->fd, err);
	return r < 0 ? r : wfs_dir_parent(fd_out, base, d->fd, name, err);
}

/* The object is there with that size.  It was synced before it got its name. */
static bool is_there(int parent, const char *base, uint64_t size)
{
	struct stat sb;

	return fstatat(parent, base, &sb, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(sb.st_mode) &&
	       (uint64_t)sb.st_size == size;
}

/* Give the synced temporary its name, replacing what may be there. */
static int rename_temp(struct wfs_put *p, int parent, const char *base, struct wfs_err *err)
{
	if (renameat(p->dir->fd, p->temp, parent, base) < 0)
		return wfs_fail_sys(err, "rename");
	close(p->fd);
	p->fd = -1;
	return wfs_fsync_dir(parent, err);
}

/* Over NFS the answer to a link that was made may be lost and its repetition be refused: the
 * link count tells. */
static int link_temp(struct wfs_put *p, int parent, const char *base, struct wfs_err *err)
{
	struct stat sb;
	int r;

	if (linkat(p->dir->fd, p->temp, parent, base, 0) == 0)
		return 0;
	r = -errno;
	if (r == -EEXIST)
		return fstat(p->fd, &sb) == 0 && sb.st_nlink == 2 ? 0 : -EEXIST;
	if (r != -EPERM && r != -EOPNOTSUPP && r != -ENOSYS)
		return wfs_fail_sys(err, "link");
	/* no hard links here; rename without replacing is as exclusive where it exists */
	if (renameat2(p->dir->fd, p->temp, parent, base, RENAME_NOREPLACE) == 0)
		return 0;
	return errno == EEXIST ? -EEXIST :
	       wfs_fail_sys(err, "the file system has neither links nor exclusive rename");
}

/* No bytes are written for what is there. */
int wfs_dir_put(struct wfs_store *st, const char *name, const void *data, size_t len, struct wfs_err *err)
{
	struct wfs_dir *d = st->priv;
	WFS_AUTO(wfs_close_fd) int parent = -1;
	WFS_AUTO(drop_temp) struct wfs_put p = { .fd = -1 };
	const char *base;
	int r;

	r = make_parent(&parent, &base, d, name, err);
	if (r == 0 && is_there(parent, base, len))
		r = wfs_fsync_dir(parent, err);
	else if (r == 0)
		r = write_temp(&p, d, data, len, err);
	if (r == 0 && p.fd >= 0)
		r = rename_temp(&p, parent, base, err);
	return r < 0 ? wfs_wrap(err, r, "write %s", name) : 0;
}

int wfs_dir_create(struct wfs_store *st, const char *name, const void *data, size_t len, struct wfs_err *err)
{
	struct wfs_dir *d = st->priv;
	WFS_AUTO(wfs_close_fd) int parent = -1;
	WFS_AUTO(drop_temp) struct wfs_put p = { .fd = -1 };
	const char *base;
	int r;

	r = make_parent(&parent, &base, d, name, err);
	if (r == 0)
		r = write_temp(&p, d, data, len, err);
	if (r == 0) {
		r = link_temp(&p, parent, base, err);
		if (r == -EEXIST)
			return r;
	}
	if (r == 0)
		r = wfs_fsync_dir(parent, err);
	return r < 0 ? wfs_wrap(err, r, "create %s", name) : 0;
}

int wfs_dir_replace(struct wfs_store *st, const char *name, const void *data, size_t len, struct wfs_err *err)
{
	struct wfs_dir *d = st->priv;
	WFS_AUTO(wfs_close_fd) int parent = -1;
	WFS_AUTO(drop_temp) struct wfs_put p = { .fd = -1 };
	const char *base;
	int r;

	r = make_parent(&parent, &base, d, name, err);
	if (r == 0)
		r = write_temp(&p, d, data, len, err);
	if (r == 0)
		r = rename_temp(&p, parent, base, err);
	return r < 0 ? wfs_wrap(err, r, "replace %s", name) : 0;
}

int wfs_dir_put_begin(struct wfs_put **out, struct wfs_store *st, struct wfs_err *err)
{
	struct wfs_put *p = malloc(sizeof(*p));
	int r;

	if (!p)
		return wfs_fail(err, -ENOMEM, "out of memory");
	r = make_temp(p, st->priv, err);
	if (r < 0) {
		free(p);
		return r;
	}
	*out = p;
	return 0;
}

int wfs_put_write(struct wfs_put *p, const void *data, size_t len, struct wfs_err *err)
{
	return append(p, data, len, err);
}

int wfs_put_commit(struct wfs_put *p, const char *name, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int parent = -1;
	const char *base;
	int r;

	r = wfs_store_check_name(name, err);
	if (r == 0)
		r = make_parent(&parent, &base, p->dir, name, err);
	if (r == 0 && !p->error && is_there(parent, base, p->size)) {
		r = wfs_fsync_dir(parent, err);
	} else if (r == 0) {
		r = sync_temp(p, err);
		if (r == 0)
			r = rename_temp(p, parent, base, err);
	}
	if (r < 0)
		wfs_wrap(err, r, "write %s", name);
	wfs_put_abort(p);
	return r;
}

void wfs_put_abort(struct wfs_put *p)
{
	if (!p)
		return;
	drop_temp(p);
	free(p);
}
