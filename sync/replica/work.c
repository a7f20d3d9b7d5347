/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work.c - readers that wait for blocks, and the threads that build these
 *
 * A job is one block (or one small file) that somebody wants.  It goes to the local queue first;
 * what turns out to need the network moves to the net queue.  So a block whose bytes are all here
 * never waits behind a stalled download, and however many readers wait, they hold no thread.
 *
 * A want covers a range: when its block is done it moves on to the next one that is missing.
 */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "replica/internal.h"
#include "weightfs/base.h"

#define N_NET 8			/* downloads for readers at the same time */
#define BACKGROUND_NICE 5	/* more than what the program was started with */
#define BLOCK_WHOLE UINT32_MAX	/* the job is a small file */

enum { WANT_WAITING = 1, WANT_DONE };

struct wfs_job {
	struct wfs_job *next;		/* in work->jobs */
	struct wfs_job *queued;		/* in a queue */
	struct wfs_model *model;
	size_t file;
	uint32_t block;
	struct wfs_want *wants;
};

static void push(struct wfs_queue *q, struct wfs_job *job)
{
	job->queued = NULL;
	*q->tail = job;
	q->tail = &job->queued;
	pthread_cond_signal(&q->cond);
}

static struct wfs_job *pop(struct wfs_queue *q)
{
	struct wfs_job *job = q->head;

	if (job) {
		q->head = job->queued;
		if (!q->head)
			q->tail = &q->head;
	}
	return job;
}

/* The first block of [off, end) that is not there; false: all are. */
static bool missing(const struct wfs_want *w, uint32_t *block)
{
	struct wfs_image *img = w->model->images[w->file];

	if (!img) {
		*block = BLOCK_WHOLE;
		return true;
	}
	for (uint64_t b = w->off >> WFS_BLOCK_SHIFT; b << WFS_BLOCK_SHIFT < w->end; b++) {
		if (!wfs_image_has(img, (uint32_t)b)) {
			*block = (uint32_t)b;
			return true;
		}
	}
	return false;
}

/* Needs work->lock. */
static struct wfs_job *job_for(struct wfs_work *work, struct wfs_want *w, uint32_t block)
{
	struct wfs_job *job;

	for (job = work->jobs; job; job = job->next)
		if (job->block == block && job->model->images[job->file] == w->model->images[w->file] &&
		    (block != BLOCK_WHOLE || (job->model == w->model && job->file == w->file)))
			return job;
	job = calloc(1, sizeof(*job));
	if (!job)
		return NULL;
	job->model = wfs_model_get(w->model);
	job->file = w->file;
	job->block = block;
	job->next = work->jobs;
	work->jobs = job;
	push(&work->local, job);
	return job;
}

/* Attach w to the job for its next missing block: 0 attached, 1 nothing is missing, or an error.
 * Needs work->lock. */
static int attach(struct wfs_work *work, struct wfs_want *w)
{
	struct wfs_job *job;
	uint32_t block;

	if (work->stopping)
		return -ECANCELED;
	if (!missing(w, &block))
		return 1;
	job = job_for(work, w, block);
	if (!job)
		return -ENOMEM;
	w->job = job;
	w->next = job->wants;
	if (w->next)
		w->next->prev = &w->next;
	w->prev = &job->wants;
	job->wants = w;
	w->state = WANT_WAITING;
	return 0;
}

static void detach(struct wfs_want *w)
{
	*w->prev = w->next;
	if (w->next)
		w->next->prev = w->prev;
	w->next = NULL;
	w->job = NULL;
}

void wfs_model_want(struct wfs_model *m, size_t i, uint64_t off, uint64_t len, struct wfs_want *w)
{
	struct wfs_work *work = &m->r->work;
	int r;

	w->model = m;
	w->file = i;
	w->off = off;
	w->end = off + len;
	w->job = NULL;
	pthread_mutex_lock(&work->lock);
	r = attach(work, w);
	if (r != 0)
		w->state = WANT_DONE;
	pthread_mutex_unlock(&work->lock);
	if (r != 0)
		w->done(w, WFS_MIN(r, 0), r == -ENOMEM ? "out of memory" : "stopping");
}

bool wfs_want_cancel(struct wfs_replica *r, struct wfs_want *w)
{
	bool mine;

	pthread_mutex_lock(&r->work.lock);
	mine = w->state == WANT_WAITING;
	if (mine) {
		detach(w);
		w->state = WANT_DONE;
	}
	pthread_mutex_unlock(&r->work.lock);
	return mine;
}

