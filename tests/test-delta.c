/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks: round trips over every element type, golden objects, and payloads that were tampered with. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>

#include "delta-trip.h"
#include "weightfs/io.h"
#include "weightfs/table.h"

static uint64_t state = 20261124;

/* ---- allocations that fail: this program is linked with --wrap ---- */

static long allocations_left = -1;	/* < 0: none fails */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

static bool fails(void)
{
	return allocations_left >= 0 && allocations_left-- == 0;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return fails() ? NULL : __real_realloc(p, size);
}

static void test_round_trips(void)
{
	struct delta_case c;

	printf("seed %llu\n", (unsigned long long)state);
	for (uint32_t len = 1; len < 1500; len++) {
		case_random(&c, &state, len < 300 ? len : 1 + case_below(&state, len < 1400 ? 3000 : 100000));
		round_trip(&c);
		case_free(&c);
	}
}

/* A block of one type, in every density. */
static void test_whole_blocks(void)
{
	static const uint32_t rates[] = { 1, 10, 40, 300, 1000 };
	struct delta_case c;

	for (unsigned dtype = 0; dtype < WFS_DT_COUNT; dtype++) {
		case_random(&c, &state, WFS_BLOCK_SIZE >> (dtype == WFS_DT_BF16 ? 0 : 4));
		c.n_spans = 1;
		c.spans[0] = (struct wfs_span){ 0, c.len, (uint8_t)dtype, 0 };
		for (unsigned i = 0; i < ARRAY_SIZE(rates); i++) {
			case_next(&c, &state, rates[i]);
			round_trip(&c);
		}
		case_free(&c);
	}
}

/* A whole block of which every value of a 16-bit type becomes every other sooner or later. */
static void test_all_values(void)
{
	static const uint8_t types[] = { WFS_DT_BF16, WFS_DT_F16, WFS_DT_I16 };
	struct delta_case c;

	for (unsigned t = 0; t < ARRAY_SIZE(types); t++)
		for (unsigned step = 1; step < 65536; step = step * 5 + 1) {
			case_random(&c, &state, 2 * 65536);
			c.n_spans = 1;
			c.spans[0] = (struct wfs_span){ 0, c.len, types[t], 0 };
			for (unsigned i = 0; i < 65536; i++) {
				wfs_put16(c.base + 2 * i, (uint16_t)i);
				wfs_put16(c.next + 2 * i, (uint16_t)(i % 50 && step < 5000 ? i : i + step));
			}
			round_trip(&c);
			case_free(&c);
		}
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
	CHECK_INT(codec, WFS_CODEC_DELTA2, "codec");
	memcpy(block, base, sizeof(base));
	CHECK_INT(wfs_block_decode(block, sizeof(block), codec, out.data, out.len, &span, 1, &err), 0, err.msg);
	CHECK(memcmp(block, next, sizeof(next)) == 0);
}

/* A class of which everything changes is so heavy that a symbol ends at its units; far between
 * them lies a class of which nothing does. */
static void test_heavy_units(void)
{
	struct delta_case c;

	for (unsigned kept = 0; kept < 3; kept++) {
		case_random(&c, &state, 200000);
		c.n_spans = 1;
		c.spans[0] = (struct wfs_span){ 0, c.len, WFS_DT_BF16, 0 };
		for (unsigned i = 0; i < c.len / 2; i++) {
			bool heavy = i % 40 == 0;

			wfs_put16(c.base + 2 * i, heavy ? 0x3000 : 0x3f80);
			wfs_put16(c.next + 2 * i, heavy && i % 4000 >= 40 * kept ? 0x3001 : heavy ? 0x3000 : 0x3f80);
		}
		wfs_put16(c.next + 1000, 0x3f81);
		round_trip(&c);
		case_free(&c);
	}
}

/* ---- golden objects ---- */

/* The example of weightfs-format(5), "Sparse sections". */
static const uint8_t example[] = { 0x03, 0x00, 0x00, 0x12, 0x4f, 0x05, 0x68, 0xff, 0xec, 0x1d };

static void example_case(struct delta_case *c)
{
	*c = (struct delta_case){ .len = 64, .base = malloc(64), .next = malloc(64), .n_spans = 1,
				  .spans = { { 0, 64, WFS_DT_BF16, 0 } } };
	if (!c->base || !c->next)
		abort();
	for (unsigned i = 0; i < 32; i++)
		wfs_put16(c->base + 2 * i, i == 1 ? 0x4000 : i == 3 ? 0 : 0x3f80);
	memcpy(c->next, c->base, 64);
	wfs_put16(c->next + 2, 0x4001);
	wfs_put16(c->next + 6, 0xffff);
}

