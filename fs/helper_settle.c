/* SPDX-License-Identifier: Apache-2.0 */
/*
 * helper_settle.c - what is done to a mount from outside, once it answers
 *
 * The default readahead of 128 KiB cuts a 4 MiB pread into 32 requests.  INIT can only lower it, so
 * it is raised in sysfs.  The kernel holds the first stat back until it has taken the answer to INIT:
 * what comes after it is not undone, and files can be registered.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helper_proto.h"
#include "selftest.h"
#include "weightfs/base.h"
#include "weightfs/io.h"

#define READ_AHEAD_KB	4096

static int get_read_ahead(const char *path)
{
	WFS_AUTO(wfs_close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	char buf[32] = "";

	if (fd < 0 || read(fd, buf, sizeof(buf) - 1) <= 0)
		return -1;
	return atoi(buf);
}

static void set_read_ahead(const char *path)
{
	WFS_AUTO(wfs_close_fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
	char buf[32];
	int n = snprintf(buf, sizeof(buf), "%d\n", READ_AHEAD_KB);

	if (fd >= 0)
		(void)!write(fd, buf, (size_t)n);
}

static int tune(unsigned major, unsigned minor)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major, minor);
	set_read_ahead(path);
	return get_read_ahead(path);
}

void helper_settle_main(int pipe, const char *point, unsigned major, unsigned minor, uint64_t seed)
{
	struct helper_settled done = { .read_ahead = -1 };
	const char *step = "";
	char path[PATH_MAX];
	struct stat st;

	if (stat(point, &st) < 0) {
		done.test = -errno;
		step = "stat";
	} else if (!seed) {
		done.read_ahead = tune(major, minor);
	} else {
		snprintf(path, sizeof(path), "%s/.weightfs/" SELFTEST_NAME, point);
		done.test = selftest_read(path, seed, &step);
	}
	snprintf(done.step, sizeof(done.step), "%s", step);
	wfs_write(pipe, &done, sizeof(done), NULL);
	_exit(0);
}
