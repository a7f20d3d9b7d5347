/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_plan.c - what a reader would fetch, by the planner that mounts and pulls use
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "weightfs/base.h"
#include "weightfs/config.h"
#include "weightfs/io.h"
#include "weightfs/json.h"

const char plan_help[] =
	"usage: weightsync plan [OPTION...] STORE\n\n"
	"By which steps a reader comes to a version in the fewest bytes, and what these are: from\n"
	"nothing, or from a version that it has.  Beside that what every single step and what a full\n"
	"copy would cost.\n\n"
	"  --have N         the reader has this version\n"
	"  --want N         it wants this one (default: the newest)\n"
	"  --json           one JSON object\n"
	"  --cacert FILE    certificates to trust for https\n"
	"  --help           this text\n";

enum { O_HAVE = 256, O_WANT, O_JSON, O_CACERT };

static const struct option options[] = {
	{ "have", 1, NULL, O_HAVE }, { "want", 1, NULL, O_WANT }, { "json", 0, NULL, O_JSON },
	{ "cacert", 1, NULL, O_CACERT }, { "help", 0, NULL, 'h' }, { NULL, 0, NULL, 0 },
};

static const char *const hows[] = {
	[WFS_STEP_HELD] = "have", [WFS_STEP_BASE] = "base", [WFS_STEP_DELTA] = "delta", [WFS_STEP_FULL] = "full",
	[WFS_STEP_UNDO] = "undo",
};

struct plan {
	struct wfs_store *st;
	struct wfs_replica *r;
	struct wfs_model *have, *want;
	uint64_t have_n, want_n;
	struct wfs_path *paths;		/* per file of want */
	uint64_t files, objects, full, replay;
	size_t n_objects;
	bool can_replay;
};

/* Bytes for all files; paths may be NULL. */
static int plan_files(struct plan *p, struct wfs_path *paths, uint64_t *total, struct wfs_err *err)
{
	const struct wfs_version *v = wfs_model_version(p->want), *old = p->have ? wfs_model_version(p->have) : NULL;
	int r = 0;

	*total = 0;
	for (size_t i = 0; r == 0 && i < v->n_files; i++) {
		const struct wfs_file *f = &v->files[i], *before = old ? wfs_version_find(old, f->path) : NULL;
		struct wfs_path path = { .n_steps = 0 };

		if (f->whole)
			path.bytes = before && before->whole && wfs_digest_equal(&before->sha256, &f->sha256) ? 0 : f->size;
		else
			r = wfs_model_path(p->want, i, &path, err);
		*total += path.bytes;
		if (paths)
			paths[i] = path;
		else
			free(path.steps);
	}
	return r;
}

/* What every single step from the version held would cost; not known when one of them is collected. */
static int replay(struct plan *p, struct wfs_err *err)
{
	int r = 0;

	for (uint64_t n = p->have_n + 1; r == 0 && n <= p->want_n; n++) {
		struct wfs_version v;
		struct wfs_commit c;
		size_t len;

		r = cmd_interrupted ? -ECANCELED : cmd_load_version(p->st, n, &c, &v, &len, err);
		if (r < 0)
			break;
		p->replay += len;
		for (size_t i = 0; i < v.n_files; i++)
			p->replay += v.files[i].travel;
		wfs_version_free(&v);
	}
	p->can_replay = r == 0 && p->have_n && p->have_n <= p->want_n;
	return r == -ENOENT ? 0 : r;
}

static int look(struct plan *p, const char *cache, struct wfs_err *err)
{
	struct wfs_replica_opts o = { .cache = cache, .lazy = true, .accept_run = true, .cancel = &cmd_interrupted };
	int r;

	r = wfs_replica_open(&p->r, p->st, &o, err);
	if (r == 0)
		r = wfs_replica_start(p->r, false, err);
	if (r == 0 && !p->want_n)
		r = cmd_newest(p->st, &p->want_n, err);
	if (r == 0)
		r = wfs_replica_load(p->r, p->want_n, &p->want, err);
	if (r == 0 && p->have_n)
		r = wfs_replica_load(p->r, p->have_n, &p->have, err);
	if (r < 0)
		return r;
	if (p->have)
		wfs_model_assume(p->have, true);
	p->paths = calloc(wfs_model_version(p->want)->n_files + 1, sizeof(*p->paths));
	if (!p->paths)
		return wfs_fail(err, -ENOMEM, "out of memory");
	r = plan_files(p, p->paths, &p->files, err);
	wfs_replica_history(p->r, &p->objects, &p->n_objects);
	if (p->have)
		wfs_model_assume(p->have, false);
	wfs_model_put(p->have);
	p->have = NULL;
	if (r == 0)
		r = plan_files(p, NULL, &p->full, err);
	return r == 0 && p->have_n ? replay(p, err) : r;
}

/* ---- printing ---- */

static void json_string(const char *text)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf b = WFS_BUF_INIT;

	if (wfs_json_quote(&b, text) == 0)
		printf("%.*s", (int)b.len, (const char *)b.data);
}

