/* SPDX-License-Identifier: Apache-2.0 */
/*
 * served.c - complete versions as plain directories, for readers that go past us (serve=link)
 *
 *   served/<n>/...   a file in blocks is a hard link to its image, a small one a copy; 0444 and 0555
 *
 * 1. A directory is made beside its place and put there by one rename: it is whole or not there.  One of
 *    an earlier life is exchanged for a new one, so a reader that walks through it never misses a file.
 * 2. Nothing here is synced, and nothing of it is trusted: every start makes it anew.
 * 3. What is linked is `exposed`: only a lease, or the next mount, says that nobody has it (lease.c).
 *
 * An unchanged shard is one image, so one inode, in all versions that have it, with the time of the
 * first: that is what a reader that compares times should see.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/io.h"
#include "weightfs/log.h"

#define NAME_LEN 48		/* of "served/<n>" and of the temporary beside it */

static void place_name(char out[NAME_LEN], uint64_t sequence)
{
	snprintf(out, NAME_LEN, "served/%" PRIu64, sequence);
}

static void temp_name(char out[NAME_LEN], uint64_t sequence)
{
	snprintf(out, NAME_LEN, "served/" WFS_TEMP_PREFIX "%" PRIu64, sequence);
}

static struct timespec time_of(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u) };
}

static int set_mtime(int dir, const char *name, uint64_t ns, struct wfs_err *err)
{
	struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, time_of(ns) };

	return utimensat(dir, name, t, 0) < 0 ? wfs_fail_sys(err, "set the time of %s", name) : 0;
}

/* A directory of ours is not writable, not even for us unless we are root. */
static void make_writable(int dir, const char *name)
{
	WFS_AUTO(wfs_close_fd) int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	struct dirent *e;
	DIR *d;

	if (fd < 0)
		return;
	fchmod(fd, 0700);
	d = fdopendir(dup(fd));
	while (d && (e = readdir(d)))
		if (e->d_type == DT_DIR && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			make_writable(fd, e->d_name);
	if (d)
		closedir(d);
}

static void remove_served(struct wfs_replica *r, const char *name)
{
	make_writable(r->cache.dir, name);
	wfs_remove_tree(r->cache.dir, name, NULL);
}

/* ---- making one ---- */

static int link_image(struct wfs_replica *r, struct wfs_image *img, int dir, const char *path, uint64_t ns,
		      struct wfs_err *err)
{
	char data[WFS_OBJECT_NAME];
	struct stat st;
	int ret = 0;

	snprintf(data, sizeof(data), "images/%s/data", wfs_hex(&img->id).s);
	if (fstatat(r->cache.dir, data, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
	    (uint64_t)st.st_size != img->size)
		return wfs_fail(err, -ESTALE, "%s/%s is not what it was", r->cache.path, data);
	img->exposed = true;
	if (st.st_nlink == 1)		/* the first version that shows it */
		ret = set_mtime(r->cache.dir, data, ns, err);
	if (ret == 0 && fchmodat(r->cache.dir, data, 0444 & ~(mode_t)r->o.link_umask, 0) < 0)
		ret = wfs_fail_sys(err, "protect %s/%s", r->cache.path, data);
	if (ret == 0 && linkat(r->cache.dir, data, dir, path, 0) < 0)
		ret = wfs_fail_sys(err, "link %s/%s", r->cache.path, data);
	return ret;
}

static int copy_small(struct wfs_model *m, size_t i, int dir, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	WFS_AUTO(wfs_close_fd) int fd = -1;
	const char *path = m->v.files[i].path;
	int ret;

	ret = wfs_model_small(m, i, &raw, err);
	if (ret < 0)
		return ret == -EAGAIN ? wfs_fail(err, ret, "%s is not local", path) : ret;
	fd = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return wfs_fail_sys(err, "create %s", path);
	ret = raw.len ? wfs_write(fd, raw.data, raw.len, err) : 0;
	if (ret == 0 && fchmod(fd, 0444 & ~(mode_t)m->r->o.link_umask) < 0)
		ret = wfs_fail_sys(err, "protect %s", path);
	return ret < 0 ? ret : set_mtime(dir, path, m->v.time_ns, err);
}

/* The directories of a path, then the file.  Names are plain and relative: version.c saw to it. */
static int add_file(struct wfs_model *m, size_t i, int dir, struct wfs_err *err)
{
	const char *path = m->v.files[i].path, *slash = strrchr(path, '/');
	WFS_AUTO(wfs_free_ptr) char *parent = NULL;
	int ret = 0;

	if (slash) {
		parent = strndup(path, (size_t)(slash - path));
		ret = parent ? wfs_mkdirs(dir, parent, 0700, err) : wfs_fail(err, -ENOMEM, "out of memory");
	}
	if (ret < 0)
		return ret;
	return m->images[i] ? link_image(m->r, m->images[i], dir, path, m->v.time_ns, err) : copy_small(m, i, dir, err);
}

/* Once everything is in them: read-only, with the version's time. */
static int seal_dirs(struct wfs_model *m, int dir, struct wfs_err *err)
{
	mode_t mode = 0555 & ~(mode_t)m->r->o.link_umask;
	struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, time_of(m->v.time_ns) };
	struct dirent *e;
	int ret = 0;
	DIR *d;

	d = fdopendir(dup(dir));
	if (!d)
		return wfs_fail_sys(err, "read a directory of served/");
	while (ret == 0 && (e = readdir(d))) {
		WFS_AUTO(wfs_close_fd) int fd = -1;

		if (e->d_name[0] == '.' || (e->d_type != DT_DIR && e->d_type != DT_UNKNOWN))
			continue;
		fd = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (fd >= 0)
			ret = seal_dirs(m, fd, err);
	}
	closedir(d);
	if (ret == 0 && (futimens(dir, t) < 0 || fchmod(dir, mode) < 0))
		ret = wfs_fail_sys(err, "protect a directory of served/");
	return ret;
}

static int fill(struct wfs_model *m, const char *temp, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int dir = -1;
	int ret;

	remove_served(m->r, temp);
	ret = wfs_mkdirs(m->r->cache.dir, temp, 0700, err);
	if (ret < 0)
		return ret;
	dir = openat(m->r->cache.dir, temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0)
		return wfs_fail_sys(err, "open %s", temp);
	for (size_t i = 0; ret == 0 && i < m->v.n_files; i++)
		if (m->r->o.link_code || !wfs_name_is_code(m->v.files[i].path))
			ret = add_file(m, i, dir, err);
	return ret < 0 ? ret : seal_dirs(m, dir, err);
}

static int put_in_place(struct wfs_replica *r, const char *temp, const char *place, struct wfs_err *err)
{
	int dir = r->cache.dir;

	if (renameat2(dir, temp, dir, place, RENAME_NOREPLACE) == 0)
		return 0;
	if (renameat2(dir, temp, dir, place, RENAME_EXCHANGE) < 0) {
		remove_served(r, place);	/* a file system that cannot exchange */
		if (renameat(dir, temp, dir, place) < 0)
			return wfs_fail_sys(err, "rename %s/%s", r->cache.path, temp);
	}
	remove_served(r, temp);
	return 0;
}

static uint64_t generation(const struct wfs_model *m)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < m->v.n_files; i++)
		sum += m->images[i] ? m->images[i]->generation : 0;
	return sum;
}

