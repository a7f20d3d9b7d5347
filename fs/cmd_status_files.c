/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_status_files.c - weightfs status MNT --files [--version N] [--json]
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "cmd.h"
#include "weightfs/base.h"
#include "weightfs/config.h"
#include "weightfs/json.h"

#define ANSWER_MS 30000u

struct row {
	bool head;
	uint64_t sequence, size, blocks, built, complete, opens, in_use;
	char mode[16], path[4096];
};

static const struct member {
	const char *name;
	size_t offset, len;		/* len: of a text */
} members[] = {
	{ "size", offsetof(struct row, size), 0 }, { "blocks", offsetof(struct row, blocks), 0 },
	{ "blocks_built", offsetof(struct row, built), 0 }, { "complete", offsetof(struct row, complete), 0 },
	{ "opens", offsetof(struct row, opens), 0 }, { "in_use", offsetof(struct row, in_use), 0 },
	{ "mode", offsetof(struct row, mode), sizeof(((struct row *)0)->mode) },
	{ "path", offsetof(struct row, path), sizeof(((struct row *)0)->path) },
};

static void print_row(struct row *p)
{
	char size[32];

	if (!p->head)
		printf("      size  here  served       opens  in use  file of version %" PRIu64 "\n", p->sequence);
	p->head = true;
	printf("%10s  %3u%%  %-11s  %5" PRIu64 "  %-6s  %s\n", wfs_human_size(size, p->size),
	       cmd_percent(p->complete, p->built, p->blocks), p->mode, p->opens, p->in_use ? "yes" : "no", p->path);
}

static void take_member(struct row *p, const struct wfs_json_event *ev, const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		char *to = (char *)p + members[i].offset;

		if (strcmp(members[i].name, key) != 0)
			continue;
		if (members[i].len && ev->kind == WFS_JSON_STRING)
			cmd_take_text(to, members[i].len, ev->text);
		else if (!members[i].len && (ev->kind == WFS_JSON_UINT || ev->kind == WFS_JSON_BOOL))
			memcpy(to, &ev->uint, sizeof(ev->uint));
	}
}

static int take(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	struct row *p = arg;

	(void)err;
	if (wfs_json_at_top(ev, "sequence") && ev->kind == WFS_JSON_UINT)
		p->sequence = ev->uint;
	if (!ev->key[0] || strcmp(ev->key[0], "files") != 0)
		return 0;
	if (ev->kind == WFS_JSON_OBJECT_END && ev->depth == 2)
		print_row(p);
	else if (ev->depth == 3 && ev->key[2])
		take_member(p, ev, ev->key[2]);
	return 0;
}

int cmd_status_files(const struct client *c, uint64_t sequence, bool json)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
	struct wfs_err err = { 0 };
	struct row row = { 0 };
	char line[40];
	int r;

	snprintf(line, sizeof(line), "files %" PRIu64, sequence);
	r = client_call(&out, c, line, ANSWER_MS, &err);
	if (r == 0 && json)
		printf("%s\n", (const char *)out.data);
	else if (r == 0)
		r = wfs_json_parse(out.data, out.len, WFS_JSON_EVENTS_MAX, take, &row, &err);
	if (r < 0)
		fprintf(stderr, "weightfs: %s\n", err.msg);
	return r < 0 ? EXIT_BAD : EXIT_OK;
}