static void json_file(const struct wfs_file *f, const struct wfs_path *p, bool first)
{
	printf("%s\n{\"path\":", first ? "" : ",");
	json_string(f->path);
	printf(",\"size\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"compared\":%" PRIu64 ",\"steps\":[", f->size, p->bytes,
	       p->compared);
	for (size_t i = 0; i < p->n_steps; i++) {
		const struct wfs_step *s = &p->steps[i];

		printf("%s{\"how\":\"%s\",\"sequence\":%" PRIu64 ",\"back\":%" PRIu64 ",\"stored\":%" PRIu64 ",\"table\":%"
		       PRIu64 "}", i ? "," : "", hows[s->how], s->sequence, s->back, s->stored, s->table);
	}
	printf("]}");
}

static void print_json(const struct plan *p)
{
	const struct wfs_version *v = wfs_model_version(p->want);

	printf("{\"have\":%" PRIu64 ",\"want\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"versions\":{\"objects\":%zu,\"bytes\":%"
	       PRIu64 "},\"full\":%" PRIu64, p->have_n, p->want_n, p->files + p->objects, p->n_objects, p->objects, p->full);
	if (p->can_replay)
		printf(",\"replay\":%" PRIu64, p->replay);
	printf(",\"files\":[");
	for (size_t i = 0; i < v->n_files; i++)
		json_file(&v->files[i], &p->paths[i], i == 0);
	printf("]}\n");
}

static void print_file(const struct wfs_file *f, const struct wfs_path *p)
{
	char a[32];

	printf("  %10s  ", wfs_human_size(a, p->bytes));
	json_string(f->path);
	printf("\n");
	for (size_t i = p->n_steps; i-- > 0; ) {
		const struct wfs_step *s = &p->steps[i];

		printf("  %10s    ", s->how == WFS_STEP_HELD ? "" : wfs_human_size(a, s->stored + s->table));
		if (s->sequence)
			printf("version %-6" PRIu64, s->sequence);
		else
			printf("an older one  ");
		if (s->how == WFS_STEP_DELTA)
			printf(" against %" PRIu64 " back\n", s->back);
		else
			printf(" %s\n", s->how == WFS_STEP_HELD ? "is there" : s->how == WFS_STEP_FULL ? "in full" : hows[s->how]);
	}
}

static void print(const struct plan *p)
{
	const struct wfs_version *v = wfs_model_version(p->want);
	char a[32], b[32];

	if (p->have_n)
		printf("from version %" PRIu64 " to %" PRIu64, p->have_n, p->want_n);
	else
		printf("from nothing to version %" PRIu64, p->want_n);
	printf(": %s, of that %s in %zu version objects\n", wfs_human_size(a, p->files + p->objects),
	       wfs_human_size(b, p->objects), p->n_objects);
	for (size_t i = 0; i < v->n_files; i++)
		print_file(&v->files[i], &p->paths[i]);
	if (p->can_replay)
		printf("every single step: %s; ", wfs_human_size(a, p->replay));
	printf("from nothing: %s\n", wfs_human_size(a, p->full));
}

static int run(struct plan *p, bool json, struct wfs_err *err)
{
	const char *tmp = getenv("TMPDIR");
	WFS_AUTO(wfs_free_ptr) char *cache = NULL;
	int r;

	if (asprintf(&cache, "%s/weightsync-plan.XXXXXX", tmp && tmp[0] == '/' ? tmp : "/tmp") < 0) {
		cache = NULL;
		return wfs_fail(err, -ENOMEM, "out of memory");
	}
	if (!mkdtemp(cache))
		return wfs_fail_sys(err, "make %s", cache);
	r = look(p, cache, err);
	if (r == 0 && json)
		print_json(p);
	else if (r == 0)
		print(p);
	for (size_t i = 0; p->paths && i < wfs_model_version(p->want)->n_files; i++)
		free(p->paths[i].steps);
	free(p->paths);
	wfs_model_put(p->have);
	wfs_model_put(p->want);
	wfs_replica_close(p->r);
	wfs_remove_tree(AT_FDCWD, cache, NULL);
	return r;
}

int cmd_plan(int argc, char **argv)
{
	struct cmd_store s = { NULL, NULL, NULL };
	struct plan p = { .st = NULL };
	struct wfs_err err = { "" };
	bool json = false;
	int c, r;

	while ((c = cmd_getopt(argc, argv, options, plan_help)) != -1) {
		if ((c == O_HAVE && !cmd_number(optarg, &p.have_n)) || (c == O_WANT && !cmd_number(optarg, &p.want_n)))
			return EXIT_USAGE;
		if (c == O_JSON)
			json = true;
		if (c == O_CACERT)
			s.cacert = optarg;
		if (c == '?')
			return EXIT_USAGE;
	}
	if (argc - optind != 1)
		return cmd_usage("plan takes a store; `weightsync plan --help' says more");
	s.url = argv[optind];
	r = cmd_open(&s, false, &err);
	if (r < 0)
		return r == -EINVAL ? cmd_usage("%s", err.msg) : cmd_fail(r, &err);
	p.st = s.st;
	r = run(&p, json, &err);
	wfs_store_close(s.st);
	return r < 0 ? cmd_fail(r, &err) : 0;
}
