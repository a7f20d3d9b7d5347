/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_read.c - reads: served at once when local, parked without a thread when not
 *
 * A read whose bytes must be built becomes a waiter that the replica calls back.  It can end in
 * four ways, and exactly one answers the request:
 *
 *   done        the replica calls; we read, reply, free.
 *   interrupted the kernel sends FUSE_INTERRUPT (the reader is being killed): the want is taken back
 *               and EINTR replied at once, or an O_DIRECT reader could not be killed.
 *   shutdown    wfs_replica_stop calls done with -ECANCELED for everything that waits.
 *   reaped      O_DIRECT reads go to us in the background (ASYNC_DIO), and for those the kernel sends
 *               no interrupt: the reader would stay in D state, dead but not gone, until the network
 *               moves.  So once a second we look whether a waiting reader has a SIGKILL pending.
 *
 * libfuse calls the interrupt function with the request's lock held; fuse_req_interrupt_func takes
 * the same lock.  So before we answer from `done`, fuse_req_interrupt_func(req, NULL) waits for a
 * running interrupt and forbids further ones.  And it calls the function itself when the interrupt
 * came earlier; replying there would free the request under its own lock.  Hence `stage`: an
 * interrupt while the want is being placed leaves a note, and the placing thread acts on it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "fs.h"
#include "hub.h"
#include "modes.h"
#include "ops_read.h"
#include "weightfs/base.h"
#include "weightfs/log.h"

#define REAP_AGE_NS	500000000ull	/* who waits for less is not looked at */
#define REAP_MAX	256u		/* readers looked at in one go */

struct waiting {
	pthread_mutex_t lock;
	struct waiter *first;
	unsigned n;
};

enum stage { PLACING, INTERRUPTED, PLACED };

struct waiter {
	struct wfs_want want;		/* first: done gets a pointer to it */
	struct fs *fs;
	struct view *view;		/* open as long as its read is: the kernel sees to it */
	struct wfs_model *model;	/* our reference while the want is out */
	fuse_req_t req;
	struct waiter *next, **prev;	/* among those of fs->waiting */
	pid_t tid;			/* the reader's thread */
	uint64_t since_ns;
	uint64_t off;
	size_t len;
	unsigned tries;
	atomic_int stage, refs;		/* refs: the answer to come, and the placing thread */
};

static struct view *view_of(const struct fuse_file_info *fi)
{
	return (struct view *)(uintptr_t)fi->fh;
}

/* The one place where an error of ours becomes what a reader sees.  Most codes would mislead it:
 * a reader that gets EAGAIN or ETIMEDOUT from a file may try things meant for sockets. */
static int kernel_errno(int r)
{
	switch (r) {
	case -EINTR:
	case -ENOMEM:
	case -ESTALE:
	case -EAGAIN:
		return -r;
	default:
		return EIO;
	}
}

static void reply_failed(fuse_req_t req, struct fs *fs, const struct view *v, uint64_t off, size_t len,
			 int r, const char *msg)
{
	log_gate_err(fs->gate, "read versions/%" PRIu64 "/%s [%" PRIu64 ",+%zu): %s", v->sequence,
		     v->path, off, len, msg && *msg ? msg : strerror(-r));
	fuse_reply_err(req, kernel_errno(r));
}

static void waiter_unref(struct waiter *w)
{
	struct waiting *all = w->fs->waiting;
	bool last;

	/* under the lock, because ops_read_reap takes references from the list */
	pthread_mutex_lock(&all->lock);
	last = atomic_fetch_sub(&w->refs, 1) == 1;
	if (last) {
		*w->prev = w->next;
		if (w->next)
			w->next->prev = w->prev;
		all->n--;
	}
	pthread_mutex_unlock(&all->lock);
	if (!last)
		return;
	wfs_model_put(w->model);
	free(w);
}

static void park(struct fs *fs, fuse_req_t req, struct view *v, uint64_t off, size_t len, unsigned tries);

static void answer(struct fs *fs, fuse_req_t req, struct view *v, uint64_t off, size_t len, unsigned tries)
{
	struct wfs_err err = { 0 };
	struct wfs_loan loan;
	int r;

	r = view_lend(v, &loan, len, off, &err);
	if (r == 0) {
		fuse_reply_buf(req, loan.data, len);
		wfs_loan_end(&loan);
	} else if (r == -EAGAIN && tries < FS_READ_TRIES) {
		park(fs, req, v, off, len, tries + 1);
	} else {
		reply_failed(req, fs, v, off, len, r == -EAGAIN ? -EIO : r,
			     r == -EAGAIN ? "the block rots as fast as it is built" : err.msg);
	}
}

