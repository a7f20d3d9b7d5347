/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook_conf.c - the sections [hook "NAME"] of weightfs.conf
 *
 * A line "request = METHOD URL" begins a request; the lines about requests that follow are about it.
 */
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hook.h"
#include "weightfs/base.h"
#include "weightfs/http.h"
#include "weightfs/json.h"

#define TIMEOUT_MS	(5u * 60 * 1000)
#define RETRIES		2u
#define RETRIES_MAX	100u

#define OPT(type, name, what, field, choices) { name, what, offsetof(struct type, field), choices, NULL }

static const struct wfs_opt hook_table[] = {
	OPT(hook, "mount", WFS_OPT_STRING, mount, NULL),
	OPT(hook, "command", WFS_OPT_STRING, command, NULL),
	OPT(hook, "arg", WFS_OPT_LIST, arg, NULL),
	OPT(hook, "preset", WFS_OPT_CHOICE, preset, hook_presets),
	OPT(hook, "pause", WFS_OPT_CHOICE, pause, hook_pauses),
	OPT(hook, "url", WFS_OPT_STRING, url, NULL),
	OPT(hook, "token_file", WFS_OPT_STRING, token_file, NULL),
	OPT(hook, "header_file", WFS_OPT_STRING, header_file, NULL),
	OPT(hook, "cacert", WFS_OPT_STRING, cacert, NULL),
	OPT(hook, "timeout", WFS_OPT_TIME, timeout_ms, NULL),
	OPT(hook, "retries", WFS_OPT_UINT, retries, NULL),
	OPT(hook, "at_start", WFS_OPT_FLAG, at_start, NULL),
};

static const struct wfs_opt request_table[] = {
	OPT(hook_request, "header", WFS_OPT_LIST, header, NULL),
	OPT(hook_request, "body", WFS_OPT_STRING, body, NULL),
	OPT(hook_request, "expect", WFS_OPT_STRING, expect_text, NULL),
	OPT(hook_request, "timeout", WFS_OPT_TIME, timeout_ms, NULL),
	OPT(hook_request, "retries", WFS_OPT_UINT, retries, NULL),
	OPT(hook_request, "always", WFS_OPT_FLAG, always, NULL),
};

static void request_free(struct hook_request *q)
{
	wfs_opt_free(q, request_table, ARRAY_SIZE(request_table));
	free(q->method);
	free(q->url);
}

static void hook_free(struct hook *h)
{
	for (size_t i = 0; i < h->n_requests; i++)
		request_free(&h->request[i]);
	free(h->request);
	wfs_opt_free(h, hook_table, ARRAY_SIZE(hook_table));
	free(h->file);
}

void hook_list_free(struct hook_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		hook_free(&l->v[i]);
	free(l->v);
	*l = (struct hook_list){ 0 };
}

bool hook_name_ok(const char *name, size_t len)
{
	if (!len || len > HOOK_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!strchr("-_.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", name[i]))
			return false;
	return true;
}

int hook_request_add(struct hook *h, const char *method, const char *url, struct wfs_err *err)
{
	struct hook_request *v;

	if (h->n_requests == HOOK_REQUESTS_MAX)
		return wfs_fail(err, -EINVAL, "hook %s: more than %u requests", h->name, HOOK_REQUESTS_MAX);
	v = reallocarray(h->request, h->n_requests + 1, sizeof(*v));
	if (!v)
		return wfs_fail(err, -ENOMEM, "out of memory");
	h->request = v;
	v += h->n_requests++;
	*v = (struct hook_request){ .method = strdup(method), .url = strdup(url),
				    .timeout_ms = HOOK_UNSET, .retries = HOOK_UNSET };
	return v->method && v->url ? 0 : wfs_fail(err, -ENOMEM, "out of memory");
}

/* "POST /path" or "POST http://host/path" */
static int add_request(struct hook *h, const char *value, struct wfs_err *err)
{
	size_t n = strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
	const char *url = value + n + strspn(value + n, " \t");
	char method[16];

	if (!n || n >= sizeof(method) || url == value + n || !*url)
		return wfs_fail(err, -EINVAL, "a request is written METHOD URL, as in: request = POST /v1/reload");
	snprintf(method, sizeof(method), "%.*s", (int)n, value);
	return hook_request_add(h, method, url, err);
}

static struct hook *find(struct hook_list *l, const char *name, size_t len)
{
	for (size_t i = 0; i < l->n; i++)
		if (strlen(l->v[i].name) == len && memcmp(l->v[i].name, name, len) == 0)
			return &l->v[i];
	return NULL;
}

