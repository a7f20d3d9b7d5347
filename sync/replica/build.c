/* SPDX-License-Identifier: Apache-2.0 */
/*
 * build.c - one block: bytes of its base, the delta, the result's hash
 *
 * A block is built once however many want it (wfs_image_begin), never while waiting for the
 * network: what it needs is fetched first.  Every block that is decoded on the way is compared
 * with its own table's hash, so a failure names the delta that is wrong.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/io.h"

#define DECODES_MAX	16384	/* blocks decoded for one: bounds what a hostile table can cost */
#define TRIES		3
#define IDLE_MAX	4u

/* One build.  A base range may cut blocks; the last such block of a node is kept in part[], since
 * the next range needs it again.  Only the few last used are: a block may touch any number of bases. */
struct build {
	struct wfs_replica *r;
	struct wfs_plan *plan;
	struct part {
		uint8_t *buf;
		uint32_t block;
	} *part;
	uint32_t idle[IDLE_MAX];	/* nodes whose part is kept, the oldest first */
	unsigned n_idle, n_decodes, depth;
	struct wfs_err *err;
};

static int node_block(struct build *c, uint32_t node, uint32_t b, uint8_t *dst);

/* Take the node's part from the kept ones: it is about to be used. */
static void part_take(struct build *c, uint32_t node)
{
	unsigned i;

	for (i = 0; i < c->n_idle && c->idle[i] != node; i++)
		;
	if (i == c->n_idle)
		return;
	c->n_idle--;
	memmove(c->idle + i, c->idle + i + 1, (c->n_idle - i) * sizeof(*c->idle));
}

static void part_keep(struct build *c, uint32_t node)
{
	if (c->n_idle == IDLE_MAX) {
		struct part *oldest = &c->part[c->idle[0]];

		part_take(c, c->idle[0]);
		free(oldest->buf);
		oldest->buf = NULL;
		oldest->block = UINT32_MAX;
	}
	c->idle[c->n_idle++] = node;
}

/* The part [in, in+take) of block b of node. */
static int node_part(struct build *c, uint32_t node, uint32_t b, uint32_t in, uint32_t take, uint8_t *dst)
{
	struct part *part = &c->part[node];
	int r = 0;

	part_take(c, node);
	if (!part->buf && !(part->buf = malloc(WFS_BLOCK_SIZE)))
		return wfs_fail(c->err, -ENOMEM, "out of memory");
	if (part->block != b)
		r = node_block(c, node, b, part->buf);
	part->block = r == 0 ? b : UINT32_MAX;
	if (r == 0)
		memcpy(dst, part->buf + in, take);
	part_keep(c, node);
	return r;
}

static int node_range(struct build *c, uint32_t node, uint64_t off, uint64_t len, uint8_t *dst)
{
	const struct wfs_node *n = &c->plan->nodes[node];
	int r = 0;

	if (n->held && !n->source)
		return wfs_image_read(n->held, dst, len, off, c->err);
	while (r == 0 && len) {
		uint32_t b = (uint32_t)(off >> WFS_BLOCK_SHIFT), in = off & (WFS_BLOCK_SIZE - 1);
		uint32_t block_len = wfs_table_block_len(n->source->table, b);
		uint64_t take = WFS_MIN(len, (uint64_t)block_len - in);

		if (take == block_len)
			r = node_block(c, node, b, dst);
		else
			r = node_part(c, node, b, in, (uint32_t)take, dst);
		dst += take;
		off += take;
		len -= take;
	}
	return r;
}

