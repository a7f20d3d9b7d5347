/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon.h - into the background, with the exit code of the start for whoever waits
 */
#ifndef FS_DAEMON_H
#define FS_DAEMON_H

#include "weightfs/err.h"

/*
 * Fork.  In the child, 0 and a descriptor for daemon_report.  In the parent this waits for the
 * report and returns the exit code for main as 1 + code; it prints what went wrong and, after a
 * good start, makes sure that mnt answers.  Negative: could not fork.
 */
int daemon_fork(int *report, const char *mnt, struct wfs_err *err);

/* problem NULL: the mount is up; the terminal is let go.  Closes *report.  Does nothing at -1. */
void daemon_report(int *report, const char *problem);

#endif
