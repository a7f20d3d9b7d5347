/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kept.c - which versions gc keeps, and all that these need
 *
 * Needed to build a kept file from nothing is its anchor, or else its table, its bases, and so on down to
 * tables that need none (mark.c).  Version objects between the oldest kept version and what it is built from
 * stay too, without their commits, because plans are made from them.
 */
#include "publish/kept.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "weightfs/base.h"
#include "weightfs/limits.h"
#include "weightfs/version.h"

#define HISTORY_MAX (2 * WFS_CHAIN_MAX)

/* ---- what is there ---- */

static int add_commit(void *arg, const char *name, uint64_t size, uint64_t mtime_ns)
{
	struct wfs_kept *k = arg;
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
	if (k->n_commits == k->cap) {
		k->cap = k->cap ? k->cap * 2 : 64;
		bigger = realloc(k->commits, k->cap * sizeof(*bigger));
		if (!bigger)
			return wfs_fail(k->err, -ENOMEM, "out of memory");
		k->commits = bigger;
	}
	k->commits[k->n_commits++] = n;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int get_commit(struct wfs_kept *k, uint64_t sequence, struct wfs_commit *c)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	char name[WFS_OBJECT_NAME];
	int r;

	wfs_commit_name(name, sequence);
	r = wfs_store_get_buf(&raw, k->store, name, WFS_STORE_INFO_MAX, true, k->o->cancel, k->err);
	if (r == 0)
		r = wfs_commit_parse(c, raw.data, raw.len, k->err);
	if (r == 0 && (c->sequence != sequence || strcmp(c->run.s, k->run.s) != 0))
		r = wfs_fail(k->err, -EBADMSG, "is of another version or run");
	return r == -ENOENT ? r : r < 0 ? wfs_wrap(k->err, r, "%s", name) : 0;
}

static int get_run(struct wfs_kept *k)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	int r = wfs_store_get_buf(&raw, k->store, "weightfs-store", WFS_STORE_INFO_MAX, true, k->o->cancel, k->err);

	if (r == 0)
		r = wfs_store_info_parse(&k->run, raw.data, raw.len, k->err);
	return r == -ENOENT ? wfs_fail(k->err, r, "nothing is published in %s yet", wfs_store_url(k->store)) : r;
}

/* ---- what is kept ---- */

/* The oldest version to keep: versions beyond the number stay until what pushed them out is old enough. */
static int find_oldest(struct wfs_kept *k)
{
	size_t *first = &k->first;
	struct wfs_version v;
	struct wfs_commit c;
	int r = 0;

	*first = k->n_commits > k->o->keep ? k->n_commits - (size_t)k->o->keep : 0;
	while (r == 0 && *first > 0) {
		r = get_commit(k, k->commits[*first + k->o->keep - 1], &c);
		if (r == -ENOENT)
			r = wfs_fail(k->err, -EBADMSG, "commits/%" PRIu64 " vanished", k->commits[*first + k->o->keep - 1]);
		if (r == 0)
			r = wfs_marks_version(&k->marks, &c.version, &v, k->err);
		if (r < 0)
			break;
		r = k->now_ns - WFS_MIN(v.time_ns, k->now_ns) < k->o->grace_ns;
		wfs_version_free(&v);
		if (r == 0)
			break;		/* old enough: what it pushed out may go */
		--*first;
		r = 0;
	}
	return r;
}

static int load_kept(struct wfs_kept *k, uint64_t sequence, struct wfs_version *v)
{
	struct wfs_commit c;
	int r = get_commit(k, sequence, &c);

	if (r == -ENOENT)
		return wfs_fail(k->err, -EBADMSG, "commits/%" PRIu64 " vanished", sequence);
	if (r == 0)
		r = wfs_marks_version(&k->marks, &c.version, v, k->err);
	return r < 0 ? wfs_wrap(k->err, r, "version %" PRIu64 ", which is kept", sequence) : 0;
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
		size_t at;

		for (at = 0; at < b->n && !wfs_digest_equal(&b->id[at], id); at++)
			;
		if (at == b->n && at < HISTORY_MAX)
			b->id[b->n++] = *id;
	}
}

static int look_before(struct wfs_marks *m, const struct wfs_version *oldest, struct before *b, struct wfs_err *err)
{
	int r = 0;

	add_before(b, oldest);
	for (size_t i = 0; r == 0 && i < b->n; i++) {
		r = wfs_marks_peek(m, &b->id[i], &b->v[i], err);
		if (r == 0)
			add_before(b, &b->v[i]);
		if (r == 0)
			r = wfs_marks_shortcuts(m, &b->v[i], err);
		if (r == -ENOENT)		/* an earlier run took it: plans do without */
			r = 0;
	}
	return r < 0 ? r : wfs_marks_shortcuts(m, oldest, err);
}

