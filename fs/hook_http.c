/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook_http.c - the requests of a hook, one after the other
 *
 * Tried again: what may pass, that is no connection, a broken one, no answer in time, and the statuses
 * 408, 425, 429 and 5xx.  Another status than the expected one is an answer, and final; so is, where a
 * preset says so, an answer that speaks of failure.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hook.h"
#include "weightfs/base.h"
#include "weightfs/http.h"
#include "weightfs/io.h"
#include "weightfs/json.h"

#define BACK_OFF_MIN_MS	500u
#define BACK_OFF_MAX_MS	10000u
#define HEADERS_MAX	32u
#define SAID_MAX	160		/* bytes of a refusal's text in our message */

/* ---- secrets ---- */

struct secrets {
	struct wfs_strings header;
};

static void wipe(struct secrets *s)
{
	for (size_t i = 0; i < s->header.n; i++)
		explicit_bzero(s->header.v[i], strlen(s->header.v[i]));
	wfs_strings_free(&s->header);
}

static int add_line(struct secrets *s, const char *line, const char *path, bool token, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) char *header = NULL;
	int r;

	if (asprintf(&header, "%s%s", token ? "Authorization: Bearer " : "", line) < 0) {
		header = NULL;
		return wfs_fail(err, -ENOMEM, "out of memory");
	}
	if (!wfs_http_header_ok(header) || s->header.n == HOOK_SECRETS_MAX)
		return wfs_fail(err, -EINVAL, "%s: %s", path, token ? "is no token of printable characters" :
				"is no list of headers \"Name: value\"");
	r = wfs_strings_add(&s->header, header);
	explicit_bzero(header, strlen(header));
	return r < 0 ? wfs_fail(err, r, "out of memory") : 0;
}

/* token_file: its first line; header_file: each line.  Read for every run, so that a new one counts. */
static int read_secret(struct secrets *s, const char *path, bool token, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[HOOK_SECRET_MAX + 1], *line, *rest = text;
	ssize_t n;
	int r = 0;

	if (fd < 0)
		return wfs_fail_sys(err, "%s", path);
	n = read(fd, text, sizeof(text));
	if (n < 0)
		return wfs_fail_sys(err, "%s", path);
	if ((size_t)n > HOOK_SECRET_MAX || memchr(text, '\0', (size_t)n))
		return wfs_fail(err, -EINVAL, "%s: longer than %u bytes, or holds a NUL byte", path, HOOK_SECRET_MAX);
	text[n] = '\0';
	while (r == 0 && (line = strsep(&rest, "\n"))) {
		line[strcspn(line, "\r")] = '\0';
		if (*line)
			r = add_line(s, line, path, token, err);
		if (token && *line)
			break;
	}
	explicit_bzero(text, sizeof(text));
	return r == 0 && !s->header.n ? wfs_fail(err, -EINVAL, "%s: is empty", path) : r;
}

static int read_secrets(struct secrets *s, const struct hook *h, struct wfs_err *err)
{
	int r = 0;

	if (h->header_file)
		r = read_secret(s, h->header_file, false, err);
	if (r == 0 && h->token_file)
		r = read_secret(s, h->token_file, true, err);
	return r;
}

/* ---- one request ---- */

struct request_text {
	struct wfs_buf url, body;
	const char *header[HEADERS_MAX + 1];
};

static void text_free(struct request_text *t)
{
	wfs_buf_free(&t->url);
	wfs_buf_free(&t->body);
}

static int make_text(struct request_text *t, const struct hook_run *run, const struct hook_request *q,
		     const struct secrets *s, const struct event *e, struct wfs_err *err)
{
	size_t n = 0;
	int r;

	r = hook_expand(&t->url, q->url, HOOK_URL, e, run->mount);
	if (r == 0 && q->body)
		r = hook_expand(&t->body, q->body, HOOK_JSON, e, run->mount);
	if (r < 0)
		return wfs_fail(err, r, "out of memory");
	if (q->header.n + s->header.n > HEADERS_MAX)
		return wfs_fail(err, -EINVAL, "more than %u headers", HEADERS_MAX);
	for (size_t i = 0; i < q->header.n; i++)
		t->header[n++] = q->header.v[i];
	for (size_t i = 0; i < s->header.n; i++)
		t->header[n++] = s->header.v[i];
	t->header[n] = NULL;
	return 0;
}

static bool may_pass(int status)
{
	return status == 408 || status == 425 || status == 429 || (status >= 500 && status <= 599);
}

/* A server that gives our secret back must not bring it into a log. */
static bool holds_secret(const struct wfs_buf *text, const struct secrets *s)
{
	for (size_t i = 0; i < s->header.n; i++) {
		const char *value = strchr(s->header.v[i], ':') + 1;

		value += strspn(value, " ");
		if (strncmp(value, "Bearer ", 7) == 0)
			value += 7;
		if (*value && memmem(text->data, text->len, value, strlen(value)))
			return true;
	}
	return false;
}

static int take_failure(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	bool *failure = arg;

	(void)err;
	*failure |= wfs_json_at_top(ev, "success") && ev->kind == WFS_JSON_BOOL && !ev->uint;
	return 0;
}

/* An answer that is no JSON, or does not say, is none. */
static bool says_failure(const struct wfs_http_reply *a)
{
	bool failure = false;

	wfs_json_parse(a->body.data, a->body.len, WFS_JSON_EVENTS_MAX, take_failure, &failure, NULL);
	return failure;
}

