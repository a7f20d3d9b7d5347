/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-codec.c - the zstd door: one frame, of the size that was expected
 *
 * The refused frames are written out byte by byte (RFC 8878): magic, frame header descriptor,
 * [window], [dictionary], [content size], then blocks with a 3-byte header each.
 */
#include <errno.h>
#include <pthread.h>

#include "test.h"
#include "weightfs/codec.h"

#define MAGIC "\x28\xb5\x2f\xfd"
#define RAW3 "\x19\0\0" "abc"		/* last block, raw, 3 bytes */
#define FRAME(s) s, sizeof(s) - 1

static const struct {
	const char *name, *bytes;
	size_t n, len;
	int want;
} frames[] = {
	{ "good", FRAME(MAGIC "\x20\x03" RAW3), 3, 0 },
	{ "good and empty", FRAME(MAGIC "\x20\x00" "\x01\0\0"), 0, 0 },
	{ "nothing", FRAME(""), 3, -EBADMSG },
	{ "magic only", FRAME(MAGIC), 3, -EBADMSG },
	{ "no content size", FRAME(MAGIC "\x00\x00" RAW3), 3, -EBADMSG },
	{ "says more than expected", FRAME(MAGIC "\x20\x04" RAW3), 3, -EBADMSG },
	{ "says less than expected", FRAME(MAGIC "\x20\x02" RAW3), 3, -EBADMSG },
	{ "stops early", FRAME(MAGIC "\x20\x05" RAW3), 5, -EBADMSG },
	{ "yields more than it says", FRAME(MAGIC "\x20\x03" "\x21\0\0" "abcd"), 3, -EBADMSG },
	{ "repeats a byte 128 Ki times", FRAME(MAGIC "\x20\x03" "\x03\x00\x10" "a"), 3, -EBADMSG },
	{ "says 2^60", FRAME(MAGIC "\xe0\0\0\0\0\0\0\0\x10" RAW3), 3, -EBADMSG },
	{ "says 2^64-1", FRAME(MAGIC "\xe0\xff\xff\xff\xff\xff\xff\xff\xff" RAW3), 3, -EBADMSG },
	{ "trailing byte", FRAME(MAGIC "\x20\x03" RAW3 "\0"), 3, -EBADMSG },
	{ "two frames", FRAME(MAGIC "\x20\x03" RAW3 MAGIC "\x20\x03" RAW3), 3, -EBADMSG },
	{ "two frames, both expected", FRAME(MAGIC "\x20\x03" RAW3 MAGIC "\x20\x03" RAW3), 6, -EBADMSG },
	{ "an empty one behind", FRAME(MAGIC "\x20\x03" RAW3 MAGIC "\x20\x00" "\x01\0\0"), 3, -EBADMSG },
	{ "skippable frame", FRAME("\x50\x2a\x4d\x18\0\0\0\0"), 0, -EBADMSG },
	{ "skippable behind", FRAME(MAGIC "\x20\x03" RAW3 "\x50\x2a\x4d\x18\0\0\0\0"), 3, -EBADMSG },
	{ "older format", FRAME("\x27\xb5\x2f\xfd" "\x20\x03" RAW3), 3, -EBADMSG },
	{ "dictionary", FRAME(MAGIC "\x21\x05\x03" RAW3), 3, -EBADMSG },
	{ "reserved bit", FRAME(MAGIC "\x28\x03" RAW3), 3, -EBADMSG },
	{ "reserved block type", FRAME(MAGIC "\x20\x03" "\x1f\0\0" "abc"), 3, -EBADMSG },
	{ "wrong checksum", FRAME(MAGIC "\x24\x03" RAW3 "\0\0\0\0"), 3, -EBADMSG },
	{ "cut in the block", FRAME(MAGIC "\x20\x03" "\x19\0\0" "ab"), 3, -EBADMSG },
	{ "no last block", FRAME(MAGIC "\x20\x03" "\x18\0\0" "abc"), 3, -EBADMSG },
};

