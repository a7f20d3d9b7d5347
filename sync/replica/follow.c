/* SPDX-License-Identifier: Apache-2.0 */
/*
 * follow.c - the store's newest version becomes the newest shown
 *
 * Steps of an update, each safe to be killed in: look (commits), load (version object, small
 * files), make room, fetch and build, check, remember the sequence, show.  A version begun is
 * finished before the newest is chosen, so a fast publisher cannot starve readers.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/log.h"

#define LOOKAHEAD_MAX	100000u			/* commits probed in one look */
#define RETRY_MIN_MS	1000u
#define RETRY_MAX_MS	60000u
#define ROOM_MS		1000u			/* between two looks for room */

/* ---- looking ---- */

static int new_run(struct wfs_replica *r, const struct wfs_run *run, struct wfs_err *err)
{
	int ret;

	if (r->run.s[0] && !r->o.accept_run)
		return wfs_fail(err, -ESTALE, "the store has run %s now, this cache follows run %s: if the new run is meant, "
				"mount with -o accept_run, which drops the old versions", run->s, r->run.s);
	if (r->run.s[0]) {
		log_warn("store has a new run %s: dropping the cache of run %s", run->s, r->run.s);
		wfs_replica_forget(r);
		wfs_served_sweep(r);
		ret = wfs_cache_wipe(&r->cache, err);
		if (ret < 0)
			return ret;
		memset(&r->highest, 0, sizeof(r->highest));
	}
	r->run = *run;
	return wfs_cache_run_store(&r->cache, run, err);
}

static int check_run(struct wfs_replica *r, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	struct wfs_run run;
	int ret;

	if (r->run_checked)
		return 0;
	ret = wfs_store_get_buf(&raw, r->store, "weightfs-store", WFS_STORE_INFO_MAX, true, &r->stop, err);
	if (ret == -ENOENT)
		return wfs_fail(err, ret, "%s is no store: it has no file weightfs-store, which the first publish makes; "
				"it is looked for again", wfs_store_url(r->store));
	if (ret < 0)
		return ret;			/* the store's message names the object */
	ret = wfs_store_info_parse(&run, raw.data, raw.len, err);
	if (ret < 0)
		return wfs_wrap(err, ret, "weightfs-store");
	if (strcmp(run.s, r->run.s) != 0)
		ret = new_run(r, &run, err);
	r->run_checked = ret == 0;
	return ret;
}

static int get_commit(struct wfs_replica *r, const char *name, struct wfs_commit *out, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	int ret;

	ret = wfs_store_get_buf(&raw, r->store, name, WFS_STORE_INFO_MAX, true, &r->stop, err);
	if (ret < 0)
		return ret;
	ret = wfs_commit_parse(out, raw.data, raw.len, err);
	if (ret == 0 && strcmp(out->run.s, r->run.s) != 0) {
		r->run_checked = false;		/* a store made anew: look at its run next time */
		ret = wfs_fail(err, -ESTALE, "is of run %s, not %s", out->run.s, r->run.s);
	}
	return ret < 0 ? wfs_wrap(err, ret, "%s", name) : 0;
}

int wfs_follow_commit(struct wfs_replica *r, uint64_t sequence, struct wfs_commit *out, struct wfs_err *err)
{
	char name[WFS_OBJECT_NAME];
	int ret;

	ret = check_run(r, err);
	if (ret < 0)
		return ret;
	wfs_commit_name(name, sequence);
	ret = get_commit(r, name, out, err);
	if (ret == 0 && out->sequence != sequence)
		ret = wfs_fail(err, -EBADMSG, "%s says it is %" PRIu64, name, out->sequence);
	return ret;
}

/* What was accepted once stays true: the store may not go back, nor say something else. */
static int check_highest(struct wfs_replica *r, struct wfs_err *err)
{
	struct wfs_commit now;
	int ret;

	ret = wfs_follow_commit(r, r->highest.sequence, &now, err);
	if (ret == -ENOENT)
		return wfs_fail(err, -ESTALE, "the store went back: version %" PRIu64 " was seen and is gone; keeping it",
				r->highest.sequence);
	if (ret == 0 && !wfs_digest_equal(&now.version, &r->highest.version))
		ret = wfs_fail(err, -ESTALE, "the store changed version %" PRIu64 ": it was %s and is now %s; keeping the first",
			       now.sequence, wfs_hex(&r->highest.version).s, wfs_hex(&now.version).s);
	return ret;
}

