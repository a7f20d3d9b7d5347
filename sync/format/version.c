/* SPDX-License-Identifier: Apache-2.0 */
/*
 * version.c - the JSON objects of a store, in and out
 *
 * Members of an object are a table: name, kind of value, and a bit that says it was there.  A
 * document of a later format may differ in anything but its "format", so that is looked for first,
 * in a pass of its own.
 */
#include "weightfs/version.h"

#include <errno.h>
#include <string.h>

#include "format/format.h"
#include "weightfs/json.h"

#define SEQUENCE_MAX ((1ull << 53) - 1)	/* what every JSON reader takes exactly */

/* ---- format first ---- */

struct format_pass {
	const char *what;
	bool seen;
	uint64_t format;
};

static int format_event(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	struct format_pass *p = arg;

	if (ev->depth == 0 && ev->kind != WFS_JSON_OBJECT && ev->kind != WFS_JSON_OBJECT_END)
		return wfs_fail(err, -EBADMSG, "%s: not an object", p->what);
	if (!wfs_json_at_top(ev, "format"))
		return 0;
	if (p->seen)
		return wfs_fail(err, -EBADMSG, "%s: \"format\" occurs twice", p->what);
	if (ev->kind != WFS_JSON_UINT)
		return wfs_fail(err, -EBADMSG, "%s: \"format\" is not a whole number", p->what);
	p->seen = true;
	p->format = ev->uint;
	return 0;
}

static int check_format(const char *what, const void *data, size_t len, size_t max, struct wfs_err *err)
{
	struct format_pass p = { .what = what };
	int r;

	if (len > max)
		return wfs_fail(err, -EBADMSG, "%s: %zu bytes, at most %zu are possible", what, len, max);
	r = wfs_json_parse(data, len, WFS_JSON_EVENTS_MAX, format_event, &p, err);
	if (r < 0)
		return r;
	if (!p.seen)
		return wfs_fail(err, -EBADMSG, "%s: no \"format\"", what);
	if (p.format != WFS_FORMAT)
		return wfs_fail(err, -EPROTONOSUPPORT, "%s: format %llu, this program reads %d", what,
				(unsigned long long)p.format, WFS_FORMAT);
	return 0;
}

/* ---- members ---- */

enum value { V_FORMAT, V_RUN, V_UINT, V_SEQUENCE, V_DIGEST, V_TEXT, V_ARRAY };

struct member {
	const char *name;
	enum value value;
	bool optional;
	size_t offset;			/* of the field in the struct */
};

static const struct member *find_member(const struct member *m, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(m[i].name, name) == 0)
			return &m[i];
	return NULL;
}

static int parse_run(struct wfs_run *out, const struct wfs_json_event *ev)
{
	if (ev->len != 32 || strspn(ev->text, "0123456789abcdef") != 32)
		return -EBADMSG;
	memcpy(out->s, ev->text, sizeof(out->s));
	return 0;
}

static int parse_text(char **out, const struct wfs_json_event *ev)
{
	*out = strdup(ev->text);
	return *out ? 0 : -ENOMEM;
}

/* One value into its field; -EBADMSG without words when it is of another kind or out of range. */
static int parse_value(const struct member *m, char *field, const struct wfs_json_event *ev)
{
	bool text = ev->kind == WFS_JSON_STRING, number = ev->kind == WFS_JSON_UINT;

	switch (m->value) {
	case V_RUN:
		return text ? parse_run((struct wfs_run *)(void *)field, ev) : -EBADMSG;
	case V_DIGEST:
		return text ? wfs_digest_parse((struct wfs_digest *)(void *)field, ev->text, ev->len) : -EBADMSG;
	case V_TEXT:
		return text ? parse_text((char **)(void *)field, ev) : -EBADMSG;
	case V_SEQUENCE:
	case V_UINT:
		if (!number || (m->value == V_SEQUENCE && (ev->uint < 1 || ev->uint > SEQUENCE_MAX)))
			return -EBADMSG;
		*(uint64_t *)(void *)field = ev->uint;
		return 0;
	case V_ARRAY:
		return ev->kind == WFS_JSON_ARRAY ? 0 : -EBADMSG;
	default:			/* format: seen to before */
		return 0;
	}
}

