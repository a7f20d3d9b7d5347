/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io.h - file calls that finish what they begin
 *
 * EINTR and short counts are dealt with here.  `dir` is a directory descriptor or AT_FDCWD.
 */
#ifndef WEIGHTFS_IO_H
#define WEIGHTFS_IO_H

#include <stdint.h>
#include <sys/types.h>

#include "weightfs/buf.h"
#include "weightfs/err.h"

/* All len bytes; -ENODATA when the file ends before. */
int wfs_pread(int fd, void *buf, size_t len, uint64_t off, struct wfs_err *err);
int wfs_pwrite(int fd, const void *buf, size_t len, uint64_t off, struct wfs_err *err);
int wfs_write(int fd, const void *buf, size_t len, struct wfs_err *err);

/* A whole regular file of at most max bytes (-EFBIG beyond); -ENOENT without a message.
 * Symlinks in the last component are not followed (-ELOOP). */
int wfs_read_file(struct wfs_buf *out, int dir, const char *path, size_t max, struct wfs_err *err);

/* Temporaries begin so, wherever they are made; those of a killed process are for their directory's
 * owner to remove. */
#define WFS_TEMP_PREFIX ".wfs-"

/* Replace path atomically and durably: temporary beside it, fsync, rename, fsync of the
 * directory.  path may have directory components below dir.  A failure leaves the old file. */
int wfs_write_file(int dir, const char *path, const void *data, size_t len, unsigned mode,
		   struct wfs_err *err);
/* The same but for the disk: after a loss of power it may be missing or empty.  For what is checked when it
 * is read and can be had again. */
int wfs_write_file_unsynced(int dir, const char *path, const void *data, size_t len, unsigned mode,
			    struct wfs_err *err);

/* Create path and its parents; fine when they exist. */
int wfs_mkdirs(int dir, const char *path, unsigned mode, struct wfs_err *err);
int wfs_fsync_dir(int dir, struct wfs_err *err);
/* Remove a tree below dir (symlinks are removed, never followed). -ENOENT is success. */
int wfs_remove_tree(int dir, const char *path, struct wfs_err *err);

/* A new empty file with a name of our own choice in directory `dir`/`sub`; O_RDWR.
 * name_out (at least 64 bytes) receives the path relative to dir. */
int wfs_temp_file(int *fd_out, char *name_out, int dir, const char *sub, struct wfs_err *err);

#endif
