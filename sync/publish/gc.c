/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gc.c - mark what is needed, then remove the rest
 *
 * Needed to build a kept file from nothing is its anchor, or else its table, its bases, and so on down to
 * tables that need none (mark.c).  Version objects between the oldest kept version and what it is built from
 * stay too, without their commits, because plans are made from them.
 *
 * Order: `latest' is brought up to the newest commit.  Then go commits from the oldest up, so that those which are
 * there have no gap; the versions and the readable names; then tables, layouts, packs.  A run that was killed
 * leaves objects that nothing names.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "publish/mark.h"
#include "weightfs/base.h"
#include "weightfs/gc.h"
#include "weightfs/limits.h"
#include "weightfs/version.h"

#define HISTORY_MAX (2 * WFS_CHAIN_MAX)

struct gc {
	struct wfs_store *store;
	const struct wfs_gc_opts *o;
	struct wfs_gc_result *res;
	struct wfs_run run;
	struct wfs_marks marks;
	uint64_t now_ns;
	uint64_t *commits;		/* all sequences, rising */
	size_t n_commits, cap;
	struct wfs_err *err;
};

/* ---- what is there ---- */

static int add_commit(void *arg, const char *name, uint64_t size, uint64_t mtime_ns)
{
	struct gc *g = arg;
	uint64_t *bigger, n = 0;
	const char *c = strchr(name, '/') + 1;
	char check[WFS_OBJECT_NAME];

	(void)size;
	(void)mtime_ns;
	for (; *c >= '0' && *c <= '9' && n < 1ull << 53; c++)
		n = n * 10 + (uint64_t)(*c - '0');
	wfs_commit_name(check, n);
	if (strcmp(check, name) != 0)
		return 0;		/* not ours */
	if (g->n_commits == g->cap) {
		g->cap = g->cap ? g->cap * 2 : 64;
		bigger = realloc(g->commits, g->cap * sizeof(*bigger));
		if (!bigger)
			return wfs_fail(g->err, -ENOMEM, "out of memory");
		g->commits = bigger;
	}
	g->commits[g->n_commits++] = n;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int get_commit(struct gc *g, uint64_t sequence, struct wfs_commit *c)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	char name[WFS_OBJECT_NAME];
	int r;

	wfs_commit_name(name, sequence);
	r = wfs_store_get_buf(&raw, g->store, name, WFS_STORE_INFO_MAX, true, g->o->cancel, g->err);
	if (r == 0)
		r = wfs_commit_parse(c, raw.data, raw.len, g->err);
	if (r == 0 && (c->sequence != sequence || strcmp(c->run.s, g->run.s) != 0))
		r = wfs_fail(g->err, -EBADMSG, "is of another version or run");
	return r == -ENOENT ? r : r < 0 ? wfs_wrap(g->err, r, "%s", name) : 0;
}

static int get_run(struct gc *g)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	int r = wfs_store_get_buf(&raw, g->store, "weightfs-store", WFS_STORE_INFO_MAX, true, g->o->cancel, g->err);

	if (r == 0)
		r = wfs_store_info_parse(&g->run, raw.data, raw.len, g->err);
	return r == -ENOENT ? wfs_fail(g->err, r, "nothing is published in %s yet", wfs_store_url(g->store)) : r;
}

/* ---- what is kept ---- */

/* The oldest version to keep: versions beyond the number stay until what pushed them out is old enough. */
static int find_oldest(struct gc *g, size_t *first)
{
	struct wfs_version v;
	struct wfs_commit c;
	int r = 0;

	*first = g->n_commits > g->o->keep ? g->n_commits - (size_t)g->o->keep : 0;
	while (r == 0 && *first > 0) {
		r = get_commit(g, g->commits[*first + g->o->keep - 1], &c);
		if (r == 0)
			r = wfs_marks_version(&g->marks, &c.version, &v, g->err);
		if (r < 0)
			break;
		r = g->now_ns - WFS_MIN(v.time_ns, g->now_ns) < g->o->grace_ns;
		wfs_version_free(&v);
		if (r == 0)
			break;		/* old enough: what it pushed out may go */
		--*first;
		r = 0;
	}
	return r;
}

static int load_kept(struct gc *g, uint64_t sequence, struct wfs_version *v)
{
	struct wfs_commit c;
	int r = get_commit(g, sequence, &c);

	if (r == -ENOENT)
		return wfs_fail(g->err, -EBADMSG, "commits/%" PRIu64 " vanished", sequence);
	if (r == 0)
		r = wfs_marks_version(&g->marks, &c.version, v, g->err);
	return r < 0 ? wfs_wrap(g->err, r, "version %" PRIu64 ", which is kept", sequence) : 0;
}

/* ---- what the oldest one lies upon ---- */

/* Version objects before it, by parents and strides, as far as they are there and not stored in full. */
struct before {
	struct wfs_digest id[HISTORY_MAX];
	struct wfs_version v[HISTORY_MAX];	/* n_files 0: not there */
	size_t n;
};

static void add_before(struct before *b, const struct wfs_version *v)
{
	bool full = true;

	for (size_t i = 0; i < v->n_files; i++)
		full &= v->files[i].whole || v->files[i].has_anchor;
	for (unsigned i = 0; !full && i < v->n_strides + (v->n_parents > 0); i++) {
		const struct wfs_digest *id = i < v->n_strides ? &v->strides[i].id : &v->parents[0];
		size_t k;

		for (k = 0; k < b->n && !wfs_digest_equal(&b->id[k], id); k++)
			;
		if (k == b->n && k < HISTORY_MAX)
			b->id[b->n++] = *id;
	}
}

static int look_before(struct gc *g, const struct wfs_version *oldest, struct before *b)
{
	int r = 0;

	add_before(b, oldest);
	for (size_t i = 0; r == 0 && i < b->n; i++) {
		r = wfs_marks_peek(&g->marks, &b->id[i], &b->v[i], g->err);
		if (r == 0)
			add_before(b, &b->v[i]);
		if (r == 0)
			r = wfs_marks_shortcuts(&g->marks, &b->v[i], g->err);
		if (r == -ENOENT)		/* an earlier run took it: plans do without */
			r = 0;
	}
	return r;
}

/* Kept are those that say how something needed is built. */
static int keep_before(struct gc *g, const struct before *b)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < b->n; i++) {
		bool used = false;

		for (size_t k = 0; k < b->v[i].n_files; k++) {
			const struct wfs_file *f = &b->v[i].files[k];

			used |= !f->whole && wfs_marks_has(&g->marks, "tables", &f->table);
			used |= f->has_anchor && wfs_marks_has(&g->marks, "tables", &f->anchor);
			for (unsigned n = 0; n < f->n_strides; n++)
				used |= wfs_marks_has(&g->marks, "tables", &f->strides[n].id);
		}
		if (used)
			r = wfs_marks_add(&g->marks, "versions", &b->id[i], g->err);
	}
	return r;
}

static int mark_oldest(struct gc *g, const struct wfs_version *v)
{
	struct before *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return wfs_fail(g->err, -ENOMEM, "out of memory");
	r = look_before(g, v, b);
	if (r == 0)
		r = wfs_marks_shortcuts(&g->marks, v, g->err);
	if (r == 0)
		r = wfs_marks_files(&g->marks, v, g->err);
	if (r == 0)
		r = keep_before(g, b);
	for (size_t i = 0; i < b->n; i++)
		wfs_version_free(&b->v[i]);
	free(b);
	return r;
}

static int mark(struct gc *g, size_t first)
{
	struct wfs_version v;
	int r = 0;

	for (size_t i = first; r == 0 && i < g->n_commits; i++) {
		if (g->o->cancel && *g->o->cancel)
			return -ECANCELED;
		r = load_kept(g, g->commits[i], &v);
		if (r < 0)
			break;
		r = i == first ? mark_oldest(g, &v) : wfs_marks_files(&g->marks, &v, g->err);
		if (r < 0)
			wfs_wrap(g->err, r, "version %" PRIu64 ", which is kept", v.sequence);
		wfs_version_free(&v);
	}
	return r;
}

/* ---- removing ---- */

static int remove_name(struct gc *g, const char *name, uint64_t size)
{
	int r = g->o->dry_run ? 0 : wfs_store_remove(g->store, name, g->err);

	if (r < 0)
		return r;
	g->res->objects++;
	g->res->bytes += size;
	return g->o->cancel && *g->o->cancel ? -ECANCELED : 0;
}

static int remove_commits(struct gc *g, size_t first)
{
	char name[WFS_OBJECT_NAME];
	int r = 0;

	for (size_t i = 0; r == 0 && i < first; i++) {
		wfs_commit_name(name, g->commits[i]);
		r = remove_name(g, name, 0);
		g->res->versions++;
	}
	return r;
}

static int sweep_object(void *arg, const char *name, uint64_t size, uint64_t mtime_ns)
{
	struct gc *g = arg;
	const char *slash = strchr(name, '/');
	char kind[16] = "";
	struct wfs_digest id;

	memcpy(kind, name, WFS_MIN((size_t)(slash - name), sizeof(kind) - 1));
	if (wfs_digest_parse(&id, slash + 1, strlen(slash + 1)) < 0)
		return 0;		/* not ours */
	if (wfs_marks_has(&g->marks, kind, &id) || g->now_ns - WFS_MIN(mtime_ns, g->now_ns) < g->o->grace_ns) {
		g->res->kept_objects++;
		g->res->kept_bytes += size;
		return 0;
	}
	return remove_name(g, name, size);
}

/* Readable names point at packs of a version that is not kept any more. */
static int sweep_model(void *arg, const char *name, uint64_t size, uint64_t mtime_ns)
{
	struct gc *g = arg;
	uint64_t n = strtoull(strchr(name, '/') + 1, NULL, 10);

	(void)size;
	(void)mtime_ns;
	return n && n < g->res->oldest ? remove_name(g, name, 0) : 0;
}

/* A publisher that was killed behind its commit has left `latest' at an older one, which may go now. */
static int renew_latest(struct gc *g)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf newest = WFS_BUF_INIT, latest = WFS_BUF_INIT;
	char name[WFS_OBJECT_NAME];
	int r;

	wfs_commit_name(name, g->res->newest);
	r = wfs_store_get_buf(&newest, g->store, name, WFS_STORE_INFO_MAX, true, g->o->cancel, g->err);
	if (r < 0)
		return wfs_wrap(g->err, r == -ENOENT ? -EBADMSG : r, "%s", name);
	r = wfs_store_get_buf(&latest, g->store, "latest", WFS_STORE_INFO_MAX, true, g->o->cancel, NULL);
	if (r == 0 && latest.len == newest.len && memcmp(latest.data, newest.data, newest.len) == 0)
		return 0;
	return wfs_store_replace(g->store, "latest", newest.data, newest.len, g->err);
}

