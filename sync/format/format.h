/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format.h - what the files of sync/format share with one another
 */
#ifndef FORMAT_FORMAT_H
#define FORMAT_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "weightfs/base.h"
#include "weightfs/block.h"
#include "weightfs/err.h"
#include "weightfs/safetensors.h"
#include "weightfs/table.h"

unsigned wfs_dtype_find(const char *name);

/* Units of one width that follow one another in a block. */
struct wfs_units {
	uint32_t off;			/* of the first one's bytes in the block */
	uint32_t n;			/* > 0 */
	uint32_t width;			/* 1, 2, 4 or 8 */
};

/* Walks the units of a block's spans in order: bytes before the first whole element, the whole
 * elements, bytes behind the last.  Starts zeroed but for spans and n_spans. */
struct wfs_units_iter {
	const struct wfs_span *spans;
	size_t n_spans;
	size_t span;
	uint32_t done;			/* bytes of this span that were given */
};

bool wfs_units_next(struct wfs_units_iter *it, struct wfs_units *out);

/* -EINVAL: the spans do not cover [0, len) in order, or a type or phase is out of range. */
int wfs_spans_check(const struct wfs_span *spans, size_t n, size_t len, struct wfs_err *err);

/* The last piece that begins at or before off. */
size_t wfs_piece_at(const struct wfs_piece *pieces, size_t n, uint64_t off);

/* Codec delta2 (delta2.c).  encode appends its object to out, unless it could not be smaller than
 * `limit` bytes: then out is as it was and *fits is false. */
int wfs_delta2_encode(struct wfs_buf *out, bool *fits, const uint8_t *base, const uint8_t *next, size_t len,
		      const struct wfs_span *spans, size_t n_spans, size_t limit, struct wfs_err *err);
int wfs_delta2_decode(uint8_t *block, const uint8_t *stored, size_t stored_len,
		      const struct wfs_span *spans, size_t n_spans, struct wfs_err *err);

/* Codec planes (planes.c), likewise. */
int wfs_planes_encode(struct wfs_buf *out, bool *fits, const uint8_t *block, size_t len, const struct wfs_span *spans,
		      size_t n_spans, size_t limit, struct wfs_err *err);
int wfs_planes_decode(uint8_t *block, size_t len, const uint8_t *stored, size_t stored_len,
		      const struct wfs_span *spans, size_t n_spans, struct wfs_err *err);

/* The codec without a base that takes fewest bytes (full.c); without spans planes is not tried.
 * *fits is false, and nothing appended, if all take `limit` bytes or more. */
int wfs_full_encode(struct wfs_buf *out, unsigned *codec, bool *fits, const uint8_t *block, size_t len,
		    const struct wfs_span *spans, size_t n_spans, size_t limit, struct wfs_err *err);

#define WFS_BLOCK_LEVEL	1		/* of zstd */

/* Could zstd make less than `best` bytes of the data?  Where `best` gains something, a part of the data
 * is tried, as zstd takes several times as long as all the rest.  scratch is left as it was. */
int wfs_zstd_worth(bool *worth, struct wfs_buf *scratch, const uint8_t *data, size_t len, size_t best,
		   struct wfs_err *err);

/* Is stored_len possible for a block of block_len bytes?  0, -EBADMSG or -EPROTONOSUPPORT. */
int wfs_stored_check(unsigned codec, uint32_t stored_len, uint32_t block_len, struct wfs_err *err);

/* Table layout: weightfs-format(5), "Blocks and tables".  In memory the arrays follow one another: bases,
 * pieces, packs, blocks (hash, stored bytes, codec, three zeros), group digests. */
#define TABLE_MAGIC		"WFT1"
#define TABLE_HEADER_LEN	44
#define TABLE_BASE_LEN		72
#define TABLE_PIECE_LEN		24
#define TABLE_PACK_LEN		56
#define TABLE_BLOCK_LEN		16
#define TABLE_DIGEST_LEN	32

struct wfs_table_counts {
	uint64_t size;			/* of the file */
	uint32_t n_blocks, n_bases, n_pieces, n_packs, n_groups;
};

/* Bytes of the arrays; counts within their limits. */
uint64_t wfs_table_flat_len(const struct wfs_table_counts *c);
/* An object's arrays, with nothing but their lengths checked. */
int wfs_table_unpack(struct wfs_buf *flat, struct wfs_table_counts *c, const void *object, size_t len,
		     struct wfs_err *err);
/* Append the object. */
int wfs_table_pack_object(struct wfs_buf *out, const struct wfs_table_counts *c, const uint8_t *flat,
			  struct wfs_err *err);

/* Number of blocks of a file of at most WFS_FILE_MAX bytes. */
static inline uint32_t wfs_block_count(uint64_t file_size)
{
	return (uint32_t)((file_size + WFS_BLOCK_SIZE - 1) >> WFS_BLOCK_SHIFT);
}

/* Rules of one piece that ends at `end`; base is the one it names, or NULL. */
int wfs_piece_check(const struct wfs_piece *p, uint64_t end, const struct wfs_base *base, struct wfs_err *err);

#endif
