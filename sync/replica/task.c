/* SPDX-License-Identifier: Apache-2.0 */
/*
 * task.c - every block of a version, in the background
 *
 * A few threads take windows of blocks: what is local is built at once, the rest of the window is
 * fetched in few requests and built then.  While some wait for the network others build, so the slower
 * of the two sets the pace.  Readers' downloads go first (wfs_work_yield).
 *
 * Each thread has a file of its own while there are enough: the kernel lets one writer into a file at a
 * time.  What a window wrote begins its way to the disk at once.  Left to itself it would pile up until
 * the kernel makes every writer wait, and the sync at the end would wait for all of it.
 *
 * What is fetched and not yet built takes space beside the images.  Where that is not to be had, the
 * threads take turns with ever smaller windows, and throw away before each what lies about: a cache
 * hardly larger than a version holds its first download.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "replica/internal.h"
#include "weightfs/base.h"

#define WINDOW		32u	/* blocks */
#define TIGHT_WINDOW	8u
#define THREADS_MIN	4u
#define THREADS_MAX	16u

struct task {
	struct wfs_replica *r;
	struct wfs_model *m;
	bool build;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct cursor {
		uint32_t block;		/* of the next window */
		unsigned threads;	/* at work on the file */
	} *files;
	unsigned running, wide;		/* threads; of these, at a whole window */
	pthread_mutex_t turn;		/* outside of lock */
	uint64_t done, total;		/* bytes */
	int result;
	struct wfs_err err;
};

static void add_done(struct task *t, uint64_t bytes)
{
	pthread_mutex_lock(&t->lock);
	t->done += bytes;
	pthread_mutex_unlock(&t->lock);
	pthread_mutex_lock(&t->r->lock);
	t->r->task_done += bytes;
	pthread_mutex_unlock(&t->r->lock);
}

/* The first of the files that the fewest threads are at; SIZE_MAX: no windows are left. */
static size_t pick_file(const struct task *t)
{
	size_t best = SIZE_MAX;

	for (size_t i = 0; i < t->m->v.n_files; i++)
		if (t->m->images[i] && t->files[i].block < t->m->images[i]->n_blocks &&
		    (best == SIZE_MAX || t->files[i].threads < t->files[best].threads))
			best = i;
	return best;
}

/* *file: where the thread is, SIZE_MAX at first. */
static bool take_window(struct task *t, size_t *file, uint32_t *b, uint32_t *n)
{
	pthread_mutex_lock(&t->lock);
	if (*file != SIZE_MAX && t->files[*file].block >= t->m->images[*file]->n_blocks) {
		t->files[*file].threads--;
		*file = SIZE_MAX;
	}
	if (*file == SIZE_MAX && (*file = pick_file(t)) != SIZE_MAX)
		t->files[*file].threads++;
	if (t->result < 0 || t->r->stop)
		*file = SIZE_MAX;
	if (*file != SIZE_MAX) {
		*b = t->files[*file].block;
		*n = WFS_MIN(WINDOW, t->m->images[*file]->n_blocks - *b);
		t->files[*file].block += *n;
	}
	pthread_mutex_unlock(&t->lock);
	return *file != SIZE_MAX;
}

