/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vtree.h - names and inode numbers of one version, for tree.c
 *
 * But for the counters and `gone', which are tree.c's, nothing changes once it is made.
 */
#ifndef FS_VTREE_H
#define FS_VTREE_H

#include <stdbool.h>
#include <stdint.h>

#include "tree.h"
#include "weightfs/buf.h"

/* A name in a version. */
struct entry {
	uint64_t ino, size, n_lookup;
	uint32_t parent, name, salt;
	uint32_t first, n_children, n_dirs;	/* of `order` */
	uint32_t file;
	bool dir;
};

struct vtree {
	struct vtree *next;
	uint64_t sequence, time_ns;
	struct wfs_digest id;
	uint64_t n_lookup;		/* sum over the entries */
	bool link;			/* one entry, not a directory */
	bool gone;			/* not shown any more: freed with the last lookup */
	uint32_t n, cap;
	struct entry *entry;
	uint32_t *order, *by_ino;
	struct wfs_buf names;		/* NUL-terminated components */
};

/* Of the version's list of files, or (link) of the symbolic link that it is shown as.  No number is one of
 * others', a list.  -ENOMEM. */
int vtree_make(struct vtree **out, const struct wfs_version *ver, const struct wfs_digest *id, bool link,
	       bool show_code, struct vtree *others, tree_hash_fn *hash);
void vtree_free(struct vtree *v);		/* NULL is fine */

const char *vtree_name_of(const struct vtree *v, uint32_t i);
/* A name in a directory: its entry's index.  -ENOENT. */
int vtree_find_name(const struct vtree *v, const struct entry *dir, const char *name);
/* The entry with that number in one of a list of trees, *out; NULL: in none. */
struct entry *vtree_find(struct vtree *first, uint64_t ino, struct vtree **out);

#endif
