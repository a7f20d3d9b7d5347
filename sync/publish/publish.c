/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish.c - the steps of a publish
 *
 * Packs, tables and layouts, then the version object, then the commit, then the hint: readers see
 * nothing before the commit, which is one exclusive creation.  Whoever is killed before it leaves
 * objects that nothing names.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "publish/internal.h"
#include "weightfs/base.h"
#include "weightfs/draft.h"
#include "weightfs/io.h"
#include "weightfs/log.h"
#include "weightfs/version.h"

struct publish {
	struct wfs_store *store;
	const char *dir;
	const struct wfs_publish_opts *o;
	const struct wfs_progress *progress;
	struct wfs_publish_result *res;
	struct wfs_run run;
	struct wfs_inputs in;
	struct wfs_strings base;	/* --previous */
	struct wfs_replica *replica;
	struct wfs_parent parent;
	struct wfs_version v;
	struct wfs_strider strider;
	uint64_t done;			/* bytes of finished files */
};

/* ---- before ---- */

static int open_run(struct publish *p, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	uint8_t id[16];
	int r;

	r = wfs_store_get_buf(&raw, p->store, "weightfs-store", WFS_STORE_INFO_MAX, true, NULL, err);
	if (r == 0)
		return wfs_store_info_parse(&p->run, raw.data, raw.len, err);
	if (r != -ENOENT)
		return wfs_wrap(err, r, "weightfs-store");
	r = wfs_random(id, sizeof(id));
	for (size_t i = 0; i < sizeof(id); i++)
		snprintf(p->run.s + 2 * i, 3, "%02x", id[i]);
	if (r == 0)
		r = wfs_store_info_format(&raw, &p->run);
	if (r < 0)
		return wfs_fail(err, r, "make a run id");
	p->res->store_growth += raw.len;
	return wfs_store_create(p->store, "weightfs-store", raw.data, raw.len, err);
}

/* One directory a run, as a cache serves one run only. */
static char *default_cache(const struct wfs_run *run)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char *path = NULL;
	int n;

	if (xdg && xdg[0] == '/')
		n = asprintf(&path, "%s/weightfs/publish/%s", xdg, run->s);
	else if (home && home[0] == '/')
		n = asprintf(&path, "%s/.cache/weightfs/publish/%s", home, run->s);
	else
		n = asprintf(&path, "/var/cache/weightfs/publish/%s", run->s);
	return n < 0 ? NULL : path;
}

static int open_replica(struct publish *p, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) char *cache = p->o->cache ? strdup(p->o->cache) : default_cache(&p->run);
	struct wfs_replica_opts o = {
		.cache = cache, .workers = p->o->workers, .lazy = true, .accept_run = true,
		.cancel = p->progress ? p->progress->cancel : NULL,
	};
	int r = cache ? 0 : wfs_fail(err, -ENOMEM, "out of memory");

	if (r == 0 && p->o->previous)
		r = wfs_strings_add(&p->base, p->o->previous);
	o.base = p->base;
	if (r == 0)
		r = wfs_replica_open(&p->replica, p->store, &o, err);
	if (r == 0 && p->o->n_strides)
		r = wfs_undo_begin(p->replica, err);
	return r < 0 ? r : wfs_replica_start(p->replica, false, err);
}

/* The last version, whole in our cache, or read block by block from --previous. */
static int find_parent(struct publish *p, struct wfs_err *err)
{
	uint64_t sequence;
	int r;

	r = wfs_replica_look(p->replica, &sequence, err);
	if (r == -ENOENT) {
		p->v.sequence = 1;
		if (err)
			err->msg[0] = '\0';
		return 0;
	}
	if (r == 0)
		r = wfs_replica_load(p->replica, sequence, &p->parent.model, err);
	if (r == 0 && !p->o->previous)
		r = wfs_replica_complete(p->replica, p->parent.model, p->progress, err);
	if (r < 0)
		return wfs_wrap(err, r, "last version");
	p->parent.v = wfs_model_version(p->parent.model);
	p->v.sequence = sequence + 1;
	p->v.parents[0] = *wfs_model_id(p->parent.model);
	p->v.n_parents = 1;
	p->parent.headers = calloc(p->parent.v->n_files, sizeof(struct wfs_safetensors *));
	return p->parent.headers ? 0 : wfs_fail(err, -ENOMEM, "out of memory");
}

/* ---- one file ---- */

static int put_object(struct publish *p, const char *kind, const void *data, size_t len, struct wfs_digest *id,
		      struct wfs_err *err)
{
	char name[WFS_OBJECT_NAME];

