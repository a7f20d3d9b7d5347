/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io.c - file calls that finish what they begin
 *
 * Temporaries are called ".wfs-<random>.tmp": a listing that skips dot files never shows one.
 * Everything is opened O_CLOEXEC, and files of others O_NONBLOCK, so that a fifo in the place of
 * a file is refused instead of waited for.
 */
#include "weightfs/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "weightfs/base.h"
#include "weightfs/digest.h"

#define TEMP_NAME_MAX 64	/* as promised in io.h */
#define TEMP_TRIES 16

int wfs_pread(int fd, void *buf, size_t len, uint64_t off, struct wfs_err *err)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return wfs_fail_sys(err, "read [%" PRIu64 ",+%zu)", off, len);
		if (n == 0)
			return wfs_fail(err, -ENODATA, "read [%" PRIu64 ",+%zu): the file ends at %" PRIu64,
					off, len, off + done);
		done += (size_t)n;
	}
	return 0;
}

int wfs_pwrite(int fd, const void *buf, size_t len, uint64_t off, struct wfs_err *err)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd, (const char *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return wfs_fail_sys(err, "write [%" PRIu64 ",+%zu)", off, len);
		done += (size_t)n;
	}
	return 0;
}

int wfs_write(int fd, const void *buf, size_t len, struct wfs_err *err)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(fd, (const char *)buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return wfs_fail_sys(err, "write %zu bytes", len);
		done += (size_t)n;
	}
	return 0;
}

static int open_regular(int *fd_out, struct stat *st, int dir, const char *path, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int fd = -1;

	fd = openat(dir, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0 && errno == ELOOP)
		return wfs_fail(err, -ELOOP, "%s: is a symbolic link", path);
	if (fd < 0 || fstat(fd, st) < 0)
		return wfs_fail_sys(err, "%s", path);
	if (!S_ISREG(st->st_mode))
		return wfs_fail(err, S_ISDIR(st->st_mode) ? -EISDIR : -EINVAL, "%s: not a regular file", path);
	*fd_out = fd;
	fd = -1;
	return 0;
}

