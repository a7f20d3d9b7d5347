/* SPDX-License-Identifier: Apache-2.0 */
/*
 * draft.c - an image under a provisional name until its table exists
 *
 * A draft is an image whose "table digest" is random; commit renames its directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/draft.h"
#include "weightfs/io.h"

struct wfs_draft {
	struct wfs_image *img;
};

int wfs_draft_new(struct wfs_draft **out, struct wfs_replica *r, uint64_t size, struct wfs_err *err)
{
	struct wfs_draft *d = calloc(1, sizeof(*d));
	struct wfs_digest name;
	int ret;

	if (!d)
		return wfs_fail(err, -ENOMEM, "out of memory");
	ret = wfs_random(&name, sizeof(name));
	if (ret == 0)
		d->img = wfs_image_get(r, &name, NULL, size, "draft");
	ret = d->img ? wfs_image_open(d->img, err) : wfs_fail(err, -ENOMEM, "out of memory");
	if (ret < 0) {
		wfs_draft_abort(d);
		return ret;
	}
	*out = d;
	return 0;
}

int wfs_draft_write(struct wfs_draft *d, uint32_t i, const void *data, size_t len, struct wfs_err *err)
{
	bool claimed;
	int ret;

	if (len != wfs_image_block_len(d->img, i))
		return wfs_fail(err, -EINVAL, "block %u of a draft has %u bytes, not %zu", i,
				wfs_image_block_len(d->img, i), len);
	ret = wfs_cache_charge(&d->img->r->cache, len, NULL, true, err);
	if (ret < 0)
		return ret;
	if (!wfs_image_begin(d->img, i, &claimed))
		return 0;
	return wfs_image_done(d->img, i, data, false, err);
}

void wfs_draft_abort(struct wfs_draft *d)
{
	char path[WFS_OBJECT_NAME];

	if (!d)
		return;
	if (d->img) {
		snprintf(path, sizeof(path), "images/%s", wfs_hex(&d->img->id).s);
		wfs_remove_tree(d->img->r->cache.dir, path, NULL);
	}
	wfs_image_put(d->img);
	free(d);
}

int wfs_draft_commit(struct wfs_draft *d, const struct wfs_digest *table, struct wfs_err *err)
{
	struct wfs_cache *c = &d->img->r->cache;
	char from[WFS_OBJECT_NAME], to[WFS_OBJECT_NAME];
	int ret;

	snprintf(from, sizeof(from), "images/%s", wfs_hex(&d->img->id).s);
	snprintf(to, sizeof(to), "images/%s", wfs_hex(table).s);
	ret = wfs_image_finish(d->img, err);
	if (ret == 0 && !d->img->durable)
		ret = wfs_fail(err, -EINVAL, "draft is not whole: %u of %u blocks", d->img->n_built, d->img->n_blocks);
	if (ret == 0)
		ret = wfs_remove_tree(c->dir, to, err);
	if (ret == 0 && renameat(c->dir, from, c->dir, to) < 0)
		ret = wfs_fail_sys(err, "rename %s/%s", c->path, from);
	wfs_draft_abort(d);	/* nothing is left under the provisional name after the rename */
	return ret;
}

int wfs_replica_keep_only(struct wfs_replica *r, struct wfs_model *m, struct wfs_err *err)
{
	(void)m;		/* its caller holds it, and with it its images; others were put */
	return wfs_sweep(r, err);
}
