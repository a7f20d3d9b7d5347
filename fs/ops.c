/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops.c - names and attributes: request -> call -> reply, no policy
 *
 * Inside a version nothing ever changes, so entries and attributes are cached for ever and no page
 * is ever invalidated.  What may change is never cached: `latest` (its READLINK is how we learn who
 * asks), the lists of the directories outside the versions, and names that are not there.
 * Directories are in ops_dir.c, reads in ops_read.c, extended attributes in ops_xattr.c, hub/ is in hub.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "fs.h"
#include "ops.h"
#include "hub.h"
#include "ops_deny.h"
#include "number.h"
#include "ops_internal.h"
#include "ops_read.h"
#include "ops_xattr.h"
#include "passthrough.h"
#include "selftest.h"
#include "weightfs/base.h"
#include "weightfs/log.h"

#define REQUEST_MAX	(1u << 20)
#define BACKGROUND_MAX	4096		/* readers that wait on the network must not keep local
					 * readers out of the kernel's queue */

static void op_init(void *arg, struct fuse_conn_info *c)
{
	unsigned want = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_READDIRPLUS |
			FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_PARALLEL_DIROPS |
			FUSE_CAP_EXPLICIT_INVAL_DATA;
	unsigned never = FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_WRITEBACK_CACHE |
			 FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
			 FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_ATOMIC_O_TRUNC;

#ifdef FUSE_CAP_NO_EXPORT_SUPPORT
	want |= FUSE_CAP_NO_EXPORT_SUPPORT;
#endif
	c->want = (c->want & ~never) | (c->capable & want);
	c->max_write = REQUEST_MAX;
	c->max_readahead = WFS_MAX(c->max_readahead, REQUEST_MAX);
	c->max_background = BACKGROUND_MAX;
	c->congestion_threshold = BACKGROUND_MAX / 4 * 3;
	c->time_gran = 1;
	passthrough_init(((struct fs *)arg)->pass, c);
}

/* ---- attributes ---- */

static void set_times(struct stat *st, uint64_t ns)
{
	st->st_mtim.tv_sec = (time_t)(ns / 1000000000u);
	st->st_mtim.tv_nsec = (long)(ns % 1000000000u);
	st->st_ctim = st->st_atim = st->st_mtim;
}

void ops_fill(struct stat *st, struct fs *fs, uint64_t ino, mode_t mode, unsigned nlink,
	      uint64_t size, uint64_t ns)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = ino;
	st->st_mode = S_ISLNK(mode) ? mode : mode & ~(mode_t)fs->opt->umask;
	st->st_nlink = nlink;
	st->st_uid = fs->opt->uid;
	st->st_gid = fs->opt->gid;
	st->st_size = (off_t)size;
	st->st_blksize = BLKSIZE;
	st->st_blocks = (blkcnt_t)((size + 511) / 512);
	set_times(st, ns);
}

/* A version with serve=link lies in the cache as plain files: the kernel goes there by itself. */
static int served_target(char out[PATH_MAX], struct fs *fs, uint64_t sequence, const struct wfs_digest *id)
{
	struct wfs_model *m = wfs_replica_find(fs->replica, sequence);
	bool there = m && wfs_digest_equal(wfs_model_id(m), id) && wfs_model_link(m, out, PATH_MAX);

	wfs_model_put(m);
	return there ? 0 : -ESTALE;
}

static void fill_link(struct stat *st, struct fs *fs, const struct node *n)
{
	char target[PATH_MAX];

	if (served_target(target, fs, n->sequence, &n->version) < 0)
		target[0] = '\0';	/* it is about to be a directory again */
	ops_fill(st, fs, n->ino, S_IFLNK | 0777, 1, strlen(target), n->time_ns);
}

void ops_fill_node(struct stat *st, struct fs *fs, const struct node *n)
{
	if (n->link) {
		fill_link(st, fs, n);
		return;
	}
	ops_fill(st, fs, n->ino, n->dir ? S_IFDIR | 0555 : S_IFREG | 0444, n->nlink,
	     n->dir ? BLKSIZE : n->size, n->time_ns);
}

