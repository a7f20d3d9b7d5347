/* SPDX-License-Identifier: Apache-2.0 */
/*
 * object.c - what the JSON objects of a store have in common, and the flat ones: store info, commit
 *
 * Members of an object are a table: name, kind of value, and a bit that says it was there.  A
 * document of a later format may differ in anything but its "format", so that is looked for first,
 * in a pass of its own.
 */
#include "format/object.h"

#include <errno.h>
#include <string.h>

#include "weightfs/base.h"

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

int wfs_object_format(const char *what, const void *data, size_t len, size_t max, struct wfs_err *err)
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

static const struct wfs_member *find_member(const struct wfs_member *m, size_t n, const char *name)
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
static int parse_value(const struct wfs_member *m, char *field, const struct wfs_json_event *ev)
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

int wfs_object_member(const struct wfs_member *table, size_t n, unsigned *has, void *object, const char *key,
			const struct wfs_json_event *ev, struct wfs_err *err)
{
	const struct wfs_member *m = find_member(table, n, key);
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

int wfs_object_complete(const struct wfs_member *table, size_t n, unsigned has, struct wfs_err *err)
{
	for (size_t i = 0; i < n; i++)
		if (!table[i].optional && !(has & 1u << i))
			return wfs_fail(err, -EBADMSG, "no \"%s\"", table[i].name);
	return 0;
}

/* ---- store info and commit: flat objects ---- */

static const struct wfs_member store_info_members[] = {
	{ "format", V_FORMAT, false, 0 },
	{ "run", V_RUN, false, 0 },
};

static const struct wfs_member commit_members[] = {
	{ "format", V_FORMAT, false, 0 },
	{ "run", V_RUN, false, offsetof(struct wfs_commit, run) },
	{ "sequence", V_SEQUENCE, false, offsetof(struct wfs_commit, sequence) },
	{ "version", V_DIGEST, false, offsetof(struct wfs_commit, version) },
};

struct flat {
	const struct wfs_member *table;
	size_t n;
	unsigned has;
	void *object;
};

static int flat_event(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	struct flat *f = arg;

	if (ev->depth != 1)
		return 0;
	return wfs_object_member(f->table, f->n, &f->has, f->object, ev->key[0], ev, err);
}

static int parse_flat(struct flat *f, const char *what, const void *data, size_t len, struct wfs_err *err)
{
	int r = wfs_object_format(what, data, len, WFS_STORE_INFO_MAX, err);

	if (r < 0)
		return r;
	r = wfs_json_parse(data, len, WFS_JSON_EVENTS_MAX, flat_event, f, err);
	if (r == 0)
		r = wfs_object_complete(f->table, f->n, f->has, err);
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
