/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dir_lock.c - a store in a directory: who may write
 *
 *   lock   held by the publisher or gc at work; its text says which process that is
 *
 * The lock is an open file description's: it goes with the last descriptor, a crash included, and two
 * stores opened by one process exclude one another.  The file stays: unlinking it would let two
 * publishers lock two files.
 *
 * A publisher locks the whole file, gc its first byte: each excludes all others, and the kernel tells who is
 * refused which of them it was.  The text is for people: for a moment it may be the last holder's.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "store/dir.h"
#include "weightfs/base.h"
#include "weightfs/io.h"

#define TMP_AGE_MAX 3600	/* seconds without a write, after which a temporary is nobody's */
#define POLL_NS 50000000ull	/* how often one who waits tries */
#define TELL_NS 2000000000ull	/* shorter waits are not worth a word: gc lets go every second */
#define UNKNOWN_MAX 3		/* tries while the holder cannot be told */

struct holder {
	bool known, gc;
};

/* Best effort: what cannot be removed is only space. */
static void sweep_tmp(struct wfs_dir *d)
{
	int fd = openat(d->fd, "tmp", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	time_t now = time(NULL);
	struct dirent *e;
	struct stat sb;

	if (!dir) {
		wfs_close_fd(&fd);
		return;
	}
	while ((e = readdir(dir)))
		if (fstatat(fd, e->d_name, &sb, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(sb.st_mode) &&
		    now - sb.st_mtime > TMP_AGE_MAX)
			unlinkat(fd, e->d_name, 0);
	closedir(dir);
}

/* "process 12 on host", or nothing. */
static void read_who(int fd, char who[128])
{
	ssize_t n = pread(fd, who, 127, 0);

	who[n > 0 ? n : 0] = '\0';
	who[strcspn(who, "\n")] = '\0';
}

static int busy(int fd, const struct holder *h, uint64_t waited_ns, struct wfs_err *err)
{
	char who[128], waited[48] = "";

	read_who(fd, who);
	if (waited_ns)
		snprintf(waited, sizeof(waited), ", still after %" PRIu64 " s", waited_ns / 1000000000u);
	return wfs_fail(err, -EBUSY, "%s is at work in this store%s%s%s", h->gc ? "gc" : "another publisher", waited,
			who[0] ? ": " : "", who);
}

static int say_who(int fd, struct wfs_err *err)
{
	char host[64] = "", who[128];

	gethostname(host, sizeof(host) - 1);
	snprintf(who, sizeof(who), "process %ld on %s\n", (long)getpid(), host);
	if (ftruncate(fd, 0) < 0)
		return wfs_fail_sys(err, "write the store's lock file");
	return wfs_pwrite(fd, who, strlen(who), 0, err);
}

/* -EBUSY without a message: *h says who has it, if that can be told: it may have let go since. */
static int try_lock(int fd, bool gc, struct holder *h, struct wfs_err *err)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = gc };

	if (fcntl(fd, F_OFD_SETLK, &fl) == 0)
		return 0;
	if (errno != EAGAIN && errno != EACCES)
		return wfs_fail_sys(err, "lock the store");
	fl.l_pid = 0;
	h->known = fcntl(fd, F_OFD_GETLK, &fl) == 0 && fl.l_type != F_UNLCK;
	h->gc = h->known && fl.l_len == 1;
	return -EBUSY;
}

static void tell(int fd, const struct wfs_lock *how, const struct holder *h)
{
	struct wfs_err e = { "" };

	busy(fd, h, 0, &e);
	how->tell(how->arg, e.msg);
}

static int wait_lock(int fd, const struct wfs_lock *how, struct wfs_err *err)
{
	uint64_t start = wfs_now_ns(), waited = 0;
	unsigned unknown = 0;
	struct holder h;
	bool told = false;
	int r;

	while ((r = try_lock(fd, how->gc, &h, err)) == -EBUSY) {
		bool patient = h.gc || how->gc || how->wait_publisher;
		bool unsure = !h.known && unknown++ < UNKNOWN_MAX;

		waited = wfs_now_ns() - start;
		if (!unsure && (!patient || waited >= how->wait_ns))
			return busy(fd, &h, patient ? how->wait_ns : 0, err);
		if (!told && how->tell && h.known && waited >= TELL_NS) {
			tell(fd, how, &h);
			told = true;
		}
		r = wfs_sleep(POLL_NS, how->cancel);
		if (r < 0)
			return r;
	}
	return r;
}

int wfs_dir_lock(struct wfs_store *st, const struct wfs_lock *how, struct wfs_err *err)
{
	struct wfs_dir *d = st->priv;
	WFS_AUTO(wfs_close_fd) int fd = -1;
	int r;

	if (d->lock >= 0)
		return 0;
	fd = openat(d->fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
	if (fd < 0)
		return wfs_fail_sys(err, "open the store's lock file");
	r = wait_lock(fd, how, err);
	if (r == 0)
		r = say_who(fd, err);
	if (r < 0)
		return r;
	sweep_tmp(d);
	d->lock = fd;
	fd = -1;
	return 0;
}

void wfs_dir_unlock(struct wfs_store *st)
{
	struct wfs_dir *d = st->priv;

	wfs_close_fd(&d->lock);
	d->lock = -1;
}
