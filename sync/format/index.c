/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.c - model.safetensors.index.json: which shard has which tensor
 *
 * Loaders join the file names of a weight_map to the model's directory and open them, so a name that
 * is more than a name would lead them out of it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "format/format.h"
#include "weightfs/json.h"
#include "weightfs/version.h"

struct index_parse {
	wfs_index_fn *fn;
	void *arg;
	bool seen;			/* a weight_map */
};

static int index_event(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	struct index_parse *p = arg;

	if (ev->depth == 0 && ev->kind != WFS_JSON_OBJECT && ev->kind != WFS_JSON_OBJECT_END)
		return wfs_fail(err, -EBADMSG, "index: not an object");
	if (wfs_json_at_top(ev, "weight_map") && ev->kind != WFS_JSON_OBJECT_END) {
		if (ev->kind != WFS_JSON_OBJECT)
			return wfs_fail(err, -EBADMSG, "index: weight_map is not an object");
		if (p->seen)
			return wfs_fail(err, -EBADMSG, "index: weight_map occurs twice");
		p->seen = true;
	}
	if (ev->depth < 2 || !ev->key[0] || strcmp(ev->key[0], "weight_map") != 0)
		return 0;
	if (ev->depth > 2 || ev->kind != WFS_JSON_STRING)
		return wfs_fail(err, -EBADMSG, "index: weight_map entry %s is not a string", ev->key[1]);
	return p->fn(p->arg, ev->key[1], ev->text, err);
}

int wfs_index_parse(const void *data, size_t len, wfs_index_fn *fn, void *arg, struct wfs_err *err)
{
	struct index_parse p = { .fn = fn, .arg = arg };
	int r = wfs_json_parse(data, len, WFS_JSON_EVENTS_MAX, index_event, &p, err);

	if (r < 0)
		return r;
	return p.seen ? 0 : wfs_fail(err, -EBADMSG, "index: no weight_map");
}

struct index_check {
	const struct wfs_version *v;
	const char *path;
	int dir_len;			/* of path's directory with its slash */
};

static int check_entry(void *arg, const char *tensor, const char *file, struct wfs_err *err)
{
	const struct index_check *c = arg;
	char path[WFS_PATH_LEN_MAX + 1];
	int r = wfs_name_check(file, err), n;

	if (r < 0)
		return wfs_wrap(err, r, "%s: tensor %s", c->path, tensor);
	if (strchr(file, '/') || !wfs_name_is_shard(file))
		return wfs_fail(err, -EBADMSG, "%s: tensor %s: \"%s\" is not a shard of its directory", c->path, tensor, file);
	n = snprintf(path, sizeof(path), "%.*s%s", c->dir_len, c->path, file);
	if (n < 0 || (size_t)n >= sizeof(path) || !wfs_version_find(c->v, path))
		return wfs_fail(err, -EBADMSG, "%s: tensor %s: the version has no file \"%s\"", c->path, tensor, file);
	return 0;
}

int wfs_index_check(const struct wfs_version *v, const char *path, const void *data, size_t len,
		    struct wfs_err *err)
{
	const char *slash = strrchr(path, '/');
	struct index_check c = { .v = v, .path = path, .dir_len = slash ? (int)(slash + 1 - path) : 0 };

	return wfs_index_parse(data, len, check_entry, &c, err);
}
