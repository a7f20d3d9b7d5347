/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hooktab.c - a small table of hooks and the versions they hold
 *
 * CACHE/hooks has a line "NAME SEQUENCE" for each hook that was told something.  It is a hint: what is
 * wrong in it is left out.  Lock: t->lock; models are put and files written outside of it.
 */
#include "hooktab.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hook.h"
#include "number.h"
#include "weightfs/base.h"
#include "weightfs/io.h"
#include "weightfs/json.h"
#include "weightfs/log.h"

#define FILE_NAME	"hooks"
#define FILE_MAX_LEN	4096u

struct row {
	char name[HOOK_NAME_MAX + 1];	/* "": free */
	uint64_t told, telling;		/* 0: none */
	struct wfs_model *told_model, *telling_model;
	uint64_t since_ns;		/* of the last change of state */
	char error[512];		/* of the last try; "": it went well */
};

struct hooktab {
	pthread_mutex_t lock;
	struct wfs_replica *replica;
	char *cache;
	bool attached;			/* weightfs hooks runs */
	pid_t pid;			/* its number; 0: of a pid namespace that we do not see into */
	bool dirty;			/* the file has not what is here */
	bool unsaved;			/* the last write failed, which was said */
	struct row row[HOOKS_MAX];
};

static struct row *find(struct hooktab *t, const char *name)
{
	for (size_t i = 0; i < HOOKS_MAX; i++)
		if (strcmp(t->row[i].name, name) == 0)
			return &t->row[i];
	return NULL;
}

static struct row *find_or_add(struct hooktab *t, const char *name, size_t len)
{
	char copy[HOOK_NAME_MAX + 1];
	struct row *r;

	if (!hook_name_ok(name, len))
		return NULL;
	snprintf(copy, sizeof(copy), "%.*s", (int)len, name);
	r = find(t, copy);
	if (!r) {
		r = find(t, "");
		if (r)
			memcpy(r->name, copy, sizeof(copy));
	}
	return r;
}

/* ---- the file ---- */

static void load_line(struct hooktab *t, const char *line)
{
	size_t len = strcspn(line, " ");
	struct row *r;
	uint64_t told;

	if (!line[len] || !number_parse(&told, line + len + 1) || !told)
		return;
	r = find_or_add(t, line, len);
	if (!r)
		return;
	r->told = told;
	r->since_ns = wfs_now_ns();
	wfs_model_put(r->told_model);
	r->told_model = wfs_replica_find(t->replica, r->told);
}

static int load(struct hooktab *t, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf text = WFS_BUF_INIT;
	WFS_AUTO(wfs_close_fd) int dir = open(t->cache, O_PATH | O_DIRECTORY | O_CLOEXEC);
	char *line, *rest;
	int r;

	if (dir < 0)
		return wfs_fail_sys(err, "%s", t->cache);
	r = wfs_read_file(&text, dir, FILE_NAME, FILE_MAX_LEN, err);
	if (r == 0)
		r = wfs_buf_append(&text, "", 1);
	if (r == -ENOMEM)
		return wfs_fail(err, r, "out of memory");
	if (r < 0) {
		if (r != -ENOENT)
			log_warn("%s/%s is left out: %s", t->cache, FILE_NAME, err->msg);
		err->msg[0] = '\0';
		return 0;
	}
	for (rest = (char *)text.data; (line = strsep(&rest, "\n"));)
		load_line(t, line);
	return 0;
}

static int format(struct hooktab *t, struct wfs_buf *out)
{
	int r = wfs_buf_append(out, "", 0);

	for (size_t i = 0; r == 0 && i < HOOKS_MAX; i++)
		if (t->row[i].name[0] && t->row[i].told)
			r = wfs_buf_printf(out, "%s %" PRIu64 "\n", t->row[i].name, t->row[i].told);
	return r;
}

/* What is to be written, or -EALREADY: nothing is. */
static int take_changes(struct hooktab *t, struct wfs_buf *out)
{
	int r = -EALREADY;

	pthread_mutex_lock(&t->lock);
	if (t->dirty)
		r = format(t, out);
	t->dirty &= r < 0;
	pthread_mutex_unlock(&t->lock);
	return r;
}

/* Not written: it stays to be done, and the next second tries again. */
static void give_back_changes(struct hooktab *t, const struct wfs_err *err)
{
	bool say;

	pthread_mutex_lock(&t->lock);
	t->dirty = true;
	say = !t->unsaved;
	t->unsaved = true;
	pthread_mutex_unlock(&t->lock);
	if (say)
		log_warn("which versions hooks were told is not kept until %s/%s can be written: %s", t->cache, FILE_NAME,
			 err->msg);
}

