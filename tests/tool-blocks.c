/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool-blocks.c - tool-blocks FILE.safetensors [BASE]: how fast its blocks are stored and read back
 *
 * Every block in full, or against the same block of BASE, one thread.  Prints: bytes of the file, bytes
 * stored, GB/s of the file's bytes encoded and decoded.  The best of three rounds; files are in memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "weightfs/base.h"
#include "weightfs/block.h"
#include "weightfs/io.h"
#include "weightfs/safetensors.h"
#include "weightfs/table.h"

#define ROUNDS 3

struct job {
	struct wfs_buf file, base, stored;
	struct wfs_piece *pieces;
	size_t n_pieces;
	uint64_t encode_ns, decode_ns;
};

static int pieces(struct job *j, struct wfs_err *err)
{
	struct wfs_safetensors *st;
	uint64_t head;
	int r = j->file.len < 8 ? -EBADMSG : wfs_safetensors_header_len(&head, j->file.data, j->file.len, err);

	if (r == 0)
		r = wfs_safetensors_open(&st, j->file.data, head, j->file.len, err);
	if (r < 0)
		return r;
	j->pieces = calloc(wfs_safetensors_count(st) + 1, sizeof(*j->pieces));
	j->n_pieces = 1;
	for (size_t i = 0; j->pieces && i < wfs_safetensors_count(st); i++) {
		const struct wfs_tensor *t = wfs_safetensors_at(st, i);

		if (t->begin < t->end)
			j->pieces[j->n_pieces++] = (struct wfs_piece){ .off = t->begin, .dtype = t->dtype };
	}
	wfs_safetensors_close(st);
	return j->pieces ? 0 : -ENOMEM;
}

static int one_block(struct job *j, uint64_t off, uint8_t *back, struct wfs_err *err)
{
	uint32_t len = (uint32_t)WFS_MIN((uint64_t)WFS_BLOCK_SIZE, j->file.len - off);
	WFS_AUTO(wfs_free_ptr) struct wfs_span *spans = NULL;
	const uint8_t *base = j->base.len ? j->base.data + off : NULL, *next = j->file.data + off;
	size_t n, start = j->stored.len;
	uint64_t t[3];
	unsigned codec;
	int r = wfs_pieces_spans(&spans, &n, j->pieces, j->n_pieces, off, len, err);

	t[0] = wfs_now_ns();
	if (r == 0)
		r = wfs_block_encode(&j->stored, &codec, base, next, len, spans, n, err);
	t[1] = wfs_now_ns();
	if (r == 0 && base)
		memcpy(back, base, len);
	if (r == 0)
		r = wfs_block_decode(back, len, codec, j->stored.data + start, j->stored.len - start, spans, n, err);
	t[2] = wfs_now_ns();
	j->encode_ns += t[1] - t[0];
	j->decode_ns += t[2] - t[1];
	if (r == 0 && memcmp(back, next, len) != 0)
		r = wfs_fail(err, -EIO, "block at %llu does not come back", (unsigned long long)off);
	return r;
}

int main(int argc, char **argv)
{
	struct job j = { .n_pieces = 0 };
	uint64_t encode = UINT64_MAX, decode = UINT64_MAX;
	static uint8_t back[WFS_BLOCK_SIZE];
	struct wfs_err err = { "" };
	int r;

	if (argc < 2 || argc > 3)
		return 2;
	r = wfs_read_file(&j.file, AT_FDCWD, argv[1], SIZE_MAX / 2, &err);
	if (r == 0 && argc == 3)
		r = wfs_read_file(&j.base, AT_FDCWD, argv[2], SIZE_MAX / 2, &err);
	if (r == 0 && argc == 3 && j.base.len != j.file.len)
		r = wfs_fail(&err, -EINVAL, "the files differ in size");
	if (r == 0)
		r = pieces(&j, &err);
	for (int k = 0; k < ROUNDS && r == 0; k++) {
		j.stored.len = 0;
		j.encode_ns = j.decode_ns = 0;
		for (uint64_t off = 0; r == 0 && off < j.file.len; off += WFS_BLOCK_SIZE)
			r = one_block(&j, off, back, &err);
		encode = WFS_MIN(encode, j.encode_ns);
		decode = WFS_MIN(decode, j.decode_ns);
	}
	if (r < 0) {
		fprintf(stderr, "tool-blocks: %s\n", err.msg);
		return 1;
	}
	printf("%zu %zu %.2f %.2f\n", j.file.len, j.stored.len, (double)j.file.len / (double)encode,
	       (double)j.file.len / (double)decode);
	return 0;
}
