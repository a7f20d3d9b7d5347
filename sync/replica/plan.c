/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.c - from what an image is built, in the fewest bytes to fetch
 *
 * A plan is a graph of nodes, one for each file content that is needed: node 0 is the image,
 * and every other node is a base of one before it.  A node's bytes come from
 *
 *   held     a complete image in the cache: nothing to fetch; or from the blocks of one that is not
 *   base     a file of the user's that matches: nothing to fetch, checked block by block
 *   source   stored bytes: of one of its tables (deltas need the bases' nodes)
 *
 * What could be is read from version objects (history.c), which are small; the cheapest way is chosen
 * (ways.c), and only then are tables fetched, of that way alone.  Where a table shows that
 * the hints were wrong, because tensors moved, it is chosen again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "replica/internal.h"
#include "replica/ways.h"
#include "weightfs/base.h"

#define GOALS_MAX 8u		/* versions that a walk goes back to */

/* ---- looking back ---- */

struct goals {
	struct wfs_walk v[GOALS_MAX];
	unsigned n;
};

static void add_goal(struct goals *goals, uint64_t to, uint64_t to_ns)
{
	for (unsigned i = 0; i < goals->n; i++)
		if (goals->v[i].to == to && goals->v[i].to_ns == to_ns)
			return;
	if (goals->n < GOALS_MAX)
		goals->v[goals->n++] = (struct wfs_walk){ .to = to, .to_ns = to_ns };
}

/* Older versions of which the cache has something of this file, the newest first. */
static void add_cached(struct goals *goals, struct wfs_replica *r, uint64_t below, const char *path)
{
	pthread_mutex_lock(&r->lock);
	for (struct wfs_model *m = r->models; m; m = m->next) {
		const struct wfs_file *f = m->v.sequence < below ? wfs_version_find(&m->v, path) : NULL;
		const struct wfs_image *img = f ? m->images[f - m->v.files] : NULL;

		if (img && (img->assumed || m->complete || !img->opened || img->n_built))
			add_goal(goals, m->v.sequence, 0);
	}
	pthread_mutex_unlock(&r->lock);
}

/* The user's files are of a version that was published when they had been written, or of the first. */
static void add_basefiles(struct goals *goals, struct wfs_replica *r, uint64_t size)
{
	const struct wfs_basefile *f = NULL;
	bool any = false;

	while ((f = wfs_basefiles_next(r, f, size))) {
		add_goal(goals, 1, f->mtime_ns);
		any = true;
	}
	if (any)
		add_goal(goals, 1, 0);
}

/* The oldest version known to have the image: from there it is the shortest way back. */
static const struct wfs_past *start_of(struct wfs_replica *r, const struct wfs_digest *id, const struct wfs_file **file)
{
	const struct wfs_past *best = NULL;

	for (const struct wfs_past *p = wfs_history_first(r); p; p = p->next)
		for (size_t i = 0; i < p->v.n_files; i++)
			if (!p->v.files[i].whole && wfs_digest_equal(&p->v.files[i].table, id) &&
			    (!best || p->v.sequence < best->v.sequence)) {
				best = p;
				*file = &p->v.files[i];
			}
	return best;
}

/* A user's file may be what this version has: its table tells, and is fetched for that only. */
static int try_basefile(struct wfs_ways *g, const struct wfs_past *past, const char *path)
{
	const struct wfs_file *f = wfs_version_find(&past->v, path);
	struct wfs_base what = { .size = f ? f->size : 0 };
	uint32_t place;
	int r;

	if (!f || f->whole || !wfs_basefiles_next(g->r, NULL, f->size))
		return 0;
	what.table = f->table;
	r = wfs_ways_place(g, &what, &place);
	return r < 0 || g->v[place].held ? r : wfs_ways_open(g, place, wfs_ways_primary(g, place));
}

static int walk(struct wfs_ways *g, struct wfs_walk *w, const struct wfs_past *from, const char *path, uint64_t limit)
{
	w->r = g->r;
	w->path = path;
	w->net = g->net;
	w->limit = limit;
	return wfs_history_walk(w, from, g->err);
}

static int refresh(struct wfs_ways *g)
{
	int r = wfs_ways_refresh(g);

	if (r == 0)
		wfs_ways_choose(g);
	return r;
}

static int walk_all(struct wfs_ways *g, struct goals *goals, const struct wfs_past *from, const char *path,
		    uint64_t limit)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < goals->n; i++)
		r = walk(g, &goals->v[i], from, path, limit);
	return r < 0 ? r : refresh(g);
}