int wfs_served_make(struct wfs_model *m, struct wfs_err *err)
{
	char temp[NAME_LEN], place[NAME_LEN];
	uint64_t now = generation(m);
	int ret;

	temp_name(temp, m->v.sequence);
	place_name(place, m->v.sequence);
	ret = fill(m, temp, err);
	if (ret == 0)
		ret = put_in_place(m->r, temp, place, err);
	if (ret == 0)
		m->linked = true;
	if (ret == 0)
		m->link_generation = now;
	else
		remove_served(m->r, temp);
	return ret < 0 ? wfs_wrap(err, ret, "version %" PRIu64 " as plain files", m->v.sequence) : 0;
}

void wfs_served_drop(struct wfs_model *m)
{
	char temp[NAME_LEN], place[NAME_LEN];

	if (!m->linked)
		return;
	m->linked = false;
	temp_name(temp, m->v.sequence);
	place_name(place, m->v.sequence);
	if (renameat(m->r->cache.dir, place, m->r->cache.dir, temp) == 0)	/* at once, then at leisure */
		remove_served(m->r, temp);
}

/* The shown versions, each with a reference. */
static size_t shown_versions(struct wfs_replica *r, struct wfs_model ***out)
{
	struct wfs_model *m;
	size_t n = 0, i = 0;

	pthread_mutex_lock(&r->lock);
	for (m = r->models; m; m = m->next)
		n += m->shown;
	*out = calloc(n + 1, sizeof(**out));
	for (m = r->models; *out && m; m = m->next)
		if (m->shown) {
			m->refs++;
			(*out)[i++] = m;
		}
	pthread_mutex_unlock(&r->lock);
	return i;
}

