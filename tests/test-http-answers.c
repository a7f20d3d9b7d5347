/* SPDX-License-Identifier: Apache-2.0 */
/* test-http-answers.c - what the HTTP store makes of answers, right and wrong ones */
#include "http.h"
#include "store/http_head.h"

/* --- every behaviour, one get each --- */

static const struct get_case {
	const char *how;
	uint64_t off, len;	/* len 0: whole */
	uint64_t max;
	int want;
	const char *says;	/* part of the message; "" none at all */
	uint64_t start;		/* where a good get begins */
} cases[] = {
	{ "ok", 0, 0, SIZE, 0, NULL, 0 },
	{ "ok", 0, 0, 1 << 20, 0, NULL, 0 },
	{ "ok", 1000, 5000, SIZE, 0, NULL, 1000 },
	{ "ok", 0, 1, SIZE, 0, NULL, 0 },
	{ "ok", SIZE - 1, 1, SIZE, 0, NULL, SIZE - 1 },
	{ "ok", 0, SIZE, SIZE, 0, NULL, 0 },
	{ "ok", 0, 0, SIZE - 1, -EBADMSG, "limit", 0 },
	{ "ok", 10, 10, SIZE + 1, -EBADMSG, "instead of 100001", 0 },
	{ "norange", 1000, 5000, SIZE, 0, NULL, 0 },
	{ "norange", 1000, 5000, SIZE - 1, -EBADMSG, "instead of 99999", 0 },
	{ "norange-early", 1000, 5000, SIZE, 0, NULL, 0 },
	{ "range-then-not", 1000, 50000, SIZE, 0, NULL, 1000 },
	{ "early", 0, 0, SIZE, 0, NULL, 0 },
	{ "early", 100, 90000, SIZE, 0, NULL, 100 },
	{ "nolength", 0, 0, 1 << 20, 0, NULL, 0 },
	{ "nolength", 5, 7, SIZE, 0, NULL, 0 },
	{ "nolength", 0, 0, SIZE - 1, -EBADMSG, "more bytes", 0 },
	{ "nolength-early", 5, 7, SIZE, 0, NULL, 0 },
	{ "chunked", 0, 0, 1 << 20, 0, NULL, 0 },
	{ "chunked", 5, 7, SIZE, 0, NULL, 0 },
	{ "chunked-early", 0, 0, SIZE, 0, NULL, 0 },
	{ "chunked-no-end", 0, 0, SIZE, 0, NULL, 0 },
	{ "chunked-short", 5, 7, SIZE, -EBADMSG, "30000", 0 },
	{ "chunked-206-long", 5, 700, SIZE, -EBADMSG, "more than it announced", 0 },
	{ "unknown-total", 5, 700, SIZE, 0, NULL, 5 },
	{ "other-place", 1000, 5000, SIZE, -EBADMSG, "the server sends 990-5989", 0 },
	{ "other-total", 1000, 5000, SIZE, -EBADMSG, "100001", 0 },
	{ "shorter-range", 1000, 5000, SIZE, -EBADMSG, "sends 1000-5998", 0 },
	{ "two-truths", 1000, 5000, SIZE, -EBADMSG, "differ", 0 },
	{ "no-content-range", 0, 10, SIZE, -EBADMSG, "without the range", 0 },
	{ "always-206", 0, 0, SIZE, -EBADMSG, "no range was asked", 0 },
	{ "bad-range", 0, 10, SIZE, -EBADMSG, "malformed Content-Range", 0 },
	{ "other-size", 0, 10, SIZE, -EBADMSG, "100001 bytes instead", 0 },
	{ "resume-changed", 0, 0, 1 << 20, -EBADMSG, "instead of 100000", 0 },
	{ "endless", 0, 0, SIZE, -EBADMSG, "more bytes", 0 },
	{ "endless-headers", 0, 0, SIZE, -EBADMSG, "headers", 0 },
	{ "gzip", 0, 0, SIZE, -EBADMSG, "encoded", 0 },
	{ "garbage", 0, 0, SIZE, -EBADMSG, "not a proper HTTP answer", 0 },
	{ "s204", 0, 0, SIZE, -EBADMSG, "HTTP 204", 0 },
	{ "s400", 0, 0, SIZE, -EBADMSG, "HTTP 400", 0 },
	{ "s401", 0, 0, SIZE, -EACCES, "HTTP 401", 0 },
	{ "s403", 0, 0, SIZE, -EACCES, "HTTP 403", 0 },
	{ "s404", 0, 0, SIZE, -ENOENT, "", 0 },
	{ "s410", 0, 0, SIZE, -ENOENT, "", 0 },
	{ "s416", 0, 10, SIZE, -EBADMSG, "shorter", 0 },
	{ "big-404", 0, 0, SIZE, -ENOENT, "", 0 },
	{ "busy", 0, 0, SIZE, 0, NULL, 0 },
	{ "moved", 0, 0, SIZE, 0, NULL, 0 },
	{ "moved", 7, 9, SIZE, 0, NULL, 7 },
	{ "moved-relative", 0, 0, SIZE, 0, NULL, 0 },
	{ "moved-loop", 0, 0, SIZE, -EBADMSG, "more than 5 redirects", 0 },
	{ "moved-file", 0, 0, SIZE, -EBADMSG, "not http or https", 0 },
	{ "moved-ftp", 0, 0, SIZE, -EBADMSG, "not http or https", 0 },
	{ "moved-user", 0, 0, SIZE, -EBADMSG, "credentials", 0 },
	{ "moved-nowhere", 0, 0, SIZE, -EBADMSG, "Location", 0 },
	{ "moved-bad", 0, 0, SIZE, -EBADMSG, "not a URL", 0 },
};