/* Make known what lies between the image and what it might be built from: first what the cache has, as far
 * as that may cost less than all else could; then a full copy and the user's files. */
static int look_back(struct wfs_ways *g)
{
	const struct wfs_file *f = NULL;
	const struct wfs_past *from = start_of(g->r, &g->v[0].id, &f);
	struct goals cached = { .n = 0 }, others = { .n = 0 };
	struct wfs_walk full = { .to = 1, .until_full = true };
	uint64_t limit;
	int r;

	if (!from)
		return 0;
	limit = f->full ? f->full : f->size;
	add_cached(&cached, g->r, from->v.sequence, f->path);
	r = walk_all(g, &cached, from, f->path, 2 * limit);
	if (r < 0 || g->v[0].cost <= limit)
		return r;
	add_basefiles(&others, g->r, g->v[0].size);
	for (unsigned i = 0; r == 0 && i < others.n && g->v[0].cost > limit; i++) {
		r = walk(g, &others.v[i], from, f->path, 2 * limit);
		if (r == 0)
			r = try_basefile(g, others.v[i].end, f->path);
		if (r == 0)
			r = refresh(g);
	}
	if (r < 0 || g->v[0].cost <= limit)
		return r;
	if (f->full_back && f->full_back < from->v.sequence)
		full.to = from->v.sequence - f->full_back;
	r = walk(g, &full, from, f->path, UINT64_MAX);
	if (r == 0)
		r = refresh(g);
	if (r < 0 || g->v[0].cost != UINT64_MAX || full.to == 1)
		return r;
	full.to = 1;		/* it is not there, or on no way that is left: by the widest strides then */
	r = walk(g, &full, from, f->path, UINT64_MAX);
	return r < 0 ? r : refresh(g);
}

/* ---- choosing ---- */

/* Tables of what is chosen that are not here yet. */
static size_t list_chosen(const struct wfs_ways *g, uint32_t place, uint8_t *seen, struct wfs_digest *out, size_t n)
{
	const struct wfs_place *p = &g->v[place];
	const struct wfs_way *w = p->best >= 0 ? &p->ways[p->best] : NULL;

	if (seen[place] || !w)
		return n;
	seen[place] = 1;
	if (!w->source && !w->undo)
		out[n++] = w->table;
	for (uint32_t i = 0; i < w->n_bases; i++)
		n = list_chosen(g, w->bases[i], seen, out, n);
	return n;
}

/* The whole way at once, as far as it is known. */
static int prefetch_chosen(struct wfs_ways *g)
{
	struct wfs_digest *tables = calloc(g->n + 1, sizeof(*tables));
	uint8_t *seen = calloc(g->n, 1);
	size_t n;

	if (tables && seen && g->net) {
		n = list_chosen(g, 0, seen, tables, 0);
		if (g->v[0].best >= 0 && (unsigned)g->v[0].best != wfs_ways_primary(g, 0))
			tables[n++] = g->v[0].id;	/* to compare with */
		wfs_prefetch_tables(g->r, tables, n);
	}
	free(tables);
	free(seen);
	return tables && seen ? 0 : wfs_fail(g->err, -ENOMEM, "out of memory");
}

/* Fetch the tables of what is chosen; *more: the choice may be another now. */
static int open_chosen(struct wfs_ways *g, uint32_t place, uint8_t *seen, size_t n_seen, bool *more)
{
	int best = g->v[place].best, r;

	if (place >= n_seen || seen[place] || best < 0)
		return 0;
	seen[place] = 1;
	if (!g->v[place].ways[best].source) {
		*more = true;
		r = wfs_ways_open(g, place, (unsigned)best);
		if (r < 0 || !g->v[place].ways[best].source)
			return r;
	}
	for (uint32_t i = 0; i < g->v[place].ways[best].n_bases; i++) {
		r = open_chosen(g, g->v[place].ways[best].bases[i], seen, n_seen, more);
		if (r < 0)
			return r;
	}
	return 0;
}

/* No way is known: ask the tables themselves, from the image on. */
static int open_any(struct wfs_ways *g, bool *more)
{
	for (uint32_t i = 0; i < g->n; i++) {
		unsigned first = wfs_ways_primary(g, i), n = g->v[i].n_ways;

		if (g->v[i].cost != UINT64_MAX)
			continue;
		for (unsigned k = 0; k < n; k++) {
			const struct wfs_way *w = &g->v[i].ways[(first + k) % n];

			if (w->source || w->result < 0)
				continue;
			*more = true;
			return wfs_ways_open(g, i, (first + k) % n);
		}
	}
	return 0;
}

