/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - the checked, read-only view of a table
 *
 * Its arrays are kept as table_object.c made them and read in place: a table of a million blocks would
 * otherwise be there twice.  Beside it stand only what a lookup cannot find quickly: a running sum of stored bytes
 * for every 64 blocks (the rest is added up when asked), and where each group begins and ends.
 *
 * Bases and pieces have the layout of their structs on little-endian machines; open rewrites them
 * in place, which changes nothing there and makes them readable on others.
 */
#include "weightfs/table.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "format/format.h"

#define SUM_SHIFT 6			/* a sum for every 64 blocks */

_Static_assert(sizeof(struct wfs_base) == TABLE_BASE_LEN, "a base is read in place");
_Static_assert(sizeof(struct wfs_piece) == TABLE_PIECE_LEN, "a piece is read in place");

struct pack {
	struct wfs_pack pub;
	uint64_t before;		/* stored bytes of all earlier packs */
};

struct extent {				/* of a group: its first and last block that store something */
	uint32_t first, last;
};

struct wfs_table {
	struct wfs_buf raw;		/* the arrays */
	size_t object_len;
	uint64_t size, stored;
	uint32_t n_blocks, n_bases, n_pieces, n_packs, n_groups;
	struct wfs_base *bases;		/* in raw, as the four below */
	struct wfs_piece *pieces;
	const uint8_t *raw_packs, *blocks;
	const struct wfs_digest *digests;
	struct pack *packs;
	struct extent *groups;
	uint64_t *sums;			/* stored bytes before block i << SUM_SHIFT */
};

static uint32_t stored_len(const struct wfs_table *t, uint32_t i)
{
	return wfs_get32(t->blocks + (size_t)i * TABLE_BLOCK_LEN + 8);
}