static void waiter_done(struct wfs_want *want, int r, const char *msg)
{
	struct waiter *w = (struct waiter *)want;

	fuse_req_interrupt_func(w->req, NULL, NULL);
	if (r == 0)
		answer(w->fs, w->req, w->view, w->off, w->len, w->tries);
	else
		reply_failed(w->req, w->fs, w->view, w->off, w->len, r, msg);
	waiter_unref(w);
}

static void waiter_interrupted(fuse_req_t req, void *arg)
{
	struct waiter *w = arg;
	int stage = PLACING;

	if (atomic_compare_exchange_strong(&w->stage, &stage, INTERRUPTED) || stage == INTERRUPTED)
		return;
	if (!wfs_want_cancel(w->fs->replica, &w->want))
		return;			/* done has it */
	fuse_reply_err(req, EINTR);
	waiter_unref(w);
}

/* With a reference for the answer and one for the placing thread. */
static struct waiter *waiter_new(struct fs *fs)
{
	struct waiting *all = fs->waiting;
	struct waiter *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->fs = fs;
	w->since_ns = wfs_now_ns();
	atomic_init(&w->stage, PLACING);
	atomic_init(&w->refs, 2);
	pthread_mutex_lock(&all->lock);
	if (all->n >= FS_WAITERS_MAX) {
		pthread_mutex_unlock(&all->lock);
		free(w);
		return NULL;
	}
	all->n++;
	w->next = all->first;
	w->prev = &all->first;
	if (w->next)
		w->next->prev = &w->next;
	all->first = w;
	pthread_mutex_unlock(&all->lock);
	return w;
}

static void park(struct fs *fs, fuse_req_t req, struct view *v, uint64_t off, size_t len, unsigned tries)
{
	struct waiter *w = waiter_new(fs);
	int stage = PLACING;

	if (!w) {
		reply_failed(req, fs, v, off, len, -EAGAIN, "too many reads wait for the store");
		return;
	}
	w->req = req;
	w->tid = fuse_req_ctx(req)->pid;
	w->view = v;
	w->model = wfs_model_get(v->model);
	w->off = off;
	w->len = len;
	w->tries = tries;
	w->want.done = waiter_done;

	fuse_req_interrupt_func(req, waiter_interrupted, w);
	view_want(v, off, len, &w->want);
	/* req may be answered and gone from here on, unless the want can be taken back */
	if (!atomic_compare_exchange_strong(&w->stage, &stage, PLACED) &&
	    wfs_want_cancel(fs->replica, &w->want)) {
		fuse_req_interrupt_func(req, NULL, NULL);
		fuse_reply_err(req, EINTR);
		waiter_unref(w);
	}
	waiter_unref(w);
}

struct waiting *waiting_new(void)
{
	struct waiting *all = calloc(1, sizeof(*all));

	if (all)
		pthread_mutex_init(&all->lock, NULL);
	return all;
}

void waiting_free(struct waiting *all)
{
	if (!all)
		return;
	pthread_mutex_destroy(&all->lock);
	free(all);
}

unsigned waiting_count(struct waiting *all)
{
	unsigned n;

	pthread_mutex_lock(&all->lock);
	n = all->n;
	pthread_mutex_unlock(&all->lock);
	return n;
}

/* SIGKILL is pending, or what the kernel turned into one (any fatal signal). */
static bool being_killed(pid_t tid)
{
	char buf[4096];
	const char *p;

	if (tid <= 0)
		return false;
	proc_read(buf, sizeof(buf), tid, "status");
	p = strstr(buf, "\nSigPnd:");
	return p && (strtoull(p + 8, NULL, 16) >> (SIGKILL - 1) & 1);
}

static size_t take_old(struct waiting *all, struct waiter **out, uint64_t before_ns)
{
	size_t n = 0;

	pthread_mutex_lock(&all->lock);
	for (struct waiter *w = all->first; w && n < REAP_MAX; w = w->next)
		if (w->since_ns < before_ns && atomic_load(&w->stage) == PLACED) {
			atomic_fetch_add(&w->refs, 1);
			w->since_ns = before_ns + REAP_AGE_NS;	/* others first next time */
			out[n++] = w;
		}
	pthread_mutex_unlock(&all->lock);
	return n;
}

