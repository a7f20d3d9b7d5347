/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-table.c - every accessor over every index of a table that was accepted */
#include <stdlib.h>

#include <string.h>

#include "format/format.h"
#include "weightfs/base.h"
#include "weightfs/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond) do { if (!(cond)) abort(); } while (0)

static void look(const struct wfs_table *t, uint32_t i)
{
	struct wfs_block_ref b = wfs_table_block(t, i);
	struct wfs_span *spans = NULL;
	const struct wfs_pack *p;
	struct wfs_group g;
	size_t n;

	MUST(wfs_table_spans(&spans, &n, t, i, NULL) == 0);
	free(spans);
	if (b.len == 0)
		return;
	g = wfs_table_group(t, b.group);
	p = wfs_table_pack(t, b.pack);
	MUST(g.pack == b.pack && b.off >= g.off && b.off + b.len <= g.off + g.len);
	MUST(g.off >= p->start && g.off + g.len <= p->size);
	MUST(i >= g.first_block && i - g.first_block < g.n_blocks);
}

/* Its arrays make an object of which they come out again. */
static void repack(const uint8_t *data, size_t size)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf flat = WFS_BUF_INIT;
	WFS_AUTO(wfs_buf_free) struct wfs_buf object = WFS_BUF_INIT;
	WFS_AUTO(wfs_buf_free) struct wfs_buf again = WFS_BUF_INIT;
	struct wfs_table_counts c;

	MUST(wfs_table_unpack(&flat, &c, data, size, NULL) == 0);
	MUST(wfs_table_pack_object(&object, &c, flat.data, NULL) == 0);
	MUST(wfs_table_unpack(&again, &c, object.data, object.len, NULL) == 0);
	MUST(again.len == flat.len && (flat.len == 0 || memcmp(again.data, flat.data, flat.len) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	struct wfs_table *t = NULL;
	struct wfs_err err = { "" };

	if (wfs_buf_append(&raw, data, size) < 0)
		return 0;
	if (wfs_table_open(&t, &raw, &err) < 0) {
		MUST(err.msg[0]);
		return 0;
	}
	for (uint32_t i = 0; i < wfs_table_n_blocks(t); i++)
		look(t, i);
	wfs_table_close(t);
	repack(data, size);
	return 0;
}
