/* SPDX-License-Identifier: Apache-2.0 */
/* Tables: written ones read back, against sums done the slow way; broken ones are refused. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>

#include "format/format.h"
#include "weightfs/io.h"
#include "weightfs/limits.h"
#include "weightfs/safetensors.h"
#include "weightfs/table.h"

static uint64_t state = 42;
static uint8_t stored_bytes[WFS_BLOCK_SIZE];

static uint32_t below(uint32_t n)
{
	return (uint32_t)(test_random(&state) % n);
}

/* The one table that the refusals below start from: 3 MiB and 100 bytes, a base, 2 pieces, 1 pack. */
static void small_table(struct wfs_buf *out)
{
	struct wfs_base base = { .size = 5u << 20 };
	struct wfs_piece pieces[] = {
		{ .off = 0, .base = WFS_NO_BASE, .dtype = WFS_DT_BYTES },
		{ .off = 1000, .base_off = 77, .base = 0, .dtype = WFS_DT_F32, .phase = 3 },
	};
	struct wfs_table_writer *w = NULL;
	struct wfs_err err = { "" };
	struct wfs_digest id;
	uint32_t index = 9;

	memset(base.table.b, 0xb1, 32);
	memset(id.b, 0xa2, 32);
	for (size_t i = 0; i < 5000; i++)
		stored_bytes[i] = (uint8_t)(i * 7);
	CHECK_INT(wfs_table_writer_new(&w, (3u << 20) + 100, &err), 0, err.msg);
	CHECK_INT(wfs_table_add_base(w, &base, &index, &err), 0, err.msg);
	CHECK_INT(index, 0, "index");
	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++)
		CHECK_INT(wfs_table_add_piece(w, &pieces[i], &err), 0, err.msg);
	CHECK_INT(wfs_table_begin_pack(w, 10, &err), 0, err.msg);
	CHECK_INT(wfs_table_add_block(w, 1, WFS_CODEC_DELTA2, stored_bytes, 5000, &err), 0, err.msg);
	CHECK_INT(wfs_table_add_block(w, 2, WFS_CODEC_SAME, NULL, 0, &err), 0, err.msg);
	CHECK_INT(wfs_table_add_block(w, 3, WFS_CODEC_ZSTD, stored_bytes, 400, &err), 0, err.msg);
	CHECK_INT(wfs_table_add_block(w, 4, WFS_CODEC_RAW, stored_bytes, 100, &err), 0, err.msg);
	CHECK_INT(wfs_table_end_pack(w, &id, 6000, &err), 0, err.msg);
	CHECK_INT(wfs_table_finish(w, out, &err), 0, err.msg);
	wfs_table_writer_free(w);
}

/* The object must never change: WFS_WRITE_GOLDEN=1 writes the file anew. */
static void test_golden(void)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	WFS_AUTO(wfs_buf_free) struct wfs_buf golden = WFS_BUF_INIT;
	struct wfs_err err = { "" };

	small_table(&raw);
	if (getenv("WFS_WRITE_GOLDEN"))
		CHECK_INT(wfs_write_file(AT_FDCWD, TESTS_DIR "/golden/table", raw.data, raw.len, 0644, &err), 0, err.msg);
	CHECK_INT(wfs_read_file(&golden, AT_FDCWD, TESTS_DIR "/golden/table", 4096, &err), 0, err.msg);
	CHECK(raw.len == golden.len && memcmp(raw.data, golden.data, raw.len) == 0);
}

