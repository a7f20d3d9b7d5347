/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view.c - open files
 *
 * The size comes from the version object, so it is right before a byte was fetched, and it never
 * changes: the kernel shrinks a file whose read ends early, so a read is whole or an error.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "view.h"
#include "weightfs/base.h"

struct views {
	pthread_mutex_t lock;
	struct view *first;
	size_t n_files;
};

struct views *views_new(void)
{
	struct views *vs = calloc(1, sizeof(*vs));

	if (vs)
		pthread_mutex_init(&vs->lock, NULL);
	return vs;
}

void views_free(struct views *vs)
{
	if (!vs)
		return;
	while (vs->first)
		view_close(vs, vs->first);
	pthread_mutex_destroy(&vs->lock);
	free(vs);
}

size_t views_count(struct views *vs)
{
	size_t n;

	pthread_mutex_lock(&vs->lock);
	n = vs->n_files;
	pthread_mutex_unlock(&vs->lock);
	return n;
}

static void link_view(struct views *vs, struct view *v)
{
	pthread_mutex_lock(&vs->lock);
	v->next = vs->first;
	v->prev = &vs->first;
	if (v->next)
		v->next->prev = &v->next;
	vs->first = v;
	vs->n_files += v->model != NULL;
	pthread_mutex_unlock(&vs->lock);
}

int view_open(struct view **out, struct views *vs, struct wfs_replica *r, const struct node *n,
	      struct bind_key user)
{
	struct wfs_model *m = wfs_replica_find(r, n->sequence);
	struct view *v;

	if (!m || !wfs_digest_equal(wfs_model_id(m), &n->version)) {
		wfs_model_put(m);
		return -ESTALE;
	}
	v = calloc(1, sizeof(*v));
	if (!v) {
		wfs_model_put(m);
		return -ENOMEM;
	}
	v->model = m;
	v->file = n->file;
	v->size = n->size;
	v->sequence = n->sequence;
	v->path = wfs_model_version(m)->files[n->file].path;
	v->user = user;
	link_view(vs, v);
	*out = v;
	return 0;
}

int view_open_text(struct view **out, struct views *vs, struct wfs_buf *text)
{
	struct view *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	v->text = wfs_buf_take(text);
	v->size = v->text.len;
	v->path = "status";
	link_view(vs, v);
	*out = v;
	return 0;
}

void view_close(struct views *vs, struct view *v)
{
	pthread_mutex_lock(&vs->lock);
	*v->prev = v->next;
	if (v->next)
		v->next->prev = v->prev;
	vs->n_files -= v->model != NULL;
	pthread_mutex_unlock(&vs->lock);
	wfs_model_put(v->model);
	wfs_buf_free(&v->text);
	free(v);
}

size_t view_clamp(const struct view *v, uint64_t off, size_t len)
{
	if (off >= v->size)
		return 0;
	return (size_t)WFS_MIN((uint64_t)len, v->size - off);
}

int view_lend(struct view *v, struct wfs_loan *l, size_t len, uint64_t off, struct wfs_err *err)
{
	if (v->model)
		return wfs_model_lend(v->model, v->file, l, len, off, err);
	/* A copy: the answer lets the reader go on, whose release may free the text before we are back. */
	*l = (struct wfs_loan){ 0 };
	if (wfs_buf_append(&l->own, v->text.data + off, len) < 0)
		return -ENOMEM;
	l->data = l->own.data;
	return 0;
}

void view_want(struct view *v, uint64_t off, size_t len, struct wfs_want *w)
{
	wfs_model_want(v->model, v->file, off, len, w);
}
