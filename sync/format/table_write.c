/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_write.c - put a table object together, block by block
 *
 * Every rule that the reader checks is checked when the thing is added, so that a mistake of the
 * publisher shows where it is made.  The arrays grow apart and are joined at the end, because their
 * lengths are not known before.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "format/format.h"

struct wfs_table_writer {
	uint64_t size;
	uint32_t n_blocks;		/* in all */
	uint32_t added;			/* blocks so far */
	uint32_t n_bases, n_pieces, n_packs, n_groups;
	struct wfs_buf bases, pieces, packs, blocks, groups;
	struct wfs_sha256 *sha;
	uint32_t in_group;		/* stored bytes of the open group */
	bool in_pack;
	uint32_t first_block;		/* of the open pack */
	uint64_t start, in_pack_len;
};

static int no_memory(struct wfs_err *err)
{
	return wfs_fail(err, -ENOMEM, "table: out of memory");
}

int wfs_table_writer_new(struct wfs_table_writer **out, uint64_t file_size, struct wfs_err *err)
{
	struct wfs_table_writer *w;

	if (file_size > WFS_FILE_MAX)
		return wfs_fail(err, -EFBIG, "table: a file of %llu bytes, at most %llu are possible",
				(unsigned long long)file_size, WFS_FILE_MAX);
	w = calloc(1, sizeof(*w));
	if (!w)
		return no_memory(err);
	w->sha = wfs_sha256_new();
	if (!w->sha) {
		free(w);
		return no_memory(err);
	}
	w->size = file_size;
	w->n_blocks = wfs_block_count(file_size);
	*out = w;
	return 0;
}

void wfs_table_writer_free(struct wfs_table_writer *w)
{
	if (!w)
		return;
	wfs_buf_free(&w->bases);
	wfs_buf_free(&w->pieces);
	wfs_buf_free(&w->packs);
	wfs_buf_free(&w->blocks);
	wfs_buf_free(&w->groups);
	wfs_sha256_free(w->sha);
	free(w);
}

int wfs_table_add_base(struct wfs_table_writer *w, const struct wfs_base *base, uint32_t *index,
		       struct wfs_err *err)
{
	uint8_t raw[TABLE_BASE_LEN];

	if (w->n_bases == WFS_TABLE_BASES_MAX || base->size > WFS_FILE_MAX)
		return wfs_fail(err, -EFBIG, "table: base %u of %llu bytes is over the limits", w->n_bases,
				(unsigned long long)base->size);
	memcpy(raw, base->table.b, 32);
	memcpy(raw + 32, base->anchor.b, 32);
	wfs_put64(raw + 64, base->size);
	if (wfs_buf_append(&w->bases, raw, sizeof(raw)) < 0)
		return no_memory(err);
	*index = w->n_bases++;
	return 0;
}

static struct wfs_piece piece_at(const struct wfs_table_writer *w, uint32_t i)
{
	const uint8_t *raw = w->pieces.data + (size_t)i * TABLE_PIECE_LEN;

	return (struct wfs_piece){
		.off = wfs_get64(raw), .base_off = wfs_get64(raw + 8), .base = wfs_get32(raw + 16),
		.dtype = raw[20], .phase = raw[21],
	};
}

/* The last piece ends where the next one begins: only now it can be checked. */
static int check_last_piece(const struct wfs_table_writer *w, uint64_t end, struct wfs_err *err)
{
	struct wfs_piece p;
	struct wfs_base base;
	int r;

	if (w->n_pieces == 0)
		return end == 0 ? 0 : wfs_fail(err, -EINVAL, "table: the first piece begins at %llu",
					       (unsigned long long)end);
	p = piece_at(w, w->n_pieces - 1);
	if (p.base != WFS_NO_BASE)
		base.size = wfs_get64(w->bases.data + (size_t)p.base * TABLE_BASE_LEN + 64);
	r = wfs_piece_check(&p, end, p.base == WFS_NO_BASE ? NULL : &base, err);
	return r < 0 ? wfs_wrap(err, -EINVAL, "table: piece %u", w->n_pieces - 1) : 0;
}

int wfs_table_add_piece(struct wfs_table_writer *w, const struct wfs_piece *piece, struct wfs_err *err)
{
	uint8_t raw[TABLE_PIECE_LEN] = { 0 };
	int r;

	if (w->n_pieces == WFS_TABLE_PIECES_MAX)
		return wfs_fail(err, -EFBIG, "table: more than %u pieces", WFS_TABLE_PIECES_MAX);
	if (piece->off >= w->size || (piece->base != WFS_NO_BASE && piece->base >= w->n_bases))
		return wfs_fail(err, -EINVAL, "table: piece %u at %llu, base %u", w->n_pieces,
				(unsigned long long)piece->off, piece->base);
	r = check_last_piece(w, piece->off, err);
	if (r < 0)
		return r;
	wfs_put64(raw, piece->off);
	wfs_put64(raw + 8, piece->base_off);
	wfs_put32(raw + 16, piece->base);
	raw[20] = piece->dtype;
	raw[21] = piece->phase;
	if (wfs_buf_append(&w->pieces, raw, sizeof(raw)) < 0)
		return no_memory(err);
	w->n_pieces++;
	return 0;
}

