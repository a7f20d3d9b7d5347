/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz-delta.c - what is encoded decodes to what the block became, and the portable loops encode the same
 *
 * Input: number of repetitions, 2 times type and phase; then the base, and what is added to it.
 */
#include <stdlib.h>
#include <string.h>

#include "format/delta2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD 5
#define N_SPANS 2u

static void round_trip(const uint8_t *base, const uint8_t *next, uint8_t *block, uint32_t len,
		       const struct wfs_span *spans, size_t n_spans)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT, portable = WFS_BUF_INIT;
	struct wfs_err err = { "" };
	bool fits;

	if (wfs_delta2_encode(&out, &fits, base, next, len, spans, n_spans, SIZE_MAX, &err) < 0)
		abort();
	memcpy(block, base, len);
	if (wfs_delta2_decode(block, out.data, out.len, spans, n_spans, &err) < 0 || memcmp(block, next, len) != 0)
		abort();
	wfs_d2_portable = true;
	if (wfs_delta2_encode(&portable, &fits, base, next, len, spans, n_spans, SIZE_MAX, &err) < 0)
		abort();
	wfs_d2_portable = false;
	if (portable.len != out.len || memcmp(portable.data, out.data, out.len) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wfs_span spans[N_SPANS];
	uint32_t half = size > HEAD ? (uint32_t)(size - HEAD) / 2 : 0, len, at = 0;
	uint8_t *base, *next, *block;

	if (half == 0 || half > 4096)
		return 0;
	len = half * (1 + data[0] % 16);
	base = malloc(len);
	next = malloc(len);
	block = malloc(len);
	if (!base || !next || !block)
		abort();
	for (uint32_t i = 0; i < len; i++) {
		base[i] = data[HEAD + i % half];
		next[i] = (uint8_t)(base[i] + data[HEAD + half + i % half]);
	}
	for (unsigned i = 0; i < N_SPANS; i++) {
		unsigned dtype = data[1 + 2 * i] % WFS_DT_COUNT;
		uint32_t take = i + 1 == N_SPANS ? len - at : len / N_SPANS;

		spans[i] = (struct wfs_span){ at, take, (uint8_t)dtype, (uint8_t)(data[2 + 2 * i] % wfs_dtype_width(dtype)) };
		at += take;
	}
	round_trip(base, next, block, len, spans + (len < N_SPANS), N_SPANS - (len < N_SPANS));
	free(base);
	free(next);
	free(block);
	return 0;
}
