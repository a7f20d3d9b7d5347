/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark.c - from versions to everything that a reader needs to build them from nothing
 *
 * Every object read on the way has its SHA-256 compared: a damaged table would name the wrong ones.
 */
#include "publish/mark.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "weightfs/base.h"
#include "weightfs/limits.h"
#include "weightfs/table.h"

/* ---- the set ---- */

static size_t slot_of(const struct wfs_marks *m, char kind, const struct wfs_digest *id)
{
	size_t at = (wfs_get64(id->b) ^ (uint64_t)kind) & (m->cap - 1);

	while (m->v[at].kind && (m->v[at].kind != kind || !wfs_digest_equal(&m->v[at].id, id)))
		at = (at + 1) & (m->cap - 1);
	return at;
}

static bool has(const struct wfs_marks *m, char kind, const struct wfs_digest *id)
{
	return m->n && m->v[slot_of(m, kind, id)].kind;
}

static int grow(struct wfs_marks *m)
{
	struct wfs_marks bigger = *m;

	bigger.cap = m->cap ? m->cap * 2 : 1024;
	bigger.v = calloc(bigger.cap, sizeof(*bigger.v));
	if (!bigger.v)
		return -ENOMEM;
	for (size_t i = 0; i < m->cap; i++)
		if (m->v[i].kind)
			bigger.v[slot_of(&bigger, m->v[i].kind, &m->v[i].id)] = m->v[i];
	free(m->v);
	*m = bigger;
	return 0;
}

static int add(struct wfs_marks *m, char kind, const struct wfs_digest *id, struct wfs_err *err)
{
	struct wfs_mark *slot;

	if (2 * m->n >= m->cap && grow(m) < 0)
		return wfs_fail(err, -ENOMEM, "out of memory");
	slot = &m->v[slot_of(m, kind, id)];
	m->n += !slot->kind;
	slot->kind = kind;
	slot->id = *id;
	return 0;
}

int wfs_marks_add(struct wfs_marks *m, const char *kind, const struct wfs_digest *id, struct wfs_err *err)
{
	return add(m, kind[0], id, err);
}

bool wfs_marks_has(const struct wfs_marks *m, const char *kind, const struct wfs_digest *id)
{
	return has(m, kind[0], id);
}

void wfs_marks_free(struct wfs_marks *m)
{
	free(m->v);
	free(m->shortcuts);
	m->v = NULL;
	m->shortcuts = NULL;
}

/* ---- objects ---- */

static int get(struct wfs_marks *m, struct wfs_buf *out, const char *kind, const struct wfs_digest *id, size_t max,
	       struct wfs_err *err)
{
	char name[WFS_OBJECT_NAME];
	struct wfs_digest got;
	int r;

	wfs_object_name(name, kind, id);
	r = wfs_store_get_buf(out, m->store, name, max, false, m->cancel, err);
	if (r < 0)
		return r;
	wfs_sha256(&got, out->data, out->len);
	return wfs_digest_equal(&got, id) ? 0 : wfs_fail(err, -EBADMSG, "%s has another SHA-256", name);
}

int wfs_marks_peek(struct wfs_marks *m, const struct wfs_digest *id, struct wfs_version *out, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	int r = get(m, &raw, "versions", id, WFS_VERSION_MAX, err);

	return r < 0 ? r : wfs_version_parse(out, raw.data, raw.len, err);
}

int wfs_marks_version(struct wfs_marks *m, const struct wfs_digest *id, struct wfs_version *out, struct wfs_err *err)
{
	int r = wfs_marks_peek(m, id, out, err);

	if (r == -ENOENT)
		return wfs_fail(err, -EBADMSG, "versions/%s is missing", wfs_hex(id).s);
	if (r == 0)
		r = wfs_marks_add(m, "versions", id, err);
	return r;
}

/* The table and its packs.  The caller closes it. */
static int mark_table(struct wfs_marks *m, const struct wfs_digest *id, struct wfs_table **out, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	int r = get(m, &raw, "tables", id, WFS_TABLE_MAX, err);

	if (r == -ENOENT)
		r = wfs_fail(err, -EBADMSG, "it is missing");
	if (r == 0)
		r = wfs_table_open(out, &raw, err);
	if (r < 0)
		return wfs_wrap(err, r, "tables/%s", wfs_hex(id).s);
	r = wfs_marks_add(m, "tables", id, err);
	for (uint32_t i = 0; r == 0 && i < wfs_table_n_packs(*out); i++)
		r = wfs_marks_add(m, "packs", &wfs_table_pack(*out, i)->id, err);
	if (r < 0)
		wfs_table_close(*out);
	return r;
}

static int mark_alone(struct wfs_marks *m, const struct wfs_digest *id, struct wfs_err *err)
{
	struct wfs_table *t;
	int r;

	if (has(m, 't', id))
		return 0;
	r = mark_table(m, id, &t, err);
	if (r == 0)
		wfs_table_close(t);
	return r;
}

/* ---- chains ---- */

