/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-index.c - index files */
#include <stdlib.h>

#include "weightfs/base.h"
#include "weightfs/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int entry(void *arg, const char *tensor, const char *file, struct wfs_err *err)
{
	(void)arg;
	(void)err;
	return tensor && file ? 0 : -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wfs_err err = { "" };

	if (wfs_index_parse(data, size, entry, NULL, &err) < 0 && !err.msg[0])
		abort();
	return 0;
}
