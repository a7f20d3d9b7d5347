/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.c - one easy handle in a multi handle of its own; the only user of curl
 *
 * The multi interface lets a caller look at its cancel flag while the server, or its name, does not
 * answer.
 */
#include "base/link.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "weightfs/base.h"

#define POLL_MS 200			/* how long a poll may overlook a cancel flag */

struct wfs_link {
	CURLM *multi;
	CURL *easy;
	const struct wfs_link_ask *ask;
	bool stopped;			/* by a callback */
	char why[CURL_ERROR_SIZE];
};

static void init_curl(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

void wfs_link_free(struct wfs_link *l)
{
	if (!l)
		return;
	if (l->easy)
		curl_easy_cleanup(l->easy);
	if (l->multi)
		curl_multi_cleanup(l->multi);
	free(l);
}

static size_t on_head(char *data, size_t one, size_t len, void *arg)
{
	struct wfs_link *l = arg;

	(void)one;			/* 1 by definition */
	l->stopped |= l->ask->head(l->ask->arg, data, len) == WFS_LINK_STOP;
	return l->stopped ? 0 : len;
}

static size_t on_body(char *data, size_t one, size_t len, void *arg)
{
	struct wfs_link *l = arg;
	enum wfs_link_more more = l->ask->take(l->ask->arg, data, len);

	(void)one;
	if (more == WFS_LINK_PAUSE)
		return CURL_WRITEFUNC_PAUSE;
	l->stopped |= more == WFS_LINK_STOP;
	return l->stopped ? 0 : len;
}

static void set_options(struct wfs_link *l, const struct wfs_link_opts *o)
{
	CURL *e = l->easy;

	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);	/* stores' URLs are in their normal form */
	curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(e, CURLOPT_PROXY, "");
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_HTTP_CONTENT_DECODING, 0L);
	curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
	if (o->cacert)
		curl_easy_setopt(e, CURLOPT_CAINFO, o->cacert);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)o->connect_ms);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);	/* never wait for a name server that is silent */
	curl_easy_setopt(e, CURLOPT_USERAGENT, "weightfs/" WFS_VERSION);
	curl_easy_setopt(e, CURLOPT_BUFFERSIZE, (long)o->buffer);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, l->why);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_head);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, l);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, l);
}

struct wfs_link *wfs_link_new(const struct wfs_link_opts *o)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct wfs_link *l;

	pthread_once(&once, init_curl);
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->multi = curl_multi_init();
	l->easy = curl_easy_init();
	if (!l->multi || !l->easy) {
		wfs_link_free(l);
		return NULL;
	}
	set_options(l, o);
	return l;
}

/* --- one exchange --- */

static int curl_error(const struct wfs_link *l, CURLcode c, bool *transient, bool *unreached, struct wfs_err *err)
{
	const char *why = l->why[0] ? l->why : curl_easy_strerror(c);

	switch (c) {
	case CURLE_COULDNT_RESOLVE_HOST: case CURLE_COULDNT_CONNECT: case CURLE_OPERATION_TIMEDOUT:
	case CURLE_SSL_CONNECT_ERROR:
		*unreached = true;	/* the one time limit that curl keeps is that of the connection */
		__attribute__((fallthrough));
	case CURLE_PARTIAL_FILE: case CURLE_RECV_ERROR: case CURLE_SEND_ERROR:
	case CURLE_GOT_NOTHING: case CURLE_NO_CONNECTION_AVAILABLE:
		*transient = true;
		return wfs_fail(err, -EIO, "%s", why);
	case CURLE_SSL_CACERT_BADFILE:
		*unreached = true;
		return wfs_fail(err, -EACCES, "what certificates are to be trusted cannot be read: %s", why);
	case CURLE_PEER_FAILED_VERIFICATION: case CURLE_SSL_ISSUER_ERROR:
		*unreached = true;	/* it was sent nothing */
		return wfs_fail(err, -EACCES, "the server is not who it should be: %s", why);
	case CURLE_OUT_OF_MEMORY:
		return wfs_fail(err, -ENOMEM, "out of memory");
	default:
		return wfs_fail(err, -EBADMSG, "not a proper HTTP answer: %s", why);
	}
}