/* The base bytes of block b of node: by pieces, zeros where there is no base. */
static int fill_base(struct build *c, uint32_t node, uint32_t b, uint8_t *dst)
{
	const struct wfs_table *t = c->plan->nodes[node].source->table;
	uint64_t off = (uint64_t)b << WFS_BLOCK_SHIFT, end = off + wfs_table_block_len(t, b);
	uint32_t p = wfs_table_piece_at(t, off);
	int r = 0;

	while (r == 0 && off < end) {
		const struct wfs_piece *piece = wfs_table_piece(t, p);
		uint64_t stop = ++p < wfs_table_n_pieces(t) ? wfs_table_piece(t, p)->off : wfs_table_size(t);
		uint64_t len = WFS_MIN(stop, end) - off;

		if (piece->base == WFS_NO_BASE)
			memset(dst, 0, len);
		else
			r = node_range(c, c->plan->nodes[node].bases[piece->base],
				       piece->base_off + (off - piece->off), len, dst);
		dst += len;
		off += len;
	}
	return r;
}

static int decode(struct build *c, struct wfs_source *s, uint32_t b, const struct wfs_block_ref *ref,
		  uint8_t *dst)
{
	WFS_AUTO(wfs_free_ptr) uint8_t *stored = NULL;
	WFS_AUTO(wfs_free_ptr) struct wfs_span *spans = NULL;
	struct wfs_group g = { 0 };
	size_t n_spans = 0;
	int r;

	if (ref->len) {
		g = wfs_table_group(s->table, ref->group);
		stored = malloc(g.len);
		if (!stored)
			return wfs_fail(c->err, -ENOMEM, "out of memory");
		r = wfs_source_read(s, ref->group, stored, false, false, c->err);
		if (r < 0)
			return r;
	}
	r = wfs_table_spans(&spans, &n_spans, s->table, b, c->err);
	if (r == 0)
		r = wfs_block_decode(dst, wfs_table_block_len(s->table, b), ref->codec,
				     stored ? stored + (ref->off - g.off) : NULL, ref->len, spans, n_spans, c->err);
	return r;
}

/* Block b of the user's file, if it is what the table says. */
static int from_base(struct build *c, const struct wfs_node *n, uint32_t b, uint8_t *dst)
{
	uint32_t len = wfs_table_block_len(n->source->table, b);

	if (wfs_pread(n->base->fd, dst, len, (uint64_t)b << WFS_BLOCK_SHIFT, NULL) == 0 &&
	    wfs_xxh3(dst, len) == wfs_table_block(n->source->table, b).hash)
		return 0;
	n->base->bad = true;
	return wfs_fail(c->err, -ESTALE, "base file %s changed or is damaged at block %u; not used any more",
			n->base->path, b);
}

/* A block of an image that is not complete, if it is there and what the table says. */
static bool from_partly(const struct wfs_node *n, uint32_t b, uint8_t *dst)
{
	if (!wfs_image_claims(n->held, b))
		return false;
	if (wfs_image_raw(n->held, b, dst, NULL) == 0 &&
	    wfs_xxh3(dst, wfs_image_block_len(n->held, b)) == wfs_table_block(n->source->table, b).hash)
		return true;
	wfs_image_drop_block(n->held, b);
	return false;
}

static int node_block(struct build *c, uint32_t node, uint32_t b, uint8_t *dst)
{
	const struct wfs_node *n = &c->plan->nodes[node];
	struct wfs_block_ref ref;
	int r = 0;

	if (n->held && from_partly(n, b, dst))
		return 0;
	if (n->base)
		return from_base(c, n, b, dst);
	if (++c->n_decodes > DECODES_MAX)
		return wfs_fail(c->err, -EBADMSG, "block needs more than %u others", DECODES_MAX);
	if (c->depth > WFS_CHAIN_MAX)	/* a plan's longest way may be longer than the one it was found on */
		return wfs_fail(c->err, -EBADMSG, "more than %u deltas one on another", WFS_CHAIN_MAX);
	ref = wfs_table_block(n->source->table, b);
	c->depth++;
	if (wfs_codec_needs_base(ref.codec))
		r = fill_base(c, node, b, dst);
	c->depth--;
	if (r == 0)
		r = decode(c, n->source, b, &ref, dst);
	if (r < 0)
		return r;
	if (wfs_xxh3(dst, wfs_table_block_len(n->source->table, b)) != ref.hash)
		return wfs_fail(c->err, -EBADMSG, "table %s: block %u decoded to other bytes than published",
				wfs_hex(&n->source->id).s, b);
	return 0;
}

