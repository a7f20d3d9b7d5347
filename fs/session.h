/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.h - a libfuse session from our options
 */
#ifndef FS_SESSION_H
#define FS_SESSION_H

#include "ops.h"
#include "options.h"

/* Not yet mounted; the caller's to destroy.  -EINVAL: libfuse does not take it. */
int session_new(struct fuse_session **out, const struct options *o, const char *store_url,
		const struct fuse_lowlevel_ops *ops, void *userdata, struct wfs_err *err);

/* For fuse_set_log_func: libfuse's lines in our log. */
__attribute__((format(printf, 2, 0)))
void session_log(enum fuse_log_level level, const char *fmt, va_list ap);

#endif