static void test_read_back(void)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	struct wfs_table *t = NULL;
	struct wfs_err err = { "" };
	struct wfs_span *spans = NULL;
	struct wfs_digest want;
	struct wfs_group g;
	size_t n = 0;

	small_table(&raw);
	CHECK_INT(wfs_table_open(&t, &raw, &err), 0, err.msg);
	REQUIRE(t);
	CHECK_INT(wfs_table_n_blocks(t), 4, "blocks");
	CHECK_INT(wfs_table_block_len(t, 3), 100, "last block");
	CHECK_INT(wfs_table_stored(t), 5500, "stored");
	CHECK_INT(wfs_table_block(t, 2).off, 5010, "offset");
	CHECK_INT(wfs_table_block(t, 3).off, 5410, "offset");
	CHECK_INT(wfs_table_block(t, 3).hash, 4, "hash");
	CHECK_INT(wfs_table_n_groups(t), 1, "groups");
	g = wfs_table_group(t, 0);
	CHECK(g.off == 10 && g.len == 5500 && g.first_block == 0 && g.n_blocks == 4);
	memmove(stored_bytes + 5000, stored_bytes, 400);
	memmove(stored_bytes + 5400, stored_bytes, 100);
	wfs_sha256(&want, stored_bytes, 5500);
	CHECK(wfs_digest_equal(&want, g.digest));
	CHECK_INT(wfs_table_piece_at(t, 999), 0, "piece");
	CHECK_INT(wfs_table_piece_at(t, 1000), 1, "piece");
	CHECK_INT(wfs_table_spans(&spans, &n, t, 0, &err), 0, err.msg);
	CHECK(n == 2 && spans[1].off == 1000 && spans[1].phase == 3);
	free(spans);
	CHECK_INT(wfs_table_spans(&spans, &n, t, 1, &err), 0, err.msg);
	CHECK(n == 1 && spans[0].len == 1u << 20 && spans[0].phase == (3 + (1u << 20) - 1000) % 4);
	free(spans);
	wfs_table_close(t);
}

/* Where things are in the object, and in the arrays that it stands for. */
#define ROWS_FORM 36
#define HASHES_FORM 40
#define ARRAYS 1000			/* offsets from here on are in the arrays */
#define BASE ARRAYS
#define PIECE(i) (BASE + 72 + 24 * (i))
#define PACK PIECE(2)
#define BLOCK(i) (PACK + 56 + 16 * (i))

static const struct {
	const char *name;
	size_t at, len;			/* bytes that are overwritten */
	uint8_t bytes[8];
	int want;
} refused[] = {
	{ "not a table", 0, 1, { 'X' }, -EBADMSG },
	{ "format from the future", 3, 1, { '2' }, -EPROTONOSUPPORT },
	{ "another block size", 4, 1, { 21 }, -EPROTONOSUPPORT },
	{ "size over the limit", 15, 1, { 255 }, -EBADMSG },
	{ "size that another block count has", 10, 1, { 0x40 }, -EBADMSG },
	{ "n_bases 2^32-1", 20, 4, { 255, 255, 255, 255 }, -EBADMSG },
	{ "n_pieces 2^32-1", 24, 4, { 255, 255, 255, 255 }, -EBADMSG },
	{ "n_packs 2^32-1", 28, 4, { 255, 255, 255, 255 }, -EBADMSG },
	{ "n_groups 2^32-1", 32, 4, { 255, 255, 255, 255 }, -EBADMSG },
	{ "more groups than blocks", 32, 1, { 5 }, -EBADMSG },
	{ "a group more than digests", 32, 1, { 2 }, -EBADMSG },
	{ "rows of 2^31-1 bytes", ROWS_FORM, 4, { 255, 255, 255, 0x7f }, -EBADMSG },
	{ "rows as they are, but short", ROWS_FORM + 3, 1, { 0x80 }, -EBADMSG },
	{ "hashes of 2^31-1 bytes", HASHES_FORM, 4, { 255, 255, 255, 255 }, -EBADMSG },
	{ "hashes as they are, but short", HASHES_FORM + 3, 1, { 0x80 }, -EBADMSG },
	{ "base over the limit", BASE + 71, 1, { 1 }, -EBADMSG },
	{ "base too small for its piece", BASE + 64, 4, { 0, 0, 0x10, 0 }, -EBADMSG },
	{ "first piece not at 0", PIECE(0), 1, { 1 }, -EBADMSG },
	{ "piece without base, with offset", PIECE(0) + 8, 1, { 1 }, -EBADMSG },
	{ "second piece at 0", PIECE(1), 2, { 0, 0 }, -EBADMSG },
	{ "second piece past the end", PIECE(1) + 3, 1, { 9 }, -EBADMSG },
	{ "base offset that wraps around", PIECE(1) + 8, 8, { 255, 255, 255, 255, 255, 255, 255, 255 }, -EBADMSG },
	{ "base that is not there", PIECE(1) + 16, 1, { 1 }, -EBADMSG },
	{ "unknown element type", PIECE(1) + 20, 1, { 23 }, -EPROTONOSUPPORT },
	{ "phase of a whole element", PIECE(1) + 21, 1, { 4 }, -EBADMSG },
	{ "reserved piece byte", PIECE(1) + 23, 1, { 1 }, -EBADMSG },
	{ "pack smaller than its bytes", PACK + 32, 2, { 0x85, 0x15 }, -EBADMSG },
	{ "pack over the limit", PACK + 38, 1, { 1 }, -EBADMSG },
	{ "start behind the pack", PACK + 47, 1, { 255 }, -EBADMSG },
	{ "first pack not at block 0", PACK + 48, 1, { 1 }, -EBADMSG },
	{ "reserved pack byte", PACK + 55, 1, { 1 }, -EBADMSG },
	{ "unknown codec", BLOCK(0) + 12, 1, { 9 }, -EPROTONOSUPPORT },
	{ "same with stored bytes", BLOCK(0) + 12, 1, { WFS_CODEC_SAME }, -EBADMSG },
	{ "raw of another length", BLOCK(0) + 12, 1, { WFS_CODEC_RAW }, -EBADMSG },
	{ "delta without bytes", BLOCK(1) + 12, 1, { WFS_CODEC_DELTA2 }, -EBADMSG },
	{ "longer than its block", BLOCK(3) + 8, 4, { 101, 0, 0, 0 }, -EBADMSG },
	{ "stored bytes of 2^32-1", BLOCK(0) + 8, 4, { 255, 255, 255, 255 }, -EBADMSG },
	{ "two groups, one digest", BLOCK(0) + 10, 1, { 1 }, -EBADMSG },
};