int wfs_table_begin_pack(struct wfs_table_writer *w, uint64_t start, struct wfs_err *err)
{
	if (w->in_pack || w->n_packs == WFS_TABLE_PACKS_MAX)
		return wfs_fail(err, -EINVAL, "table: pack %u cannot begin here", w->n_packs);
	w->in_pack = true;
	w->start = start;
	w->in_pack_len = 0;
	/* Blocks before the first pack store nothing, and the first pack's first block is 0. */
	w->first_block = w->n_packs == 0 ? 0 : w->added;
	return 0;
}

static int end_group(struct wfs_table_writer *w, struct wfs_err *err)
{
	struct wfs_digest d;

	if (w->in_group == 0)
		return 0;
	wfs_sha256_final(w->sha, &d);
	if (wfs_buf_append(&w->groups, d.b, sizeof(d.b)) < 0)
		return no_memory(err);
	w->n_groups++;
	w->in_group = 0;
	return 0;
}

int wfs_table_add_block(struct wfs_table_writer *w, uint64_t hash, unsigned codec,
			const void *stored, size_t stored_len, struct wfs_err *err)
{
	uint64_t left = w->size - ((uint64_t)w->added << WFS_BLOCK_SHIFT);
	uint8_t raw[TABLE_BLOCK_LEN] = { 0 };
	int r;

	if (w->added == w->n_blocks || stored_len > WFS_BLOCK_SIZE || (stored_len > 0 && !w->in_pack))
		return wfs_fail(err, -EINVAL, "table: block %u of %u, %zu stored bytes, does not belong here", w->added,
				w->n_blocks, stored_len);
	r = wfs_stored_check(codec, (uint32_t)stored_len, (uint32_t)WFS_MIN(left, (uint64_t)WFS_BLOCK_SIZE), err);
	if (r < 0)
		return wfs_wrap(err, -EINVAL, "table: block %u", w->added);
	wfs_put64(raw, hash);
	wfs_put32(raw + 8, (uint32_t)stored_len);
	raw[12] = (uint8_t)codec;
	if (wfs_buf_append(&w->blocks, raw, sizeof(raw)) < 0)
		return no_memory(err);
	w->added++;
	if (stored_len == 0)
		return 0;
	wfs_sha256_update(w->sha, stored, stored_len);
	w->in_pack_len += stored_len;
	w->in_group += (uint32_t)stored_len;
	return w->in_group >= WFS_GROUP_MIN ? end_group(w, err) : 0;
}

int wfs_table_end_pack(struct wfs_table_writer *w, const struct wfs_digest *id, uint64_t size, struct wfs_err *err)
{
	uint8_t raw[TABLE_PACK_LEN] = { 0 };
	int r;

	if (!w->in_pack || size > WFS_PACK_MAX || w->start > size || w->in_pack_len > size - w->start)
		return wfs_fail(err, -EINVAL, "table: pack %u of %llu bytes cannot end here", w->n_packs,
				(unsigned long long)size);
	r = end_group(w, err);
	if (r < 0)
		return r;
	w->in_pack = false;
	if (w->added == w->first_block)
		return 0;		/* no block is in it */
	memcpy(raw, id->b, 32);
	wfs_put64(raw + 32, size);
	wfs_put64(raw + 40, w->start);
	wfs_put32(raw + 48, w->first_block);
	if (wfs_buf_append(&w->packs, raw, sizeof(raw)) < 0)
		return no_memory(err);
	w->n_packs++;
	return 0;
}

int wfs_table_finish(struct wfs_table_writer *w, struct wfs_buf *out, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf flat = WFS_BUF_INIT;
	const struct wfs_buf *parts[] = { &w->bases, &w->pieces, &w->packs, &w->blocks, &w->groups };
	struct wfs_table_counts c = {
		.size = w->size, .n_blocks = w->n_blocks, .n_bases = w->n_bases, .n_pieces = w->n_pieces,
		.n_packs = w->n_packs, .n_groups = w->n_groups,
	};
	int r = check_last_piece(w, w->size, err);

	if (r < 0)
		return r;
	if (w->in_pack || w->added != w->n_blocks)
		return wfs_fail(err, -EINVAL, "table: %u of %u blocks", w->added, w->n_blocks);
	if (wfs_buf_reserve(&flat, (size_t)wfs_table_flat_len(&c) + 1) < 0)
		return no_memory(err);
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		(void)wfs_buf_append(&flat, parts[i]->data, parts[i]->len);
	return wfs_table_pack_object(out, &c, flat.data, err);
}