int wfs_follow_look(struct wfs_replica *r, struct wfs_commit *out, struct wfs_err *err)
{
	struct wfs_err hint_err = { "" };
	struct wfs_commit hint, next;
	uint64_t from;
	int ret, hint_ret;

	ret = check_run(r, err);
	if (ret < 0)
		return ret;
	hint_ret = get_commit(r, "latest", &hint, &hint_err);
	if (hint_ret < 0 && hint_ret != -ENOENT && hint_ret != -EBADMSG) {
		if (err)
			*err = hint_err;
		return hint_ret;
	}
	from = r->highest.sequence;
	ret = -ENOENT;
	if (hint_ret == 0 && hint.sequence > from) {
		ret = wfs_follow_commit(r, hint.sequence, out, err);
		if (ret == -ENOENT)		/* it is but a hint: the commits tell */
			hint_ret = wfs_fail(&hint_err, -EBADMSG, "latest names commits/%" PRIu64 ", which is not in the store",
					    hint.sequence);
		else
			from = hint.sequence;
	}
	if (from && from == r->highest.sequence) {
		ret = check_highest(r, err);
		*out = r->highest;
	}
	for (unsigned i = 0; i < LOOKAHEAD_MAX && (ret == 0 || (ret == -ENOENT && i == 0)); i++) {
		int found = wfs_follow_commit(r, ++from, &next, err);

		if (found == -ENOENT)
			break;
		if (found < 0)
			return found;
		*out = next;
		ret = 0;
	}
	if (ret == -ENOENT && hint_ret == -EBADMSG && err)
		*err = hint_err;
	return ret == -ENOENT && hint_ret == -EBADMSG ? hint_ret : ret;
}

/* ---- advancing ---- */

/* May m be shown before it is complete?  By choice, or while there is nothing else to show. */
static bool show_early(struct wfs_replica *r)
{
	bool complete = false;

	if (r->o.lazy || r->o.ready == WFS_READY_MANIFEST)
		return true;
	if (r->o.strict_ready)
		return false;
	pthread_mutex_lock(&r->lock);
	for (struct wfs_model *m = r->models; m; m = m->next)
		complete |= m->shown && m->complete;
	pthread_mutex_unlock(&r->lock);
	return !complete;
}

static int build(struct wfs_replica *r, struct wfs_model *m, const struct wfs_commit *c, bool *no_room,
		 struct wfs_err *err)
{
	struct wfs_err why = { "" };
	int ret;

	ret = wfs_evict(r, m, err);
	*no_room = ret == -ENOSPC;
	if (ret == 0 && r->o.ready == WFS_READY_DELTA && !m->shown) {
		ret = wfs_task_run(r, m, false, NULL, err);
		if (ret == 0)
			ret = wfs_replica_show(r, m, c, err);
	}
	if (ret == 0)
		ret = wfs_replica_complete(r, m, NULL, err);
	if (ret == 0 && r->o.link && !m->shown && wfs_served_make(m, &why) < 0)
		log_warn("%s: it is shown as a directory of the mount", why.msg);
	if (ret == 0)
		ret = wfs_replica_show(r, m, c, err);
	wfs_unreserve(r, m);
	if (ret == 0) {
		wfs_release_bases(m);
		ret = wfs_evict(r, NULL, err);
	}
	return ret;
}

/* Nothing tells when a reader lets go of a version or somebody cleans the disk, so look; until then
 * m is kept, and with it what it has been built of. */
static bool wait_for_room(struct wfs_replica *r, struct wfs_model *m)
{
	uint64_t until = wfs_now_ns() + RETRY_MAX_MS * 1000000ull;
	struct wfs_err err = { "" };

	while (!r->stop && wfs_now_ns() < until) {
		wfs_store_wait(r->store, ROOM_MS, &r->stop);
		wfs_served_sync(r);
		if (wfs_evict_again(r, m, &err))
			return true;
		if (err.msg[0])
			wfs_replica_problem(r, err.msg);	/* its figures change */
	}
	return false;
}

