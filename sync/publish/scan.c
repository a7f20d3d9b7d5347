/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scan.c - the files of a model directory
 *
 * Symlinks to regular files are followed: a Hugging Face snapshot is all symlinks.  Directories
 * are entered, links to them are not.  Left out by default is what a trainer needs and a reader
 * does not: optimizer, scheduler and random state, dot-files, temporaries.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "publish/internal.h"
#include "weightfs/base.h"
#include "weightfs/version.h"

/* Matched against the whole relative path and against every component of it. */
static const char *const left_out[] = {
	".*", "*.tmp", "tmp_*", "tmp-*", "*.partial", "*.incomplete", "*.lock", "*~",
	"optimizer*", "scheduler*", "rng_state*", "random_states*", "global_step*", "zero_to_fp32.py",
	"training_args.bin", "events.out.tfevents*", "STABLE",
};

static bool matches(const char *pattern, const char *path, const char *name)
{
	return fnmatch(pattern, path, 0) == 0 || fnmatch(pattern, name, 0) == 0;
}

static bool wanted(const struct wfs_publish_opts *o, const char *path, const char *name)
{
	for (size_t i = 0; i < o->include.n; i++)
		if (matches(o->include.v[i], path, name))
			return true;
	for (size_t i = 0; i < o->exclude.n; i++)
		if (matches(o->exclude.v[i], path, name))
			return false;
	for (size_t i = 0; i < ARRAY_SIZE(left_out); i++)
		if (matches(left_out[i], path, name))
			return false;
	return true;
}

static int add(struct wfs_inputs *in, const char *path, int fd, const struct stat *st, struct wfs_err *err)
{
	struct wfs_input *bigger;
	int r;

	r = wfs_name_check(path, err);
	if (r < 0) {
		close(fd);
		return r;
	}
	bigger = realloc(in->v, (in->n + 1) * sizeof(*bigger));
	if (bigger) {
		in->v = bigger;
		memset(&in->v[in->n], 0, sizeof(*in->v));
		in->v[in->n].path = strdup(path);
	}
	if (!bigger || !in->v[in->n].path) {
		close(fd);
		return wfs_fail(err, -ENOMEM, "out of memory");
	}
	in->v[in->n].fd = fd;
	in->v[in->n++].st = *st;
	if (in->n > WFS_FILES_MAX)
		return wfs_fail(err, -EBADMSG, "more than %u files", WFS_FILES_MAX);
	return 0;
}

static int scan_dir(struct wfs_inputs *in, int at, const char *name, const char *prefix,
		    const struct wfs_publish_opts *o, unsigned depth, struct wfs_err *err);

/* A name that vanishes while we look is a directory that is being written. */
static int scan_entry(struct wfs_inputs *in, int dir, const char *name, const char *path,
		      const struct wfs_publish_opts *o, unsigned depth, struct wfs_err *err)
{
	struct stat st;
	int fd;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return wfs_fail(err, -EBUSY, "%s: %s; is the directory still being written?", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return depth ? scan_dir(in, dir, name, path, o, depth - 1, err)
			     : wfs_fail(err, -EBADMSG, "%s: directories nest too deep", path);
	if (!wanted(o, path, name))
		return 0;
	fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)	/* not -ENOENT, which means "no such version" */
		return wfs_fail(err, -EBUSY, "%s is a link to nothing, or just vanished; is the directory still being written?",
				path);
	if (fd < 0)
		return wfs_fail_sys(err, "%s", path);
	if (fstat(fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))) {
		close(fd);
		return wfs_fail(err, -EBADMSG, "%s is neither a file nor a link to one", path);
	}
	if (S_ISDIR(st.st_mode)) {	/* a link to a directory: not content */
		close(fd);
		return 0;
	}
	return add(in, path, fd, &st, err);
}

static bool dir_wanted(const struct wfs_publish_opts *o, const char *path, const char *name)
{
	/* An include below a directory that is left out by default still counts. */
	size_t len = strlen(path);

	for (size_t i = 0; i < o->include.n; i++)
		if (strncmp(o->include.v[i], path, len) == 0 && o->include.v[i][len] == '/')
			return true;
	return wanted(o, path, name);
}

static int scan_dir(struct wfs_inputs *in, int at, const char *name, const char *prefix,
		    const struct wfs_publish_opts *o, unsigned depth, struct wfs_err *err)
{
	char path[WFS_PATH_LEN_MAX + WFS_NAME_LEN_MAX + 2];
	struct dirent *e;
	struct stat st;
	int fd, r = 0;
	DIR *d;

	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return wfs_fail_sys(err, "read directory %s", *prefix ? prefix : name);
	while (r == 0 && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix ? "/" : "", e->d_name) > (int)WFS_PATH_LEN_MAX)
			r = wfs_fail(err, -EBADMSG, "%s: path of more than %u bytes", path, WFS_PATH_LEN_MAX);
		else if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
			 !dir_wanted(o, path, e->d_name))
			continue;
		else
			r = scan_entry(in, dirfd(d), e->d_name, path, o, depth, err);
	}
	closedir(d);
	return r;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct wfs_input *)a)->path, ((const struct wfs_input *)b)->path);
}

int wfs_scan(struct wfs_inputs *out, const char *dir, const struct wfs_publish_opts *o, struct wfs_err *err)
{
	struct wfs_inputs in = { .dir = -1 };
	int r;

	r = scan_dir(&in, AT_FDCWD, dir, "", o, WFS_PATH_DEPTH_MAX - 1, err);
	if (r == 0 && in.n == 0)
		r = wfs_fail(err, -EBADMSG, "there is nothing to publish in %s", dir);
	if (r < 0) {
		wfs_inputs_free(&in);
		return r;
	}
	qsort(in.v, in.n, sizeof(*in.v), by_path);
	*out = in;
	return 0;
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       same_time(a->st_mtim, b->st_mtim) && same_time(a->st_ctim, b->st_ctim);
}

int wfs_scan_again(const struct wfs_inputs *in, const char *dir, const struct wfs_publish_opts *o,
		   struct wfs_err *err)
{
	struct wfs_inputs now;
	int r;

	r = wfs_scan(&now, dir, o, err);
	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < WFS_MAX(in->n, now.n); i++) {
		if (i >= in->n || (i < now.n && strcmp(now.v[i].path, in->v[i].path) < 0))
			r = wfs_fail(err, -EBUSY, "%s appeared while the directory was being published", now.v[i].path);
		else if (i >= now.n || strcmp(now.v[i].path, in->v[i].path) > 0)
			r = wfs_fail(err, -EBUSY, "%s vanished while the directory was being published", in->v[i].path);
		else if (!same_file(&now.v[i].st, &in->v[i].st))
			r = wfs_fail(err, -EBUSY, "%s changed while it was being published", in->v[i].path);
	}
	wfs_inputs_free(&now);
	return r;
}

void wfs_inputs_free(struct wfs_inputs *in)
{
	for (size_t i = 0; i < in->n; i++) {
		free(in->v[i].path);
		free(in->v[i].head);
		wfs_safetensors_close(in->v[i].header);
		wfs_close_fd(&in->v[i].fd);
	}
	free(in->v);
	in->v = NULL;
	in->n = 0;
}
