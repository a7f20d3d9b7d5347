/* SPDX-License-Identifier: Apache-2.0 */
/* test-http-time.c - servers that are silent or slow, cancelling, and our own rate limit */
#include <netinet/in.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "http.h"

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

/* What a store tells while it is tried. */
struct told {
	unsigned n, over;
	uint64_t left_ms;
	char why[256];
};

static void on_trouble(void *arg, const struct wfs_trouble *t)
{
	struct told *told = arg;

	told->n += t->why != NULL;
	told->over += !t->why;
	if (!t->why)
		return;
	told->left_ms = t->left_ms;
	snprintf(told->why, sizeof(told->why), "%s: %s", t->name, t->why);
}

/* One failure that the first retry mends is not told, a second is, and one that took long is at once. */
static void test_trouble(void)
{
	static const struct { const char *how; unsigned stall_ms; int want; unsigned n, over; const char *says; } hows[] = {
		{ "ok", 0, 0, 0, 0, "" }, { "early", 0, 0, 0, 0, "" }, { "s404", 0, -ENOENT, 0, 0, "" },
		{ "limited", 0, 0, 0, 0, "" }, { "busy", 0, 0, 2, 1, "a: " }, { "stall-headers", 2500, -ETIMEDOUT, 1, 0, "a: " },
	};

	for (size_t i = 0; i < ARRAY_SIZE(hows); i++) {
		struct wfs_store_opts opts = { .stall_ms = hows[i].stall_ms, .read_timeout_ms = 5000 };
		struct wfs_store *st = open_hostile(hows[i].how, &opts);
		struct got g = { 0 };
		struct wfs_get get = { .name = "a", .max = SIZE, .sink = collect, .arg = &g };
		struct told told = { 0 };

		REQUIRE(st);
		wfs_store_on_trouble(st, on_trouble, &told);
		CHECK_INT(wfs_store_get(st, &get, NULL), hows[i].want, hows[i].how);
		CHECK_INT(told.n, hows[i].n, hows[i].how);
		CHECK_INT(told.over, hows[i].over, hows[i].how);
		CHECK(strstr(told.why, hows[i].says) && told.left_ms <= 5000 && !told.left_ms == !told.n);
		CHECK(!wfs_store_in_trouble(st));
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

HTTP_TEST_MAIN(T(test_once), T(test_trouble), T(test_nothing_moves), T(test_stall_is_left_and_resumed),
	       T(test_slow_sink_is_no_stall), T(test_cancel), T(test_silent_connect), T(test_silent_dns),
	       T(test_rate))
