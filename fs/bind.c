/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bind.c - the rules by which a process gets a version and keeps it
 *
 * A walk of a process that has a version costs a look into the table and a poll of its pidfd.
 * /proc is read when a process is new, begins another load, or walks in a thread that is not its
 * first; never with the lock held, but for the few processes without a pidfd.
 *
 * What is newest is asked for with the lock held: so a slot that is opened after bind_close holds at
 * least the version that was announced before it.
 *
 * Lock: bind->lock, outside of the replica's.
 */
#include <pthread.h>
#include <stdlib.h>

#include "bind.h"
#include "bind_table.h"
#include "weightfs/base.h"
#include "weightfs/log.h"

#define COMPLAIN_NS	10000000000ull	/* between two lines of a kind */

struct bind {
	pthread_mutex_t lock;
	struct wfs_replica *replica;
	enum bind_mode mode;
	bool blind;			/* /proc would tell us of others than those who ask */
	uint64_t linger_ns, join_ns;
	struct bind_table table;
	struct wfs_model *unseen;	/* rule e */
	uint64_t unseen_ns;		/* since when */
	uint64_t dropped, full_said_ns, hidden_said_ns;
};

struct bind *bind_new(struct wfs_replica *replica, const struct bind_opts *o)
{
	struct bind *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	pthread_mutex_init(&b->lock, NULL);
	b->replica = replica;
	b->mode = o->mode;
	b->linger_ns = (uint64_t)o->linger_ms * 1000000u;
	b->join_ns = (uint64_t)o->join_ms * 1000000u;
	b->blind = !proc_is_ours();
	if (b->blind)
		log_warn("/proc is of another pid namespace than this daemon: all callers share one version at a time");
	table_init(&b->table);
	return b;
}

