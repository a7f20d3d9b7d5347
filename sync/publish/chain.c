/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chain.c - when an anchor is due: by bytes
 *
 * A reader that has nothing fetches the last full table's blocks and every delta since.  When the
 * deltas come to half of the file, or are CHAIN_LONG in number, the version is stored in full too,
 * so a first download never costs more than one and a half times the file, and a block is never
 * many decodes away.
 *
 * The walk goes back level by level: tensors that moved may have their bases in several files, and each
 * of those has a chain of its own.
 */
#include <errno.h>
#include <stdlib.h>
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

/* Tables one step further back, each once. */
struct level {
	struct wfs_digest *v;
	size_t n;
};

/* The bases of t that a reader has to decode: not those that have an anchor. */
static int add_bases(struct level *l, const struct wfs_table *t, struct wfs_err *err)
{
	uint32_t n = needs_base(t) ? wfs_table_n_bases(t) : 0;
	struct wfs_digest *bigger = realloc(l->v, (l->n + n + 1) * sizeof(*bigger));
	size_t k;

	if (!bigger)
		return wfs_fail(err, -ENOMEM, "out of memory");
	l->v = bigger;
	for (uint32_t b = 0; b < n; b++) {
		const struct wfs_base *base = wfs_table_base(t, b);

		if (!wfs_digest_is_zero(&base->anchor))
			continue;
		for (k = 0; k < l->n && !wfs_digest_equal(&l->v[k], &base->table); k++)
			;
		if (k == l->n)
			l->v[l->n++] = base->table;
	}
	return 0;
}

/* One level back: what its deltas cost, and the level behind it. */
static int step_back(struct level *l, uint64_t *sum, struct wfs_store *store, struct wfs_err *err)
{
	struct level behind = { NULL, 0 };
	struct wfs_table *t;
	int r = 0;

	for (size_t i = 0; r == 0 && i < l->n; i++) {
		r = get_table(&t, store, &l->v[i], err);
		if (r < 0)
			break;
		if (needs_base(t))
			*sum += wfs_table_stored(t);
		r = add_bases(&behind, t, err);
		wfs_table_close(t);
	}
	free(l->v);
	*l = behind;
	return r;
}

int wfs_chain_wants_anchor(bool *out, struct wfs_store *store, const struct wfs_table *table,
			   struct wfs_err *err)
{
	uint64_t sum = wfs_table_stored(table), limit = wfs_table_size(table) / 2;
	struct level l = { NULL, 0 };
	unsigned n = 1;
	int r;

	*out = false;
	if (!needs_base(table))
		return 0;
	r = add_bases(&l, table, err);
	while (r == 0 && l.n && n < CHAIN_LONG && sum <= limit) {
		r = step_back(&l, &sum, store, err);
		n++;
	}
	free(l.v);
	*out = n >= CHAIN_LONG || sum > limit;
	return r;
}