static int latest_target(char *out, size_t cap, struct fs *fs, fuse_req_t req, uint64_t *ns)
{
	struct wfs_model *m = bind_latest(fs->bind, caller(req));

	if (!m)
		return -ENOENT;
	*ns = wfs_model_version(m)->time_ns;
	snprintf(out, cap, "versions/%" PRIu64, wfs_model_version(m)->sequence);
	wfs_model_put(m);
	return 0;
}

/* The directories outside the versions carry the time of the newest. */
uint64_t ops_newest_time(struct fs *fs)
{
	struct wfs_model *m = wfs_replica_latest(fs->replica);
	uint64_t ns = m ? wfs_model_version(m)->time_ns : fs->start_wall_ns;

	wfs_model_put(m);
	return ns;
}

unsigned ops_n_versions(struct fs *fs)
{
	WFS_AUTO(wfs_free_ptr) uint64_t *list = NULL;
	size_t n = 0;

	return wfs_replica_list(fs->replica, &list, &n) < 0 ? 0 : (unsigned)n;
}

/* Attributes of any inode; 0 or a negative errno. */
int ops_stat(struct stat *st, fuse_req_t req, uint64_t ino)
{
	struct fs *fs = fs_of(req);
	struct node n;
	char target[64];
	uint64_t ns;
	int r;

	switch (ino) {
	case INO_ROOT:
		ops_fill(st, fs, ino, S_IFDIR | 0555, 5, BLKSIZE, ops_newest_time(fs));
		return 0;
	case INO_VERSIONS:
		ops_fill(st, fs, ino, S_IFDIR | 0555, 2 + ops_n_versions(fs), BLKSIZE, ops_newest_time(fs));
		return 0;
	case INO_INFO:
		ops_fill(st, fs, ino, S_IFDIR | 0555, 2, BLKSIZE, fs->start_wall_ns);
		return 0;
	case INO_STATUS:
	case INO_PROGRAM:
		ops_fill(st, fs, ino, S_IFREG | 0444, 1, 0, wfs_wall_ns());
		return 0;
	case INO_TEST:
		ops_fill(st, fs, ino, S_IFREG | 0444, 1, SELFTEST_SIZE, fs->start_wall_ns);
		return passthrough_test_id(fs->pass) ? 0 : -ENOENT;
	case INO_LATEST:
		r = latest_target(target, sizeof(target), fs, req, &ns);
		if (r == 0)
			ops_fill(st, fs, ino, S_IFLNK | 0777, 1, strlen(target), ns);
		return r;
	default:
		if (hub_is(ino))
			return hub_stat(st, req, ino);
		r = tree_get(fs->tree, ino, &n);
		if (r == 0)
			ops_fill_node(st, fs, &n);
		return r;
	}
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;
	int r = ops_stat(&st, req, ino);

	(void)fi;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, &st, ops_attr_time(ino));
}

/* ---- names ---- */

static const struct fixed fixed[] = {
	{ INO_ROOT, INO_LATEST, "latest", S_IFLNK },
	{ INO_ROOT, INO_VERSIONS, "versions", S_IFDIR },
	{ INO_ROOT, INO_HUB, "hub", S_IFDIR },
	{ INO_ROOT, INO_INFO, ".weightfs", S_IFDIR },
	{ INO_INFO, INO_STATUS, "status.json", S_IFREG },
	{ INO_INFO, INO_PROGRAM, "version", S_IFREG },
	{ INO_INFO, INO_TEST, SELFTEST_NAME, S_IFREG },	/* while it is tested */
};

const struct fixed *ops_fixed(size_t i)
{
	return i < ARRAY_SIZE(fixed) ? &fixed[i] : NULL;
}

/* "42" and nothing else that strtoull would take for it. */
int ops_parse_sequence(uint64_t *out, const char *name)
{
	return name[0] != '0' && number_parse(out, name) ? 0 : -ENOENT;
}

int ops_find_version(struct node *out, struct fs *fs, const char *name)
{
	struct wfs_model *m = NULL;
	char target[PATH_MAX];
	uint64_t sequence;
	int r;

	r = ops_parse_sequence(&sequence, name);
	if (r == 0)
		m = wfs_replica_find(fs->replica, sequence);
	if (!m)
		return -ENOENT;
	r = tree_lookup_version(fs->tree, wfs_model_version(m), wfs_model_id(m),
				wfs_model_link(m, target, sizeof(target)), out);
	wfs_model_put(m);
	return r;
}