	wfs_sha256(id, data, len);
	wfs_object_name(name, kind, id);
	p->res->store_growth += len;
	return wfs_store_put(p->store, name, data, len, err);
}

static int publish_whole(struct publish *p, const struct wfs_input *in, const struct wfs_file *old,
			 struct wfs_file *f, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) uint8_t *data = malloc(f->size + 1);
	int r;

	f->whole = true;
	if (!data)
		return wfs_fail(err, -ENOMEM, "out of memory");
	r = wfs_pread(in->fd, data, f->size, 0, err);
	if (r < 0)
		return wfs_wrap(err, r == -ENODATA ? -EBUSY : r, "read %s", in->path);
	wfs_sha256(&f->sha256, data, f->size);
	if (f->size == 0 || (old && old->whole && wfs_digest_equal(&old->sha256, &f->sha256)))
		return 0;
	f->travel = f->size;
	return put_object(p, "packs", data, f->size, &f->sha256, err);
}

static int encode(struct publish *p, struct wfs_encode *e, const struct wfs_input *in,
		  const struct wfs_pieces *pieces, bool keep, struct wfs_err *err)
{
	memset(e, 0, sizeof(*e));
	e->plain = p->o->plain && pieces->n_bases == 0;
	e->store = p->store;
	e->replica = keep ? p->replica : NULL;
	e->parent = &p->parent;
	e->in = in;
	e->pieces = pieces;
	e->workers = p->o->workers;
	e->progress = p->progress;
	e->done_before = p->done;
	e->total = p->res->size;
	return wfs_encode_file(e, err);
}

static void take_full(struct wfs_file *f, const struct wfs_encode *e, const struct wfs_digest *table)
{
	f->has_anchor = true;
	f->anchor = *table;
	f->full = f->cold = e->stored + e->table.len;
	f->full_back = f->chain = 0;
	f->has_plain = e->plain;
	f->plain = e->pack;
}

/* Once more, every block in full. */
static int add_anchor(struct publish *p, const struct wfs_input *in, struct wfs_file *f, struct wfs_err *err)
{
	struct wfs_parent none = { NULL, NULL, NULL };
	struct wfs_pieces full;
	struct wfs_digest id;
	struct wfs_encode e;
	int r;

	r = wfs_pieces_make(&full, in, &none, err);
	if (r < 0)
		return r;
	r = encode(p, &e, in, &full, false, err);
	if (r == 0)
		r = put_object(p, "tables", e.table.data, e.table.len, &id, err);
	if (r == 0) {
		take_full(f, &e, &id);
		p->res->anchor = true;
		p->res->store_growth += e.stored;
	}
	wfs_buf_free(&e.table);
	wfs_pieces_free(&full);
	return r;
}

/* An anchor is of the version: what is not in full here, or not as wanted, is stored once more. */
static int add_anchors(struct publish *p, struct wfs_err *err)
{
	int r = 0;

	if (!p->o->full && !wfs_anchor_is_due(&p->v, p->o->anchor_limit))
		return 0;
	p->done = 0;
	for (size_t i = 0; r == 0 && i < p->v.n_files; i++) {
		struct wfs_file *f = &p->v.files[i];

		if (!f->whole && f->size && (!f->has_anchor || (p->o->plain && !f->has_plain)))
			r = add_anchor(p, &p->in.v[i], f, err);
		p->done += f->size;
	}
	return r;
}

static int put_layout(struct publish *p, const struct wfs_input *in, const struct wfs_file *old,
		      struct wfs_file *f, struct wfs_err *err)
{
	f->has_layout = true;
	wfs_sha256(&f->layout, in->head, in->head_len);
	if (old && old->has_layout && wfs_digest_equal(&old->layout, &f->layout))
		return 0;
	return put_object(p, "layouts", in->head, in->head_len, &f->layout, err);
}

static int store_encoded(struct publish *p, const struct wfs_input *in, const struct wfs_file *old,
			 const struct wfs_pieces *pieces, struct wfs_encode *e, struct wfs_file *f,
			 struct wfs_err *err)
{
	int r;

	r = put_object(p, "tables", e->table.data, e->table.len, &f->table, err);
	f->travel = e->stored + e->table.len;
	p->res->store_growth += e->stored;
	p->res->changed_bytes += pieces->n_bases ? e->changed : f->size;
	if (r == 0) {
		r = wfs_draft_commit(e->draft, &f->table, err);
		e->draft = NULL;
	}
	if (r == 0 && in->header)
		r = put_layout(p, in, old, f, err);
	if (r == 0 && e->based) {
		wfs_anchor_account(f, true, p->parent.v, pieces->base_file, pieces->n_bases);
		wfs_anchor_inherit(f, old);
	} else if (r == 0) {
		take_full(f, e, &f->table);
	}
	return r;
}

