/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block.c - choose how a block is stored, and read it back
 *
 * A delta that takes less than 1/SURE of the block is taken at once.  Compressing the whole block
 * beside it would take ten times as long as the delta did, to save next to nothing.
 */
#include "weightfs/block.h"

#include <errno.h>
#include <string.h>

#include "format/format.h"
#include "weightfs/codec.h"

#define SURE 3

bool wfs_codec_known(unsigned codec)
{
	return codec <= WFS_CODEC_PLANES || codec == WFS_CODEC_DELTA2;
}

bool wfs_codec_needs_base(unsigned codec)
{
	return codec == WFS_CODEC_SAME || codec == WFS_CODEC_DELTA2;
}

const char *wfs_codec_name(unsigned codec)
{
	switch (codec) {
	case WFS_CODEC_ZERO:	return "zero";
	case WFS_CODEC_SAME:	return "same";
	case WFS_CODEC_RAW:	return "raw";
	case WFS_CODEC_ZSTD:	return "zstd";
	case WFS_CODEC_PLANES:	return "planes";
	case WFS_CODEC_DELTA2:	return "delta2";
	default:		return "?";
	}
}

int wfs_stored_check(unsigned codec, uint32_t stored_len, uint32_t block_len, struct wfs_err *err)
{
	bool ok;

	switch (codec) {
	case WFS_CODEC_ZERO:
	case WFS_CODEC_SAME:
		ok = stored_len == 0;
		break;
	case WFS_CODEC_RAW:
		ok = stored_len == block_len;
		break;
	case WFS_CODEC_ZSTD:
	case WFS_CODEC_PLANES:
	case WFS_CODEC_DELTA2:
		ok = stored_len > 0 && stored_len <= block_len;
		break;
	default:
		return wfs_fail(err, -EPROTONOSUPPORT, "codec %u, which this program does not know", codec);
	}
	if (!ok)
		return wfs_fail(err, -EBADMSG, "%u stored bytes for a block of %u in codec %s",
				stored_len, block_len, wfs_codec_name(codec));
	return 0;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static int encode_changed(struct wfs_buf *out, unsigned *codec, const void *base, const void *next, size_t len,
			  const struct wfs_span *spans, size_t n_spans, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf alone = WFS_BUF_INIT;
	size_t start = out->len, delta;
	unsigned alone_codec;
	bool fits;
	int r;

	r = wfs_delta2_encode(out, &fits, base, next, len, spans, n_spans, len, err);
	if (r < 0)
		return r;
	if (!fits)
		return wfs_full_encode(out, codec, &fits, next, len, spans, n_spans, SIZE_MAX, err);
	*codec = WFS_CODEC_DELTA2;
	delta = out->len - start;
	if (delta < len / SURE)
		return 0;
	r = wfs_full_encode(&alone, &alone_codec, &fits, next, len, spans, n_spans, delta, err);
	if (r < 0 || !fits)
		return r;
	out->len = start;
	*codec = alone_codec;
	if (wfs_buf_append(out, alone.data, alone.len) < 0)
		return wfs_fail(err, -ENOMEM, "no memory for a block");
	return 0;
}

int wfs_block_encode(struct wfs_buf *out, unsigned *codec, const void *base, const void *next,
		     size_t len, const struct wfs_span *spans, size_t n_spans, struct wfs_err *err)
{
	size_t start = out->len;
	unsigned chosen;
	bool fits;
	int r;

	if (len == 0 || len > WFS_BLOCK_SIZE)
		return wfs_fail(err, -EINVAL, "a block of %zu bytes", len);
	r = base || n_spans ? wfs_spans_check(spans, n_spans, len, err) : 0;
	if (r < 0)
		return r;
	if (all_zero(next, len)) {
		*codec = WFS_CODEC_ZERO;
		return 0;
	}
	if (base && memcmp(base, next, len) == 0) {
		*codec = WFS_CODEC_SAME;
		return 0;
	}
	if (base)
		r = encode_changed(out, &chosen, base, next, len, spans, n_spans, err);
	else
		r = wfs_full_encode(out, &chosen, &fits, next, len, spans, n_spans, SIZE_MAX, err);
	if (r < 0) {
		out->len = start;
		return r;
	}
	*codec = chosen;
	return 0;
}

int wfs_block_decode(void *block, size_t len, unsigned codec, const void *stored, size_t stored_len,
		     const struct wfs_span *spans, size_t n_spans, struct wfs_err *err)
{
	int r;

	if (len == 0 || len > WFS_BLOCK_SIZE)
		return wfs_fail(err, -EINVAL, "a block of %zu bytes", len);
	if (stored_len > WFS_BLOCK_SIZE)
		return wfs_fail(err, -EBADMSG, "%zu stored bytes for one block", stored_len);
	r = wfs_stored_check(codec, (uint32_t)stored_len, (uint32_t)len, err);
	if (r < 0)
		return r;
	switch (codec) {
	case WFS_CODEC_ZERO:
		memset(block, 0, len);
		return 0;
	case WFS_CODEC_RAW:
		memcpy(block, stored, len);
		return 0;
	case WFS_CODEC_ZSTD:
		return wfs_zstd_decompress(block, len, stored, stored_len, err);
	case WFS_CODEC_PLANES:
		r = wfs_spans_check(spans, n_spans, len, err);
		return r < 0 ? r : wfs_planes_decode(block, len, stored, stored_len, spans, n_spans, err);
	case WFS_CODEC_DELTA2:
		r = wfs_spans_check(spans, n_spans, len, err);
		return r < 0 ? r : wfs_delta2_decode(block, stored, stored_len, spans, n_spans, err);
	default:
		return 0;		/* same: the base's bytes are there already */
	}
}
