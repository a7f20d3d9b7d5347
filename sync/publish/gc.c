/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gc.c - remove what no kept version needs
 *
 * Reading the whole store takes long and is done without the lock.  Removing is done with it, for a second at a
 * time, so that a publisher never waits for longer.  What makes that safe: before each such second every
 * commit that there is has been marked with all it needs (wfs_kept_catch_up), and no other can appear.  A
 * publisher may have come back to an object that was to go: its commit has it marked.
 *
 * Order: `latest' is brought up to the newest commit.  Then go commits from the oldest up, so that those which are
 * there have no gap; the readable names and the versions; then tables, layouts, packs.  A run that was killed
 * leaves objects that nothing names.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "publish/kept.h"
#include "weightfs/base.h"
#include "weightfs/gc.h"
#include "weightfs/limits.h"

#define HOLD_NS 1000000000ull	/* how long the lock is held at a time */
#define GAP_NS 200000000l	/* then left to whoever waits, who tries more often */

/* What is to go: a number in commits or models, else an object. */
struct goner {
	const char *kind;
	uint64_t number, size;
	struct wfs_digest id;
};

struct gc {
	struct wfs_store *store;
	const struct wfs_gc_opts *o;
	struct wfs_gc_result *res;
	struct wfs_kept kept;
	struct goner *goners;
	size_t n_goners, cap, next;
	struct wfs_err *err;
};

/* ---- what is to go ---- */

static int add_goner(struct gc *g, const struct goner *one)
{
	struct goner *bigger;

	if (g->n_goners == g->cap) {
		g->cap = g->cap ? g->cap * 2 : 256;
		bigger = realloc(g->goners, g->cap * sizeof(*bigger));
		if (!bigger)
			return wfs_fail(g->err, -ENOMEM, "out of memory");
		g->goners = bigger;
	}
	g->goners[g->n_goners++] = *one;
	return g->o->cancel && *g->o->cancel ? -ECANCELED : 0;
}

static const char *kind_of(const char *name)
{
	static const char *const kinds[] = { "versions", "tables", "layouts", "packs" };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strncmp(name, kinds[i], strlen(kinds[i])) == 0)
			return kinds[i];
	return NULL;
}

static int add_object(void *arg, const char *name, uint64_t size, uint64_t mtime_ns)
{
	const char *id = strchr(name, '/') + 1;
	struct gc *g = arg;
	struct goner one = { .kind = kind_of(name), .size = size };

	if (wfs_digest_parse(&one.id, id, strlen(id)) < 0)
		return 0;		/* not ours */
	if (!wfs_marks_has(&g->kept.marks, one.kind, &one.id) &&
	    g->kept.now_ns - WFS_MIN(mtime_ns, g->kept.now_ns) >= g->o->grace_ns)
		return add_goner(g, &one);
	g->res->kept_objects++;
	g->res->kept_bytes += size;
	return 0;
}

/* Readable names point at packs of a version that is not kept any more. */
static int add_model(void *arg, const char *name, uint64_t size, uint64_t mtime_ns)
{
	const char *number = strchr(name, '/') + 1;
	struct gc *g = arg;
	struct goner one = { .kind = "models" };
	char check[32];

	(void)size;
	(void)mtime_ns;
	one.number = strtoull(number, NULL, 10);
	snprintf(check, sizeof(check), "%" PRIu64, one.number);
	if (strcmp(check, number) != 0 || !one.number || one.number >= g->res->oldest)
		return 0;
	return add_goner(g, &one);
}

static int list_goners(struct gc *g)
{
	static const char *const kinds[] = { "versions", "tables", "layouts", "packs" };
	const struct wfs_kept *k = &g->kept;
	int r = 0;

	g->res->newest = k->commits[k->n_commits - 1];
	g->res->oldest = k->commits[k->first];
	for (size_t i = 0; r == 0 && i < k->first; i++)
		r = add_goner(g, &(struct goner){ .kind = "commits", .number = k->commits[i] });
	if (r == 0)
		r = wfs_store_each(g->store, "models", add_model, g, g->err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++)
		r = wfs_store_each(g->store, kinds[i], add_object, g, g->err);
	return r;
}

/* ---- removing ---- */

static void name_goner(char name[WFS_OBJECT_NAME], const struct goner *one)
{
	if (one->number)
		snprintf(name, WFS_OBJECT_NAME, "%s/%" PRIu64, one->kind, one->number);
	else
		wfs_object_name(name, one->kind, &one->id);
}

static int remove_goner(struct gc *g, const struct goner *one)
{
	char name[WFS_OBJECT_NAME];
	int r = 0;

	if (!one->number && wfs_marks_has(&g->kept.marks, one->kind, &one->id)) {
		g->res->kept_objects++;	/* needed again */
		g->res->kept_bytes += one->size;
		return 0;
	}
	name_goner(name, one);
	if (!g->o->dry_run)
		r = wfs_store_remove(g->store, name, g->err);
	if (r < 0)
		return r;
	g->res->versions += strcmp(one->kind, "commits") == 0;
	g->res->objects++;
	g->res->bytes += one->size;
	return g->o->cancel && *g->o->cancel ? -ECANCELED : 0;
}

static int remove_for(struct gc *g, uint64_t ns)
{
	uint64_t end = wfs_now_ns() + ns;
	int r = 0;

	while (r == 0 && g->next < g->n_goners && wfs_now_ns() < end)
		r = remove_goner(g, &g->goners[g->next++]);
	return r;
}

/* A publisher that was killed behind its commit has left `latest' at an older one, which may go now. */
static int renew_latest(struct gc *g)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf newest = WFS_BUF_INIT, latest = WFS_BUF_INIT;
	char name[WFS_OBJECT_NAME];
	int r;

	g->res->newest = g->kept.commits[g->kept.n_commits - 1];
	wfs_commit_name(name, g->res->newest);
	r = wfs_store_get_buf(&newest, g->store, name, WFS_STORE_INFO_MAX, true, g->o->cancel, g->err);
	if (r < 0)
		return wfs_wrap(g->err, r == -ENOENT ? -EBADMSG : r, "%s", name);
	r = wfs_store_get_buf(&latest, g->store, "latest", WFS_STORE_INFO_MAX, true, g->o->cancel, NULL);
	if (r == 0 && latest.len == newest.len && memcmp(latest.data, newest.data, newest.len) == 0)
		return 0;
	return wfs_store_replace(g->store, "latest", newest.data, newest.len, g->err);
}

