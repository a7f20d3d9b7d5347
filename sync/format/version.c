/* SPDX-License-Identifier: Apache-2.0 */
/*
 * version.c - the version object, in and out
 */
#include "weightfs/version.h"

#include <errno.h>
#include <string.h>

#include "format/object.h"
#include "weightfs/base.h"
#include "weightfs/json.h"

static const struct wfs_member version_members[] = {
	{ "format", V_FORMAT, false, 0 },
	{ "run", V_RUN, false, offsetof(struct wfs_version, run) },
	{ "sequence", V_SEQUENCE, false, offsetof(struct wfs_version, sequence) },
	{ "time", V_UINT, false, offsetof(struct wfs_version, time_ns) },
	{ "label", V_TEXT, false, offsetof(struct wfs_version, label) },
	{ "parents", V_ARRAY, false, 0 },
	{ "strides", V_ARRAY, true, 0 },
	{ "files", V_ARRAY, false, 0 },
};

enum { F_PATH, F_SIZE, F_TRAVEL, F_SHA256, F_TABLE, F_ANCHOR, F_LAYOUT, F_FULL, F_FULL_BACK, F_PLAIN, F_COLD, F_CHAIN, F_STRIDES };

static const struct wfs_member file_members[] = {
	[F_PATH] = { "path", V_TEXT, false, offsetof(struct wfs_file, path) },
	[F_SIZE] = { "size", V_UINT, false, offsetof(struct wfs_file, size) },
	[F_TRAVEL] = { "travel", V_UINT, false, offsetof(struct wfs_file, travel) },
	[F_SHA256] = { "sha256", V_DIGEST, true, offsetof(struct wfs_file, sha256) },
	[F_TABLE] = { "table", V_DIGEST, true, offsetof(struct wfs_file, table) },
	[F_ANCHOR] = { "anchor", V_DIGEST, true, offsetof(struct wfs_file, anchor) },
	[F_LAYOUT] = { "layout", V_DIGEST, true, offsetof(struct wfs_file, layout) },
	[F_FULL] = { "full", V_UINT, true, offsetof(struct wfs_file, full) },
	[F_FULL_BACK] = { "full_back", V_SEQUENCE, true, offsetof(struct wfs_file, full_back) },
	[F_PLAIN] = { "plain", V_DIGEST, true, offsetof(struct wfs_file, plain) },
	[F_COLD] = { "cold", V_UINT, true, offsetof(struct wfs_file, cold) },
	[F_CHAIN] = { "chain", V_UINT, true, offsetof(struct wfs_file, chain) },
	[F_STRIDES] = { "strides", V_ARRAY, true, 0 },
};

/* A version's strides name the version object, a file's the table. */
static const struct wfs_member version_stride_members[] = {
	{ "back", V_SEQUENCE, false, offsetof(struct wfs_stride, back) },
	{ "version", V_DIGEST, false, offsetof(struct wfs_stride, id) },
};

static const struct wfs_member file_stride_members[] = {
	{ "back", V_SEQUENCE, false, offsetof(struct wfs_stride, back) },
	{ "table", V_DIGEST, false, offsetof(struct wfs_stride, id) },
	{ "travel", V_UINT, false, offsetof(struct wfs_stride, travel) },
};

struct version_parse {
	struct wfs_version v;
	unsigned has, file_has, stride_has;
	size_t cap;			/* of v.files; the last one is being read */
};

static int add_parent(struct version_parse *p, const struct wfs_json_event *ev, struct wfs_err *err)
{
	if (p->v.n_parents == WFS_PARENTS_MAX)
		return wfs_fail(err, -EBADMSG, "more than %d parents", WFS_PARENTS_MAX);
	if (ev->kind != WFS_JSON_STRING || wfs_digest_parse(&p->v.parents[p->v.n_parents], ev->text, ev->len) < 0)
		return wfs_fail(err, -EBADMSG, "a parent is not a digest");
	p->v.n_parents++;
	return 0;
}

static int begin_file(struct version_parse *p, struct wfs_err *err)
{
	if (p->v.n_files == WFS_FILES_MAX)
		return wfs_fail(err, -EBADMSG, "more than %u files", WFS_FILES_MAX);
	if (p->v.n_files == p->cap) {
		size_t cap = p->cap ? 2 * p->cap : 16;
		struct wfs_file *grown = realloc(p->v.files, cap * sizeof(*grown));

		if (!grown)
			return wfs_fail(err, -ENOMEM, "out of memory");
		p->v.files = grown;
		p->cap = cap;
	}
	p->v.files[p->v.n_files++] = (struct wfs_file){ 0 };
	p->file_has = 0;
	return 0;
}

