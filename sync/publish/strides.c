/* SPDX-License-Identifier: Apache-2.0 */
/*
 * strides.c - deltas from further back than the parent
 *
 * At multiples of 8 and 64, say, a version is stored against the one that many versions before too, from
 * the trainer's bytes like everything else.  The older version is read by undo tables (undo.c), block
 * by block, so no second model lies on the publisher's disk.  A stride is kept when it takes fewer bytes than
 * the ways that were there without it.  When the undo tables are lost, it is left out.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "publish/internal.h"
#include "weightfs/base.h"
#include "weightfs/limits.h"
#include "weightfs/log.h"

/* ---- older version objects ---- */

static int load_past(struct wfs_strider *s, const struct wfs_digest *id, struct wfs_version *out, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	char name[WFS_OBJECT_NAME];
	struct wfs_digest got;
	int r;

	wfs_object_name(name, "versions", id);
	r = wfs_store_get_buf(&raw, s->store, name, WFS_VERSION_MAX, false, NULL, err);
	if (r == -ENOENT)
		return wfs_fail(err, r, "%s is not in the store", name);
	if (r < 0)
		return r;
	wfs_sha256(&got, raw.data, raw.len);
	if (!wfs_digest_equal(&got, id))
		return wfs_fail(err, -EBADMSG, "%s has another SHA-256: run weightsync verify", name);
	return wfs_version_parse(out, raw.data, raw.len, err);
}

/* The versions before this one, `back` of them. */
int wfs_strides_past(struct wfs_strider *s, size_t back, struct wfs_err *err)
{
	struct wfs_version *bigger = realloc(s->past, (back + 1) * sizeof(*bigger));
	int r = 0;

	if (!bigger)
		return wfs_fail(err, -ENOMEM, "out of memory");
	s->past = bigger;
	s->past[0] = *s->v;
	s->n_past = WFS_MAX(s->n_past, (size_t)1);
	while (r == 0 && s->n_past <= back) {
		const struct wfs_version *last = &s->past[s->n_past - 1];

		if (!last->n_parents)
			return wfs_fail(err, -ENOENT, "version %" PRIu64 " has no parent", last->sequence);
		r = load_past(s, &last->parents[0], &s->past[s->n_past], err);
		s->n_past += r == 0;
	}
	return r;
}

void wfs_strides_free(struct wfs_strider *s)
{
	for (size_t i = 1; i < s->n_past; i++)
		wfs_version_free(&s->past[i]);
	free(s->past);
	s->past = NULL;
	s->n_past = 0;
}

/* ---- what it would cost without ---- */

static uint64_t add(uint64_t a, uint64_t b)
{
	return a + b < a ? UINT64_MAX : a + b;
}

/* Bytes of the cheapest way for one file from `back` versions before; UINT64_MAX: none. */
static uint64_t cost_without(const struct wfs_strider *s, const char *path, uint64_t back)
{
	uint64_t *cost = malloc((back + 1) * sizeof(*cost)), result;

	if (!cost)
		return UINT64_MAX;
	for (uint64_t i = 0; i <= back; i++)
		cost[i] = i ? UINT64_MAX : 0;
	for (uint64_t i = 0; i < back; i++) {
		const struct wfs_file *f = wfs_version_find(&s->past[i], path);

		if (!f || f->whole)
			continue;
		cost[i + 1] = WFS_MIN(cost[i + 1], add(cost[i], f->travel));
		for (unsigned k = 0; k < f->n_strides; k++)
			if (f->strides[k].back <= back - i)
				cost[i + f->strides[k].back] = WFS_MIN(cost[i + f->strides[k].back],
								       add(cost[i], f->strides[k].travel));
	}
	result = cost[back];
	free(cost);
	return result;
}

/* The file changed once in these versions: then its own table leads there. */
static const struct wfs_file *changed_once(const struct wfs_strider *s, const struct wfs_file *f, uint64_t back)
{
	const struct wfs_file *old = wfs_version_find(&s->past[back], f->path), *made = NULL;

	for (uint64_t i = 0; i < back; i++) {
		const struct wfs_file *one = wfs_version_find(&s->past[i], f->path);

		if (!one || one->whole)
			return NULL;
		if (!wfs_digest_equal(&one->table, &f->table))
			return made && wfs_digest_equal(&one->table, &old->table) ? made : NULL;
		if (one->travel)
			made = one;
	}
	return made;
}

/* ---- one file ---- */

/* Would reading that file of an older version need the store?  Then the way back is lost. */
static int check_here(struct wfs_model *old, size_t file, struct wfs_err *err)
{
	struct wfs_path path;
	int r = wfs_model_path(old, file, &path, err);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < path.n_steps; i++)
		if (path.steps[i].how == WFS_STEP_DELTA || path.steps[i].how == WFS_STEP_FULL)
			r = wfs_fail(err, -ENOENT, "the publisher's cache has no way back to version %" PRIu64,
				     wfs_model_version(old)->sequence);
	free(path.steps);
	return r;
}