static void test_manual_example(void)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
	struct wfs_err err = { "" };
	struct delta_case c;
	bool fits;

	example_case(&c);
	CHECK_INT(wfs_delta2_encode(&out, &fits, c.base, c.next, c.len, c.spans, 1, SIZE_MAX, &err), 0, err.msg);
	CHECK(out.len == sizeof(example) && memcmp(out.data, example, sizeof(example)) == 0);
	CHECK_INT(wfs_block_decode(c.base, c.len, WFS_CODEC_DELTA2, example, sizeof(example), c.spans, 1, &err), 0, err.msg);
	CHECK(memcmp(c.base, c.next, c.len) == 0);
	case_free(&c);
}

#define GOLDEN_CASES 16
#define GOLDEN_PACKED 12		/* from here on: integers that hold 4-bit values */

static void golden_packed(struct delta_case *c, uint64_t *seed, unsigned k)
{
	static const uint8_t types[] = { WFS_DT_U8, WFS_DT_I16, WFS_DT_I32, WFS_DT_I64 };

	case_packed(c, seed, 5000);
	c->n_spans = 1;
	c->spans[0] = (struct wfs_span){ 0, c->len, types[k], 0 };
	case_nibbles(c, seed, k % 2 ? 100 : 10);
}

/* The objects must never change, on no machine: WFS_WRITE_GOLDEN=1 writes the files anew. */
static void test_golden(void)
{
	uint64_t seed = 42;

	for (unsigned k = 0; k < GOLDEN_CASES; k++) {
		WFS_AUTO(wfs_buf_free) struct wfs_buf stored = WFS_BUF_INIT, file = WFS_BUF_INIT, golden = WFS_BUF_INIT;
		struct wfs_err err = { "" };
		struct delta_case c;
		char path[4096];
		bool fits;

		if (k < GOLDEN_PACKED)
			case_random(&c, &seed, k < 6 ? 1000 : 4000);
		else
			golden_packed(&c, &seed, k - GOLDEN_PACKED);
		if (k % 2 && k < GOLDEN_PACKED) {
			c.n_spans = 1;
			c.spans[0] = (struct wfs_span){ 0, c.len, WFS_DT_BF16, 0 };
		}
		CHECK_INT(wfs_delta2_encode(&stored, &fits, c.base, c.next, c.len, c.spans, c.n_spans, SIZE_MAX, &err), 0, err.msg);
		case_write(&file, &c, &stored);
		snprintf(path, sizeof(path), TESTS_DIR "/golden/delta2/%u", k);
		if (getenv("WFS_WRITE_GOLDEN"))
			CHECK_INT(wfs_write_file(AT_FDCWD, path, file.data, file.len, 0644, &err), 0, err.msg);
		CHECK_INT(wfs_read_file(&golden, AT_FDCWD, path, 1 << 20, &err), 0, err.msg);
		CHECK_INT((long long)file.len, (long long)golden.len, path);
		CHECK(file.len == golden.len && memcmp(file.data, golden.data, file.len) == 0);
		case_free(&c);
	}
}

/* ---- what is refused ---- */

static void corrupt(const struct delta_case *c, unsigned step)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
	uint8_t *block = guarded_new(c->len);
	struct wfs_err err = { "" };
	bool fits;

	CHECK_INT(wfs_delta2_encode(&out, &fits, c->base, c->next, c->len, c->spans, c->n_spans, SIZE_MAX, &err), 0, err.msg);
	for (size_t i = 0; i < out.len; i += 1 + i / 64)
		for (unsigned v = 1; v < 256; v += step) {
			out.data[i] ^= (uint8_t)v;
			memcpy(block, c->base, c->len);
			(void)wfs_delta2_decode(block, out.data, out.len, c->spans, c->n_spans, &err);
			out.data[i] ^= (uint8_t)v;
			CHECK(guards_hold(block, c->len));
		}
	for (size_t len = 0; len < out.len; len += 1 + len / 64) {
		memcpy(block, c->base, c->len);
		if (wfs_delta2_decode(block, out.data, len, c->spans, c->n_spans, &err) == 0)
			CHECK(memcmp(block, c->next, c->len) != 0);
		CHECK(guards_hold(block, c->len));
	}
	free(block - GUARD);
}

static void test_corruption(void)
{
	struct delta_case c;

	for (unsigned k = 0; k < 30; k++) {
		if (k % 5)
			case_random(&c, &state, 700);
		else
			case_packed(&c, &state, 5000);
		corrupt(&c, k % 5 ? 1 + k : 50);
		case_free(&c);
	}
}

