/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - the nouns of a replica and who may touch them when
 *
 *   replica   one cache directory, one store            replica.c follow.c status.c
 *   model     one version: files -> images              model.c
 *   image     one file of one version, on disk          image.c lend.c
 *   source    one table and its fetched stored bytes    source.c
 *   history   what older version objects say            history.c
 *   ways      what a plan is chosen from                ways.c basefiles.c undo.c
 *   plan      from what an image is built               plan.c
 *   build     one block: base, deltas, check            build.c
 *   work      who waits for which block                 work.c
 *   ahead     what sequential readers will ask for      ahead.c
 *   task      all blocks of a version                   task.c
 *   room      disk space, counted and set aside         room.c evict.c sweep.c lease.c
 *
 * Locks, outer first: image->plan_lock, history_fetch, work.lock, replica->lock, image->lock, source->lock, history_lock,
 * cache->room; ahead.lock is taken with none of them.
 * replica->lock and work.lock are never held across I/O.
 */
#ifndef WFS_REPLICA_INTERNAL_H
#define WFS_REPLICA_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "weightfs/digest.h"
#include "weightfs/replica.h"
#include "weightfs/table.h"

/* ---- cache.c: the directory; room.c: the space in it -------------------------------------- */

struct wfs_cache {
	char *path;
	int dir, lock_fd;
	bool leases;			/* lease.c can be believed here */
	uint64_t size_max, min_free;
	pthread_mutex_t room;
	uint64_t used, written, reserved;	/* at the last count; since then; set aside.  Need room */
};

int wfs_cache_open(struct wfs_cache *c, const char *path, struct wfs_err *err);
void wfs_cache_close(struct wfs_cache *c);
/* The run this cache belongs to; "" while it is new. */
int wfs_cache_run_load(struct wfs_cache *c, struct wfs_run *run, struct wfs_err *err);
int wfs_cache_run_store(struct wfs_cache *c, const struct wfs_run *run, struct wfs_err *err);
int wfs_cache_wipe(struct wfs_cache *c, struct wfs_err *err);

/* Verified immutable objects (version, table, small file).  get: -ENOENT without a message when it
 * is missing or rotten (then it is removed). */
int wfs_cache_get(struct wfs_cache *c, struct wfs_buf *out, const struct wfs_digest *id, size_t max,
		  struct wfs_err *err);
int wfs_cache_put(struct wfs_cache *c, const struct wfs_digest *id, const void *data, size_t len, bool durable,
		  struct wfs_err *err);

/* Highest commit ever accepted: "state"; versions shown: "versions/<n>".  Both hold commit bytes. */
int wfs_cache_state_load(struct wfs_cache *c, struct wfs_commit *out, struct wfs_err *err);
int wfs_cache_state_store(struct wfs_cache *c, const struct wfs_commit *commit, struct wfs_err *err);
int wfs_cache_record(struct wfs_cache *c, const struct wfs_commit *commit, struct wfs_err *err);
int wfs_cache_unrecord(struct wfs_cache *c, uint64_t sequence, struct wfs_err *err);
/* All readable records, ascending; damaged ones are removed. */
int wfs_cache_records(struct wfs_cache *c, struct wfs_commit **out, size_t *n, struct wfs_err *err);

/* Pinned versions: "pins/<n>", commit bytes as well.  Durable on return. */
int wfs_cache_pin(struct wfs_cache *c, const struct wfs_commit *commit, struct wfs_err *err);
int wfs_cache_unpin(struct wfs_cache *c, uint64_t sequence, struct wfs_err *err);
bool wfs_cache_pinned(struct wfs_cache *c, const struct wfs_commit *commit);