static int add_hook(struct hook_list *l, struct hook **out, const char *name, size_t len, struct wfs_err *err)
{
	struct hook *v;

	if (!hook_name_ok(name, len))
		return wfs_fail(err, -EINVAL, "a hook's name has at most %u letters, digits, '-', '_' and '.'", HOOK_NAME_MAX);
	v = reallocarray(l->v, l->n + 1, sizeof(*v));
	if (!v)
		return wfs_fail(err, -ENOMEM, "out of memory");
	l->v = v;
	v += l->n++;
	*v = (struct hook){ .timeout_ms = TIMEOUT_MS, .retries = HOOK_UNSET, .at_start = true };
	snprintf(v->name, sizeof(v->name), "%.*s", (int)len, name);
	*out = v;
	return 0;
}

static bool known(const struct wfs_opt *table, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(table[i].name, name) == 0)
			return true;
	return false;
}

static int on_option(void *arg, const char *section, const char *name, const char *value, struct wfs_err *err)
{
	static const char lead[] = "hook \"";
	size_t len = strlen(section);
	const char *text = section + sizeof(lead) - 1;
	bool of_request = known(request_table, ARRAY_SIZE(request_table), name);
	struct hook *h;
	int r = 0;

	if (strncmp(section, "hook", 4) != 0 || (section[4] && section[4] != ' '))
		return 0;			/* of the mounts */
	if (strncmp(section, lead, sizeof(lead) - 1) != 0 || len < sizeof(lead) || section[len - 1] != '"')
		return wfs_fail(err, -EINVAL, "a hook's section is written [hook \"NAME\"]");
	len -= sizeof(lead);
	h = find(arg, text, len);
	if (!h)
		r = add_hook(arg, &h, text, len, err);
	if (r < 0)
		return r;
	if (strcmp(name, "request") == 0)
		return add_request(h, value, err);
	if (strcmp(name, "mount") == 0 && value[0] != '/')
		return wfs_fail(err, -EINVAL, "mount=%s: the mount's whole path is needed, as in mount = /home/me/policy", value);
	if (of_request && h->n_requests)
		return wfs_opt_set(&h->request[h->n_requests - 1], request_table, ARRAY_SIZE(request_table), name, value, err);
	if (of_request && !known(hook_table, ARRAY_SIZE(hook_table), name))
		return wfs_fail(err, -EINVAL, "\"%s\" is about a request: it stands after its line \"request = ...\"", name);
	r = wfs_opt_set(h, hook_table, ARRAY_SIZE(hook_table), name, value, err);
	if (r < 0 && !known(hook_table, ARRAY_SIZE(hook_table), name))
		return wfs_fail(err, r, "unknown option \"%s\"; a hook has mount, command, arg, preset, pause, url, token_file, "
				"header_file, cacert, timeout, retries, at_start, request; a request has header, body, expect, "
				"timeout, retries, always", name);
	return r;
}

int hook_conf_read(struct hook_list *out, const char *path, struct wfs_err *err)
{
	int r = wfs_conf_read(path, on_option, out, err);

	for (size_t i = 0; r == 0 && i < out->n; i++) {
		if (out->v[i].file)
			continue;
		out->v[i].file = strdup(path);
		if (!out->v[i].file)
			r = wfs_fail(err, -ENOMEM, "out of memory");
	}
	return r;
}

/* ---- checks ---- */

static int url_ok(const char *url)
{
	const char *host = strncmp(url, "http://", 7) == 0 ? url + 7 : strncmp(url, "https://", 8) == 0 ? url + 8 : NULL;

	size_t len = host ? strcspn(host, "/?#") : 0;

	if (!len || memchr(host, '@', len) || memchr(host, '{', len))	/* no version says whom to ask */
		return false;
	for (const char *p = url; *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 127 || *p == '\\')
			return false;
	return true;
}

/* The request's URL becomes a whole one. */
static int join_url(const struct hook *h, struct hook_request *q, struct wfs_err *err)
{
	size_t len = h->url ? strlen(h->url) : 0;
	char *all = NULL;

	if (q->url[0] == '/' && h->url) {
		while (len && h->url[len - 1] == '/')
			len--;
		if (asprintf(&all, "%.*s%s", (int)len, h->url, q->url) < 0)
			return wfs_fail(err, -ENOMEM, "out of memory");
		free(q->url);
		q->url = all;
	}
	if (url_ok(q->url))
		return 0;
	return wfs_fail(err, -EINVAL, "hook %s: \"%s\" is no URL http://HOST/... or https://HOST/... without credentials%s",
			h->name, q->url, q->url[0] == '/' ? " (url= is missing)" : "");
}

/* "200" or "200-299" */
static int parse_expect(const struct hook *h, struct hook_request *q, struct wfs_err *err)
{
	int end = 0;

	q->expect_low = q->expect_high = 200;
	if (!q->expect_text)
		return 0;
	if (sscanf(q->expect_text, "%3u%n", &q->expect_low, &end) == 1 && !q->expect_text[end])
		q->expect_high = q->expect_low;
	else if (sscanf(q->expect_text, "%3u-%3u%n", &q->expect_low, &q->expect_high, &end) != 2 || q->expect_text[end])
		q->expect_low = 0;
	if (q->expect_low >= 100 && q->expect_low <= q->expect_high && q->expect_high <= 599)
		return 0;
	return wfs_fail(err, -EINVAL, "hook %s: expect=%s is no status as 200 or 200-299", h->name, q->expect_text);
}