/* In place of bytes of the example, whose length may change too. */
static const struct {
	const char *name;
	uint8_t bytes[24];
	size_t len;
	const char *says;
} refused[] = {
	{ "nothing", { 0 }, 0, "stored bytes" },
	{ "form from the future", { 5 }, 1, "form 5" },
	{ "another flag", { 0x23 }, 1, "form 35" },
	{ "same, of 4-bit units", { 0x10 }, 1, "form 16" },
	{ "raw, of 4-bit units", { 0x11 }, 1, "form 17" },
	{ "zstd, of 4-bit units", { 0x12 }, 1, "form 18" },
	{ "4-bit units in BF16", { 0x13, 0, 0, 18, 0x4f, 5, 0x68, 0xff, 0xec, 0x1d }, 10, "form 19, but units of kind 6" },
	{ "4-bit units in BF16, dense", { 0x14 }, 1, "form 20, but units of kind 6" },
	{ "same with bytes", { 0, 0 }, 2, "1 bytes where nothing changes" },
	{ "raw, too short", { 1, 0 }, 2, "1 bytes for 64" },
	{ "not zstd", { 2, 1, 2, 3 }, 4, "units" },
	{ "sparse, no header", { 3, 0, 0 }, 3, "shorter than a header" },
	{ "rate below", { 3, 0, 0, 15, 0x4f, 5, 1 }, 7, "rate of 2^15" },
	{ "rate above", { 3, 0, 0, 27, 0x4f, 5, 1 }, 7, "rate of 2^27" },
	{ "weight above", { 3, 0, 0, 18, 0x8f, 7, 1 }, 7, "weight code 120" },
	{ "weight below", { 3, 0, 0, 18, 0x04, 1 }, 6, "weight code -1" },
	{ "weights end", { 3, 0, 0x10, 18, 0x4f, 5 }, 6, "end where it began" },
	{ "no weights", { 3, 0, 0xf0, 18, 0x33 }, 5, "weights of 16 classes" },
	{ "no state", { 3, 0, 0, 18, 0x4f, 5 }, 6, "end where it began" },
	{ "state of 0", { 3, 0, 0, 18, 0x4f, 5, 0, 0 }, 8, "end where it began" },
	{ "another state", { 3, 0, 0, 18, 0x4f, 5, 0x68, 0xff, 0xec, 0x1e }, 10, "end where it began" },
	{ "nothing can change, but a state", { 3, 0, 0, 18, 0x03, 2 }, 6, "end where it began" },
	{ "words left over", { 3, 0, 0, 18, 0x03, 1, 0, 0, 0, 0, 1, 2, 3, 4 }, 14, "end where it began" },
	{ "dense, no header", { 4, 0, 0, 0, 0, 0, 0, 0 }, 8, "shorter than a header" },
	{ "dense, frequencies past the end", { 4, 0, 0, 255, 255, 0, 0, 0, 0 }, 9, "says more" },
	{ "dense, words past the end", { 4, 0, 0, 0, 0, 255, 255, 255, 255 }, 9, "says more" },
};

static void test_refused(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		struct wfs_err err = { "" };
		struct delta_case c;

		example_case(&c);
		CHECK_INT(wfs_block_decode(c.base, c.len, WFS_CODEC_DELTA2, refused[i].bytes, refused[i].len, c.spans, 1, &err),
			  -EBADMSG, refused[i].name);
		CHECK(strstr(err.msg, refused[i].says) || !fprintf(stderr, "%s: %s\n", refused[i].name, err.msg));
		case_free(&c);
	}
}

/* 64 BF16 units of one class: header, frequencies 4096 of token 0, the coders' states, no words. */
#define DENSE_LEN (1 + 8 + 4 + 128)