/* The object anew with some bytes of its arrays changed. */
static void change_arrays(struct wfs_buf *object, size_t at, const uint8_t *bytes, size_t len)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf flat = WFS_BUF_INIT;
	struct wfs_table_counts c;
	struct wfs_err err = { "" };

	CHECK_INT(wfs_table_unpack(&flat, &c, object->data, object->len, &err), 0, err.msg);
	CHECK(at + len <= flat.len);
	memcpy(flat.data + at, bytes, len);
	object->len = 0;
	CHECK_INT(wfs_table_pack_object(object, &c, flat.data, &err), 0, err.msg);
}

static void test_refused(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
		struct wfs_table *t = NULL;
		struct wfs_err err = { "" };

		small_table(&raw);
		if (refused[i].at >= ARRAYS)
			change_arrays(&raw, refused[i].at - ARRAYS, refused[i].bytes, refused[i].len);
		else
			memcpy(raw.data + refused[i].at, refused[i].bytes, refused[i].len);
		CHECK_INT(wfs_table_open(&t, &raw, &err), refused[i].want, refused[i].name);
		CHECK(!t && err.msg[0]);
		wfs_table_close(t);
	}
}

static void test_lengths(void)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	struct wfs_table *t = NULL;
	struct wfs_err err = { "" };
	size_t len;

	small_table(&raw);
	len = raw.len;
	for (raw.len = 0; raw.len < len; raw.len++)
		CHECK_INT(wfs_table_open(&t, &raw, &err), -EBADMSG, "cut short");
	raw.len = len;
	CHECK_INT(wfs_buf_append(&raw, "", 1), 0, "append");
	CHECK_INT(wfs_table_open(&t, &raw, &err), -EBADMSG, "a byte more");
}

