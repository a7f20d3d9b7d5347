/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_pull.c - a version as plain files
 *
 * The version is built in `.NAME.weightsync` beside the target, by the same replica that a mount
 * uses, with the existing directory as base.  Interrupted, the next pull goes on there.  At the
 * end the new directory takes the target's name in one exchange.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd.h"
#include "weightfs/base.h"
#include "weightfs/config.h"
#include "weightfs/io.h"
#include "weightfs/limits.h"

const char pull_help[] =
	"usage: weightsync pull [OPTION...] STORE DIR\n\n"
	"Write a version as plain files.  An existing DIR is the base, so that only what changed is\n"
	"fetched; the new directory is built beside it and takes its place at the end.  A DIR that holds\n"
	"something else than a model is refused.\n\n"
	"  --version N      this version instead of the newest\n"
	"  --cacert FILE    certificates to trust for https\n"
	"  --rate BYTES     fetch at most so many bytes a second (K, M, G may follow)\n"
	"  --quiet          no progress\n"
	"  --help           this text\n";

enum { O_VERSION = 256, O_CACERT, O_QUIET, O_RATE };

static const struct option options[] = {
	{ "version", 1, NULL, O_VERSION }, { "cacert", 1, NULL, O_CACERT }, { "quiet", 0, NULL, O_QUIET },
	{ "rate", 1, NULL, O_RATE }, { "help", 0, NULL, 'h' }, { NULL, 0, NULL, 0 },
};

struct pull {
	char *target, *work, *fresh;	/* DIR, .NAME.weightsync beside it, new/ in that */
	bool exists;
	struct wfs_store *st;
	struct wfs_replica *r;
	struct wfs_model *m;
};

static int set_paths(struct pull *p, const char *dir, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) char *copy = strdup(dir);
	WFS_AUTO(wfs_free_ptr) char *copy2 = strdup(dir);
	struct stat st;

	if (!copy || !copy2 || asprintf(&p->work, "%s/.%s.weightsync", dirname(copy), basename(copy2)) < 0 ||
	    asprintf(&p->fresh, "%s/new", p->work) < 0 || !(p->target = strdup(dir)))
		return wfs_fail(err, -ENOMEM, "out of memory");
	p->exists = lstat(dir, &st) == 0;
	if (p->exists && !S_ISDIR(st.st_mode))
		return wfs_fail(err, -ENOTDIR, "%s exists and is not a directory", dir);
	return 0;
}

/* A pull that was killed behind the swap left images that are the files of DIR too, and whoever owns DIR
 * may have written to them: neither trusted nor written by us.  Called with the cache locked. */
static int disown_delivered(struct pull *p, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) char *images = NULL;
	struct dirent *e;
	char data[300];
	struct stat st;
	DIR *d;
	int r;

	r = wfs_remove_tree(AT_FDCWD, p->fresh, err);	/* its links do not count: nobody saw them */
	if (r < 0)
		return r;
	if (asprintf(&images, "%s/images", p->work) < 0)
		return wfs_fail(err, -ENOMEM, "out of memory");
	d = opendir(images);
	if (!d)
		return wfs_fail_sys(err, "read %s", images);
	while (r == 0 && (e = readdir(d))) {
		snprintf(data, sizeof(data), "%s/data", e->d_name);
		if (e->d_name[0] != '.' && fstatat(dirfd(d), data, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_nlink > 1)
			r = wfs_remove_tree(dirfd(d), e->d_name, err);
	}
	closedir(d);
	return r;
}

/* The lock goes last: what a kill leaves behind must still be known for a cache. */
static void remove_work(const char *work)
{
	DIR *d = opendir(work);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && strcmp(e->d_name, "lock") != 0)
			wfs_remove_tree(dirfd(d), e->d_name, NULL);
	if (d)
		closedir(d);
	wfs_remove_tree(AT_FDCWD, work, NULL);
}

static bool in_version(const struct wfs_version *v, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < v->n_files; i++)
		if (strncmp(v->files[i].path, name, n) == 0 && (!v->files[i].path[n] || v->files[i].path[n] == '/'))
			return true;
	return false;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* The time of a shard in DIR: what pull delivers has its version's time, all of it, to the nanosecond. */
static bool find_shard(int dir, DIR *d, struct timespec *when)
{
	struct dirent *e;
	struct stat st;
	bool found = false;

	while (!found && (e = readdir(d))) {
		const char *dot = strrchr(e->d_name, '.');

		found = dot && strcmp(dot, ".safetensors") == 0 && fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0;
	}
	if (found)
		*when = st.st_mtim;
	rewinddir(d);
	return found;
}

