/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.c - from what an image is built, in the fewest bytes to fetch
 *
 * A plan is a graph of nodes, one for each file content that is needed: node 0 is the image,
 * and every other node is a base of one before it.  A node's bytes come from
 *
 *   held     a complete image in the cache: nothing to fetch
 *   base     a file of the user's that matches: nothing to fetch, checked block by block
 *   source   stored bytes: its own table (deltas need the bases' nodes), or its anchor table,
 *            whichever costs less in all
 *
 * Tables are content-addressed, so the graph has no cycle.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/io.h"

#define BASE_DEPTH_MAX 4	/* directories below base= that are looked into */

struct planner {
	struct wfs_replica *r;
	struct wfs_image *target;
	struct wfs_plan *plan;
	bool net, demand;
	uint64_t tables;		/* bytes of tables in memory */
	struct wfs_err *err;
};

/* ---- the user's own files ---- */

static void add_basefile(struct wfs_replica *r, int dir, const char *name, const char *where)
{
	struct wfs_basefile *b;
	struct stat st;
	int fd;

	/* Follows symlinks: a Hugging Face snapshot is all symlinks. */
	fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return;
	b = calloc(1, sizeof(*b));
	if (!b || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0 ||
	    asprintf(&b->path, "%s/%s", where, name) < 0) {
		free(b);
		close(fd);
		return;
	}
	b->fd = fd;
	b->size = (uint64_t)st.st_size;
	b->next = r->basefiles;
	r->basefiles = b;
}

static void scan_dir(struct wfs_replica *r, int at, const char *name, const char *where, int depth)
{
	WFS_AUTO(wfs_free_ptr) char *path = NULL;
	struct dirent *e;
	struct stat st;
	DIR *d;
	int fd;

	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d || asprintf(&path, "%s%s%s", where, *where ? "/" : "", name) < 0) {
		if (d)
			closedir(d);
		return;
	}
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st, 0) < 0)
			continue;
		if (S_ISREG(st.st_mode))
			add_basefile(r, dirfd(d), e->d_name, path);
		else if (S_ISDIR(st.st_mode) && depth > 1)
			scan_dir(r, dirfd(d), e->d_name, path, depth - 1);
	}
	closedir(d);
}

static void scan_bases(struct wfs_replica *r)
{
	pthread_mutex_lock(&r->base_lock);
	if (!r->basefiles_scanned)
		for (size_t i = 0; i < r->o.base.n; i++)
			scan_dir(r, AT_FDCWD, r->o.base.v[i], "", BASE_DEPTH_MAX);
	r->basefiles_scanned = true;
	pthread_mutex_unlock(&r->base_lock);
}

void wfs_basefiles_free(struct wfs_replica *r)
{
	struct wfs_basefile *b;

	while ((b = r->basefiles)) {
		r->basefiles = b->next;
		close(b->fd);
		free(b->path);
		free(b);
	}
}

static bool block_matches(const struct wfs_basefile *f, const struct wfs_table *t, uint32_t b, void *buf)
{
	uint32_t len = wfs_table_block_len(t, b);

	return wfs_pread(f->fd, buf, len, (uint64_t)b << WFS_BLOCK_SHIFT, NULL) == 0 &&
	       wfs_xxh3(buf, len) == wfs_table_block(t, b).hash;
}

/* A file of the right size whose first, middle and last block match: a candidate; every block is
 * checked again when it is used. */
static struct wfs_basefile *match_base(struct wfs_replica *r, const struct wfs_table *t)
{
	WFS_AUTO(wfs_free_ptr) void *buf = NULL;
	uint32_t n = wfs_table_n_blocks(t);
	struct wfs_basefile *f;

	if (!r->o.base.n || !n)
		return NULL;
	scan_bases(r);
	for (f = r->basefiles; f; f = f->next) {
		if (f->size != wfs_table_size(t) || f->bad)
			continue;
		if (!buf && !(buf = malloc(WFS_BLOCK_SIZE)))
			return NULL;
		if (block_matches(f, t, 0, buf) && block_matches(f, t, n - 1, buf) &&
		    block_matches(f, t, n / 2, buf))
			return f;
	}
	return NULL;
}

/* ---- choosing ---- */

static bool needs_bases(const struct wfs_table *t)
{
	for (uint32_t b = 0; b < wfs_table_n_blocks(t); b++)
		if (wfs_codec_needs_base(wfs_table_block(t, b).codec))
			return wfs_table_n_bases(t) > 0;
	return false;
}

