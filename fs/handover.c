/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handover.c - giving a cache to another user
 *
 * Root changes owners in a tree that others may have had their hands in, so:
 *
 * 1. The top belongs to root, closed to all, from the first change to the last: nobody gets in to put
 *    something else in a name's place, and an interrupted handover is seen and begun again.
 * 2. Each thing is opened by its own name below its opened directory, links not followed, and changed
 *    through that descriptor.
 * 3. A file with a second name is refused: it may be a link to one that is somewhere else.  Only served/
 *    has such links of ours; it is removed, and made anew by the mount.
 * 4. Only what is root's, or was the former owner's, is given.
 * 5. In a directory that is not a cache nothing is changed at all: wfs_cache_check.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "handover.h"
#include "weightfs/base.h"
#include "weightfs/io.h"
#include "weightfs/replica.h"

#define DEPTH_MAX	8u
#define LOCK_NS		100000000l
#define LOCK_TRIES	30

struct give {
	const char *cache;
	uid_t from, to;
	gid_t gid;
	dev_t dev;
};

static int way_out(struct wfs_err *err, const struct give *g, const char *name, const char *what)
{
	return wfs_fail(err, -EPERM, "cache %s: %s %s; use another directory, remove it, or mount with run_as=root",
			g->cache, name, what);
}

static int give_all(const struct give *g, int dir, unsigned depth, struct wfs_err *err);

static int give_one(const struct give *g, int dir, const char *name, unsigned depth, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	WFS_AUTO(wfs_close_fd) int inside = -1;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return wfs_fail_sys(err, "cache %s: %s", g->cache, name);
	if (st.st_dev != g->dev)
		return way_out(err, g, name, "is on another file system");
	if (st.st_uid != 0 && st.st_uid != g->from && st.st_uid != g->to)
		return way_out(err, g, name, "belongs to a third user");
	if (S_ISDIR(st.st_mode)) {
		inside = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (inside < 0)
			return wfs_fail_sys(err, "cache %s: %s", g->cache, name);
		r = give_all(g, inside, depth + 1, err);
		if (r < 0)
			return r;
	} else if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)) {
		return way_out(err, g, name, "is no file");
	} else if (st.st_nlink != 1) {
		return way_out(err, g, name, "has a second name somewhere");
	}
	if (st.st_uid == g->to)
		return 0;
	return fchownat(fd, "", g->to, g->gid, AT_EMPTY_PATH) < 0 ? wfs_fail_sys(err, "cache %s: give %s", g->cache, name) : 0;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Calls fn for each name in dir, which stays the caller's. */
static int each(const struct give *g, int dir, unsigned depth,
		int (*fn)(const struct give *g, int dir, const char *name, unsigned depth, struct wfs_err *err),
		struct wfs_err *err)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		r = wfs_fail_sys(err, "cache %s", g->cache);
		wfs_close_fd(&fd);
		return r;
	}
	while (r == 0 && (e = readdir(d)))
		if (!is_dots(e->d_name) && strcmp(e->d_name, "lost+found") != 0)
			r = fn(g, dir, e->d_name, depth, err);
	closedir(d);
	return r;
}

static int give_all(const struct give *g, int dir, unsigned depth, struct wfs_err *err)
{
	if (depth > DEPTH_MAX)
		return wfs_fail(err, -ELOOP, "cache %s: directories are too deep", g->cache);
	return each(g, dir, depth, give_one, err);
}

/* In the user's own directory nothing is changed, but what root left there would stop the daemon. */
static int check_owner(const struct give *g, int dir, const char *name, unsigned depth, struct wfs_err *err)
{
	struct stat st;

	(void)depth;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_uid == g->to)
		return 0;
	return wfs_cache_owns(name) ? way_out(err, g, name, "belongs to another user than the directory") : 0;
}

static int lock(const struct give *g, int top, int *out, struct wfs_err *err)
{
	struct timespec pause = { .tv_nsec = LOCK_NS };

	*out = openat(top, "lock", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (*out < 0)
		return 0;
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(*out, LOCK_EX | LOCK_NB) == 0)
			return 0;
		nanosleep(&pause, NULL);
	}
	return wfs_fail(err, -EBUSY, "cache %s is used by another process; one process a cache directory", g->cache);
}

static int hand_over(const struct give *g, int top, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int locked = -1;
	int r;

	r = lock(g, top, &locked, err);
	if (r < 0)
		return r;
	if (fchown(top, 0, (gid_t)-1) < 0 || fchmod(top, 0700) < 0)
		return wfs_fail_sys(err, "cache %s: close it", g->cache);
	r = wfs_remove_tree(top, "served", err);
	if (r == 0)
		r = give_all(g, top, 0, err);
	if (r < 0)
		return r;
	return fchown(top, g->to, g->gid) < 0 ? wfs_fail_sys(err, "give cache %s", g->cache) : 0;
}

/* Others must get through to the cache, so the umask does not count. */
static int make_dirs(const char *cache, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) char *path = strdup(cache);

	if (!path)
		return wfs_fail(err, -ENOMEM, "out of memory");
	for (char *p = path + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		if (mkdir(path, 0755) == 0)
			(void)!chmod(path, 0755);
		else if (errno != EEXIST)
			return wfs_fail_sys(err, "cache directory: mkdir %s", path);
		*p = '/';
	}
	if (mkdir(cache, 0700) < 0 && errno != EEXIST)
		return wfs_fail_sys(err, "cache directory: mkdir %s", cache);
	return 0;
}

int handover_cache(const char *cache, uid_t uid, gid_t gid, struct wfs_err *err)
{
	struct give g = { .cache = cache, .to = uid, .gid = gid };
	WFS_AUTO(wfs_close_fd) int top = -1;
	struct stat st;
	int r = make_dirs(cache, err);

	if (r < 0)
		return r;
	top = open(cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top < 0 || fstat(top, &st) < 0)
		return wfs_fail_sys(err, "cache directory %s", cache);
	r = wfs_cache_check(top, cache, err);
	if (r < 0)
		return r;
	g.from = st.st_uid;
	g.dev = st.st_dev;
	if (st.st_uid == uid && uid != 0)
		return each(&g, top, 0, check_owner, err);
	if (st.st_uid == uid)
		return 0;
	if (st.st_uid != 0 && uid != 0)
		return wfs_fail(err, -EPERM, "cache %s belongs to user %u: mount with run_as=%u, or use another directory",
				cache, (unsigned)st.st_uid, (unsigned)st.st_uid);
	return hand_over(&g, top, err);
}
