/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks stored in full: what is chosen, the page's example, the golden file, payloads that lie. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>

#include "format/format.h"
#include "weightfs/codec.h"
#include "weightfs/io.h"
#include "weightfs/limits.h"

#define GUARD 64
#define GOLDEN_LEN 24001u

static uint64_t state = 20261124;

static uint32_t below(uint32_t n)
{
	return (uint32_t)(test_random(&state) % n);
}

/* Something like a trained weight: a number of magnitude 2^-8 to 2^-1, small ones more often. */
static uint32_t weight_bits(uint64_t *s)
{
	uint64_t r = test_random(s);
	unsigned exponent = 126;

	while (exponent > 118 && (r >> (126 - exponent) & 1) == 0)
		exponent--;
	return (uint32_t)(r >> 63) << 31 | exponent << 23 | ((uint32_t)(r >> 20) & 0x7fffff);
}

static void fill_weights(uint8_t *p, size_t len, unsigned dtype, uint64_t *s)
{
	unsigned width = wfs_dtype_width(dtype);

	for (size_t i = 0; i + width <= len; i += width) {
		uint32_t f = weight_bits(s);

		switch (dtype) {
		case WFS_DT_F16: wfs_put16(p + i, (uint16_t)((f >> 16 & 0x8000) | (((f >> 23) - 112) & 31) << 10 | (f >> 13 & 1023))); break;
		case WFS_DT_BF16: wfs_put16(p + i, (uint16_t)(f >> 16)); break;
		case WFS_DT_F32: wfs_put32(p + i, f); break;
		case WFS_DT_F64: wfs_put64(p + i, (uint64_t)f << 32 | (uint32_t)test_random(s)); break;
		case WFS_DT_F8_E4M3: p[i] = (uint8_t)((f >> 24 & 0x80) | (((f >> 23) - 112) & 15) << 3 | (f >> 20 & 7)); break;
		default: for (unsigned k = 0; k < width; k++) p[i + k] = (uint8_t)test_random(s);
		}
	}
}

static size_t random_spans(struct wfs_span *spans, size_t max, uint32_t len)
{
	size_t n = 0;
	uint32_t at = 0;

	while (at < len) {
		unsigned dtype = below(WFS_DT_COUNT);
		uint32_t left = len - at, take = n + 1 == max ? left : 1 + below(left);

		spans[n++] = (struct wfs_span){ .off = at, .len = take, .dtype = (uint8_t)dtype,
						.phase = (uint8_t)below(wfs_dtype_width(dtype)) };
		at += take;
	}
	return n;
}

static bool guards_hold(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < GUARD; i++)
		if (p[i] != 0xa5 || p[GUARD + len + i] != 0xa5)
			return false;
	return true;
}

/* ---- the rule of the page, one unit after another ---- */

static bool is_float(unsigned dtype)
{
	return dtype == WFS_DT_F16 || dtype == WFS_DT_BF16 || dtype == WFS_DT_F32 || dtype == WFS_DT_F64 ||
	       dtype == WFS_DT_C64;
}

/* Planes by width: [k][j] byte j of the units of 1 << k bytes. */
struct slow {
	struct wfs_buf plane[4][8];
};

static void slow_unit(struct slow *s, const uint8_t *p, unsigned width, bool rotate)
{
	unsigned bits = 8 * width;
	uint64_t x = 0;

	for (unsigned j = 0; j < width; j++)
		x |= (uint64_t)p[j] << 8 * j;
	if (rotate)
		x = (x << 1) | (x >> (bits - 1) & 1);
	for (unsigned j = 0; j < width; j++) {
		uint8_t byte = (uint8_t)(x >> 8 * j);

		CHECK_INT(wfs_buf_append(&s->plane[__builtin_ctz(width)][j], &byte, 1), 0, "memory");
	}
}