/* strides[i] itself, or one of its members; `depth` is that of the entry. */
static int stride_event(struct wfs_stride *list, unsigned *n, unsigned *has, const struct wfs_member *members,
			size_t n_members, const struct wfs_json_event *ev, unsigned depth, struct wfs_err *err)
{
	if (ev->depth > depth + 1)
		return 0;
	if (ev->depth == depth + 1)
		return wfs_object_member(members, n_members, has, &list[*n - 1], ev->key[depth], ev, err);
	if (ev->kind == WFS_JSON_OBJECT_END) {
		if (list[*n - 1].back < 2 || (*n > 1 && list[*n - 2].back >= list[*n - 1].back))
			return wfs_fail(err, -EBADMSG, "strides do not rise from 2");
		return wfs_object_complete(members, n_members, *has, err);
	}
	if (ev->kind != WFS_JSON_OBJECT)
		return wfs_fail(err, -EBADMSG, "an entry of \"strides\" is not an object");
	if (*n == WFS_STRIDES_MAX)
		return wfs_fail(err, -EBADMSG, "more than %d strides", WFS_STRIDES_MAX);
	list[(*n)++] = (struct wfs_stride){ 0 };
	*has = 0;
	return 0;
}

/* How a file is stored follows from which digests it has. */
static int check_stored(const struct wfs_file *f, unsigned has, struct wfs_err *err)
{
	struct wfs_digest empty;

	if (!f->whole == !(has & 1u << F_TABLE))
		return wfs_fail(err, -EBADMSG, "it has %s", f->whole ? "both sha256 and table" : "neither sha256 nor table");
	if (f->has_anchor && f->full_back)
		return wfs_fail(err, -EBADMSG, "it has an anchor, and an older one");
	if (f->has_plain && !f->has_anchor)
		return wfs_fail(err, -EBADMSG, "it is plain, but has no anchor");
	if (f->chain > WFS_CHAIN_MAX || (f->chain && f->has_anchor))
		return wfs_fail(err, -EBADMSG, "a chain of %llu", (unsigned long long)f->chain);
	if (!f->whole)
		return 0;
	if (f->has_anchor || f->has_layout || f->full || f->full_back || f->n_strides || f->cold || f->chain)
		return wfs_fail(err, -EBADMSG, "it is stored whole, but has an anchor, layout or stride");
	if (f->size > WFS_SMALL_FILE_MAX)
		return wfs_fail(err, -EBADMSG, "it is stored whole, but over %u bytes", WFS_SMALL_FILE_MAX);
	wfs_sha256(&empty, "", 0);
	if (f->size == 0 && !wfs_digest_equal(&f->sha256, &empty))
		return wfs_fail(err, -EBADMSG, "its sha256 is not that of an empty file");
	return 0;
}

static int end_file(struct version_parse *p, struct wfs_err *err)
{
	struct wfs_file *f = &p->v.files[p->v.n_files - 1];
	int r = wfs_object_complete(file_members, ARRAY_SIZE(file_members), p->file_has, err);

	if (r < 0)
		return r;
	f->whole = p->file_has & 1u << F_SHA256;
	f->has_anchor = p->file_has & 1u << F_ANCHOR;
	f->has_layout = p->file_has & 1u << F_LAYOUT;
	f->has_plain = p->file_has & 1u << F_PLAIN;
	r = wfs_name_check(f->path, err);
	if (r < 0)
		return r;
	if (f->has_anchor && !f->cold)
		f->cold = f->full;
	if (f->size > WFS_FILE_MAX)
		return wfs_fail(err, -EBADMSG, "%llu bytes, at most %llu are possible", (unsigned long long)f->size,
				WFS_FILE_MAX);
	if (p->v.n_files > 1 && strcmp(f[-1].path, f->path) >= 0)
		return wfs_fail(err, -EBADMSG, "it does not follow %s in the order of paths", f[-1].path);
	return check_stored(f, p->file_has, err);
}

