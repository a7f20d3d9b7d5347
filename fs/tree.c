/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree.c - one array of entries a version
 *
 * 1. Entry 0 is the version's directory; a parent stands before its children.
 * 2. `order` lists all entries but 0 by (parent, name): the children of a directory are a range of
 *    it, so a lookup is a binary search and readdir an index.
 * 3. `by_ino` lists them by inode number.  There are few versions at a time, so finding an inode is
 *    a binary search in each.
 * 4. Hash collisions are settled when a tree is made: the later entry, in path order, is hashed
 *    again with the next salt.  So numbers depend on the version alone.
 *
 * Lock: tree->lock, never held across anything that waits.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tree.h"
#include "weightfs/base.h"
#include "weightfs/buf.h"

#define LINK_SALT 0x6b6e696cu	/* numbers of links differ from those of the directories in their place */

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

struct tree {
	pthread_mutex_t lock;
	tree_hash_fn *hash;
	bool show_code;
	struct vtree *first;
};

struct tree *tree_new(bool show_code, tree_hash_fn *hash)
{
	struct tree *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	pthread_mutex_init(&t->lock, NULL);
	t->hash = hash;
	t->show_code = show_code;
	return t;
}

static void vtree_free(struct vtree *v)
{
	if (!v)
		return;
	free(v->entry);
	free(v->order);
	free(v->by_ino);
	wfs_buf_free(&v->names);
	free(v);
}

void tree_free(struct tree *t)
{
	if (!t)
		return;
	while (t->first) {
		struct vtree *v = t->first;

		t->first = v->next;
		vtree_free(v);
	}
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static const char *name_of(const struct vtree *v, uint32_t i)
{
	return (const char *)v->names.data + v->entry[i].name;
}

/* ---- making a tree ---- */

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
	return strcmp(name_of(v, i), name_of(v, j));
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

static struct entry *find_any(struct tree *t, uint64_t ino, struct vtree **out)
{
	for (struct vtree *v = t->first; v; v = v->next) {
		int i = find_ino(v, ino);

		if (i >= 0) {
			*out = v;
			return &v->entry[i];
		}
	}
	return NULL;
}

/* digest, salt, path from the version's directory; components end in NUL, which no name has */
static int hash_entry(struct tree *t, struct vtree *v, uint32_t i)
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
		const char *name = name_of(v, up[--n]);

		if (wfs_buf_append(&key, name, strlen(name) + 1) < 0)
			return -ENOMEM;
	}
	e->ino = t->hash(key.data, key.len);
	return 0;
}

static bool taken(struct tree *t, const struct vtree *v, uint32_t k)
{
	uint64_t ino = v->entry[v->by_ino[k]].ino;
	struct vtree *other;

	return ino < INO_HASHED || ino == UINT64_MAX || find_any(t, ino, &other) ||
	       (k > 0 && v->entry[v->by_ino[k - 1]].ino == ino);
}

static int number(struct tree *t, struct vtree *v)
{
	bool again = true;
	int r;

	v->by_ino = calloc(v->n, sizeof(*v->by_ino));
	if (!v->by_ino)
		return -ENOMEM;
	for (uint32_t i = 0; i < v->n; i++) {
		v->by_ino[i] = i;
		r = hash_entry(t, v, i);
		if (r < 0)
			return r;
	}
	while (again) {
		again = false;
		qsort_r(v->by_ino, v->n, sizeof(*v->by_ino), cmp_ino, v);
		for (uint32_t k = v->n; k-- > 0;) {
			uint32_t i = v->by_ino[k];

			if (!taken(t, v, k))
				continue;
			v->entry[i].salt++;
			r = hash_entry(t, v, i);
			if (r < 0)
				return r;
			again = true;
		}
	}
	return 0;
}

static int make_vtree(struct tree *t, const struct wfs_version *ver, const struct wfs_digest *id, bool link,
		      struct vtree **out)
{
	struct vtree *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return -ENOMEM;
	v->sequence = ver->sequence;
	v->time_ns = ver->time_ns;
	v->id = *id;
	v->link = link;
	r = add_files(v, ver, t->show_code);
	if (r == 0)
		r = sort_children(v);
	if (r == 0)
		r = number(t, v);
	if (r < 0) {
		vtree_free(v);
		return r;
	}
	v->next = t->first;
	t->first = v;
	*out = v;
	return 0;
}

/* ---- asking it ---- */

static void describe(struct node *out, struct vtree *v, uint32_t i)
{
	const struct entry *e = &v->entry[i];

	*out = (struct node){
		.ino = e->ino, .size = e->size, .time_ns = v->time_ns, .sequence = v->sequence,
		.version = v->id, .dir = e->dir, .link = v->link, .file = e->file,
		.nlink = e->dir ? 2 + e->n_dirs : 1,
	};
}