static void slow_split(struct slow *s, const uint8_t *block, const struct wfs_span *spans, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned width = wfs_dtype_width(spans[i].dtype);
		uint32_t at = spans[i].off, end = at + spans[i].len;

		for (unsigned k = spans[i].phase; k && k < width && at < end; k++)
			slow_unit(s, block + at++, 1, false);
		for (; at + width <= end; at += width)
			slow_unit(s, block + at, width, width > 1 && is_float(spans[i].dtype));
		while (at < end)
			slow_unit(s, block + at++, 1, false);
	}
}

/* Does `stored` hold these planes and nothing else? */
static void check_planes(struct slow *s, const uint8_t *stored, size_t len)
{
	size_t n = 0, at, i = 0;
	uint8_t *bytes = malloc(WFS_BLOCK_SIZE);

	for (unsigned k = 0; k < 4; k++)
		for (unsigned j = 0; j < 8; j++)
			n += s->plane[k][j].len > 0;
	at = 4 * n;
	for (unsigned k = 0; k < 4; k++)
		for (unsigned j = 0; j < 8 && s->plane[k][j].len; j++, i++) {
			const struct wfs_buf *p = &s->plane[k][j];
			uint32_t form = wfs_get32(stored + 4 * i), n_stored = form & 0x7fffffff;

			memset(bytes, 0, p->len);
			if (form >> 31)
				memcpy(bytes, stored + at, p->len);
			else if (form)
				CHECK_INT(wfs_zstd_decompress(bytes, p->len, stored + at, n_stored, NULL), 0, "frame");
			CHECK(memcmp(bytes, p->data, p->len) == 0);
			at += n_stored;
		}
	CHECK_INT((long long)at, (long long)len, "all of it");
	free(bytes);
}

static void slow_free(struct slow *s)
{
	for (unsigned k = 0; k < 4; k++)
		for (unsigned j = 0; j < 8; j++)
			wfs_buf_free(&s->plane[k][j]);
}

static void round_trip(const uint8_t *block, uint32_t len, const struct wfs_span *spans, size_t n)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
	uint8_t *back = malloc(len + 2 * GUARD);
	struct wfs_err err = { "" };
	struct slow s = { 0 };
	bool fits = false;

	memset(back, 0xa5, len + 2 * GUARD);
	CHECK_INT(wfs_planes_encode(&out, &fits, block, len, spans, n, SIZE_MAX, &err), 0, err.msg);
	CHECK(fits);
	CHECK_INT(wfs_planes_decode(back + GUARD, len, out.data, out.len, spans, n, &err), 0, err.msg);
	CHECK(memcmp(back + GUARD, block, len) == 0 && guards_hold(back, len));
	slow_split(&s, block, spans, n);
	check_planes(&s, out.data, out.len);
	slow_free(&s);
	free(back);
}

static void test_round_trips(void)
{
	uint8_t *block = malloc(WFS_BLOCK_SIZE);
	struct wfs_span spans[6];

	printf("seed %llu\n", (unsigned long long)state);
	for (uint32_t len = 1; len < 20000; len += 1 + len / 20) {
		size_t n = random_spans(spans, ARRAY_SIZE(spans), len);

		for (uint32_t i = 0; i < len; i++)
			block[i] = below(3) ? (uint8_t)test_random(&state) : 0;
		for (size_t i = 0; i < n && below(2); i++)
			fill_weights(block + spans[i].off, spans[i].len, spans[i].dtype, &state);
		round_trip(block, len, spans, n);
	}
	for (unsigned t = 0; t < WFS_DT_COUNT; t++) {
		struct wfs_span all = { 0, 70001, (uint8_t)t, (uint8_t)(wfs_dtype_width(t) - 1) };

		fill_weights(block, all.len, t, &state);
		round_trip(block, all.len, &all, 1);
	}
	free(block);
}

/* ---- what is chosen ---- */

enum content { WEIGHTS, NOISE, UPCAST, REPEATED, COUNTER };

