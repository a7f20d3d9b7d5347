/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ahead.c - blocks built before a sequential reader asks for them
 *
 * Loaders share a descriptor between threads, and open a file many times; so a stream of reads is not
 * what comes through one descriptor but what goes on where a read ended, per image and region.  The kernel's
 * own readahead lets neighbouring reads overtake each other, hence the slack.
 *
 * A stream gets as many blocks ahead as it has read, up to AHEAD_MAX: who stops has cost no more than twice
 * what it read.  Its errors are nobody's: the read that needs the block meets them again.
 */
#include <errno.h>
#include <string.h>

#include "replica/internal.h"
#include "weightfs/base.h"

#define STREAMS		16u	/* of an image */
#define SLACK		4u	/* blocks by which reads overtake each other */
#define RUN_MIN		3u	/* blocks in a row that make a stream */
#define AHEAD_MAX	32u	/* blocks */
#define QUEUE_MAX	64u	/* windows; more are forgotten */
#define THREADS_MAX	4u

struct wfs_stream {
	uint32_t next;		/* behind the last block read */
	uint32_t run;		/* blocks read in a row; 0: unused */
	uint32_t until;		/* behind the last block that was queued */
	uint64_t used;		/* the larger, the later */
};

struct wfs_window {
	struct wfs_window *next;
	struct wfs_model *model;
	size_t file;
	uint32_t block, n;
};

static struct wfs_stream *stream_of(struct wfs_image *img, uint32_t b)
{
	struct wfs_stream *oldest = img->streams;

	for (struct wfs_stream *s = img->streams; s < img->streams + STREAMS; s++) {
		if (s->run && b + SLACK >= s->next && b < s->next + SLACK)
			return s;
		if (s->used < oldest->used)
			oldest = s;
	}
	*oldest = (struct wfs_stream){ .next = b };
	return oldest;
}

/* The blocks to queue now, [*from, *from + count); 0: none. */
static uint32_t advance(struct wfs_image *img, uint32_t b, uint32_t *from)
{
	struct wfs_stream *s = stream_of(img, b);
	uint32_t want, ahead;

	s->used = ++img->stream_clock;
	if (s->run && b < s->next)
		return 0;
	s->run += b + 1 - s->next;
	s->next = b + 1;
	if (s->run < RUN_MIN)
		return 0;
	ahead = WFS_MIN(s->run, AHEAD_MAX);
	want = WFS_MIN(s->next + ahead, img->n_blocks);
	*from = WFS_MAX(s->until, s->next);
	if (want <= *from || (*from > s->next + ahead / 2 && want < img->n_blocks))
		return 0;		/* enough is on its way */
	s->until = want;
	return want - *from;
}

static void queue(struct wfs_model *m, size_t file, uint32_t block, uint32_t n)
{
	struct wfs_ahead *a = &m->r->ahead;
	struct wfs_window *w = malloc(sizeof(*w));

	if (!w)
		return;
	*w = (struct wfs_window){ .model = wfs_model_get(m), .file = file, .block = block, .n = n };
	pthread_mutex_lock(&a->lock);
	if (a->n_queued < QUEUE_MAX && !a->stopping) {
		a->n_queued++;
		*a->tail = w;
		a->tail = &w->next;
		pthread_cond_signal(&a->cond);
		w = NULL;
	}
	pthread_mutex_unlock(&a->lock);
	if (w) {
		wfs_model_put(m);
		free(w);
	}
}

void wfs_ahead_note(struct wfs_model *m, size_t file, uint32_t first, uint32_t last)
{
	struct wfs_image *img = m->images[file];
	uint32_t from = 0, n = 0;

	pthread_mutex_lock(&img->lock);
	if (!img->streams)
		img->streams = calloc(STREAMS, sizeof(*img->streams));
	for (uint32_t b = first; img->streams && b <= last && n == 0; b++)
		n = advance(img, b, &from);
	pthread_mutex_unlock(&img->lock);
	if (n)
		queue(m, file, from, n);
}

static struct wfs_window *take(struct wfs_ahead *a)
{
	struct wfs_window *w = NULL;

	pthread_mutex_lock(&a->lock);
	while (!a->stopping && !a->head)
		pthread_cond_wait(&a->cond, &a->lock);
	if (!a->stopping) {
		w = a->head;
		a->head = w->next;
		if (!a->head)
			a->tail = &a->head;
		a->n_queued--;
	}
	pthread_mutex_unlock(&a->lock);
	return w;
}

static void drop(struct wfs_window *w)
{
	wfs_model_put(w->model);
	free(w);
}

static void *ahead_main(void *arg)
{
	struct wfs_replica *r = arg;
	struct wfs_window *w;

	wfs_work_background(r);
	while ((w = take(&r->ahead))) {
		struct wfs_image *img = w->model->images[w->file];

		if (wfs_task_window(img, w->block, w->n, NULL) == 0 && img->n_built == img->n_blocks)
			wfs_image_finish(img, NULL);
		drop(w);
	}
	return NULL;
}

void wfs_ahead_init(struct wfs_ahead *a)
{
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->cond, NULL);
	a->tail = &a->head;
}

void wfs_ahead_start(struct wfs_replica *r)
{
	struct wfs_ahead *a = &r->ahead;
	unsigned n = WFS_MIN(WFS_MAX(r->o.workers, 2u), THREADS_MAX);

	a->threads = calloc(n, sizeof(*a->threads));
	while (a->threads && a->n_threads < n &&
	       pthread_create(&a->threads[a->n_threads], NULL, ahead_main, r) == 0)
		a->n_threads++;
}

void wfs_ahead_stop(struct wfs_replica *r)
{
	struct wfs_ahead *a = &r->ahead;
	struct wfs_window *w;

	pthread_mutex_lock(&a->lock);
	a->stopping = true;
	pthread_cond_broadcast(&a->cond);
	pthread_mutex_unlock(&a->lock);
	while (a->n_threads)
		pthread_join(a->threads[--a->n_threads], NULL);
	free(a->threads);
	a->threads = NULL;
	while ((w = a->head)) {
		a->head = w->next;
		drop(w);
	}
	a->tail = &a->head;
	a->n_queued = 0;
}

void wfs_ahead_free(struct wfs_ahead *a)
{
	pthread_mutex_destroy(&a->lock);
	pthread_cond_destroy(&a->cond);
}