static int parts_new(struct build *c)
{
	c->part = calloc(c->plan->n_nodes, sizeof(*c->part));
	if (!c->part)
		return -ENOMEM;
	for (size_t i = 0; i < c->plan->n_nodes; i++)
		c->part[i].block = UINT32_MAX;
	return 0;
}

static void parts_free(struct build *c)
{
	for (size_t i = 0; i < c->plan->n_nodes; i++)
		free(c->part[i].buf);
	free(c->part);
}

static int build_from_plan(struct wfs_image *img, struct wfs_plan *plan, uint32_t b, uint8_t *dst,
			   struct wfs_err *err)
{
	struct build c = { .r = img->r, .plan = plan, .err = err };
	int r;

	if (parts_new(&c) < 0)
		return wfs_fail(err, -ENOMEM, "out of memory");
	r = node_block(&c, 0, b, dst);
	parts_free(&c);
	return r;
}

/* Build block b from what is local.  -EAGAIN: something is not. */
static int build_local(struct wfs_image *img, struct wfs_plan *plan, uint32_t b, bool demand, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) uint8_t *buf = malloc(WFS_BLOCK_SIZE);
	bool claimed, on_disk = false;
	int r = -EAGAIN, r2;

	if (!buf)
		return wfs_fail(err, -ENOMEM, "out of memory");
	if (!wfs_image_begin(img, b, &claimed))
		return 0;
	if (claimed) {
		on_disk = wfs_image_raw(img, b, buf, NULL) == 0 &&
			  wfs_xxh3(buf, wfs_image_block_len(img, b)) ==
			  (plan->nodes[0].source ? wfs_table_block(plan->nodes[0].source->table, b).hash : 0);
		if (on_disk)
			r = 0;
	}
	if (!on_disk)
		r = build_from_plan(img, plan, b, buf, err);
	if (r == 0 && !on_disk)
		r = wfs_cache_charge(&img->r->cache, wfs_image_block_len(img, b), &img->reserved, demand, err);
	r2 = wfs_image_done(img, b, r == 0 ? buf : NULL, on_disk, err);
	if (r == 0 && r2 == 0 && !on_disk)
		img->r->n_blocks_built++;
	return r < 0 ? r : r2;
}

/* ---- fetching what a range needs ---- */

struct fetch {
	struct wfs_plan *plan;
	uint8_t **seen;			/* per node a bit a block: several pieces lead to the same one */
	bool demand;
	uint64_t n_left;		/* blocks that may still be looked at */
	unsigned depth;
	struct wfs_err *err;
};

static int fetch_range(struct fetch *f, uint32_t node, uint64_t off, uint64_t len);

/* Blocks of a held image that rotted since must be there again. */
static int mend_held(struct fetch *f, struct wfs_image *held, uint64_t off, uint64_t len)
{
	int r = 0;

	for (uint32_t b = (uint32_t)(off >> WFS_BLOCK_SHIFT); r == 0 && b <= (off + len - 1) >> WFS_BLOCK_SHIFT; b++)
		if (!wfs_image_has(held, b))
			r = wfs_build_block(held, b, true, f->demand, f->err);
	return r;
}

static int fetch_bases(struct fetch *f, uint32_t node, uint64_t off, uint64_t end)
{
	const struct wfs_table *t = f->plan->nodes[node].source->table;
	uint32_t p = wfs_table_piece_at(t, off);
	int r = 0;

	while (r == 0 && off < end) {
		const struct wfs_piece *piece = wfs_table_piece(t, p);
		uint64_t stop = ++p < wfs_table_n_pieces(t) ? wfs_table_piece(t, p)->off : wfs_table_size(t);
		uint64_t len = WFS_MIN(stop, end) - off;

		if (piece->base != WFS_NO_BASE)
			r = fetch_range(f, f->plan->nodes[node].bases[piece->base],
					piece->base_off + (off - piece->off), len);
		off += len;
	}
	return r;
}