static bool is_zero(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

/* ---- open ---- */

/* Find the arrays, whose length the counts make. */
static void find_arrays(struct wfs_table *t, const struct wfs_table_counts *c)
{
	uint8_t *at = t->raw.data;

	t->size = c->size;
	t->n_blocks = c->n_blocks;
	t->n_bases = c->n_bases;
	t->n_pieces = c->n_pieces;
	t->n_packs = c->n_packs;
	t->n_groups = c->n_groups;
	t->bases = (struct wfs_base *)at;
	at += (size_t)c->n_bases * TABLE_BASE_LEN;
	t->pieces = (struct wfs_piece *)at;
	at += (size_t)c->n_pieces * TABLE_PIECE_LEN;
	t->raw_packs = at;
	at += (size_t)c->n_packs * TABLE_PACK_LEN;
	t->blocks = at;
	t->digests = (const struct wfs_digest *)(at + (size_t)c->n_blocks * TABLE_BLOCK_LEN);
}

static int read_bases(struct wfs_table *t, struct wfs_err *err)
{
	for (uint32_t i = 0; i < t->n_bases; i++) {
		struct wfs_base *b = &t->bases[i];

		b->size = wfs_get64(&b->size);
		if (b->size > WFS_FILE_MAX)
			return wfs_fail(err, -EBADMSG, "table: base %u of %llu bytes, at most %llu are possible", i,
					(unsigned long long)b->size, WFS_FILE_MAX);
	}
	return 0;
}

int wfs_piece_check(const struct wfs_piece *p, uint64_t end, const struct wfs_base *base, struct wfs_err *err)
{
	uint64_t len = end - p->off;

	if (p->off >= end)
		return wfs_fail(err, -EBADMSG, "it is empty or not behind the one before it");
	if (p->dtype >= WFS_DT_COUNT)
		return wfs_fail(err, -EPROTONOSUPPORT, "element type %u, this program knows 0 to %u", p->dtype,
				WFS_DT_COUNT - 1);
	if (p->phase >= wfs_dtype_width(p->dtype))
		return wfs_fail(err, -EBADMSG, "phase %u in elements of %u bytes", p->phase, wfs_dtype_width(p->dtype));
	if (!base && p->base_off != 0)
		return wfs_fail(err, -EBADMSG, "an offset in a base, but no base");
	if (base && (len > base->size || p->base_off > base->size - len))
		return wfs_fail(err, -EBADMSG, "it does not lie within its base of %llu bytes",
				(unsigned long long)base->size);
	return 0;
}

static int read_piece(struct wfs_table *t, uint32_t i, struct wfs_err *err)
{
	uint8_t *raw = (uint8_t *)&t->pieces[i];
	struct wfs_piece p = {
		.off = wfs_get64(raw),
		.base_off = wfs_get64(raw + 8),
		.base = wfs_get32(raw + 16),
		.dtype = raw[20],
		.phase = raw[21],
	};
	uint64_t end = i + 1 < t->n_pieces ? wfs_get64(raw + TABLE_PIECE_LEN) : t->size;

	if (!is_zero(raw + 22, 2))
		return wfs_fail(err, -EBADMSG, "reserved bytes are not zero");
	if (i == 0 && p.off != 0)
		return wfs_fail(err, -EBADMSG, "the first one does not begin at 0");
	if (p.base != WFS_NO_BASE && p.base >= t->n_bases)
		return wfs_fail(err, -EBADMSG, "base %u of %u", p.base, t->n_bases);
	memcpy(raw, &p, sizeof(p));
	return wfs_piece_check(&p, end, p.base == WFS_NO_BASE ? NULL : &t->bases[p.base], err);
}

static int read_pieces(struct wfs_table *t, struct wfs_err *err)
{
	if ((t->n_pieces == 0) != (t->size == 0))
		return wfs_fail(err, -EBADMSG, "table: %u pieces for a file of %llu bytes", t->n_pieces,
				(unsigned long long)t->size);
	for (uint32_t i = 0; i < t->n_pieces; i++) {
		int r = read_piece(t, i, err);

		if (r < 0)
			return wfs_wrap(err, r, "table: piece %u", i);
	}
	return 0;
}

static int read_pack(struct wfs_table *t, uint32_t i, struct wfs_err *err)
{
	const uint8_t *raw = t->raw_packs + (size_t)i * TABLE_PACK_LEN;
	struct wfs_pack *p = &t->packs[i].pub;

	memcpy(p->id.b, raw, sizeof(p->id.b));
	p->size = wfs_get64(raw + 32);
	p->start = wfs_get64(raw + 40);
	p->first_block = wfs_get32(raw + 48);
	if (!is_zero(raw + 52, 4))
		return wfs_fail(err, -EBADMSG, "table: pack %u: reserved bytes are not zero", i);
	if (p->size > WFS_PACK_MAX || p->start > p->size)
		return wfs_fail(err, -EBADMSG, "table: pack %u: bytes from %llu in an object of %llu", i,
				(unsigned long long)p->start, (unsigned long long)p->size);
	if (p->first_block >= t->n_blocks ||
	    (i == 0 ? p->first_block != 0 : p->first_block <= t->packs[i - 1].pub.first_block))
		return wfs_fail(err, -EBADMSG, "table: pack %u: first block %u breaks the order", i, p->first_block);
	return 0;
}

static int read_block(const struct wfs_table *t, uint32_t i, struct wfs_err *err)
{
	const uint8_t *b = t->blocks + (size_t)i * TABLE_BLOCK_LEN;
	int r;

	if (!is_zero(b + 13, 3))
		return wfs_fail(err, -EBADMSG, "table: block %u: reserved bytes are not zero", i);
	r = wfs_stored_check(b[12], stored_len(t, i), wfs_table_block_len(t, i), err);
	if (r < 0)
		return wfs_wrap(err, r, "table: block %u", i);
	return 0;
}

/* Adding up stored bytes, block after block. */
struct walk {
	uint32_t pack, group, in_group;	/* in_group: bytes of the group that is open */
	uint64_t in_pack;
};

/* Close the open group, if there is one. */
static void end_group(struct walk *w)
{
	if (w->in_group > 0)
		w->group++;
	w->in_group = 0;
}

static int end_pack(struct wfs_table *t, struct walk *w, struct wfs_err *err)
{
	struct wfs_pack *p = &t->packs[w->pack].pub;

	end_group(w);
	if (w->in_pack > p->size - p->start)
		return wfs_fail(err, -EBADMSG, "table: pack %u: %llu stored bytes from %llu in an object of %llu", w->pack,
				(unsigned long long)w->in_pack, (unsigned long long)p->start,
				(unsigned long long)p->size);
	p->stored = w->in_pack;
	w->in_pack = 0;
	w->pack++;
	return 0;
}

static int count_stored(struct wfs_table *t, struct walk *w, uint32_t i, uint32_t len, struct wfs_err *err)
{
	if (t->n_packs == 0)
		return wfs_fail(err, -EBADMSG, "table: block %u stores %u bytes, but there is no pack", i, len);
	if (w->group == t->n_groups)
		return wfs_fail(err, -EBADMSG, "table: more than the %u groups it has digests for", t->n_groups);
	if (w->in_group == 0)
		t->groups[w->group].first = i;
	t->groups[w->group].last = i;
	w->in_group += len;
	w->in_pack += len;
	t->stored += len;
	if (w->in_group >= WFS_GROUP_MIN)
		end_group(w);
	return 0;
}

static int walk_block(struct wfs_table *t, struct walk *w, uint32_t i, struct wfs_err *err)
{
	uint32_t len = stored_len(t, i);
	int r = 0;

	if (w->pack + 1 < t->n_packs && t->packs[w->pack + 1].pub.first_block == i) {
		r = end_pack(t, w, err);
		t->packs[w->pack].before = t->stored;
		t->packs[w->pack].pub.first_group = w->group;
	}
	if (i % (1u << SUM_SHIFT) == 0)
		t->sums[i >> SUM_SHIFT] = t->stored;
	if (r == 0 && len > 0)
		r = count_stored(t, w, i, len, err);
	return r;
}

static int read_blocks(struct wfs_table *t, struct wfs_err *err)
{
	struct walk w = { 0 };
	int r = 0;

	for (uint32_t i = 0; i < t->n_blocks && r == 0; i++) {
		r = read_block(t, i, err);
		if (r == 0)
			r = walk_block(t, &w, i, err);
	}
	if (r == 0 && t->n_packs > 0)
		r = end_pack(t, &w, err);
	if (r == 0 && w.group != t->n_groups)
		return wfs_fail(err, -EBADMSG, "table: digests for %u groups where there are %u", t->n_groups, w.group);
	return r;
}

/* Lengths here are bounded by that of the arrays, which are there already. */
static int alloc_side(struct wfs_table *t, struct wfs_err *err)
{
	size_t n_sums = ((size_t)t->n_blocks >> SUM_SHIFT) + 1;

	t->packs = calloc((size_t)t->n_packs + 1, sizeof(*t->packs));
	t->groups = calloc((size_t)t->n_groups + 1, sizeof(*t->groups));
	t->sums = calloc(n_sums, sizeof(*t->sums));
	if (!t->packs || !t->groups || !t->sums)
		return wfs_fail(err, -ENOMEM, "table: out of memory");
	return 0;
}

static int read_table(struct wfs_table *t, const struct wfs_buf *object, struct wfs_err *err)
{
	struct wfs_table_counts c;
	int r = wfs_table_unpack(&t->raw, &c, object->data, object->len, err);

	if (r < 0)
		return r;
	t->object_len = object->len;
	find_arrays(t, &c);
	r = alloc_side(t, err);
	if (r == 0)
		r = read_bases(t, err);
	if (r == 0)
		r = read_pieces(t, err);
	for (uint32_t i = 0; i < t->n_packs && r == 0; i++)
		r = read_pack(t, i, err);
	if (r == 0)
		r = read_blocks(t, err);
	return r;
}

int wfs_table_open(struct wfs_table **out, struct wfs_buf *object, struct wfs_err *err)
{
	struct wfs_table *t;
	int r;

	if (object->len > WFS_TABLE_MAX)
		return wfs_fail(err, -EBADMSG, "table: %zu bytes, at most %u are possible", object->len, WFS_TABLE_MAX);
	t = calloc(1, sizeof(*t));
	if (!t)
		return wfs_fail(err, -ENOMEM, "table: out of memory");
	r = read_table(t, object, err);
	if (r < 0) {
		wfs_table_close(t);
		return r;
	}
	wfs_buf_free(object);
	*out = t;
	return 0;
}

void wfs_table_close(struct wfs_table *t)
{
	if (!t)
		return;
	wfs_buf_free(&t->raw);
	free(t->packs);
	free(t->groups);
	free(t->sums);
	free(t);
}

/* ---- accessors ---- */

uint64_t wfs_table_size(const struct wfs_table *t)
{
	return t->size;
}

uint64_t wfs_table_stored(const struct wfs_table *t)
{
	return t->stored;
}

size_t wfs_table_object_len(const struct wfs_table *t)
{
	return t->object_len;
}

size_t wfs_table_memory(const struct wfs_table *t)
{
	return t->raw.len;
}

uint32_t wfs_table_n_blocks(const struct wfs_table *t)
{
	return t->n_blocks;
}

uint32_t wfs_table_n_groups(const struct wfs_table *t)
{
	return t->n_groups;
}

uint32_t wfs_table_n_packs(const struct wfs_table *t)
{
	return t->n_packs;
}

uint32_t wfs_table_n_bases(const struct wfs_table *t)
{
	return t->n_bases;
}

uint32_t wfs_table_n_pieces(const struct wfs_table *t)
{
	return t->n_pieces;
}

uint32_t wfs_table_block_len(const struct wfs_table *t, uint32_t i)
{
	uint64_t left = t->size - ((uint64_t)i << WFS_BLOCK_SHIFT);

	assert(i < t->n_blocks);
	return (uint32_t)WFS_MIN(left, (uint64_t)WFS_BLOCK_SIZE);
}

/* Stored bytes of all blocks before i. */
static uint64_t sum_before(const struct wfs_table *t, uint32_t i)
{
	uint64_t sum = t->sums[i >> SUM_SHIFT];

	for (uint32_t k = i >> SUM_SHIFT << SUM_SHIFT; k < i; k++)
		sum += stored_len(t, k);
	return sum;
}

static uint32_t pack_of(const struct wfs_table *t, uint32_t block)
{
	uint32_t lo = 0, hi = t->n_packs;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (t->packs[mid].pub.first_block <= block)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

static uint32_t group_of(const struct wfs_table *t, uint32_t block)
{
	uint32_t lo = 0, hi = t->n_groups;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (t->groups[mid].first <= block)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

struct wfs_block_ref wfs_table_block(const struct wfs_table *t, uint32_t i)
{
	const uint8_t *b = t->blocks + (size_t)i * TABLE_BLOCK_LEN;
	struct wfs_block_ref ref = { .hash = wfs_get64(b), .len = wfs_get32(b + 8), .codec = b[12] };
	const struct pack *p;

	assert(i < t->n_blocks);
	ref.pack = pack_of(t, i);
	if (ref.len == 0)
		return ref;
	p = &t->packs[ref.pack];
	ref.off = p->pub.start + (sum_before(t, i) - p->before);
	ref.group = group_of(t, i);
	return ref;
}

struct wfs_group wfs_table_group(const struct wfs_table *t, uint32_t g)
{
	const struct extent *e = &t->groups[g];
	uint64_t begin = sum_before(t, e->first);
	const struct pack *p;
	struct wfs_group group;

	assert(g < t->n_groups);
	group.pack = pack_of(t, e->first);
	p = &t->packs[group.pack];
	group.digest = &t->digests[g];
	group.off = p->pub.start + (begin - p->before);
	group.len = (uint32_t)(sum_before(t, e->last) + stored_len(t, e->last) - begin);
	group.first_block = e->first;
	group.n_blocks = e->last - e->first + 1;
	return group;
}

const struct wfs_pack *wfs_table_pack(const struct wfs_table *t, uint32_t p)
{
	assert(p < t->n_packs);
	return &t->packs[p].pub;
}

const struct wfs_base *wfs_table_base(const struct wfs_table *t, uint32_t b)
{
	assert(b < t->n_bases);
	return &t->bases[b];
}

const struct wfs_piece *wfs_table_piece(const struct wfs_table *t, uint32_t p)
{
	assert(p < t->n_pieces);
	return &t->pieces[p];
}

uint32_t wfs_table_piece_at(const struct wfs_table *t, uint64_t off)
{
	assert(off < t->size);
	return (uint32_t)wfs_piece_at(t->pieces, t->n_pieces, off);
}

int wfs_table_spans(struct wfs_span **out, size_t *n, const struct wfs_table *t, uint32_t i, struct wfs_err *err)
{
	return wfs_pieces_spans(out, n, t->pieces, t->n_pieces, (uint64_t)i << WFS_BLOCK_SHIFT,
				wfs_table_block_len(t, i), err);
}
