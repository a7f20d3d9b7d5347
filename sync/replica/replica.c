/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica.c - the life of a replica and the list of what it shows
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/log.h"

/* ---- what is shown ---- */

/* Mark it shown; false: it was already. The list's reference is taken here. */
static bool set_shown(struct wfs_replica *r, struct wfs_model *m)
{
	bool was;

	pthread_mutex_lock(&r->lock);
	was = m->shown;
	m->shown = true;
	if (!was)
		m->refs++;
	pthread_mutex_unlock(&r->lock);
	return !was;
}

int wfs_replica_show(struct wfs_replica *r, struct wfs_model *m, const struct wfs_commit *c, struct wfs_err *err)
{
	int ret = 0;

	if (m->shown)
		return 0;
	/* Remembered before it is shown: what a reader saw once is never gone back from. */
	if (c->sequence > r->highest.sequence) {
		ret = wfs_cache_state_store(&r->cache, c, err);
		if (ret < 0)
			return ret;
		pthread_mutex_lock(&r->lock);
		r->highest = *c;
		pthread_mutex_unlock(&r->lock);
	}
	ret = wfs_cache_record(&r->cache, c, err);
	if (ret < 0)
		return ret;
	if (set_shown(r, m)) {
		log_info("version %" PRIu64 "%s%s%s is shown%s", m->v.sequence, m->v.label[0] ? " (" : "", m->v.label,
			 m->v.label[0] ? ")" : "", m->complete ? "" : ", blocks are built on demand");
		if (r->shown_fn)
			r->shown_fn(r->shown_arg, m->v.sequence, true);
	}
	return 0;
}

void wfs_replica_forget(struct wfs_replica *r)
{
	struct wfs_model *m;

	for (;;) {
		pthread_mutex_lock(&r->lock);
		for (m = r->models; m && !m->shown; m = m->next)
			;
		if (m)
			m->shown = false;
		pthread_mutex_unlock(&r->lock);
		if (!m)
			return;
		if (r->shown_fn)
			r->shown_fn(r->shown_arg, m->v.sequence, false);
		wfs_model_put(m);
	}
}

static struct wfs_model *pick(struct wfs_replica *r, uint64_t sequence)
{
	struct wfs_model *m;

	pthread_mutex_lock(&r->lock);
	for (m = r->models; m; m = m->next)
		if (m->shown && (!sequence || m->v.sequence == sequence))
			break;
	if (m)
		m->refs++;
	pthread_mutex_unlock(&r->lock);
	return m;
}

struct wfs_model *wfs_replica_latest(struct wfs_replica *r)
{
	return pick(r, 0);
}

struct wfs_model *wfs_replica_find(struct wfs_replica *r, uint64_t sequence)
{
	return sequence ? pick(r, sequence) : NULL;
}

int wfs_replica_pin(struct wfs_replica *r, uint64_t sequence, bool on, struct wfs_err *err)
{
	struct wfs_model *m = wfs_replica_find(r, sequence);
	struct wfs_commit c;
	int ret;

	if (!m || (!on && !m->pinned)) {
		wfs_model_put(m);
		return wfs_fail(err, -ENOENT, "version %" PRIu64 " is not %s here", sequence, m ? "pinned" : "shown");
	}
	c = (struct wfs_commit){ .run = m->v.run, .sequence = sequence, .version = m->id };
	/* What is on disk never says less than what was answered. */
	ret = on ? wfs_cache_pin(&r->cache, &c, err) : wfs_cache_unpin(&r->cache, sequence, err);
	if (ret == 0) {
		pthread_mutex_lock(&r->lock);
		m->pinned = on;
		pthread_mutex_unlock(&r->lock);
	}
	wfs_model_put(m);
	if (ret == 0)
		wfs_replica_poke(r);	/* there may be room now */
	return ret;
}

struct wfs_model *wfs_replica_above(struct wfs_replica *r, uint64_t sequence)
{
	struct wfs_model *m, *found = NULL;

	pthread_mutex_lock(&r->lock);
	for (m = r->models; m && m->v.sequence > sequence; m = m->next)	/* newest first */
		if (m->shown)
			found = m;
	if (found)
		found->refs++;
	pthread_mutex_unlock(&r->lock);
	return found;
}

int wfs_replica_list(struct wfs_replica *r, uint64_t **out, size_t *n)
{
	struct wfs_model *m;
	size_t count = 0, i;

	pthread_mutex_lock(&r->lock);
	for (m = r->models; m; m = m->next)
		count += m->shown;
	*out = calloc(count + 1, sizeof(**out));
	for (m = r->models, i = count; *out && m; m = m->next)
		if (m->shown)
			(*out)[--i] = m->v.sequence;
	pthread_mutex_unlock(&r->lock);
	*n = count;
	return *out ? 0 : -ENOMEM;
}

