/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_call.c - one request, one answer, no store
 */
#include "weightfs/http.h"

#include <errno.h>
#include <string.h>

#include "base/link.h"
#include "store/http_head.h"
#include "weightfs/base.h"

#define CONNECT_MS 10000u
#define BUFFER 16384u
#define HEADERS_MAX 40u			/* ours and the caller's */

struct talk {
	const struct wfs_http_call *call;
	struct wfs_http_reply *out;
	struct wfs_http_head head;
	uint64_t end_ns;
	size_t got;			/* bytes of the body */
	int code;
	struct wfs_err *err;
};

static enum wfs_link_more on_head(void *arg, const char *line, size_t len)
{
	struct talk *t = arg;

	wfs_http_head_line(&t->head, line, len);
	if (t->head.bytes <= WFS_HTTP_HEAD_MAX)
		return WFS_LINK_GO;
	t->code = wfs_fail(t->err, -EBADMSG, "the server's headers are longer than %u bytes", WFS_HTTP_HEAD_MAX);
	return WFS_LINK_STOP;
}

static enum wfs_link_more on_body(void *arg, const char *data, size_t len)
{
	struct talk *t = arg;
	size_t room = WFS_HTTP_ANSWER_MAX - t->out->body.len;

	t->got += len;
	if (t->got > WFS_HTTP_ANSWER_END)
		t->code = wfs_fail(t->err, -EBADMSG, "the answer is longer than %u bytes", WFS_HTTP_ANSWER_END);
	else if (wfs_buf_append(&t->out->body, data, WFS_MIN(len, room)) == 0)
		return WFS_LINK_GO;
	else
		t->code = wfs_fail(t->err, -ENOMEM, "out of memory");
	return WFS_LINK_STOP;
}

static int on_round(void *arg)
{
	struct talk *t = arg;

	if (t->call->cancel && atomic_load(t->call->cancel))
		return wfs_fail(t->err, -ECANCELED, "stopped");
	if (wfs_now_ns() < t->end_ns)
		return 0;
	t->out->transient = true;
	return wfs_fail(t->err, -ETIMEDOUT, "no answer within %.4g s", t->call->timeout_ms / 1e3);
}

bool wfs_http_header_ok(const char *header)
{
	static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	size_t n = strspn(header, token);

	if (!n || header[n] != ':')
		return false;
	for (const char *p = header + n; *p; p++)
		if (((unsigned char)*p < ' ' && *p != '\t') || *p == 127)
			return false;
	return true;
}

static bool has_header(const struct wfs_http_call *call, const char *name)
{
	size_t n = strlen(name);

	for (const char *const *h = call->headers; h && *h; h++)
		if (strncasecmp(*h, name, n) == 0 && (*h)[n] == ':')
			return true;
	return false;
}

/* curl would wait for a 100, and call a body without a type a form. */
static int all_headers(const char *out[HEADERS_MAX + 1], const struct wfs_http_call *call, struct wfs_err *err)
{
	size_t n = 0;

	out[n++] = "Expect:";
	if (!has_header(call, "Content-Type"))
		out[n++] = call->len ? "Content-Type: application/json" : "Content-Type:";
	for (const char *const *h = call->headers; h && *h; h++) {
		if (n == HEADERS_MAX || !wfs_http_header_ok(*h))
			return wfs_fail(err, -EINVAL, "too many headers, or one that is not \"Name: value\"");
		out[n++] = *h;
	}
	out[n] = NULL;
	return 0;
}

int wfs_http_call(struct wfs_http_reply *out, const struct wfs_http_call *call, struct wfs_err *err)
{
	struct talk t = { .call = call, .out = out, .err = err,
			  .end_ns = wfs_now_ns() + call->timeout_ms * 1000000ull };
	/* sooner than the whole: who is silent from the start was sent nothing, and that is known */
	struct wfs_link_opts o = { .cacert = call->cacert, .buffer = BUFFER,
				   .connect_ms = WFS_MIN(call->timeout_ms - call->timeout_ms / 4, CONNECT_MS) };
	const char *headers[HEADERS_MAX + 1];
	struct wfs_link_ask ask = {
		.url = call->url, .method = call->method, .headers = headers, .body = call->body, .len = call->len,
		.head = on_head, .take = on_body, .go = on_round, .idle = on_round, .arg = &t,
	};
	bool transient;
	struct wfs_link *l;
	int r;

	*out = (struct wfs_http_reply){ 0 };
	r = all_headers(headers, call, err);
	if (r < 0)
		return r;
	l = wfs_link_new(&o);
	if (!l)
		return wfs_fail(err, -ENOMEM, "out of memory");
	wfs_http_head_init(&t.head);
	r = wfs_link_run(l, &ask, &transient, &out->unreached, err);
	wfs_link_free(l);
	out->transient |= transient;
	if (r == 1)
		r = t.code;
	if (r == 0 && !t.head.status)
		r = wfs_fail(err, -EBADMSG, "an answer without a status");
	out->status = t.head.status;
	return r;
}
