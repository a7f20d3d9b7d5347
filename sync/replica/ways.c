/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ways.c - the graph that a plan is chosen from
 *
 * A place is one file content, named by its primary table.  It is held (a complete image, the
 * user's file), or a way leads to it: a table whose bases are other places.  What a way costs and where
 * it comes from is first only a hint from version objects, and exact once its table is here.  A cost
 * is counted in bytes to fetch; what lies in a stash already costs nothing.
 *
 * Undo tables lead backwards, so the graph may have cycles; what is chosen never has one.  Costs do not see to that: a
 * place of which most blocks are there may cost less than what the others are built from.  So no place chooses a
 * way whose bases, as they are chosen, are built from the place itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "replica/ways.h"
#include "weightfs/base.h"

uint64_t wfs_add_bytes(uint64_t a, uint64_t b)
{
	return a + b < a ? UINT64_MAX : a + b;
}

/* ---- places ---- */

static struct wfs_image *find_held(struct wfs_ways *g, const struct wfs_digest *id)
{
	struct wfs_image *img = wfs_image_find(g->r, id);

	if (img && img != g->target && (img->assumed || (wfs_image_probe(img) && wfs_image_open(img, NULL) == 0)))
		return img;
	wfs_image_put(img);
	return NULL;
}

/* An image of which some blocks are there: the share of them that is missing, in 1/1024. */
static struct wfs_image *find_partly(struct wfs_ways *g, const struct wfs_digest *id, uint32_t *missing)
{
	struct wfs_image *img = wfs_image_find(g->r, id);
	uint32_t there = 0;

	if (img && img != g->target && img->opened)
		for (uint32_t b = 0; b < img->n_blocks; b++)
			there += img->state[b] != WFS_ABSENT;
	if (!there) {
		wfs_image_put(img);
		return NULL;
	}
	*missing = (uint32_t)((uint64_t)(img->n_blocks - there) * 1024 / img->n_blocks);
	return img;
}

static int new_place(struct wfs_ways *g, const struct wfs_base *what, uint32_t *index)
{
	struct wfs_place *bigger, *p;
	size_t cap;

	if (g->n == WFS_PLACES_MAX)
		return wfs_fail(g->err, -EFBIG, "needs more than %u files: publish it in full again", WFS_PLACES_MAX);
	if (g->n == g->cap) {
		cap = g->cap ? g->cap * 2 : 32;
		bigger = realloc(g->v, cap * sizeof(*bigger));
		if (!bigger)
			return wfs_fail(g->err, -ENOMEM, "out of memory");
		g->v = bigger;
		g->cap = cap;
	}
	*index = (uint32_t)g->n++;
	p = &g->v[*index];
	memset(p, 0, sizeof(*p));
	p->id = what->table;
	p->size = what->size;
	p->cost = UINT64_MAX;
	p->best = -1;
	p->missing = 1024;
	p->held = find_held(g, &what->table);
	if (p->held)
		p->cost = 0;
	else
		p->partly = find_partly(g, &what->table, &p->missing);
	return 0;
}

/* What of a table's stored bytes is local already, as far as the disk tells. */
static uint64_t stashed(struct wfs_ways *g, const struct wfs_digest *table)
{
	char name[WFS_OBJECT_NAME];
	struct stat st;

	wfs_object_name(name, "stash", table);
	return fstatat(g->r->cache.dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static struct wfs_way *add_way(struct wfs_ways *g, uint32_t place, const struct wfs_digest *table, uint64_t cost,
			       uint64_t back)
{
	struct wfs_place *p = &g->v[place];
	struct wfs_way *w;
	unsigned i;

	for (i = 0; i < p->n_ways && !wfs_digest_equal(&p->ways[i].table, table); i++)
		;
	if (i == WFS_WAYS_MAX)
		return NULL;
	w = p->ways + i;
	if (i == p->n_ways) {
		w = realloc(p->ways, (i + 1) * sizeof(*w));
		if (!w)
			return NULL;	/* one way less */
		p->ways = w;
		w = &p->ways[i];
		memset(w, 0, sizeof(*w));
		w->table = *table;
		w->back = back;
		w->have = stashed(g, table);
		p->n_ways++;
	}
	w->hint = WFS_MAX(w->hint, cost);
	if (!w->source)
		w->cost = w->hint - WFS_MIN(w->have, w->hint);
	return w;
}

/* ---- hints ---- */

static int hint_base(struct wfs_ways *g, struct wfs_way *w, uint32_t place, const struct wfs_past *past,
		     const char *path)
{
	const struct wfs_file *f = past ? wfs_version_find(&past->v, path) : NULL;
	unsigned way = (unsigned)(w - g->v[place].ways);
	struct wfs_base what = { .size = 0 };
	uint32_t base;
	int r;

	if (w->source || w->n_bases || !past)
		return 0;
	w->hinted = true;
	if (!f || f->whole)
		return 0;		/* new, or moved from elsewhere: the table will tell */
	what.table = f->table;
	what.size = f->size;
	r = wfs_ways_place(g, &what, &base);
	if (r < 0)
		return r;
	w = &g->v[place].ways[way];	/* places may have moved */
	w->bases = malloc(sizeof(*w->bases));
	if (!w->bases)
		return wfs_fail(g->err, -ENOMEM, "out of memory");
	w->bases[0] = base;
	w->n_bases = 1;
	return 0;
}

/* What one version object says about a place. */
static int add_hints(struct wfs_ways *g, uint32_t place, const struct wfs_past *past, const struct wfs_file *f)
{
	const struct wfs_version *v = &past->v;
	struct wfs_way *w;
	int r = 0;

	if (f->has_anchor) {
		w = add_way(g, place, &f->anchor, f->full ? f->full : f->size, 0);
		if (w)
			w->full = w->hinted = true;
	}
	if (f->travel) {		/* else an older version has made it */
		w = add_way(g, place, &f->table, f->travel, 1);
		if (w && !w->full && v->n_parents)
			r = hint_base(g, w, place, wfs_history_find(g->r, &v->parents[0]), f->path);
		else if (w)
			w->hinted = true;
	}
	for (unsigned i = 0; r == 0 && i < f->n_strides; i++) {
		const struct wfs_stride *s = wfs_stride_find(v->strides, v->n_strides, f->strides[i].back);

		w = s ? add_way(g, place, &f->strides[i].id, f->strides[i].travel, s->back) : NULL;
		if (w)
			r = hint_base(g, w, place, wfs_history_find(g->r, &s->id), f->path);
	}
	return r;
}

static int gather(struct wfs_ways *g, uint32_t place)
{
	struct wfs_digest id = g->v[place].id;
	struct wfs_way *w;
	int r = 0;

	w = add_way(g, place, &id, 0, 1);	/* of unknown cost until somebody tells */
	if (!w)
		return 0;
	for (const struct wfs_past *p = wfs_history_first(g->r); r == 0 && p; p = p->next) {
		for (size_t i = 0; r == 0 && i < p->v.n_files; i++) {
			const struct wfs_file *f = &p->v.files[i];

			if (f->whole || !wfs_digest_equal(&f->table, &id))
				continue;
			if (p->v.sequence > g->v[place].sequence)
				g->v[place].sequence = p->v.sequence;
			r = add_hints(g, place, p, f);
		}
	}
	return r;
}

int wfs_ways_place(struct wfs_ways *g, const struct wfs_base *what, uint32_t *index)
{
	struct wfs_digest undo;
	struct wfs_way *w;
	bool known = false;
	int r;

	for (*index = 0; *index < g->n && !known; *index += !known)
		known = wfs_digest_equal(&g->v[*index].id, &what->table);
	if (!known) {
		r = new_place(g, what, index);
		if (r == 0 && wfs_undo_find(g->r, &what->table, &undo)) {
			w = add_way(g, *index, &undo, 0, 0);
			if (w)
				w->undo = w->hinted = true;
		}
		if (r == 0)
			r = gather(g, *index);
		if (r < 0)
			return r;
	}
	if (!wfs_digest_is_zero(&what->anchor)) {
		w = add_way(g, *index, &what->anchor, 0, 0);
		if (w)
			w->full = w->hinted = true;
		if (w && !w->hint)	/* at most: its table will tell */
			add_way(g, *index, &what->anchor, what->size, 0);
	}
	return 0;
}

int wfs_ways_refresh(struct wfs_ways *g)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < g->n; i++)
		r = gather(g, i);
	return r;
}

void wfs_ways_free(struct wfs_ways *g)
{
	for (size_t i = 0; i < g->n; i++) {
		struct wfs_place *p = &g->v[i];

		wfs_image_put(p->held);
		wfs_image_put(p->partly);
		for (unsigned k = 0; k < p->n_ways; k++) {
			wfs_source_put(p->ways[k].source);
			free(p->ways[k].bases);
		}
		free(p->ways);
	}
	free(g->v);
	memset(g, 0, sizeof(*g));
}

/* ---- costs ---- */

/* Is the way open now, and what would the place cost by it? */
static uint64_t cost_by(const struct wfs_ways *g, const struct wfs_place *p, const struct wfs_way *w, unsigned *steps)
{
	uint64_t sum = wfs_add_bytes(w->cost, 1);

	*steps = 0;
	if (w->result < 0 || (!w->source && !w->hinted))
		return UINT64_MAX;
	for (uint32_t i = 0; i < w->n_bases; i++) {
		sum = wfs_add_bytes(sum, g->v[w->bases[i]].cost);
		*steps = WFS_MAX(*steps, g->v[w->bases[i]].steps + 1);
	}
	if (sum == UINT64_MAX || *steps > WFS_CHAIN_MAX)
		return UINT64_MAX;
	return p->missing == 1024 ? sum : sum / 1024 * p->missing + 1;
}

/* Is `place`, as it is chosen now, built from `from`? */
static bool leads_to(struct wfs_ways *g, uint32_t place, uint32_t from)
{
	struct wfs_place *p = &g->v[place];
	const struct wfs_way *w = p->best >= 0 ? &p->ways[p->best] : NULL;

	if (place == from)
		return true;
	if (p->seen == g->searches || !w)
		return false;
	p->seen = g->searches;
	for (uint32_t i = 0; i < w->n_bases; i++)
		if (leads_to(g, w->bases[i], from))
			return true;
	return false;
}

static bool is_circular(struct wfs_ways *g, uint32_t place, const struct wfs_way *w)
{
	g->searches++;
	for (uint32_t i = 0; i < w->n_bases; i++)
		if (leads_to(g, w->bases[i], place))
			return true;
	return false;
}

void wfs_ways_choose(struct wfs_ways *g)
{
	bool changed = true;
	unsigned steps;

	for (size_t i = 0; i < g->n; i++) {
		bool held = g->v[i].held || g->v[i].base;

		g->v[i].cost = held ? 0 : UINT64_MAX;
		g->v[i].steps = 0;
		g->v[i].best = -1;
	}
	/* Later places are mostly bases of earlier ones: backwards it settles in few rounds. */
	while (changed) {
		changed = false;
		for (size_t i = g->n; i-- > 0; ) {
			struct wfs_place *p = &g->v[i];

			for (unsigned k = 0; k < p->n_ways && !p->held && !p->base; k++) {
				uint64_t cost = cost_by(g, p, &p->ways[k], &steps);

				if (cost >= p->cost || is_circular(g, (uint32_t)i, &p->ways[k]))
					continue;
				p->cost = cost;
				p->steps = steps;
				p->best = (int)k;
				changed = true;
			}
		}
	}
}

/* ---- tables ---- */

static bool needs_bases(const struct wfs_table *t)
{
	for (uint32_t b = 0; b < wfs_table_n_blocks(t); b++)
		if (wfs_codec_needs_base(wfs_table_block(t, b).codec))
			return wfs_table_n_bases(t) > 0;
	return false;
}

/* Pieces lie within the size that the table beside them tells: it must be the file's. */
static int check_table(struct wfs_ways *g, uint32_t place, const struct wfs_way *w, const struct wfs_table *t)
{
	if (wfs_table_size(t) != g->v[place].size)
		return wfs_fail(g->err, -EBADMSG, "table %s is for a file of %" PRIu64 " bytes, not %" PRIu64,
				wfs_hex(&w->table).s, wfs_table_size(t), g->v[place].size);
	for (uint32_t b = 0; w->full && b < wfs_table_n_blocks(t); b++)
		if (wfs_codec_needs_base(wfs_table_block(t, b).codec))
			return wfs_fail(g->err, -EBADMSG, "anchor table %s needs a base for block %u", wfs_hex(&w->table).s, b);
	return 0;
}

/* The real bases of a table that is here. */
static int take_bases(struct wfs_ways *g, uint32_t place, unsigned way, const struct wfs_table *t)
{
	uint32_t n = needs_bases(t) ? wfs_table_n_bases(t) : 0, *bases = calloc(n + 1u, sizeof(*bases));
	struct wfs_way *w;
	int r = bases ? 0 : wfs_fail(g->err, -ENOMEM, "out of memory");

	for (uint32_t b = 0; r == 0 && b < n; b++)
		r = wfs_ways_place(g, wfs_table_base(t, b), &bases[b]);
	for (uint32_t b = 0; r == 0 && b < n; b++)
		if (g->v[bases[b]].size != wfs_table_base(t, b)->size)
			r = wfs_fail(g->err, -EBADMSG, "table %s is for a file of %" PRIu64 " bytes, not %" PRIu64,
				     wfs_hex(&wfs_table_base(t, b)->table).s, g->v[bases[b]].size, wfs_table_base(t, b)->size);
	if (r < 0) {
		free(bases);
		return r;
	}
	w = &g->v[place].ways[way];
	free(w->bases);
	w->bases = bases;
	w->n_bases = n;
	return 0;
}

/* Network, memory, stop: the plan cannot go on.  All else is only a way that is none. */
static bool is_fatal(int r)
{
	return r == -EAGAIN || r == -ECANCELED || r == -ENOMEM || r == -ETIMEDOUT || r == -ENETUNREACH;
}

static int give_up(struct wfs_ways *g, struct wfs_way *w, int r)
{
	if (is_fatal(r))
		return r;
	w->result = r;
	if (!g->failed && g->err)
		g->why = *g->err;
	if (!g->failed)
		g->failed = r;
	return 0;
}

static int get_table(struct wfs_ways *g, const struct wfs_way *w, struct wfs_source **out)
{
	int r = wfs_history_is_gone(g->r, &w->table, g->err);

	if (r < 0)
		return r;
	r = wfs_source_get(out, g->r, &w->table, g->net && !w->undo, g->demand, g->err);

	if (r == -EAGAIN && w->undo)
		return wfs_fail(g->err, -ENOENT, "an undo table is lost");
	if (r < 0)
		return r;
	g->tables += wfs_table_memory((*out)->table);
	if (g->tables <= WFS_PLAN_TABLES_MAX)
		return 0;
	return wfs_fail(g->err, -EFBIG, "needs more than %u MiB of tables: publish it in full again",
			WFS_PLAN_TABLES_MAX >> 20);
}

int wfs_ways_open(struct wfs_ways *g, uint32_t place, unsigned way)
{
	struct wfs_way *w = &g->v[place].ways[way];
	struct wfs_source *s = NULL;
	int r;

	if (w->source || w->result < 0)
		return 0;
	r = get_table(g, w, &s);
	if (r == 0)
		r = check_table(g, place, w, s->table);
	if (r == 0)
		r = take_bases(g, place, way, s->table);
	w = &g->v[place].ways[way];
	if (r < 0) {
		wfs_source_put(s);
		return give_up(g, w, r);
	}
	w->source = s;
	w->table_len = wfs_table_object_len(s->table);
	w->stored = wfs_table_stored(s->table);
	w->cost = w->undo ? 0 : w->table_len + (w->stored - WFS_MIN(w->have, w->stored));
	if (!g->v[place].held && !g->v[place].base) {
		g->v[place].base = wfs_basefiles_match(g->r, s->table);
		g->v[place].base_way = way;
	}
	return 0;
}

unsigned wfs_ways_primary(const struct wfs_ways *g, uint32_t place)
{
	const struct wfs_place *p = &g->v[place];
	unsigned i;

	for (i = 0; i < p->n_ways && !wfs_digest_equal(&p->ways[i].table, &p->id); i++)
		;
	return i;
}

int wfs_ways_compare(struct wfs_ways *g, uint32_t place, unsigned way, unsigned primary)
{
	struct wfs_way *w = &g->v[place].ways[way];
	const struct wfs_source *a = w->source, *b = g->v[place].ways[primary].source;

	for (uint32_t i = 0; a && b && i < wfs_table_n_blocks(b->table); i++)
		if (wfs_table_block(a->table, i).hash != wfs_table_block(b->table, i).hash)
			return give_up(g, w, wfs_fail(g->err, -EBADMSG, "%s table %s differs from table %s at block %u",
						      w->full ? "anchor" : "stride", wfs_hex(&w->table).s,
						      wfs_hex(&g->v[place].id).s, i));
	return 0;
}