static void free_before(struct before *b)
{
	for (size_t i = 0; i < b->n; i++)
		wfs_version_free(&b->v[i]);
	free(b);
}

int wfs_kept_shortcuts(struct wfs_marks *m, const struct wfs_version *oldest, struct wfs_err *err)
{
	struct before *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return wfs_fail(err, -ENOMEM, "out of memory");
	r = look_before(m, oldest, b, err);
	free_before(b);
	return r;
}

/* Kept are those that say how something needed is built. */
static int keep_before(struct wfs_kept *k, const struct before *b)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < b->n; i++) {
		bool used = false;

		for (size_t n = 0; n < b->v[i].n_files; n++) {
			const struct wfs_file *f = &b->v[i].files[n];

			used |= !f->whole && wfs_marks_has(&k->marks, "tables", &f->table);
			used |= f->has_anchor && wfs_marks_has(&k->marks, "tables", &f->anchor);
			for (unsigned s = 0; s < f->n_strides; s++)
				used |= wfs_marks_has(&k->marks, "tables", &f->strides[s].id);
		}
		if (used)
			r = wfs_marks_add(&k->marks, "versions", &b->id[i], k->err);
	}
	return r;
}

static int mark_oldest(struct wfs_kept *k, const struct wfs_version *v)
{
	struct before *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return wfs_fail(k->err, -ENOMEM, "out of memory");
	r = look_before(&k->marks, v, b, k->err);
	if (r == 0)
		r = wfs_marks_files(&k->marks, v, k->err);
	if (r == 0)
		r = keep_before(k, b);
	free_before(b);
	return r;
}

static int mark(struct wfs_kept *k, size_t from)
{
	struct wfs_version v;
	int r = 0;

	for (size_t i = from; r == 0 && i < k->n_commits; i++) {
		if (k->o->cancel && *k->o->cancel)
			return -ECANCELED;
		r = load_kept(k, k->commits[i], &v);
		if (r < 0)
			break;
		r = i == k->first ? mark_oldest(k, &v) : wfs_marks_files(&k->marks, &v, k->err);
		if (r < 0)
			wfs_wrap(k->err, r, "version %" PRIu64 ", which is kept", v.sequence);
		wfs_version_free(&v);
	}
	return r;
}

/* ---- from outside ---- */

static int look(struct wfs_kept *k)
{
	int r = get_run(k);

	if (r == 0)
		r = wfs_store_each(k->store, "commits", add_commit, k, k->err);
	if (r == 0 && !k->n_commits)
		r = wfs_fail(k->err, -ENOENT, "nothing is published in %s yet", wfs_store_url(k->store));
	if (r == 0)
		qsort(k->commits, k->n_commits, sizeof(*k->commits), by_number);
	return r;
}

int wfs_kept_find(struct wfs_kept *k, struct wfs_store *store, const struct wfs_gc_opts *o, struct wfs_err *err)
{
	int r;

	*k = (struct wfs_kept){
		.store = store, .o = o, .now_ns = wfs_wall_ns(), .err = err,
		.marks = { .store = store, .cancel = o->cancel },
	};
	r = look(k);
	if (r == 0)
		r = find_oldest(k);
	return r < 0 ? r : mark(k, k->first);
}

/* Where in now the versions are that k keeps; false when one of them is gone. */
static bool find_same(const struct wfs_kept *k, const struct wfs_kept *now, size_t *first)
{
	size_t n = k->n_commits - k->first;

	for (*first = 0; *first < now->n_commits && now->commits[*first] != k->commits[k->first]; ++*first)
		;
	return strcmp(k->run.s, now->run.s) == 0 && now->n_commits - *first >= n &&
	       memcmp(now->commits + *first, k->commits + k->first, n * sizeof(*k->commits)) == 0;
}

int wfs_kept_catch_up(struct wfs_kept *k)
{
	struct wfs_kept now = { .store = k->store, .o = k->o, .err = k->err };
	size_t first = 0, seen = k->n_commits - k->first;
	int r = look(&now);

	if (r == 0 && !find_same(k, &now, &first))
		r = -ESTALE;
	if (r < 0) {
		free(now.commits);
		return r;
	}
	free(k->commits);
	k->commits = now.commits;
	k->n_commits = now.n_commits;
	k->cap = now.cap;
	k->first = first;
	return mark(k, first + seen);
}

void wfs_kept_free(struct wfs_kept *k)
{
	wfs_marks_free(&k->marks);
	free(k->commits);
	k->commits = NULL;
}
