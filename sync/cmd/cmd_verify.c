/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_verify.c - every object of a store against the digest that names it, from the commits down
 *
 * What is found wrong is said, one line each, and the rest is still checked.  An object that
 * several versions share is fetched once.
 *
 * A version is built from tables of older ones, of which gc has left nothing else: they are found as gc does.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "weightfs/base.h"
#include "weightfs/config.h"
#include "weightfs/gc.h"
#include "weightfs/json.h"
#include "weightfs/limits.h"
#include "weightfs/safetensors.h"
#include "weightfs/table.h"

const char verify_help[] =
	"usage: weightsync verify [OPTION...] STORE\n\n"
	"Fetch everything that the versions of STORE consist of and are built from, and check every digest.\n\n"
	"  --version N      this version only, with what it is built from\n"
	"  --json           the result as one JSON object\n"
	"  --cacert FILE    certificates to trust for https\n"
	"  --quiet          no progress\n"
	"  --help           this text\n";

enum { O_VERSION = 256, O_JSON, O_CACERT, O_QUIET };

static const struct option options[] = {
	{ "version", 1, NULL, O_VERSION }, { "json", 0, NULL, O_JSON }, { "cacert", 1, NULL, O_CACERT },
	{ "quiet", 0, NULL, O_QUIET }, { "help", 0, NULL, 'h' }, { NULL, 0, NULL, 0 },
};

struct verify {
	struct wfs_store *st;
	struct wfs_digest *seen;	/* sorted */
	size_t n_seen, cap;
	uint64_t objects, bytes, bad;
	struct wfs_run run;
	struct wfs_needs *needs;	/* of the versions checked so far */
	struct wfs_err err;
};

/* version 0: of the store itself */
static void complain(struct verify *v, uint64_t version, const char *what)
{
	v->bad++;
	if (version)
		fprintf(stderr, "weightsync: version %" PRIu64 ": %s%s%s\n", version, what, *what ? ": " : "", v->err.msg);
	else
		fprintf(stderr, "weightsync: %s\n", v->err.msg);
	v->err.msg[0] = '\0';
}

/* True the first time. */
static bool is_new(struct verify *v, const struct wfs_digest *id)
{
	size_t lo = 0, hi = v->n_seen;
	struct wfs_digest *bigger;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = memcmp(&v->seen[mid], id, sizeof(*id));

		if (c == 0)
			return false;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (v->n_seen == v->cap) {
		bigger = realloc(v->seen, (v->cap ? v->cap * 2 : 256) * sizeof(*bigger));
		if (!bigger)
			return true;	/* checked again, no harm */
		v->seen = bigger;
		v->cap = v->cap ? v->cap * 2 : 256;
	}
	memmove(&v->seen[lo + 1], &v->seen[lo], (v->n_seen++ - lo) * sizeof(*id));
	v->seen[lo] = *id;
	return true;
}

/* A pack goes by in a stream: its own SHA-256, and that of each of the table's groups. */
struct pack_walk {
	struct wfs_sha256 *all, *group;
	const struct wfs_table *t;
	uint32_t g, end;
	uint64_t filled, bytes;
	bool bad_group;
};

static int pack_sink(void *arg, uint64_t off, const void *data, size_t len)
{
	struct pack_walk *w = arg;
	const uint8_t *p = data;
	struct wfs_digest got;

	wfs_sha256_update(w->all, data, len);
	w->bytes += len;
	while (len && w->g < w->end) {
		struct wfs_group g = wfs_table_group(w->t, w->g);
		uint64_t want = g.off + w->filled, n = off < want ? WFS_MIN(want - off, (uint64_t)len)
								   : WFS_MIN((uint64_t)len, g.len - w->filled);

		if (off >= want) {
			wfs_sha256_update(w->group, p, n);
			w->filled += n;
		}
		if (w->filled == g.len) {
			wfs_sha256_final(w->group, &got);
			w->bad_group |= !wfs_digest_equal(&got, g.digest);
			w->filled = 0;
			w->g++;
		}
		p += n;
		off += n;
		len -= n;
	}
	return 0;
}

