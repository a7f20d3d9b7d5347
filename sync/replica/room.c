/* SPDX-License-Identifier: Apache-2.0 */
/*
 * room.c - the disk that a cache may use: counted, set aside, charged
 *
 * 1. What is in the directory is counted (blocks on disk), not remembered: so files that somebody still
 *    has open, leftovers and our own errors are all in it.  Between counts, every 32 MiB and whenever
 *    a limit seems to be reached, what was written is added.
 * 2. Bytes are set aside before the first block of a version is built, and charged against that as
 *    blocks are written.  What others write must fit beside it; a reader that waits may use it up.
 * 3. f_bavail, not f_bfree: what only root may have is not ours.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "replica/internal.h"
#include "weightfs/base.h"

#define RECOUNT_EVERY (32u << 20)	/* bytes written between two counts */
#define DEPTH_MAX 12			/* of directories in a cache: served/N/ and a version's own below it */

/* Bytes on disk below a directory; of files with two names only where `linked`. */
static uint64_t tree_used(int dir, const char *name, int depth, bool linked)
{
	uint64_t sum = 0;
	struct dirent *e;
	struct stat st;
	DIR *d;
	int fd;

	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		wfs_close_fd(&fd);
		return 0;
	}
	while ((e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISDIR(st.st_mode) && depth > 0)
			sum += tree_used(dirfd(d), e->d_name, depth - 1, linked && strcmp(e->d_name, "served") != 0);
		else if (linked || st.st_nlink == 1)
			sum += (uint64_t)st.st_blocks * 512;
	}
	closedir(d);
	return sum;
}

uint64_t wfs_cache_used(struct wfs_cache *c)
{
	return tree_used(c->dir, ".", DEPTH_MAX, true);
}

static uint64_t disk_free(struct wfs_cache *c)
{
	struct statvfs vfs;

	return fstatvfs(c->dir, &vfs) < 0 ? 0 : (uint64_t)vfs.f_bavail * vfs.f_frsize;
}

static uint64_t above_min_free(const struct wfs_cache *c, uint64_t disk)
{
	return disk > c->min_free ? disk - c->min_free : 0;
}

uint64_t wfs_cache_free(struct wfs_cache *c)
{
	return above_min_free(c, disk_free(c));
}

uint64_t wfs_cache_reserved(struct wfs_cache *c)
{
	uint64_t n;

	pthread_mutex_lock(&c->room);
	n = c->reserved;
	pthread_mutex_unlock(&c->room);
	return n;
}

/* Do `more` bytes fit beside what is used and `aside`?  Needs c->room. */
static bool fits(struct wfs_cache *c, uint64_t more, uint64_t aside, struct wfs_shortage *lack)
{
	uint64_t disk = disk_free(c), avail = above_min_free(c, disk), used, wanted;

	*lack = (struct wfs_shortage){ 0 };
	if (!c->used || c->written >= RECOUNT_EVERY || (c->size_max && c->used + c->written + aside + more > c->size_max)) {
		c->used = wfs_cache_used(c);
		c->written = 0;
	}
	used = c->used + c->written + aside;
	if (aside + more > avail)		/* min_free may be more than the whole disk has */
		lack->disk = __builtin_add_overflow(aside + more, c->min_free, &wanted) ? UINT64_MAX - disk : wanted - disk;
	if (c->size_max && used + more > c->size_max)
		lack->size = used + more;
	lack->more = more;
	lack->used = used;
	lack->avail = avail;
	return !lack->disk && !lack->size;
}

int wfs_shortage_say(struct wfs_cache *c, const struct wfs_shortage *lack, struct wfs_err *err)
{
	char a[32], b[32], d[32];

	wfs_human_size(a, lack->more);
	if (lack->disk)
		return wfs_fail(err, -ENOSPC, "cache %s: %s more needed, its disk has %s above min_free", c->path, a,
				wfs_human_size(b, lack->avail));
	return wfs_fail(err, -ENOSPC, "cache %s: %s more needed, %s are in use and cache_size is %s", c->path, a,
			wfs_human_size(b, lack->used), wfs_human_size(d, c->size_max));
}

bool wfs_cache_reserve(struct wfs_cache *c, uint64_t need, struct wfs_shortage *lack)
{
	bool good;

	pthread_mutex_lock(&c->room);
	good = fits(c, need, c->reserved, lack);
	if (!good && lack->disk == 0) {		/* believe a fresh count only */
		c->written = RECOUNT_EVERY;
		good = fits(c, need, c->reserved, lack);
	}
	if (good)
		c->reserved += need;
	pthread_mutex_unlock(&c->room);
	return good;
}

void wfs_cache_release(struct wfs_cache *c, _Atomic uint64_t *left)
{
	pthread_mutex_lock(&c->room);
	c->reserved -= WFS_MIN(*left, c->reserved);
	*left = 0;
	pthread_mutex_unlock(&c->room);
}

int wfs_cache_charge(struct wfs_cache *c, uint64_t len, _Atomic uint64_t *left, bool demand, struct wfs_err *err)
{
	struct wfs_shortage lack;
	uint64_t own;
	bool good;

	pthread_mutex_lock(&c->room);
	own = left ? WFS_MIN(len, *left) : 0;
	if (own) {
		*left -= own;
		c->reserved -= WFS_MIN(own, c->reserved);
	}
	/* what was set aside for this is only looked for on the disk, which others may have filled */
	good = fits(c, len, demand || own == len ? 0 : c->reserved, &lack);
	c->written += good ? len : 0;
	pthread_mutex_unlock(&c->room);
	return good ? 0 : wfs_shortage_say(c, &lack, err);
}