/* As the parent has it: nothing new to name. */
static void reuse(struct wfs_file *f, const struct wfs_file *old)
{
	f->table = old->table;
	f->has_anchor = old->has_anchor;
	f->anchor = old->anchor;
	f->full = old->full;
	if (!old->has_anchor)
		wfs_anchor_inherit(f, old);
	f->has_plain = old->has_plain;
	f->plain = old->plain;
	f->cold = old->cold;
	f->chain = old->chain;
	f->has_layout = old->has_layout;
	f->layout = old->layout;
}

static int publish_blocks(struct publish *p, const struct wfs_input *in, const struct wfs_file *old,
			  struct wfs_file *f, struct wfs_err *err)
{
	struct wfs_pieces pieces;
	struct wfs_encode e = { .draft = NULL };
	bool same;
	int r;

	r = wfs_pieces_make(&pieces, in, &p->parent, err);
	if (r < 0)
		return r;
	r = encode(p, &e, in, &pieces, true, err);
	same = r == 0 && e.all_same && old && !old->whole && old->size == f->size && pieces.n_bases == 1 &&
	       pieces.base_file[0] == (size_t)(old - p->parent.v->files);
	if (same)
		reuse(f, old);
	else if (r == 0)
		r = store_encoded(p, in, old, &pieces, &e, f, err);
	wfs_draft_abort(e.draft);
	wfs_buf_free(&e.table);
	wfs_pieces_free(&pieces);
	return r;
}

static int publish_files(struct publish *p, struct wfs_err *err)
{
	int r = 0;

	p->v.files = calloc(p->in.n, sizeof(*p->v.files));
	if (!p->v.files)
		return wfs_fail(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < p->in.n; i++)
		p->res->size += (uint64_t)p->in.v[i].st.st_size;
	for (size_t i = 0; r == 0 && i < p->in.n; i++) {
		const struct wfs_input *in = &p->in.v[i];
		struct wfs_file *f = &p->v.files[p->v.n_files++];
		const struct wfs_file *old = p->parent.model ? wfs_version_find(p->parent.v, in->path) : NULL;

		f->path = strdup(in->path);
		f->size = (uint64_t)in->st.st_size;
		if (!f->path)
			return wfs_fail(err, -ENOMEM, "out of memory");
		r = wfs_input_is_whole(in) ? publish_whole(p, in, old, f, err) : publish_blocks(p, in, old, f, err);
		p->done += f->size;
		p->res->travel += f->travel;
	}
	p->res->n_files = p->v.n_files;
	return r;
}

/* ---- after ---- */

static bool same_file(const struct wfs_file *a, const struct wfs_file *b)
{
	return strcmp(a->path, b->path) == 0 && a->size == b->size && a->whole == b->whole &&
	       (a->whole ? wfs_digest_equal(&a->sha256, &b->sha256) : wfs_digest_equal(&a->table, &b->table));
}

static bool is_unchanged(const struct publish *p)
{
	if (!p->parent.model || p->parent.v->n_files != p->v.n_files)
		return false;
	for (size_t i = 0; i < p->v.n_files; i++)
		if (!same_file(&p->v.files[i], &p->parent.v->files[i]))
			return false;
	return true;
}

static int put_version(struct publish *p, struct wfs_digest *id, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	uint64_t now = wfs_wall_ns();
	int r;

	p->v.run = p->run;
	p->v.time_ns = p->parent.model ? WFS_MAX(now, p->parent.v->time_ns + 1) : now;
	p->v.label = strdup(p->o->label ? p->o->label : "");
	if (!p->v.label || wfs_version_format(&raw, &p->v) < 0)
		return wfs_fail(err, -ENOMEM, "out of memory");
	if (raw.len > WFS_VERSION_MAX)
		return wfs_fail(err, -EFBIG, "version object of %zu bytes, at most %u are possible", raw.len, WFS_VERSION_MAX);
	r = put_object(p, "versions", raw.data, raw.len, id, err);
	p->res->travel += raw.len;
	return r;
}