/* Now: a model remembers that it was complete. */
static bool is_whole(struct wfs_model *m)
{
	for (size_t i = 0; i < m->v.n_files; i++)
		if (m->images[i] && !wfs_image_probe(m->images[i]))
			return false;
	return true;
}

static void try_to_make(struct wfs_model *m)
{
	struct wfs_err err = { "" };

	if (wfs_served_make(m, &err) < 0)
		log_warn("%s: it stays a directory of the mount", err.msg);
}

/* ---- at start ---- */

static void make_all(struct wfs_replica *r)
{
	struct wfs_model **list;
	size_t n = shown_versions(r, &list);

	for (size_t i = 0; i < n; i++) {
		if (is_whole(list[i]))
			try_to_make(list[i]);
		wfs_model_put(list[i]);
	}
	free(list);
}

/* Others must be able to walk to it; what lies above the cache is not ours to change. */
static void open_the_way(struct wfs_replica *r)
{
	WFS_AUTO(wfs_free_ptr) char *path = realpath(r->cache.path, NULL);
	struct stat st;

	if (fstat(r->cache.dir, &st) == 0)
		fchmod(r->cache.dir, st.st_mode | 0011);
	while (path && strrchr(path, '/') > path) {
		*strrchr(path, '/') = '\0';
		if (stat(path, &st) == 0 && !(st.st_mode & 0001))
			log_warn("serve=link: other users cannot reach the cache: chmod o+x %s", path);
	}
}

bool wfs_model_linked(struct wfs_model *m)
{
	return m->linked;
}

static bool is_linked(struct wfs_replica *r, const char *name)
{
	uint64_t sequence = strtoull(name, NULL, 10);
	bool linked = false;

	pthread_mutex_lock(&r->lock);
	for (struct wfs_model *m = r->models; m; m = m->next)
		linked |= m->v.sequence == sequence && m->linked;
	pthread_mutex_unlock(&r->lock);
	return linked;
}

/* What no version of ours is. */
void wfs_served_sweep(struct wfs_replica *r)
{
	char name[NAME_LEN + 256];
	struct dirent *e;
	int fd;
	DIR *d;

	fd = openat(r->cache.dir, "served", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	d = fd < 0 ? NULL : fdopendir(fd);
	while (d && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || is_linked(r, e->d_name))
			continue;
		snprintf(name, sizeof(name), "served/%s", e->d_name);
		remove_served(r, name);
	}
	if (d)
		closedir(d);
}

int wfs_served_start(struct wfs_replica *r, struct wfs_err *err)
{
	int ret;

	if (!r->o.link) {
		wfs_served_sweep(r);
		unlinkat(r->cache.dir, "served", AT_REMOVEDIR);
		return 0;
	}
	ret = wfs_mkdirs(r->cache.dir, "served", 0700, err);
	if (ret < 0)
		return ret;
	if (fchmodat(r->cache.dir, "served", r->o.link_others ? 0755 : 0700, 0) < 0)
		return wfs_fail_sys(err, "open %s/served to readers", r->cache.path);
	if (r->o.link_others)
		open_the_way(r);
	/* Nobody has seen them in this life, whoever has their images from an earlier one. */
	make_all(r);
	wfs_served_sweep(r);
	return 0;
}

/* ---- keeping it ---- */

/* A version shown as a directory while it was built becomes a link when nobody has it, so that no
 * reader sees one file with two inodes.  One with a rotten block becomes a directory, where it is mended. */
static bool change(struct wfs_model *m)
{
	bool whole = is_whole(m);

	/* An image that rotted in use has another file now, maybe whole again before we looked. */
	if (m->linked && whole && m->link_generation != generation(m) && wfs_served_make(m, NULL) == 0)
		return false;
	if (m->linked && (!whole || m->link_generation != generation(m))) {
		wfs_served_drop(m);
		return true;
	}
	if (m->linked || !whole || wfs_model_in_use(m, 1))
		return false;
	try_to_make(m);
	return m->linked;
}

void wfs_served_sync(struct wfs_replica *r)
{
	struct wfs_model **list;
	size_t n;

	if (!r->o.link)
		return;
	n = shown_versions(r, &list);
	for (size_t i = 0; i < n; i++) {
		if (change(list[i]) && r->shape_fn)
			r->shape_fn(r->shown_arg, list[i]->v.sequence);
		wfs_model_idle(list[i]);
		wfs_model_put(list[i]);
	}
	free(list);
}

bool wfs_model_link(struct wfs_model *m, char *out, size_t cap)
{
	if (!m->linked)
		return false;
	return (size_t)snprintf(out, cap, "%s/served/%" PRIu64, m->r->cache.path, m->v.sequence) < cap;
}