static const struct {
	const char *name;
	unsigned at;			/* of these bytes in place of the right ones */
	uint8_t bytes[4];
	unsigned n;
	size_t len;
	int want;
	const char *says;
} dense_refused[] = {
	{ "as it should be", 0, { 4 }, 1, DENSE_LEN, 0, "" },
	{ "frequencies too many", 11, { 241 }, 1, DENSE_LEN, -EBADMSG, "more than 4096" },
	{ "frequencies too few", 11, { 239 }, 1, DENSE_LEN, -EBADMSG, "of a class are 3840" },
	{ "frequencies end inside", 9, { 2 }, 1, DENSE_LEN, -EBADMSG, "end inside a class" },
	{ "tokens too many", 9, { 1, 1 }, 2, DENSE_LEN, -EBADMSG, "257 tokens" },
	{ "another class", 1, { 0, 0x10 }, 2, DENSE_LEN, -EBADMSG, "before the last class" },
	{ "frequencies left over", 3, { 5 }, 1, DENSE_LEN + 1, -EBADMSG, "frequencies left over" },
	{ "a state too low", 13, { 255, 255, 0, 0 }, 4, DENSE_LEN, -EBADMSG, "begins at 65535" },
	{ "a state too high", 13, { 1, 0, 1, 0 }, 4, DENSE_LEN, -EBADMSG, "does not end where" },
	{ "a word left over", 5, { 1 }, 1, DENSE_LEN + 2, -EBADMSG, "do not end with the units" },
	{ "bits left over", 0, { 4 }, 1, DENSE_LEN + 1, -EBADMSG, "1 bytes are not the low bits" },
	{ "one state less", 0, { 4 }, 1, DENSE_LEN - 1, -EBADMSG, "says more" },
};

static void test_refused_dense(void)
{
	static const uint8_t right[] = { 4, 0, 0, 4, 0, 0, 0, 0, 0, 1, 0, 240, 0 };

	for (size_t i = 0; i < ARRAY_SIZE(dense_refused); i++) {
		uint8_t base[256] = { 0 }, stored[DENSE_LEN + 2] = { 0 };
		struct wfs_span span = { 0, sizeof(base), WFS_DT_BF16, 0 };
		struct wfs_err err = { "" };

		memcpy(stored, right, sizeof(right));
		for (unsigned k = 0; k < 32; k++)
			wfs_put32(stored + sizeof(right) + 4 * k, 65536);
		memcpy(stored + dense_refused[i].at, dense_refused[i].bytes, dense_refused[i].n);
		CHECK_INT(wfs_block_decode(base, sizeof(base), WFS_CODEC_DELTA2, stored, dense_refused[i].len, &span, 1, &err),
			  dense_refused[i].want, dense_refused[i].name);
		CHECK(strstr(err.msg, dense_refused[i].says) || !fprintf(stderr, "%s: %s\n", dense_refused[i].name, err.msg));
	}
}

#define ALLOCATIONS_MAX 1000	/* of one block; a codec that fails otherwise ends the loop, too */

/* The n-th allocation fails, for every n: an error, and what was in the buffer before is still there. */
static void test_no_memory(void)
{
	for (unsigned k = 0; k < 40; k++) {
		WFS_AUTO(wfs_buf_free) struct wfs_buf whole = WFS_BUF_INIT;
		struct wfs_err err = { "" };
		struct delta_case c;
		uint8_t *block;
		bool fits;
		int r = -ENOMEM;

		if (k % 4)
			case_random(&c, &state, 3000);
		else
			case_packed(&c, &state, 6000);
		block = guarded_new(c.len);
		CHECK_INT(wfs_delta2_encode(&whole, &fits, c.base, c.next, c.len, c.spans, c.n_spans, SIZE_MAX, &err), 0, err.msg);
		for (long n = 0; r == -ENOMEM && n < ALLOCATIONS_MAX; n++) {
			WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;

			CHECK(wfs_buf_append(&out, "before", 6) == 0);
			allocations_left = n;
			r = wfs_delta2_encode(&out, &fits, c.base, c.next, c.len, c.spans, c.n_spans, SIZE_MAX, &err);
			allocations_left = -1;
			CHECK(r == 0 || (r == -ENOMEM && out.len == 6 && memcmp(out.data, "before", 6) == 0));
			CHECK(r < 0 || (out.len == 6 + whole.len && memcmp(out.data + 6, whole.data, whole.len) == 0));
		}
		CHECK_INT(r, 0, "encode");
		r = -ENOMEM;
		for (long n = 0; r == -ENOMEM && n < ALLOCATIONS_MAX; n++) {
			memcpy(block, c.base, c.len);
			allocations_left = n;
			r = wfs_delta2_decode(block, whole.data, whole.len, c.spans, c.n_spans, &err);
			allocations_left = -1;
		}
		CHECK_INT(r, 0, "decode");
		CHECK(memcmp(block, c.next, c.len) == 0);
		free(block - GUARD);
		case_free(&c);
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

TEST_MAIN(T(test_round_trips), T(test_whole_blocks), T(test_all_values), T(test_bit_patterns), T(test_heavy_units),
	  T(test_manual_example), T(test_golden), T(test_corruption), T(test_refused), T(test_refused_dense),
	  T(test_no_memory), T(test_codecs))
