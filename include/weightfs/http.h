/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.h - one request to a server that is not a store, and its answer
 *
 * Redirects are not followed: their status is an answer like any other.
 */
#ifndef WEIGHTFS_HTTP_H
#define WEIGHTFS_HTTP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "weightfs/buf.h"
#include "weightfs/err.h"

#define WFS_HTTP_ANSWER_MAX (64u << 10)	/* bytes of an answer's body that are kept; the rest is read and dropped, */
#define WFS_HTTP_ANSWER_END (16u << 20)	/* up to here: what sends more does not answer */

struct wfs_http_call {
	const char *method, *url;
	const char *const *headers;	/* "Name: value", NULL-terminated; may be NULL */
	const void *body;
	size_t len;
	const char *cacert;		/* PEM file for https; NULL: the system's */
	unsigned timeout_ms;		/* for everything, from the connection to the last byte */
	const atomic_bool *cancel;	/* may be NULL */
};

struct wfs_http_reply {
	int status;
	struct wfs_buf body;
	bool transient, unreached;	/* set with an error: it may pass; nothing was sent */
};

/* 0 with a status, whatever it is.  -ETIMEDOUT, -ECANCELED, -EIO, -EACCES, -EBADMSG, -EINVAL.
 * wfs_buf_free(&out->body) in any case. */
int wfs_http_call(struct wfs_http_reply *out, const struct wfs_http_call *call, struct wfs_err *err);

/* "Name: value" that may be sent: a token, a colon, printable text. */
bool wfs_http_header_ok(const char *header);

#endif
