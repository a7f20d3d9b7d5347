/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list.c - a version of which every file is an object by itself is listed under readable names
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "publish/internal.h"
#include "weightfs/base.h"

int wfs_publish_list(struct wfs_store *store, const struct wfs_version *v, uint64_t sequence, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) struct wfs_store_name *names = calloc(v->n_files + 1, sizeof(*names));
	char dir[WFS_OBJECT_NAME];

	if (!names)
		return wfs_fail(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < v->n_files; i++) {
		const struct wfs_file *f = &v->files[i];

		if (f->size && !f->whole && !f->has_plain)
			return 0;
		names[i].path = f->path;
		if (f->size)
			wfs_object_name(names[i].object, "packs", f->whole ? &f->sha256 : &f->plain);
	}
	snprintf(dir, sizeof(dir), "models/%" PRIu64, sequence);
	return wfs_store_list(store, dir, names, v->n_files, err);
}
