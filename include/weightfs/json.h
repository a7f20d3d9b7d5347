/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h - streaming JSON in, escaped JSON out
 *
 * sync/base/json.c is the only user of the parser library (yajl).  Nothing is kept beyond the
 * keys of the open levels, so memory does not grow with the document.
 */
#ifndef WEIGHTFS_JSON_H
#define WEIGHTFS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weightfs/buf.h"
#include "weightfs/err.h"
#include "weightfs/limits.h"

enum wfs_json_kind {
	WFS_JSON_OBJECT, WFS_JSON_OBJECT_END, WFS_JSON_ARRAY, WFS_JSON_ARRAY_END,
	WFS_JSON_STRING, WFS_JSON_UINT,		/* an integer from 0 to 2^64-1, no fraction */
	WFS_JSON_NUMBER,			/* any other number: text only */
	WFS_JSON_BOOL, WFS_JSON_NULL,
};

/* One event.  depth is the number of open containers around the value; for i < depth, key[i]
 * is the member's name at that level (NULL in an array) and index[i] its place in an array.
 * So {"files":[{"path":"x"}]} gives the string with depth 3, key[0] "files", index[1] 0, key[2] "path".
 * For a container's begin and end, depth and keys are those of the container itself as a value.
 * Strings are NUL-terminated UTF-8; a document with an embedded NUL in a key or string is refused. */
struct wfs_json_event {
	enum wfs_json_kind kind;
	unsigned depth;
	const char *key[WFS_JSON_DEPTH_MAX];
	uint64_t index[WFS_JSON_DEPTH_MAX];
	const char *text;		/* STRING, UINT, NUMBER */
	size_t len;
	uint64_t uint;			/* UINT; BOOL: 0 or 1 */
};

/* Called for every event; a negative return stops the parse and is returned by it. */
typedef int wfs_json_fn(void *arg, const struct wfs_json_event *ev, struct wfs_err *err);

/* Parse one whole document.  -EBADMSG: not JSON, bytes after the document, deeper than
 * WFS_JSON_DEPTH_MAX, or more than max_events values and keys. */
int wfs_json_parse(const void *data, size_t len, uint64_t max_events,
		   wfs_json_fn *fn, void *arg, struct wfs_err *err);

/* True when the event is the member `name` of an object at level 0 (top). */
bool wfs_json_at_top(const struct wfs_json_event *ev, const char *name);

/* Append text as a JSON string with its quotes; invalid UTF-8 becomes U+FFFD. */
int wfs_json_quote(struct wfs_buf *out, const char *text);

#endif