void wfs_replica_on_shown(struct wfs_replica *r, wfs_shown_fn *fn, void *arg)
{
	r->shown_fn = fn;
	r->shown_arg = arg;
}

void wfs_replica_on_shape(struct wfs_replica *r, wfs_shape_fn *fn)
{
	r->shape_fn = fn;
}

/* ---- life ---- */

/* The newest complete version decides: an older one that never became complete is not shown. */
static bool worth_showing(struct wfs_replica *r, struct wfs_model *m, bool have_complete)
{
	return wfs_model_probe(m) || r->o.lazy || r->o.ready != WFS_READY_COMPLETE ||
	       (!have_complete && !r->o.strict_ready);
}

static int load_records(struct wfs_replica *r, struct wfs_err *err)
{
	struct wfs_commit *c;
	bool have_complete = false;
	size_t n;
	int ret;

	ret = wfs_cache_records(&r->cache, &c, &n, err);
	if (ret < 0)
		return ret;
	while (n--) {		/* newest first */
		struct wfs_err why = { "" };
		struct wfs_model *m;

		if (strcmp(c[n].run.s, r->run.s) != 0 || wfs_model_fetch(&m, r, &c[n], false, &why) < 0) {
			log_warn("version %" PRIu64 " is not whole in the cache and is left out%s%s", c[n].sequence,
				 why.msg[0] ? ": " : "", why.msg);
			wfs_cache_unrecord(&r->cache, c[n].sequence, NULL);
			continue;
		}
		have_complete |= wfs_model_probe(m);
		m->pinned = wfs_cache_pinned(&r->cache, &c[n]);
		if (m->pinned || worth_showing(r, m, have_complete))
			set_shown(r, m);
		wfs_model_put(m);
	}
	free(c);
	return 0;
}

static int check_bases(struct wfs_replica *r, struct wfs_err *err)
{
	struct stat st;

	for (size_t i = 0; i < r->o.base.n; i++) {
		if (stat(r->o.base.v[i], &st) < 0)
			return wfs_fail_sys(err, "base directory %s", r->o.base.v[i]);
		if (!S_ISDIR(st.st_mode))
			return wfs_fail(err, -ENOTDIR, "base %s is not a directory", r->o.base.v[i]);
	}
	return 0;
}

static int init(struct wfs_replica *r, struct wfs_err *err)
{
	int ret;

	ret = wfs_work_init(r, err);
	if (ret == 0)
		ret = check_bases(r, err);
	if (ret == 0)
		ret = wfs_cache_open(&r->cache, r->o.cache, err);
	if (ret == 0)
		ret = wfs_cache_run_load(&r->cache, &r->run, err);
	if (ret == 0)
		ret = wfs_cache_state_load(&r->cache, &r->highest, err);
	if (ret == 0)
		ret = load_records(r, err);
	if (ret == 0 && r->store)
		ret = wfs_served_start(r, err);
	return ret;
}

int wfs_replica_open(struct wfs_replica **out, struct wfs_store *store,
		     const struct wfs_replica_opts *opts, struct wfs_err *err)
{
	struct wfs_replica *r = calloc(1, sizeof(*r));
	int ret;

	if (!r)
		return wfs_fail(err, -ENOMEM, "out of memory");
	r->store = store;
	r->o = *opts;
	if (!r->o.workers)
		r->o.workers = (unsigned)WFS_MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L);
	if (!r->o.poll_ms)
		r->o.poll_ms = 5000;
	r->cache.dir = r->cache.lock_fd = -1;
	r->cache.size_max = opts->cache_size;
	r->cache.min_free = opts->min_free;
	pthread_mutex_init(&r->lock, NULL);
	pthread_mutex_init(&r->base_lock, NULL);
	wfs_ahead_init(&r->ahead);
	pthread_mutex_init(&r->history_lock, NULL);
	pthread_mutex_init(&r->history_fetch, NULL);
	pthread_mutex_init(&r->cache.room, NULL);
	ret = init(r, err);
	if (ret < 0) {
		wfs_replica_close(r);
		return ret;
	}
	*out = r;
	return 0;
}

bool wfs_replica_nap(struct wfs_replica *r, unsigned ms)
{
	for (uint64_t until = wfs_now_ns() + ms * 1000000ull; !r->stop && wfs_now_ns() < until; )
		nanosleep(&(struct timespec){ .tv_nsec = WFS_MIN(ms, 100u) * 1000000L }, NULL);
	return r->stop;
}

