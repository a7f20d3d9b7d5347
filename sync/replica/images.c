/* SPDX-License-Identifier: Apache-2.0 */
/*
 * images.c - the images a replica knows: one object a table, however many versions share it
 */
#include <stdlib.h>
#include <string.h>

#include "replica/internal.h"
#include "weightfs/base.h"

static struct wfs_image *find(struct wfs_replica *r, const struct wfs_digest *id)
{
	struct wfs_image *img = r->images;

	while (img && !wfs_digest_equal(&img->id, id))
		img = img->next;
	return img;
}

struct wfs_image *wfs_image_find(struct wfs_replica *r, const struct wfs_digest *id)
{
	struct wfs_image *img;

	pthread_mutex_lock(&r->lock);
	img = find(r, id);
	if (img)
		img->refs++;
	pthread_mutex_unlock(&r->lock);
	return img;
}

static struct wfs_image *image_new(struct wfs_replica *r, const struct wfs_digest *id, uint64_t size,
				   const char *label)
{
	struct wfs_image *img = calloc(1, sizeof(*img));

	if (!img)
		return NULL;
	img->label = strdup(label);
	if (!img->label) {
		free(img);
		return NULL;
	}
	img->r = r;
	img->id = *id;
	img->size = size;
	img->n_blocks = (uint32_t)((size + WFS_BLOCK_SIZE - 1) >> WFS_BLOCK_SHIFT);
	img->data_fd = img->map_fd = -1;
	pthread_mutex_init(&img->plan_lock, NULL);
	pthread_mutex_init(&img->lock, NULL);
	pthread_cond_init(&img->cond, NULL);
	return img;
}

struct wfs_image *wfs_image_get(struct wfs_replica *r, const struct wfs_digest *id,
				const struct wfs_digest *anchor, uint64_t size, const char *label)
{
	struct wfs_image *img;

	pthread_mutex_lock(&r->lock);
	img = find(r, id);
	if (!img) {
		img = image_new(r, id, size, label);
		if (img) {
			if (anchor)
				img->anchor = *anchor;
			img->next = r->images;
			r->images = img;
		}
	}
	if (img && img->size != size)
		img = NULL;		/* one table, two sizes: the version object lies */
	if (img)		/* a later version's other anchor is not this one's: it may be a lie */
		img->refs++;
	pthread_mutex_unlock(&r->lock);
	return img;
}

void wfs_image_put(struct wfs_image *img)
{
	struct wfs_replica *r;
	struct wfs_image **p;
	bool last;

	if (!img)
		return;
	r = img->r;
	pthread_mutex_lock(&r->lock);
	last = --img->refs == 0;
	if (last) {
		for (p = &r->images; *p != img; p = &(*p)->next)
			;
		*p = img->next;
	}
	pthread_mutex_unlock(&r->lock);
	if (!last)
		return;
	wfs_plan_drop(img, false);
	wfs_close_fd(&img->data_fd);
	wfs_close_fd(&img->map_fd);
	pthread_mutex_destroy(&img->plan_lock);
	pthread_mutex_destroy(&img->lock);
	pthread_cond_destroy(&img->cond);
	free((void *)img->state);
	free((void *)img->given);
	free(img->streams);
	free(img->label);
	free(img);
}