/* Why something does not fit. */
struct wfs_shortage {
	uint64_t more, used, avail;	/* asked for; used and set aside; free on the disk above min_free */
	uint64_t disk;			/* so much is missing on the disk; 0: nothing */
	uint64_t size;			/* cache_size would have to be this; 0: it is enough */
};
/* -ENOSPC and a sentence. */
int wfs_shortage_say(struct wfs_cache *c, const struct wfs_shortage *lack, struct wfs_err *err);

/* Bytes on disk now, bytes the file system would still give us above min_free, bytes set aside. */
uint64_t wfs_cache_used(struct wfs_cache *c);
uint64_t wfs_cache_free(struct wfs_cache *c);
uint64_t wfs_cache_reserved(struct wfs_cache *c);
/* Set `need` bytes aside, to be shared out by the caller; false: they do not fit. */
bool wfs_cache_reserve(struct wfs_cache *c, uint64_t need, struct wfs_shortage *lack);
/* Give back what is left of a share. */
void wfs_cache_release(struct wfs_cache *c, _Atomic uint64_t *left);
/* About to write len bytes, out of a share as far as it goes (left may be NULL).  demand: a reader
 * waits, so what is set aside for others may be used.  -ENOSPC. */
int wfs_cache_charge(struct wfs_cache *c, uint64_t len, _Atomic uint64_t *left, bool demand, struct wfs_err *err);

/* ---- lease.c ------------------------------------------------------------------------------ */

/* Can the file system of this directory (with a tmp/) be believed? */
bool wfs_lease_works(int dir);
/* Nobody else has the file open or mapped, now. */
bool wfs_lease_free(int fd);
/* The same, and until it is given back who opens the file waits for us: a moment only. */
bool wfs_lease_take(int fd);
void wfs_lease_give_back(int fd);

/* ---- image.c ------------------------------------------------------------------------------ */

enum wfs_block_state {
	WFS_ABSENT,
	WFS_CLAIMED,		/* the map says present, but it was not checked since we opened it */
	WFS_BUILDING,		/* one thread is at it; image->cond tells the end */
	WFS_PRESENT,
};

struct wfs_plan;

struct wfs_image {
	struct wfs_replica *r;
	struct wfs_digest id;		/* of the table */
	struct wfs_digest anchor;	/* zero: none */
	char *label;			/* "version 42 model.safetensors", for messages */
	uint64_t size;
	uint32_t n_blocks;
	unsigned refs;			/* replica->lock */
	unsigned models;		/* replica->lock: files of versions that are this image */
	struct wfs_image *next;		/* replica->images */

	pthread_mutex_t plan_lock;	/* one thread makes the plan */
	struct wfs_plan *plan;

	pthread_mutex_t lock;
	pthread_cond_t cond;
	int data_fd, map_fd;		/* -1 until opened; then constant */
	_Atomic uint8_t *state;		/* enum wfs_block_state; NULL until opened */
	_Atomic uint32_t n_built;
	uint64_t zero_hash;		/* of a chunk of zeros; constant once opened */
	atomic_bool opened, complete, durable;
	struct wfs_stream *streams;	/* ahead.c */
	uint64_t stream_clock;
	_Atomic uint32_t *given;	/* behind.c */
	atomic_bool assumed;		/* for plans that are only looked at: as if it were complete */
	_Atomic uint32_t generation;	/* of the file: goes up when another takes its place */
	atomic_bool exposed;		/* readers may have it without us knowing when they end */
	_Atomic uint64_t reserved;	/* what is left of the bytes set aside for it */
};

/* One more reference to the image of that table, made when there is none.  NULL: out of memory. */
struct wfs_image *wfs_image_get(struct wfs_replica *r, const struct wfs_digest *id,
				const struct wfs_digest *anchor, uint64_t size, const char *label);
