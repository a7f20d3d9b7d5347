/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.c - a libfuse session from our options
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "session.h"
#include "weightfs/base.h"
#include "weightfs/buf.h"
#include "weightfs/log.h"

void session_log(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[512];

	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	wfs_log(level <= FUSE_LOG_ERR ? WFS_LOG_ERROR : level <= FUSE_LOG_WARNING ? WFS_LOG_WARN : WFS_LOG_DEBUG,
		"%s", line);
}

/* In a mount option a comma ends the value and a backslash quotes. */
static int add_escaped(struct wfs_buf *b, const char *text)
{
	for (; *text; text++) {
		if (*text == ',' || *text == '\\')
			wfs_buf_append(b, "\\", 1);
		if (wfs_buf_append(b, text, 1) < 0)
			return -ENOMEM;
	}
	return 0;
}

int session_new(struct fuse_session **out, const struct options *o, const char *store_url,
		const struct fuse_lowlevel_ops *ops, void *userdata, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf list = WFS_BUF_INIT;
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_session *se = NULL;
	int r;

	r = wfs_buf_printf(&list, "ro,nosuid,nodev,default_permissions,subtype=weightfs%s%s,fsname=",
			   o->allow_other ? ",allow_other" : "", o->noexec ? ",noexec" : "");
	if (r == 0)
		r = add_escaped(&list, o->fsname ? o->fsname : store_url);
	if (r == 0)
		r = wfs_buf_append(&list, "", 1);
	if (r < 0)
		return wfs_fail(err, r, "out of memory");
	if (fuse_opt_add_arg(&args, "weightfs") == 0 && fuse_opt_add_arg(&args, "-o") == 0 &&
	    fuse_opt_add_arg(&args, (char *)list.data) == 0)
		se = fuse_session_new(&args, ops, sizeof(*ops), userdata);
	fuse_opt_free_args(&args);
	if (!se)
		return wfs_fail(err, -EINVAL, "libfuse refuses the mount options %s", (char *)list.data);
	*out = se;
	return 0;
}
