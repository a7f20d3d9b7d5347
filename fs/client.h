/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h - asking the daemon behind a mount
 */
#ifndef FS_CLIENT_H
#define FS_CLIENT_H

#include "path.h"
#include "weightfs/buf.h"

/* Exit codes of the commands that look at a mount. */
enum { EXIT_OK, EXIT_BAD, EXIT_USAGE, EXIT_NOT_MOUNTED, EXIT_TIMEOUT };

struct client {
	char point[PATH_MAX];
	struct mount_entry entry;
};

/* Find the weightfs at mnt.  0, or the exit code after saying why. */
int client_find(struct client *c, const char *mnt);

/* One command; the answer without its newline, NUL-terminated.  Negative errno: no daemon, no
 * answer within timeout_ms, or a refusal (its sentence). */
int client_call(struct wfs_buf *out, const struct client *c, const char *line, unsigned timeout_ms,
		struct wfs_err *err);

/* The same for a command with many answers: send it, then take line after line, NUL-terminated and
 * without its newline, from the descriptor; the caller closes it.  client_line: 1 a line, 0 the
 * daemon has closed, -ETIMEDOUT (without message). */
int client_open(const struct client *c, const char *line, struct wfs_err *err);
int client_line(struct wfs_buf *out, int fd, int timeout_ms, struct wfs_err *err);	/* -1: for ever */

/* Process of the daemon, 0 when it cannot be asked. */
pid_t client_pid(const struct client *c);

#endif
