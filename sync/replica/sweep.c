/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweep.c - files of the cache that nothing needs any more
 *
 * Needed are the images, tables and small files of every version we know, and the older images that a plan
 * or a version about to be built has taken hold of.  An image that nothing needs but that somebody has open or mapped stays,
 * under its name: so it goes on being counted, a restart finds it, and a version that needs it again has
 * it.  It goes with the first sweep after the last user.
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

static int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct wfs_digest));
}

static int keep_one(void *k, const struct wfs_digest *d)
{
	return keep_add(k, d);
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

/* Unlinked while we hold the lease: nobody opens it between the look and the end. */
static int remove_image(struct wfs_replica *r, const char *name, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int fd = -1;
	char data[WFS_OBJECT_NAME + 256];
	struct stat st;
	int ret;

	snprintf(data, sizeof(data), "%s/data", name);
	fd = openat(r->cache.dir, data, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd >= 0 && r->cache.leases && !wfs_lease_take(fd) && errno == EAGAIN) {
		r->held += fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
		return 0;
	}
	ret = wfs_remove_tree(r->cache.dir, name, err);
	if (fd >= 0 && r->cache.leases)
		wfs_lease_give_back(fd);
	return ret;
}

static int remove_other(struct wfs_replica *r, const char *name, struct wfs_err *err)
{
	return wfs_remove_tree(r->cache.dir, name, err);
}

static int sweep_dir(struct wfs_replica *r, const char *sub, const struct keep *k,
		     int (*remove_one)(struct wfs_replica *r, const char *name, struct wfs_err *err), struct wfs_err *err)
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
		ret = remove_one(r, name, err);
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
	r->held = 0;
	if (ret == 0)
		ret = sweep_dir(r, "images", &k, remove_image, err);
	if (ret == 0)
		ret = sweep_dir(r, "stash", &k, remove_other, err);
	if (ret == 0)
		ret = sweep_dir(r, "objects", &k, remove_other, err);
	free(k.v);
	return ret;
}
