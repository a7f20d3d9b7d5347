/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_object.c - a table as it travels, and the arrays that it stands for
 *
 * A delta of a block is a few thousand bytes and sometimes a few hundred, so sixteen for its record
 * are felt.  What travels has the records' fields apart, where those that are alike lie together and
 * zstd makes little of them; hashes and digests, of which nothing can be made, are a stream of their
 * own.  In memory the records are whole again, as lookups want them.
 */
#include <errno.h>
#include <string.h>

#include "format/format.h"
#include "weightfs/codec.h"

#define AS_IT_IS	0x80000000u	/* in a stored form: not compressed */
#define LEVEL		3		/* of zstd; higher ones find nothing more */

uint64_t wfs_table_flat_len(const struct wfs_table_counts *c)
{
	return (uint64_t)c->n_bases * TABLE_BASE_LEN + (uint64_t)c->n_pieces * TABLE_PIECE_LEN +
	       (uint64_t)c->n_packs * TABLE_PACK_LEN + (uint64_t)c->n_blocks * TABLE_BLOCK_LEN +
	       (uint64_t)c->n_groups * TABLE_DIGEST_LEN;
}

/* Bytes of bases, pieces and packs, which are the same in both forms. */
static size_t head_len(const struct wfs_table_counts *c)
{
	return (size_t)c->n_bases * TABLE_BASE_LEN + (size_t)c->n_pieces * TABLE_PIECE_LEN +
	       (size_t)c->n_packs * TABLE_PACK_LEN;
}

/* The two streams: rows (bases, pieces, packs, lengths by byte, codecs) and hashes (of blocks, of groups). */
static size_t rows_len(const struct wfs_table_counts *c)
{
	return head_len(c) + (size_t)c->n_blocks * 5;
}

static size_t hashes_len(const struct wfs_table_counts *c)
{
	return (size_t)c->n_blocks * 8 + (size_t)c->n_groups * TABLE_DIGEST_LEN;
}

/* ---- in ---- */

/* So a small object cannot ask for more memory than a large one may. */
_Static_assert((uint64_t)WFS_TABLE_BASES_MAX * TABLE_BASE_LEN + (uint64_t)WFS_TABLE_PIECES_MAX * TABLE_PIECE_LEN +
	       (uint64_t)WFS_TABLE_PACKS_MAX * TABLE_PACK_LEN +
	       (WFS_FILE_MAX >> WFS_BLOCK_SHIFT) * (TABLE_BLOCK_LEN + TABLE_DIGEST_LEN) <= WFS_TABLE_MAX,
	       "what the limits of its counts make is within the limit of a table");

static int check_counts(const struct wfs_table_counts *c, struct wfs_err *err)
{
	if (c->size > WFS_FILE_MAX)
		return wfs_fail(err, -EBADMSG, "table: a file of %llu bytes, at most %llu are possible",
				(unsigned long long)c->size, WFS_FILE_MAX);
	if (c->n_blocks != wfs_block_count(c->size))
		return wfs_fail(err, -EBADMSG, "table: %u blocks for a file of %llu bytes", c->n_blocks,
				(unsigned long long)c->size);
	if (c->n_bases > WFS_TABLE_BASES_MAX || c->n_pieces > WFS_TABLE_PIECES_MAX || c->n_packs > WFS_TABLE_PACKS_MAX)
		return wfs_fail(err, -EBADMSG, "table: %u bases, %u pieces, %u packs; at most %u, %u, %u are possible",
				c->n_bases, c->n_pieces, c->n_packs, WFS_TABLE_BASES_MAX, WFS_TABLE_PIECES_MAX,
				WFS_TABLE_PACKS_MAX);
	if (c->n_groups > c->n_blocks)
		return wfs_fail(err, -EBADMSG, "table: %u groups of %u blocks", c->n_groups, c->n_blocks);
	return 0;
}

static int read_header(struct wfs_table_counts *c, const uint8_t *h, size_t len, struct wfs_err *err)
{
	if (len < TABLE_HEADER_LEN)
		return wfs_fail(err, -EBADMSG, "table: %zu bytes, shorter than its header", len);
	if (memcmp(h, TABLE_MAGIC, 4) != 0)
		return memcmp(h, TABLE_MAGIC, 3) == 0
			? wfs_fail(err, -EPROTONOSUPPORT, "table: format WFT%c, this program reads " TABLE_MAGIC, h[3])
			: wfs_fail(err, -EBADMSG, "table: does not begin with " TABLE_MAGIC);
	if (wfs_get32(h + 4) != WFS_BLOCK_SHIFT)
		return wfs_fail(err, -EPROTONOSUPPORT, "table: blocks of 2^%u bytes, this program reads 2^%u",
				wfs_get32(h + 4), WFS_BLOCK_SHIFT);
	c->size = wfs_get64(h + 8);
	c->n_blocks = wfs_get32(h + 16);
	c->n_bases = wfs_get32(h + 20);
	c->n_pieces = wfs_get32(h + 24);
	c->n_packs = wfs_get32(h + 28);
	c->n_groups = wfs_get32(h + 32);
	return check_counts(c, err);
}

struct stream {
	const uint8_t *stored;
	uint32_t stored_len;
	bool as_it_is;
	size_t len;
};

