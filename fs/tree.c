/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree.c - the versions' trees, as long as they are shown or the kernel remembers one of their inodes
 *
 * There are few versions at a time, so finding an inode is a binary search in each.
 *
 * Lock: tree->lock, never held across anything that waits.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tree.h"
#include "vtree.h"
#include "weightfs/base.h"

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

static int add_vtree(struct tree *t, const struct wfs_version *ver, const struct wfs_digest *id, bool link,
		     struct vtree **out)
{
	int r = vtree_make(out, ver, id, link, t->show_code, t->first, t->hash);

	if (r < 0)
		return r;
	(*out)->next = t->first;
	t->first = *out;
	return 0;
}

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
		r = add_vtree(t, ver, id, link, &v);
	if (r == 0) {
		v->gone = false;	/* it may have left and come back */
		count_lookup(v, 0);
		describe(out, v, 0);
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

int tree_lookup(struct tree *t, uint64_t dir, const char *name, struct node *out)
{
	struct vtree *v = NULL;
	struct entry *e;
	int i;

	pthread_mutex_lock(&t->lock);
	e = vtree_find(t->first, dir, &v);
	i = !e || v->gone ? -ESTALE : !e->dir ? -ENOTDIR : vtree_find_name(v, e, name);
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
	e = vtree_find(t->first, ino, &v);
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
	e = vtree_find(t->first, dir, &v);
	if (!e || v->gone) {
		r = -ESTALE;
	} else if (!e->dir || i >= e->n_children) {
		r = -ENOENT;
	} else {
		uint32_t at = v->order[e->first + i];

		if (count)
			count_lookup(v, at);
		describe(out, v, at);
		strncpy(name, vtree_name_of(v, at), WFS_NAME_LEN_MAX);
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
	e = vtree_find(t->first, ino, &v);
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
	e = vtree_find(t->first, ino, &v);
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