/* The job is over: its wants go on to their next block or are told.  Small files have one step. */
static void finish(struct wfs_replica *r, struct wfs_job *job, int result, const char *msg)
{
	struct wfs_work *work = &r->work;
	struct wfs_want *w, *told = NULL;
	struct wfs_job **p;
	int step;

	pthread_mutex_lock(&work->lock);
	for (p = &work->jobs; *p != job; p = &(*p)->next)
		;
	*p = job->next;
	while ((w = job->wants)) {
		detach(w);
		step = result < 0 || job->block == BLOCK_WHOLE ? 1 : attach(work, w);
		if (step == 0)
			continue;
		w->state = WANT_DONE;
		w->next = told;
		told = w;
	}
	pthread_mutex_unlock(&work->lock);
	while ((w = told)) {
		told = w->next;
		w->done(w, result, msg);
	}
	wfs_model_put(job->model);
	free(job);
}

static int run(struct wfs_job *job, bool net, struct wfs_err *err)
{
	struct wfs_model *m = job->model;
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;

	if (job->block == BLOCK_WHOLE)
		return wfs_object_get(m->r, &raw, "packs", &m->v.files[job->file].sha256, WFS_SMALL_FILE_MAX, net, err);
	return wfs_build_block(m->images[job->file], job->block, net, true, err);
}

/* Nobody wants it any more? Then it is not begun. */
static bool abandoned(struct wfs_work *work, struct wfs_job *job)
{
	struct wfs_job **p;

	if (job->wants)
		return false;
	for (p = &work->jobs; *p != job; p = &(*p)->next)
		;
	*p = job->next;
	return true;
}

static struct wfs_job *next_job(struct wfs_work *work, struct wfs_queue *q, bool net)
{
	struct wfs_job *job = NULL;

	pthread_mutex_lock(&work->lock);
	while (!work->stopping) {
		job = pop(q);
		if (job && abandoned(work, job)) {
			pthread_mutex_unlock(&work->lock);
			wfs_model_put(job->model);
			free(job);
			pthread_mutex_lock(&work->lock);
			job = NULL;
			continue;
		}
		if (job)
			break;
		pthread_cond_wait(&q->cond, &work->lock);
	}
	if (job && net)
		work->n_net++;
	pthread_mutex_unlock(&work->lock);
	return job;
}

static void finish_image(struct wfs_image *img)
{
	if (img && img->opened && !img->durable && img->n_built == img->n_blocks)
		wfs_image_finish(img, NULL);
}

static void *local_main(void *arg)
{
	struct wfs_replica *r = arg;
	struct wfs_job *job;
	int ret;

	while ((job = next_job(&r->work, &r->work.local, false))) {
		struct wfs_err err = { "" };
		struct wfs_model *m = wfs_model_get(job->model);
		size_t file = job->file;

		ret = run(job, false, &err);
		if (ret == -EAGAIN) {
			pthread_mutex_lock(&r->work.lock);
			push(&r->work.net, job);
			pthread_mutex_unlock(&r->work.lock);
		} else {
			finish(r, job, ret, err.msg);
			finish_image(m->images[file]);
		}
		wfs_model_put(m);
	}
	return NULL;
}

static void *net_main(void *arg)
{
	struct wfs_replica *r = arg;
	struct wfs_job *job;
	int ret;

	while ((job = next_job(&r->work, &r->work.net, true))) {
		struct wfs_err err = { "" };
		struct wfs_model *m = wfs_model_get(job->model);
		size_t file = job->file;

		ret = r->store ? run(job, true, &err) : wfs_fail(&err, -ENOENT, "no store");
		finish(r, job, ret, err.msg);
		finish_image(m->images[file]);
		wfs_model_put(m);
		pthread_mutex_lock(&r->work.lock);
		if (--r->work.n_net == 0)
			pthread_cond_broadcast(&r->work.net_idle);
		pthread_mutex_unlock(&r->work.lock);
	}
	return NULL;
}

/* ioprio_set(2) has no wrapper and no header: best effort class, the lowest of it. */
#define IO_WHO_PROCESS	1
#define IO_LOWEST	(2 << 13 | 7)

