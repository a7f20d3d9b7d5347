/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-safetensors.c - a whole file whose header is foreign; tensors lie in the file, in order */
#include <stdlib.h>

#include "weightfs/base.h"
#include "weightfs/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wfs_safetensors *st = NULL;
	struct wfs_err err = { "" };
	uint64_t len, at;

	if (size < 8 || wfs_safetensors_header_len(&len, data, size, &err) < 0)
		return 0;
	if (wfs_safetensors_open(&st, data, len, size, &err) < 0) {
		if (!err.msg[0])
			abort();
		return 0;
	}
	at = wfs_safetensors_data(st);
	for (size_t i = 0; i < wfs_safetensors_count(st); i++) {
		const struct wfs_tensor *t = wfs_safetensors_at(st, i);

		if (t->begin != at || t->end < at || t->end > size || wfs_safetensors_find(st, t->name) != t)
			abort();
		at = t->end;
	}
	wfs_safetensors_close(st);
	return 0;
}
