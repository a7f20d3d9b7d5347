/* SPDX-License-Identifier: Apache-2.0 */
/*
 * helper_main.c - the privileged process
 *
 * Whoever runs in the daemon may ask for anything, so nothing it says is believed.  A file is registered
 * only when
 *
 *   1. it is open for reading and nothing else.  O_PATH is refused: the kernel would take it, and it
 *      can be had of files that its opener may not read.
 *   2. it is a regular file of the daemon's own user: one it could have read anyway.
 *   3. it lies below the cache's images/, on the same mount, by the kernel's word for its name.
 *
 * When the daemon dies, what it had registered is closed: else the dead mount would keep the cache's disk
 * busy.  Open files and mappings keep what they need themselves.
 *
 * It mounts once, and unmounts that mount alone.  It keeps CAP_SYS_ADMIN for that, and
 * CAP_DAC_READ_SEARCH to get to a mount point in a directory that is another user's.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper_proto.h"
#include "passthrough_abi.h"
#include "path.h"
#include "privilege.h"
#include "weightfs/base.h"

#define PATHS_MAX	(2 * PATH_MAX)
#define SETTLED_MAX	2u		/* children in all */

struct server {
	const struct helper_conf *conf;
	int sock, fuse, cache;		/* fuse: -1 before the mount */
	struct mount_entry entry;	/* of the mount; id 0 before it */
	unsigned n_settled;
	int *ids;			/* registered and not closed */
	size_t n_ids, cap_ids;
};

bool helper_possible(void)
{
	return geteuid() == 0 && privilege_has_cap(CAP_SYS_ADMIN);
}

/* ---- registering files ---- */

/* The kernel's name for what fd is; a removed file's has an ending that hides no directory. */
static bool name_of(int fd, char *out)
{
	char link[40];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, out, PATHS_MAX - 1);
	if (n <= 0 || n >= PATHS_MAX - 1)
		return false;
	out[n] = '\0';
	return out[0] == '/';
}

static bool same_mount(int fd, int dir)
{
	struct statx a, b;

	return statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &a) == 0 && (a.stx_mask & STATX_MNT_ID) &&
	       statx(dir, "", AT_EMPTY_PATH, STATX_MNT_ID, &b) == 0 && (b.stx_mask & STATX_MNT_ID) &&
	       a.stx_mnt_id == b.stx_mnt_id;
}

int helper_check(int fd, int images, uid_t owner)
{
	char file[PATHS_MAX], dir[PATHS_MAX];
	int flags = fcntl(fd, F_GETFL);
	struct stat st;
	size_t n;

	if (flags < 0 || (flags & O_ACCMODE) != O_RDONLY || (flags & O_PATH))
		return -EACCES;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != owner)
		return -EACCES;
	if (!same_mount(fd, images) || !name_of(fd, file) || !name_of(images, dir))
		return -EACCES;
	n = strlen(dir);
	return strncmp(file, dir, n) == 0 && file[n] == '/' ? 0 : -EACCES;
}

static bool room_for_id(struct server *s)
{
	int *bigger;

	if (s->n_ids < s->cap_ids)
		return true;
	bigger = realloc(s->ids, (s->cap_ids * 2 + 64) * sizeof(*bigger));
	if (!bigger)
		return false;
	s->ids = bigger;
	s->cap_ids = s->cap_ids * 2 + 64;
	return true;
}

static int backing_open(struct server *s, int fd)
{
	struct backing_map map = { .fd = fd };
	WFS_AUTO(wfs_close_fd) int images = -1;
	struct stat st;
	int r;

	if (fd < 0 || s->fuse < 0)
		return -EINVAL;
	/* the daemon makes it, after we were started */
	images = openat(s->cache, "images", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (images < 0 || fstat(images, &st) < 0 || st.st_uid != s->conf->owner)
		return -EACCES;
	r = helper_check(fd, images, s->conf->owner);
	if (r < 0)
		return r;
	if (!room_for_id(s))
		return -ENOMEM;
	r = ioctl(s->fuse, IOC_BACKING_OPEN, &map);
	if (r < 0)
		return -errno;
	s->ids[s->n_ids++] = r;
	return r;
}

static void close_id(struct server *s, size_t i)
{
	uint32_t id = (uint32_t)s->ids[i];

	s->ids[i] = s->ids[--s->n_ids];
	ioctl(s->fuse, IOC_BACKING_CLOSE, &id);
}

static void backing_close(struct server *s, int32_t id)
{
	for (size_t i = 0; i < s->n_ids; i++)
		if (s->ids[i] == id) {
			close_id(s, i);
			return;
		}
}

/* ---- the mount ---- */

static int do_mount(struct server *s, char *msg, size_t cap)
{
	const struct helper_conf *c = s->conf;
	unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | (c->noexec ? MS_NOEXEC : 0);
	char options[128];
	int r;

	if (s->fuse >= 0)
		return -EALREADY;
	s->fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (s->fuse < 0) {
		snprintf(msg, cap, "open /dev/fuse: %s", strerror(errno));
		return -errno;
	}
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=%u,group_id=%u,default_permissions%s", s->fuse,
		 (unsigned)getuid(), (unsigned)getgid(), c->allow_other ? ",allow_other" : "");
	r = mount(c->source, c->point, "fuse.weightfs", flags, options) < 0 ? -errno : 0;
	if (r == 0)
		r = mount_find(&s->entry, c->point, NULL);
	if (r < 0) {
		snprintf(msg, cap, "mount on %s: %s", c->point, strerror(-r));
		wfs_close_fd(&s->fuse);
	}
	return r;
}

