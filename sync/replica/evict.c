/* SPDX-License-Identifier: Apache-2.0 */
/*
 * evict.c - what is kept, what goes
 *
 * Kept: the newest complete version, keep_versions before it, whatever has references beyond our
 * own (open, bound), whatever is newer than the newest complete one, and the images any of
 * these need.  If space demands it, keep_versions yields.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/io.h"

/* Take the oldest version that may go out of sight; the caller puts it.  NULL: none. */
static struct wfs_model *pick(struct wfs_replica *r, const struct wfs_model *spare, unsigned keep)
{
	struct wfs_model *m, *victim = NULL;
	unsigned complete = 0;

	pthread_mutex_lock(&r->lock);
	for (m = r->models; m; m = m->next) {	/* newest first */
		if (!m->shown)
			continue;
		if (complete > keep && m->refs == 1 && m != spare)
			victim = m;
		complete += m->complete || r->o.lazy;
	}
	if (victim)
		victim->shown = false;
	pthread_mutex_unlock(&r->lock);
	return victim;
}

static int drop(struct wfs_replica *r, struct wfs_model *m, struct wfs_err *err)
{
	uint64_t sequence = m->v.sequence;
	int ret;

	ret = wfs_cache_unrecord(&r->cache, sequence, err);
	if (r->shown_fn)
		r->shown_fn(r->shown_arg, sequence, false);
	wfs_model_put(m);
	return ret;
}

static int want(struct wfs_replica *r, const struct wfs_digest *id, struct wfs_err *err)
{
	struct wfs_digest *bigger;

	if ((r->n_wanted & (r->n_wanted - 1)) == 0) {		/* grows at powers of two */
		bigger = realloc(r->wanted, (r->n_wanted ? r->n_wanted * 2 : 1) * sizeof(*bigger));
		if (!bigger)
			return wfs_fail(err, -ENOMEM, "out of memory");
		r->wanted = bigger;
	}
	r->wanted[r->n_wanted++] = *id;
	return 0;
}

/* What the image is built from stays until it is complete. */
static int need_image(struct wfs_replica *r, struct wfs_image *img, uint64_t *bytes, struct wfs_err *err)
{
	const struct wfs_table *t;
	struct wfs_plan *plan;
	int ret;

	ret = wfs_plan_get(&plan, img, true, false, err);
	if (ret < 0)
		return ret;
	for (size_t i = 0; ret == 0 && i < plan->n_nodes; i++)
		if (plan->nodes[i].source)
			ret = want(r, &plan->nodes[i].source->id, err);
	t = plan->nodes[0].source->table;	/* what is built is not held */
	for (uint32_t b = 0; b < wfs_table_n_blocks(t) && b < img->n_blocks; b++)
		if (wfs_table_block(t, b).codec != WFS_CODEC_ZERO && !wfs_image_has(img, b))
			*bytes += wfs_table_block_len(t, b);
	*bytes += plan->bytes;
	wfs_plan_put(img, plan);
	wfs_plan_drop(img, false);		/* made again from what is local now, when its turn comes */
	return ret;
}

/* Bytes that completing m will write: what its tables say is not zero, less what is there. */
static int need(struct wfs_replica *r, struct wfs_model *m, uint64_t *out, struct wfs_err *err)
{
	int ret = 0;

	*out = r->n_wanted = 0;
	for (size_t i = 0; ret == 0 && i < m->v.n_files; i++)
		if (m->images[i] && !wfs_image_probe(m->images[i]))
			ret = need_image(r, m->images[i], out, err);
	return ret;
}

int wfs_evict(struct wfs_replica *r, struct wfs_model *m, struct wfs_err *err)
{
	struct wfs_model *victim;
	uint64_t bytes = 0;
	int ret = 0;

	/* First what m is built from: of an update that was interrupted much may be here. */
	if (m) {
		ret = need(r, m, &bytes, err);
	} else {
		r->n_wanted = 0;
		wfs_history_forget(r);
	}
	while (ret == 0 && (victim = pick(r, m, r->o.keep_versions)))
		ret = drop(r, victim, err);
	if (ret == 0)
		ret = wfs_sweep(r, err);
	while (ret == 0 && m && wfs_cache_room(&r->cache, bytes, err) < 0) {
		victim = pick(r, m, 0);
		if (!victim)
			return wfs_wrap(err, -ENOSPC, "version %llu does not fit, the old one stays",
					(unsigned long long)m->v.sequence);
		ret = drop(r, victim, err);
		if (ret == 0)
			ret = wfs_sweep(r, err);
	}
	if (ret == 0 && err)
		err->msg[0] = '\0';
	return ret;
}

