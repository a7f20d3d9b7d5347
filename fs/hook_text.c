/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook_text.c - foreign text inside JSON strings and URLs
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "hook.h"
#include "weightfs/base.h"
#include "weightfs/json.h"

/* Inside the quotes that the template has. */
static int put_json(struct wfs_buf *out, const char *text)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf quoted = WFS_BUF_INIT;
	int r = wfs_json_quote(&quoted, text);

	return r < 0 ? r : wfs_buf_append(out, quoted.data + 1, quoted.len - 2);
}

/* In foreign text slashes and dots are encoded too: a label "../shutdown" must not choose whom the request,
 * with its secrets, goes to. */
static int put_url(struct wfs_buf *out, const char *text, bool foreign)
{
	static const char plain[] = "/.-_~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	int r = 0;

	for (; r == 0 && *text; text++)
		r = strchr(foreign ? plain + 2 : plain, *text) ? wfs_buf_append(out, text, 1) :
					   wfs_buf_printf(out, "%%%02X", (unsigned char)*text);
	return r;
}

int hook_expand(struct wfs_buf *out, const char *template, enum hook_text how, const struct event *e,
		const char *mount)
{
	char version[24];
	const struct {
		const char *name, *value;
		bool foreign;
	} places[] = { { "{version}", version, false }, { "{path}", e->path, false }, { "{label}", e->label, true },
		       { "{id}", e->id, true }, { "{mount}", mount, false } };
	int r = 0;

	snprintf(version, sizeof(version), "%" PRIu64, e->sequence);
	while (r == 0 && *template) {
		size_t i, n = 1;

		for (i = 0; i < ARRAY_SIZE(places); i++)
			if (strncmp(template, places[i].name, strlen(places[i].name)) == 0)
				break;
		if (i == ARRAY_SIZE(places)) {
			r = wfs_buf_append(out, template, 1);
		} else {
			n = strlen(places[i].name);
			r = how == HOOK_JSON ? put_json(out, places[i].value) :
					       put_url(out, places[i].value, places[i].foreign);
		}
		template += n;
	}
	if (r == 0)
		r = wfs_buf_append(out, "", 1);	/* a string for who wants one, not counted */
	if (r == 0)
		out->len--;
	return r;
}