/* Blocks [b, end) of a node with a source, or of those what is not held. */
static int fetch_blocks(struct fetch *f, uint32_t node, uint32_t b, uint32_t end)
{
	const struct wfs_node *n = &f->plan->nodes[node];
	const struct wfs_table *t = n->source->table;
	uint64_t off = (uint64_t)b << WFS_BLOCK_SHIFT;
	uint32_t first = UINT32_MAX, last = 0;
	bool bases = false;
	int r = 0;

	for (uint32_t i = b; i < end; i++) {
		struct wfs_block_ref ref = wfs_table_block(t, i);

		if (ref.len) {
			first = WFS_MIN(first, ref.group);
			last = WFS_MAX(last, ref.group);
		}
		bases |= wfs_codec_needs_base(ref.codec);
	}
	if (first != UINT32_MAX)
		r = wfs_source_fetch(n->source, first, last, f->demand, f->err);
	if (r == -ENOENT)
		wfs_history_gone(n->source->r, &n->source->id, f->err);
	if (r == 0 && bases && f->depth > WFS_CHAIN_MAX)
		return wfs_fail(f->err, -EBADMSG, "more than %u deltas one on another", WFS_CHAIN_MAX);
	f->depth++;
	if (r == 0 && bases)
		r = fetch_bases(f, node, off, WFS_MIN((uint64_t)end << WFS_BLOCK_SHIFT, wfs_table_size(t)));
	f->depth--;
	return r;
}

static int seen_new(struct fetch *f, struct wfs_err *err)
{
	f->seen = calloc(f->plan->n_nodes, sizeof(*f->seen));
	return f->seen ? 0 : wfs_fail(err, -ENOMEM, "out of memory");
}

static void seen_free(struct fetch *f)
{
	for (size_t i = 0; f->seen && i < f->plan->n_nodes; i++)
		free(f->seen[i]);
	free(f->seen);
}

/* Is there nothing to do for that block: held, or seen to already? */
static bool is_settled(const struct fetch *f, uint32_t node, uint32_t b)
{
	const struct wfs_node *n = &f->plan->nodes[node];

	return (f->seen[node][b / 8] & 1u << b % 8) || (n->held && wfs_image_claims(n->held, b));
}

static int fetch_range(struct fetch *f, uint32_t node, uint64_t off, uint64_t len)
{
	const struct wfs_node *n = &f->plan->nodes[node];
	uint32_t b, end, stop;
	int r = 0;

	if (len == 0 || n->base)
		return 0;
	b = (uint32_t)(off >> WFS_BLOCK_SHIFT);
	end = (uint32_t)((off + len - 1) >> WFS_BLOCK_SHIFT) + 1;
	if (n->held && !n->source)
		return mend_held(f, n->held, off, len);
	if (!f->seen[node] && !(f->seen[node] = calloc(wfs_table_n_blocks(n->source->table) / 8 + 1, 1)))
		return wfs_fail(f->err, -ENOMEM, "out of memory");
	for (; r == 0 && b < end; b = stop) {
		bool settled = is_settled(f, node, b);

		for (stop = b + 1; stop < end && is_settled(f, node, stop) == settled; stop++)
			;
		if (settled)
			continue;
		if (stop - b > f->n_left)
			return wfs_fail(f->err, -EBADMSG, "a block needs more than %u others", DECODES_MAX);
		f->n_left -= stop - b;
		for (uint32_t i = b; i < stop; i++)
			f->seen[node][i / 8] |= (uint8_t)(1u << i % 8);
		r = fetch_blocks(f, node, b, stop);
	}
	return r;
}

