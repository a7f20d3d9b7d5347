/* SPDX-License-Identifier: Apache-2.0 */
/* test-http.c - the HTTP store against servers that behave (nginx, http.server) and one that does not */
#include "weightfs/store.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "servers.h"
#include "store/http_head.h"
#include "test.h"
#include "weightfs/io.h"

#define SIZE 100000u		/* of hostile.py's object */

static struct server hostile, hostile_tls, nginx, nginx_tls, pyhttp;
static char root[32], work[2][64], certs[64], cert_file[96];

static uint8_t byte_at(uint64_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

struct got {
	uint64_t start, next;
	bool begun, wrong;
	uint64_t stop_at;
	unsigned slow_ms;
};

static int collect(void *arg, uint64_t off, const void *data, size_t len)
{
	const uint8_t *b = data;
	struct got *g = arg;

	if (!g->begun)
		g->start = g->next = off;
	g->begun = true;
	g->wrong |= off != g->next;
	for (size_t i = 0; i < len; i++)
		g->wrong |= b[i] != byte_at(off + i);
	g->next += len;
	if (g->slow_ms)
		usleep(g->slow_ms * 1000);
	return g->stop_at && g->next >= g->stop_at ? -EXFULL : 0;
}

static struct wfs_store *open_url(const char *scheme, int port, const char *path,
				  const struct wfs_store_opts *opts)
{
	struct wfs_store *st = NULL;
	struct wfs_err err = { 0 };
	char url[256];

	snprintf(url, sizeof(url), "%s://127.0.0.1:%d%s", scheme, port, path);
	if (wfs_store_open(&st, url, opts, false, &err) < 0)
		fprintf(stderr, "%s: %s\n", url, err.msg);
	return st;
}

static struct wfs_store *open_hostile(const char *how, const struct wfs_store_opts *opts)
{
	char path[64];

	snprintf(path, sizeof(path), "/%s", how);
	return open_url("http", hostile.port, path, opts);
}

/* How often the server was asked so. */
static int asked(const char *how)
{
	struct wfs_store *st = open_hostile("count/x", NULL);
	struct wfs_buf b = WFS_BUF_INIT;
	int n = -1;

	if (st && wfs_store_get_buf(&b, st, how, 20, true, NULL, NULL) == 0 && wfs_buf_append(&b, "", 1) == 0)
		n = atoi((char *)b.data);
	wfs_buf_free(&b);
	wfs_store_close(st);
	return n;
}

static uint64_t ms_since(uint64_t start)
{
	return (wfs_now_ns() - start) / 1000000;
}

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

static void test_open_refuses(void)
{
	static const struct { const char *url, *says; } bad[] = {
		{ "http://user:secret@host/x", "credentials" }, { "https://user@host/x", "credentials" },
		{ "http://@host/x", "credentials" },
		{ "http://host/x?token=secret", "query" }, { "http://host/x#y", "query" }, { "http://host?x", "query" },
		{ "http://", "no host" }, { "http:///x", "no host" }, { "http://host/a b", "space" },
		{ "http://host/a\nb", "space" }, { "http://host\\@evil/", "backslash" },
		{ "http://host:99999/", "URL" }, { "http://[::1/", "URL" },
	};
	struct wfs_store_opts opts = { .cacert = "/nonexistent.pem" };
	struct wfs_store *st = NULL;
	struct wfs_err err;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		memset(&err, 0, sizeof(err));
		CHECK_INT(wfs_store_open(&st, bad[i].url, NULL, false, &err), -EINVAL, bad[i].url);
		CHECK(!st && strstr(err.msg, bad[i].says) && !strstr(err.msg, "secret"));
	}
	CHECK_INT(wfs_store_open(&st, "https://host/x", &opts, false, &err), -ENOENT, "cacert");
	CHECK(strstr(err.msg, "/nonexistent.pem"));
}

