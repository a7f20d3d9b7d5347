/* SPDX-License-Identifier: Apache-2.0 */
/*
 * selftest.c - does the kernel read a registered file by itself, and rightly?
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "selftest.h"
#include "weightfs/base.h"
#include "weightfs/io.h"

static void fill(uint8_t *buf, uint64_t seed)
{
	for (size_t i = 0; i < SELFTEST_SIZE; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		buf[i] = (uint8_t)(seed >> 56);
	}
}

static void name_of(char path[PATH_MAX], const char *cache)
{
	snprintf(path, PATH_MAX, "%s/images/" SELFTEST_NAME, cache);
}

int selftest_make(const char *cache, uint64_t seed, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int fd = -1;
	uint8_t buf[SELFTEST_SIZE];
	char path[PATH_MAX];
	int r;

	name_of(path, cache);
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return wfs_fail_sys(err, "create %s", path);
	fill(buf, seed);
	r = wfs_pwrite(fd, buf, sizeof(buf), 0, err);
	if (r < 0)
		return r;
	r = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return r < 0 ? wfs_fail_sys(err, "open %s", path) : r;
}

void selftest_remove(const char *cache)
{
	char path[PATH_MAX];

	name_of(path, cache);
	unlink(path);
}

static int failed(const char **step, const char *what, int r)
{
	*step = what;
	return r;
}

int selftest_read(const char *path, uint64_t seed, const char **step)
{
	uint8_t want[SELFTEST_SIZE], got[SELFTEST_SIZE];
	WFS_AUTO(wfs_close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	ssize_t n;
	void *map;
	bool same;

	fill(want, seed);
	if (fd < 0)
		return failed(step, "open", -errno);
	if (fstat(fd, &st) < 0)
		return failed(step, "stat", -errno);
	n = pread(fd, got, sizeof(got), 0);
	if (n < 0)
		return failed(step, "read", -errno);
	if (n != sizeof(got) || memcmp(got, want, sizeof(got)) != 0)
		return failed(step, "compare what was read", -EBADMSG);
	map = mmap(NULL, sizeof(want), PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return failed(step, "map", -errno);
	same = memcmp(map, want, sizeof(want)) == 0;
	munmap(map, sizeof(want));
	return same ? 0 : failed(step, "compare what was mapped", -EBADMSG);
}
