/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pieces.c - where the bytes of a file have their counterpart in the parent version
 *
 * Tensors are matched by name, wherever they lie: they may move within a shard or to another one.
 * A tensor keeps its base when dtype and length are the same, whatever its shape.  Neighbours
 * whose type and mapping go on become one piece, so a shard whose layout did not change has two.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "publish/internal.h"
#include "weightfs/base.h"
#include "weightfs/version.h"

int wfs_parent_header(struct wfs_parent *p, size_t i, struct wfs_safetensors **out, struct wfs_err *err)
{
	int r = 0;

	if (!p->headers[i] && wfs_name_is_shard(p->v->files[i].path))
		r = wfs_model_header(p->model, i, &p->headers[i], err);
	*out = p->headers[i];
	return r < 0 ? wfs_wrap(err, r, "last version's %s", p->v->files[i].path) : 0;
}

void wfs_parent_free(struct wfs_parent *p)
{
	for (size_t i = 0; p->headers && i < p->v->n_files; i++)
		wfs_safetensors_close(p->headers[i]);
	free(p->headers);
	wfs_model_put(p->model);
	memset(p, 0, sizeof(*p));
}

/* Index of the parent's file among the bases. */
static int base_index(struct wfs_pieces *p, const struct wfs_parent *parent, size_t file, uint32_t *out,
		      struct wfs_err *err)
{
	const struct wfs_file *f = &parent->v->files[file];
	struct wfs_base *bases;
	size_t *files;

	for (*out = 0; *out < p->n_bases; (*out)++)
		if (p->base_file[*out] == file)
			return 0;
	bases = realloc(p->bases, (p->n_bases + 1) * sizeof(*bases));
	if (bases)
		p->bases = bases;
	files = realloc(p->base_file, (p->n_bases + 1) * sizeof(*files));
	if (files)
		p->base_file = files;
	if (!bases || !files)
		return wfs_fail(err, -ENOMEM, "out of memory");
	memset(&bases[p->n_bases], 0, sizeof(*bases));
	bases[p->n_bases].table = f->table;
	if (f->has_anchor)
		bases[p->n_bases].anchor = f->anchor;
	bases[p->n_bases].size = f->size;
	files[p->n_bases++] = file;
	return 0;
}

/* Does a piece that begins at off go on as the last one does? */
static bool goes_on(const struct wfs_pieces *p, const struct wfs_piece *next)
{
	const struct wfs_piece *last = p->n ? &p->v[p->n - 1] : NULL;
	unsigned width;

	if (!last || last->base != next->base || last->dtype != next->dtype)
		return false;
	width = wfs_dtype_width(last->dtype);
	if ((next->off - last->off + last->phase) % width != next->phase)
		return false;
	return next->base == WFS_NO_BASE || next->base_off - last->base_off == next->off - last->off;
}

static int add(struct wfs_pieces *p, const struct wfs_piece *next, struct wfs_err *err)
{
	struct wfs_piece *bigger;

	if (goes_on(p, next))
		return 0;
	if (p->n == p->cap) {
		bigger = realloc(p->v, (p->cap ? p->cap * 2 : 16) * sizeof(*bigger));
		if (!bigger)
			return wfs_fail(err, -ENOMEM, "out of memory");
		p->v = bigger;
		p->cap = p->cap ? p->cap * 2 : 16;
	}
	p->v[p->n++] = *next;
	return 0;
}

/* Bytes [off, end) as plain bytes against the same range of the parent's file, as far as that goes. */
static int add_bytes(struct wfs_pieces *p, uint64_t end, uint32_t base, uint64_t base_end, struct wfs_err *err)
{
	struct wfs_piece piece = { .base = base, .dtype = WFS_DT_BYTES };
	int r = 0;

	if (base != WFS_NO_BASE)
		r = add(p, &piece, err);
	if (r == 0 && (base == WFS_NO_BASE || base_end < end)) {
		piece.off = base == WFS_NO_BASE ? 0 : base_end;
		piece.base = WFS_NO_BASE;
		r = add(p, &piece, err);
	}
	return r;
}

static int same_path(struct wfs_pieces *p, const struct wfs_input *in, struct wfs_parent *parent, uint32_t *base,
		     uint64_t *size, struct wfs_err *err)
{
	const struct wfs_file *f = parent->model ? wfs_version_find(parent->v, in->path) : NULL;

	*base = WFS_NO_BASE;
	*size = 0;
	if (!f || f->whole || f->size == 0)
		return 0;
	*size = f->size;
	return base_index(p, parent, (size_t)(f - parent->v->files), base, err);
}

/* The parent's tensor of that name, first where it is expected. */
static int find_tensor(struct wfs_parent *parent, const struct wfs_file *expected, const char *name, size_t *file,
		       const struct wfs_tensor **out, struct wfs_err *err)
{
	struct wfs_safetensors *st;
	size_t first = expected ? (size_t)(expected - parent->v->files) : 0;
	int r;

	*out = NULL;
	for (size_t k = 0; k < parent->v->n_files && !*out; k++) {
		*file = (first + k) % parent->v->n_files;
		r = wfs_parent_header(parent, *file, &st, err);
		if (r < 0)
			return r;
		if (st)
			*out = wfs_safetensors_find(st, name);
	}
	return 0;
}

static int add_tensor(struct wfs_pieces *p, const struct wfs_tensor *t, const struct wfs_file *expected,
		      struct wfs_parent *parent, struct wfs_err *err)
{
	struct wfs_piece piece = { .off = t->begin, .base = WFS_NO_BASE, .dtype = t->dtype };
	const struct wfs_tensor *old = NULL;
	size_t file;
	int r = 0;

	if (t->begin == t->end)
		return 0;
	if (parent->model)
		r = find_tensor(parent, expected, t->name, &file, &old, err);
	if (r == 0 && old && old->dtype == t->dtype && old->end - old->begin == t->end - t->begin) {
		r = base_index(p, parent, file, &piece.base, err);
		piece.base_off = old->begin;
	}
	return r < 0 ? r : add(p, &piece, err);
}

int wfs_pieces_make(struct wfs_pieces *out, const struct wfs_input *in, struct wfs_parent *parent,
		    struct wfs_err *err)
{
	const struct wfs_file *expected = parent->model ? wfs_version_find(parent->v, in->path) : NULL;
	struct wfs_safetensors *old = NULL;
	uint64_t head = in->header ? in->head_len : (uint64_t)in->st.st_size, base_end;
	uint32_t base;
	int r;

	memset(out, 0, sizeof(*out));
	if (in->st.st_size == 0)
		return 0;
	r = same_path(out, in, parent, &base, &base_end, err);
	/* A header is compared with the old one, not with what lies behind that. */
	if (r == 0 && in->header && expected && base != WFS_NO_BASE) {
		r = wfs_parent_header(parent, (size_t)(expected - parent->v->files), &old, err);
		if (old)
			base_end = wfs_safetensors_data(old);
	}
	if (r == 0)
		r = add_bytes(out, head, base, WFS_MIN(base_end, head), err);
	for (size_t i = 0; r == 0 && in->header && i < wfs_safetensors_count(in->header); i++)
		r = add_tensor(out, wfs_safetensors_at(in->header, i), expected, parent, err);
	if (r < 0)
		wfs_pieces_free(out);
	return r;
}

void wfs_pieces_free(struct wfs_pieces *p)
{
	free(p->v);
	free(p->bases);
	free(p->base_file);
	memset(p, 0, sizeof(*p));
}
