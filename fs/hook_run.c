/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook_run.c - the life of the hooks of a mount: a thread for each
 *
 * A hook asks the daemon for the newest version above the one it knows, and the daemon holds that one
 * for it; tells it; and says how that went.  Versions that come meanwhile are never seen: the next
 * question gets the newest.  An engine that is not there is asked again until it is; one that refuses
 * a version gets the next one.
 */
#include "hook_run.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "hook.h"
#include "weightfs/base.h"
#include "weightfs/log.h"

#define ANSWER_MS	10000u
#define WAIT_MS		3600000u	/* a question stands so long, then it is asked anew */
#define AWAY_MIN_MS	1000u		/* until who is not there, an engine or the daemon, is asked again */
#define AWAY_MAX_MS	60000u

struct teller {
	struct crew *crew;
	const struct hook *h;
	pthread_t thread;
	int fd;				/* of the question that stands; -1 */
	bool begun;			/* last is what the daemon knows of it */
	struct event last;		/* what the engine has; sequence 0: unknown */
	bool good;			/* --once: it was told */
};

struct crew {
	const struct client *client;
	bool once;
	atomic_bool stopping, cancel;
	pthread_mutex_t lock;		/* around every teller's fd, and running */
	unsigned running, n;
	struct teller teller[HOOKS_MAX];
};

/* ---- talking to the daemon ---- */

/* Remember the descriptor, so that crew_stop can end the wait; false: it is time to end. */
static bool set_fd(struct teller *t, int fd)
{
	bool go;

	pthread_mutex_lock(&t->crew->lock);
	go = fd < 0 || !atomic_load(&t->crew->stopping);
	t->fd = go ? fd : -1;
	pthread_mutex_unlock(&t->crew->lock);
	return go;
}

/* 1: an event, 0: none.  -ECANCELED: to end.  A daemon that ends closes the main connection too, and then
 * we are told to; until that, it was only too busy for us. */
static int ask(struct teller *t, const char *question, struct event *e, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf line = WFS_BUF_INIT;
	int fd = client_open(t->crew->client, question, err), r = -ECANCELED;

	if (fd < 0)
		return fd;
	if (set_fd(t, fd))
		r = client_line(&line, fd, -1, err);
	set_fd(t, -1);
	close(fd);
	if (r <= 0 && atomic_load(&t->crew->stopping))
		return -ECANCELED;
	if (r <= 0)
		return r < 0 ? r : wfs_fail(err, -EPIPE, "the daemon closed the connection");
	r = event_parse(e, line.data, line.len, err);
	return r == 0 ? !e->end && !e->none : r;
}

static int ask_next(struct teller *t, uint64_t above, struct event *e, struct wfs_err *err)
{
	char question[128];

	snprintf(question, sizeof(question), "hook %s next %" PRIu64 " %u", t->h->name, above, t->crew->once ? 0 : WAIT_MS);
	return ask(t, question, e, err);
}

static int ask_last(struct teller *t, uint64_t *above, struct wfs_err *err)
{
	char question[64];
	struct event e;
	int r;

	snprintf(question, sizeof(question), "hook %s last", t->h->name);
	r = ask(t, question, &e, err);
	if (r == 1)
		t->last = e;
	t->begun = r >= 0;
	*above = t->h->at_start || t->crew->once ? 0 : t->last.sequence;
	return r < 0 ? r : 0;
}

__attribute__((format(printf, 2, 3)))
static void say(const struct teller *t, const char *fmt, ...)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
	struct wfs_err err = { 0 };
	char line[900];
	va_list ap;
	int n = snprintf(line, sizeof(line), "hook %s ", t->h->name);

	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, ap);
	va_end(ap);
	if (client_call(&out, t->crew->client, line, ANSWER_MS, &err) < 0)
		log_warn("hook %s: the daemon was not told: %s", t->h->name, err.msg);
}

/* ---- one hook ---- */

/* Takes e over.  0, or a code with *away: nobody was there. */
static int tell(struct teller *t, struct event *e, bool *away)
{
	struct hook_run run = { .h = t->h, .mount = t->crew->client->point, .cancel = &t->crew->cancel };
	uint64_t start = wfs_now_ns();
	struct wfs_err err = { 0 };
	int r;

	r = hook_tell(&run, e, t->last.sequence && t->last.sequence != e->sequence ? &t->last : NULL, away, &err);
	if (r < 0) {
		log_err("hook %s: version %" PRIu64 ": %s", t->h->name, e->sequence, err.msg);
		say(t, "failed %s", err.msg);
		event_free(e);
		return r;
	}
	log_info("hook %s: version %" PRIu64 " told in %.2f s", t->h->name, e->sequence, (double)(wfs_now_ns() - start) / 1e9);
	say(t, "told %" PRIu64, e->sequence);
	event_free(&t->last);
	t->last = *e;
	return 0;
}

