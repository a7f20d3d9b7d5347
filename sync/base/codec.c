/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.c - zstd, one frame at a time, buffer to buffer (the only user of libzstd)
 *
 * The library's one-shot call would also take several frames, skippable frames and a frame that
 * stops early.  Here a frame says its size beforehand and nothing stands behind it: whoever asked
 * knows both lengths from a checked table, and anything else is a mistake or an attack.
 *
 * Contexts live as long as their thread: making one costs more than a small block.
 */
#include "weightfs/codec.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <zstd.h>

#include "weightfs/base.h"

#define BYTES_ONLY	INT_MIN		/* in place of a level */

struct contexts {
	ZSTD_CCtx *c;
	ZSTD_DCtx *d;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_key;
static bool have_key;
static _Thread_local struct contexts *mine;

static void free_mine(void *p)
{
	struct contexts *ctx = p;

	mine = NULL;
	ZSTD_freeCCtx(ctx->c);
	ZSTD_freeDCtx(ctx->d);
	free(ctx);
}

static void setup(void)
{
	have_key = pthread_key_create(&thread_key, free_mine) == 0;
}

/* This thread's contexts, each made when first wanted; NULL: out of memory. */
static struct contexts *contexts(void)
{
	struct contexts *ctx;

	if (mine)
		return mine;
	pthread_once(&once, setup);
	ctx = have_key ? calloc(1, sizeof(*ctx)) : NULL;
	if (!ctx || pthread_setspecific(thread_key, ctx) != 0) {
		free(ctx);
		return NULL;
	}
	mine = ctx;
	return ctx;
}

static ZSTD_CCtx *compressor(void)
{
	struct contexts *ctx = contexts();

	if (ctx && !ctx->c)
		ctx->c = ZSTD_createCCtx();
	return ctx ? ctx->c : NULL;
}

static ZSTD_DCtx *decompressor(void)
{
	struct contexts *ctx = contexts();

	if (ctx && !ctx->d)
		ctx->d = ZSTD_createDCtx();
	return ctx ? ctx->d : NULL;
}

/* Parameters that look for repetitions where there are none to speak of: seven bytes long, remembered in
 * 64 places.  The public interface has no plainer way to say it. */
static const struct {
	ZSTD_cParameter name;
	int value;
} bytes_only[] = {
	{ ZSTD_c_strategy, ZSTD_fast }, { ZSTD_c_minMatch, 7 }, { ZSTD_c_hashLog, 6 }, { ZSTD_c_targetLength, 0 },
};

static size_t set_up(ZSTD_CCtx *ctx, int level)
{
	size_t e = ZSTD_CCtx_reset(ctx, ZSTD_reset_session_and_parameters);

	if (level != BYTES_ONLY)
		return ZSTD_isError(e) ? e : ZSTD_CCtx_setParameter(ctx, ZSTD_c_compressionLevel, level);
	for (size_t i = 0; i < ARRAY_SIZE(bytes_only) && !ZSTD_isError(e); i++)
		e = ZSTD_CCtx_setParameter(ctx, bytes_only[i].name, bytes_only[i].value);
	return e;
}

static int compress(struct wfs_buf *out, const void *data, size_t len, int level, struct wfs_err *err)
{
	ZSTD_CCtx *ctx = compressor();
	size_t bound = ZSTD_compressBound(len), cap, n;

	if (!ctx || ZSTD_isError(bound) || __builtin_add_overflow(out->len, bound, &cap) ||
	    wfs_buf_reserve(out, cap) < 0)
		return wfs_fail(err, -ENOMEM, "zstd: no memory to compress %zu bytes", len);
	n = set_up(ctx, level);
	if (!ZSTD_isError(n))
		n = ZSTD_compress2(ctx, out->data + out->len, bound, data, len);
	if (ZSTD_isError(n))
		return wfs_fail(err, -EIO, "zstd: %s", ZSTD_getErrorName(n));
	out->len += n;
	return 0;
}

int wfs_zstd_compress(struct wfs_buf *out, const void *data, size_t len, int level,
		      struct wfs_err *err)
{
	return compress(out, data, len, level, err);
}

int wfs_zstd_compress_bytes(struct wfs_buf *out, const void *data, size_t len, struct wfs_err *err)
{
	return compress(out, data, len, BYTES_ONLY, err);
}

/* What the frame says about itself must be what the caller expects. */
static int check_frame(size_t len, const void *frame, size_t frame_len, struct wfs_err *err)
{
	unsigned long long size;
	size_t end;

	if (frame_len < 4 || wfs_get32(frame) != ZSTD_MAGICNUMBER)
		return wfs_fail(err, -EBADMSG, "zstd: not a frame");
	size = ZSTD_getFrameContentSize(frame, frame_len);
	if (size == ZSTD_CONTENTSIZE_ERROR)
		return wfs_fail(err, -EBADMSG, "zstd: broken frame header");
	if (size == ZSTD_CONTENTSIZE_UNKNOWN)
		return wfs_fail(err, -EBADMSG, "zstd: frame does not say its content size");
	if (size != len)
		return wfs_fail(err, -EBADMSG, "zstd: frame of %llu bytes where %zu belong", size, len);
	if (ZSTD_getDictID_fromFrame(frame, frame_len) != 0)
		return wfs_fail(err, -EBADMSG, "zstd: frame needs a dictionary");
	end = ZSTD_findFrameCompressedSize(frame, frame_len);
	if (ZSTD_isError(end))
		return wfs_fail(err, -EBADMSG, "zstd: %s", ZSTD_getErrorName(end));
	if (end != frame_len)
		return wfs_fail(err, -EBADMSG, "zstd: %zu bytes behind the frame", frame_len - end);
	return 0;
}

int wfs_zstd_decompress(void *dst, size_t len, const void *frame, size_t frame_len,
			struct wfs_err *err)
{
	int r = check_frame(len, frame, frame_len, err);
	ZSTD_DCtx *ctx;
	size_t n;

	if (r < 0)
		return r;
	ctx = decompressor();
	if (!ctx)
		return wfs_fail(err, -ENOMEM, "zstd: out of memory");
	n = ZSTD_decompressDCtx(ctx, dst, len, frame, frame_len);
	if (ZSTD_isError(n))
		return wfs_fail(err, -EBADMSG, "zstd: %s", ZSTD_getErrorName(n));
	if (n != len)
		return wfs_fail(err, -EBADMSG, "zstd: frame gave %zu bytes where %zu belong", n, len);
	return 0;
}
