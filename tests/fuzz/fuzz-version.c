/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-version.c - what is accepted has plain names and survives formatting and parsing again */
#include <stdlib.h>
#include <string.h>

#include "weightfs/base.h"
#include "weightfs/version.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf b = WFS_BUF_INIT;
	struct wfs_version v, again;
	struct wfs_err err = { "" };

	if (wfs_version_parse(&v, data, size, &err) < 0) {
		if (!err.msg[0] || v.files)
			abort();
		return 0;
	}
	for (size_t i = 0; i < v.n_files; i++)
		if (wfs_name_check(v.files[i].path, NULL) < 0 || wfs_version_find(&v, v.files[i].path) != &v.files[i])
			abort();
	if (wfs_version_format(&b, &v) < 0 || wfs_version_parse(&again, b.data, b.len, &err) < 0 ||
	    again.n_files != v.n_files)
		abort();
	wfs_version_free(&v);
	wfs_version_free(&again);
	return 0;
}