static void note(struct wfs_file *f, uint64_t back, const struct wfs_digest *table, uint64_t travel)
{
	f->strides[f->n_strides++] = (struct wfs_stride){ .back = back, .id = *table, .travel = travel };
}

static int put_table(struct wfs_strider *s, const struct wfs_encode *e, struct wfs_file *f, uint64_t back,
		     struct wfs_err *err)
{
	char name[WFS_OBJECT_NAME];
	struct wfs_digest id;
	int r;

	if (e->limit && e->stored + e->table.len >= e->limit)
		return 0;
	wfs_sha256(&id, e->table.data, e->table.len);
	wfs_object_name(name, "tables", &id);
	r = wfs_store_put(s->store, name, e->table.data, e->table.len, err);
	if (r < 0)
		return r;
	note(f, back, &id, e->stored + e->table.len);
	s->bytes += e->stored + e->table.len;
	return 0;
}

static int encode(struct wfs_strider *s, struct wfs_parent *old, const struct wfs_file *before, size_t i,
		  uint64_t back, uint64_t limit, struct wfs_err *err)
{
	struct wfs_progress quiet = { .cancel = s->progress ? s->progress->cancel : NULL };
	struct wfs_pieces pieces = { .n = 0 };
	struct wfs_encode e = {
		.store = s->store, .parent = old, .in = &s->in->v[i], .pieces = &pieces, .workers = s->workers,
		.progress = &quiet, .limit = limit,
	};
	int r = 0;

	if (before)
		r = check_here(old->model, (size_t)(before - old->v->files), err);
	if (r == 0)
		r = wfs_pieces_make(&pieces, e.in, old, err);
	for (uint32_t b = 0; r == 0 && b < pieces.n_bases; b++)
		r = check_here(old->model, pieces.base_file[b], err);
	if (r == 0)
		r = wfs_encode_file(&e, err);
	if (r == 0)
		r = put_table(s, &e, &s->v->files[i], back, err);
	if (r == -EDQUOT)		/* it does not pay */
		r = 0;
	wfs_buf_free(&e.table);
	wfs_pieces_free(&pieces);
	return r;
}

static int stride_file(struct wfs_strider *s, struct wfs_parent *old, size_t i, uint64_t back, struct wfs_err *err)
{
	struct wfs_file *f = &s->v->files[i];
	const struct wfs_file *before = wfs_version_find(old->v, f->path), *once;
	uint64_t limit;

	if (f->whole || !f->size || (before && !before->whole && wfs_digest_equal(&before->table, &f->table)))
		return 0;
	once = before && !before->whole ? changed_once(s, f, back) : NULL;
	if (once) {
		note(f, back, &f->table, once->travel);
		return 0;
	}
	limit = before ? cost_without(s, f->path, back) : UINT64_MAX;
	if (f->full)
		limit = WFS_MIN(limit, f->full);
	return encode(s, old, before && !before->whole ? before : NULL, i, back, limit, err);
}

/* ---- one stride ---- */

static int open_old(struct wfs_strider *s, uint64_t back, struct wfs_parent *old, struct wfs_err *err)
{
	int r;

	memset(old, 0, sizeof(*old));
	r = wfs_strides_past(s, back, err);
	if (r == 0)
		r = wfs_replica_load(s->replica, s->v->sequence - back, &old->model, err);
	if (r < 0)
		return r;
	old->v = wfs_model_version(old->model);
	old->headers = calloc(old->v->n_files, sizeof(struct wfs_safetensors *));
	return old->headers ? 0 : wfs_fail(err, -ENOMEM, "out of memory");
}

static int add_stride(struct wfs_strider *s, uint64_t back, struct wfs_err *err)
{
	struct wfs_parent old;
	bool any = false;
	int r;

	r = open_old(s, back, &old, err);
	for (size_t i = 0; r == 0 && i < s->v->n_files; i++) {
		const struct wfs_file *f = &s->v->files[i];

		r = stride_file(s, &old, i, back, err);
		s->past[0] = *s->v;
		any |= f->n_strides && f->strides[f->n_strides - 1].back == back;
	}
	if (any)
		s->v->strides[s->v->n_strides++] = (struct wfs_stride){ .back = back, .id = *wfs_model_id(old.model) };
	wfs_parent_free(&old);
	return r;
}

int wfs_strides_add(struct wfs_strider *s, struct wfs_err *err)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < s->n_backs; i++) {
		struct wfs_err why = { "" };
		uint64_t back = s->backs[i];

		if (s->v->sequence % back || s->v->sequence <= back)
			continue;
		r = add_stride(s, back, &why);
		if (r == -ECANCELED || r == -ENOSPC) {
			if (err)
				*err = why;
			return r;
		}
		if (r < 0)
			log_warn("no stride of %" PRIu64 " versions to version %" PRIu64 ": %s", back, s->v->sequence, why.msg);
		r = 0;
	}
	return r;
}