void wfs_work_background(const struct wfs_replica *r)
{
	if (!r->follows)
		return;
	/* Of this thread alone, on Linux.  Refused, it is only less polite. */
	setpriority(PRIO_PROCESS, (id_t)gettid(), getpriority(PRIO_PROCESS, 0) + BACKGROUND_NICE);
	syscall(SYS_ioprio_set, IO_WHO_PROCESS, 0, IO_LOWEST);
}

void wfs_work_yield(struct wfs_replica *r)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	pthread_mutex_lock(&r->work.lock);
	while (r->work.n_net && !r->work.stopping)
		if (pthread_cond_timedwait(&r->work.net_idle, &r->work.lock, &until) == ETIMEDOUT)
			break;
	pthread_mutex_unlock(&r->work.lock);
}

int wfs_work_init(struct wfs_replica *r, struct wfs_err *err)
{
	struct wfs_work *w = &r->work;

	w->local.tail = &w->local.head;
	w->net.tail = &w->net.head;
	if (pthread_mutex_init(&w->lock, NULL) || pthread_cond_init(&w->local.cond, NULL) ||
	    pthread_cond_init(&w->net.cond, NULL) || pthread_cond_init(&w->net_idle, NULL))
		return wfs_fail(err, -ENOMEM, "out of memory");
	return 0;
}

int wfs_work_start(struct wfs_replica *r, struct wfs_err *err)
{
	struct wfs_work *w = &r->work;
	size_t n = r->o.workers + N_NET;
	int e;

	w->threads = calloc(n, sizeof(*w->threads));
	if (!w->threads)
		return wfs_fail(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++) {
		e = pthread_create(&w->threads[i], NULL, i < r->o.workers ? local_main : net_main, r);
		if (e) {
			wfs_work_stop(r);
			return wfs_fail(err, -e, "start thread: %s", strerror(e));
		}
		w->n_threads++;
	}
	return 0;
}

void wfs_work_stop(struct wfs_replica *r)
{
	struct wfs_work *w = &r->work;

	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_broadcast(&w->local.cond);
	pthread_cond_broadcast(&w->net.cond);
	pthread_cond_broadcast(&w->net_idle);
	pthread_mutex_unlock(&w->lock);
	for (size_t i = 0; i < w->n_threads; i++)
		pthread_join(w->threads[i], NULL);
	w->n_threads = 0;
	while (w->jobs)
		finish(r, w->jobs, -ECANCELED, "stopping");
}

void wfs_work_free(struct wfs_replica *r)
{
	struct wfs_work *w = &r->work;

	free(w->threads);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->local.cond);
	pthread_cond_destroy(&w->net.cond);
	pthread_cond_destroy(&w->net_idle);
}

/* ---- the simple way to wait ---- */

struct waiter {
	struct wfs_want want;		/* first: cast back in done */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool over;
	int r;
	struct wfs_err err;
};

static void waiter_done(struct wfs_want *w, int r, const char *msg)
{
	struct waiter *me = (struct waiter *)w;

	pthread_mutex_lock(&me->lock);
	me->r = r < 0 ? wfs_fail(&me->err, r, "%s", msg) : 0;
	me->over = true;
	pthread_cond_signal(&me->cond);
	pthread_mutex_unlock(&me->lock);
}

static int wait_for(struct wfs_model *m, size_t i, uint64_t off, uint64_t len, struct wfs_err *err)
{
	struct waiter me = { .want.done = waiter_done };

	pthread_mutex_init(&me.lock, NULL);
	pthread_cond_init(&me.cond, NULL);
	wfs_model_want(m, i, off, len, &me.want);
	pthread_mutex_lock(&me.lock);
	while (!me.over)
		pthread_cond_wait(&me.cond, &me.lock);
	pthread_mutex_unlock(&me.lock);
	pthread_mutex_destroy(&me.lock);
	pthread_cond_destroy(&me.cond);
	if (me.r < 0 && err)
		*err = me.err;
	return me.r;
}

int wfs_model_read_wait(struct wfs_model *m, size_t i, void *buf, size_t len, uint64_t off, struct wfs_err *err)
{
	int r;

	for (int n = 0; n < 3; n++) {
		r = wfs_model_read(m, i, buf, len, off, err);
		if (r != -EAGAIN)
			return r;
		r = wait_for(m, i, off, len, err);
		if (r < 0)
			return r;
	}
	return wfs_fail(err, -EIO, "%s: the cache does not keep what is written to it: check the disk",
			m->v.files[i].path);
}
