/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model.c - one version: its files, and reading them
 *
 * A model exists only after its version object was checked from the commit down, its small files
 * are local and its index files name nothing that is not in it.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/safetensors.h"

int wfs_object_get(struct wfs_replica *r, struct wfs_buf *out, const char *kind, const struct wfs_digest *id,
		   size_t max, bool net, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	char name[WFS_OBJECT_NAME];
	struct wfs_digest got;
	int ret;

	ret = wfs_cache_get(&r->cache, out, id, max, err);
	if (ret != -ENOENT)
		return ret;
	if (!net || !r->store)
		return -EAGAIN;
	wfs_object_name(name, kind, id);
	for (int i = 0; i < 3; i++) {
		wfs_buf_free(&raw);
		ret = wfs_store_get_buf(&raw, r->store, name, max, i > 0, &r->stop, err);
		if (ret == -ENOENT)		/* somebody named it, so it should be there */
			return wfs_fail(err, -EBADMSG, "%s is not in the store", name);
		if (ret < 0)
			return wfs_wrap(err, ret, "fetch %s", name);
		wfs_sha256(&got, raw.data, raw.len);
		if (wfs_digest_equal(&got, id))
			goto good;
		r->n_bad_groups++;
	}
	return wfs_fail(err, -EBADMSG, "%s: its %zu bytes have SHA-256 %s", name, raw.len, wfs_hex(&got).s);
good:
	r->n_bytes_checked += raw.len;
	/* A version shown as complete needs its small files and its object, but no table any more: a sync
	 * for each of these would make a version of many shards wait for the disk before its first block. */
	ret = wfs_cache_put(&r->cache, id, raw.data, raw.len, strcmp(kind, "tables") != 0, err);
	if (ret == 0)
		*out = wfs_buf_take(&raw);
	return ret;
}

/* A whole file's content; an empty file has no object. */
static int small_file(struct wfs_model *m, const struct wfs_file *f, bool net, struct wfs_buf *out,
		      struct wfs_err *err)
{
	int ret;

	if (f->size == 0)
		return 0;
	ret = wfs_object_get(m->r, out, "packs", &f->sha256, WFS_SMALL_FILE_MAX, net, err);
	if (ret == 0 && out->len != f->size) {
		ret = wfs_fail(err, -EBADMSG, "content has %zu bytes, the version says %" PRIu64, out->len, f->size);
		wfs_buf_free(out);
	}
	return ret == 0 || ret == -EAGAIN ? ret : wfs_wrap(err, ret, "%s", f->path);
}

int wfs_model_small(struct wfs_model *m, size_t i, struct wfs_buf *out, struct wfs_err *err)
{
	return small_file(m, &m->v.files[i], false, out, err);
}

static int fetch_small_files(struct wfs_model *m, bool net, struct wfs_err *err)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < m->v.n_files; i++) {
		WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
		const struct wfs_file *f = &m->v.files[i];

		if (!f->whole)
			continue;
		ret = small_file(m, f, net, &raw, err);
		if (ret == 0 && wfs_name_is_index(f->path))
			ret = wfs_index_check(&m->v, f->path, raw.data, raw.len, err);
	}
	return ret;
}

static void count_user(struct wfs_image *img, int n)
{
	pthread_mutex_lock(&img->r->lock);
	img->models += (unsigned)n;
	pthread_mutex_unlock(&img->r->lock);
}

static void model_free(struct wfs_model *m)
{
	for (size_t i = 0; m->images && i < m->v.n_files; i++) {
		if (m->images[i])
			count_user(m->images[i], -1);
		wfs_image_put(m->images[i]);
	}
	free(m->images);
	wfs_release_bases(m);
	wfs_version_free(&m->v);
	free(m);
}

static int get_images(struct wfs_model *m, struct wfs_err *err)
{
	char label[WFS_PATH_LEN_MAX + 40];

	m->images = calloc(m->v.n_files, sizeof(*m->images));
	if (!m->images)
		return wfs_fail(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < m->v.n_files; i++) {
		const struct wfs_file *f = &m->v.files[i];

		if (f->whole)
			continue;
		snprintf(label, sizeof(label), "version %" PRIu64 " %s", m->v.sequence, f->path);
		m->images[i] = wfs_image_get(m->r, &f->table, f->has_anchor ? &f->anchor : NULL, f->size, label);
		if (!m->images[i])
			return wfs_fail(err, -EBADMSG, "%s: table %s is in use for a file of another size", f->path,
					wfs_hex(&f->table).s);
		count_user(m->images[i], 1);
	}
	return 0;
}

/* A model that exists already is used again: images, and who holds them, stay one. */
static struct wfs_model *find_by_id(struct wfs_replica *r, const struct wfs_digest *id)
{
	struct wfs_model *m;

	pthread_mutex_lock(&r->lock);
	for (m = r->models; m && !wfs_digest_equal(&m->id, id); m = m->next)
		;
	if (m)
		m->refs++;
	pthread_mutex_unlock(&r->lock);
	return m;
}