int wfs_task_window(struct wfs_image *img, uint32_t b, uint32_t n, struct wfs_err *err)
{
	uint32_t first = UINT32_MAX, last = 0;	/* of what is not local */
	int r;

	for (uint32_t i = b; i < b + n; i++) {
		if (img->r->stop)
			return wfs_fail(err, -ECANCELED, "stopping");
		r = wfs_build_block(img, i, false, false, err);
		if (r < 0 && r != -EAGAIN)
			return r;
		if (r == -EAGAIN) {
			first = WFS_MIN(first, i);
			last = i;
		}
	}
	if (first == UINT32_MAX)
		return 0;
	wfs_work_yield(img->r);
	r = wfs_build_prefetch(img, first, last - first + 1, err);
	if (r < 0 && r != -ENOENT)	/* an object that is gone: the block looks for another way */
		return r;
	for (uint32_t i = first; i <= last; i++) {
		r = wfs_build_block(img, i, true, false, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int do_window(struct task *t, struct wfs_image *img, uint32_t b, uint32_t n, struct wfs_err *err)
{
	uint64_t off = (uint64_t)b << WFS_BLOCK_SHIFT;
	int r;

	r = wfs_image_open(img, err);
	if (r == 0 && !img->complete && !t->build) {
		wfs_work_yield(t->r);
		r = wfs_build_prefetch(img, b, n, err);
	} else if (r == 0 && !img->complete) {
		r = wfs_task_window(img, b, n, err);
		sync_file_range(img->data_fd, (off_t)off, (off_t)n << WFS_BLOCK_SHIFT, SYNC_FILE_RANGE_WRITE);
	}
	/* Also what was complete when we came: who built it may have been killed before it was synced. */
	if (r == 0 && t->build && img->n_built == img->n_blocks)
		r = wfs_image_finish(img, err);
	if (r == 0 && img->complete)
		wfs_plan_drop(img, true);
	if (r == 0)
		add_done(t, WFS_MIN((uint64_t)n << WFS_BLOCK_SHIFT, img->size - off));
	return r;
}

static int do_wide(struct task *t, struct wfs_image *img, uint32_t b, uint32_t n, struct wfs_err *err)
{
	int r;

	pthread_mutex_lock(&t->lock);
	t->wide++;
	pthread_mutex_unlock(&t->lock);
	r = do_window(t, img, b, n, err);
	pthread_mutex_lock(&t->lock);
	t->wide--;
	if (r == -ENOSPC && t->build)
		t->r->tight = true;
	pthread_cond_broadcast(&t->cond);
	pthread_mutex_unlock(&t->lock);
	return r;
}

static void wait_for_others(struct task *t)
{
	pthread_mutex_lock(&t->lock);
	while (t->wide)
		pthread_cond_wait(&t->cond, &t->lock);
	pthread_mutex_unlock(&t->lock);
}

static int do_tight(struct task *t, struct wfs_image *img, uint32_t b, uint32_t n, struct wfs_err *err)
{
	uint32_t len = TIGHT_WINDOW, take;
	int r = 0;

	pthread_mutex_lock(&t->turn);
	wait_for_others(t);
	while (r == 0 && n) {
		take = WFS_MIN(len, n);
		for (size_t i = 0; i < t->m->v.n_files; i++)
			if (t->m->images[i])
				wfs_plan_discard(t->m->images[i]);
		r = do_window(t, img, b, take, err);
		if (r == -ENOSPC && len > 1) {
			len /= 2;
			r = 0;
			continue;
		}
		b += take;
		n -= take;
	}
	pthread_mutex_unlock(&t->turn);
	return r;
}

static void *task_main(void *arg)
{
	struct task *t = arg;
	size_t file = SIZE_MAX;
	uint32_t b, n;
	int r;

	wfs_work_background(t->r);
	while (take_window(t, &file, &b, &n)) {
		struct wfs_err err = { "" };

		r = t->r->tight ? -ENOSPC : do_wide(t, t->m->images[file], b, n, &err);
		if (r == -ENOSPC && t->build)
			r = do_tight(t, t->m->images[file], b, n, &err);
		pthread_mutex_lock(&t->lock);
		if (r < 0 && t->result == 0) {
			t->result = r;
			t->err = err;
		}
		pthread_mutex_unlock(&t->lock);
	}
	pthread_mutex_lock(&t->lock);
	t->running--;
	pthread_cond_broadcast(&t->cond);
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

static void report(struct task *t, const struct wfs_progress *p)
{
	if (p && p->fn)
		p->fn(p->arg, t->build ? "build" : "fetch", t->done, t->total);
	if (p && p->cancel && *p->cancel)
		t->r->stop = true;
}

static void wait_all(struct task *t, const struct wfs_progress *p)
{
	struct timespec until;

	pthread_mutex_lock(&t->lock);
	while (t->running) {
		report(t, p);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 100 * 1000 * 1000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&t->cond, &t->lock, &until);
	}
	report(t, p);
	pthread_mutex_unlock(&t->lock);
}

static int run_threads(struct task *t, const struct wfs_progress *p)
{
	unsigned n = WFS_MIN(WFS_MAX(t->r->o.workers, THREADS_MIN), THREADS_MAX), i;
	pthread_t threads[THREADS_MAX];

	t->running = n;
	for (i = 0; i < n; i++)
		if (pthread_create(&threads[i], NULL, task_main, t) != 0)
			break;
	pthread_mutex_lock(&t->lock);
	t->running -= n - i;
	if (i == 0)
		t->result = wfs_fail(&t->err, -EAGAIN, "cannot start a thread");
	pthread_mutex_unlock(&t->lock);
	wait_all(t, p);
	while (i)
		pthread_join(threads[--i], NULL);
	if (t->result == 0 && t->r->stop)
		t->result = wfs_fail(&t->err, -ECANCELED, "stopped");
	return t->result;
}

int wfs_task_run(struct wfs_replica *r, struct wfs_model *m, bool build, const struct wfs_progress *p,
		 struct wfs_err *err)
{
	struct task t = { .r = r, .m = m, .build = build };
	int ret;

	t.files = calloc(m->v.n_files + 1, sizeof(*t.files));
	if (!t.files)
		return wfs_fail(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < m->v.n_files; i++)
		t.total += m->images[i] ? m->v.files[i].size : 0;
	pthread_mutex_lock(&r->lock);
	r->building = m->v.sequence;
	r->task_done = 0;
	r->task_total = t.total;
	pthread_mutex_unlock(&r->lock);
	pthread_mutex_init(&t.lock, NULL);
	pthread_mutex_init(&t.turn, NULL);
	pthread_cond_init(&t.cond, NULL);
	ret = run_threads(&t, p);
	r->tight = false;
	pthread_mutex_destroy(&t.lock);
	pthread_mutex_destroy(&t.turn);
	pthread_cond_destroy(&t.cond);
	free(t.files);
	pthread_mutex_lock(&r->lock);
	r->building = 0;
	pthread_mutex_unlock(&r->lock);
	if (ret < 0 && err)
		*err = t.err;
	return ret;
}
