/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history.c - older version objects, as far as a plan needs them
 *
 * They say, without a table being fetched, which ways lead to a file and how many bytes each costs.
 * A walk goes from a version back to one that is held, over the widest strides that do not pass it:
 * to come from 50 versions back it reads about 15 small objects, not 50.
 *
 * Objects are followed by digest, so all that is known here hangs on the commit it began with.
 * What is gone from the store ends a walk; a plan makes do with what is known.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "replica/internal.h"
#include "weightfs/base.h"

/* ---- what is known ---- */

static const struct wfs_past *find(struct wfs_replica *r, const struct wfs_digest *id)
{
	const struct wfs_past *p;

	for (p = r->history; p && !wfs_digest_equal(&p->id, id); p = p->next)
		;
	return p;
}

const struct wfs_past *wfs_history_find(struct wfs_replica *r, const struct wfs_digest *id)
{
	const struct wfs_past *p;

	pthread_mutex_lock(&r->history_lock);
	p = find(r, id);
	pthread_mutex_unlock(&r->history_lock);
	return p;
}

const struct wfs_past *wfs_history_first(struct wfs_replica *r)
{
	const struct wfs_past *p;

	pthread_mutex_lock(&r->history_lock);
	p = r->history;
	pthread_mutex_unlock(&r->history_lock);
	return p;		/* what hangs on it never changes while somebody plans */
}

/* Newest first.  Two threads may have fetched the same one. */
static const struct wfs_past *insert(struct wfs_replica *r, struct wfs_past *fresh)
{
	const struct wfs_past *known;
	struct wfs_past *old = NULL;

	pthread_mutex_lock(&r->history_lock);
	known = find(r, &fresh->id);
	if (known) {
		old = fresh;
	} else {
		fresh->next = r->history;
		r->history = fresh;
		known = fresh;
	}
	pthread_mutex_unlock(&r->history_lock);
	if (old) {
		wfs_version_free(&old->v);
		free(old);
	}
	return known;
}

static int load(const struct wfs_past **out, struct wfs_replica *r, const struct wfs_digest *id, bool net,
		struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	struct wfs_past *fresh;
	int ret;

	*out = wfs_history_find(r, id);
	if (*out)
		return 0;
	ret = wfs_object_get(r, &raw, "versions", id, WFS_VERSION_MAX, net, err);
	if (ret < 0)
		return ret;
	fresh = calloc(1, sizeof(*fresh));
	if (!fresh)
		return wfs_fail(err, -ENOMEM, "out of memory");
	fresh->id = *id;
	fresh->len = raw.len;
	ret = wfs_version_parse(&fresh->v, raw.data, raw.len, err);
	if (ret < 0) {
		free(fresh);
		return wfs_wrap(err, ret, "versions/%s", wfs_hex(id).s);
	}
	*out = insert(r, fresh);
	return 0;
}

/* The walk comes from version `from`, and goes back to `to`. */
static int load_ahead(const struct wfs_past **out, struct wfs_walk *w, const struct wfs_digest *id, uint64_t from,
		      struct wfs_err *err)
{
	struct wfs_replica *r = w->r;
	int ret = load(out, r, id, false, err);

	if (ret != -EAGAIN || !w->net || !r->store)
		return ret;
	/* Several files are planned at once and want the same objects: each is fetched once. */
	pthread_mutex_lock(&r->history_fetch);
	ret = load(out, r, id, false, err);
	if (ret == -EAGAIN && !w->unlike) {
		wfs_prefetch_versions(r, from, w->to, !w->to_ns && !w->until_full);
		ret = load(out, r, id, false, err);
		w->unlike = ret == -EAGAIN;
	}
	if (ret == -EAGAIN)
		ret = load(out, r, id, true, err);
	pthread_mutex_unlock(&r->history_fetch);
	return ret;
}

void wfs_history_begin(struct wfs_replica *r)
{
	pthread_mutex_lock(&r->history_lock);
	r->n_planning++;
	pthread_mutex_unlock(&r->history_lock);
}

void wfs_history_end(struct wfs_replica *r)
{
	pthread_mutex_lock(&r->history_lock);
	r->n_planning--;
	pthread_mutex_unlock(&r->history_lock);
}

void wfs_history_forget(struct wfs_replica *r)
{
	const struct wfs_past *list = NULL, *p;

	pthread_mutex_lock(&r->history_lock);
	if (r->n_planning == 0) {
		list = r->history;
		r->history = NULL;
		r->n_gone = 0;
	}
	pthread_mutex_unlock(&r->history_lock);
	while ((p = list)) {
		list = p->next;
		wfs_version_free(&((struct wfs_past *)p)->v);
		free((void *)p);
	}
}

void wfs_history_gone(struct wfs_replica *r, const struct wfs_digest *table, const struct wfs_err *why)
{
	struct wfs_gone gone = { .table = *table };

	if (why)
		gone.why = *why;
	else
		wfs_fail(&gone.why, -ENOENT, "what table %s stores is not in the store", wfs_hex(table).s);
	pthread_mutex_lock(&r->history_lock);
	r->gone[r->n_gone++ % ARRAY_SIZE(r->gone)] = gone;
	pthread_mutex_unlock(&r->history_lock);
}

