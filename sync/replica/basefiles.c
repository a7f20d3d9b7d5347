/* SPDX-License-Identifier: Apache-2.0 */
/*
 * basefiles.c - the user's own files, which may serve as bases where they lie
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/io.h"

#define BASE_DEPTH_MAX 4	/* directories below base= that are looked into */

static void add_basefile(struct wfs_replica *r, int dir, const char *name, const char *where)
{
	struct wfs_basefile *b;
	struct stat st;
	int fd;

	/* Follows symlinks: a Hugging Face snapshot is all symlinks. */
	fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return;
	b = calloc(1, sizeof(*b));
	if (!b || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0 ||
	    asprintf(&b->path, "%s/%s", where, name) < 0) {
		free(b);
		close(fd);
		return;
	}
	b->fd = fd;
	b->size = (uint64_t)st.st_size;
	b->mtime_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000ull + (uint64_t)st.st_mtim.tv_nsec;
	b->next = r->basefiles;
	r->basefiles = b;
}

static void scan_dir(struct wfs_replica *r, int at, const char *name, const char *where, int depth)
{
	WFS_AUTO(wfs_free_ptr) char *path = NULL;
	struct dirent *e;
	struct stat st;
	DIR *d;
	int fd;

	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d || asprintf(&path, "%s%s%s", where, *where ? "/" : "", name) < 0) {
		if (d)
			closedir(d);
		return;
	}
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st, 0) < 0)
			continue;
		if (S_ISREG(st.st_mode))
			add_basefile(r, dirfd(d), e->d_name, path);
		else if (S_ISDIR(st.st_mode) && depth > 1)
			scan_dir(r, dirfd(d), e->d_name, path, depth - 1);
	}
	closedir(d);
}

static void scan(struct wfs_replica *r)
{
	pthread_mutex_lock(&r->base_lock);
	if (!r->basefiles_scanned)
		for (size_t i = 0; i < r->o.base.n; i++)
			scan_dir(r, AT_FDCWD, r->o.base.v[i], "", BASE_DEPTH_MAX);
	r->basefiles_scanned = true;
	pthread_mutex_unlock(&r->base_lock);
}

void wfs_basefiles_free(struct wfs_replica *r)
{
	struct wfs_basefile *b;

	while ((b = r->basefiles)) {
		r->basefiles = b->next;
		close(b->fd);
		free(b->path);
		free(b);
	}
}

static bool block_matches(const struct wfs_basefile *f, const struct wfs_table *t, uint32_t b, void *buf)
{
	uint32_t len = wfs_table_block_len(t, b);

	return wfs_pread(f->fd, buf, len, (uint64_t)b << WFS_BLOCK_SHIFT, NULL) == 0 &&
	       wfs_xxh3(buf, len) == wfs_table_block(t, b).hash;
}

/* A file of the right size whose first, middle and last block match: a candidate; every block is
 * checked again when it is used. */
struct wfs_basefile *wfs_basefiles_match(struct wfs_replica *r, const struct wfs_table *t)
{
	WFS_AUTO(wfs_free_ptr) void *buf = NULL;
	uint32_t n = wfs_table_n_blocks(t);
	struct wfs_basefile *f;

	if (!r->o.base.n || !n)
		return NULL;
	scan(r);
	for (f = r->basefiles; f; f = f->next) {
		if (f->size != wfs_table_size(t) || f->bad)
			continue;
		if (!buf && !(buf = malloc(WFS_BLOCK_SIZE)))
			return NULL;
		if (block_matches(f, t, 0, buf) && block_matches(f, t, n - 1, buf) &&
		    block_matches(f, t, n / 2, buf))
			return f;
	}
	return NULL;
}

/* Of `size` bytes; the next one behind `after`, or the first.  NULL: no more. */
const struct wfs_basefile *wfs_basefiles_next(struct wfs_replica *r, const struct wfs_basefile *after, uint64_t size)
{
	const struct wfs_basefile *f;

	if (!r->o.base.n)
		return NULL;
	scan(r);
	for (f = after ? after->next : r->basefiles; f && (f->size != size || f->bad); f = f->next)
		;
	return f;
}
