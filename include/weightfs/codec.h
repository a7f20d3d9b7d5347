/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.h - zstd, one frame at a time, buffer to buffer
 *
 * sync/base/codec.c is the only user of libzstd.  Contexts are kept per thread.
 */
#ifndef WEIGHTFS_CODEC_H
#define WEIGHTFS_CODEC_H

#include "weightfs/buf.h"
#include "weightfs/err.h"

/* Append one frame, with its content size, to out. */
int wfs_zstd_compress(struct wfs_buf *out, const void *data, size_t len, int level,
		      struct wfs_err *err);

/* Likewise, by the frequencies of bytes alone (Huffman): for data that does not repeat itself, where this
 * is four times as fast, and smaller than what looking for repetitions makes of accidental ones. */
int wfs_zstd_compress_bytes(struct wfs_buf *out, const void *data, size_t len, struct wfs_err *err);

/* Decode exactly one frame that yields exactly len bytes into dst; -EBADMSG for anything else
 * (no content size, another size, trailing bytes, a dictionary).  Never writes past len. */
int wfs_zstd_decompress(void *dst, size_t len, const void *frame, size_t frame_len,
			struct wfs_err *err);

#endif
