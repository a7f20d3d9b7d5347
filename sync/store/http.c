/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.c - a store behind HTTP or HTTPS
 *
 * A get takes an idle link or makes one.  Redirects are followed here, so that a server leads us to
 * http and https only and never from https to http.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/link.h"
#include "weightfs/base.h"
#include "store/backend.h"
#include "store/http_head.h"

#define MS 1000000ull
#define IDLE_MAX 16u			/* kept connections */
#define REDIRECTS_MAX 5
#define REFUSAL_MAX (64u << 10)		/* bytes read of an error page to keep the connection */
#define RETRY_AFTER_MAX_S 3600		/* retry.c cuts further */

struct link {
	struct link *next;
	struct wfs_link *wire;
};

struct http {
	char *base;			/* URL without a slash at its end */
	pthread_mutex_t lock;		/* around idle */
	struct link *idle;
	unsigned n_idle;
};

#define ENOUGH 1			/* a callback ends the exchange, and all is well */

/* One question and its answer. */
struct exchange {
	struct wfs_store *st;
	struct wfs_attempt *a;
	struct wfs_err *err;
	struct wfs_http_ask ask;
	struct wfs_http_head head;
	struct wfs_http_body body;
	int verdict;			/* 0: not judged yet */
	int code;			/* why a callback ended it; 0: it did not, or enough is here */
	uint64_t skipped;		/* bytes of an error page */
	uint64_t since, moved;		/* the stall clock: bytes since then */
	bool paused;			/* the link keeps a piece of body until the rate limit is paid */
};

/* --- links --- */

static void link_free(struct link *l)
{
	if (!l)
		return;
	wfs_link_free(l->wire);
	free(l);
}

static struct link *link_take(struct http *h, const struct wfs_store *st)
{
	struct wfs_link_opts o = {
		.cacert = st->cacert, .connect_ms = st->connect_ms,
		/* a slow limit is kept to with small reads */
		.buffer = st->rate.rate && st->rate.rate < 1 << 20 ? 16384 : 262144,
	};
	struct link *l;

	pthread_mutex_lock(&h->lock);
	l = h->idle;
	if (l) {
		h->idle = l->next;
		h->n_idle--;
	}
	pthread_mutex_unlock(&h->lock);
	if (l)
		return l;

	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->wire = wfs_link_new(&o);
	if (l->wire)
		return l;
	link_free(l);
	return NULL;
}

static void link_give(struct http *h, struct link *l)
{
	pthread_mutex_lock(&h->lock);
	if (h->n_idle < IDLE_MAX) {
		l->next = h->idle;
		h->idle = l;
		h->n_idle++;
		l = NULL;
	}
	pthread_mutex_unlock(&h->lock);
	link_free(l);
}

/* --- callbacks --- */

/* What the sink takes is not the server's time: the clock is read after it. */
static void note_moved(struct exchange *x, size_t len, uint64_t sink_ns)
{
	x->moved += len;
	x->since += sink_ns;
	if (x->moved >= WFS_STORE_MOVED_MIN) {
		x->since = wfs_now_ns();
		x->moved = 0;
	}
}

static enum wfs_link_more on_head(void *arg, const char *data, size_t len)
{
	struct exchange *x = arg;

	wfs_store_count(x->st, len);
	note_moved(x, len, 0);
	wfs_http_head_line(&x->head, data, len);
	if (x->head.bytes <= WFS_HTTP_HEAD_MAX)
		return WFS_LINK_GO;
	x->code = wfs_fail(x->err, -EBADMSG, "the server's headers are longer than %u bytes", WFS_HTTP_HEAD_MAX);
	return WFS_LINK_STOP;
}

static void judge(struct exchange *x)
{
	x->verdict = wfs_http_judge(&x->head, &x->ask, &x->body, x->err);
	if (x->verdict != WFS_HTTP_BODY)
		return;
	if (x->head.status == 200 && x->a->ranged)
		wfs_attempt_whole(x->a);
	if (x->body.total != WFS_HTTP_UNKNOWN) {
		int r = wfs_attempt_size(x->a, x->body.total, x->err);

		if (r < 0)
			x->verdict = r;
	}
}