/* One more reference if the replica has it; NULL else. */
struct wfs_image *wfs_image_find(struct wfs_replica *r, const struct wfs_digest *id);
void wfs_image_put(struct wfs_image *img);
/* Open or create its files; idempotent. */
int wfs_image_open(struct wfs_image *img, struct wfs_err *err);
/* Complete on disk?  Looks without creating anything. */
bool wfs_image_probe(struct wfs_image *img);
/* And known to be so after a loss of power. */
bool wfs_image_synced(struct wfs_image *img);
/* Has anybody but us its data open or mapped?  Where leases cannot be believed: was it ever given to readers? */
bool wfs_image_in_use(struct wfs_image *img);
/* Put a copy of the data in its place, behind the same descriptor.  Needs img->lock. */
int wfs_image_renew(struct wfs_image *img, struct wfs_err *err);
uint32_t wfs_image_block_len(const struct wfs_image *img, uint32_t b);
bool wfs_image_has(struct wfs_image *img, uint32_t b);		/* PRESENT */
bool wfs_image_claims(struct wfs_image *img, uint32_t b);	/* PRESENT or CLAIMED: to be checked when used */

/* Checked bytes; every touched block is PRESENT or -EAGAIN.  Bit rot: the block becomes ABSENT, -EAGAIN. */
int wfs_image_read(struct wfs_image *img, void *buf, size_t len, uint64_t off, struct wfs_err *err);
/* The whole block as it is on disk, unchecked. */
int wfs_image_raw(struct wfs_image *img, uint32_t b, void *buf, struct wfs_err *err);
/* Claim the work on a block: true when the caller must finish with wfs_image_done; false when it is
 * PRESENT already (also after waiting for another thread).  *claimed: bytes may be on disk. */
bool wfs_image_begin(struct wfs_image *img, uint32_t b, bool *claimed);
/* data != NULL: write these checked bytes (on_disk: only their hashes) and make it PRESENT; else ABSENT. */
int wfs_image_done(struct wfs_image *img, uint32_t b, const void *data, bool on_disk, struct wfs_err *err);
/* All blocks PRESENT: sync and mark. */
int wfs_image_finish(struct wfs_image *img, struct wfs_err *err);
void wfs_image_drop_block(struct wfs_image *img, uint32_t b);

/* ---- source.c ----------------------------------------------------------------------------- */

struct wfs_source {
	struct wfs_replica *r;
	struct wfs_digest id;
	struct wfs_table *table;
	uint64_t *stash_off;		/* per pack: where its bytes begin in the stash file */
	unsigned refs;			/* replica->lock */
	struct wfs_source *next;
	atomic_bool done;		/* nobody needs the stash any more: unlink at the last put */

	pthread_mutex_t lock;
	pthread_cond_t cond;
	int fd;				/* stash/<id>; -1 until something is fetched */
	uint8_t *state;			/* per group */
};

/* net: may fetch; else -EAGAIN when the table is not local. */
int wfs_source_get(struct wfs_source **out, struct wfs_replica *r, const struct wfs_digest *id,
		   bool net, bool demand, struct wfs_err *err);
void wfs_source_put(struct wfs_source *s);
/* The checked bytes of group g into buf (at least its len).  -EAGAIN when not local and !net. */
int wfs_source_read(struct wfs_source *s, uint32_t g, void *buf, bool net, bool demand, struct wfs_err *err);
/* Make groups g .. last local; neighbours become one request.  ahead: also what follows, to a few MiB. */
int wfs_source_fetch(struct wfs_source *s, uint32_t g, uint32_t last, bool demand, struct wfs_err *err);

/* Throw away what was fetched, to have the space; who needs it fetches it again. */
void wfs_source_discard(struct wfs_source *s);

/* ---- history.c: version objects, kept in memory while plans are made ----------------------- */

struct wfs_past {
	struct wfs_digest id;
	struct wfs_version v;
	size_t len;			/* of the object */
	const struct wfs_past *next;
};