static void note(struct wfs_replica *r, int ret, const struct wfs_commit *c, const struct wfs_err *err)
{
	char old[sizeof(r->problem.msg)];

	pthread_mutex_lock(&r->lock);
	memcpy(old, r->problem.msg, sizeof(old));
	pthread_mutex_unlock(&r->lock);
	if (ret == -ECANCELED || r->stop)
		return;
	wfs_replica_problem(r, ret < 0 ? err->msg : "");
	if (ret < 0 && strcmp(old, err->msg) != 0)
		log_err("%s%s", err->msg, c->sequence ? "; what is shown stays" : "");
	else if (ret == 0 && old[0])
		log_info("over: %s", old);
}

static int advance(struct wfs_replica *r, const struct wfs_commit *c, struct wfs_err *err)
{
	struct wfs_model *m;
	bool no_room = false;
	int ret;

	ret = wfs_model_fetch(&m, r, c, true, err);
	if (ret < 0)
		return ret;
	if (show_early(r))
		ret = wfs_replica_show(r, m, c, err);
	if (ret == 0 && !r->o.lazy && !(m->shown && wfs_model_probe(m) && wfs_model_synced(m)))
		ret = build(r, m, c, &no_room, err);
	else if (ret == 0 && (r->o.lazy || !r->swept))
		ret = wfs_evict(r, NULL, err);	/* once too for who was killed at it */
	while (no_room) {
		note(r, ret, c, err);
		if (!wait_for_room(r, m))
			break;
		ret = build(r, m, c, &no_room, err);
	}
	r->swept |= ret == 0;
	wfs_model_put(m);
	return ret;
}

static unsigned jitter(unsigned ms)
{
	uint32_t x = 0;

	if (wfs_random(&x, sizeof(x)) < 0 || ms < 8)
		return ms;
	return ms - ms / 8 + x % (ms / 4);
}

/* The next version to work on: one begun, else the newest. */
static int choose(struct wfs_replica *r, struct wfs_commit *pending, struct wfs_err *err)
{
	struct wfs_commit newest;
	int ret;

	ret = wfs_follow_look(r, &newest, err);
	wfs_trouble_look(r, ret, err->msg);
	if (ret == 0 && (!pending->sequence || strcmp(pending->run.s, newest.run.s) != 0))
		*pending = newest;
	return ret;
}

/* Finished, or bad in itself, or too large: then the newest is looked for, which may be a repaired
 * one.  Only what is held up by the network or by memory is gone on with. */
static bool is_over(int ret)
{
	return ret != -ETIMEDOUT && ret != -ENETUNREACH && ret != -EAGAIN && ret != -ENOMEM;
}

void *wfs_follow_main(void *arg)
{
	struct wfs_replica *r = arg;
	struct wfs_commit pending = { .sequence = 0 };
	unsigned retry = RETRY_MIN_MS;
	uint64_t finished = 0;

	while (!r->stop) {
		struct wfs_err err = { "" };
		bool again, nothing;
		int ret;

		wfs_history_retry(r);
		ret = choose(r, &pending, &err);
		nothing = ret == -ENOENT;		/* published yet, or not even a store */
		if (ret == 0) {
			ret = advance(r, &pending, &err);
			note(r, ret, &pending, &err);
		}
		wfs_served_sync(r);
		/* After work there may be a newer one already: look at once. */
		again = ret == 0 && pending.sequence && pending.sequence != finished;
		finished = ret == 0 ? pending.sequence : finished;
		if (is_over(ret))
			pending.sequence = 0;
		if (again)
			continue;
		retry = ret < 0 && !nothing ? WFS_MIN(retry * 2, RETRY_MAX_MS) : RETRY_MIN_MS;
		wfs_store_wait(r->store, jitter(retry == RETRY_MIN_MS ? r->o.poll_ms : retry), &r->stop);
	}
	return NULL;
}
