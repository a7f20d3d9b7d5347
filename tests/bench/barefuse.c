/* SPDX-License-Identifier: Apache-2.0 */
/*
 * barefuse FILE MOUNTPOINT - the least that a FUSE daemon can do: one file, answered from a mapping of it
 *
 * Nothing is checked, nothing is looked up, everything is cached by the kernel for ever: what a read takes
 * here is what the kernel takes.  The file has many names, file0, file1 and so on, each a file to the kernel,
 * and latest is a link to their directory.  Stays in the foreground until it is unmounted.
 */
#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { ROOT = FUSE_ROOT_ID, LATEST, FILES };	/* inodes */

static struct stat st[] = {
	[ROOT] = { .st_mode = S_IFDIR | 0555, .st_nlink = 2 }, [LATEST] = { .st_mode = S_IFLNK | 0777 }, [FILES] = { 0 },
};
static const char *data;

static struct stat attr(fuse_ino_t ino)
{
	struct stat a = st[ino < FILES ? ino : FILES];

	a.st_ino = ino;
	return a;
}

static void op_init(void *arg, struct fuse_conn_info *c)
{
	(void)arg;
	c->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_SPLICE_READ);
	c->max_background = 4096;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .attr_timeout = 1e9, .entry_timeout = 1e9 };

	e.ino = strcmp(name, "latest") == 0 ? LATEST : strncmp(name, "file", 4) == 0 ? FILES + (unsigned)atoi(name + 4) : 0;
	e.attr = attr(e.ino);
	if (parent == ROOT && e.ino)
		fuse_reply_entry(req, &e);
	else
		fuse_reply_err(req, ENOENT);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat a = attr(ino);

	(void)fi;
	fuse_reply_attr(req, &a, 1e9);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	(void)ino;
	fuse_reply_readlink(req, ".");
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->keep_cache = 1;
	fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t len, off_t off, struct fuse_file_info *fi)
{
	off_t left = st[FILES].st_size - off;

	(void)ino;
	(void)fi;
	fuse_reply_buf(req, data + off, left <= 0 ? 0 : (off_t)len < left ? len : (size_t)left);
}

int main(int argc, char **argv)
{
	static const struct fuse_lowlevel_ops ops = {
		.init = op_init, .lookup = op_lookup, .getattr = op_getattr, .readlink = op_readlink, .open = op_open, .read = op_read,
	};
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_loop_config *cfg = fuse_loop_cfg_create();
	struct fuse_session *se;
	int fd = argc == 3 ? open(argv[1], O_RDONLY) : -1;

	if (fd < 0 || fstat(fd, &st[FILES]) < 0)
		return 2;
	data = mmap(NULL, (size_t)st[FILES].st_size, PROT_READ, MAP_SHARED, fd, 0);
	fuse_opt_add_arg(&args, "barefuse");
	fuse_opt_add_arg(&args, "-oro,fsname=barefuse");
	se = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	if (data == MAP_FAILED || !se || fuse_set_signal_handlers(se) < 0 || fuse_session_mount(se, argv[2]) < 0)
		return 1;
	fuse_loop_cfg_set_clone_fd(cfg, 1);
	fuse_loop_cfg_set_idle_threads(cfg, 16);
	fuse_session_loop_mt(se, cfg);
	fuse_session_unmount(se);
	return 0;
}