/* Whatever way is taken, its bytes are those that the primary table says. */
static int check_chosen(struct wfs_ways *g, bool *more)
{
	unsigned primary = wfs_ways_primary(g, 0);
	int way = g->v[0].base ? (int)g->v[0].base_way : g->v[0].best, r;

	if (way < 0 || (unsigned)way == primary)
		return 0;
	r = wfs_ways_open(g, 0, primary);
	if (r < 0)
		return r;
	if (!g->v[0].ways[primary].source)
		return wfs_fail(g->err, g->failed, "%s", g->why.msg);
	r = wfs_ways_compare(g, 0, (unsigned)way, primary);
	*more |= g->v[0].ways[way].result < 0;
	if (*more)
		g->v[0].base = NULL;
	return r;
}

static int settle(struct wfs_ways *g)
{
	bool more = true;
	uint8_t *seen;
	int r = 0;

	while (r == 0 && more) {
		more = false;
		wfs_ways_choose(g);
		if (g->v[0].cost == UINT64_MAX) {
			r = open_any(g, &more);
			continue;
		}
		r = prefetch_chosen(g);
		seen = calloc(g->n, 1);
		if (r < 0 || !seen)
			return wfs_fail(g->err, -ENOMEM, "out of memory");
		r = open_chosen(g, 0, seen, g->n, &more);
		free(seen);
		if (r == 0 && !more)
			r = check_chosen(g, &more);
	}
	if (r < 0 || g->v[0].cost != UINT64_MAX)
		return r;
	if (g->failed < 0)
		return wfs_fail(g->err, g->failed, "%s", g->why.msg);
	return wfs_fail(g->err, -EBADMSG, "it is more than %u deltas one on another", WFS_CHAIN_MAX);
}

/* ---- the plan ---- */

static int add_node(struct wfs_plan *plan, struct wfs_ways *g, uint32_t place, uint32_t *map, uint32_t *index);

static int add_bases(struct wfs_plan *plan, struct wfs_ways *g, const struct wfs_way *w, uint32_t node, uint32_t *map)
{
	uint32_t *bases = calloc(w->n_bases + 1u, sizeof(*bases));
	int r = 0;

	if (!bases)
		return wfs_fail(g->err, -ENOMEM, "out of memory");
	plan->nodes[node].bases = bases;
	for (uint32_t i = 0; r == 0 && i < w->n_bases; i++)
		r = add_node(plan, g, w->bases[i], map, &bases[i]);
	return r;
}

/* Takes over what the place refers to; map has the place's node + 1, or 0. */
static int add_node(struct wfs_plan *plan, struct wfs_ways *g, uint32_t place, uint32_t *map, uint32_t *index)
{
	struct wfs_place *p = &g->v[place];
	struct wfs_way *w = p->base ? &p->ways[p->base_way] : p->best >= 0 ? &p->ways[p->best] : NULL;
	struct wfs_node *n;

	if (map[place]) {
		*index = map[place] - 1;
		return 0;
	}
	*index = (uint32_t)plan->n_nodes++;
	map[place] = *index + 1;
	n = &plan->nodes[*index];
	n->id = p->id;
	n->sequence = p->sequence;
	n->base = p->base;
	n->held = p->held ? p->held : p->base ? NULL : p->partly;
	if (n->held == p->held)
		p->held = NULL;
	else if (n->held)
		p->partly = NULL;
	if (!w)
		return 0;
	n->source = w->source;
	w->source = NULL;
	n->back = w->back;
	n->full = w->n_bases == 0;
	n->undo = w->undo;
	n->table_len = w->table_len;
	n->stored = n->base ? 0 : p->missing == 1024 ? w->stored : w->stored / 1024 * p->missing;
	plan->bytes += w->undo ? 0 : n->table_len + n->stored - WFS_MIN(n->base ? 0 : w->have, n->stored);
	return n->base ? 0 : add_bases(plan, g, w, *index, map);
}

/* The primary table is fetched to compare with, though another one is used. */
static void count_primary(struct wfs_plan *plan, const struct wfs_ways *g)
{
	const struct wfs_way *w = &g->v[0].ways[wfs_ways_primary(g, 0)];

	if (!w->source || w->source == plan->nodes[0].source)
		return;
	plan->compared = w->table_len;
	plan->bytes += w->table_len;
}

