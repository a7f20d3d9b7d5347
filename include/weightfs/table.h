/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h - how every block of one file of one version is stored
 *
 * Format: weightfs-format(5), "Tables".  A table says, for every block, the hash of the result,
 * the codec and where the stored bytes are; which ranges have a base and where; what the
 * elements are; and a SHA-256 for every group of stored bytes.  It stands alone: bases are named
 * by the digest of their own table, so no version object is needed to decode.
 * wfs_table_open checks every rule, so the accessors cannot fail (indices are asserted).
 * An open table never changes: threads may share it.
 */
#ifndef WEIGHTFS_TABLE_H
#define WEIGHTFS_TABLE_H

#include <stdint.h>

#include "weightfs/block.h"
#include "weightfs/buf.h"
#include "weightfs/digest.h"
#include "weightfs/err.h"

#define WFS_NO_BASE 0xffffffffu

struct wfs_base {
	struct wfs_digest table;	/* of the base file */
	struct wfs_digest anchor;	/* its table with every block stored in full; zero: none */
	uint64_t size;			/* of the base file */
};

/* From off to the next piece's off (or the end): elements of one type, one base mapping. */
struct wfs_piece {
	uint64_t off;
	uint64_t base_off;
	uint32_t base;			/* index into the bases, or WFS_NO_BASE: zeros */
	uint8_t dtype;
	uint8_t phase;			/* bytes of the first element that lie before off */
};

struct wfs_pack {
	struct wfs_digest id;		/* object packs/<id> */
	uint64_t size;			/* of the whole object */
	uint64_t start;			/* where this table's bytes begin in it */
	uint32_t first_block;		/* its blocks: up to the next pack's first_block */
	uint32_t first_group;		/* derived: its groups, likewise */
	uint64_t stored;		/* derived: bytes of this table in it */
};

struct wfs_block_ref {
	uint64_t hash;			/* XXH3-64 of the block's bytes */
	uint64_t off;			/* in the pack; meaningless when len is 0 */
	uint32_t len;			/* stored bytes */
	uint32_t pack;
	uint32_t group;			/* meaningless when len is 0 */
	uint8_t codec;			/* enum wfs_codec */
};

/* Consecutive blocks of one pack whose stored bytes share one SHA-256. */
struct wfs_group {
	const struct wfs_digest *digest;
	uint64_t off;			/* in the pack */
	uint32_t len;			/* > 0 */
	uint32_t pack;
	uint32_t first_block, n_blocks;
};

struct wfs_table;

/* Parse and check an object, which on success is freed.  -EBADMSG, -EPROTONOSUPPORT, -ENOMEM. */
int wfs_table_open(struct wfs_table **out, struct wfs_buf *object, struct wfs_err *err);
void wfs_table_close(struct wfs_table *t);

uint64_t wfs_table_size(const struct wfs_table *t);		/* of the file */
uint64_t wfs_table_stored(const struct wfs_table *t);		/* stored bytes of all blocks */
size_t wfs_table_object_len(const struct wfs_table *t);		/* of the object itself */
size_t wfs_table_memory(const struct wfs_table *t);		/* what it takes in memory, nearly */
uint32_t wfs_table_n_blocks(const struct wfs_table *t);
uint32_t wfs_table_n_groups(const struct wfs_table *t);
uint32_t wfs_table_n_packs(const struct wfs_table *t);
uint32_t wfs_table_n_bases(const struct wfs_table *t);
uint32_t wfs_table_n_pieces(const struct wfs_table *t);

/* Length of block i: WFS_BLOCK_SIZE but for the last. */
uint32_t wfs_table_block_len(const struct wfs_table *t, uint32_t i);
struct wfs_block_ref wfs_table_block(const struct wfs_table *t, uint32_t i);
struct wfs_group wfs_table_group(const struct wfs_table *t, uint32_t g);
const struct wfs_pack *wfs_table_pack(const struct wfs_table *t, uint32_t p);
const struct wfs_base *wfs_table_base(const struct wfs_table *t, uint32_t b);
const struct wfs_piece *wfs_table_piece(const struct wfs_table *t, uint32_t p);
/* The piece that covers off, by binary search. */
uint32_t wfs_table_piece_at(const struct wfs_table *t, uint64_t off);

/* The spans of block i for wfs_block_decode: fills *out (owned by the caller, wfs_free_ptr). */
int wfs_table_spans(struct wfs_span **out, size_t *n, const struct wfs_table *t, uint32_t i,
		    struct wfs_err *err);

/* Writing.  Order: new; bases; pieces; then for each pack begin_pack, add_block..., end_pack.
 * add_block takes blocks in file order and does the grouping.  finish yields the object. */
struct wfs_table_writer;
int wfs_table_writer_new(struct wfs_table_writer **out, uint64_t file_size, struct wfs_err *err);
void wfs_table_writer_free(struct wfs_table_writer *w);		/* NULL is fine */
int wfs_table_add_base(struct wfs_table_writer *w, const struct wfs_base *base, uint32_t *index,
		       struct wfs_err *err);
int wfs_table_add_piece(struct wfs_table_writer *w, const struct wfs_piece *piece, struct wfs_err *err);
/* start: where in the pack object this table's bytes will begin. */
int wfs_table_begin_pack(struct wfs_table_writer *w, uint64_t start, struct wfs_err *err);
int wfs_table_add_block(struct wfs_table_writer *w, uint64_t hash, unsigned codec,
			const void *stored, size_t stored_len, struct wfs_err *err);
int wfs_table_end_pack(struct wfs_table_writer *w, const struct wfs_digest *id, uint64_t size,
		       struct wfs_err *err);
int wfs_table_finish(struct wfs_table_writer *w, struct wfs_buf *out, struct wfs_err *err);

/* Spans and base pieces before a table object exists (the encoder): the same as wfs_table_spans. */
int wfs_pieces_spans(struct wfs_span **out, size_t *n, const struct wfs_piece *pieces, size_t n_pieces,
		     uint64_t off, uint32_t len, struct wfs_err *err);

#endif
