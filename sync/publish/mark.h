/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark.h - the objects of a store that are needed
 */
#ifndef WFS_PUBLISH_MARK_H
#define WFS_PUBLISH_MARK_H

#include <stdatomic.h>

#include "weightfs/store.h"
#include "weightfs/version.h"

struct wfs_mark {
	struct wfs_digest id;
	char kind;			/* first letter: versions tables layouts packs; 'c': chain followed */
};

struct wfs_marks {
	struct wfs_store *store;
	const atomic_bool *cancel;
	struct wfs_mark *v;		/* open addressing; kind 0: free */
	size_t n, cap;
	struct wfs_shortcut *shortcuts;
	size_t n_shortcuts;
};

/* A file content, by its table, and a stride that leads to it. */
struct wfs_shortcut {
	struct wfs_digest table, stride;
};

int wfs_marks_add(struct wfs_marks *m, const char *kind, const struct wfs_digest *id, struct wfs_err *err);
bool wfs_marks_has(const struct wfs_marks *m, const char *kind, const struct wfs_digest *id);
/* A version object, marked or not; the caller frees *out.  -ENOENT without a message (peek only). */
int wfs_marks_version(struct wfs_marks *m, const struct wfs_digest *id, struct wfs_version *out, struct wfs_err *err);
int wfs_marks_peek(struct wfs_marks *m, const struct wfs_digest *id, struct wfs_version *out, struct wfs_err *err);
/* All objects that the version names, and all that its files are built from. */
int wfs_marks_file(struct wfs_marks *m, const struct wfs_file *f, struct wfs_err *err);
int wfs_marks_files(struct wfs_marks *m, const struct wfs_version *v, struct wfs_err *err);
/* What that version's files are built from may be reached by its strides. */
int wfs_marks_shortcuts(struct wfs_marks *m, const struct wfs_version *v, struct wfs_err *err);
void wfs_marks_free(struct wfs_marks *m);

#endif
