/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks: round trips over every element type, and payloads that were tampered with. */
#include "test.h"

#include <errno.h>

#include "weightfs/block.h"
#include "weightfs/safetensors.h"
#include "weightfs/table.h"

#define GUARD 64
#define GUARD_BYTE 0xa5

static uint64_t state = 20261124;

static uint32_t below(uint32_t n)
{
	return (uint32_t)(test_random(&state) % n);
}

/* A block between guard bytes. */
static uint8_t *guarded_new(size_t len)
{
	uint8_t *p = malloc(len + 2 * GUARD);

	if (!p)
		abort();
	memset(p, GUARD_BYTE, len + 2 * GUARD);
	return p + GUARD;
}

static bool guards_hold(const uint8_t *block, size_t len)
{
	for (size_t i = 0; i < GUARD; i++)
		if (block[-1 - (ptrdiff_t)i] != GUARD_BYTE || block[len + i] != GUARD_BYTE)
			return false;
	return true;
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

static void random_pair(uint8_t *base, uint8_t *next, uint32_t len)
{
	uint32_t rate = 1 + below(1000);
	bool small = below(2);

	for (uint32_t i = 0; i < len; i++) {
		base[i] = (uint8_t)test_random(&state);
		next[i] = base[i];
		if (below(1000) < rate)
			next[i] = (uint8_t)(small ? base[i] + 1 - 2 * (int)below(2) : (int)below(256));
	}
}

static void round_trip(uint32_t len)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
	uint8_t *base = malloc(len), *next = malloc(len), *block = guarded_new(len);
	struct wfs_span spans[6];
	size_t n = random_spans(spans, ARRAY_SIZE(spans), len);
	struct wfs_err err = { "" };
	unsigned codec = 99;

	random_pair(base, next, len);
	CHECK_INT(wfs_block_encode(&out, &codec, base, next, len, spans, n, &err), 0, err.msg);
	memcpy(block, base, len);
	CHECK_INT(wfs_block_decode(block, len, codec, out.data, out.len, spans, n, &err), 0, err.msg);
	CHECK(memcmp(block, next, len) == 0);
	CHECK(out.len <= len && guards_hold(block, len));
	free(base);
	free(next);
	free(block - GUARD);
}

static void test_round_trips(void)
{
	printf("seed %llu\n", (unsigned long long)state);
	for (uint32_t len = 1; len < 300; len++)
		for (int k = 0; k < 5; k++)
			round_trip(len);
	for (int k = 0; k < 60; k++)
		round_trip(1 + below(100000));
	round_trip(WFS_BLOCK_SIZE);
}

/* Two NaN payloads, both zeros, an infinity: patterns, not numbers. */
static void test_bit_patterns(void)
{
	static const uint16_t old[] = { 0x7fc0, 0x0000, 0x7f80, 0x3f80, 0xffff };
	static const uint16_t new[] = { 0x7fc1, 0x8000, 0x7f81, 0x3f80, 0x0000 };
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
	static uint8_t base[8192], next[8192], block[8192];
	struct wfs_span span = { 0, sizeof(base), WFS_DT_BF16, 0 };
	struct wfs_err err = { "" };
	unsigned codec;

	for (size_t i = 0; i < sizeof(base); i++)
		base[i] = next[i] = (uint8_t)test_random(&state);
	memcpy(base + 100, old, sizeof(old));
	memcpy(next + 100, new, sizeof(new));
	CHECK_INT(wfs_block_encode(&out, &codec, base, next, sizeof(base), &span, 1, &err), 0, err.msg);
	CHECK_INT(codec, WFS_CODEC_DELTA1, "codec");
	memcpy(block, base, sizeof(base));
	CHECK_INT(wfs_block_decode(block, sizeof(block), codec, out.data, out.len, &span, 1, &err), 0, err.msg);
	CHECK(memcmp(block, next, sizeof(next)) == 0);
}

static void test_corruption(void)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
	uint8_t base[3000], next[3000], *block = guarded_new(sizeof(base));
	struct wfs_span spans[] = { { 0, 1001, WFS_DT_BF16, 1 }, { 1001, 1999, WFS_DT_F32, 3 } };
	struct wfs_err err = { "" };
	unsigned codec;

	for (size_t i = 0; i < sizeof(base); i++)
		base[i] = next[i] = (uint8_t)test_random(&state);
	for (size_t i = 0; i < sizeof(base); i += 37)
		next[i]++;
	CHECK_INT(wfs_block_encode(&out, &codec, base, next, sizeof(base), spans, 2, &err), 0, err.msg);
	CHECK_INT(codec, WFS_CODEC_DELTA1, "codec");
	for (size_t i = 0; i < out.len; i++)
		for (unsigned v = 1; v < 256; v++) {
			out.data[i] ^= (uint8_t)v;
			memcpy(block, base, sizeof(base));
			(void)wfs_block_decode(block, sizeof(base), codec, out.data, out.len, spans, 2, &err);
			out.data[i] ^= (uint8_t)v;
			CHECK(guards_hold(block, sizeof(base)));
		}
	for (size_t len = 0; len < out.len; len++)
		CHECK(wfs_block_decode(block, sizeof(base), codec, out.data, len, spans, 2, &err) < 0);
	free(block - GUARD);
}