static void changes_kept(struct hooktab *t)
{
	bool say;

	pthread_mutex_lock(&t->lock);
	say = t->unsaved;
	t->unsaved = false;
	pthread_mutex_unlock(&t->lock);
	if (say)
		log_info("which versions hooks were told is kept again in %s/%s", t->cache, FILE_NAME);
}

void hooktab_save(struct hooktab *t)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf text = WFS_BUF_INIT;
	WFS_AUTO(wfs_close_fd) int dir = -1;
	struct wfs_err err = { 0 };
	int r = take_changes(t, &text);

	if (r < 0)
		return;
	dir = open(t->cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = dir < 0 ? wfs_fail_sys(&err, "%s", t->cache) :
		      wfs_write_file(dir, FILE_NAME, text.data, text.len, 0600, &err);
	if (r < 0)
		give_back_changes(t, &err);
	else
		changes_kept(t);
}

int hooktab_open(struct hooktab **out, struct wfs_replica *r, const char *cache, struct wfs_err *err)
{
	struct hooktab *t = calloc(1, sizeof(*t));
	int ret;

	if (!t)
		return wfs_fail(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&t->lock, NULL);
	t->replica = r;
	t->cache = strdup(cache);
	ret = t->cache ? load(t, err) : wfs_fail(err, -ENOMEM, "out of memory");
	if (ret < 0) {
		hooktab_close(t);
		return ret;
	}
	*out = t;
	return 0;
}

static void row_clear(struct row *r)
{
	wfs_model_put(r->told_model);
	wfs_model_put(r->telling_model);
	*r = (struct row){ 0 };
}

void hooktab_close(struct hooktab *t)
{
	if (!t)
		return;
	if (t->cache)
		hooktab_save(t);
	for (size_t i = 0; i < HOOKS_MAX; i++)
		row_clear(&t->row[i]);
	pthread_mutex_destroy(&t->lock);
	free(t->cache);
	free(t);
}

/* ---- who runs ---- */

static bool listed(const char *names, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = names; (p = strstr(p, name)); p += len)
		if ((p == names || p[-1] == ' ') && (!p[len] || p[len] == ' '))
			return true;
	return false;
}

/* Under the lock; what is forgotten goes to *old. */
static int set_names(struct hooktab *t, const char *names, struct row old[HOOKS_MAX], struct wfs_err *err)
{
	for (size_t i = 0; i < HOOKS_MAX; i++)
		if (t->row[i].name[0] && !listed(names, t->row[i].name)) {
			old[i] = t->row[i];
			t->row[i] = (struct row){ 0 };
			t->dirty = true;
		}
	while (*names) {
		size_t len = strcspn(names, " ");

		if (!find_or_add(t, names, len))
			return wfs_fail(err, -EINVAL, "hooks: a name that is none, or more than %u", HOOKS_MAX);
		names += len + (names[len] == ' ');
	}
	return 0;
}

int hooktab_attach(struct hooktab *t, const char *names, pid_t pid, struct wfs_err *err)
{
	struct row old[HOOKS_MAX] = { 0 };
	int r;

	pthread_mutex_lock(&t->lock);
	if (t->attached && t->pid)
		r = wfs_fail(err, -EBUSY, "the hooks of this mount are run by process %d already", (int)t->pid);
	else if (t->attached)
		r = wfs_fail(err, -EBUSY, "the hooks of this mount are run already, in another pid namespace");
	else
		r = set_names(t, names, old, err);
	if (r == 0) {
		t->attached = true;
		t->pid = pid;
	}
	pthread_mutex_unlock(&t->lock);
	for (size_t i = 0; i < HOOKS_MAX; i++)
		row_clear(&old[i]);
	return r;
}

void hooktab_detach(struct hooktab *t)
{
	struct wfs_model *old[HOOKS_MAX];

	pthread_mutex_lock(&t->lock);
	t->attached = false;
	t->pid = 0;
	for (size_t i = 0; i < HOOKS_MAX; i++) {
		struct row *r = &t->row[i];

		old[i] = r->telling_model;
		r->telling_model = NULL;
		if (r->telling)		/* what became of it nobody knows */
			snprintf(r->error, sizeof(r->error), "weightfs hooks ended while version %" PRIu64 " was told",
				 r->telling);
		r->telling = 0;
	}
	pthread_mutex_unlock(&t->lock);
	for (size_t i = 0; i < HOOKS_MAX; i++)
		wfs_model_put(old[i]);
}

