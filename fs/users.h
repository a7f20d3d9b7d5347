/* SPDX-License-Identifier: Apache-2.0 */
/*
 * users.h - which processes keep a mount busy
 */
#ifndef FS_USERS_H
#define FS_USERS_H

#include <stdio.h>

#include "path.h"

/* One line a process: pid, name, what it holds.  Returns how many were found; those of other users
 * are seen by root only. */
unsigned users_print(FILE *f, const char *point, const struct mount_entry *e);

#endif
