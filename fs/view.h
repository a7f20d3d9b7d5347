/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view.h - an open file: a range of it becomes a range of one file of one version
 *
 * A view holds its model, so a new version never changes an open file and the version stays.
 */
#ifndef FS_VIEW_H
#define FS_VIEW_H

#include <stddef.h>
#include <stdint.h>

#include "bind.h"
#include "tree.h"
#include "weightfs/replica.h"

struct view {
	struct view *next, **prev;
	struct wfs_model *model;	/* NULL: generated text */
	size_t file;
	uint64_t size, sequence;
	const char *path;		/* in the version; lives in model */
	struct bind_key user;		/* who opened it */
	struct wfs_buf text;
};

/* All open views, so that the end of the mount can close what nobody released. */
struct views;
struct views *views_new(void);			/* NULL: out of memory */
void views_free(struct views *vs);		/* closes them all */
size_t views_count(struct views *vs);		/* of model files */

/* -ESTALE: the version has left.  -ENOMEM. */
int view_open(struct view **out, struct views *vs, struct wfs_replica *r, const struct node *n,
	      struct bind_key user);
/* A view of generated text; takes it over. */
int view_open_text(struct view **out, struct views *vs, struct wfs_buf *text);
void view_close(struct views *vs, struct view *v);

/* How much of [off, off+len) lies in the file; a shorter count is end of file, nothing else. */
size_t view_clamp(const struct view *v, uint64_t off, size_t len);
/* len bytes at off, already clamped and not 0, until wfs_loan_end.  -EAGAIN: view_want first. */
int view_lend(struct view *v, struct wfs_loan *l, size_t len, uint64_t off, struct wfs_err *err);
void view_want(struct view *v, uint64_t off, size_t len, struct wfs_want *w);

#endif