/* What is known stays until the last planner ends: begin and end are around every use. */
void wfs_history_begin(struct wfs_replica *r);
void wfs_history_end(struct wfs_replica *r);
void wfs_history_forget(struct wfs_replica *r);
/* A new look: what was gone may have been put back. */
void wfs_history_retry(struct wfs_replica *r);
const struct wfs_past *wfs_history_first(struct wfs_replica *r);	/* then ->next */
const struct wfs_past *wfs_history_find(struct wfs_replica *r, const struct wfs_digest *id);
/* That table's stored bytes are gone from the store, as why says: plans do without, until what is known is
 * forgotten. */
void wfs_history_gone(struct wfs_replica *r, const struct wfs_digest *table, const struct wfs_err *why);
/* -EBADMSG, with what was said then; or 0. */
int wfs_history_is_gone(struct wfs_replica *r, const struct wfs_digest *table, struct wfs_err *err);
/* The models' versions become known. */
int wfs_history_sync(struct wfs_replica *r, struct wfs_err *err);

/* A walk of one file back to version `to`, or to the oldest one not older than to_ns. */
struct wfs_walk {
	struct wfs_replica *r;
	const char *path;
	bool net;
	bool until_full;		/* no further than a version that has it in full */
	bool unlike;			/* it does not go by the strides that are guessed */
	uint64_t to, to_ns;
	uint64_t limit;			/* bytes of deltas, at which it is given up */
	uint64_t sum;			/* bytes of the deltas passed */
	const struct wfs_past *end;	/* where it ended */
};
int wfs_history_walk(struct wfs_walk *w, const struct wfs_past *from, struct wfs_err *err);
/* Bytes of a file's way to the version `back` before, by what its own version says: UINT64_MAX: there is none. */
uint64_t wfs_past_travel(const struct wfs_file *f, const struct wfs_past *past, uint64_t back);

/* ---- prefetch.c --------------------------------------------------------------------------- */

/* Into the cache, in parallel; whoever needs one finds out whether that went well.  Waits for the network. */
void wfs_prefetch_tables(struct wfs_replica *r, const struct wfs_digest *tables, size_t n);
/* The versions that a walk from one to an older one comes to first, by the strides that publishers have unless they are
 * told others; where it is not sure how far the walk goes, none behind wide strides. */
void wfs_prefetch_versions(struct wfs_replica *r, uint64_t from, uint64_t to, bool surely);

/* ---- basefiles.c -------------------------------------------------------------------------- */

struct wfs_basefile {
	int fd;
	uint64_t size, mtime_ns;
	char *path;
	atomic_bool bad;		/* a block did not match: not used any more */
	struct wfs_basefile *next;
};

/* A file of the user's that seems to be what the table says; every block is checked when it is used. */
struct wfs_basefile *wfs_basefiles_match(struct wfs_replica *r, const struct wfs_table *t);
const struct wfs_basefile *wfs_basefiles_next(struct wfs_replica *r, const struct wfs_basefile *after, uint64_t size);
void wfs_basefiles_free(struct wfs_replica *r);

/* ---- undo.c ------------------------------------------------------------------------------- */

/* The table by which that file is made from a later one, all of it local; false: none. out may be NULL. */
bool wfs_undo_find(struct wfs_replica *r, const struct wfs_digest *primary, struct wfs_digest *out);
/* Their tables, to be kept: calls fn for each. */
int wfs_undo_each(struct wfs_replica *r, int (*fn)(void *arg, const struct wfs_digest *table), void *arg);

/* ---- plan.c ------------------------------------------------------------------------------- */

struct wfs_node {
	struct wfs_digest id;		/* of the primary table */
	struct wfs_image *held;		/* complete image: read it; with a source: only some blocks are there */
	struct wfs_basefile *base;	/* the user's file: read and check against source->table */
	struct wfs_source *source;	/* one of its tables; NULL with a complete image */
	uint32_t *bases;		/* indices of the nodes for the table's bases */
	uint64_t sequence, back;	/* of a version that has it; what the table goes back, 0: see full, undo */
	bool full, undo;
	uint64_t stored, table_len;	/* bytes of it that are needed */
};