/* ---- one hook ---- */

int hooktab_known(struct hooktab *t, const char *name)
{
	bool is;

	pthread_mutex_lock(&t->lock);
	is = name[0] && find(t, name);
	pthread_mutex_unlock(&t->lock);
	return is ? 0 : -ENOENT;
}

/* It is being told m, or (m NULL) was told in vain, and why.  Nobody tells who has gone since the question
 * was asked: it would be said to be telling, and hold m, for ever. */
static int set_telling(struct hooktab *t, const char *name, struct wfs_model *m, const char *why)
{
	struct wfs_model *old = NULL;
	struct row *r;

	pthread_mutex_lock(&t->lock);
	r = name[0] && (t->attached || !m) ? find(t, name) : NULL;
	if (r) {
		old = r->telling_model;
		r->telling_model = m ? wfs_model_get(m) : NULL;
		r->telling = m ? wfs_model_version(m)->sequence : 0;
		r->since_ns = wfs_now_ns();
		if (!m)
			snprintf(r->error, sizeof(r->error), "%s", *why ? why : "failed");
	}
	pthread_mutex_unlock(&t->lock);
	wfs_model_put(old);
	return r ? 0 : -ENOENT;
}

int hooktab_begin(struct hooktab *t, const char *name, struct wfs_model *m)
{
	return set_telling(t, name, m, "");
}

int hooktab_failed(struct hooktab *t, const char *name, const char *why)
{
	return set_telling(t, name, NULL, why);
}

int hooktab_told(struct hooktab *t, const char *name, uint64_t sequence)
{
	struct wfs_model *old = NULL;
	struct row *r;

	pthread_mutex_lock(&t->lock);
	r = name[0] ? find(t, name) : NULL;
	if (r && r->telling == sequence) {
		old = r->told_model;
		r->told = sequence;
		r->told_model = r->telling_model;
		r->telling = 0;
		r->telling_model = NULL;
		r->error[0] = '\0';
		r->since_ns = wfs_now_ns();
		t->dirty = true;
	} else {
		r = NULL;
	}
	pthread_mutex_unlock(&t->lock);
	wfs_model_put(old);
	return r ? 0 : -ENOENT;
}

/* What is held stays shown, unless the store is of another run: its numbers begin anew. */
static struct wfs_model *if_shown(struct hooktab *t, struct wfs_model *m)
{
	struct wfs_model *now = m ? wfs_replica_find(t->replica, wfs_model_version(m)->sequence) : NULL;
	bool same = now == m;

	wfs_model_put(now);
	if (same)
		return m;
	wfs_model_put(m);
	return NULL;
}

struct wfs_model *hooktab_last(struct hooktab *t, const char *name)
{
	struct wfs_model *m = NULL;
	struct row *r;

	pthread_mutex_lock(&t->lock);
	r = name[0] ? find(t, name) : NULL;
	if (r && r->told_model)
		m = wfs_model_get(r->told_model);
	pthread_mutex_unlock(&t->lock);
	return if_shown(t, m);
}

/* ---- status ---- */

static int put_row(const struct hooktab *t, const struct row *r, bool first, struct wfs_buf *out)
{
	const char *state = r->telling ? "telling" : r->error[0] ? "failed" : r->told ? "told" : "waiting";
	int ret;

	ret = wfs_buf_printf(out, "%s{\"name\":\"%s\",\"state\":\"%s\",\"told\":%" PRIu64 ",\"telling\":%" PRIu64
			     ",\"since_ms\":%" PRIu64 ",\"runs\":%s,\"process\":%d,\"error\":", first ? "" : ",", r->name, state, r->told,
			     r->telling, r->since_ns ? (wfs_now_ns() - r->since_ns) / 1000000 : 0,
			     t->attached ? "true" : "false", (int)t->pid);
	if (ret == 0)
		ret = wfs_json_quote(out, r->error);
	return ret < 0 ? ret : wfs_buf_append(out, "}", 1);
}

int hooktab_status(struct hooktab *t, struct wfs_buf *out)
{
	int r = wfs_buf_append(out, "[", 1);
	bool first = true;

	pthread_mutex_lock(&t->lock);
	for (size_t i = 0; r == 0 && i < HOOKS_MAX; i++) {
		if (!t->row[i].name[0])
			continue;
		r = put_row(t, &t->row[i], first, out);
		first = false;
	}
	pthread_mutex_unlock(&t->lock);
	return r < 0 ? r : wfs_buf_append(out, "]", 1);
}
