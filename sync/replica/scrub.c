/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scrub.c - every cached byte against what it should be
 *
 * A block is compared with its table's hash where the table is in the cache, else with its own
 * chunk hashes.  What differs is dropped and built again, by the next reader or the follower.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/io.h"

#define MAP_SIZE_OFF 64	/* of the file's size in an image's map: image.c */

struct scrub {
	struct wfs_replica *r;
	uint64_t checked, bad, total;
	const struct wfs_progress *p;
};

static bool block_good(struct wfs_image *img, const struct wfs_source *s, uint32_t b, uint8_t *buf)
{
	uint32_t len = wfs_image_block_len(img, b);

	if (s)
		return wfs_image_raw(img, b, buf, NULL) == 0 && wfs_xxh3(buf, len) == wfs_table_block(s->table, b).hash;
	return wfs_image_read(img, buf, len, (uint64_t)b << WFS_BLOCK_SHIFT, NULL) != -EAGAIN;
}

static bool cancelled(const struct scrub *s)
{
	return s->r->stop || (s->p && s->p->cancel && *s->p->cancel);
}

static int scrub_image(struct scrub *s, struct wfs_image *img, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) uint8_t *buf = malloc(WFS_BLOCK_SIZE);
	struct wfs_source *source = NULL;
	uint8_t state;
	int r;

	r = buf ? wfs_image_open(img, err) : wfs_fail(err, -ENOMEM, "out of memory");
	if (r < 0)
		return r;
	if (wfs_source_get(&source, s->r, &img->id, false, false, NULL) < 0 ||
	    (source && wfs_table_size(source->table) != img->size))
		source = NULL;
	for (uint32_t b = 0; b < img->n_blocks && !cancelled(s); b++) {
		state = img->state[b];
		if (state != WFS_PRESENT && !(state == WFS_CLAIMED && source))
			continue;
		s->checked++;
		if (!block_good(img, source, b, buf)) {
			s->bad++;
			wfs_image_drop_block(img, b);
		}
		if (s->p && s->p->fn)
			s->p->fn(s->p->arg, "check", s->checked, s->total);
	}
	wfs_source_put(source);
	return 0;
}

/* An image that no model of ours names (a publisher's, or of an unfinished version). */
static struct wfs_image *stray(struct wfs_replica *r, const char *name)
{
	WFS_AUTO(wfs_close_fd) int fd = -1;
	char path[WFS_OBJECT_NAME];
	struct wfs_digest id;
	uint8_t size[8];

	if (wfs_digest_parse(&id, name, strlen(name)) < 0)
		return NULL;
	snprintf(path, sizeof(path), "images/%.64s/map", name);
	fd = openat(r->cache.dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || wfs_pread(fd, size, sizeof(size), MAP_SIZE_OFF, NULL) < 0 || wfs_get64(size) > WFS_FILE_MAX)
		return NULL;
	return wfs_image_get(r, &id, NULL, wfs_get64(size), name);
}

static int scrub_images(struct scrub *s, struct wfs_err *err)
{
	struct wfs_image *img;
	struct dirent *e;
	int fd, r = 0;
	DIR *d;

	fd = openat(s->r->cache.dir, "images", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return wfs_fail_sys(err, "read %s/images", s->r->cache.path);
	while (r == 0 && !cancelled(s) && (e = readdir(d))) {
		img = stray(s->r, e->d_name);
		if (img)
			r = scrub_image(s, img, err);
		wfs_image_put(img);
	}
	closedir(d);
	return r;
}

static void scrub_objects(struct scrub *s)
{
	struct dirent *e;
	int fd;
	DIR *d;

	fd = openat(s->r->cache.dir, "objects", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	while (d && !cancelled(s) && (e = readdir(d))) {
		WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
		struct wfs_digest id;

		if (wfs_digest_parse(&id, e->d_name, strlen(e->d_name)) < 0)
			continue;
		s->checked++;
		s->bad += wfs_cache_get(&s->r->cache, &raw, &id, WFS_TABLE_MAX, NULL) < 0;
	}
	if (d)
		closedir(d);
}

int wfs_replica_scrub(struct wfs_replica *r, uint64_t *n_checked, uint64_t *n_bad,
		      const struct wfs_progress *p, struct wfs_err *err)
{
	struct scrub s = { .r = r, .p = p, .total = wfs_cache_used(&r->cache) >> WFS_BLOCK_SHIFT };
	struct wfs_model *m;
	int ret;

	ret = scrub_images(&s, err);
	if (ret == 0)
		scrub_objects(&s);
	if (n_checked)
		*n_checked = s.checked;
	if (n_bad)
		*n_bad = s.bad;
	if (s.bad) {
		pthread_mutex_lock(&r->lock);
		for (m = r->models; m; m = m->next)
			m->complete = false;	/* the follower looks again, and mends */
		pthread_mutex_unlock(&r->lock);
		wfs_replica_poke(r);
	}
	return ret == 0 && cancelled(&s) ? wfs_fail(err, -ECANCELED, "stopped") : ret;
}

int wfs_cache_verify(const char *cache, uint64_t *n_checked, uint64_t *n_bad, const struct wfs_progress *p,
		     struct wfs_err *err)
{
	struct wfs_replica_opts o = { .cache = cache, .lazy = true };
	struct wfs_replica *r;
	int ret;

	ret = wfs_cache_must_be(cache, err);
	if (ret < 0)
		return ret;
	ret = wfs_replica_open(&r, NULL, &o, err);
	if (ret < 0)
		return ret;
	ret = wfs_replica_scrub(r, n_checked, n_bad, p, err);
	wfs_replica_close(r);
	return ret;
}