/* files[i] itself, or one of its members. */
static int file_event(struct version_parse *p, const struct wfs_json_event *ev, struct wfs_err *err)
{
	struct wfs_file *f;
	int r = 0;

	if (ev->depth == 2 && ev->kind == WFS_JSON_OBJECT)
		return begin_file(p, err);
	if (ev->depth == 2 && ev->kind != WFS_JSON_OBJECT_END)
		return wfs_fail(err, -EBADMSG, "an entry of \"files\" is not an object");
	f = &p->v.files[p->v.n_files - 1];
	if (ev->depth == 2)
		r = end_file(p, err);
	else if (ev->depth == 3)
		r = wfs_object_member(file_members, ARRAY_SIZE(file_members), &p->file_has, f, ev->key[2], ev, err);
	else if (ev->key[2] && strcmp(ev->key[2], "strides") == 0)
		r = stride_event(f->strides, &f->n_strides, &p->stride_has, file_stride_members,
				 ARRAY_SIZE(file_stride_members), ev, 4, err);
	return r < 0 ? wfs_wrap(err, r, "file %zu (%.120s)", p->v.n_files, f->path ? f->path : "no path yet") : 0;
}

static int version_event(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	struct version_parse *p = arg;

	if (ev->depth == 0)
		return 0;
	if (ev->depth == 1)
		return wfs_object_member(version_members, ARRAY_SIZE(version_members), &p->has, &p->v, ev->key[0], ev, err);
	if (strcmp(ev->key[0], "parents") == 0)
		return add_parent(p, ev, err);
	if (strcmp(ev->key[0], "strides") == 0)
		return stride_event(p->v.strides, &p->v.n_strides, &p->stride_has, version_stride_members,
				    ARRAY_SIZE(version_stride_members), ev, 2, err);
	return strcmp(ev->key[0], "files") == 0 ? file_event(p, ev, err) : 0;
}

/* A path that another one needs as a directory: "a" beside "a/b", with any number of paths between. */
static int check_directories(const struct wfs_version *v, struct wfs_err *err)
{
	char dir[WFS_PATH_LEN_MAX + 1];

	for (size_t i = 0; i < v->n_files; i++) {
		const char *path = v->files[i].path;

		for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
			memcpy(dir, path, (size_t)(slash - path));
			dir[slash - path] = '\0';
			if (wfs_version_find(v, dir))
				return wfs_fail(err, -EBADMSG, "file %s is the directory of %s", dir, path);
		}
	}
	return 0;
}

const struct wfs_stride *wfs_stride_find(const struct wfs_stride *list, unsigned n, uint64_t back)
{
	for (unsigned i = 0; i < n; i++)
		if (list[i].back == back)
			return &list[i];
	return NULL;
}

/* What a file names further back is there: between version 1 and the version itself. */
static int check_strides(const struct wfs_version *v, struct wfs_err *err)
{
	if (v->n_strides && v->strides[v->n_strides - 1].back >= v->sequence)
		return wfs_fail(err, -EBADMSG, "a stride to before version 1");
	for (size_t i = 0; i < v->n_files; i++) {
		const struct wfs_file *f = &v->files[i];

		if (f->full_back >= v->sequence)
			return wfs_fail(err, -EBADMSG, "file %.120s: stored in full before version 1", f->path);
		for (unsigned k = 0; k < f->n_strides; k++)
			if (!wfs_stride_find(v->strides, v->n_strides, f->strides[k].back))
				return wfs_fail(err, -EBADMSG, "file %.120s: a stride that the version has not", f->path);
	}
	return 0;
}

static int check_version(const struct version_parse *p, struct wfs_err *err)
{
	int r = wfs_object_complete(version_members, ARRAY_SIZE(version_members), p->has, err);

	if (r < 0)
		return r;
	if (strlen(p->v.label) > WFS_LABEL_LEN_MAX)
		return wfs_fail(err, -EBADMSG, "a label of more than %u bytes", WFS_LABEL_LEN_MAX);
	if (p->v.n_files == 0)
		return wfs_fail(err, -EBADMSG, "no file");
	r = check_strides(&p->v, err);
	return r < 0 ? r : check_directories(&p->v, err);
}

int wfs_version_parse(struct wfs_version *out, const void *data, size_t len, struct wfs_err *err)
{
	struct version_parse p = { 0 };
	int r;

	*out = (struct wfs_version){ 0 };
	r = wfs_object_format("version", data, len, WFS_VERSION_MAX, err);
	if (r < 0)
		return r;
	r = wfs_json_parse(data, len, WFS_JSON_EVENTS_MAX, version_event, &p, err);
	if (r == 0)
		r = check_version(&p, err);
	if (r < 0) {
		wfs_version_free(&p.v);
		return wfs_wrap(err, r, "version");
	}
	*out = p.v;
	return 0;
}

