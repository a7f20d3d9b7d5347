/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_xattr.c - what a file of a version says about itself: version, digest, mode
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ops_internal.h"
#include "ops_xattr.h"
#include "weightfs/base.h"

#define VALUE_MAX 96			/* "sha256:" and 64 digits fit */

struct file {
	struct fs *fs;
	uint64_t ino;
	struct wfs_model *m;
	size_t i;
};

static void value_version(char out[VALUE_MAX], const struct file *f)
{
	snprintf(out, VALUE_MAX, "%" PRIu64, wfs_model_version(f->m)->sequence);
}

static void value_digest(char out[VALUE_MAX], const struct file *f)
{
	const struct wfs_file *file = &wfs_model_version(f->m)->files[f->i];
	const struct wfs_digest *d = file->whole ? &file->sha256 : file->has_plain ? &file->plain : &file->table;

	snprintf(out, VALUE_MAX, "%s:%s", d == &file->table ? "table" : "sha256", wfs_hex(d).s);
}

/* Of an open file as it is; of another as it would be opened. */
static void value_mode(char out[VALUE_MAX], const struct file *f)
{
	struct wfs_file_status st;
	unsigned n_open;

	wfs_model_file_status(f->m, f->i, &st);
	snprintf(out, VALUE_MAX, "%s", fs_file_mode(f->fs, f->m, f->i, f->ino, &st, &n_open));
}

static const struct {
	const char *name;
	void (*value)(char out[VALUE_MAX], const struct file *f);
} attrs[] = {
	{ "user.weightfs.version", value_version },
	{ "user.weightfs.digest", value_digest },
	{ "user.weightfs.mode", value_mode },
};

/* -ENODATA: not a file of a version.  -ESTALE.  The caller puts f->m. */
static int find(struct file *f, fuse_req_t req, uint64_t ino)
{
	struct node n;
	int r = ino < INO_HASHED ? -ENODATA : tree_get(fs_of(req)->tree, ino, &n);

	*f = (struct file){ .fs = fs_of(req), .ino = ino };
	if (r < 0 || n.dir || n.link)
		return r < 0 ? r : -ENODATA;
	f->m = wfs_replica_find(f->fs->replica, n.sequence);
	f->i = n.file;
	if (f->m && wfs_digest_equal(wfs_model_id(f->m), &n.version))
		return 0;
	wfs_model_put(f->m);
	return -ESTALE;
}

static void reply(fuse_req_t req, const char *value, size_t len, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, len);
	else if (len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value, len);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	char value[VALUE_MAX];
	struct file f;
	size_t k = 0;
	int r;

	while (k < ARRAY_SIZE(attrs) && strcmp(attrs[k].name, name) != 0)
		k++;
	r = k < ARRAY_SIZE(attrs) ? find(&f, req, ino) : -ENODATA;
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	attrs[k].value(value, &f);
	wfs_model_put(f.m);
	reply(req, value, strlen(value), size);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	char list[ARRAY_SIZE(attrs) * VALUE_MAX];
	size_t len = 0;
	struct file f;
	int r = find(&f, req, ino);

	if (r < 0 && r != -ENODATA) {
		fuse_reply_err(req, -r);
		return;
	}
	for (size_t k = 0; r == 0 && k < ARRAY_SIZE(attrs); k++) {
		memcpy(list + len, attrs[k].name, strlen(attrs[k].name) + 1);
		len += strlen(attrs[k].name) + 1;
	}
	wfs_model_put(f.m);
	reply(req, list, len, size);
}