void ops_read_reap(struct fs *fs)
{
	struct waiter *old[REAP_MAX];
	size_t n;

	do {
		n = take_old(fs->waiting, old, wfs_now_ns() - REAP_AGE_NS);
		for (size_t i = 0; i < n; i++) {
			struct waiter *w = old[i];

			if (being_killed(w->tid) && wfs_want_cancel(fs->replica, &w->want)) {
				fuse_req_interrupt_func(w->req, NULL, NULL);
				fuse_reply_err(w->req, EINTR);
				waiter_unref(w);
			}
			waiter_unref(w);
		}
	} while (n == REAP_MAX);
}

/* ---- callbacks ---- */

void op_read(fuse_req_t req, fuse_ino_t ino, size_t len, off_t off, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct view *v = view_of(fi);

	(void)ino;
	bind_touch(fs->bind, v->user, v->sequence);
	len = view_clamp(v, (uint64_t)off, WFS_MIN(len, (size_t)WFS_BLOCK_SIZE));
	if (len == 0)
		fuse_reply_buf(req, NULL, 0);
	else
		answer(fs, req, v, (uint64_t)off, len, 0);
}

static int open_text(struct view **out, struct fs *fs, fuse_ino_t ino)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf text = WFS_BUF_INIT;
	int r = 0;

	if (ino == INO_STATUS) {
		r = fs_status_json(fs, &text);
		if (r == 0)
			r = wfs_buf_append(&text, "\n", 1);
	} else if (ino == INO_PROGRAM) {
		r = wfs_buf_printf(&text, "weightfs %s\n", WFS_VERSION);
	} else if (ino != INO_TEST) {
		r = hub_text(&text, fs, ino);
	}
	return r < 0 ? r : view_open_text(out, fs->views, &text);
}

/* Registered for the self-test; to us it is an empty file, so bytes come from the kernel or not at all. */
static int open_test(struct view **out, struct fs *fs, int *backing)
{
	*backing = passthrough_test_id(fs->pass);
	return *backing ? open_text(out, fs, INO_TEST) : -ENOENT;
}

static int open_model_file(struct view **out, struct fs *fs, fuse_req_t req, fuse_ino_t ino, int *backing)
{
	struct bind_key user = bind_caller(fs->bind, fuse_req_ctx(req)->pid);
	struct node n;
	int r;

	r = tree_get(fs->tree, ino, &n);
	if (r == 0)
		r = n.dir ? -EISDIR : view_open(out, fs->views, fs->replica, &n, user);
	if (r < 0)
		return r;
	bind_touch(fs->bind, user, n.sequence);
	*backing = modes_enter(fs->modes, ino, (*out)->model, (*out)->file);
	if (*backing >= 0)
		return 0;
	view_close(fs->views, *out);
	return *backing;
}

static void close_view(struct fs *fs, fuse_ino_t ino, struct view *v)
{
	if (v->model)
		modes_leave(fs->modes, ino);
	view_close(fs->views, v);
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct view *v = NULL;
	int r, backing = 0;

	if ((fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC))
		r = -EROFS;
	else if (ino == INO_TEST)
		r = open_test(&v, fs, &backing);
	else if (ino < INO_HASHED)
		r = open_text(&v, fs, ino);
	else
		r = open_model_file(&v, fs, req, ino, &backing);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	fi->fh = (uintptr_t)v;
	fi->noflush = 1;
	fi->direct_io = !v->model && !backing;	/* its length is not known before it is read */
	fi->keep_cache = v->model && !backing;	/* the kernel refuses it beside passthrough */
	r = backing ? passthrough_reply(req, fi, backing) : fuse_reply_open(req, fi);
	if (r < 0)
		close_view(fs, ino, v);	/* interrupted: no release will come */
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct view *v = view_of(fi);

	bind_touch(fs->bind, v->user, v->sequence);
	close_view(fs, ino, v);
	fuse_reply_err(req, 0);
}

/* To a reader a file has no holes, whatever the cache's image has. */
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	const struct view *v = view_of(fi);

	(void)ino;
	if (off < 0 || (uint64_t)off >= v->size)
		fuse_reply_err(req, ENXIO);
	else if (whence == SEEK_DATA)
		fuse_reply_lseek(req, off);
	else if (whence == SEEK_HOLE)
		fuse_reply_lseek(req, (off_t)v->size);
	else
		fuse_reply_err(req, EINVAL);
}
