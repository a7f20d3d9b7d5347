/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz-hooktab.c - the file CACHE/hooks: what it holds is a hint, and what is written again is read the same
 *
 * The versions it names have left (wfs_replica_find is wrapped), so that no replica is needed.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hooktab.h"
#include "weightfs/base.h"
#include "weightfs/json.h"
#include "weightfs/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
struct wfs_model *__wrap_wfs_replica_find(struct wfs_replica *r, uint64_t sequence);

#define MUST(cond) do { if (!(cond)) abort(); } while (0)

static char dir[64], file[80];

struct wfs_model *__wrap_wfs_replica_find(struct wfs_replica *r, uint64_t sequence)
{
	MUST(!r && sequence);
	return NULL;
}

static void leave(void)
{
	unlink(file);
	rmdir(dir);
}

static void arrive(void)
{
	snprintf(dir, sizeof(dir), "%s/wfs-fuzz.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	MUST(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/hooks", dir);
	atexit(leave);
	wfs_log_set_level(WFS_LOG_ERROR);
}

/* Lines "NAME TOLD" and names with spaces between, from the status, but for the first row. */
struct rows {
	struct wfs_buf lines, names;
	unsigned n;
};

static int take(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	struct rows *rows = arg;
	int r = 0;

	(void)err;
	if (ev->depth != 2)
		return 0;
	if (strcmp(ev->key[1], "name") == 0 && rows->n++)
		r = wfs_buf_printf(&rows->names, "%s%s", rows->names.len ? " " : "", ev->text) < 0 ||
		    wfs_buf_printf(&rows->lines, "%s", ev->text) < 0;
	if (strcmp(ev->key[1], "told") == 0) {
		MUST(ev->kind == WFS_JSON_UINT && ev->uint);
		if (rows->n > 1)
			r = wfs_buf_printf(&rows->lines, " %s\n", ev->text) < 0;
	}
	MUST(r == 0);
	return 0;
}

static struct hooktab *reopen(struct rows *rows, unsigned skipped)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf status = WFS_BUF_INIT;
	struct wfs_err err = { 0 };
	struct hooktab *t;

	*rows = (struct rows){ .lines = WFS_BUF_INIT, .names = WFS_BUF_INIT, .n = skipped };
	MUST(hooktab_open(&t, NULL, dir, &err) == 0);
	MUST(wfs_buf_append(&rows->lines, "", 0) == 0 && wfs_buf_append(&rows->names, "", 0) == 0);
	MUST(hooktab_status(t, &status) == 0);
	MUST(wfs_json_parse(status.data, status.len, 10000, take, rows, &err) == 0);
	return t;
}

static void rows_free(struct rows *rows)
{
	wfs_buf_free(&rows->lines);
	wfs_buf_free(&rows->names);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rows before, after;
	struct hooktab *t;
	FILE *f;

	if (!dir[0])
		arrive();
	f = fopen(file, "we");
	MUST(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
	t = reopen(&before, 0);
	/* forgetting the first one makes it write */
	MUST(hooktab_attach(t, before.names.len ? (const char *)before.names.data : "", 1, NULL) == 0);
	hooktab_close(t);
	if (before.n) {
		t = reopen(&after, 1);
		MUST(after.n == before.n && after.lines.len == before.lines.len);
		MUST(!after.lines.len || memcmp(after.lines.data, before.lines.data, after.lines.len) == 0);
		hooktab_close(t);
		rows_free(&after);
	}
	rows_free(&before);
	return 0;
}
