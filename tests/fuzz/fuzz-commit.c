/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-commit.c - commits and weightfs-store */
#include <stdlib.h>

#include "weightfs/base.h"
#include "weightfs/version.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wfs_err err = { "" };
	struct wfs_commit c;
	struct wfs_run run;

	if (wfs_commit_parse(&c, data, size, &err) == 0 && (c.sequence == 0 || c.sequence >> 53))
		abort();
	if (wfs_store_info_parse(&run, data, size, &err) < 0 && !err.msg[0])
		abort();
	return 0;
}