/* Did a pull make the directory?  Then there are files below it, all of that time, and nothing else. */
static bool is_delivered(int parent, const char *name, const struct timespec *when)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	struct stat st;
	bool ours = d;
	unsigned n = 0;

	if (!d) {
		wfs_close_fd(&fd);
		return false;
	}
	while (ours && (e = readdir(d))) {
		if (is_dots(e->d_name))
			continue;
		n++;
		ours = fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0;
		if (ours && S_ISDIR(st.st_mode))
			ours = is_delivered(fd, e->d_name, when);
		else if (ours)
			ours = S_ISREG(st.st_mode) && st.st_mtim.tv_sec == when->tv_sec && st.st_mtim.tv_nsec == when->tv_nsec;
	}
	closedir(d);
	return ours && n > 0;
}

/* The swap replaces all of DIR, so a home directory given by mistake must not get that far: DIR holds
 * nothing but names of the version, or is a directory with shards (of another version), in which every
 * directory came with these. */
static int check_target(struct pull *p, struct wfs_err *err)
{
	char odd[NAME_MAX + 1] = "";
	bool shards, odd_dir = false;
	struct timespec when = { 0, 0 };
	struct dirent *e;
	struct stat st;
	DIR *d = opendir(p->target);

	if (!d)
		return wfs_fail_sys(err, "read %s", p->target);
	shards = find_shard(dirfd(d), d, &when);
	while (!odd_dir && (e = readdir(d))) {
		if (is_dots(e->d_name) || in_version(wfs_model_version(p->m), e->d_name))
			continue;
		odd_dir = fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
		if (odd_dir && shards && is_delivered(dirfd(d), e->d_name, &when)) {
			odd_dir = false;
			continue;
		}
		snprintf(odd, sizeof(odd), "%s", e->d_name);
	}
	closedir(d);
	if (!odd[0] || (shards && !odd_dir))
		return 0;
	return wfs_fail(err, -ENOTEMPTY, "%s holds %s, which the version does not: pull would delete it; "
			"give a new directory", p->target, odd);
}

static int build(struct pull *p, uint64_t version, bool quiet, struct wfs_err *err)
{
	struct wfs_replica_opts o = { .cache = p->work, .lazy = true, .accept_run = true, .cancel = &cmd_interrupted };
	struct cmd_progress progress;
	int r = 0;

	if (p->exists)
		r = wfs_strings_add(&o.base, p->target);
	if (r == 0)
		r = wfs_replica_open(&p->r, p->st, &o, err);
	if (r == 0)
		r = disown_delivered(p, err);
	if (r == 0)
		r = wfs_replica_start(p->r, false, err);
	if (r == 0 && !version) {
		r = wfs_replica_look(p->r, &version, err);
		if (r == -ENOENT)
			wfs_fail(err, r, "nothing is published in %s yet", wfs_store_url(p->st));
	}
	if (r == 0)
		r = wfs_replica_load(p->r, version, &p->m, err);
	if (r == 0 && p->exists)
		r = check_target(p, err);
	cmd_progress_start(&progress, quiet);
	if (r == 0)
		r = wfs_replica_complete(p->r, p->m, &progress.p, err);
	cmd_progress_end(&progress);
	wfs_strings_free(&o.base);
	return r;
}

/* File i under its name in new/: an image is linked there, a small file written. */
static int place(struct pull *p, int fresh, int work, size_t i, struct wfs_err *err)
{
	const struct wfs_version *v = wfs_model_version(p->m);
	const struct wfs_file *f = &v->files[i];
	struct timespec t[2];
	char data[WFS_OBJECT_NAME], *slash;
	WFS_AUTO(wfs_free_ptr) char *dir = strdup(f->path);
	WFS_AUTO(wfs_free_ptr) void *buf = NULL;
	int r = 0;

	if (!dir)
		return wfs_fail(err, -ENOMEM, "out of memory");
	slash = strrchr(dir, '/');
	if (slash) {
		*slash = '\0';
		r = wfs_mkdirs(fresh, dir, 0755, err);
	}
	if (r == 0 && f->whole) {
		buf = malloc(f->size + 1);
		r = buf ? wfs_model_read_wait(p->m, i, buf, f->size, 0, err) : wfs_fail(err, -ENOMEM, "out of memory");
		if (r == 0)
			r = wfs_write_file(fresh, f->path, buf, f->size, 0644, err);
	} else if (r == 0) {
		/* A link costs nothing; the image's own name goes away with the work directory. */
		r = wfs_model_data_path(p->m, i, data, err);
		if (r == 0 && linkat(work, data, fresh, f->path, 0) < 0)
			r = wfs_fail_sys(err, "link %s", f->path);
	}
	t[0].tv_sec = t[1].tv_sec = (time_t)(v->time_ns / 1000000000ull);
	t[0].tv_nsec = t[1].tv_nsec = (long)(v->time_ns % 1000000000ull);
	if (r == 0 && (utimensat(fresh, f->path, t, AT_SYMLINK_NOFOLLOW) < 0 || fchmodat(fresh, f->path, 0644, 0) < 0))
		r = wfs_fail_sys(err, "set times of %s", f->path);
	return r;
}