static void plan_free(struct wfs_plan *plan, bool done)
{
	for (size_t i = 0; i < plan->n_nodes; i++) {
		struct wfs_node *n = &plan->nodes[i];

		if (n->source && done)
			n->source->done = true;
		wfs_source_put(n->source);
		wfs_image_put(n->held);
		free(n->bases);
	}
	free(plan->nodes);
	free(plan);
}

static int extract(struct wfs_plan **out, struct wfs_ways *g)
{
	struct wfs_plan *plan = calloc(1, sizeof(*plan));
	uint32_t *map = calloc(g->n, sizeof(*map)), index;
	int r;

	if (plan)
		plan->nodes = calloc(g->n, sizeof(*plan->nodes));
	if (!map || !plan || !plan->nodes) {
		free(map);
		free(plan);
		return wfs_fail(g->err, -ENOMEM, "out of memory");
	}
	r = add_node(plan, g, 0, map, &index);
	free(map);
	if (r < 0) {
		plan_free(plan, false);
		return r;
	}
	count_primary(plan, g);
	plan->refs = 1;
	*out = plan;
	return 0;
}

/* The undo tables lead to a version that is gone, as when the store was set back. */
static int without_undo(struct wfs_ways *g)
{
	int r;

	g->failed = 0;
	if (g->err)
		g->err->msg[0] = '\0';
	r = look_back(g);
	return r < 0 ? r : settle(g);
}

static int plan_make(struct wfs_plan **out, struct wfs_image *img, bool net, bool demand, struct wfs_err *err)
{
	struct wfs_base what = { .table = img->id, .anchor = img->anchor, .size = img->size };
	struct wfs_ways g = { .r = img->r, .target = img, .net = net, .demand = demand, .err = err };
	bool undone = wfs_undo_find(img->r, &img->id, NULL);
	uint32_t index;
	int r;

	wfs_history_begin(img->r);
	r = wfs_history_sync(g.r, err);
	if (r == 0)
		r = wfs_ways_place(&g, &what, &index);
	/* What can be undone is here: nothing better is to be found. */
	if (r == 0 && !undone)
		r = look_back(&g);
	if (r == 0)
		r = settle(&g);
	if (undone && (r == -ENOENT || r == -EBADMSG))
		r = without_undo(&g);
	if (r == 0)
		r = extract(out, &g);
	wfs_ways_free(&g);
	wfs_history_end(img->r);
	return r == 0 || r == -EAGAIN ? r : wfs_wrap(err, r, "%s", img->label);
}

int wfs_plan_get(struct wfs_plan **out, struct wfs_image *img, bool net, bool demand, struct wfs_err *err)
{
	int r = 0;

	/* Who must not wait for the network does not wait for one who does. */
	if (net)
		pthread_mutex_lock(&img->plan_lock);
	else if (pthread_mutex_trylock(&img->plan_lock) != 0)
		return -EAGAIN;
	if (!img->plan)
		r = plan_make(&img->plan, img, net, demand, err);
	if (r == 0) {
		img->plan->refs++;
		*out = img->plan;
	}
	pthread_mutex_unlock(&img->plan_lock);
	return r;
}

static void put(struct wfs_image *img, struct wfs_plan *plan, bool forget, bool done)
{
	bool last;

	pthread_mutex_lock(&img->plan_lock);
	if (forget) {
		plan = img->plan;
		img->plan = NULL;
	}
	for (size_t i = 0; plan && done && i < plan->n_nodes; i++)
		if (plan->nodes[i].source)
			plan->nodes[i].source->done = true;
	last = plan && --plan->refs == 0;
	pthread_mutex_unlock(&img->plan_lock);
	if (last)
		plan_free(plan, done);
}

void wfs_plan_put(struct wfs_image *img, struct wfs_plan *plan)
{
	put(img, plan, false, false);
}

void wfs_plan_discard(struct wfs_image *img)
{
	pthread_mutex_lock(&img->plan_lock);
	for (size_t i = 0; img->plan && i < img->plan->n_nodes; i++)
		if (img->plan->nodes[i].source)
			wfs_source_discard(img->plan->nodes[i].source);
	pthread_mutex_unlock(&img->plan_lock);
}

void wfs_plan_drop(struct wfs_image *img, bool done)
{
	put(img, NULL, true, done);
}