static int lookup(struct fuse_entry_param *e, fuse_req_t req, uint64_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct node n;
	int r = -ENOENT;

	memset(e, 0, sizeof(*e));
	e->generation = 1;
	e->entry_timeout = FOREVER;
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		if (fixed[i].parent == parent && strcmp(fixed[i].name, name) == 0) {
			e->ino = fixed[i].ino;
			e->attr_timeout = ops_attr_time(e->ino);
			return ops_stat(&e->attr, req, e->ino);
		}
	if (hub_is(parent)) {
		r = hub_lookup(&e->ino, fs, parent, name);
		return r < 0 ? r : ops_stat(&e->attr, req, e->ino);
	}
	if (parent == INO_VERSIONS)
		r = ops_find_version(&n, fs, name);
	else if (parent >= INO_HASHED)
		r = tree_lookup(fs->tree, parent, name, &n);
	if (r < 0)
		return r;
	e->ino = n.ino;
	e->attr_timeout = FOREVER;
	ops_fill_node(&e->attr, fs, &n);
	return 0;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;
	int r = lookup(&e, req, parent, name);

	if (r < 0)
		fuse_reply_err(req, -r);	/* an error is never cached */
	else if (fuse_reply_entry(req, &e) < 0 && e.ino >= INO_HASHED)
		tree_forget(fs->tree, e.ino, 1);	/* the kernel did not take it */
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	tree_forget(fs_of(req)->tree, ino, n);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *f)
{
	for (size_t i = 0; i < count; i++)
		tree_forget(fs_of(req)->tree, f[i].ino, f[i].nlookup);
	fuse_reply_none(req);
}

static int version_target(char out[PATH_MAX], fuse_req_t req, uint64_t ino)
{
	struct fs *fs = fs_of(req);
	struct node n;
	int r = tree_get(fs->tree, ino, &n);

	if (r < 0 || !n.link)
		return r < 0 ? r : -EINVAL;
	bind_touch(fs->bind, caller(req), n.sequence);
	return served_target(out, fs, n.sequence, &n.version);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	char target[PATH_MAX];
	uint64_t ns;
	int r = -EINVAL;

	if (ino == INO_LATEST)
		r = latest_target(target, sizeof(target), fs_of(req), req, &ns);
	else if (hub_is(ino))
		r = hub_readlink(target, sizeof(target), req, ino);
	else
		r = version_target(target, req, ino);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_readlink(req, target);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct statvfs st;

	(void)ino;
	/* the cache's disk: it is what df on a mount can truly say */
	if (statvfs(fs->opt->cache, &st) < 0)
		memset(&st, 0, sizeof(st));
	st.f_bsize = st.f_bsize ? st.f_bsize : BLKSIZE;
	st.f_frsize = st.f_frsize ? st.f_frsize : BLKSIZE;
	st.f_bfree = st.f_bavail = 0;		/* nothing can be written here */
	st.f_files = ops_n_versions(fs);
	st.f_ffree = st.f_favail = 0;
	st.f_namemax = WFS_NAME_LEN_MAX;
	fuse_reply_statfs(req, &st);
}

const struct fuse_lowlevel_ops *ops_table(void)
{
	static const struct fuse_lowlevel_ops table = {
		.init = op_init,
		.lookup = op_lookup,
		.forget = op_forget,
		.forget_multi = op_forget_multi,
		.getattr = op_getattr,
		.readlink = op_readlink,
		.opendir = op_opendir,
		.readdir = op_readdir,
		.readdirplus = op_readdirplus,
		.open = op_open,
		.read = op_read,
		.lseek = op_lseek,
		.release = op_release,
		.statfs = op_statfs,
		.mknod = deny_mknod,
		.mkdir = deny_mkdir,
		.unlink = deny_remove,
		.rmdir = deny_remove,
		.symlink = deny_symlink,
		.rename = deny_rename,
		.link = deny_link,
		.setattr = deny_setattr,
		.create = deny_create,
		.write = deny_write,
		.getxattr = op_getxattr,
		.listxattr = op_listxattr,
		.setxattr = deny_setxattr,
		.removexattr = deny_remove,
		.fallocate = deny_fallocate,
	};

	return &table;
}