static void test_read_only(void)
{
	struct wfs_store *st = open_hostile("ok//", NULL);
	struct wfs_put *p;
	char url[64];

	REQUIRE(st);
	snprintf(url, sizeof(url), "http://127.0.0.1:%d/ok", hostile.port);
	CHECK_STR(wfs_store_url(st), url);
	CHECK(!wfs_store_is_local(st));
	CHECK_INT(wfs_store_put(st, "a", "x", 1, NULL), -EOPNOTSUPP, "put");
	CHECK_INT(wfs_store_create(st, "a", "x", 1, NULL), -EOPNOTSUPP, "create");
	CHECK_INT(wfs_store_replace(st, "a", "x", 1, NULL), -EOPNOTSUPP, "replace");
	CHECK_INT(wfs_put_begin(&p, st, NULL), -EOPNOTSUPP, "begin");
	CHECK_INT(wfs_store_lock(st, NULL), -EOPNOTSUPP, "lock");
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

static void test_once(void)
{
	static const char *const hows[] = { "s503", "stall-headers", "stall-body", "early-nothing" };
	struct wfs_store_opts opts = { .stall_ms = 300 };
	struct got g = { 0 };
	struct wfs_get get = { .name = "a", .max = SIZE, .sink = collect, .arg = &g, .once = true };
	struct wfs_store *st;

	for (size_t i = 0; i < ARRAY_SIZE(hows); i++) {
		int before = asked(hows[i]);

		g = (struct got) { 0 };
		st = open_hostile(hows[i], &opts);
		REQUIRE(st);
		CHECK_INT(wfs_store_get(st, &get, NULL), -ENETUNREACH, hows[i]);
		CHECK_INT(asked(hows[i]), before + 1, hows[i]);
		wfs_store_close(st);
	}
}

/* A port that nobody listens on. */
static int closed_port(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&sa, len) < 0 || getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		sa.sin_port = 0;
	close(fd);
	return ntohs(sa.sin_port);
}

static void test_nothing_moves(void)
{
	static const struct { const char *how; unsigned at_most; } hows[] = {
		{ "s503", 3000 }, { "early-nothing", 3000 }, { "stall-headers", 4000 }, { "stall-in-headers", 4000 },
		{ "dribble", 6000 },
	};
	struct wfs_store_opts opts = { .stall_ms = 400, .read_timeout_ms = 1000 };
	struct wfs_store *st;
	struct wfs_err err;

	for (size_t i = 0; i < ARRAY_SIZE(hows) + 1; i++) {
		bool closed = i == ARRAY_SIZE(hows);
		const char *how = closed ? "refused" : hows[i].how;
		struct got g = { 0 };
		struct wfs_get get = { .name = "a", .max = SIZE, .sink = collect, .arg = &g };
		uint64_t start = wfs_now_ns();

		memset(&err, 0, sizeof(err));
		st = closed ? open_url("http", closed_port(), "", &opts) : open_hostile(how, &opts);
		REQUIRE(st);
		CHECK_INT(wfs_store_get(st, &get, &err), -ETIMEDOUT, how);
		CHECK(ms_since(start) >= 1000 && ms_since(start) < (closed ? 3000 : hows[i].at_most));
		CHECK(!g.wrong);
		if (!strstr(err.msg, "tries")) {
			fprintf(stderr, "%s says \"%s\"\n", how, err.msg);
			CHECK(!"the message");
		}
		wfs_store_close(st);
	}
}

static void test_stall_is_left_and_resumed(void)
{
	struct wfs_store_opts opts = { .stall_ms = 300, .read_timeout_ms = 20000 };
	struct wfs_store *st = open_hostile("stall-once", &opts);
	struct got g = { 0 };
	struct wfs_get get = { .name = "a", .max = SIZE, .sink = collect, .arg = &g };

	REQUIRE(st);
	CHECK_INT(wfs_store_get(st, &get, NULL), 0, "stall");
	CHECK(g.next == SIZE && !g.wrong);
	CHECK_INT(asked("stall-once"), 2, "asked");
	CHECK(wfs_store_received(st) < SIZE + 5000);		/* resumed, not repeated */
	wfs_store_close(st);
}

/* The time a slow disk takes is not the server's. */
static void test_slow_sink_is_no_stall(void)
{
	struct wfs_store_opts opts = { .stall_ms = 150, .read_timeout_ms = 20000 };
	struct wfs_store *st = open_hostile("nolength", &opts);
	struct got g = { .slow_ms = 200 };
	struct wfs_get get = { .name = "a", .max = SIZE, .sink = collect, .arg = &g };
	int before = asked("nolength");

	REQUIRE(st);
	CHECK_INT(wfs_store_get(st, &get, NULL), 0, "slow sink");
	CHECK_INT(asked("nolength"), before + 1, "one attempt");
	wfs_store_close(st);
}

static void test_sink_code(void)
{
	struct wfs_store *st = open_hostile("ok", NULL);
	struct got g = { .stop_at = 1 };
	struct wfs_get get = { .name = "a", .max = SIZE, .sink = collect, .arg = &g };
	struct wfs_err err = { 0 };

	REQUIRE(st);
	CHECK_INT(wfs_store_get(st, &get, &err), -EXFULL, "the sink's own code");
	CHECK(!err.msg[0]);
	g = (struct got) { 0 };
	CHECK_INT(wfs_store_get(st, &get, &err), 0, "the store goes on");
	wfs_store_close(st);
}

