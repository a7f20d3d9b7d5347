/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica.h - a local copy of a store's versions: fetched, verified, built, kept
 *
 * A replica owns one cache directory.  It follows the store, builds images (one file of one
 * version, block by block) and says which versions are shown.  weightfs serves from it, pull and
 * publish build with it.
 *
 * What wfs_model_read returns was checked after it was last fetched or built; it is the bytes of
 * exactly that version, or an error.  Everything here may be called from any thread unless it
 * says otherwise.  Functions that may wait for the network say so.
 */
#ifndef WEIGHTFS_REPLICA_H
#define WEIGHTFS_REPLICA_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "weightfs/buf.h"
#include "weightfs/config.h"
#include "weightfs/err.h"
#include "weightfs/safetensors.h"
#include "weightfs/store.h"
#include "weightfs/version.h"

enum wfs_ready {
	WFS_READY_COMPLETE,	/* every block built and checked; the first version at `manifest` */
	WFS_READY_DELTA,	/* every stored byte is local and checked */
	WFS_READY_MANIFEST,	/* names and sizes: blocks come over the network on demand */
};

struct wfs_replica_opts {
	const char *cache;		/* directory; created with mode 0700 */
	struct wfs_strings base;	/* model directories whose files may serve as bases, read only */
	enum wfs_ready ready;
	bool lazy;			/* build nothing in the background */
	bool strict_ready;		/* no exception for the first version (ready=complete given by the user) */
	bool accept_run;		/* the store has a new run id: drop the cache of the old one */
	uint64_t cache_size;		/* bytes on disk at most; 0: as the disk allows */
	uint64_t min_free;		/* bytes of the cache's disk kept free */
	bool link;			/* complete versions also as plain files: wfs_model_link */
	bool link_others, link_code;	/* which other users may reach; with code and pickles */
	unsigned link_umask;		/* permission bits that they lack */
	unsigned link_idle_ms;		/* they are evicted when they were unused for so long */
	unsigned keep_versions;		/* complete versions kept beside the newest */
	unsigned poll_ms;		/* time between looks at the store; jitter is added */
	unsigned read_timeout_ms;	/* a reader waits so long without any progress, then EIO */
	unsigned scrub_ms;		/* time between scrubs of the cache; 0: never */
	unsigned workers;		/* build threads; 0: one a core */
	const atomic_bool *cancel;	/* becomes true: everything ends with -ECANCELED; may be NULL */
};

struct wfs_replica;

/* Open the cache (one process at a time: -EBUSY names the holder; -EPERM, before any change: the directory is
 * neither a cache nor empty) and load what it holds.
 * Borrows store and the strings in opts until close.  No network. */
int wfs_replica_open(struct wfs_replica **out, struct wfs_store *store,
		     const struct wfs_replica_opts *opts, struct wfs_err *err);

/* Start workers only (pull, publish), or workers and the follower (a mount). */
int wfs_replica_start(struct wfs_replica *r, bool follow, struct wfs_err *err);
/* Cancel everything, fail what waits with -ECANCELED, join the threads: within 2 seconds. */
void wfs_replica_stop(struct wfs_replica *r);
/* All models must have been put. */
void wfs_replica_close(struct wfs_replica *r);

/* A shown version.  Reference counted; its content never changes. */
struct wfs_model;
const struct wfs_version *wfs_model_version(const struct wfs_model *m);
const struct wfs_digest *wfs_model_id(const struct wfs_model *m);	/* of the version object */
struct wfs_model *wfs_model_get(struct wfs_model *m);			/* one more reference */
void wfs_model_put(struct wfs_model *m);				/* NULL is fine */

/* Newest shown version, or a shown version by number; NULL when there is none.  The caller puts. */
struct wfs_model *wfs_replica_latest(struct wfs_replica *r);
struct wfs_model *wfs_replica_find(struct wfs_replica *r, uint64_t sequence);
/* The lowest shown version above a number: to walk through them while they come and go. */
struct wfs_model *wfs_replica_above(struct wfs_replica *r, uint64_t sequence);
/* Sequences of all shown versions, ascending: allocates *out (free). */
int wfs_replica_list(struct wfs_replica *r, uint64_t **out, size_t *n);

