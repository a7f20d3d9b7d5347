/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz-block.c - stored bytes of a block
 *
 * Input: codec, length of the block (2 bytes), 3 times type and phase, then the stored bytes.
 * The block is allocated exactly, so that a write beside it is seen.  Its base looks a bit like weights.
 */
#include <stdlib.h>

#include "weightfs/base.h"
#include "weightfs/block.h"
#include "weightfs/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD 9
#define N_SPANS 3u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wfs_span spans[N_SPANS];
	struct wfs_err err = { "" };
	uint32_t len, at = 0;
	uint8_t *block;

	if (size < HEAD)
		return 0;
	len = N_SPANS + wfs_get16(data + 1);
	block = malloc(len);
	for (uint32_t i = 0; block && i < len; i++)
		block[i] = (uint8_t)(i % 2 ? 0x38 + i / 2 % 7 : i * 37);
	for (unsigned i = 0; block && i < N_SPANS; i++) {
		unsigned dtype = data[3 + 2 * i] % WFS_DT_COUNT;
		uint32_t take = i + 1 == N_SPANS ? len - at : len / N_SPANS;

		spans[i] = (struct wfs_span){ at, take, (uint8_t)dtype,
					      (uint8_t)(data[4 + 2 * i] % wfs_dtype_width(dtype)) };
		at += take;
	}
	if (block && wfs_block_decode(block, len, data[0], data + HEAD, size - HEAD, spans, N_SPANS, &err) < 0 &&
	    !err.msg[0])
		abort();
	free(block);
	return 0;
}
