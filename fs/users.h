/* SPDX-License-Identifier: Apache-2.0 */
/*
 * users.h - which processes keep a mount busy, or alive after it was unmounted
 */
#ifndef FS_USERS_H
#define FS_USERS_H

#include <stdio.h>

#include "path.h"

/* One line a process: pid, name, what it holds.  Returns how many were found; those of other users
 * are seen by root only. */
unsigned users_print(FILE *f, const char *point, const struct mount_entry *e);

/* One line for each mount of the same file system that is left: bound to a second place, or copied into
 * another mount namespace.  Names one process that has it.  Returns how many were found. */
unsigned users_print_mounts(FILE *f, const struct mount_entry *e);

#endif