static int commit(struct publish *p, const struct wfs_digest *id, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	struct wfs_commit c = { .run = p->run, .sequence = p->v.sequence, .version = *id };
	char name[WFS_OBJECT_NAME];
	int r;

	if (wfs_commit_format(&raw, &c) < 0)
		return wfs_fail(err, -ENOMEM, "out of memory");
	wfs_commit_name(name, c.sequence);
	r = wfs_store_create(p->store, name, raw.data, raw.len, err);
	if (r == -EEXIST)
		return wfs_fail(err, r, "another publisher committed version %" PRIu64 " first; nothing was changed, run again",
				c.sequence);
	if (r < 0)
		return r;
	p->res->sequence = c.sequence;
	p->res->travel += raw.len;
	p->res->store_growth += raw.len;
	/* The hint may lag: readers look for the commits that follow it. */
	if (wfs_store_replace(p->store, "latest", raw.data, raw.len, err) < 0)
		log_warn("version %" PRIu64 " is published, but: %s", c.sequence, err ? err->msg : "latest is old");
	return 0;
}

static void list_model(struct publish *p, struct wfs_err *err)
{
	if (p->o->plain && wfs_publish_list(p->store, &p->v, p->res->sequence, err) < 0)
		log_warn("version %" PRIu64 " is published, but: %s", p->res->sequence, err ? err->msg : "it is not listed");
}

static int leave_images(struct publish *p, struct wfs_err *err)
{
	struct wfs_model *m;
	int r;

	r = wfs_replica_load(p->replica, p->res->sequence, &m, err);
	if (r == 0 && wfs_strides_prepare(&p->strider, m, p->parent.model, err) < 0)
		log_warn("the next stride will be left out: %s", err ? err->msg : "");
	wfs_parent_free(&p->parent);
	if (r < 0)
		return r;
	r = wfs_replica_keep_only(p->replica, m, err);
	wfs_model_put(m);
	return r;
}

static int add_strides(struct publish *p, struct wfs_err *err)
{
	int r;

	p->strider = (struct wfs_strider){
		.store = p->store, .replica = p->replica, .in = &p->in, .v = &p->v, .backs = p->o->strides,
		.n_backs = p->o->n_strides, .workers = p->o->workers, .progress = p->progress,
	};
	r = wfs_strides_add(&p->strider, err);
	for (unsigned i = 0; r == 0 && i < p->v.n_strides; i++)
		wfs_anchor_stride(&p->v, p->v.strides[i].back, &p->strider.past[p->v.strides[i].back]);
	p->res->strides = p->strider.bytes;
	p->res->store_growth += p->strider.bytes;
	return r;
}

static int steps(struct publish *p, struct wfs_err *err)
{
	struct wfs_digest id;
	int r;

	r = wfs_store_lock(p->store, &p->o->lock, err);
	if (r == 0)
		r = wfs_scan(&p->in, p->dir, p->o, err);
	if (r == 0)
		r = wfs_check_inputs(&p->in, err);
	if (r == 0)
		r = open_run(p, err);
	if (r == 0)
		r = open_replica(p, err);
	if (r == 0)
		r = find_parent(p, err);
	if (r == 0)
		r = publish_files(p, err);
	if (r == 0)
		r = wfs_scan_again(&p->in, p->dir, p->o, err);
	if (r < 0)
		return r;
	if (is_unchanged(p) && !p->o->allow_empty) {
		p->res->unchanged = true;
		p->res->sequence = p->parent.v->sequence;
		list_model(p, err);	/* a publisher that was killed may not have come to it */
		return 0;
	}
	r = add_strides(p, err);
	if (r == 0)
		r = add_anchors(p, err);
	if (r == 0)
		r = wfs_scan_again(&p->in, p->dir, p->o, err);
	if (r == 0)
		r = put_version(p, &id, err);
	if (r == 0)
		r = commit(p, &id, err);
	if (r < 0)
		return r;
	list_model(p, err);
	/* The version is there; without its images the next publish only takes longer. */
	if (leave_images(p, err) < 0)
		log_warn("version %" PRIu64 " is published; cannot keep it to compare with: %s", p->res->sequence,
			 err ? err->msg : "");
	return 0;
}

int wfs_publish(struct wfs_store *store, const char *dir, const struct wfs_publish_opts *opts,
		struct wfs_publish_result *out, const struct wfs_progress *progress,
		struct wfs_err *err)
{
	struct wfs_publish_opts o = *opts;
	struct publish p = { .store = store, .dir = dir, .o = &o, .progress = progress, .res = out, .in.dir = -1 };
	int r;

	memset(out, 0, sizeof(*out));
	if (!o.anchor_limit)
		o.anchor_limit = WFS_ANCHOR_LIMIT;
	if (!o.workers)
		o.workers = (unsigned)WFS_MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L);
	r = steps(&p, err);
	wfs_parent_free(&p.parent);
	wfs_strides_free(&p.strider);
	wfs_replica_close(p.replica);
	wfs_version_free(&p.v);
	wfs_inputs_free(&p.in);
	wfs_strings_free(&p.base);
	return r;
}