static const struct {
	const char *name;
	enum content content;
	uint8_t dtype;
	unsigned codec;
	double most;			/* stored bytes in a block's */
} chosen[] = {
	{ "bf16 weights", WEIGHTS, WFS_DT_BF16, WFS_CODEC_PLANES, 0.64 },
	{ "fp16 weights", WEIGHTS, WFS_DT_F16, WFS_CODEC_PLANES, 0.82 },
	{ "fp32 weights", WEIGHTS, WFS_DT_F32, WFS_CODEC_PLANES, 0.82 },
	{ "fp64 weights", WEIGHTS, WFS_DT_F64, WFS_CODEC_PLANES, 0.92 },
	{ "fp8 weights", WEIGHTS, WFS_DT_F8_E4M3, WFS_CODEC_PLANES, 0.76 },
	{ "fp32 that were bf16", UPCAST, WFS_DT_F32, WFS_CODEC_PLANES, 0.34 },
	{ "noise", NOISE, WFS_DT_BF16, WFS_CODEC_RAW, 1.0 },
	{ "noise that repeats itself", REPEATED, WFS_DT_BF16, WFS_CODEC_ZSTD, 0.2 },
	{ "counting", COUNTER, WFS_DT_I64, WFS_CODEC_PLANES, 0.01 },
	{ "noise of one byte", NOISE, WFS_DT_U8, WFS_CODEC_RAW, 1.0 },
};

static void fill(uint8_t *p, uint32_t len, enum content content, unsigned dtype)
{
	switch (content) {
	case WEIGHTS:
		fill_weights(p, len, dtype, &state);
		break;
	case UPCAST:
		for (uint32_t i = 0; i < len; i += 4)
			wfs_put32(p + i, weight_bits(&state) & 0xffff0000u);
		break;
	case REPEATED:
		fill(p, 200000, NOISE, dtype);
		for (uint32_t i = 200000; i < len; i++)
			p[i] = p[i - 200000];
		break;
	case COUNTER:
		for (uint32_t i = 0; i < len; i += 8)
			wfs_put64(p + i, i / 8);
		break;
	default:
		for (uint32_t i = 0; i < len; i++)
			p[i] = (uint8_t)test_random(&state);
	}
}

static void test_choice(void)
{
	uint8_t *block = malloc(WFS_BLOCK_SIZE), *back = malloc(WFS_BLOCK_SIZE);

	for (size_t i = 0; i < ARRAY_SIZE(chosen); i++) {
		WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
		struct wfs_span span = { 0, WFS_BLOCK_SIZE, chosen[i].dtype, 0 };
		struct wfs_err err = { "" };
		unsigned codec = 99;

		fill(block, WFS_BLOCK_SIZE, chosen[i].content, chosen[i].dtype);
		CHECK_INT(wfs_block_encode(&out, &codec, NULL, block, WFS_BLOCK_SIZE, &span, 1, &err), 0, err.msg);
		CHECK_INT(codec, chosen[i].codec, chosen[i].name);
		CHECK(out.len <= chosen[i].most * WFS_BLOCK_SIZE);
		CHECK_INT(wfs_block_decode(back, WFS_BLOCK_SIZE, codec, out.data, out.len, &span, 1, &err), 0, err.msg);
		CHECK(memcmp(back, block, WFS_BLOCK_SIZE) == 0);
	}
	free(block);
	free(back);
}