struct wfs_plan {
	struct wfs_node *nodes;		/* [0] is the image itself */
	size_t n_nodes;
	unsigned refs;			/* image->plan_lock */
	uint64_t bytes;			/* to fetch */
	uint64_t compared;		/* of that: a table that is only compared with */
};

/* The image's plan, made at need; the caller puts it. */
int wfs_plan_get(struct wfs_plan **out, struct wfs_image *img, bool net, bool demand, struct wfs_err *err);
void wfs_plan_put(struct wfs_image *img, struct wfs_plan *p);
/* Forget it: the image is complete (done: its stashes may go), or the plan did not hold. */
void wfs_plan_drop(struct wfs_image *img, bool done);

/* Throw away what was fetched for it and not yet used. */
void wfs_plan_discard(struct wfs_image *img);

/* ---- build.c ------------------------------------------------------------------------------ */

/* Build block b if it is not PRESENT.  -EAGAIN: needs the network and !net. */
int wfs_build_block(struct wfs_image *img, uint32_t b, bool net, bool demand, struct wfs_err *err);
/* Bytes of the file without keeping them; they are checked.  Waits. */
int wfs_build_peek(struct wfs_image *img, void *buf, size_t len, uint64_t off, struct wfs_err *err);
/* Fetch, in few requests, all stored bytes that blocks [b, b+n) need. */
int wfs_build_prefetch(struct wfs_image *img, uint32_t b, uint32_t n, struct wfs_err *err);

/* ---- model.c ------------------------------------------------------------------------------ */

struct wfs_model {
	struct wfs_replica *r;
	struct wfs_digest id;
	struct wfs_version v;
	struct wfs_image **images;	/* per file; NULL: whole */
	unsigned refs;			/* replica->lock */
	bool shown, pinned;		/* replica->lock */
	atomic_bool complete, synced, linked;
	uint64_t link_generation;	/* of the images when it was linked; of the follow thread */
	_Atomic uint64_t idle_since_ns;	/* not in use since then, as far as was looked; 0: in use */
	uint64_t need;			/* bytes to build it, when last asked; of the follow thread, as are */
	struct wfs_image **bases;	/* complete images it is built from: they stay until it is */
	size_t n_bases;
	struct wfs_model *next;		/* replica->models, ascending */
};

/* Version object, small files, index checks; from the cache or (net) the store. */
int wfs_model_fetch(struct wfs_model **out, struct wfs_replica *r, const struct wfs_commit *commit,
		    bool net, struct wfs_err *err);
/* All images complete on disk? Remembers a yes. */
bool wfs_model_probe(struct wfs_model *m);
/* And synced? A builder killed between the two leaves the second to us.  Remembers a yes. */
bool wfs_model_synced(struct wfs_model *m);
/* Once complete: every index file against the real headers. */
int wfs_model_check(struct wfs_model *m, struct wfs_err *err);
/* The content of file i, which is stored whole, from the cache; -EAGAIN when it is not there. */
int wfs_model_small(struct wfs_model *m, size_t i, struct wfs_buf *out, struct wfs_err *err);
/* A small object: from the cache, else (net) from the store, checked and kept; else -EAGAIN. */
int wfs_object_get(struct wfs_replica *r, struct wfs_buf *out, const char *kind, const struct wfs_digest *id,
		   size_t max, bool net, struct wfs_err *err);

/* ---- work.c ------------------------------------------------------------------------------- */

struct wfs_job;

struct wfs_queue {
	struct wfs_job *head, **tail;
	pthread_cond_t cond;
};

struct wfs_work {
	pthread_mutex_t lock;
	struct wfs_job *jobs;		/* all that are not finished */
	struct wfs_queue local, net;
	unsigned n_net;			/* demand on the network: the background waits for it */
	pthread_cond_t net_idle;
	pthread_t *threads;
	size_t n_threads;
	bool stopping;
};

