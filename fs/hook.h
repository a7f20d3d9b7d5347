/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook.h - hooks: who is told of a version, and how
 *
 * weightfs hooks is a process of its own, so that an engine that is slow to reload delays nobody.
 *
 *	hook_conf.c	[hook "NAME"] sections to struct hook	hook_preset.c	the engines' calls
 *	hook_text.c	a version's text inside JSON and URLs
 *	hook_http.c	requests, one after the other		hook_command.c	a program
 *	hook_tell.c	one version told, or rolled back	hook_run.c	the life of one hook
 *
 * Text that comes with a version (its label) is foreign: it reaches JSON escaped, URLs encoded, and
 * programs by the environment only.  No shell is ever run.
 */
#ifndef FS_HOOK_H
#define FS_HOOK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#include "client.h"
#include "event.h"
#include "weightfs/buf.h"
#include "weightfs/config.h"

#define HOOK_NAME_MAX	32u
#define HOOKS_MAX	16u		/* of one mount */
#define HOOK_REQUESTS_MAX 16u		/* of one hook */
#define HOOK_SECRET_MAX	8192u		/* bytes of a token_file or header_file */
#define HOOK_SECRETS_MAX 16u		/* headers they give */
#define HOOK_UNSET	(~0u)

struct hook_request {
	char *method, *url;		/* the URL as written: a path, or a whole one */
	char *body, *expect_text;	/* NULL: none, 200 */
	struct wfs_strings header;
	unsigned timeout_ms, retries;	/* HOOK_UNSET: the hook's */
	bool always;			/* sent also after one before it failed */
	bool judged;			/* an answer that says "success": false is a failure, whatever its status */
	unsigned expect_low, expect_high;
};

struct hook {
	char name[HOOK_NAME_MAX + 1];
	char *mount, *url, *command, *token_file, *header_file, *cacert;
	char *file;			/* that its section is in */
	struct wfs_strings arg;
	unsigned preset, pause;		/* indices of their choices */
	unsigned timeout_ms, retries;
	bool at_start;			/* tell the newest version when hooks starts */
	struct hook_request *request;
	size_t n_requests;
};

struct hook_list {
	struct hook *v;
	size_t n;
};

/* ---- hook_conf.c ---- */

/* Add the hooks of a file to *out.  -ENOENT: no file (no message).  -EINVAL names file and line. */
int hook_conf_read(struct hook_list *out, const char *path, struct wfs_err *err);
/* Drop those of other mounts, check the rest and make them ready to run.  -EINVAL. */
int hook_conf_finish(struct hook_list *l, const char *mount, struct wfs_err *err);
void hook_list_free(struct hook_list *l);
bool hook_name_ok(const char *name, size_t len);
int hook_request_add(struct hook *h, const char *method, const char *url, struct wfs_err *err);

/* ---- hook_preset.c ---- */

enum { PRESET_NONE, PRESET_SGLANG, PRESET_VLLM };
extern const char *const hook_presets[], *const hook_pauses[];
int hook_preset(struct hook *h, struct wfs_err *err);	/* fills h->request */

/* ---- hook_text.c ---- */

enum hook_text { HOOK_JSON, HOOK_URL };
/* Append the template with {version} {path} {label} {id} {mount} put in. */
int hook_expand(struct wfs_buf *out, const char *template, enum hook_text how, const struct event *e,
		const char *mount);

/* ---- running ---- */

/* What a run needs beside the hook. */
struct hook_run {
	const struct hook *h;
	const char *mount;
	const atomic_bool *cancel;
};

/* Requests [from, n).  0, or the error of the first that failed, whose place is in *at; with always
 * set, only those marked so, all of them, whatever happens.  *unreached: the server is not there. */
int hook_requests(const struct hook_run *run, const struct event *e, size_t from, bool always, size_t *at,
		  bool *unreached, struct wfs_err *err);
/* previous may be NULL. */
int hook_command(const struct hook_run *run, const struct event *e, const struct event *previous,
		 struct wfs_err *err);
/* What would be sent or run, without secrets. */
int hook_print(FILE *f, const struct hook_run *run, const struct event *e, struct wfs_err *err);

/* Sleep; -ECANCELED when the flag is set. */
int hook_pause(unsigned ms, const atomic_bool *cancel);
/* The same before a repetition: half a second first (*ms is 0 then), twice as long each time, 10 s at most. */
int hook_back_off(unsigned *ms, const atomic_bool *cancel);

/* Tell the version e; previous (may be NULL) is what the engine has.  On failure the previous one has been
 * told again, if that makes sense.  *unreached: nothing was changed, nobody was there. */
int hook_tell(const struct hook_run *run, const struct event *e, const struct event *previous,
	      bool *unreached, struct wfs_err *err);

#endif
