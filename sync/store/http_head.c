/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_head.c - what comes from outside as text: the heads of answers, and the store's URL
 *
 * Strict where servers and caches have been seen to be wrong: a 206 of the right length from
 * another place, two lengths that differ, an encoding nobody asked for.  A digest would find each of
 * them later; here the message can still say what is wrong with the server.
 */
#include "store/http_head.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

struct text {
	const char *s;
	size_t len;
};

void wfs_http_head_init(struct wfs_http_head *h)
{
	*h = (struct wfs_http_head) { .length = WFS_HTTP_UNKNOWN };
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct text trim(struct text t)
{
	while (t.len && is_space(t.s[0])) {
		t.s++;
		t.len--;
	}
	while (t.len && is_space(t.s[t.len - 1]))
		t.len--;
	return t;
}

static bool text_is(struct text t, const char *word)
{
	return t.len == strlen(word) && !strncasecmp(t.s, word, t.len);
}

/* Takes digits from the front; false: none, or more than 2^63. */
static bool take_number(struct text *t, uint64_t *out)
{
	uint64_t v = 0;
	size_t n = 0;

	for (; n < t->len && t->s[n] >= '0' && t->s[n] <= '9'; n++) {
		if (v > (uint64_t)INT64_MAX / 10 - 1)
			return false;
		v = v * 10 + (uint64_t)(t->s[n] - '0');
	}
	t->s += n;
	t->len -= n;
	*out = v;
	return n > 0;
}

static bool take_char(struct text *t, char c)
{
	if (!t->len || t->s[0] != c)
		return false;
	t->s++;
	t->len--;
	return true;
}

static void read_length(struct wfs_http_head *h, struct text t)
{
	uint64_t v;

	if (!take_number(&t, &v) || t.len) {
		h->broken = "malformed Content-Length";
		return;
	}
	if (h->length != WFS_HTTP_UNKNOWN && h->length != v)
		h->broken = "two different Content-Length";
	h->length = v;
}

/* "bytes 0-9/10", "bytes 0-9/" and a star, "bytes *" and "/10" */
static bool parse_range(struct wfs_http_head *h, struct text t)
{
	h->first = h->last = h->total = WFS_HTTP_UNKNOWN;
	if (t.len < 6 || strncasecmp(t.s, "bytes", 5) != 0 || !is_space(t.s[5]))
		return false;
	t.s += 6;
	t.len -= 6;
	t = trim(t);
	if (!take_char(&t, '*') &&
	    !(take_number(&t, &h->first) && take_char(&t, '-') && take_number(&t, &h->last)))
		return false;
	if (!take_char(&t, '/'))
		return false;
	if (!take_char(&t, '*') && !take_number(&t, &h->total))
		return false;
	if (t.len)
		return false;
	if (h->first == WFS_HTTP_UNKNOWN)
		return h->total != WFS_HTTP_UNKNOWN;
	return h->first <= h->last && h->last < h->total;
}

static void read_range(struct wfs_http_head *h, struct text t)
{
	if (h->has_range)
		h->broken = "two Content-Range";
	else if (!parse_range(h, t))
		h->broken = "malformed Content-Range";
	h->has_range = true;
}

static void copy_text(char *out, size_t size, struct text t)
{
	if (t.len >= size || memchr(t.s, '\0', t.len))
		t.len = 0;
	memcpy(out, t.s, t.len);
	out[t.len] = '\0';
}

static void read_field(struct wfs_http_head *h, struct text name, struct text value)
{
	if (text_is(name, "Content-Length"))
		read_length(h, value);
	else if (text_is(name, "Content-Range"))
		read_range(h, value);
	else if (text_is(name, "Content-Encoding"))
		h->encoded |= !text_is(value, "identity") && value.len;
	else if (text_is(name, "Transfer-Encoding") && text_is(value, "chunked"))
		h->chunked = true;
	else if (text_is(name, "Transfer-Encoding"))
		h->encoded |= !text_is(value, "identity");
	else if (text_is(name, "Location"))
		copy_text(h->location, sizeof(h->location), value);
	else if (text_is(name, "Retry-After"))
		copy_text(h->retry_after, sizeof(h->retry_after), value);
}

/* "HTTP/1.1 206 Partial Content" */
static int status_of(struct text t)
{
	const char *space = memchr(t.s, ' ', t.len);
	uint64_t v;

	if (!space)
		return 0;
	t.len -= (size_t)(space - t.s);
	t.s = space;
	t = trim(t);
	return take_number(&t, &v) && v >= 100 && v <= 999 ? (int)v : 0;
}

void wfs_http_head_line(struct wfs_http_head *h, const char *line, size_t len)
{
	struct text t = trim((struct text) { line, len });
	const char *colon = len ? memchr(line, ':', len) : NULL;
	size_t bytes = h->bytes + len;

	if (len >= 5 && !strncasecmp(line, "HTTP/", 5)) {
		wfs_http_head_init(h);
		h->status = status_of(t);
	} else if (!t.len) {
		h->ended = true;
	} else if (colon && !h->ended) {
		struct text name = { line, (size_t)(colon - line) };
		struct text value = { colon + 1, len - name.len - 1 };

		read_field(h, trim(name), trim(value));
	}
	h->bytes = bytes;
}

static int judge_partial(const struct wfs_http_head *h, const struct wfs_http_ask *ask,
			 struct wfs_http_body *body, struct wfs_err *err)
{
	uint64_t last = ask->last;

	if (!ask->ranged)
		return wfs_fail(err, -EBADMSG, "HTTP 206, but no range was asked for");
	if (!h->has_range || h->first == WFS_HTTP_UNKNOWN)
		return wfs_fail(err, -EBADMSG, "HTTP 206 without the range that it sends");
	if (last == WFS_HTTP_UNKNOWN && h->total == WFS_HTTP_UNKNOWN)
		return wfs_fail(err, -EBADMSG, "HTTP 206 for the rest of an object without its size");
	if (last == WFS_HTTP_UNKNOWN)
		last = h->total - 1;
	if (h->first != ask->first || h->last != last)
		return wfs_fail(err, -EBADMSG, "asked for bytes %" PRIu64 "-%" PRIu64 ", the server sends %" PRIu64
				"-%" PRIu64, ask->first, last, h->first, h->last);
	if (!h->chunked && h->length != WFS_HTTP_UNKNOWN && h->length != h->last - h->first + 1)
		return wfs_fail(err, -EBADMSG, "Content-Range and Content-Length differ");
	*body = (struct wfs_http_body) { h->first, h->last + 1, h->total };
	return WFS_HTTP_BODY;
}

static int judge_ok(const struct wfs_http_head *h, const struct wfs_http_ask *ask,
		    struct wfs_http_body *body, struct wfs_err *err)
{
	uint64_t size = h->chunked ? WFS_HTTP_UNKNOWN : h->length;

	if (h->broken)
		return wfs_fail(err, -EBADMSG, "%s", h->broken);
	if (h->encoded)
		return wfs_fail(err, -EBADMSG, "the server encoded the object (Content-Encoding), which nobody asked for");
	if (h->status == 206)
		return judge_partial(h, ask, body, err);
	*body = (struct wfs_http_body) { 0, size, size };
	return WFS_HTTP_BODY;
}

int wfs_http_judge(const struct wfs_http_head *h, const struct wfs_http_ask *ask,
		   struct wfs_http_body *body, struct wfs_err *err)
{
	switch (h->status) {
	case 200: case 206:
		return judge_ok(h, ask, body, err);
	case 301: case 302: case 303: case 307: case 308:
		if (h->location[0])
			return WFS_HTTP_REDIRECT;
		return wfs_fail(err, -EBADMSG, "HTTP %d without a usable Location", h->status);
	case 401: case 403: case 407:
		return wfs_fail(err, -EACCES, "HTTP %d: the server refuses access", h->status);
	case 404: case 410:
		return -ENOENT;
	case 416:
		if (!h->broken && ask->ranged && ask->last == WFS_HTTP_UNKNOWN && h->has_range && h->total == ask->first)
			return WFS_HTTP_COMPLETE;
		return wfs_fail(err, -EBADMSG, "HTTP 416: the object is shorter than it should be");
	case 408: case 425: case 429:
		wfs_fail(err, 0, "HTTP %d", h->status);
		return WFS_HTTP_LATER;
	}
	wfs_fail(err, 0, "HTTP %d", h->status);
	return h->status >= 500 && h->status <= 599 ? WFS_HTTP_LATER : -EBADMSG;
}

/* The text of a URL that may hold a secret is never part of a message. */
int wfs_http_check_url(const char *url, struct wfs_err *err)
{
	const char *host = strstr(url, "://") + 3;
	size_t authority = strcspn(host, "/?#");

	for (const char *p = url; *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '\\')
			return wfs_fail(err, -EINVAL, "the store's URL has a space, backslash or control character (write %%20)");
	if (memchr(host, '@', authority))
		return wfs_fail(err, -EINVAL, "credentials in a store's URL are not accepted: everybody on the machine "
				"can read them in the list of processes");
	if (!authority)
		return wfs_fail(err, -EINVAL, "the store's URL names no host");
	if (host[strcspn(host, "?#")])
		return wfs_fail(err, -EINVAL, "a store's URL has no query and no fragment");
	return 0;
}