/* ---- the course of it ---- */

/* From the store as it is, which is not the one it was any more when this is done anew. */
static int find(struct gc *g)
{
	int r;

	wfs_kept_free(&g->kept);
	g->n_goners = g->next = 0;
	g->res->kept_objects = g->res->kept_bytes = 0;
	r = wfs_kept_find(&g->kept, g->store, g->o, g->err);
	return r < 0 ? r : list_goners(g);
}

static int lock(struct gc *g)
{
	struct wfs_lock how = g->o->lock;

	how.gc = true;
	how.cancel = g->o->cancel;
	return wfs_store_lock(g->store, &how, g->err);
}

/* With the lock.  What was found without it may be wrong: then it is found again and removed in one go. */
static int remove_some(struct gc *g, bool sound)
{
	bool again = !sound;
	int r = sound ? wfs_kept_catch_up(&g->kept) : 0;

	if (again || r == -ESTALE) {
		again = true;
		r = find(g);
	}
	if (r == 0)
		r = renew_latest(g);
	return r < 0 ? r : remove_for(g, again ? UINT64_MAX / 2 : HOLD_NS);
}

static int run(struct gc *g)
{
	bool sound;
	int r;

	if (!wfs_store_is_local(g->store))
		return lock(g);		/* which says why not */
	r = find(g);
	if (r == -ECANCELED)
		return r;
	sound = r == 0;
	if (g->o->dry_run)
		return sound ? remove_for(g, UINT64_MAX / 2) : r;
	do {
		r = g->o->cancel && *g->o->cancel ? -ECANCELED : lock(g);
		if (r == 0)
			r = remove_some(g, sound);
		sound = true;
		wfs_store_unlock(g->store);
		if (r == 0 && g->next < g->n_goners)
			nanosleep(&(struct timespec){ .tv_nsec = GAP_NS }, NULL);
	} while (r == 0 && g->next < g->n_goners);
	return r;
}

int wfs_gc(struct wfs_store *store, const struct wfs_gc_opts *o, struct wfs_gc_result *out, struct wfs_err *err)
{
	struct gc g = { .store = store, .o = o, .res = out, .err = err };
	int r;

	memset(out, 0, sizeof(*out));
	r = run(&g);
	wfs_kept_free(&g.kept);
	free(g.goners);
	return r;
}