/* --- cancel --- */

struct canceller {
	atomic_bool flag;
	uint64_t at;
};

static void *cancel_soon(void *arg)
{
	struct canceller *c = arg;

	usleep(300000);
	c->at = wfs_now_ns();
	atomic_store(&c->flag, true);
	return NULL;
}

static void check_cancel(struct wfs_store *st, const char *what)
{
	struct canceller c = { .at = 0 };
	struct got g = { 0 };
	struct wfs_get get = { .name = "a", .max = SIZE, .sink = collect, .arg = &g, .cancel = &c.flag };
	pthread_t t;

	REQUIRE(st && pthread_create(&t, NULL, cancel_soon, &c) == 0);
	CHECK_INT(wfs_store_get(st, &get, NULL), -ECANCELED, what);
	pthread_join(t, NULL);
	CHECK(ms_since(c.at) < 1000);
	wfs_store_close(st);
	CHECK(ms_since(c.at) < 1500);		/* nor does close wait for anything */
}

static void test_cancel(void)
{
	static const char *const hows[] = { "stall-headers", "stall-body", "dribble", "s503", "limited-ten-years" };
	struct wfs_store_opts slow = { .rate = 1000 };

	for (size_t i = 0; i < ARRAY_SIZE(hows); i++)
		check_cancel(open_hostile(hows[i], NULL), hows[i]);
	check_cancel(open_hostile("ok", &slow), "held by the rate limit");
	check_cancel(open_url("http", closed_port(), "", NULL), "refused");
	/* the TLS handshake gets no answer from a server that speaks http only after a request */
	check_cancel(open_url("https", hostile.port, "/ok", NULL), "handshake");
}

/* A listener with a full queue: the SYN is not answered. */
static void test_silent_connect(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct wfs_store_opts opts = { .connect_ms = 300, .read_timeout_ms = 1000 };
	struct got g = { 0 };
	struct wfs_get get = { .name = "a", .max = SIZE, .sink = collect, .arg = &g, .once = true };
	socklen_t len = sizeof(sa);
	int s = socket(AF_INET, SOCK_STREAM, 0), fill[8];
	struct wfs_store *st;
	uint64_t start;

	REQUIRE(bind(s, (struct sockaddr *)&sa, len) == 0 && listen(s, 0) == 0);
	REQUIRE(getsockname(s, (struct sockaddr *)&sa, &len) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(fill); i++) {
		fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		CHECK(connect(fill[i], (struct sockaddr *)&sa, len) < 0 && errno == EINPROGRESS);
	}
	st = open_url("http", ntohs(sa.sin_port), "", &opts);
	start = wfs_now_ns();
	CHECK_INT(wfs_store_get(st, &get, NULL), -ENETUNREACH, "connect");
	CHECK(ms_since(start) >= 250 && ms_since(start) < 2000);
	wfs_store_close(st);
	check_cancel(open_url("http", ntohs(sa.sin_port), "", NULL), "connect");
	for (size_t i = 0; i < ARRAY_SIZE(fill); i++)
		close(fill[i]);
	close(s);
}

/* In a child with a mount namespace of its own, whose only name server never answers. */
static int cancel_in_silent_dns(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(53) };
	struct wfs_store *st = NULL;
	char conf[] = "/tmp/wfs-resolv-XXXXXX";
	int fd = mkstemp(conf), s = socket(AF_INET, SOCK_DGRAM, 0);

	sa.sin_addr.s_addr = htonl(0x7f0000fd);		/* 127.0.0.253 */
	if (fd < 0 || write(fd, "nameserver 127.0.0.253\n", 23) != 23)
		return 1;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount(conf, "/etc/resolv.conf", NULL, MS_BIND, NULL) < 0 || bind(s, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		unlink(conf);
		return 77;
	}
	unlink(conf);
	if (wfs_store_open(&st, "http://name.invalid/x", NULL, false, NULL) < 0)
		return 1;
	test_failed_checks = 0;
	check_cancel(st, "a silent name server");
	return test_failed_checks ? 1 : 0;
}

static void test_silent_dns(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(cancel_in_silent_dns());
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		printf("skipped: no right to mount over resolv.conf\n");
	else
		CHECK_INT(WEXITSTATUS(status), 0, "cancelled while resolving");
}

/* --- rate --- */

