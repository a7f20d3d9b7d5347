/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dir.h - what the two halves of the directory store share
 */
#ifndef STORE_DIR_H
#define STORE_DIR_H

#include "store/backend.h"

struct wfs_dir {
	int fd;
	int lock;		/* file held locked, or -1 */
};

/* Open the directory that holds name, through real directories only; *base is its last
 * component.  -ENOENT without a message. */
int wfs_dir_parent(int *fd_out, const char **base, int root, const char *name, struct wfs_err *err);

int wfs_dir_put(struct wfs_store *st, const char *name, const void *data, size_t len, struct wfs_err *err);
int wfs_dir_create(struct wfs_store *st, const char *name, const void *data, size_t len, struct wfs_err *err);
int wfs_dir_replace(struct wfs_store *st, const char *name, const void *data, size_t len, struct wfs_err *err);
int wfs_dir_put_begin(struct wfs_put **out, struct wfs_store *st, struct wfs_err *err);
int wfs_dir_list(struct wfs_store *st, const char *dir, const struct wfs_store_name *names, size_t n, struct wfs_err *err);
int wfs_dir_lock(struct wfs_store *st, const struct wfs_lock *how, struct wfs_err *err);
void wfs_dir_unlock(struct wfs_store *st);
int wfs_dir_each(struct wfs_store *st, const char *kind, wfs_each_fn *fn, void *arg, struct wfs_err *err);
int wfs_dir_remove(struct wfs_store *st, const char *name, struct wfs_err *err);

#endif
