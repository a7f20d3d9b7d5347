/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend.h - what a kind of store implements, and what they share (inside sync/store only)
 *
 * A backend makes one attempt at a get; retry.c decides about the next one.  Bytes reach the
 * caller's sink through wfs_attempt_deliver only, which alone knows what was delivered already,
 * so an attempt may send the object from an earlier place than asked.
 */
#ifndef STORE_BACKEND_H
#define STORE_BACKEND_H

#include <pthread.h>
#include <stdatomic.h>

#include "weightfs/store.h"

#define WFS_SIZE_UNKNOWN UINT64_MAX
#define WFS_STORE_SLICE_NS 100000000ull	/* how long a sleep may overlook a cancel flag */
#define WFS_STORE_MOVED_MIN 4096u	/* bytes; less than this is no progress: see retry.c */

/* What the attempts of one get know together. */
struct wfs_attempt {
	struct wfs_store *st;
	const struct wfs_get *get;
	bool told;			/* it is counted in st->n_trouble */
	bool ranged;			/* wanted is [pos, end); else from pos to the object's end */
	bool started;			/* the sink has bytes: what is wanted no longer changes */
	uint64_t pos, end;		/* next byte for the sink; one behind the last, or unknown */
	uint64_t total;			/* size of the object, or unknown */

	/* of the last attempt */
	bool transient;			/* its error may pass */
	unsigned retry_after_ms;	/* the server's wish */
	uint64_t moved;			/* bytes that were new to the sink */
	uint64_t held_ns;		/* time spent waiting for the rate limit */
};

struct wfs_backend {
	void (*close)(struct wfs_store *st);
	/* 0: everything was delivered.  Sets a->transient with its error. */
	int (*get)(struct wfs_store *st, struct wfs_attempt *a, struct wfs_err *err);
	/* NULL, all of them, where stores are read-only. */
	int (*put)(struct wfs_store *st, const char *name, const void *data, size_t len, struct wfs_err *err);
	int (*create)(struct wfs_store *st, const char *name, const void *data, size_t len, struct wfs_err *err);
	int (*replace)(struct wfs_store *st, const char *name, const void *data, size_t len, struct wfs_err *err);
	int (*put_begin)(struct wfs_put **out, struct wfs_store *st, struct wfs_err *err);
	int (*list)(struct wfs_store *st, const char *dir, const struct wfs_store_name *names, size_t n, struct wfs_err *err);
	int (*lock)(struct wfs_store *st, const struct wfs_lock *how, struct wfs_err *err);
	void (*unlock)(struct wfs_store *st);
	int (*each)(struct wfs_store *st, const char *kind, wfs_each_fn *fn, void *arg, struct wfs_err *err);
	int (*remove)(struct wfs_store *st, const char *name, struct wfs_err *err);
	bool local;
};

/* rate.c: a token bucket that may be in debt.  Everybody is charged; who may wait, waits until it
 * is paid. */
struct wfs_rate {
	pthread_mutex_t lock;
	uint64_t rate;			/* bytes a second; 0: no limit */
	uint64_t paid_at;		/* wfs_now_ns at which all that was charged is paid for */
};

void wfs_rate_init(struct wfs_rate *r, uint64_t rate);
void wfs_rate_done(struct wfs_rate *r);
void wfs_rate_charge(struct wfs_rate *r, uint64_t bytes);
uint64_t wfs_rate_debt_ns(struct wfs_rate *r);

/* watch.c: waiting for a commit */
struct wfs_watch {
	int wake_fd;			/* eventfd */
	atomic_uint wakes;		/* calls of wake, for waiters that did not get the eventfd */
	pthread_mutex_t lock;		/* around what follows */
	int dir;			/* of the store, borrowed; -1: nothing to watch */
	int fd, root_wd, commits_wd;	/* inotify; -1 */
};

int wfs_watch_init(struct wfs_watch *w, struct wfs_err *err);
void wfs_watch_done(struct wfs_watch *w);
void wfs_watch_wait(struct wfs_watch *w, unsigned ms, const atomic_bool *cancel);
void wfs_watch_wake(struct wfs_watch *w);

struct wfs_store {
	const struct wfs_backend *backend;
	void *priv;			/* the backend's */
	char *url;			/* printable */
	char *cacert;
	unsigned connect_ms, stall_ms, read_timeout_ms;
	struct wfs_rate rate;
	struct wfs_watch watch;
	_Atomic uint64_t received, last_progress;

	pthread_mutex_t trouble_lock;	/* around what follows, and around the calls of the function */
	wfs_trouble_fn *trouble_fn;
	void *trouble_arg;
	unsigned n_trouble;		/* gets that are in trouble */
};

/* dir.c, http.c: set backend, priv and url. */
int wfs_dir_open(struct wfs_store *st, const char *path, bool create, struct wfs_err *err);
int wfs_http_open(struct wfs_store *st, const char *url, struct wfs_err *err);

/* store.c: our own names only; -EINVAL */
int wfs_store_check_name(const char *name, struct wfs_err *err);

/* retry.c */

/* Bytes came from the store, wanted or not. */
void wfs_store_count(struct wfs_store *st, uint64_t bytes);

/* Bytes of the object at off: gives the sink what it has not had, within what is wanted and
 * allowed.  A negative return ends the attempt. */
int wfs_attempt_deliver(struct wfs_attempt *a, uint64_t off, const void *data, size_t len,
			struct wfs_err *err);

/* The attempt learned the object's size.  -EBADMSG: not the expected one, or over the limit. */
int wfs_attempt_size(struct wfs_attempt *a, uint64_t total, struct wfs_err *err);

/* A range was asked for, but the object comes from its beginning to its end. */
void wfs_attempt_whole(struct wfs_attempt *a);

static inline bool wfs_attempt_done(const struct wfs_attempt *a)
{
	return a->pos == a->end || a->pos == a->total;
}

static inline bool wfs_is_set(const atomic_bool *flag)
{
	return flag && atomic_load_explicit(flag, memory_order_acquire);
}

/* Sleep while this get has to wait for the rate limit; -ECANCELED. */
int wfs_attempt_hold(struct wfs_store *st, struct wfs_attempt *a);
int wfs_sleep(uint64_t ns, const atomic_bool *cancel);		/* -ECANCELED */

/* A get whose attempts start over instead of resuming: the object may have been replaced. */
int wfs_store_run(struct wfs_store *st, const struct wfs_get *get, bool start_over, struct wfs_err *err);

#endif