static int assemble(struct pull *p, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int fresh = -1;
	WFS_AUTO(wfs_close_fd) int work = -1;
	int r;

	r = wfs_remove_tree(AT_FDCWD, p->fresh, err);
	if (r == 0)
		r = wfs_mkdirs(AT_FDCWD, p->fresh, 0755, err);
	if (r < 0)
		return r;
	fresh = open(p->fresh, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	work = open(p->work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fresh < 0 || work < 0)
		return wfs_fail_sys(err, "open %s", p->fresh);
	for (size_t i = 0; r == 0 && i < wfs_model_version(p->m)->n_files; i++)
		r = place(p, fresh, work, i, err);
	return r < 0 ? r : wfs_fsync_dir(fresh, err);
}

/* The new directory takes the name; the old one ends up where the new one was and is removed. */
static int swap(struct pull *p, struct wfs_err *err)
{
	unsigned flags = p->exists ? RENAME_EXCHANGE : RENAME_NOREPLACE;
	WFS_AUTO(wfs_free_ptr) char *aside = NULL;

	if (renameat2(AT_FDCWD, p->fresh, AT_FDCWD, p->target, flags) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return wfs_fail_sys(err, "swap %s with %s", p->fresh, p->target);
	/* A file system without the exchange: two renames, the old one is back if the second fails. */
	if (asprintf(&aside, "%s/old", p->work) < 0)
		return wfs_fail(err, -ENOMEM, "out of memory");
	if (p->exists && rename(p->target, aside) < 0)
		return wfs_fail_sys(err, "rename %s", p->target);
	if (rename(p->fresh, p->target) < 0) {
		wfs_fail_sys(err, "rename %s", p->fresh);
		if (p->exists)
			rename(aside, p->target);
		return -errno ? -errno : -EIO;
	}
	return 0;
}

static int finish(struct pull *p, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) char *copy = strdup(p->target);
	WFS_AUTO(wfs_close_fd) int parent = -1;
	int r;

	r = assemble(p, err);
	if (r == 0)
		r = swap(p, err);
	if (r < 0)
		return r;
	parent = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	return parent < 0 ? 0 : wfs_fsync_dir(parent, err);
}

int cmd_pull(int argc, char **argv)
{
	struct cmd_store s = { NULL, NULL, NULL };
	struct wfs_store_opts so = { .read_timeout_ms = 300000 };
	struct wfs_err err = { "" };
	struct pull p = { .target = NULL };
	uint64_t version = 0;
	bool quiet = false;
	int c, r;

	while ((c = cmd_getopt(argc, argv, options, pull_help)) != -1) {
		static const struct wfs_opt rate = { "--rate", WFS_OPT_SIZE, 0, NULL, "" };

		if (c == O_VERSION && !cmd_number(optarg, &version))
			return EXIT_USAGE;
		if (c == O_RATE && wfs_opt_set(&so.rate, &rate, 1, "--rate", optarg, &err) < 0)
			return cmd_usage("%s", err.msg);
		if (c == O_CACERT)
			so.cacert = optarg;
		if (c == O_QUIET)
			quiet = true;
		if (c == '?')
			return EXIT_USAGE;
	}
	if (argc - optind != 2)
		return cmd_usage("pull takes a store and a directory; `weightsync pull --help' says more");
	r = wfs_store_open(&s.st, argv[optind], &so, false, &err);
	if (r < 0)
		return r == -EINVAL ? cmd_usage("%s", err.msg) : cmd_fail(r, &err);
	cmd_tell_trouble(s.st);
	p.st = s.st;
	r = set_paths(&p, argv[optind + 1], &err);
	if (r == 0)
		r = build(&p, version, quiet, &err);
	if (r == 0)
		r = finish(&p, &err);
	if (r == 0)
		printf("version %" PRIu64 " is in %s\n", wfs_model_version(p.m)->sequence, p.target);
	wfs_model_put(p.m);
	wfs_replica_close(p.r);
	if (r == 0 || r == -ENOTEMPTY)
		remove_work(p.work);
	wfs_store_close(s.st);
	free(p.target);
	free(p.work);
	free(p.fresh);
	return r < 0 ? cmd_fail(r, &err) : 0;
}
