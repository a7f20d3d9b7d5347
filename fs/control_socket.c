/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_socket.c - where the control socket is, and making it
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "control_internal.h"
#include "weightfs/base.h"
#include "weightfs/digest.h"

static int runtime_dir(char out[PATH_MAX], uid_t uid, unsigned i)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");

	switch (i) {
	case 0:
		if (uid == 0)
			snprintf(out, PATH_MAX, "/run/weightfs");
		else if (uid == geteuid() && xdg && *xdg == '/')
			snprintf(out, PATH_MAX, "%s/weightfs", xdg);
		else
			snprintf(out, PATH_MAX, "/run/user/%u/weightfs", (unsigned)uid);
		return 0;
	case 1:
		snprintf(out, PATH_MAX, "/tmp/weightfs-%u", (unsigned)uid);
		return 0;
	default:
		return -ENOENT;
	}
}

int control_path(char out[PATH_MAX], const char *mnt, uid_t uid, unsigned i)
{
	char dir[PATH_MAX];
	int r = runtime_dir(dir, uid, i);

	if (r < 0)
		return r;
	if (snprintf(out, PATH_MAX, "%s/%016" PRIx64 ".sock", dir, wfs_xxh3(mnt, strlen(mnt))) >= PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}

/* A directory that nobody else may write to, or somebody could stand in for us. */
static int prepare_dir(const char *dir, uid_t uid, struct wfs_err *err)
{
	struct stat st;

	if (mkdir(dir, uid == 0 ? 0755 : 0700) < 0 && errno != EEXIST)
		return wfs_fail_sys(err, "%s", dir);
	if (lstat(dir, &st) < 0)
		return wfs_fail_sys(err, "%s", dir);
	if (!S_ISDIR(st.st_mode))
		return wfs_fail(err, -ENOTDIR, "%s is no directory", dir);
	if (st.st_uid != uid)
		return wfs_fail(err, -EPERM, "%s belongs to uid %u, not to you", dir, (unsigned)st.st_uid);
	return st.st_mode & 022 ? wfs_fail(err, -EPERM, "%s may be written to by others", dir) : 0;
}

static int try_listen(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* Nothing is mounted there, so a socket of that name was left by a daemon that was killed, or
	 * belongs to one whose mount was detached: it must not answer for us.  Who asks sees at its other end
	 * the user that we are now, root, whoever we become. */
	unlink(path);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || chmod(path, 0666) < 0 ||
	    listen(fd, 16) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

static int open_in(struct control *c, const char *dir, uid_t uid, unsigned i, struct wfs_err *err)
{
	struct stat st;
	int r = prepare_dir(dir, uid, err);

	if (r == 0)
		r = control_path(c->path, c->fs->mnt, uid, i);
	if (r < 0)
		return err->msg[0] ? r : wfs_fail(err, r, "%s: %s", dir, strerror(-r));
	r = try_listen(c->path);
	if (r < 0)
		return wfs_fail(err, r, "%s: %s", c->path, strerror(-r));
	c->socket_ino = lstat(c->path, &st) == 0 ? st.st_ino : 0;
	return r;
}

/* The message is about both places: either may be the one that can be mended. */
int control_open_socket(struct control *c, struct wfs_err *err)
{
	struct wfs_err why[2] = { { "" }, { "" } };
	uid_t uid = geteuid();
	char dir[PATH_MAX];
	int r = -ENOENT;

	for (unsigned i = 0; i < ARRAY_SIZE(why) && runtime_dir(dir, uid, i) == 0; i++) {
		r = open_in(c, dir, uid, i, &why[i]);
		if (r >= 0)
			return r;
	}
	c->path[0] = '\0';
	return wfs_fail(err, r, "no place for the control socket: %s; %s%s", why[0].msg, why[1].msg,
			uid == 0 ? "" : "; set XDG_RUNTIME_DIR to a directory of yours");
}