static int refused(const struct wfs_http_reply *a, const char *why, const struct secrets *s, struct wfs_err *err)
{
	bool hide = !a->body.len || holds_secret(&a->body, s);

	return wfs_fail(err, -EPROTO, "HTTP %d %s%s%.*s", a->status, why, hide ? "" : ": ",
			hide ? 0 : (int)WFS_MIN(a->body.len, (size_t)SAID_MAX), (const char *)a->body.data);
}

static int judge(const struct hook_request *q, const struct wfs_http_reply *a, const struct secrets *s,
		 struct wfs_err *err)
{
	char why[32];

	snprintf(why, sizeof(why), q->expect_low == q->expect_high ? "instead of %u" : "instead of %u-%u", q->expect_low,
		 q->expect_high);
	if ((unsigned)a->status < q->expect_low || (unsigned)a->status > q->expect_high)
		return refused(a, why, s, err);
	return q->judged && says_failure(a) ? refused(a, "without success", s, err) : 0;
}

/* *again: it may pass. */
static int once(const struct hook_run *run, const struct hook_request *q, const struct request_text *t,
		const struct secrets *s, bool *again, bool *unreached, struct wfs_err *err)
{
	struct wfs_http_call call = {
		.method = q->method, .url = (const char *)t->url.data, .headers = t->header,
		.body = t->body.data, .len = t->body.len, .cacert = run->h->cacert,
		.timeout_ms = q->timeout_ms, .cancel = run->cancel,
	};
	struct wfs_http_reply a;
	int r = wfs_http_call(&a, &call, err);

	*again = a.transient;
	*unreached = a.unreached;
	if (r == 0) {
		*again = may_pass(a.status);
		r = judge(q, &a, s, err);
	}
	wfs_buf_free(&a.body);
	return r;
}

int hook_pause(unsigned ms, const atomic_bool *cancel)
{
	struct timespec slice = { .tv_nsec = 50 * 1000000l };
	uint64_t end = wfs_now_ns() + ms * 1000000ull;

	while (wfs_now_ns() < end) {
		if (atomic_load(cancel))
			return -ECANCELED;
		nanosleep(&slice, NULL);
	}
	return 0;
}

int hook_back_off(unsigned *ms, const atomic_bool *cancel)
{
	*ms = *ms ? WFS_MIN(*ms * 2, BACK_OFF_MAX_MS) : BACK_OFF_MIN_MS;
	return hook_pause(*ms, cancel);
}

static int request(const struct hook_run *run, const struct hook_request *q, const struct secrets *s,
		   const struct event *e, bool *unreached, struct wfs_err *err)
{
	struct request_text t = { .url = WFS_BUF_INIT, .body = WFS_BUF_INIT };
	unsigned pause_ms = 0;
	bool again = true;
	int r = make_text(&t, run, q, s, e, err);

	*unreached = false;
	for (unsigned i = 0; r == 0 && again; i++) {
		r = once(run, q, &t, s, &again, unreached, err);
		if (r == 0 || !again || i == q->retries)
			break;
		r = hook_back_off(&pause_ms, run->cancel);
	}
	text_free(&t);
	return r < 0 ? wfs_wrap(err, r, "%s %s", q->method, q->url) : 0;
}

int hook_requests(const struct hook_run *run, const struct event *e, size_t from, bool always, size_t *at,
		  bool *unreached, struct wfs_err *err)
{
	struct secrets s = { 0 };
	int r = read_secrets(&s, run->h, err), first = r;

	*unreached = r < 0;		/* nobody was asked: it is tried again, as when nobody is there */
	*at = from;
	for (size_t i = from; first == 0 && i < run->h->n_requests; i++) {
		if (always && !run->h->request[i].always)
			continue;
		*at = i;
		r = request(run, &run->h->request[i], &s, e, unreached, err);
		if (r < 0 && !always)
			break;
	}
	wipe(&s);
	return r;
}

/* ---- showing ---- */

int hook_print(FILE *f, const struct hook_run *run, const struct event *e, struct wfs_err *err)
{
	const struct hook *h = run->h;
	struct secrets none = { 0 };

	fprintf(f, "hook %s, version %" PRIu64 "\n", h->name, e->sequence);
	if (h->command) {
		fprintf(f, "  run %s", h->command);
		for (size_t i = 0; i < h->arg.n; i++)
			fprintf(f, " '%s'", h->arg.v[i]);
		fputc('\n', f);
	}
	for (size_t i = 0; i < h->n_requests; i++) {
		const struct hook_request *q = &h->request[i];
		struct request_text t = { .url = WFS_BUF_INIT, .body = WFS_BUF_INIT };
		int r = make_text(&t, run, q, &none, e, err);

		if (r == 0) {
			fprintf(f, "  %s %s\n", q->method, (const char *)t.url.data);
			for (const char *const *p = t.header; *p; p++)
				fprintf(f, "    %s\n", *p);
			if (h->header_file)
				fprintf(f, "    (headers of %s)\n", h->header_file);
			if (h->token_file)
				fprintf(f, "    Authorization: Bearer (from %s)\n", h->token_file);
			if (t.body.len)
				fprintf(f, "    %.*s\n", (int)t.body.len, (const char *)t.body.data);
		}
		text_free(&t);
		if (r < 0)
			return r;
	}
	return 0;
}