static int read_up_to(struct wfs_buf *b, int fd, size_t cap, struct wfs_err *err)
{
	if (wfs_buf_reserve(b, cap) < 0)
		return wfs_fail(err, -ENOMEM, "no memory for %zu bytes", cap);
	while (b->len < cap) {
		ssize_t n = read(fd, b->data + b->len, cap - b->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return wfs_fail_sys(err, "read");
		if (n == 0)
			break;
		b->len += (size_t)n;
	}
	return 0;
}

/* One byte more than the size tells a file that grew; then its end is looked for up to max. */
static int read_all(struct wfs_buf *b, int fd, uint64_t size, size_t max, struct wfs_err *err)
{
	size_t limit = max < SIZE_MAX ? max + 1 : max;
	size_t cap = size < limit ? (size_t)size + 1 : limit;

	while (size <= max) {
		int r = read_up_to(b, fd, cap, err);

		if (r < 0 || (b->len < cap && b->len <= max))
			return r;
		if (b->len > max)
			break;
		cap = cap < limit / 2 ? cap * 2 : limit;
	}
	return wfs_fail(err, -EFBIG, "larger than the limit of %zu bytes", max);
}

int wfs_read_file(struct wfs_buf *out, int dir, const char *path, size_t max, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf b = WFS_BUF_INIT;
	WFS_AUTO(wfs_close_fd) int fd = -1;
	struct stat st;
	int r;

	r = open_regular(&fd, &st, dir, path, err);
	if (r < 0)
		return r;
	r = read_all(&b, fd, (uint64_t)st.st_size, max, err);
	if (r < 0)
		return wfs_wrap(err, r, "%s", path);
	wfs_buf_free(out);
	*out = wfs_buf_take(&b);
	return 0;
}

static int make_temp(int *fd_out, char name[TEMP_NAME_MAX], int dir, const char *sub, unsigned mode,
		     struct wfs_err *err)
{
	for (int i = 0; i < TEMP_TRIES; i++) {
		uint64_t id;
		int n, r = wfs_random(&id, sizeof(id));

		if (r < 0)
			return wfs_fail(err, r, "no random bytes for a temporary name");
		n = snprintf(name, TEMP_NAME_MAX, "%s%s" WFS_TEMP_PREFIX "%016" PRIx64 ".tmp", sub, *sub ? "/" : "", id);
		if (n >= TEMP_NAME_MAX)
			return wfs_fail(err, -ENAMETOOLONG, "%s: too long a name for temporary files", sub);
		*fd_out = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
		if (*fd_out >= 0)
			return 0;
		if (errno != EEXIST)
			break;
	}
	return wfs_fail_sys(err, "create %s", name);
}

int wfs_temp_file(int *fd_out, char *name_out, int dir, const char *sub, struct wfs_err *err)
{
	int fd, r = make_temp(&fd, name_out, dir, sub ? sub : "", 0644, err);

	if (r == 0)
		*fd_out = fd;
	return r;
}

int wfs_fsync_dir(int dir, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int here = -1;

	if (dir == AT_FDCWD) {
		here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (here < 0)
			return wfs_fail_sys(err, "open working directory");
		dir = here;
	}
	/* EINVAL: a file system that has nothing to sync for a directory */
	if (fsync(dir) < 0 && errno != EINVAL)
		return wfs_fail_sys(err, "fsync directory");
	return 0;
}

/* Open the directory that holds path; *base becomes the last component. */
static int open_parent(int *fd_out, const char **base, int dir, const char *path, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) char *parent = NULL;
	const char *slash = strrchr(path, '/');
	int fd;

	*base = slash ? slash + 1 : path;
	parent = !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
	if (!parent)
		return wfs_fail(err, -ENOMEM, "out of memory");
	fd = openat(dir, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return wfs_fail_sys(err, "open directory %s", parent);
	*fd_out = fd;
	return 0;
}

static int write_whole(int dir, const char *path, const void *data, size_t len, unsigned mode, bool durable,
		       struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int parent = -1;
	WFS_AUTO(wfs_close_fd) int fd = -1;
	char temp[TEMP_NAME_MAX];
	const char *base;
	int r;

	r = open_parent(&parent, &base, dir, path, err);
	if (r == 0)
		r = make_temp(&fd, temp, parent, "", mode, err);
	if (r < 0)
		return wfs_wrap(err, r, "write %s", path);

	r = wfs_write(fd, data, len, err);
	if (r == 0 && durable && fsync(fd) < 0)
		r = wfs_fail_sys(err, "fsync");
	if (r == 0 && renameat(parent, temp, parent, base) < 0)
		r = wfs_fail_sys(err, "rename");
	if (r < 0)
		unlinkat(parent, temp, 0);
	else if (durable)
		r = wfs_fsync_dir(parent, err);
	return r < 0 ? wfs_wrap(err, r, "write %s", path) : 0;
}

int wfs_write_file(int dir, const char *path, const void *data, size_t len, unsigned mode,
		   struct wfs_err *err)
{
	return write_whole(dir, path, data, len, mode, true, err);
}

int wfs_write_file_unsynced(int dir, const char *path, const void *data, size_t len, unsigned mode,
			    struct wfs_err *err)
{
	return write_whole(dir, path, data, len, mode, false, err);
}

static int make_dir(int dir, const char *path, unsigned mode, struct wfs_err *err)
{
	struct stat st;

	if (mkdirat(dir, path, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return wfs_fail_sys(err, "create directory %s", path);
	if (fstatat(dir, path, &st, 0) < 0)
		return wfs_fail_sys(err, "%s", path);
	if (!S_ISDIR(st.st_mode))
		return wfs_fail(err, -ENOTDIR, "create directory %s: a file has that name", path);
	return 0;
}

int wfs_mkdirs(int dir, const char *path, unsigned mode, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) char *copy = strdup(path);
	int r;

	if (!copy)
		return wfs_fail(err, -ENOMEM, "out of memory");
	for (char *p = copy; (p = strchr(p, '/')); p++) {
		if (p == copy || p[-1] == '/')
			continue;
		*p = '\0';
		r = make_dir(dir, copy, mode, err);
		*p = '/';
		if (r < 0)
			return r;
	}
	return *copy ? make_dir(dir, copy, mode, err) : 0;
}

static int remove_at(int dir, const char *name);

static int remove_entries(DIR *d)
{
	for (;;) {
		struct dirent *e;
		int r;

		errno = 0;
		e = readdir(d);
		if (!e)
			return -errno;
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		r = remove_at(dirfd(d), e->d_name);
		if (r < 0)
			return r;
	}
}

/* O_NOFOLLOW closes the gap between the look at name and the open. */
static int remove_dir(int dir, const char *name)
{
	int fd, r;
	DIR *d;

	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	d = fdopendir(fd);
	if (!d) {
		r = -errno;
		close(fd);
		return r;
	}
	r = remove_entries(d);
	closedir(d);
	if (r == 0 && unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = -errno;
	return r;
}

static int remove_at(int dir, const char *name)
{
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	return errno == EISDIR ? remove_dir(dir, name) : -errno;
}

int wfs_remove_tree(int dir, const char *path, struct wfs_err *err)
{
	int r = remove_at(dir, path);

	if (r == 0)
		return 0;
	errno = -r;
	return wfs_fail_sys(err, "remove %s", path);
}