static int verify_pack(struct verify *v, const struct wfs_table *t, uint32_t i)
{
	const struct wfs_pack *pack = wfs_table_pack(t, i);
	struct pack_walk w = { .all = wfs_sha256_new(), .group = wfs_sha256_new(), .t = t, .g = pack->first_group };
	char name[WFS_OBJECT_NAME];
	struct wfs_get get = { .name = name, .max = pack->size, .sink = pack_sink, .arg = &w, .cancel = &cmd_interrupted };
	struct wfs_digest got;
	int r;

	w.end = i + 1 < wfs_table_n_packs(t) ? wfs_table_pack(t, i + 1)->first_group : wfs_table_n_groups(t);
	wfs_object_name(name, "packs", &pack->id);
	r = w.all && w.group ? wfs_store_get(v->st, &get, &v->err) : -ENOMEM;
	if (r == -ENOENT)
		r = wfs_fail(&v->err, -EBADMSG, "%s is missing", name);
	if (r == 0) {
		wfs_sha256_final(w.all, &got);
		if (w.bytes != pack->size)
			r = wfs_fail(&v->err, -EBADMSG, "%s has %" PRIu64 " bytes, its table says %" PRIu64, name, w.bytes,
				     pack->size);
		else if (!wfs_digest_equal(&got, &pack->id))
			r = wfs_fail(&v->err, -EBADMSG, "%s: its bytes have SHA-256 %s", name, wfs_hex(&got).s);
		else if (w.bad_group || w.g != w.end)
			r = wfs_fail(&v->err, -EBADMSG, "%s: a group does not have the SHA-256 of its table", name);
	}
	v->objects++;
	v->bytes += w.bytes;
	wfs_sha256_free(w.all);
	wfs_sha256_free(w.group);
	return r;
}

static int get(struct verify *v, struct wfs_buf *out, const char *kind, const struct wfs_digest *id, size_t max)
{
	int r = cmd_get_object(out, v->st, kind, id, max, &v->err);

	v->objects++;
	v->bytes += out->len;
	return r;
}

#define ANY_SIZE UINT64_MAX

static int verify_table(struct verify *v, const struct wfs_digest *id, uint64_t size, uint64_t version,
			struct wfs_table **out)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	struct wfs_table *t;
	int r;

	r = get(v, &raw, "tables", id, WFS_TABLE_MAX);
	if (r == 0)
		r = wfs_table_open(&t, &raw, &v->err);
	if (r < 0)
		return wfs_wrap(&v->err, r, "table %s", wfs_hex(id).s);
	if (size != ANY_SIZE && wfs_table_size(t) != size)
		r = wfs_fail(&v->err, -EBADMSG, "table %s is for %" PRIu64 " bytes, the file has %" PRIu64, wfs_hex(id).s,
			     wfs_table_size(t), size);
	for (uint32_t i = 0; r != -ECANCELED && i < wfs_table_n_packs(t); i++) {
		int one = is_new(v, &wfs_table_pack(t, i)->id) ? verify_pack(v, t, i) : 0;

		if (one < 0 && one != -ECANCELED)
			complain(v, version, "");
		if (one == -ECANCELED)
			r = one;
	}
	*out = t;
	return r;
}

/* A second table is one of the same bytes; an anchor needs no base for them. */
static int check_second(struct verify *v, const struct wfs_table *t, const struct wfs_table *other, bool alone)
{
	for (uint32_t b = 0; b < wfs_table_n_blocks(t); b++)
		if (wfs_table_block(t, b).hash != wfs_table_block(other, b).hash ||
		    (alone && wfs_codec_needs_base(wfs_table_block(other, b).codec)))
			return wfs_fail(&v->err, -EBADMSG, "differs from the file's table at block %u", b);
	return 0;
}

/* The one object that a plain copy consists of is the file, byte for byte. */
static int check_plain(struct verify *v, const struct wfs_file *f, const struct wfs_table *t)
{
	bool ok = wfs_table_n_packs(t) == 1 && wfs_digest_equal(&wfs_table_pack(t, 0)->id, &f->plain) &&
		  wfs_table_pack(t, 0)->size == f->size && wfs_table_pack(t, 0)->start == 0;

	for (uint32_t b = 0; ok && b < wfs_table_n_blocks(t); b++)
		ok = wfs_table_block(t, b).codec == WFS_CODEC_RAW;
	return ok ? 0 : wfs_fail(&v->err, -EBADMSG, "does not say that the file is packs/%s", wfs_hex(&f->plain).s);
}

static int verify_second(struct verify *v, const struct wfs_file *f, const struct wfs_digest *id, bool alone,
			 const struct wfs_table *t, uint64_t version)
{
	struct wfs_table *other = NULL;
	int r = 0;

	if (wfs_digest_equal(id, &f->table)) {
		r = t && alone ? check_second(v, t, t, alone) : 0;
		if (r == 0 && t && alone && f->has_plain)
			r = check_plain(v, f, t);
	} else if (is_new(v, id)) {
		r = verify_table(v, id, f->size, version, &other);
		if (r == 0 && t)
			r = check_second(v, t, other, alone);
		if (r == 0 && alone && f->has_plain)
			r = check_plain(v, f, other);
	}
	wfs_table_close(other);
	return r < 0 ? wfs_wrap(&v->err, r, "%s table %s", alone ? "anchor" : "stride", wfs_hex(id).s) : 0;
}