static void run_case(const struct get_case *c)
{
	struct wfs_store *st = open_hostile(c->how, NULL);
	struct wfs_err err = { 0 };
	struct got g = { 0 };
	struct wfs_get get = { .name = "packs/a", .off = c->off, .len = c->len, .max = c->max, .sink = collect,
			       .arg = &g };
	uint64_t end = c->len && c->start ? c->off + c->len : SIZE;

	REQUIRE(st);
	CHECK_INT(wfs_store_get(st, &get, &err), c->want, c->how);
	CHECK(!g.wrong);		/* the sink never has a wrong byte, also when the get fails */
	if (c->want == 0) {
		/* a range from 0 of a server that ignores ranges and of one that does not differ at the end */
		CHECK_INT((long long)g.start, (long long)c->start, c->how);
		CHECK(g.next == end || (c->len && g.next == c->off + c->len));
	}
	if (c->says && !(c->says[0] ? !!strstr(err.msg, c->says) : !err.msg[0])) {
		fprintf(stderr, "%s says \"%s\"\n", c->how, err.msg);
		CHECK(!"the message");
	}
	wfs_store_close(st);
}

static void test_behaviours(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		run_case(&cases[i]);
	CHECK_INT(asked("early"), 5 + 5, "each resume asked for the rest only");
	CHECK_INT(asked("busy"), 4, "three refusals");
	CHECK_INT(asked("moved-loop"), 6, "five redirects");
	CHECK_INT(asked("s404"), 1, "a 404 is not retried");
}

static void test_hops(void)
{
	static const struct { const char *name; int want; } hops[] = { { "x/5", 0 }, { "x/6", -EBADMSG } };
	struct wfs_store *st = open_hostile("hops", NULL);

	REQUIRE(st);
	for (size_t i = 0; i < ARRAY_SIZE(hops); i++) {
		struct got g = { 0 };
		struct wfs_get get = { .name = hops[i].name, .max = SIZE, .sink = collect, .arg = &g };

		CHECK_INT(wfs_store_get(st, &get, NULL), hops[i].want, hops[i].name);
	}
	wfs_store_close(st);
}

static void test_request_headers(void)
{
	struct wfs_buf b = WFS_BUF_INIT;
	struct wfs_store *st;
	bool fresh = false;

	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("all_proxy", "http://127.0.0.1:1", 1);
	st = open_hostile("echo", NULL);
	REQUIRE(st);
	do {
		CHECK_INT(wfs_store_get_buf(&b, st, "latest", 4096, fresh, NULL, NULL), 0, "echo");
		CHECK(wfs_buf_append(&b, "", 1) == 0);
		CHECK(strstr((char *)b.data, "GET /echo/latest HTTP/1.1") && strstr((char *)b.data, "weightfs/"));
		CHECK(!strcasestr((char *)b.data, "accept-encoding") && !strcasestr((char *)b.data, "authorization"));
		CHECK(!strcasestr((char *)b.data, "range") && !strcasestr((char *)b.data, "cookie"));
		CHECK(!!strcasestr((char *)b.data, "cache-control: no-cache") == fresh);
		fresh = !fresh;
	} while (fresh);
	unsetenv("http_proxy");
	unsetenv("all_proxy");
	wfs_buf_free(&b);
	wfs_store_close(st);
}