static void test_limit(void)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
	uint8_t block[4096];
	struct wfs_span span = { 0, sizeof(block), WFS_DT_BF16, 0 };
	struct wfs_err err = { "" };
	unsigned codec = 0;
	bool fits = true;
	size_t len;

	fill_weights(block, sizeof(block), WFS_DT_BF16, &state);
	CHECK_INT(wfs_buf_append(&out, "x", 1), 0, "append");
	CHECK_INT(wfs_full_encode(&out, &codec, &fits, block, sizeof(block), &span, 1, SIZE_MAX, &err), 0, err.msg);
	CHECK(fits && codec == WFS_CODEC_PLANES);
	len = out.len - 1;
	out.len = 1;
	CHECK_INT(wfs_full_encode(&out, &codec, &fits, block, sizeof(block), &span, 1, len, &err), 0, err.msg);
	CHECK(!fits && out.len == 1 && out.data[0] == 'x');
	CHECK_INT(wfs_full_encode(&out, &codec, &fits, block, sizeof(block), &span, 1, len + 1, &err), 0, err.msg);
	CHECK(fits && out.len == len + 1);
}

/* ---- stored bytes ---- */

/* Bytes, BF16, F32 with a cut element at each end, F64, I16. */
static const struct wfs_span golden_spans[] = {
	{ 0, 1000, WFS_DT_BYTES, 0 },
	{ 1000, 8001, WFS_DT_BF16, 1 },
	{ 9001, 8000, WFS_DT_F32, 3 },
	{ 17001, 4000, WFS_DT_F64, 0 },
	{ 21001, 3000, WFS_DT_I16, 0 },
};

static void golden_block(uint8_t *block)
{
	uint64_t s = 7;

	for (size_t i = 0; i < ARRAY_SIZE(golden_spans); i++)
		fill_weights(block + golden_spans[i].off, golden_spans[i].len, golden_spans[i].dtype, &s);
	memset(block, '.', 500);
}

/* What was stored once must give its bytes for ever; another zstd may store it otherwise.
 * WFS_WRITE_GOLDEN=1 writes the file anew. */
static void test_golden(void)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
	WFS_AUTO(wfs_buf_free) struct wfs_buf golden = WFS_BUF_INIT;
	size_t n = ARRAY_SIZE(golden_spans);
	static uint8_t block[GOLDEN_LEN], back[GOLDEN_LEN];
	struct wfs_err err = { "" };
	bool fits;

	golden_block(block);
	CHECK_INT(wfs_planes_encode(&out, &fits, block, sizeof(block), golden_spans, n, SIZE_MAX, &err), 0, err.msg);
	if (getenv("WFS_WRITE_GOLDEN"))
		CHECK_INT(wfs_write_file(AT_FDCWD, TESTS_DIR "/golden/planes", out.data, out.len, 0644, &err), 0, err.msg);
	CHECK_INT(wfs_read_file(&golden, AT_FDCWD, TESTS_DIR "/golden/planes", 1 << 20, &err), 0, err.msg);
	CHECK_INT(wfs_block_decode(back, sizeof(back), WFS_CODEC_PLANES, golden.data, golden.len, golden_spans, n, &err), 0,
		  err.msg);
	CHECK(memcmp(back, block, sizeof(block)) == 0);
}

#define RAW(n) n, 0, 0, 0x80
/* Four BF16 elements and a byte: planes of 1, 4 and 4 bytes.  The accepted one is the example of
 * weightfs-format(5). */
