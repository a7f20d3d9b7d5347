/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retry.c - one get, as many attempts as it takes
 *
 * An attempt that failed in a way that may pass is followed by another one behind the last byte
 * that the sink has had.  The pause doubles from BACKOFF_MIN to BACKOFF_MAX with jitter, so that
 * many readers do not come back at once, and starts over whenever something moved.
 *
 * "Nothing moved" means that an attempt brought less than WFS_STORE_MOVED_MIN new bytes: a server
 * that dribbles a byte a second for ever does not keep a get alive for ever.  Time during which
 * our own rate limit held the get back is not held against the server.
 *
 * A get may go on for minutes, so its trouble is told while it lasts.
 */
#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include "weightfs/base.h"
#include "weightfs/digest.h"
#include "store/backend.h"

#define MS 1000000ull
#define BACKOFF_MIN (200 * MS)
#define BACKOFF_MAX (30000 * MS)
#define RETRY_AFTER_MAX (60000 * MS)
#define MOMENT (2000 * MS)		/* a failure that took longer is told at once */

void wfs_store_count(struct wfs_store *st, uint64_t bytes)
{
	if (!bytes)
		return;
	atomic_fetch_add_explicit(&st->received, bytes, memory_order_relaxed);
	atomic_store_explicit(&st->last_progress, wfs_now_ns(), memory_order_relaxed);
	wfs_rate_charge(&st->rate, bytes);
}

int wfs_sleep(uint64_t ns, const atomic_bool *cancel)
{
	uint64_t end = wfs_now_ns() + ns, now;

	while (!wfs_is_set(cancel) && (now = wfs_now_ns()) < end) {
		uint64_t slice = WFS_MIN(end - now, WFS_STORE_SLICE_NS);
		struct timespec ts = { .tv_nsec = (long)slice };

		nanosleep(&ts, NULL);
	}
	return wfs_is_set(cancel) ? -ECANCELED : 0;
}

int wfs_attempt_hold(struct wfs_store *st, struct wfs_attempt *a)
{
	uint64_t start = wfs_now_ns(), debt;
	int r = 0;

	while (!a->get->demand && r == 0 && (debt = wfs_rate_debt_ns(&st->rate)) > 0)
		r = wfs_sleep(debt, a->get->cancel);
	a->held_ns += wfs_now_ns() - start;
	return r;
}

int wfs_attempt_size(struct wfs_attempt *a, uint64_t total, struct wfs_err *err)
{
	if (a->total != WFS_SIZE_UNKNOWN && total != a->total)
		return wfs_fail(err, -EBADMSG, "the object has %" PRIu64 " bytes instead of %" PRIu64, total, a->total);
	if (total > a->get->max)
		return wfs_fail(err, -EBADMSG, "the object has %" PRIu64 " bytes, the limit is %" PRIu64,
				total, a->get->max);
	a->total = total;
	return 0;
}

/* Too late once the sink has bytes of the range: then what is wanted is skipped to. */
void wfs_attempt_whole(struct wfs_attempt *a)
{
	if (!a->ranged || a->started)
		return;
	a->ranged = false;
	a->pos = 0;
	a->end = WFS_SIZE_UNKNOWN;
}

/* The function is called under the lock: what is told last is what is true. */
static void trouble(struct wfs_attempt *a, const char *why, uint64_t left_ns)
{
	struct wfs_store *st = a->st;

	pthread_mutex_lock(&st->trouble_lock);
	st->n_trouble += !a->told;
	a->told = true;
	if (st->trouble_fn)
		st->trouble_fn(st->trouble_arg, &(struct wfs_trouble){ a->get->name, why, left_ns / MS });
	pthread_mutex_unlock(&st->trouble_lock);
}

/* One that gave up has nothing good to tell: its error does. */
static void trouble_ends(struct wfs_attempt *a, bool well)
{
	struct wfs_store *st = a->st;

	if (!a->told)
		return;
	pthread_mutex_lock(&st->trouble_lock);
	a->told = false;
	if (--st->n_trouble == 0 && well && st->trouble_fn)
		st->trouble_fn(st->trouble_arg, &(struct wfs_trouble){ .name = a->get->name });
	pthread_mutex_unlock(&st->trouble_lock);
}