/* Its bytes, in place or in *own. */
static int open_stream(const uint8_t **out, struct wfs_buf *own, const struct stream *s, struct wfs_err *err)
{
	int r;

	if (s->as_it_is) {
		*out = s->stored;
		return s->stored_len == s->len ? 0 : wfs_fail(err, -EBADMSG, "table: %u bytes where its counts make %zu",
							      s->stored_len, s->len);
	}
	/* s->len is bounded by the checked counts. */
	if (wfs_buf_reserve(own, s->len + 1) < 0)
		return wfs_fail(err, -ENOMEM, "table: out of memory");
	*out = own->data;
	r = wfs_zstd_decompress(own->data, s->len, s->stored, s->stored_len, err);
	return r < 0 ? wfs_wrap(err, r, "table") : 0;
}

static void join(uint8_t *flat, const struct wfs_table_counts *c, const uint8_t *rows, const uint8_t *hashes)
{
	size_t head = head_len(c), n = c->n_blocks;
	const uint8_t *len = rows + head, *codec = len + 4 * n;
	uint8_t *block = flat + head;

	memcpy(flat, rows, head);
	for (size_t i = 0; i < n; i++, block += TABLE_BLOCK_LEN) {
		memcpy(block, hashes + 8 * i, 8);
		for (size_t k = 0; k < 4; k++)
			block[8 + k] = len[k * n + i];
		memset(block + 12, 0, 4);
		block[12] = codec[i];
	}
	memcpy(block, hashes + 8 * n, (size_t)c->n_groups * TABLE_DIGEST_LEN);
}

int wfs_table_unpack(struct wfs_buf *flat, struct wfs_table_counts *c, const void *object, size_t len,
		     struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf own_rows = WFS_BUF_INIT;
	WFS_AUTO(wfs_buf_free) struct wfs_buf own_hashes = WFS_BUF_INIT;
	const uint8_t *h = object, *rows = NULL, *hashes = NULL;
	struct stream s[2];
	uint64_t end = TABLE_HEADER_LEN;
	int r = read_header(c, h, len, err);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < 2; i++) {
		uint32_t form = wfs_get32(h + 36 + 4 * i);

		s[i].as_it_is = form & AS_IT_IS;
		s[i].stored_len = form & ~AS_IT_IS;
		s[i].stored = h + end;
		end += s[i].stored_len;
	}
	if (end != len)
		return wfs_fail(err, -EBADMSG, "table: %zu bytes where its header makes %llu", len, (unsigned long long)end);
	s[0].len = rows_len(c);
	s[1].len = hashes_len(c);
	r = open_stream(&rows, &own_rows, &s[0], err);
	if (r == 0)
		r = open_stream(&hashes, &own_hashes, &s[1], err);
	if (r < 0)
		return r;
	flat->len = 0;
	if (wfs_buf_reserve(flat, (size_t)wfs_table_flat_len(c) + 1) < 0)
		return wfs_fail(err, -ENOMEM, "table: out of memory");
	flat->len = (size_t)wfs_table_flat_len(c);
	join(flat->data, c, rows, hashes);
	return 0;
}

/* ---- out ---- */

static void split(uint8_t *rows, uint8_t *hashes, const struct wfs_table_counts *c, const uint8_t *flat)
{
	size_t head = head_len(c), n = c->n_blocks;
	const uint8_t *block = flat + head;
	uint8_t *len = rows + head, *codec = len + 4 * n;

	memcpy(rows, flat, head);
	for (size_t i = 0; i < n; i++, block += TABLE_BLOCK_LEN) {
		memcpy(hashes + 8 * i, block, 8);
		for (size_t k = 0; k < 4; k++)
			len[k * n + i] = block[8 + k];
		codec[i] = block[12];
	}
	memcpy(hashes + 8 * n, block, (size_t)c->n_groups * TABLE_DIGEST_LEN);
}

/* Append a stream in its shorter form, which is written at `form` (an offset in out). */
static int put_stream(struct wfs_buf *out, size_t form, const uint8_t *data, size_t len, struct wfs_err *err)
{
	size_t start = out->len;
	int r = wfs_zstd_compress(out, data, len, LEVEL, err);

	if (r < 0)
		return r;
	if (out->len - start < len) {
		wfs_put32(out->data + form, (uint32_t)(out->len - start));
		return 0;
	}
	out->len = start;
	wfs_put32(out->data + form, (uint32_t)len | AS_IT_IS);
	return wfs_buf_append(out, data, len);
}

int wfs_table_pack_object(struct wfs_buf *out, const struct wfs_table_counts *c, const uint8_t *flat,
			  struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf streams = WFS_BUF_INIT;
	size_t rows = rows_len(c), hashes = hashes_len(c), start = out->len;
	uint8_t h[TABLE_HEADER_LEN] = TABLE_MAGIC;
	int r = wfs_buf_reserve(&streams, rows + hashes + 1);

	wfs_put32(h + 4, WFS_BLOCK_SHIFT);
	wfs_put64(h + 8, c->size);
	wfs_put32(h + 16, c->n_blocks);
	wfs_put32(h + 20, c->n_bases);
	wfs_put32(h + 24, c->n_pieces);
	wfs_put32(h + 28, c->n_packs);
	wfs_put32(h + 32, c->n_groups);
	if (r == 0)
		r = wfs_buf_append(out, h, sizeof(h));
	if (r < 0)
		return wfs_fail(err, r, "table: out of memory");
	split(streams.data, streams.data + rows, c, flat);
	r = put_stream(out, start + 36, streams.data, rows, err);
	if (r == 0)
		r = put_stream(out, start + 40, streams.data + rows, hashes, err);
	return r;
}
