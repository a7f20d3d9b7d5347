/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_unmount.c - weightfs unmount MNT [--lazy]
 *
 * Done when the daemon is gone and its cache free for the next one.  After --lazy the daemon goes
 * on for those who still use the mount; that is said, and is no failure.
 *
 * The daemon hears of the end when the last mount of its file system has gone.  Whoever makes a mount
 * namespace gets a copy of every mount there is, and has it until that namespace ends.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"
#include "users.h"
#include "weightfs/base.h"

#define GONE_MS		10000
#define GONE_LAZY_MS	1000

static bool wait_gone(int pidfd, int ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return pidfd < 0 || poll(&p, 1, ms) > 0;
}

/* fusermount3 has the same exit status for everything; what it said stands above. */
static int say_busy(const struct client *c)
{
	if (geteuid() != 0)
		fprintf(stderr, "weightfs: fusermount3 did not unmount %s; it is used by\n", c->point);
	else
		fprintf(stderr, "weightfs: %s is in use by\n", c->point);
	if (!users_print(stderr, c->point, &c->entry))
		fprintf(stderr, "  nobody that can be seen from here (other users, other namespaces)\n");
	fprintf(stderr, "weightfs: end them, or detach it for new users only: weightfs unmount --lazy %s\n",
		c->point);
	return EXIT_BAD;
}

static const char *user_name(char out[64], uid_t uid)
{
	struct passwd *pw = getpwuid(uid);

	if (pw)
		snprintf(out, 64, "%.32s (uid %u)", pw->pw_name, (unsigned)uid);
	else
		snprintf(out, 64, "uid %u", (unsigned)uid);
	return out;
}

/* fusermount3 unmounts for a user only what that user has mounted, used or not, lazily or not. */
static int say_not_owner(const struct client *c)
{
	char owner[64], me[64];

	fprintf(stderr, "weightfs: %s was mounted by %s, and you are %s: only %s may unmount it\n", c->point,
		user_name(owner, c->entry.user), user_name(me, getuid()), c->entry.user ? "that user and root" : "root");
	return EXIT_BAD;
}

static int say_still_there(const struct client *c, pid_t pid)
{
	fprintf(stderr, "weightfs: unmounted, but the daemon, process %d, is still there\n", (int)pid);
	if (users_print_mounts(stderr, &c->entry))
		fprintf(stderr, "weightfs: unmounted here alone; the daemon ends with the last of these mounts, or now: kill %d\n",
			(int)pid);
	else
		fprintf(stderr, "weightfs: it has no mount any more, and ends when its disk has what it wrote; its log says more\n");
	return EXIT_BAD;
}

int cmd_unmount(int argc, char **argv)
{
	static const struct option longopts[] = { { "lazy", no_argument, NULL, 'l' }, { 0 } };
	WFS_AUTO(wfs_close_fd) int pidfd = -1;
	struct wfs_err err = { 0 };
	struct client c;
	bool lazy = false;
	pid_t pid;
	int opt, r;

	while ((opt = getopt_long(argc, argv, "lz", longopts, NULL)) != -1) {
		if (opt != 'l' && opt != 'z')
			return CMD_USAGE;
		lazy = true;
	}
	if (argc - optind != 1)
		return CMD_USAGE;
	r = client_find(&c, argv[optind]);
	if (r)
		return r;
	pid = client_pid(&c);
	if (pid > 0)
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	r = mount_remove(c.point, lazy, &err);
	if (r == -EBUSY && geteuid() != 0 && c.entry.user != getuid())
		return say_not_owner(&c);
	if (r == -EBUSY)
		return say_busy(&c);
	if (r < 0) {
		fprintf(stderr, "weightfs: %s\n", err.msg);
		return EXIT_BAD;
	}
	if (wait_gone(pidfd, lazy ? GONE_LAZY_MS : GONE_MS))
		return EXIT_OK;
	if (lazy) {
		fprintf(stderr, "weightfs: detached; process %d goes on for those who use it\n", (int)pid);
		return EXIT_OK;
	}
	return say_still_there(&c, pid);
}