/* ---- sweeping ---- */

struct keep {
	struct wfs_digest *v;
	size_t n, cap;
};

static int keep_add(struct keep *k, const struct wfs_digest *d)
{
	struct wfs_digest *bigger;

	if (k->n == k->cap) {
		bigger = realloc(k->v, (k->cap ? k->cap * 2 : 64) * sizeof(*k->v));
		if (!bigger)
			return -ENOMEM;
		k->v = bigger;
		k->cap = k->cap ? k->cap * 2 : 64;
	}
	k->v[k->n++] = *d;
	return 0;
}

static int keep_one(void *k, const struct wfs_digest *d)
{
	return keep_add(k, d);
}

static int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct wfs_digest));
}

/* Digests in use, sorted: of images and their tables, sources, version objects, small files; what the
 * version to come is built from; the publisher's undo tables. */
static int collect(struct wfs_replica *r, struct keep *k)
{
	int ret = 0;

	pthread_mutex_lock(&r->lock);
	for (struct wfs_image *i = r->images; ret == 0 && i; i = i->next) {
		ret = keep_add(k, &i->id);
		if (ret == 0)
			ret = keep_add(k, &i->anchor);
	}
	for (struct wfs_source *s = r->sources; ret == 0 && s; s = s->next)
		ret = keep_add(k, &s->id);
	for (struct wfs_model *m = r->models; ret == 0 && m; m = m->next) {
		ret = keep_add(k, &m->id);
		for (size_t i = 0; ret == 0 && i < m->v.n_files; i++)
			if (m->v.files[i].whole)
				ret = keep_add(k, &m->v.files[i].sha256);
	}
	pthread_mutex_unlock(&r->lock);
	wfs_history_begin(r);
	for (const struct wfs_past *p = wfs_history_first(r); ret == 0 && p; p = p->next)
		ret = keep_add(k, &p->id);
	wfs_history_end(r);
	for (size_t i = 0; ret == 0 && i < r->n_wanted; i++)
		ret = keep_add(k, &r->wanted[i]);
	if (ret == 0)
		ret = wfs_undo_each(r, keep_one, k);
	if (ret == 0 && k->n)
		qsort(k->v, k->n, sizeof(*k->v), by_bytes);
	return ret;
}

static int sweep_dir(struct wfs_replica *r, const char *sub, const struct keep *k, struct wfs_err *err)
{
	char name[WFS_OBJECT_NAME + 256];
	struct wfs_digest d;
	struct dirent *e;
	DIR *dir;
	int fd, ret = 0;

	fd = openat(r->cache.dir, sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return wfs_fail_sys(err, "read %s/%s", r->cache.path, sub);
	while (ret == 0 && (e = readdir(dir))) {
		/* Other names are temporaries that somebody may be writing; they go at start. */
		if (wfs_digest_parse(&d, e->d_name, strlen(e->d_name)) < 0)
			continue;
		if (k->n && bsearch(&d, k->v, k->n, sizeof(d), by_bytes))
			continue;
		snprintf(name, sizeof(name), "%s/%s", sub, e->d_name);
		ret = wfs_remove_tree(r->cache.dir, name, err);
	}
	closedir(dir);
	return ret;
}

int wfs_sweep(struct wfs_replica *r, struct wfs_err *err)
{
	struct keep k = { NULL, 0, 0 };
	int ret;

	ret = collect(r, &k);
	if (ret < 0)
		ret = wfs_fail(err, ret, "out of memory");
	if (ret == 0)
		ret = sweep_dir(r, "images", &k, err);
	if (ret == 0)
		ret = sweep_dir(r, "stash", &k, err);
	if (ret == 0)
		ret = sweep_dir(r, "objects", &k, err);
	free(k.v);
	return ret;
}