static int sweep(struct gc *g, size_t first)
{
	static const char *const kinds[] = { "versions", "tables", "layouts", "packs" };
	int r = g->o->dry_run ? 0 : renew_latest(g);

	if (r == 0)
		r = remove_commits(g, first);
	if (r == 0)
		r = wfs_store_each(g->store, "models", sweep_model, g, g->err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++)
		r = wfs_store_each(g->store, kinds[i], sweep_object, g, g->err);
	return r;
}

static int run(struct gc *g)
{
	size_t first;
	int r;

	r = wfs_store_lock(g->store, g->err);
	if (r == 0)
		r = get_run(g);
	if (r == 0)
		r = wfs_store_each(g->store, "commits", add_commit, g, g->err);
	if (r == 0 && !g->n_commits)
		r = wfs_fail(g->err, -ENOENT, "nothing is published in %s yet", wfs_store_url(g->store));
	if (r < 0)
		return r;
	qsort(g->commits, g->n_commits, sizeof(*g->commits), by_number);
	r = find_oldest(g, &first);
	if (r == 0) {
		g->res->newest = g->commits[g->n_commits - 1];
		g->res->oldest = g->commits[first];
		r = mark(g, first);
	}
	return r < 0 ? r : sweep(g, first);
}

int wfs_gc(struct wfs_store *store, const struct wfs_gc_opts *o, struct wfs_gc_result *out, struct wfs_err *err)
{
	struct gc g = { .store = store, .o = o, .res = out, .now_ns = wfs_wall_ns(), .err = err };
	int r;

	memset(out, 0, sizeof(*out));
	g.marks.store = store;
	g.marks.cancel = o->cancel;
	r = run(&g);
	wfs_marks_free(&g.marks);
	free(g.commits);
	return r;
}
