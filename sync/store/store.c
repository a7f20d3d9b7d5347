/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.c - a store by its URL: picks the backend and checks what crosses the seam
 */
#include "weightfs/store.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "weightfs/base.h"
#include "store/backend.h"

#define CONNECT_MS 15000u
#define STALL_MS 30000u
#define READ_TIMEOUT_MS 300000u

/* Names are built by us from digits, hex and fixed words.  Checked in every build: a bug here would
 * turn bytes from a network into a path. */
int wfs_store_check_name(const char *name, struct wfs_err *err)
{
	const char *allowed = "abcdefghijklmnopqrstuvwxyz0123456789-./";
	size_t len = strlen(name);

	if (len > 0 && len < 256 && strspn(name, allowed) == len &&
	    name[0] != '/' && name[0] != '.' && name[len - 1] != '/' &&
	    !strstr(name, "//") && !strstr(name, "/."))
		return 0;
	return wfs_fail(err, -EINVAL, "\"%s\" is not the name of an object", name);
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' :
	       c >= 'a' && c <= 'f' ? c - 'a' + 10 :
	       c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* In place; false: a % without two digits, or a NUL. */
static bool percent_decode(char *s)
{
	char *to = s;

	for (; *s; s++, to++) {
		*to = *s;
		if (*s != '%')
			continue;
		if (hex_value(s[1]) < 0 || hex_value(s[2]) < 0)
			return false;
		*to = (char)(hex_value(s[1]) << 4 | hex_value(s[2]));
		if (!*to)
			return false;
		s += 2;
	}
	*to = '\0';
	return true;
}

static int open_file_url(struct wfs_store *st, const char *rest, bool create, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) char *path = NULL;

	if (!strncasecmp(rest, "localhost/", 10))
		rest += 9;
	if (*rest != '/')
		return wfs_fail(err, -EINVAL, "a file URL names an absolute path on this machine: file:///path");
	if (strpbrk(rest, "?#"))
		return wfs_fail(err, -EINVAL, "a file URL has no query and no fragment (write %%3F and %%23 for ? and #)");
	path = strdup(rest);
	if (!path)
		return wfs_fail(err, -ENOMEM, "out of memory");
	if (!percent_decode(path))
		return wfs_fail(err, -EINVAL, "a %% in a file URL is followed by two hexadecimal digits, not 00");
	return wfs_dir_open(st, path, create, err);
}

static int open_backend(struct wfs_store *st, const char *url, bool create, struct wfs_err *err)
{
	const char *sep = strstr(url, "://");
	size_t n = sep ? (size_t)(sep - url) : 0;

	if (!url[0])
		return wfs_fail(err, -EINVAL, "a store is a directory, file://, http:// or https://");
	if (!sep || memchr(url, '/', n))
		return wfs_dir_open(st, url, create, err);
	if (n == 4 && !strncasecmp(url, "file", n))
		return open_file_url(st, sep + 3, create, err);
	if ((n == 4 && !strncasecmp(url, "http", n)) || (n == 5 && !strncasecmp(url, "https", n)))
		return wfs_http_open(st, url, err);
	return wfs_fail(err, -EINVAL, "%.*s:// is not supported: a store is a directory, file://, http:// or https://",
			(int)WFS_MIN(n, 32u), url);
}

static int set_options(struct wfs_store *st, const struct wfs_store_opts *opts, struct wfs_err *err)
{
	static const struct wfs_store_opts none;

	if (!opts)
		opts = &none;
	st->connect_ms = opts->connect_ms ? opts->connect_ms : CONNECT_MS;
	st->stall_ms = opts->stall_ms ? opts->stall_ms : STALL_MS;
	st->read_timeout_ms = opts->read_timeout_ms ? opts->read_timeout_ms : READ_TIMEOUT_MS;
	/* one attempt never takes longer than all of them may */
	st->stall_ms = WFS_MIN(st->stall_ms, st->read_timeout_ms);
	st->connect_ms = WFS_MIN(st->connect_ms, st->read_timeout_ms);
	wfs_rate_init(&st->rate, opts->rate);
	if (opts->cacert && !(st->cacert = strdup(opts->cacert)))
		return wfs_fail(err, -ENOMEM, "out of memory");
	return 0;
}

int wfs_store_open(struct wfs_store **out, const char *url, const struct wfs_store_opts *opts,
		   bool create, struct wfs_err *err)
{
	struct wfs_store *st = calloc(1, sizeof(*st));
	int r;

	if (!st)
		return wfs_fail(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&st->trouble_lock, NULL);
	r = wfs_watch_init(&st->watch, err);
	if (r == 0)
		r = set_options(st, opts, err);
	if (r == 0)
		r = open_backend(st, url, create, err);
	if (r < 0) {
		wfs_store_close(st);
		return r;
	}
	*out = st;
	return 0;
}

void wfs_store_close(struct wfs_store *st)
{
	if (!st)
		return;
	wfs_watch_done(&st->watch);
	if (st->backend)
		st->backend->close(st);
	wfs_rate_done(&st->rate);
	pthread_mutex_destroy(&st->trouble_lock);
	free(st->url);
	free(st->cacert);
	free(st);
}

const char *wfs_store_url(const struct wfs_store *st)
{
	return st->url;
}

bool wfs_store_is_local(const struct wfs_store *st)
{
	return st->backend->local;
}

uint64_t wfs_store_received(const struct wfs_store *st)
{
	return atomic_load_explicit(&st->received, memory_order_relaxed);
}