static const struct {
	const char *name;
	uint8_t bytes[24];
	size_t len;
	int want;
} payloads[] = {
	{ "the manual's example", { RAW(1), RAW(4), RAW(4), 0x7b, 0x00, 0x01, 0x80, 0x00, 0x7f, 0x7f, 0x7e, 0x00 }, 21, 0 },
	{ "a zero plane", { 0, 0, 0, 0, RAW(4), RAW(4), 0x00, 0x01, 0x80, 0x00, 0x7f, 0x7f, 0x7e, 0x00 }, 20, 0 },
	{ "all planes zero", { 0 }, 12, 0 },
	{ "empty", { 0 }, 0, -EBADMSG },
	{ "shorter than the header", { RAW(1), RAW(4) }, 11, -EBADMSG },
	{ "a plane past the end", { RAW(1), RAW(4), RAW(4), 1, 2, 3, 4, 5, 6, 7, 8 }, 20, -EBADMSG },
	{ "a plane of 2^31-1", { RAW(1), 255, 255, 255, 255, RAW(4), 1, 2, 3, 4, 5, 6, 7, 8, 9 }, 21, -EBADMSG },
	{ "lengths that wrap around", { 255, 255, 255, 127, 255, 255, 255, 127, 2, 0, 0, 0 }, 12, -EBADMSG },
	{ "a plane too short", { RAW(1), RAW(3), RAW(4), 1, 2, 3, 4, 5, 6, 7, 8 }, 20, -EBADMSG },
	{ "a plane too long", { RAW(1), RAW(5), RAW(4), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, 22, -EBADMSG },
	{ "bytes left over", { RAW(1), RAW(4), RAW(4), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, 22, -EBADMSG },
	{ "an empty plane as it is", { RAW(0), RAW(4), RAW(4), 1, 2, 3, 4, 5, 6, 7, 8 }, 20, -EBADMSG },
	{ "not a frame", { 1, 0, 0, 0, RAW(4), RAW(4), 1, 2, 3, 4, 5, 6, 7, 8, 9 }, 21, -EBADMSG },
};

static void test_payloads(void)
{
	/* "{", then 1.0, -1.0, a negative number of another exponent's size, 0.0 as they lie in memory */
	static const uint8_t want[9] = { 0x7b, 0x80, 0x3f, 0x80, 0xbf, 0x40, 0x3f, 0x00, 0x00 };
	struct wfs_span spans[] = { { 0, 1, WFS_DT_BYTES, 0 }, { 1, 8, WFS_DT_BF16, 0 } };

	for (size_t i = 0; i < ARRAY_SIZE(payloads); i++) {
		struct wfs_err err = { "" };
		uint8_t block[GUARD + 9 + GUARD];

		memset(block, 0xa5, sizeof(block));
		/* by the codec itself: the example is longer than its block */
		CHECK_INT(wfs_planes_decode(block + GUARD, 9, payloads[i].bytes, payloads[i].len, spans, 2, &err),
			  payloads[i].want, payloads[i].name);
		CHECK(guards_hold(block, 9) && (payloads[i].want == 0 || err.msg[0]));
		if (i == 0)
			CHECK(memcmp(block + GUARD, want, 9) == 0);
	}
}

static void test_corruption(void)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
	enum { LEN = 3000 };
	struct wfs_span spans[] = { { 0, 1001, WFS_DT_BF16, 1 }, { 1001, 1999, WFS_DT_F32, 3 } };
	uint8_t block[LEN], *back = malloc(LEN + 2 * GUARD);
	struct wfs_err err = { "" };
	bool fits;

	memset(back, 0xa5, LEN + 2 * GUARD);
	fill_weights(block, 1001, WFS_DT_BF16, &state);
	fill_weights(block + 1001, 1999, WFS_DT_F32, &state);
	CHECK_INT(wfs_planes_encode(&out, &fits, block, LEN, spans, 2, SIZE_MAX, &err), 0, err.msg);
	for (size_t i = 0; i < out.len; i++)
		for (unsigned v = 1; v < 256; v += 1 + (i > 100) * 17) {
			out.data[i] ^= (uint8_t)v;
			(void)wfs_block_decode(back + GUARD, LEN, WFS_CODEC_PLANES, out.data, out.len, spans, 2, &err);
			out.data[i] ^= (uint8_t)v;
			CHECK(guards_hold(back, LEN));
		}
	for (size_t len = 0; len < out.len; len++)
		CHECK_INT(wfs_block_decode(back + GUARD, LEN, WFS_CODEC_PLANES, out.data, len, spans, 2, &err), -EBADMSG, "short");
	free(back);
}

TEST_MAIN(T(test_round_trips), T(test_choice), T(test_limit), T(test_golden), T(test_payloads), T(test_corruption))
