/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block.h - how the bytes of one block are stored
 *
 * Format: weightfs-format(5), "Stored blocks".  A block (up to 1 MiB of a file) decodes alone,
 * given the same range of its base.  Spans say what its bytes are; both sides derive them from
 * the table, so they are not stored per block.  Bit patterns are compared, never floats.
 * No state: any number of threads.
 */
#ifndef WEIGHTFS_BLOCK_H
#define WEIGHTFS_BLOCK_H

#include <stdbool.h>

#include "weightfs/buf.h"
#include "weightfs/err.h"
#include "weightfs/limits.h"

/* Values are written in tables: never renumber. */
enum wfs_codec {
	WFS_CODEC_ZERO = 0,		/* every byte 0; nothing stored */
	WFS_CODEC_SAME = 1,		/* the base's bytes; nothing stored */
	WFS_CODEC_RAW = 2,		/* the bytes themselves */
	WFS_CODEC_ZSTD = 3,		/* one zstd frame */
	WFS_CODEC_PLANES = 4,		/* elements taken apart into bytes, exponents compressed */
	WFS_CODEC_DELTA2 = 17,		/* code-point differences against the base */
};

bool wfs_codec_known(unsigned codec);
bool wfs_codec_needs_base(unsigned codec);
const char *wfs_codec_name(unsigned codec);	/* "zero", "same", "raw", "zstd", "planes", ...; "?" */

/* A run of equal elements inside a block.  Spans cover the block from 0 to len in order.
 * An element may begin before the block: `phase` bytes of the first one lie before it. */
struct wfs_span {
	uint32_t off, len;
	uint8_t dtype;			/* enum wfs_dtype */
	uint8_t phase;			/* 0 .. width-1 */
};

/* Store `next` (len bytes, 1..WFS_BLOCK_SIZE) in the fewest bytes; base may be NULL (then zero,
 * raw, zstd or, when there are spans, planes).  Appends to out and sets *codec.  -ENOMEM. */
int wfs_block_encode(struct wfs_buf *out, unsigned *codec, const void *base, const void *next,
		     size_t len, const struct wfs_span *spans, size_t n_spans, struct wfs_err *err);

/* Decode into block.  On entry it holds the base's bytes where the codec needs a base, else
 * anything.  Everything stored is checked first: on error the block is untouched or garbage but
 * nothing outside [block, block+len) was written.  -EBADMSG, -EPROTONOSUPPORT (codec), -ENOMEM. */
int wfs_block_decode(void *block, size_t len, unsigned codec, const void *stored, size_t stored_len,
		     const struct wfs_span *spans, size_t n_spans, struct wfs_err *err);

#endif