static int ignore(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	(void)arg;
	(void)ev;
	(void)err;
	return 0;
}

static int check_body(const struct hook *h, const struct hook_request *q, struct wfs_err *err)
{
	/* neither a number nor, at its beginning, the rest of an escape as in \u004{label} */
	char path[] = "/m/versions/1", label[] = " a \"label\"\n";
	char id[] = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
	struct event sample = { .sequence = 1, .path = path, .label = label, .id = id };
	WFS_AUTO(wfs_buf_free) struct wfs_buf body = WFS_BUF_INIT;
	int r;

	if (!q->body)
		return 0;
	r = hook_expand(&body, q->body, HOOK_JSON, &sample, "/m");
	if (r < 0)
		return wfs_fail(err, r, "out of memory");
	r = wfs_json_parse(body.data, body.len, 10000, ignore, NULL, err);
	return r < 0 ? wfs_wrap(err, -EINVAL, "hook %s: body is no JSON", h->name) : 0;
}

static int finish_request(const struct hook *h, struct hook_request *q, struct wfs_err *err)
{
	int r = join_url(h, q, err);

	if (r == 0)
		r = parse_expect(h, q, err);
	if (r == 0)
		r = check_body(h, q, err);
	for (size_t i = 0; r == 0 && i < q->header.n; i++)
		if (!wfs_http_header_ok(q->header.v[i]))
			r = wfs_fail(err, -EINVAL, "hook %s: \"%s\" is no header \"Name: value\"", h->name, q->header.v[i]);
	if (q->timeout_ms == HOOK_UNSET)
		q->timeout_ms = h->timeout_ms;
	if (q->retries == HOOK_UNSET)
		q->retries = h->retries;
	if (r == 0 && !q->timeout_ms)
		r = wfs_fail(err, -EINVAL, "hook %s: timeout=0 leaves no time", h->name);
	if (r == 0 && q->retries > RETRIES_MAX)
		r = wfs_fail(err, -EINVAL, "hook %s: at most %u retries", h->name, RETRIES_MAX);
	return r;
}

static int finish_hook(struct hook *h, struct wfs_err *err)
{
	unsigned kinds = (h->command != NULL) + (h->preset != PRESET_NONE) + (h->n_requests > 0);
	int r = 0;

	if (kinds != 1)
		return wfs_fail(err, -EINVAL, "hook %s: one of command=, preset= and request= says what is done%s", h->name,
				kinds ? "; it has more than one" : "");
	if (h->command && h->command[0] != '/')
		return wfs_fail(err, -EINVAL, "hook %s: command=%s is no absolute path; arguments are given by arg=", h->name,
				h->command);
	if (h->arg.n && !h->command)
		return wfs_fail(err, -EINVAL, "hook %s: arg= belongs to command=", h->name);
	if (h->pause && h->preset == PRESET_NONE)
		return wfs_fail(err, -EINVAL, "hook %s: pause= belongs to preset=", h->name);
	if (h->retries == HOOK_UNSET)
		h->retries = h->command ? 0 : RETRIES;
	if (!h->timeout_ms)
		return wfs_fail(err, -EINVAL, "hook %s: timeout=0 leaves no time", h->name);
	if (h->preset != PRESET_NONE)
		r = hook_preset(h, err);
	for (size_t i = 0; r == 0 && i < h->n_requests; i++)
		r = finish_request(h, &h->request[i], err);
	return r;
}

/* Is the hook's mount= this mount? */
static bool is_of(const struct hook *h, const char *mount)
{
	size_t n = strlen(h->mount);

	while (n > 1 && h->mount[n - 1] == '/')
		n--;
	return strlen(mount) == n && memcmp(h->mount, mount, n) == 0;
}

int hook_conf_finish(struct hook_list *l, const char *mount, struct wfs_err *err)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->n; i++) {
		struct hook h = l->v[i];
		int r;

		if (!h.mount)
			return wfs_fail(err, -EINVAL, "%s: hook %s: mount= is missing", h.file, h.name);
		if (!is_of(&h, mount)) {
			hook_free(&l->v[i]);
			l->v[i] = (struct hook){ 0 };
			continue;
		}
		r = finish_hook(&l->v[i], err);
		if (r < 0)
			return wfs_wrap(err, r, "%s", h.file);
		h = l->v[i];
		l->v[i] = (struct hook){ 0 };
		l->v[kept++] = h;
	}
	l->n = kept;
	if (kept > HOOKS_MAX)
		return wfs_fail(err, -EINVAL, "%s: more than %u hooks", mount, HOOKS_MAX);
	return 0;
}