static void *scrub_main(void *arg)
{
	struct wfs_replica *r = arg;
	uint64_t checked, bad;

	wfs_work_background(r);

	while (!wfs_replica_nap(r, r->o.scrub_ms)) {
		struct wfs_err err = { "" };

		if (wfs_replica_scrub(r, &checked, &bad, NULL, &err) < 0 && !r->stop)
			log_err("scrub: %s", err.msg);
		else if (bad)
			log_warn("scrub: %" PRIu64 " of %" PRIu64 " blocks had rotted and are built again", bad, checked);
	}
	return NULL;
}

/* Our own flag is the one that every wait looks at; this carries the caller's over. */
static void *cancel_main(void *arg)
{
	struct wfs_replica *r = arg;

	while (!wfs_replica_nap(r, 50))
		if (*r->o.cancel)
			r->stop = true;
	wfs_store_wake(r->store);
	return NULL;
}

int wfs_replica_start(struct wfs_replica *r, bool follow, struct wfs_err *err)
{
	int ret;

	ret = wfs_work_start(r, err);
	if (ret == 0 && r->o.cancel)
		r->cancel_started = pthread_create(&r->cancel_thread, NULL, cancel_main, r) == 0;
	if (ret < 0 || !follow)
		return ret;
	r->follows = true;
	wfs_trouble_listen(r);
	wfs_ahead_start(r);
	r->follow_started = pthread_create(&r->follow_thread, NULL, wfs_follow_main, r) == 0;
	if (r->o.scrub_ms)
		r->scrub_started = pthread_create(&r->scrub_thread, NULL, scrub_main, r) == 0;
	return r->follow_started ? 0 : wfs_fail(err, -EAGAIN, "cannot start a thread");
}

void wfs_replica_stop(struct wfs_replica *r)
{
	r->stop = true;
	if (r->store)
		wfs_store_wake(r->store);
	if (r->follow_started)
		pthread_join(r->follow_thread, NULL);
	if (r->scrub_started)
		pthread_join(r->scrub_thread, NULL);
	if (r->cancel_started)
		pthread_join(r->cancel_thread, NULL);
	r->follow_started = r->scrub_started = r->cancel_started = false;
	wfs_ahead_stop(r);
	wfs_work_stop(r);
}

void wfs_replica_close(struct wfs_replica *r)
{
	if (!r)
		return;
	wfs_replica_stop(r);
	r->shown_fn = NULL;
	wfs_replica_forget(r);
	wfs_basefiles_free(r);
	wfs_history_forget(r);
	free(r->wanted);
	wfs_cache_close(&r->cache);
	wfs_ahead_free(&r->ahead);
	wfs_work_free(r);
	pthread_mutex_destroy(&r->lock);
	pthread_mutex_destroy(&r->base_lock);
	pthread_mutex_destroy(&r->history_lock);
	pthread_mutex_destroy(&r->history_fetch);
	pthread_mutex_destroy(&r->cache.room);
	free(r);
}

void wfs_replica_poke(struct wfs_replica *r)
{
	if (r->store)
		wfs_store_wake(r->store);
}

/* ---- one version, start to end ---- */

int wfs_replica_look(struct wfs_replica *r, uint64_t *sequence, struct wfs_err *err)
{
	struct wfs_commit c;
	int ret;

	ret = wfs_follow_look(r, &c, err);
	if (ret == 0)
		*sequence = c.sequence;
	return ret;
}

int wfs_replica_load(struct wfs_replica *r, uint64_t sequence, struct wfs_model **out, struct wfs_err *err)
{
	struct wfs_commit c;
	int ret;

	ret = wfs_follow_commit(r, sequence, &c, err);
	if (ret == -ENOENT && err && !err->msg[0])
		wfs_fail(err, ret, "the store has no version %" PRIu64, sequence);
	return ret < 0 ? ret : wfs_model_fetch(out, r, &c, true, err);
}

int wfs_replica_complete(struct wfs_replica *r, struct wfs_model *m, const struct wfs_progress *p,
			 struct wfs_err *err)
{
	int ret;

	ret = wfs_task_run(r, m, true, p, err);
	if (ret == 0)
		ret = wfs_model_check(m, err);
	if (ret == 0 && !wfs_model_probe(m))
		ret = wfs_fail(err, -EIO, "version %" PRIu64 " was built but is not complete: the cache lost blocks",
			       m->v.sequence);
	return ret;
}