static void add_model(struct wfs_replica *r, struct wfs_model *m)
{
	struct wfs_model **p;

	pthread_mutex_lock(&r->lock);
	for (p = &r->models; *p && (*p)->v.sequence > m->v.sequence; p = &(*p)->next)
		;
	m->next = *p;
	*p = m;
	pthread_mutex_unlock(&r->lock);
}

static int load(struct wfs_model *m, const struct wfs_commit *commit, bool net, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	int ret;

	ret = wfs_object_get(m->r, &raw, "versions", &commit->version, WFS_VERSION_MAX, net, err);
	if (ret < 0)
		return ret;
	ret = wfs_version_parse(&m->v, raw.data, raw.len, err);
	if (ret < 0)
		return wfs_wrap(err, ret, "versions/%s", wfs_hex(&commit->version).s);
	if (m->v.sequence != commit->sequence || strcmp(m->v.run.s, commit->run.s) != 0)
		return wfs_fail(err, -EBADMSG, "versions/%s says it is %" PRIu64 " of run %s, the commit says %" PRIu64
				" of run %s", wfs_hex(&commit->version).s, m->v.sequence, m->v.run.s, commit->sequence,
				commit->run.s);
	ret = fetch_small_files(m, net, err);
	return ret < 0 ? ret : get_images(m, err);
}

int wfs_model_fetch(struct wfs_model **out, struct wfs_replica *r, const struct wfs_commit *commit,
		    bool net, struct wfs_err *err)
{
	struct wfs_model *m;
	int ret;

	*out = find_by_id(r, &commit->version);
	if (*out)
		return 0;
	m = calloc(1, sizeof(*m));
	if (!m)
		return wfs_fail(err, -ENOMEM, "out of memory");
	m->r = r;
	m->id = commit->version;
	m->refs = 1;
	ret = load(m, commit, net, err);
	if (ret < 0) {
		model_free(m);
		return ret == -EAGAIN ? ret : wfs_wrap(err, ret, "version %" PRIu64, commit->sequence);
	}
	add_model(r, m);
	*out = m;
	return 0;
}

bool wfs_model_probe(struct wfs_model *m)
{
	for (size_t i = 0; !m->complete && i < m->v.n_files; i++)
		if (m->images[i] && !wfs_image_probe(m->images[i]))
			return false;
	m->complete = true;
	return true;
}

bool wfs_model_synced(struct wfs_model *m)
{
	for (size_t i = 0; !m->synced && i < m->v.n_files; i++)
		if (m->images[i] && !wfs_image_synced(m->images[i]))
			return false;
	m->synced = true;
	return true;
}

/* ---- index files against the shards' real headers ---- */

struct index_walk {
	struct wfs_model *m;
	const char *path;
	size_t file;				/* whose header is open; SIZE_MAX: none */
	struct wfs_safetensors *header;
};

int wfs_model_header(struct wfs_model *m, size_t i, struct wfs_safetensors **out, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) uint8_t *head = NULL;
	uint64_t size = m->v.files[i].size, len;
	uint8_t prefix[8];
	int r;

	if (m->r->stop)		/* an index may go from shard to shard without end */
		return wfs_fail(err, -ECANCELED, "stopping");
	if (size < sizeof(prefix))
		return wfs_fail(err, -EBADMSG, "%s is shorter than 8 bytes", m->v.files[i].path);
	r = wfs_model_read_wait(m, i, prefix, sizeof(prefix), 0, err);
	if (r == 0)
		r = wfs_safetensors_header_len(&len, prefix, size, err);
	if (r < 0)
		return r;
	head = malloc(len);
	if (!head)
		return wfs_fail(err, -ENOMEM, "out of memory");
	r = wfs_model_read_wait(m, i, head, len, 0, err);
	return r < 0 ? r : wfs_safetensors_open(out, head, len, size, err);
}

static int open_header(struct index_walk *w, size_t i, struct wfs_err *err)
{
	int r;

	wfs_safetensors_close(w->header);
	w->header = NULL;
	w->file = SIZE_MAX;
	r = wfs_model_header(w->m, i, &w->header, err);
	if (r == 0)
		w->file = i;
	return r;
}

static int check_entry(void *arg, const char *tensor, const char *file, struct wfs_err *err)
{
	struct index_walk *w = arg;
	const char *slash = strrchr(w->path, '/');
	char path[WFS_PATH_LEN_MAX + 1];
	const struct wfs_file *f;
	size_t i;
	int r;

	snprintf(path, sizeof(path), "%.*s%s", slash ? (int)(slash - w->path + 1) : 0, w->path, file);
	f = wfs_version_find(&w->m->v, path);
	if (!f)
		return wfs_fail(err, -EBADMSG, "weight_map names %s, which is not in the version", path);
	i = (size_t)(f - w->m->v.files);
	if (i != w->file) {
		r = open_header(w, i, err);
		if (r < 0)
			return wfs_wrap(err, r, "%s", path);
	}
	if (!wfs_safetensors_find(w->header, tensor))
		return wfs_fail(err, -EBADMSG, "weight_map places tensor %s in %s, which does not have it", tensor, path);
	return 0;
}

