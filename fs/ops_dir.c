/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_dir.c - directories: what is in them, entry after entry
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs.h"
#include "hub.h"
#include "ops_internal.h"
#include "passthrough.h"
#include "weightfs/base.h"

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;
	int r = ops_stat(&st, req, ino);

	if (r == 0 && !S_ISDIR(st.st_mode))
		r = -ENOTDIR;
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	fi->cache_readdir = fi->keep_cache = !ops_changes(ino);
	fuse_reply_open(req, fi);
}

/* False: it does not fit any more. */
static bool dir_add(struct dirbuf *d, const char *name, const struct fuse_entry_param *e, uint64_t next)
{
	size_t room = d->cap - d->len, n;

	if (d->plus)
		n = fuse_add_direntry_plus(d->req, d->data + d->len, room, name, e, (off_t)next);
	else
		n = fuse_add_direntry(d->req, d->data + d->len, room, name, &e->attr, (off_t)next);
	if (n > room)
		return false;
	d->len += n;
	return true;
}

bool dir_add_plain(struct dirbuf *d, const char *name, uint64_t ino, mode_t type, uint64_t next)
{
	struct fuse_entry_param e = { .attr = { .st_ino = ino, .st_mode = type } };

	/* in a plus listing, inode 0 tells the kernel to look the name up when it needs it */
	return dir_add(d, name, &e, next);
}

/* Offsets: 1 after ".", 2 after "..", then 2 + what the kind of directory counts by. */
static bool list_dots(struct dirbuf *d, uint64_t ino, uint64_t parent, uint64_t *off)
{
	if (*off == 0) {
		if (!dir_add_plain(d, ".", ino, S_IFDIR, 1))
			return false;
		*off = 1;
	}
	if (*off == 1) {
		if (!dir_add_plain(d, "..", parent, S_IFDIR, 2))
			return false;
		*off = 2;
	}
	return true;
}

static int list_fixed(struct dirbuf *d, uint64_t ino, uint64_t off)
{
	bool shown = ops_n_versions(fs_of(d->req)) > 0;	/* to list is not to look through `latest` */
	const struct fixed *f;

	for (size_t i = (size_t)off - 2; (f = ops_fixed(i)); i++) {
		if (f->parent != ino)
			continue;
		if (f->ino == INO_LATEST && !shown)
			continue;
		if (f->ino == INO_TEST && !passthrough_test_id(fs_of(d->req)->pass))
			continue;
		if (!dir_add_plain(d, f->name, f->ino, f->type, i + 3))
			break;
	}
	return 0;
}

/* A version's place is its number, so a listing goes on rightly while versions come and go. */
static int list_versions(struct dirbuf *d, uint64_t off)
{
	WFS_AUTO(wfs_free_ptr) uint64_t *list = NULL;
	struct fs *fs = fs_of(d->req);
	size_t n = 0;
	int r;

	r = wfs_replica_list(fs->replica, &list, &n);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		struct node node;
		char name[24];

		if (list[i] + 2 <= off)
			continue;
		snprintf(name, sizeof(name), "%" PRIu64, list[i]);
		if (ops_find_version(&node, fs, name) < 0)
			continue;
		tree_forget(fs->tree, node.ino, 1);
		if (!dir_add_plain(d, name, node.ino, node.link ? S_IFLNK : S_IFDIR, list[i] + 2))
			break;
	}
	return 0;
}

static int list_tree(struct dirbuf *d, uint64_t ino, uint64_t off)
{
	struct fs *fs = fs_of(d->req);
	char name[WFS_NAME_LEN_MAX + 1];
	struct node n;

	for (size_t i = (size_t)off - 2;; i++) {
		struct fuse_entry_param e = { .generation = 1, .attr_timeout = FOREVER,
					      .entry_timeout = FOREVER };
		int r = tree_child(fs->tree, ino, i, d->plus, name, &n);

		if (r < 0)
			return r == -ENOENT ? 0 : r;
		e.ino = n.ino;
		ops_fill_node(&e.attr, fs, &n);
		if (dir_add(d, name, &e, i + 3))
			continue;
		if (d->plus)
			tree_forget(fs->tree, n.ino, 1);
		return 0;
	}
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	struct dirbuf d = { .req = req, .cap = size, .plus = plus };
	uint64_t parent = hub_is(ino) ? hub_parent(ino) : ino < INO_HASHED ? INO_ROOT :
			  tree_parent(fs_of(req)->tree, ino);
	uint64_t at = (uint64_t)off;
	int r = 0;

	d.data = malloc(size);
	if (!d.data) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	if (list_dots(&d, ino, parent, &at)) {
		if (hub_is(ino))
			r = hub_list(&d, ino, at);
		else if (ino == INO_VERSIONS)
			r = list_versions(&d, at);
		else if (ino < INO_HASHED)
			r = list_fixed(&d, ino, at);
		else
			r = list_tree(&d, ino, at);
	}
	if (r < 0 && d.len == 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_buf(req, d.data, d.len);
	free(d.data);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, true);
}
