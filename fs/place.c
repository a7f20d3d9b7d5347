/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place.c - may we mount there?
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "path.h"
#include "place.h"
#include "weightfs/base.h"
#include "weightfs/log.h"

/* Not by stat: the kernel may have the attributes of the root of a dead mount. */
static bool answers(const char *point)
{
	int fd = open(point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || (errno != ENOTCONN && errno != ECONNABORTED);
}

/* A mount of ours whose daemon was killed stands in the way; a live one is left alone. */
int place_clean(const char *point, struct wfs_err *err)
{
	struct mount_entry e;
	struct stat st;
	int r;

	while (mount_find(&e, point, NULL) == 0 && mount_is_ours(&e)) {
		if (answers(point))
			return wfs_fail(err, -EBUSY, "%s: a weightfs is mounted there already", point);
		r = mount_remove(point, true, err);
		if (r < 0)
			return wfs_wrap(err, r, "remove the dead mount at %s", point);
		log_warn("%s: removed a mount whose daemon had died", point);
	}
	if (stat(point, &st) < 0)
		return wfs_fail_sys(err, "%s", point);
	if (!S_ISDIR(st.st_mode))
		return wfs_fail(err, -ENOTDIR, "%s: not a directory", point);
	return 0;
}

/* The daemon must never wait for itself. */
int place_not_below(const char *what, const char *path, const char *point, struct wfs_err *err)
{
	char real[PATH_MAX];

	if (path_below(path, point) || (realpath(path, real) && path_below(real, point)))
		return wfs_fail(err, -EINVAL, "%s %s lies below the mount point %s", what, path, point);
	return 0;
}

int place_allow_other(struct wfs_err *err)
{
	char line[256];
	bool found = false;
	FILE *f;

	if (geteuid() == 0)
		return 0;
	f = fopen("/etc/fuse.conf", "re");
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, " \t\r\n")] = '\0';
		found |= strcmp(line, "user_allow_other") == 0;
	}
	if (f)
		fclose(f);
	if (found)
		return 0;
	return wfs_fail(err, -EPERM, "allow_other: an ordinary user may use it only after root has put "
			"the line \"user_allow_other\" into /etc/fuse.conf");
}