static void test_rate(void)
{
	struct wfs_store_opts opts = { .rate = 100000, .stall_ms = 200 };
	struct wfs_store *st = open_hostile("ok", &opts);
	struct got g = { 0 };
	struct wfs_get get = { .name = "a", .max = SIZE, .sink = collect, .arg = &g, .demand = true };
	uint64_t start = wfs_now_ns();

	REQUIRE(st);
	CHECK_INT(wfs_store_get(st, &get, NULL), 0, "demand");
	CHECK(ms_since(start) < 500);
	g = (struct got) { 0 };
	get.demand = false;
	start = wfs_now_ns();
	CHECK_INT(wfs_store_get(st, &get, NULL), 0, "background pays for both");
	CHECK(ms_since(start) >= 1200 && ms_since(start) < 6000);
	CHECK(!g.wrong && g.next == SIZE);
	wfs_store_close(st);
}

/* --- threads share a store --- */

struct worker {
	struct wfs_store *st;
	unsigned failed;
};

static void *get_many(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < 30; i++) {
		struct got g = { 0 };
		struct wfs_get get = { .name = "a", .off = i * 1000 + 1, .len = 7000, .max = SIZE, .sink = collect, .arg = &g };

		w->failed += wfs_store_get(w->st, &get, NULL) != 0 || g.wrong || g.next != get.off + get.len;
	}
	return NULL;
}

static void test_threads(void)
{
	static const char *const hows[] = { "ok", "drops-idle" };

	for (size_t i = 0; i < ARRAY_SIZE(hows); i++) {
		struct worker w[8];
		pthread_t t[8];
		struct wfs_store *st = open_hostile(hows[i], NULL);

		REQUIRE(st);
		for (size_t k = 0; k < ARRAY_SIZE(t); k++) {
			w[k] = (struct worker) { .st = st };
			CHECK(pthread_create(&t[k], NULL, get_many, &w[k]) == 0);
		}
		for (size_t k = 0; k < ARRAY_SIZE(t); k++) {
			pthread_join(t[k], NULL);
			CHECK_INT(w[k].failed, 0, hows[i]);
		}
		wfs_store_close(st);
	}
}

/* --- real servers --- */

static void check_server(const char *scheme, int port, bool ranges, const struct wfs_store_opts *opts)
{
	struct wfs_store *st = open_url(scheme, port, "", opts);
	struct wfs_buf b = WFS_BUF_INIT;
	struct wfs_err err = { 0 };
	struct got g = { 0 };
	struct wfs_get get = { .name = "packs/a", .off = 1234, .len = 5000, .max = SIZE, .sink = collect, .arg = &g };

	REQUIRE(st && port > 0);
	CHECK_INT(wfs_store_get_buf(&b, st, "packs/a", SIZE, true, NULL, &err), 0, err.msg);
	CHECK(b.len == SIZE && b.data[SIZE - 1] == byte_at(SIZE - 1));
	CHECK_INT(wfs_store_get(st, &get, &err), 0, err.msg);
	CHECK(!g.wrong && g.start == (ranges ? 1234 : 0) && g.next == (ranges ? 6234 : SIZE));
	CHECK_INT(wfs_store_get_buf(&b, st, "packs/missing", SIZE, true, NULL, &err), -ENOENT, "missing");
	CHECK_INT(wfs_store_get_buf(&b, st, "packs/a", SIZE - 1, true, NULL, &err), -EBADMSG, "over the limit");
	wfs_buf_free(&b);
	wfs_store_close(st);
}

static void test_real_servers(void)
{
	struct wfs_store_opts opts = { .cacert = cert_file };

	check_server("http", nginx.port, true, NULL);
	check_server("https", nginx_tls.port, true, &opts);
	check_server("http", pyhttp.port, false, NULL);
}

/* One connection serves the gets that follow one another. */
static void test_keep_alive(void)
{
	struct wfs_store *st = open_url("http", nginx.port, "", NULL);
	struct wfs_buf log = WFS_BUF_INIT, b = WFS_BUF_INIT;
	char path[128];
	unsigned accepted = 0;

	REQUIRE(st);
	snprintf(path, sizeof(path), "%s/error.log", work[0]);
	CHECK(truncate(path, 0) == 0);
	for (int i = 0; i < 20; i++)
		CHECK_INT(wfs_store_get_buf(&b, st, i % 2 ? "packs/missing" : "packs/a", SIZE, false, NULL, NULL),
			  i % 2 ? -ENOENT : 0, "get");
	wfs_store_close(st);
	CHECK_INT(wfs_read_file(&log, AT_FDCWD, path, 1 << 20, NULL), 0, path);
	CHECK(wfs_buf_append(&log, "", 1) == 0);
	for (const char *p = (char *)log.data; p && (p = strstr(p, "closed keepalive connection")); p++)
		accepted++;
	CHECK(accepted <= 1);
	wfs_buf_free(&log);
	wfs_buf_free(&b);
}

