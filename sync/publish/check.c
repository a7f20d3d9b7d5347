/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.c - a directory that is still being written, or no sound model, is refused before any work
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "publish/internal.h"
#include "weightfs/base.h"
#include "weightfs/io.h"
#include "weightfs/version.h"

#define HINT "is it still being written?"

bool wfs_input_is_whole(const struct wfs_input *in)
{
	return (uint64_t)in->st.st_size <= WFS_SMALL_FILE_MAX && !wfs_name_is_shard(in->path);
}

static int open_header(struct wfs_input *in, struct wfs_err *err)
{
	uint64_t size = (uint64_t)in->st.st_size;
	uint8_t prefix[8];
	int r;

	if (size < sizeof(prefix))
		return wfs_fail(err, -EBUSY, "%s has only %" PRIu64 " bytes; " HINT, in->path, size);
	r = wfs_pread(in->fd, prefix, sizeof(prefix), 0, err);
	if (r == 0)
		r = wfs_safetensors_header_len(&in->head_len, prefix, size, err);
	if (r == -EBADMSG)
		return wfs_wrap(err, -EBUSY, "%s (" HINT ")", in->path);
	if (r < 0)
		return wfs_wrap(err, r, "%s", in->path);
	in->head = malloc(in->head_len);
	if (!in->head)
		return wfs_fail(err, -ENOMEM, "out of memory");
	r = wfs_pread(in->fd, in->head, in->head_len, 0, err);
	if (r == 0)
		r = wfs_safetensors_open(&in->header, in->head, in->head_len, size, err);
	return r < 0 ? wfs_wrap(err, r == -EBADMSG ? -EBUSY : r, "%s (" HINT ")", in->path) : 0;
}

struct lookup {
	const struct wfs_inputs *in;
	const char *index;
};

static const struct wfs_input *find(const struct wfs_inputs *in, const char *path)
{
	size_t lo = 0, hi = in->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = strcmp(in->v[mid].path, path);

		if (c == 0)
			return &in->v[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

static int check_entry(void *arg, const char *tensor, const char *file, struct wfs_err *err)
{
	const struct lookup *l = arg;
	const char *slash = strrchr(l->index, '/');
	char path[WFS_PATH_LEN_MAX + 1];
	const struct wfs_input *shard;

	if (strchr(file, '/') || wfs_name_check(file, NULL) < 0)
		return wfs_fail(err, -EBADMSG, "weight_map of tensor %s leaves the directory: %s", tensor, file);
	snprintf(path, sizeof(path), "%.*s%s", slash ? (int)(slash - l->index + 1) : 0, l->index, file);
	shard = find(l->in, path);
	if (!shard)
		return wfs_fail(err, -EBUSY, "weight_map names %s, which is not there; " HINT, path);
	if (!shard->header)
		return wfs_fail(err, -EBADMSG, "weight_map names %s, which is not a safetensors file", path);
	if (!wfs_safetensors_find(shard->header, tensor))
		return wfs_fail(err, -EBADMSG, "weight_map places tensor %s in %s, which does not have it", tensor, path);
	return 0;
}

static int check_index(const struct wfs_inputs *in, const struct wfs_input *index, struct wfs_err *err)
{
	struct lookup l = { in, index->path };
	uint64_t size = (uint64_t)index->st.st_size;
	WFS_AUTO(wfs_free_ptr) void *data = NULL;
	int r;

	if (size > WFS_HEADER_MAX)
		return wfs_fail(err, -EBADMSG, "%s is larger than %u bytes", index->path, WFS_HEADER_MAX);
	data = malloc(size + 1);
	if (!data)
		return wfs_fail(err, -ENOMEM, "out of memory");
	r = wfs_pread(index->fd, data, size, 0, err);
	if (r == 0)
		r = wfs_index_parse(data, size, check_entry, &l, err);
	return r < 0 ? wfs_wrap(err, r, "%s", index->path) : 0;
}

int wfs_check_inputs(struct wfs_inputs *in, struct wfs_err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < in->n; i++) {
		if ((uint64_t)in->v[i].st.st_size > WFS_FILE_MAX)
			r = wfs_fail(err, -EFBIG, "%s is larger than %llu bytes", in->v[i].path, WFS_FILE_MAX);
		else if (wfs_name_is_shard(in->v[i].path))
			r = open_header(&in->v[i], err);
	}
	for (size_t i = 0; r == 0 && i < in->n; i++)
		if (wfs_name_is_index(in->v[i].path))
			r = check_index(in, &in->v[i], err);
	return r;
}