int wfs_work_init(struct wfs_replica *r, struct wfs_err *err);
int wfs_work_start(struct wfs_replica *r, struct wfs_err *err);
void wfs_work_stop(struct wfs_replica *r);
void wfs_work_free(struct wfs_replica *r);
/* This thread works in the background of a mount: everything else has the processor and the disk first. */
void wfs_work_background(const struct wfs_replica *r);
/* The background lets readers go first, for at most a second. */
void wfs_work_yield(struct wfs_replica *r);

/* ---- ahead.c ------------------------------------------------------------------------------ */

struct wfs_ahead {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct wfs_window *head, **tail;
	unsigned n_queued;
	bool stopping;
	pthread_t *threads;
	unsigned n_threads;
};

void wfs_ahead_init(struct wfs_ahead *a);
void wfs_ahead_start(struct wfs_replica *r);	/* without a thread it does nothing, and reads work */
void wfs_ahead_stop(struct wfs_replica *r);
void wfs_ahead_free(struct wfs_ahead *a);
/* A reader was at blocks first to last of a file that is stored in blocks. */
void wfs_ahead_note(struct wfs_model *m, size_t file, uint32_t first, uint32_t last);

/* ---- behind.c: pages that are in memory twice ---------------------------------------------- */

size_t wfs_behind_windows(uint64_t size);	/* how many counters an image has */
/* These bytes are about to be in the kernel's pages of the mount. */
void wfs_behind_note(struct wfs_model *m, struct wfs_image *img, size_t len, uint64_t off);

/* ---- task.c: all of a version ------------------------------------------------------------- */

/* Build blocks [b, b+n): first what is local, then, fetched in few requests, the rest. */
int wfs_task_window(struct wfs_image *img, uint32_t b, uint32_t n, struct wfs_err *err);

/* build: false fetches only (ready=delta). */
int wfs_task_run(struct wfs_replica *r, struct wfs_model *m, bool build, const struct wfs_progress *p,
		 struct wfs_err *err);

/* ---- follow.c, evict.c -------------------------------------------------------------------- */

void *wfs_follow_main(void *replica);
/* The newest commit of the store, checked against what was seen before.  -ENOENT: none yet. */
int wfs_follow_look(struct wfs_replica *r, struct wfs_commit *out, struct wfs_err *err);
/* Commit n, fetched and checked.  -ENOENT: not there. */
int wfs_follow_commit(struct wfs_replica *r, uint64_t sequence, struct wfs_commit *out, struct wfs_err *err);
/* Drop what is kept no longer, and make room for m's images (NULL: nothing more): versions that nobody
 * uses go.  On success the bytes m still needs are set aside, until wfs_unreserve.  -ENOSPC says what
 * would help, and sets m->need. */
int wfs_evict(struct wfs_replica *r, struct wfs_model *m, struct wfs_err *err);
/* Is there room for m by now?  Cheap, after -ENOSPC. */
bool wfs_evict_again(struct wfs_replica *r, struct wfs_model *m, struct wfs_err *err);
void wfs_unreserve(struct wfs_replica *r, struct wfs_model *m);
/* Let go of the images that m was built from. */
void wfs_release_bases(struct wfs_model *m);
/* Not in use, and not lately either; for versions with one reference beside the list's, the caller's. */
bool wfs_model_idle(struct wfs_model *m);
/* Is m open, bound or mapped, beyond the list's reference and `own` of the caller's? */
bool wfs_model_in_use(struct wfs_model *m, unsigned own);
/* Remove images, stashes and objects that nothing of ours needs and nobody has open. */
int wfs_sweep(struct wfs_replica *r, struct wfs_err *err);

/* ---- served.c: serve=link ------------------------------------------------------------------ */