static void count_lookup(struct vtree *v, uint32_t i)
{
	v->entry[i].n_lookup++;
	v->n_lookup++;
}

int tree_lookup_version(struct tree *t, const struct wfs_version *ver, const struct wfs_digest *id, bool link,
			struct node *out)
{
	struct vtree *v;
	int r = 0;

	pthread_mutex_lock(&t->lock);
	for (v = t->first; v; v = v->next)
		if (v->sequence == ver->sequence && v->link == link && wfs_digest_equal(&v->id, id))
			break;
	if (!v)
		r = make_vtree(t, ver, id, link, &v);
	if (r == 0) {
		v->gone = false;	/* it may have left and come back */
		count_lookup(v, 0);
		describe(out, v, 0);
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

static int find_name(const struct vtree *v, const struct entry *dir, const char *name)
{
	uint32_t lo = dir->first, hi = dir->first + dir->n_children;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = strcmp(name_of(v, v->order[mid]), name);

		if (c == 0)
			return (int)v->order[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return -ENOENT;
}

int tree_lookup(struct tree *t, uint64_t dir, const char *name, struct node *out)
{
	struct vtree *v = NULL;
	struct entry *e;
	int i;

	pthread_mutex_lock(&t->lock);
	e = find_any(t, dir, &v);
	i = !e || v->gone ? -ESTALE : !e->dir ? -ENOTDIR : find_name(v, e, name);
	if (i >= 0) {
		count_lookup(v, (uint32_t)i);
		describe(out, v, (uint32_t)i);
		i = 0;
	}
	pthread_mutex_unlock(&t->lock);
	return i;
}

int tree_get(struct tree *t, uint64_t ino, struct node *out)
{
	struct vtree *v = NULL;
	struct entry *e;
	int r = -ESTALE;

	pthread_mutex_lock(&t->lock);
	e = find_any(t, ino, &v);
	if (e && !v->gone) {
		describe(out, v, (uint32_t)(e - v->entry));
		r = 0;
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

int tree_child(struct tree *t, uint64_t dir, size_t i, bool count, char name[WFS_NAME_LEN_MAX + 1],
	       struct node *out)
{
	struct vtree *v = NULL;
	struct entry *e;
	int r = 0;

	pthread_mutex_lock(&t->lock);
	e = find_any(t, dir, &v);
	if (!e || v->gone) {
		r = -ESTALE;
	} else if (!e->dir || i >= e->n_children) {
		r = -ENOENT;
	} else {
		uint32_t at = v->order[e->first + i];

		if (count)
			count_lookup(v, at);
		describe(out, v, at);
		strncpy(name, name_of(v, at), WFS_NAME_LEN_MAX);
		name[WFS_NAME_LEN_MAX] = '\0';
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

uint64_t tree_parent(struct tree *t, uint64_t ino)
{
	uint64_t parent = INO_VERSIONS;
	struct vtree *v = NULL;
	struct entry *e;

	pthread_mutex_lock(&t->lock);
	e = find_any(t, ino, &v);
	if (e && e != v->entry)
		parent = v->entry[e->parent].ino;
	pthread_mutex_unlock(&t->lock);
	return parent;
}

void tree_files(struct tree *t, const struct wfs_digest *version, uint64_t *inos, size_t n)
{
	pthread_mutex_lock(&t->lock);
	for (const struct vtree *v = t->first; v; v = v->next) {
		if (v->link || !wfs_digest_equal(&v->id, version))
			continue;
		for (uint32_t i = 1; i < v->n; i++)
			if (!v->entry[i].dir && v->entry[i].file < n)
				inos[v->entry[i].file] = v->entry[i].ino;
	}
	pthread_mutex_unlock(&t->lock);
}

/* Free v when neither the replica nor the kernel knows it. */
static void drop_unused(struct tree *t, struct vtree *v)
{
	struct vtree **p = &t->first;

	if (!v->gone || v->n_lookup)
		return;
	while (*p != v)
		p = &(*p)->next;
	*p = v->next;
	vtree_free(v);
}

void tree_forget(struct tree *t, uint64_t ino, uint64_t n)
{
	struct vtree *v = NULL;
	struct entry *e;

	pthread_mutex_lock(&t->lock);
	e = find_any(t, ino, &v);
	if (e) {
		n = WFS_MIN(n, e->n_lookup);
		e->n_lookup -= n;
		v->n_lookup -= n;
		drop_unused(t, v);
	}
	pthread_mutex_unlock(&t->lock);
}

void tree_left(struct tree *t, uint64_t sequence)
{
	struct vtree *next;

	pthread_mutex_lock(&t->lock);
	for (struct vtree *v = t->first; v; v = next) {
		next = v->next;
		if (v->sequence != sequence)
			continue;
		v->gone = true;
		drop_unused(t, v);
	}
	pthread_mutex_unlock(&t->lock);
}