#define RAW(n) n, 0, 0, 0x80
/* BF16 elements, so two planes.  The accepted one is the example of weightfs-format(5). */
static const struct {
	const char *name;
	uint8_t bytes[40];
	size_t len;
	int want;
} payloads[] = {
	{ "the manual's example", { 2, 0, 0, 0, 2, 0, 0, 0, RAW(2), RAW(2), 0, 0, 0, 0, 1, 1, 2, 1 }, 24, 0 },
	{ "shorter than a header", { 2, 0, 0, 0 }, 19, -EBADMSG },
	{ "no change", { 0, 0, 0, 0, 0, 0, 0, 0, RAW(0), RAW(0), 0, 0, 0, 0 }, 20, -EBADMSG },
	{ "more changes than units", { 5, 0, 0, 0, 5, 0, 0, 0, RAW(5), RAW(5), 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2 }, 30, -EBADMSG },
	{ "n of 2^32-1", { 255, 255, 255, 255, 2, 0, 0, 0, RAW(2), RAW(2), 0, 0, 0, 0, 1, 1, 2, 1 }, 24, -EBADMSG },
	{ "gap stream too long", { 1, 0, 0, 0, 2, 0, 0, 0, RAW(2), RAW(1), 0, 0, 0, 0, 255, 0, 2 }, 23, -EBADMSG },
	{ "unit beyond the last", { 2, 0, 0, 0, 2, 0, 0, 0, RAW(2), RAW(2), 0, 0, 0, 0, 1, 2, 2, 1 }, 24, -EBADMSG },
	{ "gap that does not end", { 2, 0, 0, 0, 2, 0, 0, 0, RAW(2), RAW(2), 0, 0, 0, 0, 1, 255, 2, 1 }, 24, -EBADMSG },
	{ "change of 0", { 2, 0, 0, 0, 2, 0, 0, 0, RAW(2), RAW(2), 0, 0, 0, 0, 1, 1, 2, 0 }, 24, -EBADMSG },
	{ "plane of another length", { 2, 0, 0, 0, 2, 0, 0, 0, RAW(2), RAW(1), 0, 0, 0, 0, 1, 1, 2 }, 23, -EBADMSG },
	{ "bytes left over", { 2, 0, 0, 0, 2, 0, 0, 0, RAW(2), RAW(2), 0, 0, 0, 0, 1, 1, 2, 1, 0 }, 25, -EBADMSG },
	{ "stream past the end", { 2, 0, 0, 0, 2, 0, 0, 0, RAW(200), RAW(2), 0, 0, 0, 0, 1, 1, 2, 1 }, 24, -EBADMSG },
};

static void test_payloads(void)
{
	/* Longer than four elements: a delta may not be longer than its block. */
	static const uint8_t base[8] = { 0x80, 0x3f, 0x00, 0x40, 0x40, 0x40, 0x00, 0x00 };
	static const uint8_t next[8] = { 0x80, 0x3f, 0x01, 0x40, 0x40, 0x40, 0xff, 0xff };
	struct wfs_span spans[] = { { 0, 8, WFS_DT_BF16, 0 }, { 8, 56, WFS_DT_BF16, 0 } };
	uint8_t block[64];

	for (size_t i = 0; i < ARRAY_SIZE(payloads); i++) {
		struct wfs_err err = { "" };
		bool beyond = strcmp(payloads[i].name, "unit beyond the last") == 0 ||
			      strcmp(payloads[i].name, "more changes than units") == 0;
		size_t len = beyond ? 30 : 64;
		uint8_t bytes[40];

		memcpy(bytes, payloads[i].bytes, sizeof(bytes));
		if (beyond) {		/* 15 units */
			spans[1].len = 22;
			if (bytes[0] == 2)
				bytes[21] = 14;
			else
				bytes[0] = 16;
		} else {
			spans[1].len = 56;
		}
		memset(block, 0, sizeof(block));
		memcpy(block, base, sizeof(base));
		CHECK_INT(wfs_block_decode(block, len, WFS_CODEC_DELTA1, bytes, payloads[i].len, spans, 2, &err),
			  payloads[i].want, payloads[i].name);
		CHECK(payloads[i].want == 0 || err.msg[0]);
		if (payloads[i].want == 0)
			CHECK(memcmp(block, next, sizeof(next)) == 0);
	}
}

static void test_codecs(void)
{
	uint8_t block[10] = "abcdefghi";
	struct wfs_err err = { "" };

	CHECK_INT(wfs_block_decode(block, 10, 9, NULL, 0, NULL, 0, &err), -EPROTONOSUPPORT, "unknown");
	CHECK(strstr(err.msg, "codec 9"));
	CHECK_INT(wfs_block_decode(block, 10, WFS_CODEC_RAW, "abc", 3, NULL, 0, &err), -EBADMSG, "short raw");
	CHECK_INT(wfs_block_decode(block, 10, WFS_CODEC_SAME, "abc", 3, NULL, 0, &err), -EBADMSG, "same with bytes");
	CHECK_INT(wfs_block_decode(block, 10, WFS_CODEC_ZSTD, "abc", 3, NULL, 0, &err), -EBADMSG, "not zstd");
	CHECK_INT(wfs_block_decode(block, 10, WFS_CODEC_ZERO, NULL, 0, NULL, 0, &err), 0, "zero");
	CHECK(block[0] == 0 && block[9] == 0);
}

TEST_MAIN(T(test_round_trips), T(test_bit_patterns), T(test_corruption), T(test_payloads), T(test_codecs))
