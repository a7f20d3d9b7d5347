/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vtree.c - one array of entries a version
 *
 * 1. Entry 0 is the version's directory; a parent stands before its children.
 * 2. `order` lists all entries but 0 by (parent, name): the children of a directory are a range of
 *    it, so a lookup is a binary search and readdir an index.
 * 3. `by_ino` lists them by inode number.
 * 4. Hash collisions are settled when a tree is made: the later entry, in path order, is hashed
 *    again with the next salt.  So numbers depend on the version alone.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vtree.h"
#include "weightfs/base.h"

#define LINK_SALT 0x6b6e696cu	/* numbers of links differ from those of the directories in their place */

void vtree_free(struct vtree *v)
{
	if (!v)
		return;
	free(v->entry);
	free(v->order);
	free(v->by_ino);
	wfs_buf_free(&v->names);
	free(v);
}

const char *vtree_name_of(const struct vtree *v, uint32_t i)
{
	return (const char *)v->names.data + v->entry[i].name;
}

/* ---- finding ---- */

static int find_ino(const struct vtree *v, uint64_t ino)
{
	uint32_t lo = 0, hi = v->n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		uint64_t at = v->entry[v->by_ino[mid]].ino;

		if (at == ino)
			return (int)v->by_ino[mid];
		if (at < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	return -1;
}

struct entry *vtree_find(struct vtree *first, uint64_t ino, struct vtree **out)
{
	for (struct vtree *v = first; v; v = v->next) {
		int i = find_ino(v, ino);

		if (i >= 0) {
			*out = v;
			return &v->entry[i];
		}
	}
	return NULL;
}

int vtree_find_name(const struct vtree *v, const struct entry *dir, const char *name)
{
	uint32_t lo = dir->first, hi = dir->first + dir->n_children;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = strcmp(vtree_name_of(v, v->order[mid]), name);

		if (c == 0)
			return (int)v->order[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return -ENOENT;
}

/* ---- making ---- */

static int add_entry(struct vtree *v, uint32_t parent, const char *name, size_t len, uint32_t *out)
{
	struct entry *e;

	if (v->n == v->cap) {
		uint32_t cap = v->cap ? v->cap * 2 : 64;

		e = realloc(v->entry, cap * sizeof(*e));
		if (!e)
			return -ENOMEM;
		v->entry = e;
		v->cap = cap;
	}
	e = &v->entry[v->n];
	*e = (struct entry){ .parent = parent, .name = (uint32_t)v->names.len };
	if (wfs_buf_append(&v->names, name, len) < 0 || wfs_buf_append(&v->names, "", 1) < 0)
		return -ENOMEM;
	*out = v->n++;
	return 0;
}

/* Files come sorted by path, so those of one directory follow each other and `dir`, the
 * directory of the file before, tells which parts are already there. */
static int add_file(struct vtree *v, uint32_t *dir, const char *prev, const char *path, uint32_t file,
		    uint64_t size)
{
	size_t same = 0, i = 0;
	uint32_t at = 0, depth = 0, up[WFS_PATH_DEPTH_MAX + 1], n_up = 0;
	const char *slash;
	int r;

	/* the directories of prev, outermost first */
	for (uint32_t d = *dir; d; d = v->entry[d].parent)
		n_up++;
	assert(n_up <= WFS_PATH_DEPTH_MAX);
	for (uint32_t d = *dir, k = n_up; d; d = v->entry[d].parent)
		up[--k] = d;
	while (prev[same] && prev[same] == path[same])
		same++;
	while ((slash = strchr(path + i, '/'))) {
		size_t end = (size_t)(slash - path);

		if (depth < n_up && end < same) {
			at = up[depth];
		} else {
			r = add_entry(v, at, path + i, end - i, &at);
			if (r < 0)
				return r;
			v->entry[at].dir = true;
			n_up = 0;
		}
		depth++;
		i = end + 1;
	}
	*dir = at;
	r = add_entry(v, at, path + i, strlen(path + i), &at);
	if (r < 0)
		return r;
	v->entry[at].file = file;
	v->entry[at].size = size;
	return 0;
}

static int add_files(struct vtree *v, const struct wfs_version *ver, bool show_code)
{
	const char *prev = "";
	uint32_t dir = 0, root;
	int r;

	r = add_entry(v, 0, "", 0, &root);
	if (r < 0)
		return r;
	v->entry[root].dir = !v->link;
	v->entry[root].salt = v->link ? LINK_SALT : 0;
	for (size_t i = 0; !v->link && i < ver->n_files; i++) {
		const struct wfs_file *f = &ver->files[i];

		if (!show_code && wfs_name_is_code(f->path))
			continue;
		r = add_file(v, &dir, prev, f->path, (uint32_t)i, f->size);
		if (r < 0)
			return r;
		prev = f->path;
	}
	return 0;
}

static int cmp_order(const void *a, const void *b, void *arg)
{
	const struct vtree *v = arg;
	uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;

	if (v->entry[i].parent != v->entry[j].parent)
		return v->entry[i].parent < v->entry[j].parent ? -1 : 1;
	return strcmp(vtree_name_of(v, i), vtree_name_of(v, j));
}

static int cmp_ino(const void *a, const void *b, void *arg)
{
	const struct vtree *v = arg;
	uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;

	if (v->entry[i].ino != v->entry[j].ino)
		return v->entry[i].ino < v->entry[j].ino ? -1 : 1;
	return i < j ? -1 : i > j;
}

static int sort_children(struct vtree *v)
{
	v->order = calloc(v->n, sizeof(*v->order));
	if (!v->order)
		return -ENOMEM;
	for (uint32_t i = 1; i < v->n; i++)
		v->order[i - 1] = i;
	qsort_r(v->order, v->n - 1, sizeof(*v->order), cmp_order, v);
	for (uint32_t k = 0; k + 1 < v->n; k++) {
		const struct entry *e = &v->entry[v->order[k]];
		struct entry *p = &v->entry[e->parent];

		if (!p->n_children++)
			p->first = k;
		p->n_dirs += e->dir;
	}
	return 0;
}

/* digest, salt, path from the version's directory; components end in NUL, which no name has */
static int hash_entry(struct vtree *v, uint32_t i, tree_hash_fn *hash)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf key = WFS_BUF_INIT;
	uint32_t up[WFS_PATH_DEPTH_MAX + 1];
	struct entry *e = &v->entry[i];
	uint8_t salt[4];
	size_t n = 0;

	wfs_put32(salt, e->salt);
	if (wfs_buf_append(&key, v->id.b, sizeof(v->id.b)) < 0 || wfs_buf_append(&key, salt, 4) < 0)
		return -ENOMEM;
	for (uint32_t d = i; d; d = v->entry[d].parent)
		up[n++] = d;
	while (n > 0) {
		const char *name = vtree_name_of(v, up[--n]);

		if (wfs_buf_append(&key, name, strlen(name) + 1) < 0)
			return -ENOMEM;
	}
	e->ino = hash(key.data, key.len);
	return 0;
}

static bool taken(struct vtree *others, const struct vtree *v, uint32_t k)
{
	uint64_t ino = v->entry[v->by_ino[k]].ino;
	struct vtree *other;

	return ino < INO_HASHED || ino == UINT64_MAX || vtree_find(others, ino, &other) ||
	       (k > 0 && v->entry[v->by_ino[k - 1]].ino == ino);
}

static int number(struct vtree *v, struct vtree *others, tree_hash_fn *hash)
{
	bool again = true;
	int r;

	v->by_ino = calloc(v->n, sizeof(*v->by_ino));
	if (!v->by_ino)
		return -ENOMEM;
	for (uint32_t i = 0; i < v->n; i++) {
		v->by_ino[i] = i;
		r = hash_entry(v, i, hash);
		if (r < 0)
			return r;
	}
	while (again) {
		again = false;
		qsort_r(v->by_ino, v->n, sizeof(*v->by_ino), cmp_ino, v);
		for (uint32_t k = v->n; k-- > 0;) {
			uint32_t i = v->by_ino[k];

			if (!taken(others, v, k))
				continue;
			v->entry[i].salt++;
			r = hash_entry(v, i, hash);
			if (r < 0)
				return r;
			again = true;
		}
	}
	return 0;
}

int vtree_make(struct vtree **out, const struct wfs_version *ver, const struct wfs_digest *id, bool link,
	       bool show_code, struct vtree *others, tree_hash_fn *hash)
{
	struct vtree *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return -ENOMEM;
	v->sequence = ver->sequence;
	v->time_ns = ver->time_ns;
	v->id = *id;
	v->link = link;
	r = add_files(v, ver, show_code);
	if (r == 0)
		r = sort_children(v);
	if (r == 0)
		r = number(v, others, hash);
	if (r < 0) {
		vtree_free(v);
		return r;
	}
	*out = v;
	return 0;
}
