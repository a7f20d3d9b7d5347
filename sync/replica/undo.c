/* SPDX-License-Identifier: Apache-2.0 */
/*
 * undo.c - the publisher's way back: older versions as changes against newer ones
 *
 *   undo/<table>    64 hex digits: the table by which that file is made from a later version's
 *
 * An undo table is an ordinary table whose stored bytes all lie in the stash already, so reading an
 * older version needs no code of its own: it is one more way in a plan, which costs nothing.  Every
 * block that it yields is compared with the published table's hash, so what is lost or rotten can only
 * be missing.  Therefore nothing here is synced.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/draft.h"
#include "weightfs/io.h"

#define HEX_LEN 64

struct wfs_undo {
	struct wfs_replica *r;
	int fd;
	char temp[64];
};

static int read_index(struct wfs_replica *r, const char *name, struct wfs_digest *out)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	int ret = wfs_read_file(&raw, r->cache.dir, name, HEX_LEN, NULL);

	return ret < 0 ? ret : wfs_digest_parse(out, (const char *)raw.data, raw.len);
}

bool wfs_undo_find(struct wfs_replica *r, const struct wfs_digest *primary, struct wfs_digest *out)
{
	char name[WFS_OBJECT_NAME];
	struct wfs_digest table;

	if (!r->has_undo)
		return false;
	wfs_object_name(name, "undo", primary);
	return read_index(r, name, out ? out : &table) == 0;
}

static int each_file(struct wfs_replica *r, int (*fn)(void *arg, const struct wfs_digest *primary), void *arg)
{
	int fd = openat(r->cache.dir, "undo", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), ret = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct wfs_digest primary;
	struct dirent *e;

	if (!d) {
		wfs_close_fd(&fd);
		return 0;
	}
	while (ret == 0 && (e = readdir(d)))
		if (wfs_digest_parse(&primary, e->d_name, strlen(e->d_name)) == 0)
			ret = fn(arg, &primary);
	closedir(d);
	return ret;
}

struct each {
	struct wfs_replica *r;
	int (*fn)(void *arg, const struct wfs_digest *table);
	void *arg;
	const struct wfs_digest *keep;
	size_t n_keep;
};

static int pass_on(void *arg, const struct wfs_digest *primary)
{
	const struct each *e = arg;
	struct wfs_digest table;

	return wfs_undo_find(e->r, primary, &table) ? e->fn(e->arg, &table) : 0;
}

int wfs_undo_each(struct wfs_replica *r, int (*fn)(void *arg, const struct wfs_digest *table), void *arg)
{
	struct each e = { .r = r, .fn = fn, .arg = arg };

	return r->has_undo ? each_file(r, pass_on, &e) : 0;
}

static int drop_other(void *arg, const struct wfs_digest *primary)
{
	const struct each *e = arg;
	char name[WFS_OBJECT_NAME];

	for (size_t i = 0; i < e->n_keep; i++)
		if (wfs_digest_equal(&e->keep[i], primary))
			return 0;
	wfs_object_name(name, "undo", primary);
	unlinkat(e->r->cache.dir, name, 0);
	return 0;
}

void wfs_undo_keep(struct wfs_replica *r, const struct wfs_digest *keep, size_t n)
{
	struct each e = { .r = r, .keep = keep, .n_keep = n };

	each_file(r, drop_other, &e);
}

/* ---- writing ---- */

int wfs_undo_begin(struct wfs_replica *r, struct wfs_err *err)
{
	int ret = wfs_mkdirs(r->cache.dir, "undo", 0700, err);

	r->has_undo = ret == 0;
	return ret;
}

int wfs_undo_new(struct wfs_undo **out, struct wfs_replica *r, struct wfs_err *err)
{
	struct wfs_undo *u = calloc(1, sizeof(*u));
	int ret;

	if (!u)
		return wfs_fail(err, -ENOMEM, "out of memory");
	u->r = r;
	ret = wfs_temp_file(&u->fd, u->temp, r->cache.dir, "tmp", err);
	if (ret < 0) {
		free(u);
		return ret;
	}
	*out = u;
	return 0;
}

int wfs_undo_write(struct wfs_undo *u, const void *data, size_t len, struct wfs_err *err)
{
	int ret = wfs_cache_charge(&u->r->cache, len, NULL, true, err);

	return ret < 0 ? ret : wfs_write(u->fd, data, len, err);
}

int wfs_undo_commit(struct wfs_undo *u, const struct wfs_digest *primary, const struct wfs_buf *table,
		    struct wfs_err *err)
{
	struct wfs_cache *c = &u->r->cache;
	char name[WFS_OBJECT_NAME];
	struct wfs_digest id;
	int ret;

	wfs_sha256(&id, table->data, table->len);
	wfs_object_name(name, "stash", &id);
	ret = wfs_cache_put(c, &id, table->data, table->len, false, err);
	if (ret == 0 && renameat(c->dir, u->temp, c->dir, name) < 0)
		ret = wfs_fail_sys(err, "rename %s/%s", c->path, u->temp);
	if (ret == 0) {
		u->temp[0] = '\0';
		wfs_object_name(name, "undo", primary);
		ret = wfs_write_file(c->dir, name, wfs_hex(&id).s, HEX_LEN, 0600, err);
	}
	wfs_undo_abort(u);
	return ret;
}

void wfs_undo_abort(struct wfs_undo *u)
{
	if (!u)
		return;
	if (u->temp[0])
		unlinkat(u->r->cache.dir, u->temp, 0);
	wfs_close_fd(&u->fd);
	free(u);
}
