/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz-json.c - the JSON door: events keep their promises, quoted text reads back as itself
 */
#include <stdlib.h>
#include <string.h>

#include "weightfs/base.h"
#include "weightfs/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond) do { if (!(cond)) abort(); } while (0)

struct state {
	unsigned open;
	uint64_t events;
};

static int same_text(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	(void)err;
	MUST(ev->kind == WFS_JSON_STRING && ev->depth == 0);
	MUST(strcmp(ev->text, arg) == 0);
	return 0;
}

static void check_quote(const char *text)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf b = WFS_BUF_INIT;
	char copy[256];

	if (strlen(text) >= sizeof(copy))
		return;
	strcpy(copy, text);
	MUST(wfs_json_quote(&b, copy) == 0);
	MUST(wfs_json_parse(b.data, b.len, 1, same_text, copy, NULL) == 0);
}

static int on_event(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	struct state *s = arg;

	(void)err;
	s->events++;
	if (ev->kind == WFS_JSON_OBJECT_END || ev->kind == WFS_JSON_ARRAY_END)
		s->open--;
	MUST(ev->depth == s->open && ev->depth <= WFS_JSON_DEPTH_MAX);
	if (ev->kind == WFS_JSON_OBJECT || ev->kind == WFS_JSON_ARRAY)
		s->open++;
	for (unsigned i = 0; i < ev->depth; i++)
		if (ev->key[i])
			check_quote(ev->key[i]);
	if (ev->kind == WFS_JSON_STRING || ev->kind == WFS_JSON_UINT || ev->kind == WFS_JSON_NUMBER)
		MUST(strlen(ev->text) == ev->len);
	if (ev->kind == WFS_JSON_STRING)
		check_quote(ev->text);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct state s = { 0, 0 };
	struct wfs_err err = { { 0 } };
	int r = wfs_json_parse(data, size, 1000, on_event, &s, &err);

	MUST(r == 0 ? s.open == 0 && s.events > 0 : err.msg[0] != '\0');
	return 0;
}
