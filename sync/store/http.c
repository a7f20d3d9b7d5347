/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.c - a store behind HTTP or HTTPS; the only user of curl
 *
 * A link is one easy handle in a multi handle of its own, which keeps its connection alive; a get takes
 * an idle one or makes one.  The multi interface lets a get look at its cancel flag while the
 * server, or its name, does not answer.
 *
 * What curl could do by itself and does not: redirects (followed here, so that a server leads us
 * to http and https only and never from https to http), decompression, netrc, cookies, proxies from
 * the environment, HTTP/2 (one object a connection needs none of it).
 */
#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "weightfs/base.h"
#include "store/backend.h"
#include "store/http_head.h"

#define MS 1000000ull
#define POLL_MS 200			/* how long a poll may overlook a cancel flag */
#define IDLE_MAX 16u			/* kept connections */
#define REDIRECTS_MAX 5
#define REFUSAL_MAX (64u << 10)		/* bytes read of an error page to keep the connection */
#define RETRY_AFTER_MAX_S 3600		/* retry.c cuts further */

struct link {
	struct link *next;
	CURLM *multi;
	CURL *easy;
	char why[CURL_ERROR_SIZE];
};

struct http {
	char *base;			/* URL without a slash at its end */
	struct curl_slist *fresh;	/* headers; only read */
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
	bool paused;			/* curl keeps a piece of body until the rate limit is paid */
};

/* --- links --- */

static void link_free(struct link *l)
{
	if (!l)
		return;
	if (l->easy)
		curl_easy_cleanup(l->easy);
	if (l->multi)
		curl_multi_cleanup(l->multi);
	free(l);
}

static size_t on_head(char *data, size_t one, size_t len, void *arg);
static size_t on_body(char *data, size_t one, size_t len, void *arg);

static void set_link_options(struct link *l, const struct wfs_store *st)
{
	CURL *e = l->easy;

	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(e, CURLOPT_PROXY, "");
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_HTTP_CONTENT_DECODING, 0L);
	curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
	if (st->cacert)
		curl_easy_setopt(e, CURLOPT_CAINFO, st->cacert);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)st->connect_ms);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);	/* never wait for a name server that is silent */
	curl_easy_setopt(e, CURLOPT_USERAGENT, "weightfs/" WFS_VERSION);
	/* A slow limit is kept to with small reads. */
	curl_easy_setopt(e, CURLOPT_BUFFERSIZE, st->rate.rate && st->rate.rate < 1 << 20 ? 16384L : 262144L);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, l->why);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_head);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
}