/* An ended connection has no mount any more, and its device number may be another's. */
static int do_unmount(struct server *s)
{
	struct pollfd p = { .fd = s->fuse };
	struct mount_entry now;

	if (s->fuse < 0 || (poll(&p, 1, 0) > 0 && (p.revents & POLLERR)) || mount_find(&now, s->conf->point, NULL) < 0 || now.major != s->entry.major ||
	    now.minor != s->entry.minor)
		return -ENOENT;
	return umount2(s->conf->point, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
}

/* The child must not hold the connection: it would wait for itself for ever when the daemon dies. */
static int settle(struct server *s, uint64_t seed, int *out)
{
	pid_t pid;
	int p[2];

	if (s->fuse < 0 || s->n_settled++ >= SETTLED_MAX)
		return -EALREADY;
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		close(p[0]);
		close(s->sock);
		close(s->fuse);
		helper_settle_main(p[1], s->conf->point, s->entry.major, s->entry.minor, seed);
	}
	close(p[1]);
	if (pid < 0) {
		close(p[0]);
		return -EAGAIN;
	}
	*out = p[0];
	return 0;
}

/* ---- the loop ---- */

static void answer(struct server *s, const struct helper_ask *ask, int fd)
{
	struct helper_answer a = { .r = -EINVAL };
	WFS_AUTO(wfs_close_fd) int made = -1;
	int give = -1;

	switch (ask->what) {
	case HELPER_MOUNT:
		a.r = do_mount(s, a.msg, sizeof(a.msg));
		give = a.r == 0 ? s->fuse : -1;
		break;
	case HELPER_UNMOUNT:
		a.r = do_unmount(s);
		break;
	case HELPER_OPEN:
		a.r = backing_open(s, fd);
		break;
	case HELPER_CLOSE:
		backing_close(s, ask->id);
		return;
	case HELPER_SETTLE:
		a.r = settle(s, ask->seed, &made);
		give = made;
		break;
	}
	helper_send(s->sock, &a, sizeof(a), give);
}

/* Descriptors of the daemon's, among them the pipe that its parent waits on. */
static void close_others(int sock, int cache)
{
	int low = WFS_MIN(sock, cache), high = WFS_MAX(sock, cache);

	if (low > 3)
		close_range(3, (unsigned)low - 1, 0);
	if (high > low + 1)
		close_range((unsigned)low + 1, (unsigned)high - 1, 0);
	close_range((unsigned)high + 1, ~0u, 0);
}

static void use_null(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; null >= 0 && fd <= 2; fd++)
		dup2(null, fd);
}

void helper_main(int sock, const struct helper_conf *conf)
{
	struct server s = { .conf = conf, .sock = sock, .fuse = -1 };
	struct helper_ask ask;
	struct stat st;
	sigset_t all;
	int fd;

	prctl(PR_SET_NAME, "weightfs-helper");
	/* a terminal's Ctrl-C is the daemon's to obey: it still needs us to unmount */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	signal(SIGCHLD, SIG_IGN);
	s.cache = open(conf->cache, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s.cache < 0 || chdir("/") < 0)
		_exit(1);
	close_others(sock, s.cache);
	use_null();
	if (privilege_keep_caps(1ull << CAP_SYS_ADMIN | 1ull << CAP_DAC_READ_SEARCH) < 0)
		_exit(1);
	while (helper_recv(sock, &ask, sizeof(ask), &fd) == sizeof(ask)) {
		answer(&s, &ask, fd);
		wfs_close_fd(&fd);
	}
	while (s.n_ids)
		close_id(&s, s.n_ids - 1);
	if (conf->remove && lstat(conf->remove, &st) == 0 && st.st_ino == conf->remove_ino)
		unlink(conf->remove);
	_exit(0);
}