static int verify_layout(struct verify *v, const struct wfs_file *f)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	struct wfs_safetensors *st;
	int r;

	r = get(v, &raw, "layouts", &f->layout, WFS_HEADER_MAX + 8u);
	if (r == 0)
		r = wfs_safetensors_open(&st, raw.data, raw.len, f->size, &v->err);
	if (r == 0)
		wfs_safetensors_close(st);
	return r;
}

static int verify_whole(struct verify *v, const struct wfs_version *ver, const struct wfs_file *f)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	int r;

	if (!f->size)
		return 0;
	r = get(v, &raw, "packs", &f->sha256, WFS_SMALL_FILE_MAX);
	if (r == 0 && raw.len != f->size)
		r = wfs_fail(&v->err, -EBADMSG, "content has %zu bytes, the version says %" PRIu64, raw.len, f->size);
	if (r == 0 && wfs_name_is_index(f->path))
		r = wfs_index_check(ver, f->path, raw.data, raw.len, &v->err);
	return r;
}

static int verify_file(struct verify *v, const struct wfs_version *ver, const struct wfs_file *f)
{
	struct wfs_table *t = NULL;
	int r = 0;

	if (f->whole)
		return is_new(v, &f->sha256) ? verify_whole(v, ver, f) : 0;
	if (is_new(v, &f->table))
		r = verify_table(v, &f->table, f->size, ver->sequence, &t);
	if (r == 0 && f->has_anchor)
		r = verify_second(v, f, &f->anchor, true, t, ver->sequence);
	for (unsigned k = 0; r == 0 && k < f->n_strides; k++)
		r = verify_second(v, f, &f->strides[k].id, false, t, ver->sequence);
	wfs_table_close(t);
	if (r == 0 && f->has_layout && is_new(v, &f->layout))
		r = verify_layout(v, f);
	return r;
}

static int same_run(struct verify *v, const struct wfs_commit *c, const char *name)
{
	return strcmp(c->run.s, v->run.s) == 0 ? 0 :
	       wfs_fail(&v->err, -EBADMSG, "%s is of run %s, weightfs-store says %s", name, c->run.s, v->run.s);
}

struct base {
	struct verify *v;
	uint64_t sequence;
};

/* A table that the version is built from, unless one checked before has it. */
static int verify_base(void *arg, const struct wfs_digest *id)
{
	const struct base *b = arg;
	struct wfs_table *t = NULL;
	int r;

	if (!is_new(b->v, id))
		return 0;
	r = cmd_interrupted ? -ECANCELED : verify_table(b->v, id, ANY_SIZE, b->sequence, &t);
	wfs_table_close(t);
	if (r < 0 && r != -ECANCELED)
		complain(b->v, b->sequence, "what it is built from");
	return r == -ECANCELED ? r : 0;
}

static int verify_one(struct verify *v, const struct wfs_version *ver, const struct wfs_file *f)
{
	int r = cmd_interrupted ? -ECANCELED : verify_file(v, ver, f), marked;

	if (r == -ECANCELED)
		return r;
	if (r < 0)
		complain(v, ver->sequence, f->path);
	marked = wfs_needs_file(v->needs, f, r < 0 ? NULL : &v->err);
	if (marked < 0 && r == 0 && marked != -ECANCELED)
		complain(v, ver->sequence, f->path);
	return marked == -ECANCELED ? marked : 0;
}

static int verify_version(struct verify *v, uint64_t sequence, struct cmd_progress *p, uint64_t newest)
{
	struct wfs_version ver;
	struct wfs_commit c;
	size_t raw_len;
	int r;

	r = cmd_load_version(v->st, sequence, &c, &ver, &raw_len, &v->err);
	if (r < 0)
		return r;
	if (v->run.s[0] && same_run(v, &c, "the commit") < 0)
		complain(v, sequence, "");
	v->objects += 2;
	v->bytes += raw_len;
	for (size_t i = 0; r == 0 && i < ver.n_files; i++) {
		p->p.fn(p, "versions", sequence - 1, newest);
		r = verify_one(v, &ver, &ver.files[i]);
	}
	wfs_version_free(&ver);
	return r < 0 ? r : wfs_needs_each(v->needs, verify_base, &(struct base){ v, sequence });
}

/* Of an oldest version that cannot be read nothing is said here. */
static int begin_needs(struct verify *v, uint64_t oldest)
{
	struct wfs_version ver;
	struct wfs_commit c;
	size_t raw_len;
	int r;

	r = wfs_needs_begin(&v->needs, v->st, &cmd_interrupted, &v->err);
	if (r < 0)
		return r;
	r = cmd_load_version(v->st, oldest, &c, &ver, &raw_len, NULL);
	if (r < 0)
		return r == -ECANCELED ? r : 0;
	r = wfs_needs_oldest(v->needs, &ver, &v->err);
	wfs_version_free(&ver);
	if (r < 0 && r != -ECANCELED)
		complain(v, oldest, "what it is built from");
	return r == -ECANCELED ? r : 0;
}