int wfs_attempt_deliver(struct wfs_attempt *a, uint64_t off, const void *data, size_t len,
			struct wfs_err *err)
{
	uint64_t limit = WFS_MIN(a->total, a->get->max);
	uint64_t from, to;
	int r;

	if (len > limit || off > limit - len)
		return wfs_fail(err, -EBADMSG, "more bytes than the expected %" PRIu64, limit);
	from = WFS_MAX(off, a->pos);
	to = WFS_MIN(off + len, a->end);
	if (from >= to)
		return 0;
	r = a->get->sink(a->get->arg, from, (const char *)data + (from - off), (size_t)(to - from));
	if (r < 0)
		return r;
	a->started = true;
	a->moved += to - from;
	a->pos = to;
	if (a->moved >= WFS_STORE_MOVED_MIN)
		trouble_ends(a, true);
	return 0;
}

static void attempt_init(struct wfs_attempt *a, struct wfs_store *st, const struct wfs_get *get)
{
	*a = (struct wfs_attempt) {
		.st = st,
		.told = a->told,
		.get = get,
		.ranged = get->len > 0,
		.pos = get->off,
		.end = get->len ? get->off + get->len : WFS_SIZE_UNKNOWN,
		.total = get->len ? get->max : WFS_SIZE_UNKNOWN,
	};
}

/* Half of it is certain, the other half is drawn. */
static uint64_t with_jitter(uint64_t ns)
{
	uint32_t x = 0;

	wfs_random(&x, sizeof(x));	/* without it: the shorter pause */
	return ns / 2 + (uint64_t)((double)(ns / 2) * x / UINT32_MAX);
}

static uint64_t pause_ns(const struct wfs_attempt *a, unsigned failures)
{
	uint64_t backoff = failures < 8 ? BACKOFF_MIN << failures : BACKOFF_MAX;
	uint64_t wish = WFS_MIN(a->retry_after_ms * MS, RETRY_AFTER_MAX);

	return WFS_MAX(with_jitter(WFS_MIN(backoff, BACKOFF_MAX)), wish);
}

static int give_up(const struct wfs_err *last, int code, unsigned tries, struct wfs_err *err)
{
	if (!last->msg[0])
		return code;		/* not there, cancelled, or the sink's own: no words */
	if (tries == 1)
		return wfs_fail(err, code, "%s", last->msg);
	return wfs_fail(err, code, "%s after %u tries", last->msg, tries);
}

static int attempt_once(struct wfs_store *st, struct wfs_attempt *a, struct wfs_err *err)
{
	int r;

	a->transient = false;
	a->retry_after_ms = 0;
	a->moved = a->held_ns = 0;
	r = wfs_attempt_hold(st, a);
	return r < 0 ? r : st->backend->get(st, a, err);
}

static int run(struct wfs_store *st, const struct wfs_get *get, bool start_over, struct wfs_attempt *a,
	       struct wfs_err *err)
{
	uint64_t moved_at = wfs_now_ns(), timeout = st->read_timeout_ms * MS;
	unsigned tries = 0, failures = 0;
	int r;

	attempt_init(a, st, get);
	for (;;) {
		struct wfs_err last = { 0 };
		uint64_t idle;

		r = attempt_once(st, a, &last);
		tries++;
		if (r == 0)
			return 0;
		if (!a->transient)
			return give_up(&last, r, tries, err);
		if (get->once)
			return give_up(&last, -ENETUNREACH, tries, err);

		moved_at += a->held_ns;
		if (a->moved >= WFS_STORE_MOVED_MIN && !start_over) {
			moved_at = wfs_now_ns();
			failures = 0;
		}
		idle = wfs_now_ns() - WFS_MIN(moved_at, wfs_now_ns());
		if (idle >= timeout)
			return give_up(&last, -ETIMEDOUT, tries, err);
		if (failures > 0 || idle >= MOMENT)
			trouble(a, last.msg, timeout - idle);
		r = wfs_sleep(WFS_MIN(pause_ns(a, failures++), timeout - idle), get->cancel);
		if (r < 0)
			return r;
		if (start_over)
			attempt_init(a, st, get);
	}
}

int wfs_store_run(struct wfs_store *st, const struct wfs_get *get, bool start_over, struct wfs_err *err)
{
	struct wfs_attempt a = { .told = false };
	int r = run(st, get, start_over, &a, err);

	trouble_ends(&a, r == 0);
	return r;
}
