/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz-block.c - stored bytes of a block
 *
 * Input: codec, length of the block (2 bytes), 3 times type and phase, then the stored bytes.
 * The block is allocated exactly, so that a write beside it is seen.  Its base looks a bit like weights.
 * The portable loops say the same of every input as those for this processor.
 */
#include <stdlib.h>
#include <string.h>

#include "format/delta2.h"
#include "weightfs/block.h"
#include "weightfs/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD 9
#define N_SPANS 3u

static uint8_t *decode(int *r, uint32_t len, const uint8_t *data, size_t size, const struct wfs_span spans[N_SPANS])
{
	struct wfs_err err = { "" };
	uint8_t *block = malloc(len);

	if (!block)
		abort();
	for (uint32_t i = 0; i < len; i++)
		block[i] = (uint8_t)(i % 2 ? 0x38 + i / 2 % 7 : i * 37);
	*r = wfs_block_decode(block, len, data[0], data + HEAD, size - HEAD, spans, N_SPANS, &err);
	if (*r < 0 && !err.msg[0])
		abort();
	return block;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wfs_span spans[N_SPANS];
	uint8_t *block, *portable;
	uint32_t len, at = 0;
	int r, r_portable;

	if (size < HEAD)
		return 0;
	len = N_SPANS + wfs_get16(data + 1);
	for (unsigned i = 0; i < N_SPANS; i++) {
		unsigned dtype = data[3 + 2 * i] % WFS_DT_COUNT;
		uint32_t take = i + 1 == N_SPANS ? len - at : len / N_SPANS;

		spans[i] = (struct wfs_span){ at, take, (uint8_t)dtype,
					      (uint8_t)(data[4 + 2 * i] % wfs_dtype_width(dtype)) };
		at += take;
	}
	block = decode(&r, len, data, size, spans);
	wfs_d2_portable = true;
	portable = decode(&r_portable, len, data, size, spans);
	wfs_d2_portable = false;
	if (r != r_portable || (r == 0 && memcmp(block, portable, len) != 0))
		abort();
	free(block);
	free(portable);
	return 0;
}