static void test_tls_is_verified(void)
{
	struct wfs_store_opts opts = { .cacert = cert_file };
	struct wfs_buf b = WFS_BUF_INIT;
	struct wfs_err err = { 0 };
	struct wfs_store *st = open_url("https", nginx_tls.port, "", NULL);
	char url[64];

	REQUIRE(st);
	CHECK_INT(wfs_store_get_buf(&b, st, "packs/a", SIZE, false, NULL, &err), -EACCES, "unknown authority");
	CHECK(strstr(err.msg, "certificate"));
	wfs_store_close(st);

	snprintf(url, sizeof(url), "https://localhost:%d", nginx_tls.port);	/* the certificate is for 127.0.0.1 */
	CHECK_INT(wfs_store_open(&st, url, &opts, false, NULL), 0, "open");
	CHECK_INT(wfs_store_get_buf(&b, st, "packs/a", SIZE, false, NULL, &err), -EACCES, "another name");
	wfs_store_close(st);

	st = open_url("https", hostile_tls.port, "/ok", &opts);
	CHECK_INT(wfs_store_get_buf(&b, st, "packs/a", SIZE, false, NULL, &err), 0, "https");
	wfs_store_close(st);
	st = open_url("https", hostile_tls.port, "/moved-http", &opts);
	CHECK_INT(wfs_store_get_buf(&b, st, "packs/a", SIZE, false, NULL, &err), -EBADMSG, "down to http");
	CHECK(strstr(err.msg, "from https"));
	wfs_store_close(st);
	wfs_buf_free(&b);
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

static bool start_servers(void)
{
	struct server cert;
	WFS_AUTO(wfs_free_ptr) uint8_t *data = malloc(SIZE);
	char path[128];

	snprintf(root, sizeof(root), "/tmp/wfs-http-XXXXXX");
	if (!data || !mkdtemp(root))
		return false;
	for (unsigned i = 0; i < SIZE; i++)
		data[i] = byte_at(i);
	for (int i = 0; i < 2; i++) {
		snprintf(work[i], sizeof(work[i]), "%s/work%d", root, i);
		mkdir(work[i], 0755);
	}
	snprintf(certs, sizeof(certs), "%s/certs", root);
	snprintf(cert_file, sizeof(cert_file), "%s/cert.pem", certs);
	mkdir(certs, 0700);
	snprintf(path, sizeof(path), "%s/www/packs", root);
	if (wfs_mkdirs(AT_FDCWD, path, 0755, NULL) < 0)
		return false;
	snprintf(path, sizeof(path), "%s/www/packs/a", root);
	if (wfs_write_file(AT_FDCWD, path, data, SIZE, 0644, NULL) < 0)
		return false;
	snprintf(path, sizeof(path), "%s/www", root);
	if (!SERVER_START(&cert, "serve.py", "cert", certs))
		return false;
	waitpid(cert.pid, NULL, 0);
	return SERVER_START(&hostile, "hostile.py") && SERVER_START(&hostile_tls, "hostile.py", certs) &&
	       SERVER_START(&nginx, "serve.py", "nginx", path, work[0]) &&
	       SERVER_START(&nginx_tls, "serve.py", "nginx", path, work[1], certs) &&
	       SERVER_START(&pyhttp, "serve.py", "pyhttp", path);
}

int main(int argc, char **argv)
{
	static const struct test_case tests[] = {
		T(test_content_range), T(test_open_refuses), T(test_read_only), T(test_behaviours), T(test_hops),
		T(test_request_headers), T(test_get_buf), T(test_retry_after), T(test_once), T(test_nothing_moves),
		T(test_stall_is_left_and_resumed), T(test_slow_sink_is_no_stall), T(test_sink_code), T(test_cancel),
		T(test_silent_connect), T(test_silent_dns), T(test_rate), T(test_threads), T(test_real_servers),
		T(test_keep_alive), T(test_tls_is_verified),
	};
	struct server *servers[] = { &hostile, &hostile_tls, &nginx, &nginx_tls, &pyhttp };
	int r = 1;

	if (start_servers())
		r = test_run(tests, ARRAY_SIZE(tests), argc, argv);
	else
		fprintf(stderr, "the servers did not start (python3, nginx and openssl are needed)\n0 passed, 1 failed\n");
	for (size_t i = 0; i < ARRAY_SIZE(servers); i++)
		server_stop(servers[i]);
	wfs_remove_tree(AT_FDCWD, root, NULL);
	return r;
}
