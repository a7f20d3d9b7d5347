/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passthrough.h - complete files are read by the kernel, the daemon out of the way
 *
 * Decided once a mount, by a test with a real file (passthrough_settle); before that, and whenever something
 * is missing, files are served by the daemon.  Which file is opened how is modes.h's matter.
 */
#ifndef FS_PASSTHROUGH_H
#define FS_PASSTHROUGH_H

#include <stdbool.h>
#include <stddef.h>

#include "helper.h"
#include "ops.h"
#include "weightfs/err.h"

/* The values of the option, in its order. */
enum { PASSTHROUGH_AUTO, PASSTHROUGH_ON, PASSTHROUGH_OFF };

struct passthrough;

/* helper: NULL for an ordinary user.  Borrows helper and cache.  NULL: out of memory. */
struct passthrough *passthrough_new(unsigned choice, struct helper *helper, const char *cache);
void passthrough_free(struct passthrough *p);		/* NULL is fine */

/* After fuse_session_new and _mount, before its loop.  user data of the session: see passthrough_of. */
int passthrough_attach(struct passthrough *p, struct fuse_session *se, struct wfs_err *err);
struct passthrough *passthrough_of(void *userdata);	/* given by mount.c */
/* From the session's init callback. */
void passthrough_init(struct passthrough *p, struct fuse_conn_info *c);

/* Tune the mount and decide, in some milliseconds and at most SETTLE_MS.  From a thread that answers no
 * request.  Below 0 only when passthrough=on was asked for and cannot be. */
#define PASSTHROUGH_SETTLE_MS 3000
int passthrough_settle(struct passthrough *p, struct wfs_err *err);

bool passthrough_is_on(struct passthrough *p);
/* Why not, as a clause; "" while it is on. */
void passthrough_reason(struct passthrough *p, char *out, size_t cap);

/* While the self-test runs, the id of its file; 0 else. */
int passthrough_test_id(struct passthrough *p);

/* A backing id (above 0) for fd, or -errno; then the file is served by the daemon.  fd can be closed. */
int passthrough_register(struct passthrough *p, int fd);
void passthrough_unregister(struct passthrough *p, int id);

/* In place of fuse_reply_open; the same return value. */
int passthrough_reply(fuse_req_t req, struct fuse_file_info *fi, int id);

#endif