uint64_t wfs_store_last_progress(const struct wfs_store *st)
{
	return atomic_load_explicit(&st->last_progress, memory_order_relaxed);
}

void wfs_store_wait(struct wfs_store *st, unsigned ms, const atomic_bool *cancel)
{
	wfs_watch_wait(&st->watch, ms, cancel);
}

void wfs_store_wake(struct wfs_store *st)
{
	wfs_watch_wake(&st->watch);
}

void wfs_store_on_trouble(struct wfs_store *st, wfs_trouble_fn *fn, void *arg)
{
	pthread_mutex_lock(&st->trouble_lock);
	st->trouble_fn = fn;
	st->trouble_arg = arg;
	pthread_mutex_unlock(&st->trouble_lock);
}

bool wfs_store_in_trouble(struct wfs_store *st)
{
	bool some;

	pthread_mutex_lock(&st->trouble_lock);
	some = st->n_trouble > 0;
	pthread_mutex_unlock(&st->trouble_lock);
	return some;
}

int wfs_store_get(struct wfs_store *st, const struct wfs_get *get, struct wfs_err *err)
{
	struct wfs_err why = { 0 };
	int r;

	assert(get->sink && (get->len || !get->off));
	r = wfs_store_check_name(get->name, err);
	if (r < 0)
		return r;
	if (get->len && (get->len > get->max || get->off > get->max - get->len))
		return wfs_fail(err, -EINVAL, "%s: a range beyond the object's end", get->name);
	r = wfs_store_run(st, get, false, &why);
	return why.msg[0] ? wfs_fail(err, r, "%s: %s", get->name, why.msg) : r;
}

/* An attempt that starts over begins at 0 again. */
static int buf_sink(void *arg, uint64_t off, const void *data, size_t len)
{
	struct wfs_buf *b = arg;

	if (off == 0)
		b->len = 0;
	return wfs_buf_append(b, data, len);
}

int wfs_store_get_buf(struct wfs_buf *out, struct wfs_store *st, const char *name, size_t max,
		      bool fresh, const atomic_bool *cancel, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf b = WFS_BUF_INIT;
	struct wfs_get get = {
		.name = name, .max = max, .sink = buf_sink, .arg = &b, .cancel = cancel, .fresh = fresh,
	};
	struct wfs_err why = { 0 };
	int r;

	r = wfs_store_check_name(name, err);
	if (r < 0)
		return r;
	/* What is asked for fresh is what may change: two halves need not belong together. */
	r = wfs_store_run(st, &get, fresh, &why);
	if (r == -ENOMEM && !why.msg[0])
		wfs_fail(&why, r, "out of memory");
	if (r < 0)
		return why.msg[0] ? wfs_fail(err, r, "%s: %s", name, why.msg) : r;
	wfs_buf_free(out);
	*out = wfs_buf_take(&b);
	return 0;
}

static int read_only(struct wfs_err *err)
{
	return wfs_fail(err, -EOPNOTSUPP, "only a store in a directory can be written");
}

int wfs_store_put(struct wfs_store *st, const char *name, const void *data, size_t len, struct wfs_err *err)
{
	int r = wfs_store_check_name(name, err);

	if (r < 0)
		return r;
	return st->backend->put ? st->backend->put(st, name, data, len, err) : read_only(err);
}

int wfs_store_create(struct wfs_store *st, const char *name, const void *data, size_t len, struct wfs_err *err)
{
	int r = wfs_store_check_name(name, err);

	if (r < 0)
		return r;
	return st->backend->create ? st->backend->create(st, name, data, len, err) : read_only(err);
}

int wfs_store_replace(struct wfs_store *st, const char *name, const void *data, size_t len, struct wfs_err *err)
{
	int r = wfs_store_check_name(name, err);

	if (r < 0)
		return r;
	return st->backend->replace ? st->backend->replace(st, name, data, len, err) : read_only(err);
}

int wfs_put_begin(struct wfs_put **out, struct wfs_store *st, struct wfs_err *err)
{
	return st->backend->put_begin ? st->backend->put_begin(out, st, err) : read_only(err);
}

int wfs_store_list(struct wfs_store *st, const char *dir, const struct wfs_store_name *names, size_t n,
		   struct wfs_err *err)
{
	int r = wfs_store_check_name(dir, err);

	if (r < 0)
		return r;
	return st->backend->list ? st->backend->list(st, dir, names, n, err) : read_only(err);
}

int wfs_store_each(struct wfs_store *st, const char *kind, wfs_each_fn *fn, void *arg, struct wfs_err *err)
{
	int r = wfs_store_check_name(kind, err);

	if (r < 0)
		return r;
	return st->backend->each ? st->backend->each(st, kind, fn, arg, err) : read_only(err);
}

int wfs_store_remove(struct wfs_store *st, const char *name, struct wfs_err *err)
{
	int r = wfs_store_check_name(name, err);

	if (r < 0)
		return r;
	return st->backend->remove ? st->backend->remove(st, name, err) : read_only(err);
}

int wfs_store_lock(struct wfs_store *st, const struct wfs_lock *how, struct wfs_err *err)
{
	static const struct wfs_lock at_once;

	return st->backend->lock ? st->backend->lock(st, how ? how : &at_once, err) : read_only(err);
}

void wfs_store_unlock(struct wfs_store *st)
{
	if (st->backend->unlock)
		st->backend->unlock(st);
}