/* What an earlier life left; the shown versions as plain files. */
int wfs_served_start(struct wfs_replica *r, struct wfs_err *err);
/* A complete version as a directory of plain files, from now on shown as a link to it. */
int wfs_served_make(struct wfs_model *m, struct wfs_err *err);
void wfs_served_drop(struct wfs_model *m);
/* Versions that became complete and are not in use become links; those with a rotten block are none. */
void wfs_served_sync(struct wfs_replica *r);
/* Remove what belongs to no version. */
void wfs_served_sweep(struct wfs_replica *r);

/* ---- replica.c ---------------------------------------------------------------------------- */

struct wfs_replica {
	struct wfs_replica_opts o;
	struct wfs_store *store;		/* NULL: scrub only */
	struct wfs_cache cache;
	struct wfs_run run;			/* "" until known */
	bool run_checked;			/* the store was asked in this life */
	bool swept;				/* the cache was, in this life; of the follow thread */

	pthread_mutex_t lock;
	struct wfs_model *models;		/* all that exist, newest first */
	struct wfs_image *images;
	struct wfs_source *sources;
	struct wfs_basefile *basefiles;
	pthread_mutex_t base_lock;
	bool basefiles_scanned;
	pthread_mutex_t history_lock;
	pthread_mutex_t history_fetch;		/* around fetching one, outside of history_lock */
	const struct wfs_past *history;
	unsigned n_planning;
	struct wfs_gone {			/* tables whose stored bytes the store has no more; the last few */
		struct wfs_digest table;
		struct wfs_err why;
	} gone[16];
	unsigned n_gone;
	bool has_undo;				/* a publisher's: set before anything runs */
	struct wfs_digest *wanted;		/* tables of the version to come; of the follow thread */
	size_t n_wanted;
	wfs_shown_fn *shown_fn;
	wfs_shape_fn *shape_fn;
	void *shown_arg;
	struct wfs_complaint {
		char msg[512];			/* "": there is none */
		uint64_t since_ns;
	} trouble,				/* with the store: looks or gets fail */
	  problem;				/* with what the last good look found */
	uint64_t looked_ns;			/* the last look that went well */
	struct wfs_commit highest;		/* sequence 0: none */
	uint64_t building;			/* sequence, 0: none */
	uint64_t task_done, task_total;		/* bytes */
	uint64_t needed;			/* bytes that the version at hand lacks room for, 0: none */
	atomic_bool tight;			/* space is short: nothing is fetched ahead */
	_Atomic uint64_t stash_reserved;	/* what is left of the bytes set aside for stashes */
	_Atomic uint64_t held;			/* bytes of images that no version has but somebody still uses */

	struct wfs_work work;
	struct wfs_ahead ahead;
	pthread_t follow_thread, scrub_thread, cancel_thread;
	bool follow_started, scrub_started, cancel_started;
	bool follows;				/* a mount's: what is not demand is background */
	atomic_bool stop;

	/* counters for status */
	_Atomic uint64_t n_groups_checked, n_bytes_checked, n_bad_groups, n_blocks_built, n_blocks_read, n_rot;
};

/* ---- trouble.c ---------------------------------------------------------------------------- */

/* What goes wrong, each logged once and once when it is over; "" clears it. */
void wfs_replica_problem(struct wfs_replica *r, const char *msg);
void wfs_replica_trouble(struct wfs_replica *r, const char *msg);
/* Of the last look: *msg is "" when there is nothing yet. */
void wfs_trouble_look(struct wfs_replica *r, int ret, const char *msg);
void wfs_trouble_listen(struct wfs_replica *r);
/* Out of sight with everything: the run has changed. */
void wfs_replica_forget(struct wfs_replica *r);
int wfs_replica_show(struct wfs_replica *r, struct wfs_model *m, const struct wfs_commit *c, struct wfs_err *err);
/* Wait so many milliseconds; true: stopping. */
bool wfs_replica_nap(struct wfs_replica *r, unsigned ms);

#endif
