/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event.h - a line of the control socket's events, read back
 */
#ifndef FS_EVENT_H
#define FS_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weightfs/err.h"

struct event {
	bool end, none;			/* the mount ends; there is no such version: nothing else is set */
	uint64_t sequence, time_ns, skipped;
	char *path, *label, *id;	/* "" when missing */
};

/* -EBADMSG: not an event.  On success event_free. */
int event_parse(struct event *out, const void *line, size_t len, struct wfs_err *err);
void event_free(struct event *e);

#endif
