/* SPDX-License-Identifier: Apache-2.0 */
/*
 * renew.c - another file for an image that must be written to while somebody has the old one
 *
 * A complete image is never modified: an engine may have it mapped without our knowing.  When a block of it
 * has rotted, and the lease says that it is in use, a copy takes its place, and is mended.  Who has the old
 * file keeps it as it was; who opens the image from now on gets the new one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/io.h"
#include "weightfs/log.h"

/* The bytes of [off, end), which is data and no hole. */
static int copy_range(int from, int to, off_t off, off_t end, struct wfs_err *err)
{
	off_t in = off, out = off;

	while (in < end) {
		ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - in), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? wfs_fail_sys(err, "copy image") : wfs_fail(err, -EIO, "image is cut off");
	}
	return 0;
}

static int copy_data(int from, int to, uint64_t size, struct wfs_err *err)
{
	off_t off = 0, end;
	int r = 0;

	if (ftruncate(to, (off_t)size) < 0)
		return wfs_fail_sys(err, "size image");
	while (r == 0 && (off = lseek(from, off, SEEK_DATA)) >= 0 && (uint64_t)off < size) {
		end = lseek(from, off, SEEK_HOLE);
		if (end < 0)
			return wfs_fail_sys(err, "look for data in image");
		r = copy_range(from, to, off, end, err);
		off = end;
	}
	return r < 0 || off >= 0 || errno == ENXIO ? r : wfs_fail_sys(err, "look for data in image");
}

int wfs_image_renew(struct wfs_image *img, struct wfs_err *err)
{
	char data[WFS_OBJECT_NAME], name[WFS_OBJECT_NAME + 8];
	WFS_AUTO(wfs_close_fd) int fd = -1;
	int dir = img->r->cache.dir, r;
	struct stat st;

	snprintf(data, sizeof(data), "images/%s/data", wfs_hex(&img->id).s);
	snprintf(name, sizeof(name), "%s.new", data);
	if (fstat(img->data_fd, &st) < 0)
		return wfs_fail_sys(err, "stat image");
	r = wfs_cache_charge(&img->r->cache, (uint64_t)st.st_blocks * 512, NULL, true, err);
	if (r < 0)
		return r;
	unlinkat(dir, name, 0);
	fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return wfs_fail_sys(err, "create %s/%s", img->r->cache.path, name);
	r = copy_data(img->data_fd, fd, img->size, err);
	if (r == 0 && renameat(dir, name, dir, data) < 0)
		r = wfs_fail_sys(err, "rename %s/%s", img->r->cache.path, name);
	if (r < 0) {
		unlinkat(dir, name, 0);
		return r;
	}
	dup3(fd, img->data_fd, O_CLOEXEC);
	img->generation++;
	img->exposed = false;
	log_warn("%s has rotted and is in use: a copy of it is mended", img->label);
	return 0;
}