/* Many blocks and packs with random stored lengths: accessors against a plain sum. */
static void random_table(uint32_t n_blocks)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	uint32_t *lens = calloc(n_blocks, sizeof(*lens)), group = 0, in_group = 0;
	uint64_t *offs = calloc(n_blocks, sizeof(*offs)), at = 5;
	struct wfs_piece piece = { .base = WFS_NO_BASE, .dtype = WFS_DT_BF16 };
	struct wfs_digest id = { { 1 } };
	struct wfs_table_writer *w = NULL;
	struct wfs_table *t = NULL;
	struct wfs_err err = { "" };

	CHECK_INT(wfs_table_writer_new(&w, (uint64_t)n_blocks << WFS_BLOCK_SHIFT, &err), 0, err.msg);
	CHECK_INT(wfs_table_add_piece(w, &piece, &err), 0, err.msg);
	CHECK_INT(wfs_table_begin_pack(w, at, &err), 0, err.msg);
	for (uint32_t i = 0; i < n_blocks; i++) {
		lens[i] = below(3) ? below(2) ? 1 + below(9000) : 1 + below(100000) : 0;
		if (i && below(50) == 0) {
			CHECK_INT(wfs_table_end_pack(w, &id, at, &err), 0, err.msg);
			at = below(100);
			CHECK_INT(wfs_table_begin_pack(w, at, &err), 0, err.msg);
		}
		offs[i] = at;
		at += lens[i];
		CHECK_INT(wfs_table_add_block(w, i, lens[i] ? WFS_CODEC_ZSTD : WFS_CODEC_ZERO, stored_bytes, lens[i], &err),
			  0, err.msg);
	}
	CHECK_INT(wfs_table_end_pack(w, &id, at, &err), 0, err.msg);
	CHECK_INT(wfs_table_finish(w, &raw, &err), 0, err.msg);
	CHECK_INT(wfs_table_open(&t, &raw, &err), 0, err.msg);
	for (uint32_t i = 0, pack = 0; t && i < n_blocks; i++) {
		struct wfs_block_ref b = wfs_table_block(t, i);
		struct wfs_group g;

		if (b.pack != pack || in_group >= WFS_GROUP_MIN) {
			group += in_group > 0;
			in_group = 0;
			pack = b.pack;
		}
		CHECK(b.hash == i && b.len == lens[i]);
		if (b.len == 0)
			continue;
		CHECK(b.off == offs[i] && b.group == group);
		g = wfs_table_group(t, b.group);
		CHECK(g.pack == b.pack && g.off + in_group == b.off && b.off + b.len <= g.off + g.len);
		CHECK(i >= g.first_block && i < g.first_block + g.n_blocks);
		in_group += b.len;
	}
	wfs_table_close(t);
	wfs_table_writer_free(w);
	free(lens);
	free(offs);
}

static void test_random_tables(void)
{
	printf("seed %llu\n", (unsigned long long)state);
	for (uint32_t n = 1; n < 400; n += 1 + below(20))
		random_table(n);
}

static void test_empty_and_sparse(void)
{
	static const uint64_t sizes[] = { 0, 1, 1ull << 38 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
		struct wfs_piece piece = { .base = WFS_NO_BASE };
		struct wfs_table_writer *w = NULL;
		struct wfs_table *t = NULL;
		struct wfs_err err = { "" };

		CHECK_INT(wfs_table_writer_new(&w, sizes[i], &err), 0, err.msg);
		if (sizes[i])
			CHECK_INT(wfs_table_add_piece(w, &piece, &err), 0, err.msg);
		for (uint64_t k = 0; k << WFS_BLOCK_SHIFT < sizes[i]; k++)
			CHECK_INT(wfs_table_add_block(w, 0, WFS_CODEC_ZERO, NULL, 0, &err), 0, err.msg);
		CHECK_INT(wfs_table_finish(w, &raw, &err), 0, err.msg);
		CHECK_INT(wfs_table_open(&t, &raw, &err), 0, err.msg);
		CHECK(t && wfs_table_size(t) == sizes[i] && wfs_table_n_packs(t) == 0);
		wfs_table_close(t);
		wfs_table_writer_free(w);
	}
}

/* The blocks of one layout cost little more than their hashes. */
static void test_small(void)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	struct wfs_piece piece = { .base = WFS_NO_BASE, .dtype = WFS_DT_BF16 };
	struct wfs_table_writer *w = NULL;
	struct wfs_digest id = { { 1 } };
	struct wfs_err err = { "" };
	uint32_t n = 4000;

	CHECK_INT(wfs_table_writer_new(&w, (uint64_t)n << WFS_BLOCK_SHIFT, &err), 0, err.msg);
	CHECK_INT(wfs_table_add_piece(w, &piece, &err), 0, err.msg);
	CHECK_INT(wfs_table_begin_pack(w, 0, &err), 0, err.msg);
	for (uint32_t i = 0; i < n; i++)
		CHECK_INT(wfs_table_add_block(w, test_random(&state), WFS_CODEC_ZSTD, stored_bytes, 4000 + below(500), &err), 0,
			  err.msg);
	CHECK_INT(wfs_table_end_pack(w, &id, 1u << 30, &err), 0, err.msg);
	CHECK_INT(wfs_table_finish(w, &raw, &err), 0, err.msg);
	/* 8 of hash, 2 of digest, 9 bits of length in 2 bytes */
	CHECK(raw.len < n * 12u);
	wfs_table_writer_free(w);
}

TEST_MAIN(T(test_golden), T(test_read_back), T(test_refused), T(test_lengths), T(test_random_tables), T(test_empty_and_sparse),
	  T(test_small))