void bind_free(struct bind *b)
{
	if (!b)
		return;
	wfs_model_put(b->unseen);
	table_free(&b->table);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static bool may_say(uint64_t *said_ns, uint64_t now)
{
	if (*said_ns && now - *said_ns < COMPLAIN_NS)
		return false;
	*said_ns = now;
	return true;
}

/* The process that tid is the first thread of, if it is known and lives. */
static struct bind_key find_leader(struct bind *b, pid_t tid)
{
	struct bind_key key = { 0 };
	struct known *k;

	pthread_mutex_lock(&b->lock);
	k = known_of_pid(&b->table, tid);
	if (k && k->pidfd >= 0 && known_alive(k))
		key = k->key;
	pthread_mutex_unlock(&b->lock);
	return key;
}

static void say_hidden(struct bind *b, pid_t tid)
{
	bool say;

	pthread_mutex_lock(&b->lock);
	say = may_say(&b->hidden_said_ns, wfs_now_ns());
	pthread_mutex_unlock(&b->lock);
	if (say)
		log_warn("a caller (thread %d) is not in /proc: it has ended, or /proc is mounted with hidepid; "
			 "all such callers share one version at a time", (int)tid);
}

struct bind_key bind_caller(struct bind *b, pid_t tid)
{
	struct bind_key key = { 0 };

	if (tid <= 0 || b->blind || b->mode == BIND_NONE)
		return key;
	key = find_leader(b, tid);
	if (!key.pid)
		key = proc_of_thread(tid);
	if (!key.pid)
		say_hidden(b, tid);
	return key;
}

/* ---- the rules ---- */

static bool within(uint64_t since, uint64_t length, uint64_t now)
{
	return now - since < length;
}

static uint64_t ago(uint64_t now, uint64_t length)
{
	return now > length ? now - length : 0;
}

static bool is_bound(const struct bind *b, const struct known *k, uint64_t now)
{
	return k->model && within(k->used_ns, b->linger_ns, now);
}

/* Rule a.  Ends a binding whose time is over. */
static struct wfs_model *keep(struct bind *b, struct known *k, uint64_t now)
{
	if (!is_bound(b, k, now)) {
		known_unbind(&b->table, k);
		return NULL;
	}
	k->used_ns = now;
	return wfs_model_get(k->model);
}

/* Rule b, the first half. */
static struct known *bound_ancestor(struct bind *b, const struct job *job, uint64_t start, uint64_t now)
{
	for (unsigned i = 1; i < job->n; i++) {
		struct known *k = known_find(&b->table, job->chain[i]);

		if (k && is_bound(b, k, now) && start < k->closed)
			return k;
	}
	return NULL;
}

/* Rule b for a load that began at `start` ticks.  What an ancestor hands down opens a slot too: the
 * ancestor's time may be over when the next rank comes. */
static struct wfs_model *choose(struct bind *b, const struct job *job, uint64_t start, uint64_t now,
				struct slot **joined)
{
	struct known *from = bound_ancestor(b, job, start, now);
	struct slot *slot = slot_find(&b->table, job->id, start, ago(now, b->linger_ns),
				      ago(now, b->join_ns));
	struct wfs_model *m;

	m = from ? wfs_model_get(from->model) : slot ? wfs_model_get(slot->model) :
	    wfs_replica_latest(b->replica);
	if (m && !slot) {
		slot = slot_open(&b->table, job->id, m, now);
		if (slot && from)
			slot->closed = from->closed;
	}
	*joined = slot && slot->model == m ? slot : NULL;
	return m;
}

/* The answer for k, which has none: chosen, and kept from now on. */
static struct wfs_model *begin(struct bind *b, const struct job *job, struct known *k, uint64_t start,
			       uint64_t now)
{
	struct slot *slot = NULL;
	struct wfs_model *m = b->mode == BIND_PROCESS ? wfs_replica_latest(b->replica) :
			      choose(b, job, start, now, &slot);

	if (!m)
		return NULL;
	known_bind(&b->table, k, wfs_model_get(m));
	k->used_ns = now;
	if (slot)
		slot_use(slot, k);
	return m;
}

/* A process that had a version before begins its next load now, whenever it was started. */
static struct wfs_model *begin_locked(struct bind *b, struct bind_key key, const struct job *job,
				      struct bind_key *dropped)
{
	struct known *k = known_find(&b->table, key);
	uint64_t now = wfs_now_ns(), start = k ? proc_ticks() : key.start;
	struct wfs_model *m = k ? keep(b, k, now) : NULL;	/* another thread of it was faster */

	if (m)
		return m;
	if (!k)
		k = known_add(&b->table, key, dropped);
	if (!k)
		return wfs_replica_latest(b->replica);	/* unbound is better than nothing */
	b->dropped += dropped->pid != 0;
	return begin(b, job, k, start, now);
}

/* Rule e: use does not extend it, or a busy container would never see a new version. */
static struct wfs_model *latest_of_unseen(struct bind *b)
{
	uint64_t now = wfs_now_ns();
	struct wfs_model *m;

	pthread_mutex_lock(&b->lock);
	if (!b->unseen || !within(b->unseen_ns, b->linger_ns, now)) {
		wfs_model_put(b->unseen);
		b->unseen = wfs_replica_latest(b->replica);
		b->unseen_ns = now;
	}
	m = b->unseen ? wfs_model_get(b->unseen) : NULL;
	pthread_mutex_unlock(&b->lock);
	return m;
}

static void find_job(struct bind *b, struct job *job, struct bind_key key)
{
	if (b->mode == BIND_PROCESS)
		*job = (struct job){ .n = 1, .chain = { key } };
	else
		job_of(job, key, b->mode == BIND_CGROUP ? JOB_CGROUP : JOB_CLIMB);
}

static void say_dropped(struct bind *b, struct bind_key who)
{
	bool say;

	if (!who.pid)
		return;
	pthread_mutex_lock(&b->lock);
	say = may_say(&b->full_said_ns, wfs_now_ns());
	pthread_mutex_unlock(&b->lock);
	if (say)
		log_warn("more than %u processes use latest: the version of process %d was let go, which of its "
			 "user's was not used for longest; if it is still loading, it may see another one", BIND_MAX, (int)who.pid);
}

struct wfs_model *bind_latest(struct bind *b, struct bind_key key)
{
	struct bind_key dropped = { 0 };
	struct wfs_model *m = NULL;
	struct known *k;
	struct job job;

	if (b->mode == BIND_NONE)
		return wfs_replica_latest(b->replica);
	if (!key.pid)
		return latest_of_unseen(b);
	pthread_mutex_lock(&b->lock);
	k = known_find(&b->table, key);
	if (k)
		m = keep(b, k, wfs_now_ns());
	pthread_mutex_unlock(&b->lock);
	if (m)
		return m;

	find_job(b, &job, key);
	pthread_mutex_lock(&b->lock);
	m = begin_locked(b, key, &job, &dropped);
	pthread_mutex_unlock(&b->lock);
	say_dropped(b, dropped);
	return m;
}

void bind_touch(struct bind *b, struct bind_key key, uint64_t sequence)
{
	uint64_t now = wfs_now_ns();
	struct known *k;

	if (!key.pid)
		return;
	pthread_mutex_lock(&b->lock);
	k = known_find(&b->table, key);
	if (k && is_bound(b, k, now) && wfs_model_version(k->model)->sequence == sequence)
		k->used_ns = now;
	pthread_mutex_unlock(&b->lock);
}

/* ---- the end of bindings ---- */

static void end_unseen(struct bind *b)
{
	wfs_model_put(b->unseen);
	b->unseen = NULL;
}

static void end_version(struct bind *b, struct bind_key key)
{
	struct known *k = key.pid ? known_find(&b->table, key) : NULL;

	if (k)
		known_unbind(&b->table, k);
}

/* The caller asked by itself, and a shell for what its user types next: their own versions end.
 * Ancestors may be in the middle of a load: they keep theirs, but do not hand it down any more. */
static void close_job(struct bind *b, const struct job *job, uint64_t ticks)
{
	slot_close(&b->table, job->id, ticks);
	end_version(b, job->chain[0]);
	for (unsigned i = 1; i < job->n; i++) {
		struct known *k = known_find(&b->table, job->chain[i]);

		if (k)
			k->closed = WFS_MIN(k->closed, ticks);
	}
	end_version(b, job->shell);
	if (job->shell.pid)
		slot_close(&b->table, job->shell_id, ticks);
}

void bind_close(struct bind *b, struct bind_key key)
{
	struct job job;

	if (b->mode == BIND_NONE)
		return;
	if (key.pid)
		find_job(b, &job, key);
	pthread_mutex_lock(&b->lock);
	if (key.pid)
		close_job(b, &job, proc_ticks());
	else
		end_unseen(b);
	pthread_mutex_unlock(&b->lock);
}

void bind_sweep(struct bind *b)
{
	uint64_t now = wfs_now_ns();

	pthread_mutex_lock(&b->lock);
	table_sweep(&b->table, ago(now, b->linger_ns), ago(now, b->join_ns));
	if (!within(b->unseen_ns, b->linger_ns, now))
		end_unseen(b);
	pthread_mutex_unlock(&b->lock);
}

void bind_count(struct bind *b, struct bind_counts *out)
{
	pthread_mutex_lock(&b->lock);
	*out = (struct bind_counts){ .processes = b->table.n_bound, .jobs = b->table.n_slots,
				     .dropped = b->dropped };
	pthread_mutex_unlock(&b->lock);
}
