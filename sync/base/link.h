/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.h - a connection to a server, one exchange after the other
 *
 * sync/base/link.c is the only user of curl.  A link keeps its connection alive between exchanges
 * with one server; it belongs to one thread at a time.
 *
 * What curl could do by itself and does not: redirects (their text is given to the caller, who may
 * use wfs_link_follow), decompression, netrc, cookies, proxies from the environment, HTTP/2 (one
 * object a connection needs none of it).
 */
#ifndef BASE_LINK_H
#define BASE_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "weightfs/err.h"

struct wfs_link;

struct wfs_link_opts {
	const char *cacert;		/* PEM file for https; NULL: the system's */
	unsigned connect_ms;
	unsigned buffer;		/* bytes read at a time */
};

struct wfs_link *wfs_link_new(const struct wfs_link_opts *o);	/* NULL: out of memory */
void wfs_link_free(struct wfs_link *l);				/* NULL is fine */

enum wfs_link_more { WFS_LINK_GO, WFS_LINK_PAUSE, WFS_LINK_STOP };

struct wfs_link_ask {
	const char *url;
	const char *range;		/* "0-99"; NULL: all */
	const char *const *headers;	/* "Name: value", NULL-terminated; NULL: none */
	const char *method;		/* NULL: GET, and what follows is not looked at */
	const void *body;
	size_t len;
	/* Called by wfs_link_run.  head: one line, or a part of it; STOP ends the exchange.  body: PAUSE
	 * keeps these bytes for a call after go said so. */
	enum wfs_link_more (*head)(void *arg, const char *line, size_t len);
	enum wfs_link_more (*take)(void *arg, const char *data, size_t len);
	/* Before each round: 0, 1 to go on after PAUSE, or a negative code, which ends it.  Waits as long as
	 * it likes. */
	int (*go)(void *arg);
	/* Before a wait of at most 200 ms for the server: 0 or a negative code. */
	int (*idle)(void *arg);
	void *arg;
};

/* 0: the answer ended as it should.  1: a callback stopped it.  Negative: what go or idle said, or
 * -EIO with *transient set (it may pass), -EACCES (not who it should be), -EBADMSG, -ENOMEM.
 * *unreached: no connection came to be, or none to who it should be; nothing was asked. */
int wfs_link_run(struct wfs_link *l, const struct wfs_link_ask *ask, bool *transient, bool *unreached,
		 struct wfs_err *err);

/* A URL in its normal form, without a slash at its end: allocates *out.  -EINVAL says what is wrong. */
int wfs_link_url(char **out, const char *url, struct wfs_err *err);
/* *url becomes where location, seen at *url, leads: http and https only, never from https to http. */
int wfs_link_follow(char **url, const char *location, struct wfs_err *err);
time_t wfs_link_date(const char *text);			/* of a header; -1: none */

#endif