static void test_frames(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(frames); i++) {
		/* the heap, so that a sanitizer sees any access outside */
		uint8_t *frame = malloc(frames[i].n + !frames[i].n);
		uint8_t *dst = malloc(frames[i].len + 16);
		struct wfs_err err = { 0 };

		REQUIRE(frame && dst);
		memcpy(frame, frames[i].bytes, frames[i].n);
		memset(dst, 0x5a, frames[i].len + 16);
		CHECK_INT(wfs_zstd_decompress(dst, frames[i].len, frame, frames[i].n, &err),
			  frames[i].want, frames[i].name);
		CHECK(frames[i].want == 0 || err.msg[0]);
		for (size_t j = frames[i].len; j < frames[i].len + 16; j++)
			CHECK(dst[j] == 0x5a);
		if (frames[i].want == 0)
			CHECK(memcmp(dst, "abc", frames[i].len) == 0);
		free(frame);
		free(dst);
	}
}

static void round_trip(uint64_t seed, size_t len, int level)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
	uint8_t *data = malloc(len + 1), *back = malloc(len + 1);
	struct wfs_err err = { 0 };

	REQUIRE(data && back);
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(test_random(&seed) & (i < len / 2 ? 3 : 255));
	CHECK(wfs_buf_append(&out, "head", 4) == 0);
	CHECK_INT(wfs_zstd_compress(&out, data, len, level, &err), 0, "compress");
	CHECK(memcmp(out.data, "head", 4) == 0);
	CHECK_INT(wfs_zstd_decompress(back, len, out.data + 4, out.len - 4, &err), 0, "decompress");
	CHECK(memcmp(back, data, len) == 0);
	CHECK_INT(wfs_zstd_decompress(back, len, out.data + 4, out.len - 5, &err), -EBADMSG, "one byte short");
	CHECK_INT(wfs_zstd_decompress(back, len + 1, out.data + 4, out.len - 4, &err), -EBADMSG, "larger");
	free(data);
	free(back);
}

static void test_round_trip(void)
{
	static const size_t sizes[] = { 0, 1, 255, 256, 65535, 65536, 65792, (1u << 20) + 7 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		round_trip(0x77665 + i, sizes[i], 1);
		round_trip(0x77665 + i, sizes[i], 6);
	}
}

static void *in_thread(void *unused)
{
	(void)unused;
	round_trip(4242, 5000, 3);
	return NULL;
}

/* The leak checker sees to it that a thread's contexts end with it. */
static void test_threads_free_their_contexts(void)
{
	for (int i = 0; i < 4; i++) {
		pthread_t t;

		REQUIRE(pthread_create(&t, NULL, in_thread, NULL) == 0);
		pthread_join(t, NULL);
	}
}

/* Refused by the header alone, before the library begins to decode. */
static void test_refused_before_decoding(void)
{
	static const struct {
		const char *bytes;
		size_t n;
		const char *msg;
	} early[] = {
		{ FRAME(MAGIC "\x20\x04" RAW3), "zstd: frame of 4 bytes where 3 belong" },
		{ FRAME(MAGIC "\xe0\0\0\0\0\0\0\0\x10" RAW3), "zstd: frame of 1152921504606846976 bytes where 3 belong" },
		{ FRAME(MAGIC "\x00\x00" RAW3), "zstd: frame does not say its content size" },
		{ FRAME(MAGIC "\x21\x05\x03" RAW3), "zstd: frame needs a dictionary" },
		{ FRAME(MAGIC "\x20\x03" RAW3 "\0"), "zstd: 1 bytes behind the frame" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(early); i++) {
		struct wfs_err err = { 0 };
		uint8_t dst[3];

		CHECK_INT(wfs_zstd_decompress(dst, 3, early[i].bytes, early[i].n, &err), -EBADMSG, early[i].msg);
		CHECK_STR(err.msg, early[i].msg);
	}
}

TEST_MAIN(T(test_frames), T(test_refused_before_decoding), T(test_round_trip), T(test_threads_free_their_contexts))
