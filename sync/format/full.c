/* SPDX-License-Identifier: Apache-2.0 */
/*
 * full.c - store a block without a base: planes, zstd or as it is, whichever takes fewest bytes
 *
 * zstd over the whole block finds what planes hide: long stretches that repeat.  It takes several times
 * as long as all the rest, so where planes gained something it is tried on a part first.
 */
#include <errno.h>
#include <string.h>

#include "format/format.h"
#include "weightfs/codec.h"

#define SAMPLE		(64u << 10)

int wfs_zstd_worth(bool *worth, struct wfs_buf *scratch, const uint8_t *data, size_t len, size_t best, struct wfs_err *err)
{
	size_t start = scratch->len, n = SAMPLE;
	int r;

	*worth = true;
	if (best > len - len / 32 || len <= 2 * n)
		return 0;
	r = wfs_zstd_compress(scratch, data + (len - n) / 2, n, WFS_BLOCK_LEVEL, err);
	*worth = (uint64_t)(scratch->len - start) * len < (uint64_t)best * n;
	scratch->len = start;
	return r;
}

/* Append one frame if it has less than `best` bytes. */
static int put_zstd(struct wfs_buf *out, bool *better, const uint8_t *block, size_t len, size_t best, struct wfs_err *err)
{
	size_t start = out->len;
	int r;

	r = wfs_zstd_worth(better, out, block, len, best, err);
	if (r == 0 && *better)
		r = wfs_zstd_compress(out, block, len, WFS_BLOCK_LEVEL, err);
	*better = r == 0 && *better && out->len - start < best;
	if (!*better)
		out->len = start;
	return r;
}

int wfs_full_encode(struct wfs_buf *out, unsigned *codec, bool *fits, const uint8_t *block, size_t len,
		    const struct wfs_span *spans, size_t n_spans, size_t limit, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf frame = WFS_BUF_INIT;
	size_t start = out->len, best = WFS_MIN(len, limit);
	bool planes = false, zstd = false;
	int r = 0;

	if (n_spans)
		r = wfs_planes_encode(out, &planes, block, len, spans, n_spans, best, err);
	if (planes)
		best = out->len - start;
	if (r == 0)
		r = put_zstd(&frame, &zstd, block, len, best, err);
	if (r < 0)
		return r;
	*fits = planes || zstd || len < limit;
	*codec = zstd ? WFS_CODEC_ZSTD : planes ? WFS_CODEC_PLANES : WFS_CODEC_RAW;
	if (zstd) {
		out->len = start;
		r = wfs_buf_append(out, frame.data, frame.len);
	} else if (!planes && *fits) {
		r = wfs_buf_append(out, block, len);
	}
	return r < 0 ? wfs_fail(err, -ENOMEM, "no memory for a block") : 0;
}
