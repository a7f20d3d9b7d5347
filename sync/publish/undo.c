/* SPDX-License-Identifier: Apache-2.0 */
/*
 * undo.c - what the next strides need: older versions as changes against newer ones
 *
 * Only the newest version is in the publisher's cache.  After each publish the one before is kept as
 * undo tables against it, and at a multiple of a stride the version at its other end against that, in
 * place of the single steps between.  So with strides of 8 and 64 there are never more than 7 + 7 steps, and what
 * lies before the last multiple of 64 is dropped.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "publish/internal.h"
#include "weightfs/base.h"
#include "weightfs/limits.h"

/* The older file as an input: its bytes come from its version. */
static int fake_input(struct wfs_input *in, struct wfs_parent *old, size_t i, struct wfs_err *err)
{
	const struct wfs_file *f = &old->v->files[i];

	memset(in, 0, sizeof(*in));
	in->path = f->path;
	in->fd = -1;
	in->st.st_size = (off_t)f->size;
	if (wfs_parent_header(old, i, &in->header, err) < 0)
		return -EIO;
	in->head_len = in->header ? wfs_safetensors_data(in->header) : 0;
	return 0;
}

static int undo_file(struct wfs_strider *s, struct wfs_parent *old, struct wfs_parent *now, size_t i,
		     struct wfs_err *err)
{
	struct wfs_progress quiet = { .cancel = s->progress ? s->progress->cancel : NULL };
	struct wfs_pieces pieces = { .n = 0 };
	struct wfs_input in;
	struct wfs_encode e = {
		.parent = now, .in = &in, .pieces = &pieces, .workers = s->workers, .progress = &quiet,
		.from = old->model, .from_file = i,
	};
	int r;

	r = fake_input(&in, old, i, err);
	if (r == 0)
		r = wfs_pieces_make(&pieces, &in, now, err);
	if (r == 0)
		r = wfs_undo_new(&e.undo, s->replica, err);
	if (r == 0)
		r = wfs_encode_file(&e, err);
	if (r == 0) {
		r = wfs_undo_commit(e.undo, &old->v->files[i].table, &e.table, err);
		e.undo = NULL;
	}
	wfs_undo_abort(e.undo);
	wfs_buf_free(&e.table);
	wfs_pieces_free(&pieces);
	return r;
}

static int open_parent(struct wfs_parent *p, struct wfs_model *m, struct wfs_err *err)
{
	p->model = m;
	p->v = wfs_model_version(m);
	p->headers = calloc(p->v->n_files, sizeof(struct wfs_safetensors *));
	return p->headers ? 0 : wfs_fail(err, -ENOMEM, "out of memory");
}

/* The files of `old` as changes against m, but those that m has too. */
static int undo_version(struct wfs_strider *s, struct wfs_model *m, struct wfs_model *old, struct wfs_err *err)
{
	struct wfs_parent a = { NULL, NULL, NULL }, b = a;
	int r;

	r = open_parent(&a, wfs_model_get(old), err);
	if (r == 0)
		r = open_parent(&b, wfs_model_get(m), err);
	for (size_t i = 0; r == 0 && i < a.v->n_files; i++) {
		const struct wfs_file *f = &a.v->files[i], *now = wfs_version_find(b.v, f->path);

		if (f->whole || !f->size || (now && !now->whole && wfs_digest_equal(&now->table, &f->table)))
			continue;
		r = undo_file(s, &a, &b, i, err);
	}
	wfs_parent_free(&a);
	wfs_parent_free(&b);
	return r;
}

/* The widest stride that ends at this version; 0: none. */
static unsigned level_of(const struct wfs_strider *s, uint64_t sequence)
{
	unsigned level = 0;

	while (level < s->n_backs && sequence % s->backs[level] == 0)
		level++;
	return level;
}

struct keep {
	struct wfs_digest *v;
	size_t n;
};

static int keep_files(struct keep *k, const struct wfs_version *v, struct wfs_err *err)
{
	struct wfs_digest *bigger = realloc(k->v, (k->n + v->n_files + 1) * sizeof(*bigger));

	if (!bigger)
		return wfs_fail(err, -ENOMEM, "out of memory");
	k->v = bigger;
	for (size_t i = 0; i < v->n_files; i++)
		if (!v->files[i].whole)
			k->v[k->n++] = v->files[i].table;
	return 0;
}

/* Walk back over what is needed still, to the last multiple of the widest stride. */
static int drop_others(struct wfs_strider *s, struct wfs_err *err)
{
	uint64_t newest = s->v->sequence, at = newest, last = newest - newest % s->backs[s->n_backs - 1];
	struct keep k = { NULL, 0 };
	int r = 0;

	while (r == 0 && at > WFS_MAX(last, 1ull)) {
		unsigned level = level_of(s, at);

		/* How at's predecessor here is kept: by the stride that ends at it, or by a single step. */
		at -= level ? s->backs[level - 1] : 1;
		if (at < 1)
			break;
		r = wfs_strides_past(s, newest - at, err);
		if (r == 0)
			r = keep_files(&k, &s->past[newest - at], err);
	}
	if (r == -ENOENT) {		/* collected: what lies before it is no use */
		if (err)
			err->msg[0] = '\0';
		r = 0;
	}
	if (r == 0)
		wfs_undo_keep(s->replica, k.v, k.n);
	free(k.v);
	return r;
}

int wfs_strides_prepare(struct wfs_strider *s, struct wfs_model *m, struct wfs_model *parent, struct wfs_err *err)
{
	uint64_t sequence = s->v->sequence;
	unsigned level = level_of(s, sequence);
	struct wfs_model *old;
	int r = 0;

	if (!s->n_backs)
		return 0;
	if (level == 0 && sequence > s->backs[0] && parent) {	/* before the first multiple nothing can be reached */
		r = undo_version(s, m, parent, err);
	} else if (level && level < s->n_backs && sequence > s->backs[level - 1] && sequence > s->backs[level]) {
		r = wfs_replica_load(s->replica, sequence - s->backs[level - 1], &old, err);
		if (r == 0)
			r = undo_version(s, m, old, err);
		if (r == 0)
			wfs_model_put(old);
	}
	return r < 0 ? r : drop_others(s, err);
}