static void test_get_buf(void)
{
	struct wfs_buf b = WFS_BUF_INIT;
	struct wfs_store *st = open_hostile("empty", NULL);
	struct wfs_err err = { 0 };

	REQUIRE(st);
	CHECK_INT(wfs_store_get_buf(&b, st, "a", 10, false, NULL, NULL), 0, "empty");
	CHECK(b.len == 0);
	wfs_store_close(st);

	st = open_hostile("later", NULL);
	CHECK_INT(wfs_store_get_buf(&b, st, "a", SIZE, true, NULL, &err), -ENOENT, "not yet");
	CHECK(!err.msg[0]);
	CHECK_INT(wfs_store_get_buf(&b, st, "a", SIZE, true, NULL, &err), 0, "now");
	CHECK(b.len == SIZE && wfs_store_received(st) > SIZE && wfs_store_last_progress(st) > 0);
	wfs_store_close(st);

	/* half of the old one and half of the new one are not an object */
	st = open_hostile("torn", NULL);
	CHECK_INT(wfs_store_get_buf(&b, st, "latest", 10, true, NULL, &err), 0, "replaced while read");
	CHECK(b.len == 6 && memcmp(b.data, "newnew", 6) == 0);
	wfs_store_close(st);
	wfs_buf_free(&b);
}

static void test_retry_after(void)
{
	static const struct { const char *how; unsigned at_least; } hows[] = { { "limited", 1000 }, { "limited-date", 1500 } };
	struct wfs_store_opts opts = { .read_timeout_ms = 700 };
	struct wfs_err err = { 0 };
	struct got g = { 0 };
	struct wfs_get get = { .name = "a", .max = SIZE, .sink = collect, .arg = &g };
	struct wfs_store *st;
	uint64_t start;

	for (size_t i = 0; i < ARRAY_SIZE(hows); i++) {
		st = open_hostile(hows[i].how, NULL);
		REQUIRE(st);
		start = wfs_now_ns();
		g = (struct got) { 0 };
		CHECK_INT(wfs_store_get(st, &get, &err), 0, hows[i].how);
		CHECK(ms_since(start) >= hows[i].at_least && ms_since(start) < 10000);
		wfs_store_close(st);
	}
	st = open_hostile("limited-ten-years", &opts);
	start = wfs_now_ns();
	CHECK_INT(wfs_store_get(st, &get, &err), -ETIMEDOUT, "ten years");
	CHECK(strstr(err.msg, "a: HTTP 429 after 2 tries"));
	CHECK(ms_since(start) >= 700 && ms_since(start) < 5000);
	CHECK_INT(asked("limited-ten-years"), 2, "a wish is respected up to the end");
	wfs_store_close(st);
}

/* --- heads, without a server --- */

static void test_content_range(void)
{
	static const struct { const char *line; bool ok; uint64_t first, last, total; } lines[] = {
		{ "Content-Range: bytes 0-9/10", true, 0, 9, 10 },
		{ "content-range:bytes 5-5/6\r\n", true, 5, 5, 6 },
		{ "Content-Range: bytes 5-5/*", true, 5, 5, UINT64_MAX },
		{ "Content-Range: bytes */7", true, UINT64_MAX, UINT64_MAX, 7 },
		{ "Content-Range: bytes */*", false, 0, 0, 0 },
		{ "Content-Range: bytes 9-0/10", false, 0, 0, 0 },
		{ "Content-Range: bytes 0-10/10", false, 0, 0, 0 },
		{ "Content-Range: bytes 0-9/10x", false, 0, 0, 0 },
		{ "Content-Range: bytes 0-9", false, 0, 0, 0 },
		{ "Content-Range: bytes -9/10", false, 0, 0, 0 },
		{ "Content-Range: bytes 0x0-9/10", false, 0, 0, 0 },
		{ "Content-Range: bytes 18446744073709551616-18446744073709551617/18446744073709551618", false, 0, 0, 0 },
		{ "Content-Range: items 0-9/10", false, 0, 0, 0 },
		{ "Content-Range:", false, 0, 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		struct wfs_http_head h;

		wfs_http_head_init(&h);
		wfs_http_head_line(&h, "HTTP/1.1 206 Partial Content", 28);
		wfs_http_head_line(&h, lines[i].line, strlen(lines[i].line));
		CHECK_INT(!h.broken, lines[i].ok, lines[i].line);
		if (lines[i].ok)
			CHECK(h.first == lines[i].first && h.last == lines[i].last && h.total == lines[i].total);
	}
}

HTTP_TEST_MAIN(T(test_content_range), T(test_behaviours), T(test_hops), T(test_request_headers),
	       T(test_get_buf), T(test_retry_after))