static int take_body(struct exchange *x, const char *data, size_t len)
{
	int r;

	/* The whole object comes although the range was begun: the rest is not wanted. */
	if (x->a->ranged && wfs_attempt_done(x->a) && x->head.status == 200)
		return ENOUGH;
	if (len > x->body.end - x->body.off)
		return wfs_fail(x->err, -EBADMSG, "the server sends more than it announced");
	r = wfs_attempt_deliver(x->a, x->body.off, data, len, x->err);
	x->body.off += len;
	return r;
}

static enum wfs_link_more on_body(void *arg, const char *data, size_t len)
{
	struct exchange *x = arg;
	uint64_t start;

	x->paused = !x->a->get->demand && wfs_rate_debt_ns(&x->st->rate) > 0;
	if (x->paused)
		return WFS_LINK_PAUSE;
	wfs_store_count(x->st, len);
	if (!x->verdict)
		judge(x);
	if (x->verdict != WFS_HTTP_BODY) {
		note_moved(x, len, 0);
		x->skipped += len;
		return x->skipped <= REFUSAL_MAX && x->verdict != -EBADMSG ? WFS_LINK_GO : WFS_LINK_STOP;
	}
	start = wfs_now_ns();
	x->code = take_body(x, data, len);
	note_moved(x, len, wfs_now_ns() - start);
	if (x->code == 0)
		return WFS_LINK_GO;
	if (x->code == ENOUGH)
		x->code = 0;
	return WFS_LINK_STOP;
}

/* --- one exchange --- */

static int on_idle(void *arg)
{
	struct exchange *x = arg;

	if (wfs_now_ns() <= x->since + x->st->stall_ms * MS)
		return 0;
	x->a->transient = true;
	return wfs_fail(x->err, -ETIMEDOUT, "the server is silent or sends less than %u bytes in %u ms",
			WFS_STORE_MOVED_MIN, x->st->stall_ms);
}

/* Wait for what we hold up ourselves: that is not the server's time. */
static int on_go(void *arg)
{
	struct exchange *x = arg;
	uint64_t held = x->a->held_ns;
	bool was_paused = x->paused;

	if (wfs_is_set(x->a->get->cancel) || wfs_attempt_hold(x->st, x->a) < 0)
		return -ECANCELED;
	x->since += x->a->held_ns - held;
	x->paused = false;
	return was_paused;
}

/* The body ended as the protocol says it ends.  Is it all? */
static int end_of_body(struct exchange *x)
{
	struct wfs_attempt *a = x->a;

	if (x->head.status == 200 && x->head.chunked) {
		int r = wfs_attempt_size(a, x->body.off, x->err);

		if (r < 0)
			return r;
	}
	if (wfs_attempt_done(a) || (!a->ranged && a->total == WFS_SIZE_UNKNOWN))
		return 0;
	a->transient = true;		/* HTTP/1.0 ends a body by closing, also when it breaks */
	return wfs_fail(x->err, -EIO, "the connection ended at byte %" PRIu64, a->pos);
}

static unsigned retry_after_ms(const char *text)
{
	char *end;
	unsigned long s = strtoul(text, &end, 10);
	time_t now = time(NULL), at;

	if (!text[0])
		return 0;
	if (*end) {
		at = wfs_link_date(text);
		s = at > now ? (unsigned long)(at - now) : 0;
	}
	return (unsigned)WFS_MIN(s, (unsigned long)RETRY_AFTER_MAX_S) * 1000;
}

static int conclude(struct exchange *x)
{
	if (!x->verdict)
		judge(x);
	switch (x->verdict) {
	case WFS_HTTP_BODY:
		return end_of_body(x);
	case WFS_HTTP_COMPLETE:
		return 0;
	case WFS_HTTP_LATER:
		x->a->transient = true;
		x->a->retry_after_ms = retry_after_ms(x->head.retry_after);
		return -EIO;
	}
	return x->verdict;
}

