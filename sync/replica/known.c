/* SPDX-License-Identifier: Apache-2.0 */
/*
 * known.c - whether a directory is a cache, before anything in it is written or removed
 *
 * Opening a cache sweeps it, so a directory that was named by mistake (a store, a home directory) must not
 * get that far.  A cache holds no names but ours, and either the lock file, which is the first thing made in
 * it, or the directories that no other program has side by side.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "weightfs/base.h"
#include "weightfs/io.h"
#include "weightfs/replica.h"

/* new and old: of a pull that was killed, in the cache beside its target. */
static const char *const ours[] = { "lock", "run", "state", "versions", "pins", "objects", "images", "stash", "served",
				    "tmp", "undo", "hooks", "new", "old" };

/* What file systems put there, and an NFS client for a file that is removed while it is open. */
static bool is_nothing(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "lost+found") == 0 ||
	       strncmp(name, ".nfs", 4) == 0;
}

bool wfs_cache_owns(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
		if (strcmp(name, ours[i]) == 0)
			return true;
	return strncmp(name, WFS_TEMP_PREFIX, strlen(WFS_TEMP_PREFIX)) == 0;
}

/* A regular file with a process id, or with nothing yet: others have files of that name, too. */
static bool has_lock(int dir)
{
	WFS_AUTO(wfs_close_fd) int fd = openat(dir, "lock", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char text[32] = "";
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size >= (off_t)sizeof(text))
		return false;
	n = pread(fd, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	return strspn(text, "0123456789\n") == strlen(text);
}

static bool has_dirs(int dir)
{
	static const char *const names[] = { "images", "objects", "stash", "versions" };
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (fstatat(dir, names[i], &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
			return false;
	return true;
}

int wfs_cache_look(enum wfs_dir_kind *out, char odd[NAME_MAX + 1], int dir, struct wfs_err *err)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	bool foreign = false;
	struct dirent *e;
	struct stat st;

	if (!d) {
		wfs_close_fd(&fd);
		return wfs_fail_sys(err, "look into the directory");
	}
	*odd = '\0';
	while (!foreign && (e = readdir(d))) {
		if (is_nothing(e->d_name))
			continue;
		foreign = !wfs_cache_owns(e->d_name);
		snprintf(odd, NAME_MAX + 1, "%s", e->d_name);
	}
	closedir(d);
	/* The lock is looked for last: who makes a cache just now makes it first. */
	if (fstatat(dir, "weightfs-store", &st, AT_SYMLINK_NOFOLLOW) == 0)
		*out = WFS_DIR_STORE;
	else if (!*odd)
		*out = WFS_DIR_EMPTY;
	else
		*out = !foreign && (has_lock(dir) || has_dirs(dir)) ? WFS_DIR_CACHE : WFS_DIR_OTHER;
	return 0;
}

int wfs_cache_check(int dir, const char *path, struct wfs_err *err)
{
	static const char hint[] = "give the cache a directory of its own, a new or an empty one";
	enum wfs_dir_kind kind;
	char odd[NAME_MAX + 1];
	int r = wfs_cache_look(&kind, odd, dir, err);

	if (r < 0)
		return wfs_wrap(err, r, "cache %s", path);
	if (kind == WFS_DIR_STORE)
		return wfs_fail(err, -EPERM, "cache %s: it is a store; %s", path, hint);
	if (kind == WFS_DIR_OTHER && !wfs_cache_owns(odd))
		return wfs_fail(err, -EPERM, "cache %s: %s is no part of a cache; %s", path, odd, hint);
	if (kind == WFS_DIR_OTHER)
		return wfs_fail(err, -EPERM, "cache %s: it holds %s, but not the lock file of a cache; %s", path, odd, hint);
	return 0;
}

int wfs_cache_must_be(const char *path, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	enum wfs_dir_kind kind;
	char odd[NAME_MAX + 1];
	int r;

	if (dir < 0)
		return wfs_fail_sys(err, "is no cache of weightfs");
	r = wfs_cache_look(&kind, odd, dir, err);
	if (r < 0 || kind == WFS_DIR_CACHE)
		return r;
	if (kind == WFS_DIR_STORE)
		return wfs_fail(err, -EPERM, "is a store: did you mean weightsync verify %s?", path);
	if (kind == WFS_DIR_EMPTY)
		return wfs_fail(err, -EPERM, "is no cache of weightfs: it is empty; name the directory that cache= of a mount names");
	return wfs_fail(err, -EPERM, "is no cache of weightfs: it holds %s; name the directory that cache= of a mount names", odd);
}