static int wait_away(struct crew *c, unsigned *ms)
{
	int r = hook_pause(*ms, &c->stopping);

	*ms = WFS_MIN(*ms * 2, AWAY_MAX_MS);
	return r;
}

static int step(struct teller *t, uint64_t *above, unsigned *away_ms, struct wfs_err *err)
{
	struct event e;
	uint64_t sequence;
	bool away;
	int r = t->begun ? 0 : ask_last(t, above, err);

	if (r == 0)
		r = ask_next(t, *above, &e, err);
	if (r <= 0)
		return r;
	if (atomic_load(&t->crew->stopping)) {
		event_free(&e);
		return -ECANCELED;
	}
	sequence = e.sequence;
	r = tell(t, &e, &away);
	t->good = r == 0;
	if (r < 0 && away && !t->crew->once) {
		wait_away(t->crew, away_ms);
		return 0;
	}
	*above = sequence;
	*away_ms = AWAY_MIN_MS;
	return 0;
}

/* The daemon did not answer a question.  A hook that ended for that would be missed by nobody. */
static int refused(struct teller *t, unsigned *ms, const struct wfs_err *err)
{
	int r = wait_away(t->crew, ms);

	if (r == 0)
		log_warn("hook %s: asking again: %s", t->h->name, err->msg);
	return r;
}

static void *teller_main(void *arg)
{
	struct teller *t = arg;
	struct crew *c = t->crew;
	unsigned away_ms = AWAY_MIN_MS, refused_ms = AWAY_MIN_MS;
	struct wfs_err err = { 0 };
	uint64_t above = 0;
	int r;

	do {
		r = step(t, &above, &away_ms, &err);
		if (r == 0)
			refused_ms = AWAY_MIN_MS;
		else if (r != -ECANCELED && !c->once)
			r = refused(t, &refused_ms, &err);
	} while (r == 0 && !c->once && !atomic_load(&c->stopping));
	if (r < 0 && r != -ECANCELED)
		log_err("hook %s: %s", t->h->name, err.msg);
	else if (c->once && !t->good && r == 0 && !above)
		log_err("hook %s: there is no version yet", t->h->name);
	event_free(&t->last);
	pthread_mutex_lock(&c->lock);
	c->running--;
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* ---- all of them ---- */

int crew_start(struct crew **out, const struct client *client, const struct hook_list *l, bool once, struct wfs_err *err)
{
	struct crew *c = calloc(1, sizeof(*c));
	int r = 0;

	if (!c)
		return wfs_fail(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&c->lock, NULL);
	c->client = client;
	c->once = once;
	for (size_t i = 0; r == 0 && i < l->n; i++) {
		c->teller[i] = (struct teller){ .crew = c, .h = &l->v[i], .fd = -1 };
		pthread_mutex_lock(&c->lock);
		r = -pthread_create(&c->teller[i].thread, NULL, teller_main, &c->teller[i]);
		c->running += r == 0;
		c->n += r == 0;
		pthread_mutex_unlock(&c->lock);
	}
	if (r < 0) {
		wfs_fail(err, r, "a thread: %s", strerror(-r));
		crew_stop(c);
		crew_free(c);
		return r;
	}
	*out = c;
	return 0;
}

void crew_stop(struct crew *c)
{
	pthread_mutex_lock(&c->lock);
	atomic_store(&c->stopping, true);
	for (size_t i = 0; i < c->n; i++)
		if (c->teller[i].fd >= 0)
			shutdown(c->teller[i].fd, SHUT_RDWR);
	pthread_mutex_unlock(&c->lock);
}

void crew_cancel(struct crew *c)
{
	atomic_store(&c->cancel, true);
}

bool crew_done(struct crew *c)
{
	bool done;

	pthread_mutex_lock(&c->lock);
	done = c->running == 0;
	pthread_mutex_unlock(&c->lock);
	return done;
}

bool crew_free(struct crew *c)
{
	bool good = true;

	for (size_t i = 0; i < c->n; i++) {
		pthread_join(c->teller[i].thread, NULL);
		good &= c->teller[i].good;
	}
	pthread_mutex_destroy(&c->lock);
	free(c);
	return good;
}