/* The anchor table must be a second way to the same bytes, or it is refused. */
static int check_anchor(const struct wfs_table *t, const struct wfs_table *a, struct wfs_err *err)
{
	if (wfs_table_size(t) != wfs_table_size(a))
		return wfs_fail(err, -EBADMSG, "anchor table is for another size");
	for (uint32_t b = 0; b < wfs_table_n_blocks(t); b++) {
		struct wfs_block_ref x = wfs_table_block(t, b), y = wfs_table_block(a, b);

		if (x.hash != y.hash || wfs_codec_needs_base(y.codec))
			return wfs_fail(err, -EBADMSG, "anchor table differs at block %u", b);
	}
	return 0;
}

static int add_node(struct planner *p, const struct wfs_digest *id, uint32_t *index)
{
	struct wfs_plan *plan = p->plan;
	struct wfs_node *bigger;
	size_t cap;

	if (plan->n_nodes == plan->cap) {
		cap = plan->cap ? plan->cap * 2 : 8;
		bigger = realloc(plan->nodes, cap * sizeof(*bigger));
		if (!bigger)
			return wfs_fail(p->err, -ENOMEM, "out of memory");
		plan->nodes = bigger;
		plan->cap = cap;
	}
	*index = (uint32_t)plan->n_nodes++;
	memset(&plan->nodes[*index], 0, sizeof(*plan->nodes));
	plan->nodes[*index].id = *id;
	return 0;
}

static struct wfs_image *find_held(struct planner *p, const struct wfs_digest *id)
{
	struct wfs_image *img = wfs_image_find(p->r, id);

	if (img && img != p->target && wfs_image_probe(img) && wfs_image_open(img, NULL) == 0)
		return img;
	wfs_image_put(img);
	return NULL;
}

static int resolve(struct planner *p, const struct wfs_base *what, unsigned depth, uint32_t *index,
		   uint64_t *cost);

/* Resolve the bases of node i; the sum of what must be fetched, or more than budget. */
static int resolve_bases(struct planner *p, uint32_t i, unsigned depth, uint64_t budget, uint64_t *cost)
{
	const struct wfs_table *t = p->plan->nodes[i].source->table;
	uint32_t n = wfs_table_n_bases(t), *bases;
	uint64_t sum = 0, one;
	int r;

	bases = calloc(n, sizeof(*bases));
	if (!bases)
		return wfs_fail(p->err, -ENOMEM, "out of memory");
	p->plan->nodes[i].bases = bases;
	for (uint32_t b = 0; b < n && sum <= budget; b++) {
		r = resolve(p, wfs_table_base(t, b), depth + 1, &bases[b], &one);
		if (r < 0)
			return r;
		sum += one;
	}
	*cost = sum;
	return 0;
}

/* Use the anchor table for node i. */
static void use_anchor(struct planner *p, uint32_t i, struct wfs_source *anchor)
{
	struct wfs_node *node = &p->plan->nodes[i];

	wfs_source_put(node->source);
	free(node->bases);
	node->bases = NULL;
	node->source = anchor;
	node->cost = wfs_table_stored(anchor->table);
}

/* A table, within what one plan may hold. */
static int get_source(struct planner *p, const struct wfs_digest *id, struct wfs_source **out)
{
	int r = wfs_source_get(out, p->r, id, p->net, p->demand, p->err);

	if (r < 0)
		return r;
	p->tables += wfs_table_memory((*out)->table);
	if (p->tables <= WFS_PLAN_TABLES_MAX)
		return 0;
	wfs_source_put(*out);
	*out = NULL;
	return wfs_fail(p->err, -EFBIG, "needs more than %u MiB of tables: publish it in full again",
			WFS_PLAN_TABLES_MAX >> 20);
}

static int get_anchor(struct planner *p, const struct wfs_digest *id, const struct wfs_table *t,
		      struct wfs_source **out)
{
	int r;

	*out = NULL;
	if (wfs_digest_is_zero(id))
		return 0;
	r = get_source(p, id, out);
	if (r < 0)
		return r;
	r = check_anchor(t, (*out)->table, p->err);
	if (r < 0) {
		wfs_source_put(*out);
		*out = NULL;
	}
	return r;
}

