/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease.c - does anybody else have a file open or mapped?
 *
 * The kernel grants a write lease only when no other open file description of the inode exists; a
 * mapping keeps one, long after its descriptor was closed and whoever served it was told so.
 * Our own description is the one asked with, so it does not count; nobody of ours may have another.
 *
 * An open by somebody else while we hold a lease waits for us (O_NONBLOCK: fails with EAGAIN) and
 * sends us a signal, which by default would end the process.  So leases are given back at once, and the
 * signal is SIGURG, which does nothing unless asked to.
 *
 * Not every file system tells the truth: overlayfs grants a lease on a mapped file, because the
 * mapping belongs to the file below it; NFS has none; kernels before 5.3 refuse it for a file with two
 * names.  So a cache is tried first, and where it fails nothing is asked.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/io.h"

bool wfs_lease_take(int fd)
{
	return fcntl(fd, F_SETSIG, SIGURG) == 0 && fcntl(fd, F_SETLEASE, F_WRLCK) == 0;
}

void wfs_lease_give_back(int fd)
{
	fcntl(fd, F_SETLEASE, F_UNLCK);
}

bool wfs_lease_free(int fd)
{
	bool free = wfs_lease_take(fd);

	if (free)
		wfs_lease_give_back(fd);
	return free;
}

/* One page, open here as fd and known as `other` too. */
static bool tells_the_truth(int dir, int fd, const char *name, const char *other)
{
	WFS_AUTO(wfs_close_fd) int reader = -1;
	struct stat st;
	bool right;
	void *map;

	if (linkat(dir, name, dir, other, 0) < 0 || fstatat(dir, other, &st, 0) < 0)
		return false;
	right = wfs_lease_free(fd);
	reader = openat(dir, other, O_RDONLY | O_CLOEXEC);
	if (reader < 0)
		return false;
	right &= !wfs_lease_free(fd);
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, reader, 0);
	if (map == MAP_FAILED)
		return false;
	wfs_close_fd(&reader);
	reader = -1;
	right &= !wfs_lease_free(fd);
	munmap(map, (size_t)st.st_size);
	return right && wfs_lease_free(fd);
}

bool wfs_lease_works(int dir)
{
	WFS_AUTO(wfs_close_fd) int fd = -1;
	char name[64], other[80];
	bool works;

	if (wfs_temp_file(&fd, name, dir, "tmp", NULL) < 0)
		return false;
	snprintf(other, sizeof(other), "%s.2", name);
	works = wfs_pwrite(fd, "x", 1, 0, NULL) == 0 && tells_the_truth(dir, fd, name, other);
	unlinkat(dir, name, 0);
	unlinkat(dir, other, 0);
	return works;
}
