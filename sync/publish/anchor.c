/* SPDX-License-Identifier: Apache-2.0 */
/*
 * anchor.c - when a version is stored in full too: by bytes
 *
 * Each file of a version says what a reader that holds nothing fetches for it, which is a sum over the
 * parent's, or over that of a version a stride back: so no older table has to be read to know.  When all
 * files together come to more than the limit, a multiple of their newest full copies, every file that
 * needs a base is stored in full as well.  Whole versions, because that is what a reader begins with, and
 * what a model repository has.
 */
#include "publish/internal.h"
#include "weightfs/base.h"
#include "weightfs/version.h"

#define CHAIN_LONG 128u			/* half of what readers follow: WFS_CHAIN_MAX */

static uint64_t add(uint64_t a, uint64_t b)
{
	return a + b < a ? UINT64_MAX : a + b;
}

/* Version objects of this store need not be ours: what they leave open counts as too much. */
static uint64_t cold_of(const struct wfs_file *f)
{
	return f->cold ? f->cold : UINT64_MAX;
}

void wfs_anchor_account(struct wfs_file *f, bool based, const struct wfs_version *parent, const size_t *base_file,
			uint32_t n_bases)
{
	f->cold = f->travel;
	f->chain = 0;
	for (uint32_t i = 0; based && i < n_bases; i++) {
		const struct wfs_file *base = &parent->files[base_file[i]];

		f->cold = add(f->cold, cold_of(base));
		f->chain = WFS_MAX(f->chain, base->chain + 1);
	}
}

void wfs_anchor_inherit(struct wfs_file *f, const struct wfs_file *old)
{
	if (!old || (!old->has_anchor && !old->full_back))
		return;
	f->full = old->full;
	f->full_back = old->has_anchor ? 1 : old->full_back + 1;
}

void wfs_anchor_stride(struct wfs_version *v, uint64_t back, const struct wfs_version *past)
{
	for (size_t i = 0; i < v->n_files; i++) {
		struct wfs_file *f = &v->files[i];
		const struct wfs_stride *s = wfs_stride_find(f->strides, f->n_strides, back);
		const struct wfs_file *base = s ? wfs_version_find(past, f->path) : NULL;

		if (base && !base->whole && f->chain)
			f->cold = WFS_MIN(f->cold, add(s->travel, cold_of(base)));
	}
}

bool wfs_anchor_is_due(const struct wfs_version *v, unsigned limit)
{
	uint64_t cold = 0, full = 0;

	for (size_t i = 0; i < v->n_files; i++) {
		const struct wfs_file *f = &v->files[i];

		if (f->chain >= CHAIN_LONG)
			return true;
		cold = add(cold, f->whole || !f->size ? f->size : cold_of(f));
		full = add(full, f->full ? f->full : f->size);
	}
	return (double)cold > (double)full * limit / 1000;
}