void wfs_version_free(struct wfs_version *v)
{
	for (size_t i = 0; i < v->n_files; i++)
		free(v->files[i].path);
	free(v->files);
	free(v->label);
	*v = (struct wfs_version){ 0 };
}

const struct wfs_file *wfs_version_find(const struct wfs_version *v, const char *path)
{
	size_t lo = 0, hi = v->n_files;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(v->files[mid].path, path);

		if (c == 0)
			return &v->files[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

static int format_strides(struct wfs_buf *out, const struct wfs_stride *list, unsigned n, bool of_file)
{
	int r = wfs_buf_printf(out, ",\"strides\":[");

	for (unsigned i = 0; r == 0 && i < n; i++) {
		r = wfs_buf_printf(out, "%s{\"back\":%llu,\"%s\":\"%s\"", i ? "," : "", (unsigned long long)list[i].back,
				   of_file ? "table" : "version", wfs_hex(&list[i].id).s);
		if (r == 0 && of_file)
			r = wfs_buf_printf(out, ",\"travel\":%llu", (unsigned long long)list[i].travel);
		if (r == 0)
			r = wfs_buf_printf(out, "}");
	}
	return r < 0 ? r : wfs_buf_printf(out, "]");
}

static int format_file(struct wfs_buf *out, const struct wfs_file *f)
{
	int r = wfs_buf_printf(out, "{\"path\":");

	if (r == 0)
		r = wfs_json_quote(out, f->path);
	if (r == 0)
		r = wfs_buf_printf(out, ",\"size\":%llu,\"%s\":\"%s\"", (unsigned long long)f->size,
				   f->whole ? "sha256" : "table", wfs_hex(f->whole ? &f->sha256 : &f->table).s);
	if (r == 0 && f->has_anchor)
		r = wfs_buf_printf(out, ",\"anchor\":\"%s\"", wfs_hex(&f->anchor).s);
	if (r == 0 && f->has_layout)
		r = wfs_buf_printf(out, ",\"layout\":\"%s\"", wfs_hex(&f->layout).s);
	if (r == 0 && f->full)
		r = wfs_buf_printf(out, ",\"full\":%llu", (unsigned long long)f->full);
	if (r == 0 && f->full_back)
		r = wfs_buf_printf(out, ",\"full_back\":%llu", (unsigned long long)f->full_back);
	if (r == 0 && f->has_plain)
		r = wfs_buf_printf(out, ",\"plain\":\"%s\"", wfs_hex(&f->plain).s);
	if (r == 0 && f->chain)
		r = wfs_buf_printf(out, ",\"cold\":%llu,\"chain\":%llu", (unsigned long long)f->cold,
				   (unsigned long long)f->chain);
	if (r == 0 && f->n_strides)
		r = format_strides(out, f->strides, f->n_strides, true);
	return r < 0 ? r : wfs_buf_printf(out, ",\"travel\":%llu}", (unsigned long long)f->travel);
}

/* One file a line, for people and for diff. */
int wfs_version_format(struct wfs_buf *out, const struct wfs_version *v)
{
	int r = wfs_buf_printf(out, "{\"format\":%d,\"run\":\"%s\",\"sequence\":%llu,\n\"time\":%llu,\"label\":", WFS_FORMAT,
			       v->run.s, (unsigned long long)v->sequence, (unsigned long long)v->time_ns);

	if (r == 0)
		r = wfs_json_quote(out, v->label ? v->label : "");
	if (r == 0)
		r = wfs_buf_printf(out, ",\"parents\":[");
	for (size_t i = 0; i < v->n_parents && r == 0; i++)
		r = wfs_buf_printf(out, "%s\"%s\"", i ? "," : "", wfs_hex(&v->parents[i]).s);
	if (r == 0)
		r = wfs_buf_printf(out, "]");
	if (r == 0 && v->n_strides)
		r = format_strides(out, v->strides, v->n_strides, false);
	if (r == 0)
		r = wfs_buf_printf(out, ",\n\"files\":[");
	for (size_t i = 0; i < v->n_files && r == 0; i++) {
		r = wfs_buf_printf(out, i ? ",\n" : "\n");
		if (r == 0)
			r = format_file(out, &v->files[i]);
	}
	return r < 0 ? r : wfs_buf_printf(out, "]}\n");
}
