/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_head.h - what comes from outside as text: the heads of answers, and the store's URL
 *
 * Untrusted bytes to a checked struct, without curl: sync/store/http.c feeds it line by line.
 */
#ifndef STORE_HTTP_HEAD_H
#define STORE_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weightfs/err.h"

#define WFS_HTTP_UNKNOWN UINT64_MAX
#define WFS_HTTP_HEAD_MAX (64u << 10)	/* bytes of all heads of one exchange, trailers included */

struct wfs_http_head {
	int status;
	bool ended;			/* what follows are trailers, which say nothing to us */
	const char *broken;		/* the rule that a line breaks, or NULL */
	bool chunked, encoded;
	uint64_t length;		/* Content-Length, or unknown */
	bool has_range;			/* Content-Range: first and last, or total only (416) */
	uint64_t first, last, total;	/* unknown where the line has a '*' */
	char location[2048], retry_after[64];	/* "" when missing */
	size_t bytes;
};

void wfs_http_head_init(struct wfs_http_head *h);
/* One line with or without its end of line.  A status line starts over. */
void wfs_http_head_line(struct wfs_http_head *h, const char *line, size_t len);

/* The question: everything, from `first` to the end (last unknown), or [first, last]. */
struct wfs_http_ask {
	bool ranged;
	uint64_t first, last;
};

enum wfs_http_verdict {
	WFS_HTTP_BODY = 1,		/* off, end and total say what the body is */
	WFS_HTTP_COMPLETE,		/* nothing is left behind first */
	WFS_HTTP_REDIRECT,
	WFS_HTTP_LATER,			/* it may pass */
};

struct wfs_http_body {
	uint64_t off, end, total;	/* end (one behind) and total may be unknown */
};

/* A verdict, or -ENOENT (no message), -EACCES, -EBADMSG.  LATER fills err, too. */
int wfs_http_judge(const struct wfs_http_head *h, const struct wfs_http_ask *ask,
		   struct wfs_http_body *body, struct wfs_err *err);

/* A store's URL, "scheme://...", before curl sees it: -EINVAL says what is wrong. */
int wfs_http_check_url(const char *url, struct wfs_err *err);

#endif
