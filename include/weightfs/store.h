/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - where versions live: plain GET by name
 *
 * A store is a directory (path or file://URL), or, for reading, an HTTP(S) server.  Object names
 * are our own ("packs/<hex>", "commits/12"): no store ever sees a foreign string as a name.
 * Threads may share a store.  Nothing here verifies digests: the caller does, always.
 */
#ifndef WEIGHTFS_STORE_H
#define WEIGHTFS_STORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "weightfs/buf.h"
#include "weightfs/err.h"

struct wfs_store;

struct wfs_store_opts {
	const char *cacert;		/* PEM file for https; NULL: the system's */
	uint64_t rate;			/* bytes a second at most; 0: no limit.  Demand does not wait. */
	unsigned connect_ms;		/* connect deadline (default 15000 when 0) */
	unsigned stall_ms;		/* an attempt in which nothing moves ends (default 30000 when 0) */
	unsigned read_timeout_ms;	/* wfs_store_get gives up when nothing moved for so long, retries
					 * included (default 300000 when 0) */
};

/* -EINVAL: not a store URL (message says what is); -ENOENT, -ENOTDIR: no such directory.
 * No network traffic.  create: a directory store is made if missing; -EINVAL
 * in a directory that holds something and is no store. */
int wfs_store_open(struct wfs_store **out, const char *url, const struct wfs_store_opts *opts,
		   bool create, struct wfs_err *err);
void wfs_store_close(struct wfs_store *st);
const char *wfs_store_url(const struct wfs_store *st);		/* printable: no credentials */
bool wfs_store_is_local(const struct wfs_store *st);

/*
 * Receives bytes in order.  off is the offset in the object; it starts at the get's off, or at 0
 * when the server ignored the range and sends the whole object.  After a broken connection it
 * goes on where it was.  A negative return ends the get with that code (-ECANCELED: "enough").
 */
typedef int wfs_sink_fn(void *arg, uint64_t off, const void *data, size_t len);

struct wfs_get {
	const char *name;
	uint64_t off, len;		/* a range; len 0: the whole object */
	uint64_t max;			/* the object is at most so large (whole) or exactly (range: its size) */
	wfs_sink_fn *sink;
	void *arg;
	const atomic_bool *cancel;	/* becomes true: return -ECANCELED within a second; may be NULL */
	bool demand;			/* a reader waits: not held up by the rate limit */
	bool once;			/* one attempt, no retry */
	bool fresh;			/* ask caches on the way to revalidate */
};

/*
 * Retries with capped exponential back-off and jitter what may pass (connection errors, 408, 425,
 * 429, 5xx, Retry-After honoured up to the cap), resuming behind the last byte delivered.
 * -ENOENT: not there (404, 410), no message.  -EACCES: 401, 403, or a certificate that is not
 * trusted.  -EBADMSG: the server broke the protocol (wrong range, longer than max, a bad redirect).
 * -ETIMEDOUT: nothing moved for read_timeout.  -ENETUNREACH: what may pass, with `once`.
 * -ECANCELED.  The sink's own code comes back without a message.
 */
int wfs_store_get(struct wfs_store *st, const struct wfs_get *get, struct wfs_err *err);

/* A whole small object of at most max bytes. */
int wfs_store_get_buf(struct wfs_buf *out, struct wfs_store *st, const char *name, size_t max,
		      bool fresh, const atomic_bool *cancel, struct wfs_err *err);

/*
 * A get that goes on trying says so, from its own thread: with a failure that its first retry did not mend or
 * that took a few seconds, and again with each one after it.  One lost packet is not worth a word.
 */
struct wfs_trouble {
	const char *name;		/* of the object */
	const char *why;		/* NULL: it came, and no other get of the store is in trouble */
	uint64_t left_ms;		/* how long it will be tried yet if nothing moves */
};
typedef void wfs_trouble_fn(void *arg, const struct wfs_trouble *t);

/* While no get runs.  fn NULL: nobody listens. */
void wfs_store_on_trouble(struct wfs_store *st, wfs_trouble_fn *fn, void *arg);
bool wfs_store_in_trouble(struct wfs_store *st);		/* some get is, now */

/* Bytes received from the network or disk of the store so far, all threads. */
uint64_t wfs_store_received(const struct wfs_store *st);
/* Nanoseconds (wfs_now_ns) of the last byte received; 0: none yet. */
uint64_t wfs_store_last_progress(const struct wfs_store *st);

/* Wait until something may have been committed, at most ms milliseconds: inotify for a directory, plain
 * waiting elsewhere.  Returns early when *cancel becomes true or wfs_store_wake is called. */
void wfs_store_wait(struct wfs_store *st, unsigned ms, const atomic_bool *cancel);
void wfs_store_wake(struct wfs_store *st);

/* Writing: directory stores only in this release (-EOPNOTSUPP elsewhere). */

/* An immutable object under a name that is its digest; fine when it is there already with that
 * size.  Durable on return. */
int wfs_store_put(struct wfs_store *st, const char *name, const void *data, size_t len, struct wfs_err *err);
/* Exclusive creation, durable on return: -EEXIST (no message) when the name is taken. */
int wfs_store_create(struct wfs_store *st, const char *name, const void *data, size_t len, struct wfs_err *err);
/* Replace a small object (the `latest` hint). */
int wfs_store_replace(struct wfs_store *st, const char *name, const void *data, size_t len, struct wfs_err *err);

/* A large object whose name is known at its end. */
struct wfs_put;
int wfs_put_begin(struct wfs_put **out, struct wfs_store *st, struct wfs_err *err);
int wfs_put_write(struct wfs_put *p, const void *data, size_t len, struct wfs_err *err);
int wfs_put_commit(struct wfs_put *p, const char *name, struct wfs_err *err);	/* frees p, also on error */
void wfs_put_abort(struct wfs_put *p);						/* NULL is fine */

/* Make directory `dir` with names for objects, for people and programs that know nothing of us; at once,
 * and only if it is not there.  An empty object is an empty file.  The objects stay what they are. */
struct wfs_store_name {
	const char *path;		/* below dir, plain and relative */
	char object[96];
};
int wfs_store_list(struct wfs_store *st, const char *dir, const struct wfs_store_name *names, size_t n,
		   struct wfs_err *err);

/* Removing, for who holds the lock.  each: all objects of a kind ("packs"), or the names in "commits" and
 * "models"; a name is given as get takes it.  A negative return of fn ends it and is returned. */
typedef int wfs_each_fn(void *arg, const char *name, uint64_t size, uint64_t mtime_ns);
int wfs_store_each(struct wfs_store *st, const char *kind, wfs_each_fn *fn, void *arg, struct wfs_err *err);
/* One name, for models with all below it; fine when it is not there. */
int wfs_store_remove(struct wfs_store *st, const char *name, struct wfs_err *err);

/*
 * One writer at a time, a publisher or gc.  Zeroed: a publisher that is refused at once, as NULL.
 * A publisher waits for a gc, and for another publisher only if it is told to; gc waits for both.
 */
struct wfs_lock {
	bool gc;			/* gc asks */
	uint64_t wait_ns;		/* how long at most */
	bool wait_publisher;
	const atomic_bool *cancel;	/* may be NULL */
	void (*tell)(void *arg, const char *who);	/* once, when it takes longer than a moment; may be NULL */
	void *arg;
};

/* Held until unlock or close; fine when it is held already.  -EBUSY says who holds it; -ECANCELED. */
int wfs_store_lock(struct wfs_store *st, const struct wfs_lock *how, struct wfs_err *err);
void wfs_store_unlock(struct wfs_store *st);

#endif