static const char *range_of(struct exchange *x, char out[48])
{
	const struct wfs_attempt *a = x->a;

	x->ask.ranged = a->ranged || a->pos > 0;
	x->ask.first = a->pos;
	x->ask.last = a->ranged ? a->end - 1 : WFS_HTTP_UNKNOWN;
	if (x->ask.last == WFS_HTTP_UNKNOWN)
		snprintf(out, 48, "%" PRIu64 "-", x->ask.first);
	else
		snprintf(out, 48, "%" PRIu64 "-%" PRIu64, x->ask.first, x->ask.last);
	return x->ask.ranged ? out : NULL;
}

/* A code, or WFS_HTTP_REDIRECT. */
static int exchange(struct exchange *x, struct http *h, const char *url)
{
	static const char *const fresh[] = { "Cache-Control: no-cache", NULL };
	struct link *l = link_take(h, x->st);
	bool transient, unreached;
	char range[48];
	struct wfs_link_ask ask = {
		.url = url, .range = range_of(x, range), .headers = x->a->get->fresh ? fresh : NULL,
		.head = on_head, .take = on_body, .go = on_go, .idle = on_idle, .arg = x,
	};
	int r;

	if (!l)
		return wfs_fail(x->err, -ENOMEM, "out of memory");
	wfs_http_head_init(&x->head);
	x->verdict = x->code = 0;
	x->paused = false;
	x->skipped = x->moved = 0;
	x->since = wfs_now_ns();
	r = wfs_link_run(l->wire, &ask, &transient, &unreached, x->err);
	x->a->transient |= transient;
	if (r == 0)
		r = conclude(x);
	else if (r == 1)		/* ended by a callback */
		r = x->code || x->verdict == WFS_HTTP_BODY ? x->code : conclude(x);
	link_give(h, l);
	return r;
}

static int http_get(struct wfs_store *st, struct wfs_attempt *a, struct wfs_err *err)
{
	struct http *h = st->priv;
	WFS_AUTO(wfs_free_ptr) char *url = NULL;
	struct exchange x = { .st = st, .a = a, .err = err };

	if (asprintf(&url, "%s/%s", h->base, a->get->name) < 0) {
		url = NULL;
		return wfs_fail(err, -ENOMEM, "out of memory");
	}
	for (int hops = 0;; hops++) {
		int r = exchange(&x, h, url);

		if (r != WFS_HTTP_REDIRECT)
			return r;
		if (hops == REDIRECTS_MAX)
			return wfs_fail(err, -EBADMSG, "more than %d redirects", REDIRECTS_MAX);
		r = wfs_link_follow(&url, x.head.location, err);
		if (r < 0)
			return r;
	}
}

/* --- opening --- */

static void http_close(struct wfs_store *st)
{
	struct http *h = st->priv;

	while (h->idle) {
		struct link *l = h->idle;

		h->idle = l->next;
		link_free(l);
	}
	pthread_mutex_destroy(&h->lock);
	free(h->base);
	free(h);
}

static const struct wfs_backend http_backend = { .close = http_close, .get = http_get };

int wfs_http_open(struct wfs_store *st, const char *url, struct wfs_err *err)
{
	struct http *h;
	int r;

	r = wfs_http_check_url(url, err);
	if (r < 0)
		return r;
	if (st->cacert && access(st->cacert, R_OK) < 0)
		return wfs_fail_sys(err, "certificates %s", st->cacert);
	h = calloc(1, sizeof(*h));
	if (!h)
		return wfs_fail(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&h->lock, NULL);
	st->priv = h;
	st->backend = &http_backend;	/* closes h from here on */
	r = wfs_link_url(&h->base, url, err);
	if (r < 0)
		return wfs_wrap(err, r, "the store's URL");
	st->url = strdup(h->base);
	return st->url ? 0 : wfs_fail(err, -ENOMEM, "out of memory");
}
