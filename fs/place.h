/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place.h - what is looked at before anything is started: 0, or what is wrong and what to do
 */
#ifndef FS_PLACE_H
#define FS_PLACE_H

#include "weightfs/err.h"

/* point, a real path, is a directory without a mount of ours; a dead one is removed.  -EBUSY: a live one. */
int place_clean(const char *point, struct wfs_err *err);
/* path (called what) is not below the mount.  -EINVAL. */
int place_not_below(const char *what, const char *path, const char *point, struct wfs_err *err);
/* Who we are may use allow_other.  -EPERM. */
int place_allow_other(struct wfs_err *err);

#endif