int wfs_model_check(struct wfs_model *m, struct wfs_err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->v.n_files; i++) {
		struct index_walk w = { .m = m, .path = m->v.files[i].path, .file = SIZE_MAX };
		uint64_t size = m->v.files[i].size;
		WFS_AUTO(wfs_free_ptr) void *data = NULL;

		if (!wfs_name_is_index(w.path))
			continue;
		if (size > WFS_HEADER_MAX)
			return wfs_fail(err, -EBADMSG, "%s is larger than %u bytes", w.path, WFS_HEADER_MAX);
		data = malloc(size + 1);
		if (!data)
			return wfs_fail(err, -ENOMEM, "out of memory");
		r = wfs_model_read_wait(m, i, data, size, 0, err);
		if (r == 0)
			r = wfs_index_check(&m->v, w.path, data, size, err);
		if (r == 0)
			r = wfs_index_parse(data, size, check_entry, &w, err);
		wfs_safetensors_close(w.header);
		if (r < 0)
			r = wfs_wrap(err, r, "version %" PRIu64 ": %s", m->v.sequence, w.path);
	}
	return r;
}

/* ---- what callers see ---- */

const struct wfs_version *wfs_model_version(const struct wfs_model *m)
{
	return &m->v;
}

const struct wfs_digest *wfs_model_id(const struct wfs_model *m)
{
	return &m->id;
}

struct wfs_model *wfs_model_get(struct wfs_model *m)
{
	pthread_mutex_lock(&m->r->lock);
	m->refs++;
	pthread_mutex_unlock(&m->r->lock);
	return m;
}

void wfs_model_put(struct wfs_model *m)
{
	struct wfs_model **p;
	bool last;

	if (!m)
		return;
	pthread_mutex_lock(&m->r->lock);
	last = --m->refs == 0;
	if (last) {
		for (p = &m->r->models; *p != m; p = &(*p)->next)
			;
		*p = m->next;
	}
	pthread_mutex_unlock(&m->r->lock);
	if (last)
		model_free(m);
}

int wfs_model_read(struct wfs_model *m, size_t i, void *buf, size_t len, uint64_t off, struct wfs_err *err)
{
	const struct wfs_file *f = &m->v.files[i];
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	int r;

	assert(i < m->v.n_files && off <= f->size && len <= f->size - off);
	if (len == 0)
		return 0;
	if (!f->whole) {
		r = wfs_image_open(m->images[i], err);
		return r < 0 ? r : wfs_image_read(m->images[i], buf, len, off, err);
	}
	r = small_file(m, f, false, &raw, err);
	if (r == 0)
		memcpy(buf, raw.data + off, len);
	return r;
}

void wfs_model_file_status(struct wfs_model *m, size_t i, struct wfs_file_status *out)
{
	struct wfs_image *img = m->images[i];

	memset(out, 0, sizeof(*out));
	out->size = m->v.files[i].size;
	if (!img) {
		out->complete = out->durable = true;
		return;
	}
	out->n_blocks = img->n_blocks;
	out->complete = wfs_image_probe(img);
	out->durable = out->complete && wfs_image_synced(img);
	out->n_built = out->complete ? img->n_blocks : img->opened ? img->n_built : 0;
}

#define LEASE_TRIES 1000

static void data_path(const struct wfs_image *img, char out[WFS_OBJECT_NAME])
{
	snprintf(out, WFS_OBJECT_NAME, "images/%s/data", wfs_hex(&img->id).s);
}

int wfs_model_data_open(struct wfs_model *m, size_t i, struct wfs_err *err)
{
	struct wfs_image *img = m->images[i];
	struct stat st;
	char name[WFS_OBJECT_NAME];
	int fd = -1;

	if (!img || !wfs_image_probe(img))
		return -EAGAIN;
	data_path(img, name);
	img->exposed = true;
	/* While somebody of ours asks for a lease it is EAGAIN, for a moment. */
	for (int t = 0; fd < 0 && t < LEASE_TRIES && (t == 0 || errno == EAGAIN); t++)
		fd = openat(m->r->cache.dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return wfs_fail_sys(err, "open %s/%s", m->r->cache.path, name);
	/* a truncated one would be served as it is */
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == img->size)
		return fd;
	close(fd);
	return -EAGAIN;
}

int wfs_model_data_path(struct wfs_model *m, size_t i, char out[WFS_OBJECT_NAME], struct wfs_err *err)
{
	if (!m->images[i] || !wfs_image_probe(m->images[i]))
		return wfs_fail(err, -ENOENT, "%s has no complete image", m->v.files[i].path);
	data_path(m->images[i], out);
	return 0;
}

int wfs_model_peek(struct wfs_model *m, size_t i, void *buf, size_t len, uint64_t off, struct wfs_err *err)
{
	const struct wfs_file *f = &m->v.files[i];
	int r;

	assert(i < m->v.n_files && off <= f->size && len <= f->size - off);
	if (f->whole || (m->images[i]->opened && m->images[i]->complete))
		return wfs_model_read_wait(m, i, buf, len, off, err);
	r = wfs_build_peek(m->images[i], buf, len, off, err);
	return r < 0 ? wfs_wrap(err, r, "version %" PRIu64 " %s", m->v.sequence, f->path) : 0;
}