/* The member of an object that `ev` is the value of, key being its name.  *has has a bit for each
 * row of the table. */
static int parse_member(const struct member *table, size_t n, unsigned *has, void *object, const char *key,
			const struct wfs_json_event *ev, struct wfs_err *err)
{
	const struct member *m = find_member(table, n, key);
	unsigned bit;
	int r;

	if (!m || ev->kind == WFS_JSON_ARRAY_END || ev->kind == WFS_JSON_OBJECT_END)
		return 0;
	bit = 1u << (m - table);
	if (*has & bit)
		return wfs_fail(err, -EBADMSG, "\"%s\" occurs twice", key);
	*has |= bit;
	r = parse_value(m, (char *)object + m->offset, ev);
	if (r == -EBADMSG)
		return wfs_fail(err, r, "\"%s\" is not what belongs there", key);
	return r < 0 ? wfs_fail(err, r, "out of memory") : 0;
}

static int check_members(const struct member *table, size_t n, unsigned has, struct wfs_err *err)
{
	for (size_t i = 0; i < n; i++)
		if (!table[i].optional && !(has & 1u << i))
			return wfs_fail(err, -EBADMSG, "no \"%s\"", table[i].name);
	return 0;
}

/* ---- store info and commit: flat objects ---- */

static const struct member store_info_members[] = {
	{ "format", V_FORMAT, false, 0 },
	{ "run", V_RUN, false, 0 },
};

static const struct member commit_members[] = {
	{ "format", V_FORMAT, false, 0 },
	{ "run", V_RUN, false, offsetof(struct wfs_commit, run) },
	{ "sequence", V_SEQUENCE, false, offsetof(struct wfs_commit, sequence) },
	{ "version", V_DIGEST, false, offsetof(struct wfs_commit, version) },
};

struct flat {
	const struct member *table;
	size_t n;
	unsigned has;
	void *object;
};

static int flat_event(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	struct flat *f = arg;

	if (ev->depth != 1)
		return 0;
	return parse_member(f->table, f->n, &f->has, f->object, ev->key[0], ev, err);
}

static int parse_flat(struct flat *f, const char *what, const void *data, size_t len, struct wfs_err *err)
{
	int r = check_format(what, data, len, WFS_STORE_INFO_MAX, err);

	if (r < 0)
		return r;
	r = wfs_json_parse(data, len, WFS_JSON_EVENTS_MAX, flat_event, f, err);
	if (r == 0)
		r = check_members(f->table, f->n, f->has, err);
	return r < 0 ? wfs_wrap(err, r, "%s", what) : 0;
}

int wfs_store_info_parse(struct wfs_run *out, const void *data, size_t len, struct wfs_err *err)
{
	struct wfs_run run;
	struct flat f = { store_info_members, ARRAY_SIZE(store_info_members), 0, &run };
	int r = parse_flat(&f, "weightfs-store", data, len, err);

	if (r == 0)
		*out = run;
	return r;
}

int wfs_store_info_format(struct wfs_buf *out, const struct wfs_run *run)
{
	return wfs_buf_printf(out, "{\"format\":%d,\"run\":\"%s\"}\n", WFS_FORMAT, run->s);
}

int wfs_commit_parse(struct wfs_commit *out, const void *data, size_t len, struct wfs_err *err)
{
	struct wfs_commit c;
	struct flat f = { commit_members, ARRAY_SIZE(commit_members), 0, &c };
	int r = parse_flat(&f, "commit", data, len, err);

	if (r == 0)
		*out = c;
	return r;
}

int wfs_commit_format(struct wfs_buf *out, const struct wfs_commit *c)
{
	return wfs_buf_printf(out, "{\"format\":%d,\"run\":\"%s\",\"sequence\":%llu,\"version\":\"%s\"}\n", WFS_FORMAT,
			      c->run.s, (unsigned long long)c->sequence, wfs_hex(&c->version).s);
}

/* ---- version ---- */