/* Keep a shown version from being evicted, or let it go again; remembered in the cache, with the run.
 * -ENOENT: it is not shown, or not pinned.  Waits for the disk. */
int wfs_replica_pin(struct wfs_replica *r, uint64_t sequence, bool on, struct wfs_err *err);

/* Called from a replica thread after a version is shown and after one has left. */
typedef void wfs_shown_fn(void *arg, uint64_t sequence, bool shown);
void wfs_replica_on_shown(struct wfs_replica *r, wfs_shown_fn *fn, void *arg);

/* Where a complete version lies as plain files, which anybody may read without us; false: nowhere (now). */
bool wfs_model_link(struct wfs_model *m, char *out, size_t cap);
/* Called from a replica thread after a shown version has got or lost that place; arg is on_shown's. */
typedef void wfs_shape_fn(void *arg, uint64_t sequence);
void wfs_replica_on_shape(struct wfs_replica *r, wfs_shape_fn *fn);

/* A version in use is not evicted: it has references beyond the replica's own, or files of it are open or
 * mapped by whoever got at them without us (man weightfs-design, "In use or not"). */

/* Reading file `i` of the version (index into wfs_version.files). */

/* Only what is local and checked: len bytes at off, all inside the file.  -EAGAIN: must be built
 * first.  Small whole files are always local. */
int wfs_model_read(struct wfs_model *m, size_t i, void *buf, size_t len, uint64_t off, struct wfs_err *err);

/* The same into a buffer of the calling thread: l->data points to the bytes until wfs_loan_end, or until this
 * thread lends again.  len is 1 to WFS_BLOCK_SIZE.  After an error nothing is lent. */
struct wfs_loan {
	const void *data;
	/* private */
	struct wfs_buf own;
};
int wfs_model_lend(struct wfs_model *m, size_t i, struct wfs_loan *l, size_t len, uint64_t off,
		   struct wfs_err *err);
void wfs_loan_end(struct wfs_loan *l);

/* Ask for [off, off+len) and be told: done is called exactly once, from any thread (also this one,
 * before the call returns), unless wfs_want_cancel took it back.  After r == 0 wfs_model_read
 * succeeds (or says -EAGAIN again after bit rot: ask again).  The caller owns w until done or a
 * successful cancel, and holds a reference on m meanwhile. */
struct wfs_want {
	void (*done)(struct wfs_want *w, int r, const char *msg);
	/* private */
	struct wfs_want *next, **prev;
	struct wfs_model *model;
	size_t file;
	uint64_t off, end;
	int state;
	void *job;
};
void wfs_model_want(struct wfs_model *m, size_t i, uint64_t off, uint64_t len, struct wfs_want *w);
/* True: done will not be called any more.  False: it was called or is being called. */
bool wfs_want_cancel(struct wfs_replica *r, struct wfs_want *w);

/* Both of the above: waits as long as it takes (read_timeout without progress: -ETIMEDOUT). */
int wfs_model_read_wait(struct wfs_model *m, size_t i, void *buf, size_t len, uint64_t off, struct wfs_err *err);

/* The same without keeping what had to be built for it. */
int wfs_model_peek(struct wfs_model *m, size_t i, void *buf, size_t len, uint64_t off, struct wfs_err *err);

/* How file i would be built, the step that yields it first; bases follow.  Waits, and fetches tables. */
struct wfs_step {
	enum { WFS_STEP_HELD, WFS_STEP_BASE, WFS_STEP_DELTA, WFS_STEP_FULL, WFS_STEP_UNDO } how;
	uint64_t sequence;		/* of a version that has the file so; 0: not known */
	uint64_t back;			/* delta: versions between it and its base */
	uint64_t stored, table;		/* bytes of it */
};
struct wfs_path {
	struct wfs_step *steps;		/* free; NULL for a whole file */
	size_t n_steps;
	uint64_t bytes;			/* to fetch, less than the steps' where something is in the cache already */
	uint64_t compared;		/* of that: the file's own table, when another one is used */
};
int wfs_model_path(struct wfs_model *m, size_t i, struct wfs_path *out, struct wfs_err *err);
/* For plans to be looked at only: as if all files of m were complete in the cache, or no more. */
void wfs_model_assume(struct wfs_model *m, bool held);
/* Version objects that planning has read: bytes and number. */
void wfs_replica_history(struct wfs_replica *r, uint64_t *bytes, size_t *n);

