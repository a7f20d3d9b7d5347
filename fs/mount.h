/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount.h - the life of a mount
 */
#ifndef FS_MOUNT_H
#define FS_MOUNT_H

#include "options.h"

/* Mount store on mnt and serve it, here (foreground) or in a process of its own.  Takes opt over.
 * Returns the exit code for main; what went wrong has been said. */
int mount_run(const char *store, const char *mnt, struct options *opt);

#endif
