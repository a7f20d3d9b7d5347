/* SPDX-License-Identifier: Apache-2.0 */
/*
 * landlock.h - nothing but these files, for this thread and all that come from it
 *
 * Begin, allow, enforce; then nothing can be undone.  Paths are looked up when they are allowed, with the
 * rights of that moment.
 */
#ifndef FS_LANDLOCK_H
#define FS_LANDLOCK_H

#include <stdbool.h>

enum landlock_how {
	LANDLOCK_READ,			/* files and directories below */
	LANDLOCK_WRITE,			/* make, change and remove them, too */
	LANDLOCK_DEVICE,		/* read, write and ioctl of one device */
};

/* A ruleset that allows nothing yet, or -ENOSYS: the kernel has none, or one that is too old (before 5.19). */
int landlock_begin(void);
/* Allow what is at path and below.  What is not there is left out.  -errno. */
int landlock_allow(int ruleset, const char *path, enum landlock_how how);
/* The caller has set no_new_privs.  -errno. */
int landlock_enforce(int ruleset);

#endif
