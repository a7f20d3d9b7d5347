/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.c - codec delta2 on one core: bytes and speed
 *
 *	bench-codec [OLD NEW]...	pairs of BF16 files of the same layout; else synthetic ones, and packed 4-bit values
 *
 * A line a pair: share of elements changed, stored bytes per changed element, and GB/s of model
 * bytes (in CPU time, so that a loaded machine shows the same) of encoding and decoding, of the same with
 * the portable loops alone, and of memcpy.
 */
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "format/delta2.h"
#include "test.h"
#include "weightfs/io.h"

#include <fcntl.h>

enum { ENCODE, DECODE, ENCODE_PORTABLE, DECODE_PORTABLE, COPY, N_TIMES };

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void fail(const struct wfs_err *err)
{
	fprintf(stderr, "bench-codec: %s\n", err->msg);
	exit(1);
}

static size_t measure(double seconds[N_TIMES], unsigned dtype, const uint8_t *old, const uint8_t *new, uint32_t len)
{
	static uint8_t block[WFS_BLOCK_SIZE];
	struct wfs_span span = { 0, len, (uint8_t)dtype, 0 };
	struct wfs_err err = { "" };
	size_t stored = 0;
	double t;

	for (unsigned portable = 0; portable < 2; portable++) {
		WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
		bool fits;

		wfs_d2_portable = portable;
		t = cpu_seconds();
		if (wfs_delta2_encode(&out, &fits, old, new, len, &span, 1, SIZE_MAX, &err) < 0)
			fail(&err);
		seconds[portable ? ENCODE_PORTABLE : ENCODE] += cpu_seconds() - t;
		memcpy(block, old, len);
		t = cpu_seconds();
		if (wfs_delta2_decode(block, out.data, out.len, &span, 1, &err) < 0)
			fail(&err);
		seconds[portable ? DECODE_PORTABLE : DECODE] += cpu_seconds() - t;
		if (memcmp(block, new, len) != 0) {
			fprintf(stderr, "bench-codec: decoded to other bytes\n");
			exit(1);
		}
		stored = out.len;
	}
	t = cpu_seconds();
	memcpy(block, old, len);
	seconds[COPY] += cpu_seconds() - t;
	return stored;
}

/* `changed` of `n` elements differ. */
static void report(const char *name, unsigned dtype, const uint8_t *old, const uint8_t *new, size_t len, double changed,
		   double n)
{
	double seconds[N_TIMES] = { 0 };
	size_t stored = 0;

	for (size_t at = 0; at < len; at += WFS_BLOCK_SIZE)
		stored += measure(seconds, dtype, old + at, new + at, (uint32_t)WFS_MIN(len - at, (size_t)WFS_BLOCK_SIZE));
	printf("%7.2f %9.3f", 100 * changed / n, changed > 0 ? (double)stored / changed : 0);
	for (unsigned i = 0; i < N_TIMES; i++)
		printf(" %8.2f", (double)len / seconds[i] / 1e9);
	printf("  %s\n", name);
}

static void report_bf16(const char *name, const uint8_t *old, const uint8_t *new, size_t len)
{
	double changed = 0;

	for (size_t i = 0; i + 2 <= len; i += 2)
		changed += wfs_get16(old + i) != wfs_get16(new + i);
	report(name, WFS_DT_BF16, old, new, len, changed, (double)len / 2);
}

/* 4-bit values, of which so many in a hundred go up or down by one, as the same bytes of several types. */
static void packed(uint64_t seed, unsigned percent)
{
	static const struct { unsigned dtype; const char *name; } types[] = {
		{ WFS_DT_F4, "F4" }, { WFS_DT_U8, "U8" }, { WFS_DT_I16, "I16" }, { WFS_DT_I32, "I32" }, { WFS_DT_I64, "I64" },
	};
	static uint8_t old[4 * WFS_BLOCK_SIZE], new[sizeof(old)];
	double changed = 0;
	char name[64];

	for (size_t i = 0; i < 2 * sizeof(old); i++) {
		unsigned v = test_random(&seed) >> 60, up = test_random(&seed) >> 63 ? 1 : 15, at = i % 2 * 4;
		unsigned moves = (test_random(&seed) >> 32) % 100 < percent;

		old[i / 2] = (uint8_t)(at ? old[i / 2] | v << 4 : v);
		v = (v + moves * up) & 0xf;
		new[i / 2] = (uint8_t)(at ? new[i / 2] | v << 4 : v);
		changed += moves;
	}
	for (unsigned k = 0; k < ARRAY_SIZE(types); k++) {
		snprintf(name, sizeof(name), "4-bit values as %s", types[k].name);
		report(name, types[k].dtype, old, new, sizeof(old), changed, 2.0 * sizeof(old));
	}
}

static void synthetic(uint64_t seed, double per_nudge)
{
	static uint8_t old[16 * WFS_BLOCK_SIZE], new[sizeof(old)];
	char name[64];

	for (size_t i = 0; i < sizeof(old) / 2; i++) {
		uint64_t r = test_random(&seed);
		unsigned down = (unsigned)__builtin_ctzll(r | 1 << 14);
		/* Spacing halves with each exponent: a nudge goes so much farther. */
		double nudge = per_nudge * (double)(1u << down) * (double)(test_random(&seed) >> 44) / (1 << 20);
		unsigned whole = (unsigned)nudge;
		int d = (int)(whole + ((double)(test_random(&seed) >> 44) / (1 << 20) < nudge - whole));
		uint16_t v = (uint16_t)((r >> 48 & 0x807f) | (122 - down) << 7);

		wfs_put16(old + 2 * i, v);
		wfs_put16(new + 2 * i, (uint16_t)(v + (r >> 40 & 1 ? d : -d)));
	}
	snprintf(name, sizeof(name), "synthetic, nudge %g", per_nudge);
	report_bf16(name, old, new, sizeof(old));
}

int main(int argc, char **argv)
{
	static const double nudges[] = { 0.0015, 0.005, 0.05, 0.6, 20 };

	/* Keep what was freed, as a publisher's threads do: else each block has its pages from the kernel anew. */
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 64 << 20);
	printf("%7s %9s %8s %8s %8s %8s %8s\n", "%", "B/change", "encode", "decode", "portable", "", "memcpy");
	for (int i = 1; i + 1 < argc; i += 2) {
		WFS_AUTO(wfs_buf_free) struct wfs_buf old = WFS_BUF_INIT, new = WFS_BUF_INIT;
		struct wfs_err err = { "" };
		size_t skip;

		if (wfs_read_file(&old, AT_FDCWD, argv[i], 1ull << 32, &err) < 0 ||
		    wfs_read_file(&new, AT_FDCWD, argv[i + 1], 1ull << 32, &err) < 0)
			fail(&err);
		skip = old.len > 8 ? (size_t)wfs_get64(old.data) + 8 : old.len;
		if (old.len != new.len || skip >= old.len) {
			fprintf(stderr, "bench-codec: %s and %s are not two of one layout\n", argv[i], argv[i + 1]);
			return 1;
		}
		report_bf16(argv[i + 1], old.data + skip, new.data + skip, old.len - skip);
	}
	for (unsigned i = 0; argc == 1 && i < ARRAY_SIZE(nudges); i++)
		synthetic(i + 1, nudges[i]);
	for (unsigned percent = 1; argc == 1 && percent <= 100; percent *= 10)
		packed(percent, percent);
	return 0;
}