/* Own deltas, or the anchor? */
static int choose(struct planner *p, uint32_t i, const struct wfs_digest *anchor_id, unsigned depth)
{
	const struct wfs_table *t = p->plan->nodes[i].source->table;
	uint64_t own = wfs_table_stored(t), bases = 0, budget = UINT64_MAX;
	struct wfs_source *anchor;
	int r;

	p->plan->nodes[i].cost = own;
	if (!needs_bases(t))
		return 0;
	r = get_anchor(p, anchor_id, t, &anchor);
	if (r < 0)
		return r;
	if (anchor)
		budget = wfs_table_stored(anchor->table);
	if (own <= budget)
		r = resolve_bases(p, i, depth, budget - own, &bases);
	if (anchor && (r < 0 || own > budget || bases > budget - own)) {
		if (r == -EAGAIN || r == -ECANCELED)
			wfs_source_put(anchor);
		else
			r = 0, use_anchor(p, i, anchor);
		return r;
	}
	wfs_source_put(anchor);
	p->plan->nodes[i].cost = own + bases;
	return r;
}

/* Pieces lie within the size that the table beside them tells: it must be the file's. */
static int check_size(struct planner *p, uint64_t size, const struct wfs_base *what)
{
	if (size == what->size)
		return 0;
	return wfs_fail(p->err, -EBADMSG, "table %s is for a file of %" PRIu64 " bytes, not %" PRIu64,
			wfs_hex(&what->table).s, size, what->size);
}

/* A node met again: what did not work then is no way now, though another node may do without it. */
static int known_node(struct planner *p, uint32_t i, const struct wfs_base *what)
{
	const struct wfs_node *n = &p->plan->nodes[i];

	if (n->result < 0)
		return wfs_fail(p->err, n->result, "table %s cannot be used", wfs_hex(&what->table).s);
	return check_size(p, n->held ? n->held->size : wfs_table_size(n->source->table), what);
}

static int fill_node(struct planner *p, uint32_t i, const struct wfs_base *what, unsigned depth)
{
	struct wfs_image *held = find_held(p, &what->table);
	struct wfs_source *s;
	int r;

	p->plan->nodes[i].held = held;
	if (held)
		return check_size(p, held->size, what);
	r = get_source(p, &what->table, &s);
	if (r < 0)
		return r;
	p->plan->nodes[i].source = s;
	r = check_size(p, wfs_table_size(s->table), what);
	if (r < 0)
		return r;
	p->plan->nodes[i].base = match_base(p->r, s->table);
	return p->plan->nodes[i].base ? 0 : choose(p, i, &what->anchor, depth);
}

static int resolve(struct planner *p, const struct wfs_base *what, unsigned depth, uint32_t *index,
		   uint64_t *cost)
{
	int r;

	*cost = 0;
	for (uint32_t i = 0; i < p->plan->n_nodes; i++) {
		if (wfs_digest_equal(&p->plan->nodes[i].id, &what->table)) {
			*index = i;
			return known_node(p, i, what);
		}
	}
	if (depth > WFS_CHAIN_MAX)
		return wfs_fail(p->err, -EBADMSG, "more than %u deltas one on another", WFS_CHAIN_MAX);
	r = add_node(p, &what->table, index);
	if (r < 0)
		return r;
	r = fill_node(p, *index, what, depth);
	p->plan->nodes[*index].result = r;
	*cost = p->plan->nodes[*index].cost;
	return r;
}

/* ---- life ---- */

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

static int plan_make(struct wfs_plan **out, struct wfs_image *img, bool net, bool demand, struct wfs_err *err)
{
	struct wfs_base what = { .table = img->id, .anchor = img->anchor, .size = img->size };
	struct planner p = { .r = img->r, .target = img, .net = net, .demand = demand, .err = err };
	uint64_t cost;
	uint32_t index;
	int r;

	p.plan = calloc(1, sizeof(*p.plan));
	if (!p.plan)
		return wfs_fail(err, -ENOMEM, "out of memory");
	r = resolve(&p, &what, 0, &index, &cost);
	if (r < 0) {
		plan_free(p.plan, false);
		return r == -EAGAIN ? r : wfs_wrap(err, r, "%s", img->label);
	}
	p.plan->refs = 1;
	*out = p.plan;
	return 0;
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

void wfs_plan_drop(struct wfs_image *img, bool done)
{
	put(img, NULL, true, done);
}