/* Until curl is done: its result in *c.  Or a negative code. */
static int drive(struct wfs_link *l, CURLcode *c, struct wfs_err *err)
{
	for (;;) {
		int running = 0, left, r = l->ask->go(l->ask->arg);
		CURLMsg *m;

		if (r < 0)
			return r;
		if (r > 0) {
			*c = curl_easy_pause(l->easy, CURLPAUSE_CONT);	/* calls on_body */
			if (*c != CURLE_OK)
				return 0;
		}
		if (curl_multi_perform(l->multi, &running) != CURLM_OK)
			return wfs_fail(err, -EIO, "curl_multi_perform failed");
		m = curl_multi_info_read(l->multi, &left);
		if (m && m->msg == CURLMSG_DONE) {
			*c = m->data.result;
			return 0;
		}
		r = l->ask->idle(l->ask->arg);
		if (r < 0)
			return r;
		if (curl_multi_poll(l->multi, NULL, 0, POLL_MS, NULL) != CURLM_OK)
			return wfs_fail(err, -EIO, "curl_multi_poll failed");
	}
}

static int set_ask(struct wfs_link *l, const struct wfs_link_ask *ask, struct curl_slist **headers)
{
	CURL *e = l->easy;

	for (const char *const *h = ask->headers; h && *h; h++) {
		struct curl_slist *more = curl_slist_append(*headers, *h);

		if (!more)
			return -ENOMEM;
		*headers = more;
	}
	curl_easy_setopt(e, CURLOPT_URL, ask->url);
	curl_easy_setopt(e, CURLOPT_RANGE, ask->range);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, *headers);
	if (ask->method) {
		curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, ask->method);
		if (ask->len || strcmp(ask->method, "GET") != 0) {
			curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)ask->len);
			curl_easy_setopt(e, CURLOPT_POSTFIELDS, ask->len ? ask->body : "");
		}
	}
	l->ask = ask;
	l->stopped = false;
	l->why[0] = '\0';
	return 0;
}

int wfs_link_run(struct wfs_link *l, const struct wfs_link_ask *ask, bool *transient, bool *unreached,
		 struct wfs_err *err)
{
	struct curl_slist *headers = NULL;
	CURLcode c = CURLE_OK;
	int r;

	*transient = *unreached = false;
	r = set_ask(l, ask, &headers);
	if (r == 0)
		r = curl_multi_add_handle(l->multi, l->easy) == CURLM_OK ? drive(l, &c, err) : -ENOMEM;
	curl_multi_remove_handle(l->multi, l->easy);	/* closes what is under way */
	curl_easy_setopt(l->easy, CURLOPT_HTTPHEADER, NULL);
	curl_slist_free_all(headers);
	if (r == -ENOMEM)
		return wfs_fail(err, r, "out of memory");
	if (r < 0)
		return r;
	if (c == CURLE_WRITE_ERROR && l->stopped)
		return 1;
	return c == CURLE_OK ? 0 : curl_error(l, c, transient, unreached, err);
}

/* --- URLs --- */

int wfs_link_url(char **out, const char *url, struct wfs_err *err)
{
	CURLU *u = curl_url();
	CURLUcode c = u ? curl_url_set(u, CURLUPART_URL, url, 0) : CURLUE_OUT_OF_MEMORY;
	char *text = NULL;
	size_t len;

	if (c == CURLUE_OK)
		c = curl_url_get(u, CURLUPART_URL, &text, 0);
	curl_url_cleanup(u);
	if (c != CURLUE_OK)
		return wfs_fail(err, c == CURLUE_OUT_OF_MEMORY ? -ENOMEM : -EINVAL, "%s",
				curl_url_strerror(c));
	for (len = strlen(text); len && text[len - 1] == '/'; len--)
		;
	*out = strndup(text, len);
	curl_free(text);
	return *out ? 0 : wfs_fail(err, -ENOMEM, "out of memory");
}

static bool part_is(CURLU *u, CURLUPart part, const char *want)
{
	char *text = NULL;
	bool is = curl_url_get(u, part, &text, 0) == CURLUE_OK && (!want || !strcmp(text, want));

	curl_free(text);
	return is;
}

int wfs_link_follow(char **url, const char *location, struct wfs_err *err)
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

time_t wfs_link_date(const char *text)
{
	return curl_getdate(text, NULL);
}
