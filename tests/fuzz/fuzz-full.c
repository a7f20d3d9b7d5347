/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-full.c - bytes of a block (behind type and phase of three spans) are stored without a base and come back */
#include <stdlib.h>
#include <string.h>

#include "weightfs/base.h"
#include "weightfs/block.h"
#include "weightfs/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond) do { if (!(cond)) abort(); } while (0)
#define N_SPANS 3u
#define HEAD (2 * N_SPANS)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
	struct wfs_span spans[N_SPANS];
	uint32_t len, at = 0;
	unsigned codec;
	uint8_t *back;

	if (size < HEAD + N_SPANS || size - HEAD > WFS_BLOCK_SIZE)
		return 0;
	len = (uint32_t)(size - HEAD);
	for (unsigned i = 0; i < N_SPANS; i++) {
		unsigned dtype = data[2 * i] % WFS_DT_COUNT;
		uint32_t take = i + 1 == N_SPANS ? len - at : len / N_SPANS;

		spans[i] = (struct wfs_span){ at, take, (uint8_t)dtype, (uint8_t)(data[2 * i + 1] % wfs_dtype_width(dtype)) };
		at += take;
	}
	back = malloc(len);
	MUST(back);
	MUST(wfs_block_encode(&out, &codec, NULL, data + HEAD, len, spans, N_SPANS, NULL) == 0 && out.len <= len);
	MUST(wfs_block_decode(back, len, codec, out.data, out.len, spans, N_SPANS, NULL) == 0);
	MUST(memcmp(back, data + HEAD, len) == 0);
	free(back);
	return 0;
}
