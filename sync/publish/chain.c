/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chain.c - when an anchor is due: by bytes
 *
 * A reader that has nothing fetches the last full table's blocks and every delta since.  When the
 * deltas come to half of the file, or are CHAIN_LONG in number, the version is stored in full too,
 * so a first download never costs more than one and a half times the file, and a block is never
 * many decodes away.
 */
#include <errno.h>
#include <string.h>

#include "publish/internal.h"
#include "weightfs/base.h"
#include "weightfs/version.h"

#define CHAIN_LONG 128u

static int get_table(struct wfs_table **out, struct wfs_store *store, const struct wfs_digest *id,
		     struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	char name[WFS_OBJECT_NAME];
	struct wfs_digest got;
	int r;

	wfs_object_name(name, "tables", id);
	r = wfs_store_get_buf(&raw, store, name, WFS_TABLE_MAX, false, NULL, err);
	if (r < 0)
		return wfs_wrap(err, r, "%s", name);
	wfs_sha256(&got, raw.data, raw.len);
	if (!wfs_digest_equal(&got, id))
		return wfs_fail(err, -EBADMSG, "%s has another SHA-256: run weightsync verify", name);
	r = wfs_table_open(out, &raw, err);
	return r < 0 ? wfs_wrap(err, r, "%s", name) : 0;
}

static bool needs_base(const struct wfs_table *t)
{
	for (uint32_t b = 0; b < wfs_table_n_blocks(t); b++)
		if (wfs_codec_needs_base(wfs_table_block(t, b).codec))
			return true;
	return false;
}

int wfs_chain_wants_anchor(bool *out, struct wfs_store *store, const struct wfs_table *table,
			   struct wfs_err *err)
{
	const struct wfs_table *t = table;
	struct wfs_table *owned = NULL, *next;
	uint64_t sum = 0, limit = wfs_table_size(table) / 2;
	unsigned n = 0;
	int r = 0;

	/* The first base stands for all: a file's tensors rarely come from several. */
	while (needs_base(t) && wfs_table_n_bases(t)) {
		struct wfs_base base = *wfs_table_base(t, 0);

		sum += wfs_table_stored(t);
		if (++n >= CHAIN_LONG || sum > limit || !wfs_digest_is_zero(&base.anchor))
			break;
		r = get_table(&next, store, &base.table, err);
		if (r < 0)
			break;
		wfs_table_close(owned);
		t = owned = next;
	}
	wfs_table_close(owned);
	*out = n >= CHAIN_LONG || sum > limit;
	return r;
}
