/* SPDX-License-Identifier: Apache-2.0 */
/*
 * needs.c - what versions are built from, for those who check it
 */
#include <errno.h>
#include <stdlib.h>

#include "publish/kept.h"
#include "publish/mark.h"
#include "weightfs/base.h"
#include "weightfs/gc.h"

struct wfs_needs {
	struct wfs_marks marks;
};

int wfs_needs_begin(struct wfs_needs **out, struct wfs_store *store, const atomic_bool *cancel, struct wfs_err *err)
{
	struct wfs_needs *n = calloc(1, sizeof(*n));

	if (!n)
		return wfs_fail(err, -ENOMEM, "out of memory");
	n->marks.store = store;
	n->marks.cancel = cancel;
	*out = n;
	return 0;
}

void wfs_needs_end(struct wfs_needs *n)
{
	if (n)
		wfs_marks_free(&n->marks);
	free(n);
}

int wfs_needs_oldest(struct wfs_needs *n, const struct wfs_version *oldest, struct wfs_err *err)
{
	return wfs_kept_shortcuts(&n->marks, oldest, err);
}

int wfs_needs_file(struct wfs_needs *n, const struct wfs_file *f, struct wfs_err *err)
{
	return wfs_marks_file(&n->marks, f, err);
}

int wfs_needs_each(const struct wfs_needs *n, int (*fn)(void *arg, const struct wfs_digest *table), void *arg)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n->marks.cap; i++)
		if (n->marks.v[i].kind == 't')
			r = fn(arg, &n->marks.v[i].id);
	return r;
}