static const struct member version_members[] = {
	{ "format", V_FORMAT, false, 0 },
	{ "run", V_RUN, false, offsetof(struct wfs_version, run) },
	{ "sequence", V_SEQUENCE, false, offsetof(struct wfs_version, sequence) },
	{ "time", V_UINT, false, offsetof(struct wfs_version, time_ns) },
	{ "label", V_TEXT, false, offsetof(struct wfs_version, label) },
	{ "parents", V_ARRAY, false, 0 },
	{ "files", V_ARRAY, false, 0 },
};

enum { F_PATH, F_SIZE, F_TRAVEL, F_SHA256, F_TABLE, F_ANCHOR, F_LAYOUT };

static const struct member file_members[] = {
	[F_PATH] = { "path", V_TEXT, false, offsetof(struct wfs_file, path) },
	[F_SIZE] = { "size", V_UINT, false, offsetof(struct wfs_file, size) },
	[F_TRAVEL] = { "travel", V_UINT, false, offsetof(struct wfs_file, travel) },
	[F_SHA256] = { "sha256", V_DIGEST, true, offsetof(struct wfs_file, sha256) },
	[F_TABLE] = { "table", V_DIGEST, true, offsetof(struct wfs_file, table) },
	[F_ANCHOR] = { "anchor", V_DIGEST, true, offsetof(struct wfs_file, anchor) },
	[F_LAYOUT] = { "layout", V_DIGEST, true, offsetof(struct wfs_file, layout) },
};

struct version_parse {
	struct wfs_version v;
	unsigned has, file_has;
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

/* How a file is stored follows from which digests it has. */
static int check_stored(const struct wfs_file *f, unsigned has, struct wfs_err *err)
{
	struct wfs_digest empty;

	if (!f->whole == !(has & 1u << F_TABLE))
		return wfs_fail(err, -EBADMSG, "it has %s", f->whole ? "both sha256 and table" : "neither sha256 nor table");
	if (!f->whole)
		return 0;
	if (f->has_anchor || f->has_layout)
		return wfs_fail(err, -EBADMSG, "it is stored whole, but has an anchor or layout");
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
	int r = check_members(file_members, ARRAY_SIZE(file_members), p->file_has, err);

	if (r < 0)
		return r;
	f->whole = p->file_has & 1u << F_SHA256;
	f->has_anchor = p->file_has & 1u << F_ANCHOR;
	f->has_layout = p->file_has & 1u << F_LAYOUT;
	r = wfs_name_check(f->path, err);
	if (r < 0)
		return r;
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
		r = parse_member(file_members, ARRAY_SIZE(file_members), &p->file_has, f, ev->key[2], ev, err);
	return r < 0 ? wfs_wrap(err, r, "file %zu (%.120s)", p->v.n_files, f->path ? f->path : "no path yet") : 0;
}

static int version_event(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	struct version_parse *p = arg;

	if (ev->depth == 0)
		return 0;
	if (ev->depth == 1)
		return parse_member(version_members, ARRAY_SIZE(version_members), &p->has, &p->v, ev->key[0], ev, err);
	if (strcmp(ev->key[0], "parents") == 0)
		return add_parent(p, ev, err);
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

static int check_version(const struct version_parse *p, struct wfs_err *err)
{
	int r = check_members(version_members, ARRAY_SIZE(version_members), p->has, err);

	if (r < 0)
		return r;
	if (strlen(p->v.label) > WFS_LABEL_LEN_MAX)
		return wfs_fail(err, -EBADMSG, "a label of more than %u bytes", WFS_LABEL_LEN_MAX);
	if (p->v.n_files == 0)
		return wfs_fail(err, -EBADMSG, "no file");
	return check_directories(&p->v, err);
}

int wfs_version_parse(struct wfs_version *out, const void *data, size_t len, struct wfs_err *err)
{
	struct version_parse p = { 0 };
	int r;

	*out = (struct wfs_version){ 0 };
	r = check_format("version", data, len, WFS_VERSION_MAX, err);
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
		r = wfs_buf_printf(out, "],\n\"files\":[");
	for (size_t i = 0; i < v->n_files && r == 0; i++) {
		r = wfs_buf_printf(out, i ? ",\n" : "\n");
		if (r == 0)
			r = format_file(out, &v->files[i]);
	}
	return r < 0 ? r : wfs_buf_printf(out, "]}\n");
}
