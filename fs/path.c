/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.c - mount points from /proc/self/mountinfo
 *
 * Asking a FUSE mount about itself (stat, realpath) fails when its daemon is dead and waits when
 * it is stuck, so everything here is read from /proc.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "path.h"
#include "weightfs/base.h"

extern char **environ;

int path_absolute(char **path, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) char *cwd = NULL;
	char *abs;

	if (**path == '/')
		return 0;
	cwd = getcwd(NULL, 0);
	if (!cwd)
		return wfs_fail_sys(err, "current directory");
	if (asprintf(&abs, "%s/%s", cwd, *path) < 0)
		return wfs_fail(err, -ENOMEM, "out of memory");
	free(*path);
	*path = abs;
	return 0;
}

bool path_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	while (n > 1 && dir[n - 1] == '/')
		n--;
	if (n == 1)
		return true;
	return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

int path_mount_point(char out[PATH_MAX], const char *mnt, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) char *copy = NULL, *copy2 = NULL;
	char dir[PATH_MAX];
	const char *name;

	copy = strdup(mnt);
	copy2 = strdup(mnt);
	if (!copy || !copy2)
		return wfs_fail(err, -ENOMEM, "out of memory");
	name = basename(copy);
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "/") == 0)
		return realpath(mnt, out) ? 0 : wfs_fail_sys(err, "%s", mnt);
	if (!realpath(dirname(copy2), dir))
		return wfs_fail_sys(err, "%s", mnt);
	if ((size_t)snprintf(out, PATH_MAX, "%s/%s", strcmp(dir, "/") ? dir : "", name) >= PATH_MAX)
		return wfs_fail(err, -ENAMETOOLONG, "%s: path too long", mnt);
	/* a mount there is the answer, dead or alive; otherwise a link may lead on */
	if (mount_find(&(struct mount_entry){ 0 }, out, NULL) == 0)
		return 0;
	return realpath(mnt, out) ? 0 : wfs_fail_sys(err, "%s", mnt);
}

/* Undo the \040 of mountinfo, in place. */
static void unescape(char *s)
{
	char *o = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*o++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 4;
		} else {
			*o++ = *s++;
		}
	}
	*o = '\0';
}

/* "36 35 0:41 / /mnt/x ro,nosuid shared:1 - fuse.weightfs SOURCE rw,user_id=0,..." */
static bool parse_line(struct mount_entry *out, char *line, const char *point)
{
	char *save = NULL, *field[5], *rest, *user;
	struct mount_entry e = { 0 };

	rest = strstr(line, " - ");
	if (!rest)
		return false;
	*rest = '\0';
	rest += 3;
	for (int i = 0; i < 5; i++) {
		field[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!field[i])
			return false;
	}
	unescape(field[4]);
	if (strcmp(field[4], point) != 0)
		return false;
	e.id = atoi(field[0]);
	if (sscanf(field[2], "%u:%u", &e.major, &e.minor) != 2)
		return false;
	user = strstr(rest, "user_id=");
	e.user = user ? (uid_t)strtoul(user + 8, NULL, 10) : 0;
	snprintf(e.type, sizeof(e.type), "%.*s", (int)strcspn(rest, " "), rest);
	*out = e;
	return true;
}

int mount_find(struct mount_entry *out, const char *point, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) char *line = NULL;
	size_t cap = 0;
	int r = -ENOENT;
	FILE *f;

	f = fopen("/proc/self/mountinfo", "re");
	if (!f)
		return wfs_fail_sys(err, "/proc/self/mountinfo");
	while (getline(&line, &cap, f) > 0)
		if (parse_line(out, line, point))
			r = 0;			/* the last one is on top */
	fclose(f);
	return r;
}

bool mount_is_ours(const struct mount_entry *e)
{
	return strcmp(e->type, "fuse.weightfs") == 0;
}

/* Ordinary users: fusermount3 is set-uid and unmounts what the user mounted. */
static int run_fusermount(const char *point, bool lazy, struct wfs_err *err)
{
	const char *argv[] = { "fusermount3", "-u", "-q", lazy ? "-z" : "--", lazy ? "--" : point,
			       lazy ? point : NULL, NULL };
	int status, r;
	pid_t pid;

	r = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)argv, environ);
	if (r != 0)
		return wfs_fail(err, -r, "fusermount3: %s", strerror(r));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return wfs_fail_sys(err, "fusermount3");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return -EBUSY;
}

int mount_remove(const char *point, bool lazy, struct wfs_err *err)
{
	if (geteuid() != 0)
		return run_fusermount(point, lazy, err);
	if (umount2(point, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
		return 0;
	return errno == EBUSY ? -EBUSY : wfs_fail_sys(err, "unmount %s", point);
}