void wfs_history_retry(struct wfs_replica *r)
{
	pthread_mutex_lock(&r->history_lock);
	r->n_gone = 0;
	pthread_mutex_unlock(&r->history_lock);
}

int wfs_history_is_gone(struct wfs_replica *r, const struct wfs_digest *table, struct wfs_err *err)
{
	int ret = 0;

	pthread_mutex_lock(&r->history_lock);
	for (unsigned i = 0; ret == 0 && i < WFS_MIN(r->n_gone, (unsigned)ARRAY_SIZE(r->gone)); i++)
		if (wfs_digest_equal(&r->gone[i].table, table))
			ret = wfs_fail(err, -EBADMSG, "%s", r->gone[i].why.msg);
	pthread_mutex_unlock(&r->history_lock);
	return ret;
}

/* ---- models ---- */

int wfs_history_sync(struct wfs_replica *r, struct wfs_err *err)
{
	const struct wfs_past *past;
	struct wfs_digest *ids;
	size_t n = 0, i = 0;
	int ret = 0;

	pthread_mutex_lock(&r->lock);
	for (const struct wfs_model *m = r->models; m; m = m->next)
		n++;
	ids = calloc(n + 1, sizeof(*ids));
	for (const struct wfs_model *m = r->models; ids && m; m = m->next)
		ids[i++] = m->id;
	pthread_mutex_unlock(&r->lock);
	if (!ids)
		return wfs_fail(err, -ENOMEM, "out of memory");
	/* They were parsed when the model was made, and are in the cache. */
	for (i = 0; ret == 0 && i < n; i++) {
		ret = load(&past, r, &ids[i], false, err);
		if (ret != -ENOMEM)
			ret = 0;
	}
	free(ids);
	return ret;
}

/* ---- walking ---- */

/* The way of one file from version v to the one `past`, which is `back` before: its bytes, or
 * UINT64_MAX when the file has no way of that width. */
uint64_t wfs_past_travel(const struct wfs_file *f, const struct wfs_past *past, uint64_t back)
{
	const struct wfs_file *old = wfs_version_find(&past->v, f->path);
	const struct wfs_stride *s = wfs_stride_find(f->strides, f->n_strides, back);

	if (old && !old->whole && wfs_digest_equal(&old->table, &f->table))
		return 0;
	if (s)
		return s->travel;
	return back == 1 ? f->travel : UINT64_MAX;
}

/* One step back that does not pass the goal, the widest first. */
static int step(struct wfs_walk *w, const struct wfs_past **at, uint64_t *travel, struct wfs_err *err)
{
	const struct wfs_version *v = &(*at)->v;
	const struct wfs_file *f = wfs_version_find(v, w->path);
	const struct wfs_past *next;
	int r;

	for (unsigned i = v->n_strides + 1; i-- > 0; ) {
		const struct wfs_digest *id = i ? &v->strides[i - 1].id : &v->parents[0];
		uint64_t back = i ? v->strides[i - 1].back : 1;

		if (back > v->sequence || v->sequence - back < w->to || (i == 0 && !v->n_parents))
			continue;
		r = load_ahead(&next, w, id, v->sequence, err);
		if (r < 0)
			return r;
		if (next->v.sequence + back != v->sequence || strcmp(next->v.run.s, v->run.s) != 0)
			return wfs_fail(err, -EBADMSG, "versions/%s is not %llu before %llu", wfs_hex(id).s,
					(unsigned long long)back, (unsigned long long)v->sequence);
		if (next->v.time_ns < w->to_ns) {
			w->to = next->v.sequence + 1;
			continue;
		}
		*travel = f && !f->whole ? wfs_past_travel(f, next, back) : 0;
		if (*travel == UINT64_MAX)
			continue;
		*at = next;
		return 0;
	}
	return -ENOENT;
}

static bool is_full(const struct wfs_walk *w)
{
	const struct wfs_file *f = wfs_version_find(&w->end->v, w->path);

	return f && f->has_anchor;
}

int wfs_history_walk(struct wfs_walk *w, const struct wfs_past *from, struct wfs_err *err)
{
	uint64_t travel = 0;
	int r = 0;

	w->end = from;
	w->sum = 0;
	for (unsigned n = 0; r == 0 && n < WFS_CHAIN_MAX && w->end->v.sequence > w->to && w->sum < w->limit; n++) {
		if (w->until_full && is_full(w))
			break;
		r = step(w, &w->end, &travel, err);
		if (r == 0)
			w->sum = w->sum + travel < w->sum ? UINT64_MAX : w->sum + travel;
	}
	/* Gone, damaged, or nothing further back that is young enough: known is what is known. */
	if (r == -ENOENT || r == -EBADMSG || r == -EPROTONOSUPPORT) {
		if (err)
			err->msg[0] = '\0';
		r = 0;
	}
	return r;
}