static struct link *link_take(struct http *h, const struct wfs_store *st)
{
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
	l->multi = curl_multi_init();
	l->easy = curl_easy_init();
	if (!l->multi || !l->easy) {
		link_free(l);
		return NULL;
	}
	set_link_options(l, st);
	return l;
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

static size_t on_head(char *data, size_t one, size_t len, void *arg)
{
	struct exchange *x = arg;

	(void)one;			/* 1 by definition */
	wfs_store_count(x->st, len);
	note_moved(x, len, 0);
	wfs_http_head_line(&x->head, data, len);
	if (x->head.bytes <= WFS_HTTP_HEAD_MAX)
		return len;
	x->code = wfs_fail(x->err, -EBADMSG, "the server's headers are longer than %u bytes", WFS_HTTP_HEAD_MAX);
	return 0;
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

static size_t on_body(char *data, size_t one, size_t len, void *arg)
{
	struct exchange *x = arg;
	uint64_t start;

	(void)one;
	x->paused = !x->a->get->demand && wfs_rate_debt_ns(&x->st->rate) > 0;
	if (x->paused)
		return CURL_WRITEFUNC_PAUSE;
	wfs_store_count(x->st, len);
	if (!x->verdict)
		judge(x);
	if (x->verdict != WFS_HTTP_BODY) {
		note_moved(x, len, 0);
		x->skipped += len;
		return x->skipped <= REFUSAL_MAX && x->verdict != -EBADMSG ? len : 0;
	}
	start = wfs_now_ns();
	x->code = take_body(x, data, len);
	note_moved(x, len, wfs_now_ns() - start);
	if (x->code == 0)
		return len;
	if (x->code == ENOUGH)
		x->code = 0;
	return 0;
}

/* --- one exchange --- */

static int stalled(struct exchange *x)
{
	x->a->transient = true;
	return wfs_fail(x->err, -ETIMEDOUT, "the server is silent or sends less than %u bytes in %u ms",
			WFS_STORE_MOVED_MIN, x->st->stall_ms);
}

/* Wait for what we hold up ourselves: that is not the server's time. */
static int hold(struct exchange *x, struct link *l)
{
	uint64_t held = x->a->held_ns;
	CURLcode c = CURLE_OK;

	if (wfs_is_set(x->a->get->cancel) || wfs_attempt_hold(x->st, x->a) < 0)
		return -ECANCELED;
	x->since += x->a->held_ns - held;
	if (x->paused) {
		x->paused = false;
		c = curl_easy_pause(l->easy, CURLPAUSE_CONT);	/* calls on_body */
	}
	return c == CURLE_OK ? 0 : (int)c + 1;
}

/* Until curl is done.  A positive return is its result + 1. */
static int drive(struct exchange *x, struct link *l)
{
	for (;;) {
		int running = 0, left, r = hold(x, l);
		CURLMsg *m;

		if (r != 0)
			return r;
		if (curl_multi_perform(l->multi, &running) != CURLM_OK)
			return wfs_fail(x->err, -EIO, "curl_multi_perform failed");
		m = curl_multi_info_read(l->multi, &left);
		if (m && m->msg == CURLMSG_DONE)
			return (int)m->data.result + 1;
		if (wfs_now_ns() > x->since + x->st->stall_ms * MS)
			return stalled(x);
		if (curl_multi_poll(l->multi, NULL, 0, POLL_MS, NULL) != CURLM_OK)
			return wfs_fail(x->err, -EIO, "curl_multi_poll failed");
	}
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
		at = curl_getdate(text, NULL);
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

static int curl_error(struct exchange *x, const struct link *l, CURLcode c)
{
	const char *why = l->why[0] ? l->why : curl_easy_strerror(c);

	switch (c) {
	case CURLE_COULDNT_RESOLVE_HOST: case CURLE_COULDNT_CONNECT: case CURLE_OPERATION_TIMEDOUT:
	case CURLE_PARTIAL_FILE: case CURLE_RECV_ERROR: case CURLE_SEND_ERROR: case CURLE_GOT_NOTHING:
	case CURLE_SSL_CONNECT_ERROR: case CURLE_NO_CONNECTION_AVAILABLE:
		x->a->transient = true;
		return wfs_fail(x->err, -EIO, "%s", why);
	case CURLE_PEER_FAILED_VERIFICATION: case CURLE_SSL_ISSUER_ERROR: case CURLE_SSL_CACERT_BADFILE:
		return wfs_fail(x->err, -EACCES, "the server is not who it should be: %s", why);
	case CURLE_OUT_OF_MEMORY:
		return wfs_fail(x->err, -ENOMEM, "out of memory");
	default:
		return wfs_fail(x->err, -EBADMSG, "not a proper HTTP answer: %s", why);
	}
}

static void ask_for(struct exchange *x, struct link *l, const char *url, struct curl_slist *fresh)
{
	const struct wfs_attempt *a = x->a;
	char range[48];

	x->ask.ranged = a->ranged || a->pos > 0;
	x->ask.first = a->pos;
	x->ask.last = a->ranged ? a->end - 1 : WFS_HTTP_UNKNOWN;
	if (x->ask.last == WFS_HTTP_UNKNOWN)
		snprintf(range, sizeof(range), "%" PRIu64 "-", x->ask.first);
	else
		snprintf(range, sizeof(range), "%" PRIu64 "-%" PRIu64, x->ask.first, x->ask.last);
	curl_easy_setopt(l->easy, CURLOPT_URL, url);
	curl_easy_setopt(l->easy, CURLOPT_RANGE, x->ask.ranged ? range : NULL);
	curl_easy_setopt(l->easy, CURLOPT_HTTPHEADER, a->get->fresh ? fresh : NULL);
	curl_easy_setopt(l->easy, CURLOPT_HEADERDATA, x);
	curl_easy_setopt(l->easy, CURLOPT_WRITEDATA, x);
	l->why[0] = '\0';
}

/* A code, or WFS_HTTP_REDIRECT. */
static int exchange(struct exchange *x, struct http *h, const char *url)
{
	struct link *l = link_take(h, x->st);
	int r;

	if (!l)
		return wfs_fail(x->err, -ENOMEM, "out of memory");
	wfs_http_head_init(&x->head);
	x->verdict = x->code = 0;
	x->paused = false;
	x->skipped = x->moved = 0;
	x->since = wfs_now_ns();
	ask_for(x, l, url, h->fresh);
	r = curl_multi_add_handle(l->multi, l->easy) == CURLM_OK ? drive(x, l) : -ENOMEM;
	curl_multi_remove_handle(l->multi, l->easy);	/* closes what is under way */
	if (r == CURLE_OK + 1)
		r = conclude(x);
	else if (r == CURLE_WRITE_ERROR + 1)		/* ended by a callback */
		r = x->code || x->verdict == WFS_HTTP_BODY ? x->code : conclude(x);
	else if (r > 0)
		r = curl_error(x, l, (CURLcode)(r - 1));
	link_give(h, l);
	return r;
}

/* --- redirects --- */

static bool part_is(CURLU *u, CURLUPart part, const char *want)
{
	char *text = NULL;
	bool is = curl_url_get(u, part, &text, 0) == CURLUE_OK && (!want || !strcmp(text, want));

	curl_free(text);
	return is;
}

/* *url becomes where location, seen at *url, leads. */
static int follow(char **url, const char *location, struct wfs_err *err)
{
	CURLU *u = curl_url();
	bool was_https;
	char *next = NULL;
	int r = 0;

	if (!u || curl_url_set(u, CURLUPART_URL, *url, 0) != CURLUE_OK) {
		curl_url_cleanup(u);
		return wfs_fail(err, -ENOMEM, "out of memory");
	}
	was_https = part_is(u, CURLUPART_SCHEME, "https");
	if (curl_url_set(u, CURLUPART_URL, location, 0) != CURLUE_OK)
		r = wfs_fail(err, -EBADMSG, "a redirect that is not a URL");
	else if (part_is(u, CURLUPART_USER, NULL) || part_is(u, CURLUPART_PASSWORD, NULL))
		r = wfs_fail(err, -EBADMSG, "a redirect with credentials in it");
	else if (was_https && !part_is(u, CURLUPART_SCHEME, "https"))
		r = wfs_fail(err, -EBADMSG, "a redirect from https to something else");
	else if (!part_is(u, CURLUPART_SCHEME, "http") && !part_is(u, CURLUPART_SCHEME, "https"))
		r = wfs_fail(err, -EBADMSG, "a redirect to something that is not http or https");
	else if (curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0) != CURLUE_OK ||
		 curl_url_get(u, CURLUPART_URL, &next, 0) != CURLUE_OK)
		r = wfs_fail(err, -ENOMEM, "out of memory");
	curl_url_cleanup(u);
	if (r == 0) {
		free(*url);
		*url = strdup(next);
		r = *url ? 0 : wfs_fail(err, -ENOMEM, "out of memory");
	}
	curl_free(next);
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
		r = follow(&url, x.head.location, err);
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
	curl_slist_free_all(h->fresh);
	pthread_mutex_destroy(&h->lock);
	free(h->base);
	free(h);
}

static const struct wfs_backend http_backend = { .close = http_close, .get = http_get };

static int normalise(char **out, const char *url, struct wfs_err *err)
{
	CURLU *u = curl_url();
	CURLUcode c = u ? curl_url_set(u, CURLUPART_URL, url, 0) : CURLUE_OUT_OF_MEMORY;
	char *text = NULL;
	size_t len;

	if (c == CURLUE_OK)
		c = curl_url_get(u, CURLUPART_URL, &text, 0);
	curl_url_cleanup(u);
	if (c != CURLUE_OK)
		return wfs_fail(err, c == CURLUE_OUT_OF_MEMORY ? -ENOMEM : -EINVAL, "the store's URL: %s",
				curl_url_strerror(c));
	for (len = strlen(text); len && text[len - 1] == '/'; len--)
		;
	*out = strndup(text, len);
	curl_free(text);
	return *out ? 0 : wfs_fail(err, -ENOMEM, "out of memory");
}

static void init_curl(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

int wfs_http_open(struct wfs_store *st, const char *url, struct wfs_err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct http *h;
	int r;

	pthread_once(&once, init_curl);
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
	r = normalise(&h->base, url, err);
	if (r < 0)
		return r;
	h->fresh = curl_slist_append(NULL, "Cache-Control: no-cache");
	st->url = strdup(h->base);
	return h->fresh && st->url ? 0 : wfs_fail(err, -ENOMEM, "out of memory");
}
