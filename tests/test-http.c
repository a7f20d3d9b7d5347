/* SPDX-License-Identifier: Apache-2.0 */
/* test-http.c - the HTTP store against nginx, with and without TLS, and Python's http.server */
#include <sys/stat.h>

#include "http.h"
#include "weightfs/io.h"

static struct server hostile_tls, nginx, nginx_tls, pyhttp;
static char root[32], work[2][64], certs[64], cert_file[96];

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
	CHECK_INT(wfs_store_lock(st, NULL, NULL), -EOPNOTSUPP, "lock");
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
		T(test_open_refuses), T(test_read_only), T(test_sink_code), T(test_threads), T(test_real_servers),
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
