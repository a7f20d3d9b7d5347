/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event.c - JSON of an event to its struct
 */
#include "event.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "weightfs/base.h"
#include "weightfs/json.h"

static int keep(char **to, const struct wfs_json_event *ev, struct wfs_err *err)
{
	free(*to);
	*to = strdup(ev->text);
	return *to ? 0 : wfs_fail(err, -ENOMEM, "out of memory");
}

static int take(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	struct event *e = arg;

	if (ev->kind == WFS_JSON_STRING) {
		if (wfs_json_at_top(ev, "event"))
			e->end = strcmp(ev->text, "end") == 0, e->none = strcmp(ev->text, "none") == 0;
		else if (wfs_json_at_top(ev, "path"))
			return keep(&e->path, ev, err);
		else if (wfs_json_at_top(ev, "label"))
			return keep(&e->label, ev, err);
		else if (wfs_json_at_top(ev, "id"))
			return keep(&e->id, ev, err);
	} else if (ev->kind == WFS_JSON_UINT) {
		if (wfs_json_at_top(ev, "sequence"))
			e->sequence = ev->uint;
		else if (wfs_json_at_top(ev, "time"))
			e->time_ns = ev->uint;
		else if (wfs_json_at_top(ev, "skipped"))
			e->skipped = ev->uint;
	}
	return 0;
}

static char *or_empty(char *text)
{
	return text ? text : strdup("");
}

int event_parse(struct event *out, const void *line, size_t len, struct wfs_err *err)
{
	struct event e = { 0 };
	int r = wfs_json_parse(line, len, 64, take, &e, err);

	e.path = or_empty(e.path);
	e.label = or_empty(e.label);
	e.id = or_empty(e.id);
	if (r == 0 && (!e.path || !e.label || !e.id))
		r = wfs_fail(err, -ENOMEM, "out of memory");
	if (r == 0 && !e.end && !e.none && (!e.sequence || e.path[0] != '/'))
		r = wfs_fail(err, -EBADMSG, "the daemon sent something that is no event");
	if (r < 0 || e.end || e.none)
		event_free(&e);
	if (r == 0)
		*out = e;
	return r;
}

void event_free(struct event *e)
{
	free(e->path);
	free(e->label);
	free(e->id);
	e->path = e->label = e->id = NULL;
}