static int get_top(struct verify *v, struct wfs_buf *out, const char *name)
{
	int r = wfs_store_get_buf(out, v->st, name, WFS_STORE_INFO_MAX, true, &cmd_interrupted, &v->err);

	v->objects += r == 0;
	v->bytes += out->len;
	return r == 0 || r == -ENOENT ? r : wfs_wrap(&v->err, r, "%s", name);
}

/* The hint says what its commit says.  There may be none: killed between commit and hint. */
static int verify_latest(struct verify *v)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf hint = WFS_BUF_INIT;
	WFS_AUTO(wfs_buf_free) struct wfs_buf commit = WFS_BUF_INIT;
	char name[WFS_OBJECT_NAME];
	struct wfs_commit c;
	int r;

	r = get_top(v, &hint, "latest");
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = wfs_commit_parse(&c, hint.data, hint.len, &v->err);
	if (r == 0)
		r = same_run(v, &c, "it");
	if (r < 0)
		return wfs_wrap(&v->err, r, "latest");
	wfs_commit_name(name, c.sequence);
	r = get_top(v, &commit, name);
	if (r == 0 && hint.len == commit.len && memcmp(hint.data, commit.data, hint.len) == 0)
		return 0;
	return r < 0 && r != -ENOENT ? r : wfs_fail(&v->err, -EBADMSG, "latest is not the same as %s", name);
}

/* The two small objects that no digest names. */
static int verify_top(struct verify *v)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf info = WFS_BUF_INIT;
	int r;

	r = get_top(v, &info, "weightfs-store");
	if (r == -ENOENT)
		return wfs_fail(&v->err, r, "nothing is published in %s yet", wfs_store_url(v->st));
	if (r == 0)
		r = wfs_store_info_parse(&v->run, info.data, info.len, &v->err);
	if (r < 0)
		return wfs_wrap(&v->err, r, "weightfs-store");
	return verify_latest(v);
}

static int verify_all(struct verify *v, uint64_t only, struct cmd_progress *p, uint64_t *n)
{
	uint64_t newest, first, seen = 0;
	int r;

	r = verify_top(v);
	if (r == -EBADMSG) {
		complain(v, 0, "");
		r = 0;
	}
	if (r == 0)
		r = cmd_newest(v->st, &newest, &v->err);
	if (r == 0)
		r = cmd_oldest(v->st, newest, &first, &v->err);
	if (r == 0)
		r = begin_needs(v, first);
	if (only)
		first = only;
	for (uint64_t s = first; r == 0 && s <= (only ? only : newest); s++) {
		r = verify_version(v, s, p, newest);
		seen++;
		if (r < 0 && r != -ECANCELED && !only) {
			complain(v, s, "");
			r = 0;
		}
	}
	*n = seen;
	return r;
}

int cmd_verify(int argc, char **argv)
{
	struct cmd_store s = { NULL, NULL, NULL };
	struct verify v = { .st = NULL };
	struct cmd_progress p;
	uint64_t version = 0, n = 0;
	bool json = false, quiet = false;
	char size[32];
	int c, r;

	while ((c = cmd_getopt(argc, argv, options, verify_help)) != -1) {
		if (c == O_VERSION && !cmd_number(optarg, &version))
			return EXIT_USAGE;
		if (c == O_JSON)
			json = true;
		if (c == O_CACERT)
			s.cacert = optarg;
		if (c == O_QUIET)
			quiet = true;
		if (c == '?')
			return EXIT_USAGE;
	}
	if (argc - optind != 1)
		return cmd_usage("verify takes a store; `weightsync verify --help' says more");
	s.url = argv[optind];
	r = cmd_open(&s, false, &v.err);
	if (r < 0)
		return r == -EINVAL ? cmd_usage("%s", v.err.msg) : cmd_fail(r, &v.err);
	v.st = s.st;
	cmd_progress_start(&p, quiet);
	r = verify_all(&v, version, &p, &n);
	cmd_progress_end(&p);
	free(v.seen);
	wfs_needs_end(v.needs);
	wfs_store_close(s.st);
	if (r < 0)
		return v.bad && r != -ECANCELED ? (cmd_fail(r, &v.err), EXIT_DAMAGED) : cmd_fail(r, &v.err);
	if (json)
		printf("{\"versions\":%" PRIu64 ",\"objects\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"bad\":%" PRIu64 "}\n", n,
		       v.objects, v.bytes, v.bad);
	else
		printf("%" PRIu64 " version%s, %" PRIu64 " objects, %s checked: %s\n", n, n == 1 ? "" : "s", v.objects,
		       wfs_human_size(size, v.bytes), v.bad ? "damaged" : "all good");
	return v.bad ? EXIT_DAMAGED : 0;
}