/* The header of shard i.  Waits. The caller closes it. */
int wfs_model_header(struct wfs_model *m, size_t i, struct wfs_safetensors **out, struct wfs_err *err);

struct wfs_file_status {
	uint64_t size;
	uint32_t n_blocks, n_built;
	bool complete, durable;
};
void wfs_model_file_status(struct wfs_model *m, size_t i, struct wfs_file_status *out);
/* Somebody has its image open or mapped, whoever it is: a lease on it is refused. */
bool wfs_model_file_in_use(struct wfs_model *m, size_t i);
bool wfs_model_linked(struct wfs_model *m);	/* shown as plain files of the cache (served.c) */

/* ---- one version, start to end (pull, publish, verify) ---- */

struct wfs_progress {
	void (*fn)(void *arg, const char *what, uint64_t done, uint64_t total);	/* may be NULL */
	void *arg;
	const atomic_bool *cancel;						/* may be NULL */
};

/* The newest committed sequence; waits for the network.  -ENOENT: nothing published yet. */
int wfs_replica_look(struct wfs_replica *r, uint64_t *sequence, struct wfs_err *err);

/* Fetch commit and version object of `sequence`, check them, show nothing.  Waits. */
int wfs_replica_load(struct wfs_replica *r, uint64_t sequence, struct wfs_model **out, struct wfs_err *err);

/* Build every block of every file of m, make it durable.  Waits. */
int wfs_replica_complete(struct wfs_replica *r, struct wfs_model *m, const struct wfs_progress *p,
			 struct wfs_err *err);

/* Path (relative to the cache directory) of the data of a complete file i, to be linked or read. */
int wfs_model_data_path(struct wfs_model *m, size_t i, char out[WFS_OBJECT_NAME], struct wfs_err *err);

/* The data of file i, opened O_RDONLY, when every block of it was built and checked: who has it may read past
 * us.  -EAGAIN without a message: not complete, or stored whole. */
int wfs_model_data_open(struct wfs_model *m, size_t i, struct wfs_err *err);

/* Check every cached byte of complete and building images; rotten blocks are dropped, to be built
 * again.  n_checked, n_bad: blocks; may be NULL. */
int wfs_replica_scrub(struct wfs_replica *r, uint64_t *n_checked, uint64_t *n_bad,
		      const struct wfs_progress *p, struct wfs_err *err);

/* The same for a cache that nobody has open (-EBUSY names the holder); needs no store.
 * Of what is no cache nothing is changed. */
int wfs_cache_verify(const char *cache, uint64_t *n_checked, uint64_t *n_bad, const struct wfs_progress *p,
		     struct wfs_err *err);

/* What a directory is, by the names in it; changes nothing.  odd: an entry that is not nothing, of OTHER the one
 * that no cache holds, if there is one. */
enum wfs_dir_kind { WFS_DIR_EMPTY, WFS_DIR_CACHE, WFS_DIR_STORE, WFS_DIR_OTHER };
int wfs_cache_look(enum wfs_dir_kind *out, char odd[NAME_MAX + 1], int dir, struct wfs_err *err);
/* A name at the top of a cache. */
bool wfs_cache_owns(const char *name);
/* May it become a cache, or is it one?  Else -EPERM.  path is for the message. */
int wfs_cache_check(int dir, const char *path, struct wfs_err *err);
/* Is it one?  For those who make none.  The message follows on the directory's name. */
int wfs_cache_must_be(const char *path, struct wfs_err *err);

/* Look at the store now. */
void wfs_replica_poke(struct wfs_replica *r);

/* One JSON object without newline: run, store, versions, newest, building, fetch counters, cache,
 * last error.  Keys: weightfs(1), "Status". Never waits for the network or a reader. */
int wfs_replica_status(struct wfs_replica *r, struct wfs_buf *out);
/* The last problem as a sentence ("" when the last look succeeded), and whether a mount is healthy:
 * something is shown, the last look at the store, if any, did not fail, and no get of the store goes on failing. */
bool wfs_replica_health(struct wfs_replica *r, char *msg, size_t msg_len);
/* The problem alone, and since when (wfs_now_ns). */
uint64_t wfs_replica_failing(struct wfs_replica *r, char *msg, size_t msg_len);

#endif
