/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache.c - the directory a replica owns
 *
 *   lock               held for life; its text names the holder
 *   run                run id of the store this cache belongs to
 *   state              commit with the highest sequence ever accepted
 *   versions/<n>       commit of a version that is shown
 *   pins/<n>           commit of a version that is not to be evicted
 *   objects/<digest>   version objects, tables, small files: SHA-256 checked at every read
 *   images/<table>/    data, map: one file of a version (image.c)
 *   stash/<table>      stored bytes on their way into an image (source.c)
 *   served/<n>/        complete versions as plain files (served.c)
 *   tmp/               swept at start
 *
 * The directory holds no other names (known.c).  All below are our own hex or decimal numbers.  Everything small is written to a temporary,
 * synced and renamed, so a crash leaves the old file or the new one.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/io.h"

static int lock_cache(struct wfs_cache *c, struct wfs_err *err)
{
	char text[32] = "";
	ssize_t n;

	c->lock_fd = openat(c->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (c->lock_fd < 0)
		return wfs_fail_sys(err, "open %s/lock", c->path);
	if (flock(c->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		n = pread(c->lock_fd, text, sizeof(text) - 1, 0);
		text[n > 0 ? n : 0] = '\0';
		text[strcspn(text, "\n")] = '\0';
		return wfs_fail(err, -EBUSY, "cache %s is used by process %s; one process a cache directory",
				c->path, text[0] ? text : "(unknown)");
	}
	n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(c->lock_fd, 0) < 0 || pwrite(c->lock_fd, text, (size_t)n, 0) != n)
		return wfs_fail_sys(err, "write %s/lock", c->path);
	return 0;
}

/* Temporaries of a killed process, where wfs_write_file makes them. */
static void tidy(struct wfs_cache *c, const char *sub)
{
	struct dirent *e;
	DIR *dir;
	int fd;

	fd = openat(c->dir, sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	dir = fd < 0 ? NULL : fdopendir(fd);
	while (dir && (e = readdir(dir)))
		if (strncmp(e->d_name, WFS_TEMP_PREFIX, strlen(WFS_TEMP_PREFIX)) == 0)
			unlinkat(dirfd(dir), e->d_name, 0);
	if (dir)
		closedir(dir);
}

int wfs_cache_open(struct wfs_cache *c, const char *path, struct wfs_err *err)
{
	static const char *const subs[] = { "versions", "pins", "objects", "images", "stash", "tmp" };
	int r;

	c->dir = c->lock_fd = -1;
	c->path = strdup(path);
	if (!c->path)
		return wfs_fail(err, -ENOMEM, "out of memory");
	r = wfs_mkdirs(AT_FDCWD, path, 0700, err);
	if (r < 0)
		return wfs_wrap(err, r, "cache directory");
	c->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->dir < 0)
		return wfs_fail_sys(err, "open cache directory %s", path);
	r = wfs_cache_check(c->dir, path, err);
	if (r == 0)
		r = lock_cache(c, err);
	if (r < 0)
		return r;
	r = wfs_remove_tree(c->dir, "tmp", err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(subs); i++)
		r = wfs_mkdirs(c->dir, subs[i], 0700, err);
	if (r == 0) {
		tidy(c, ".");
		tidy(c, "versions");
		tidy(c, "pins");
		tidy(c, "objects");
		c->leases = wfs_lease_works(c->dir);
	}
	return r < 0 ? wfs_wrap(err, r, "cache %s", path) : 0;
}

void wfs_cache_close(struct wfs_cache *c)
{
	wfs_close_fd(&c->lock_fd);
	wfs_close_fd(&c->dir);
	free(c->path);
	c->path = NULL;
	c->dir = c->lock_fd = -1;
}

int wfs_cache_run_load(struct wfs_cache *c, struct wfs_run *run, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	int r;

	run->s[0] = '\0';
	r = wfs_read_file(&raw, c->dir, "run", WFS_STORE_INFO_MAX, err);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = wfs_store_info_parse(run, raw.data, raw.len, err);
	return r < 0 ? wfs_wrap(err, r, "cache %s: run", c->path) : 0;
}

int wfs_cache_run_store(struct wfs_cache *c, const struct wfs_run *run, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	int r;

	r = wfs_store_info_format(&raw, run);
	if (r < 0)
		return wfs_fail(err, r, "out of memory");
	return wfs_write_file(c->dir, "run", raw.data, raw.len, 0600, err);
}

/* Images are left to the next sweep, which sees whether somebody still uses them. */
int wfs_cache_wipe(struct wfs_cache *c, struct wfs_err *err)
{
	static const char *const subs[] = { "state", "run", "versions", "pins", "objects", "stash" };
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(subs); i++) {
		r = wfs_remove_tree(c->dir, subs[i], err);
		if (r == 0 && i >= 2)
			r = wfs_mkdirs(c->dir, subs[i], 0700, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int wfs_cache_get(struct wfs_cache *c, struct wfs_buf *out, const struct wfs_digest *id, size_t max,
		  struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	struct wfs_digest got;
	char name[WFS_OBJECT_NAME];
	int r;

	wfs_object_name(name, "objects", id);
	r = wfs_read_file(&raw, c->dir, name, max, err);
	if (r == -EFBIG || r == -ELOOP || r == -EISDIR || r == -EINVAL || r == -ENXIO)
		goto rotten;
	if (r < 0)
		return r;
	wfs_sha256(&got, raw.data, raw.len);
	if (!wfs_digest_equal(&got, id))
		goto rotten;
	*out = wfs_buf_take(&raw);
	return 0;
rotten:
	wfs_remove_tree(c->dir, name, NULL);	/* whatever it is: a directory, too */
	if (err)
		err->msg[0] = '\0';
	return -ENOENT;
}

int wfs_cache_put(struct wfs_cache *c, const struct wfs_digest *id, const void *data, size_t len, bool durable,
		  struct wfs_err *err)
{
	char name[WFS_OBJECT_NAME];

	wfs_object_name(name, "objects", id);
	return durable ? wfs_write_file(c->dir, name, data, len, 0600, err)
		       : wfs_write_file_unsynced(c->dir, name, data, len, 0600, err);
}

static int commit_load(struct wfs_cache *c, const char *name, struct wfs_commit *out, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	int r;

	r = wfs_read_file(&raw, c->dir, name, WFS_STORE_INFO_MAX, err);
	return r < 0 ? r : wfs_commit_parse(out, raw.data, raw.len, err);
}

static int commit_store(struct wfs_cache *c, const char *name, const struct wfs_commit *commit,
			struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	int r;

	r = wfs_commit_format(&raw, commit);
	if (r < 0)
		return wfs_fail(err, r, "out of memory");
	return wfs_write_file(c->dir, name, raw.data, raw.len, 0600, err);
}

int wfs_cache_state_load(struct wfs_cache *c, struct wfs_commit *out, struct wfs_err *err)
{
	int r;

	memset(out, 0, sizeof(*out));
	r = commit_load(c, "state", out, err);
	if (r == -ENOENT)
		return 0;
	/* Going on without it could let the store roll back, so say what to do. */
	return r < 0 ? wfs_wrap(err, r, "%s/state (remove it to forget the highest sequence seen)", c->path) : 0;
}

int wfs_cache_state_store(struct wfs_cache *c, const struct wfs_commit *commit, struct wfs_err *err)
{
	return commit_store(c, "state", commit, err);
}

static void record_name(char name[48], const char *sub, uint64_t sequence)
{
	snprintf(name, 48, "%s/%" PRIu64, sub, sequence);
}

static int record(struct wfs_cache *c, const char *sub, const struct wfs_commit *commit, struct wfs_err *err)
{
	char name[48];

	record_name(name, sub, commit->sequence);
	return commit_store(c, name, commit, err);
}

static int unrecord(struct wfs_cache *c, const char *sub, uint64_t sequence, struct wfs_err *err)
{
	char name[48];

	record_name(name, sub, sequence);
	if (unlinkat(c->dir, name, 0) < 0 && errno != ENOENT)
		return wfs_fail_sys(err, "remove %s/%s", c->path, name);
	return 0;
}

int wfs_cache_record(struct wfs_cache *c, const struct wfs_commit *commit, struct wfs_err *err)
{
	return record(c, "versions", commit, err);
}

int wfs_cache_unrecord(struct wfs_cache *c, uint64_t sequence, struct wfs_err *err)
{
	return unrecord(c, "versions", sequence, err);
}

int wfs_cache_pin(struct wfs_cache *c, const struct wfs_commit *commit, struct wfs_err *err)
{
	return record(c, "pins", commit, err);
}

int wfs_cache_unpin(struct wfs_cache *c, uint64_t sequence, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int dir = -1;
	int r;

	r = unrecord(c, "pins", sequence, err);
	if (r < 0)
		return r;
	dir = openat(c->dir, "pins", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? wfs_fail_sys(err, "open %s/pins", c->path) : wfs_fsync_dir(dir, err);
}

/* A pin of another run, or of another version with that number, is none. */
bool wfs_cache_pinned(struct wfs_cache *c, const struct wfs_commit *commit)
{
	struct wfs_commit pin;
	char name[48];

	record_name(name, "pins", commit->sequence);
	return commit_load(c, name, &pin, NULL) == 0 && strcmp(pin.run.s, commit->run.s) == 0 &&
	       wfs_digest_equal(&pin.version, &commit->version);
}

static int by_sequence(const void *a, const void *b)
{
	const struct wfs_commit *x = a, *y = b;

	return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

int wfs_cache_records(struct wfs_cache *c, struct wfs_commit **out, size_t *n, struct wfs_err *err)
{
	struct wfs_commit *list = NULL, *bigger, one;
	size_t count = 0;
	struct dirent *e;
	char name[300];
	DIR *d;
	int fd;

	fd = openat(c->dir, "versions", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return wfs_fail_sys(err, "read %s/versions", c->path);
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "versions/%s", e->d_name);
		if (commit_load(c, name, &one, NULL) < 0) {
			unlinkat(c->dir, name, 0);
			continue;
		}
		bigger = realloc(list, (count + 1) * sizeof(*list));
		if (!bigger) {
			closedir(d);
			free(list);
			return wfs_fail(err, -ENOMEM, "out of memory");
		}
		list = bigger;
		list[count++] = one;
	}
	closedir(d);
	if (count)
		qsort(list, count, sizeof(*list), by_sequence);
	*out = list;
	*n = count;
	return 0;
}
