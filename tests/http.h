/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.h - what the tests of HTTP stores share: hostile.py's object and its server
 */
#ifndef WEIGHTFS_TEST_HTTP_H
#define WEIGHTFS_TEST_HTTP_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#include "servers.h"
#include "test.h"
#include "weightfs/store.h"

#define SIZE 100000u		/* of hostile.py's object */

static struct server hostile;

static inline uint8_t byte_at(uint64_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

struct got {
	uint64_t start, next;
	bool begun, wrong;
	uint64_t stop_at;
	unsigned slow_ms;
};

static inline int collect(void *arg, uint64_t off, const void *data, size_t len)
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

static inline struct wfs_store *open_url(const char *scheme, int port, const char *path,
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

static inline struct wfs_store *open_hostile(const char *how, const struct wfs_store_opts *opts)
{
	char path[64];

	snprintf(path, sizeof(path), "/%s", how);
	return open_url("http", hostile.port, path, opts);
}

/* How often the server was asked so. */
static inline int asked(const char *how)
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

static inline uint64_t ms_since(uint64_t start)
{
	return (wfs_now_ns() - start) / 1000000;
}

/* Runs the tests with hostile.py as the only server. */
static inline int http_test_run(const struct test_case *tests, size_t n, int argc, char **argv)
{
	int r = 1;

	if (SERVER_START(&hostile, "hostile.py"))
		r = test_run(tests, n, argc, argv);
	else
		fprintf(stderr, "the server did not start (python3 is needed)\n0 passed, 1 failed\n");
	server_stop(&hostile);
	return r;
}

#define HTTP_TEST_MAIN(...) \
	int main(int argc, char **argv) \
	{ \
		static const struct test_case tests[] = { __VA_ARGS__ }; \
		return http_test_run(tests, ARRAY_SIZE(tests), argc, argv); \
	}

#endif