struct link {
	struct wfs_digest table, anchor;	/* anchor zero: none */
};

struct links {
	struct link *v;
	size_t n, cap;
};

static int push(struct links *l, const struct wfs_digest *table, const struct wfs_digest *anchor, struct wfs_err *err)
{
	struct link *bigger;

	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 64;
		bigger = realloc(l->v, l->cap * sizeof(*bigger));
		if (!bigger)
			return wfs_fail(err, -ENOMEM, "out of memory");
		l->v = bigger;
	}
	l->v[l->n].table = *table;
	l->v[l->n++].anchor = *anchor;
	return 0;
}

static bool needs_base(const struct wfs_table *t)
{
	for (uint32_t b = 0; b < wfs_table_n_blocks(t); b++)
		if (wfs_codec_needs_base(wfs_table_block(t, b).codec))
			return true;
	return false;
}

int wfs_marks_shortcuts(struct wfs_marks *m, const struct wfs_version *v, struct wfs_err *err)
{
	struct wfs_shortcut *bigger = realloc(m->shortcuts, (m->n_shortcuts + v->n_files + 1) * sizeof(*bigger));

	if (!bigger)
		return wfs_fail(err, -ENOMEM, "out of memory");
	m->shortcuts = bigger;
	for (size_t i = 0; i < v->n_files; i++) {
		const struct wfs_file *f = &v->files[i];
		unsigned k = f->n_strides;

		/* The widest that does not pass the newest full copy: what lies before that may be gone. */
		while (k && f->strides[k - 1].back > f->full_back)
			k--;
		if (k && !f->has_anchor)
			m->shortcuts[m->n_shortcuts++] = (struct wfs_shortcut){ f->table, f->strides[k - 1].id };
	}
	return 0;
}

/* The table to go on with: a stride, if there is one and an earlier run has left it. */
static int mark_way(struct wfs_marks *m, const struct wfs_digest *table, struct wfs_table **out, struct wfs_err *err)
{
	struct wfs_err why = { "" }, stride = { "" };
	int r;

	for (size_t i = 0; i < m->n_shortcuts; i++)
		if (wfs_digest_equal(&m->shortcuts[i].table, table) &&
		    mark_table(m, &m->shortcuts[i].stride, out, &stride) == 0)
			return 0;
	r = mark_table(m, table, out, &why);
	if (r < 0 && stride.msg[0])	/* after gc it is the stride that should be there */
		return wfs_fail(err, r, "%s; %s", stride.msg, why.msg);
	return r < 0 ? wfs_fail(err, r, "%s", why.msg) : 0;
}

/* One file content: by its anchor, or by its table and, pushed, what that needs. */
static int follow(struct wfs_marks *m, struct links *l, const struct link *what, struct wfs_err *err)
{
	bool anchored = !wfs_digest_is_zero(&what->anchor);
	struct wfs_table *t;
	int r;

	if (anchored)
		return mark_alone(m, &what->anchor, err);
	if (has(m, 'c', &what->table))
		return 0;
	r = add(m, 'c', &what->table, err);
	if (r == 0)
		r = mark_way(m, &what->table, &t, err);
	if (r < 0)
		return r;
	for (uint32_t b = 0; r == 0 && needs_base(t) && b < wfs_table_n_bases(t); b++)
		r = push(l, &wfs_table_base(t, b)->table, &wfs_table_base(t, b)->anchor, err);
	wfs_table_close(t);
	return r;
}

static int mark_chain(struct wfs_marks *m, const struct wfs_digest *table, const struct wfs_digest *anchor,
		      struct wfs_err *err)
{
	struct links l = { NULL, 0, 0 };
	int r = push(&l, table, anchor, err);

	while (r == 0 && l.n) {
		struct link one = l.v[--l.n];

		r = follow(m, &l, &one, err);
	}
	free(l.v);
	return r;
}

int wfs_marks_file(struct wfs_marks *m, const struct wfs_file *f, struct wfs_err *err)
{
	static const struct wfs_digest none;
	int r = 0;

	if (f->whole)
		return f->size ? wfs_marks_add(m, "packs", &f->sha256, err) : 0;
	if (f->has_layout)
		r = wfs_marks_add(m, "layouts", &f->layout, err);
	if (r == 0 && f->has_plain)
		r = wfs_marks_add(m, "packs", &f->plain, err);
	if (r == 0)
		r = mark_alone(m, &f->table, err);
	for (unsigned i = 0; r == 0 && i < f->n_strides; i++)
		r = mark_alone(m, &f->strides[i].id, err);
	return r < 0 ? r : mark_chain(m, &f->table, f->has_anchor ? &f->anchor : &none, err);
}

int wfs_marks_files(struct wfs_marks *m, const struct wfs_version *v, struct wfs_err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < v->n_files; i++) {
		r = wfs_marks_file(m, &v->files[i], err);
		if (r < 0)
			wfs_wrap(err, r, "%s", v->files[i].path);
	}
	return r;
}