static int prefetch(struct wfs_image *img, uint32_t b, uint32_t n, bool demand, struct wfs_err *err)
{
	struct fetch f = { .demand = demand, .n_left = (uint64_t)n * DECODES_MAX, .err = err };
	uint64_t off = (uint64_t)b << WFS_BLOCK_SHIFT;
	int r;

	r = wfs_plan_get(&f.plan, img, true, demand, err);
	if (r < 0)
		return r;
	r = seen_new(&f, err);
	if (r == 0)
		r = fetch_range(&f, 0, off, WFS_MIN((uint64_t)n << WFS_BLOCK_SHIFT, img->size - off));
	seen_free(&f);
	wfs_plan_put(img, f.plan);
	return r;
}

int wfs_build_prefetch(struct wfs_image *img, uint32_t b, uint32_t n, struct wfs_err *err)
{
	return prefetch(img, b, n, false, err);
}

static int peek(struct wfs_image *img, struct wfs_plan *plan, void *buf, size_t len, uint64_t off,
		struct wfs_err *err)
{
	struct fetch f = { .plan = plan, .n_left = (len / WFS_BLOCK_SIZE + 2) * DECODES_MAX, .err = err };
	struct build c = { .r = img->r, .plan = plan, .err = err };
	int r = seen_new(&f, err);

	if (r == 0)
		r = fetch_range(&f, 0, off, len);
	seen_free(&f);
	if (r < 0)
		return r;
	if (parts_new(&c) < 0)
		return wfs_fail(err, -ENOMEM, "out of memory");
	r = node_range(&c, 0, off, len, buf);
	parts_free(&c);
	return r;
}

int wfs_build_peek(struct wfs_image *img, void *buf, size_t len, uint64_t off, struct wfs_err *err)
{
	struct wfs_plan *plan;
	int r = 0;

	for (int i = 0; i < TRIES; i++) {
		r = wfs_plan_get(&plan, img, true, false, err);
		if (r < 0)
			return r;
		r = peek(img, plan, buf, len, off, err);
		wfs_plan_put(img, plan);
		if (r != -ESTALE && r != -ENOENT && r != -EAGAIN)
			return r;
		wfs_plan_drop(img, false);
	}
	return r == -EAGAIN ? wfs_fail(err, -EIO, "what it is built from does not stay") : r;
}

static int build_block(struct wfs_image *img, uint32_t b, bool net, bool demand, struct wfs_err *err)
{
	struct wfs_plan *plan;
	int r, gone = 0;

	r = wfs_image_open(img, err);
	for (int i = 0; r == 0 && i < TRIES; i++) {
		if (wfs_image_has(img, b))
			return 0;
		r = wfs_plan_get(&plan, img, net, demand, err);
		if (r < 0)
			break;
		r = build_local(img, plan, b, demand, err);
		wfs_plan_put(img, plan);
		if (r == -EAGAIN && net)
			r = prefetch(img, b, 1, demand, err);
		else if (r == 0)
			return 0;
		else if (r != -ESTALE)
			break;
		if (r == -ESTALE || r == -ENOENT) {
			/* A base went bad or an object is gone: look for another way. */
			wfs_plan_drop(img, false);
			gone = r;
			r = 0;
		}
	}
	if (r == 0 && net)		/* the message says what is gone */
		r = gone == -ENOENT ? -EBADMSG : wfs_fail(err, -EIO, "what it is built from does not stay");
	else if (r == 0)
		r = -EAGAIN;
	return r == -EAGAIN ? r : wfs_wrap(err, r, "build block %u of %s", b, img->label);
}

int wfs_build_block(struct wfs_image *img, uint32_t b, bool net, bool demand, struct wfs_err *err)
{
	int r = build_block(img, b, net, demand, err);

	if (r != -ENOSPC || !demand)
		return r;
	wfs_plan_discard(img);		/* a reader goes before what was fetched ahead */
	return build_block(img, b, net, demand, err);
}
