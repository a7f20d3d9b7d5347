/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "weightfs/base.h"
#include "weightfs/config.h"
#include "weightfs/json.h"
#include "weightfs/limits.h"
#include "weightfs/safetensors.h"
#include "weightfs/table.h"

const char show_help[] =
	"usage: weightsync show [OPTION...] STORE [VERSION [FILE]]\n\n"
	"What a version consists of (the newest by default), how each file is stored and what share of\n"
	"its blocks changed; with FILE also its tensors.\n\n"
	"  --json           one JSON object\n"
	"  --cacert FILE    certificates to trust for https\n"
	"  --help           this text\n";

enum { O_JSON = 256, O_CACERT };

static const struct option options[] = {
	{ "json", 0, NULL, O_JSON }, { "cacert", 1, NULL, O_CACERT }, { "help", 0, NULL, 'h' }, { NULL, 0, NULL, 0 },
};

static const unsigned codecs[] = {
	WFS_CODEC_ZERO, WFS_CODEC_SAME, WFS_CODEC_RAW, WFS_CODEC_ZSTD, WFS_CODEC_PLANES, WFS_CODEC_DELTA2,
};

struct summary {
	uint64_t count[ARRAY_SIZE(codecs)], bytes[ARRAY_SIZE(codecs)], blocks, stored;
	size_t table_len;
};

static int summarize(struct wfs_store *st, const struct wfs_digest *id, struct summary *s, struct wfs_table **out,
		     struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	struct wfs_table *t;
	int r;

	memset(s, 0, sizeof(*s));
	r = cmd_get_object(&raw, st, "tables", id, WFS_TABLE_MAX, err);
	if (r == 0)
		r = wfs_table_open(&t, &raw, err);
	if (r < 0)
		return wfs_wrap(err, r, "table %s", wfs_hex(id).s);
	s->blocks = wfs_table_n_blocks(t);
	s->stored = wfs_table_stored(t);
	s->table_len = wfs_table_object_len(t);
	for (uint32_t b = 0; b < s->blocks; b++) {
		struct wfs_block_ref ref = wfs_table_block(t, b);

		for (size_t c = 0; c < ARRAY_SIZE(codecs); c++) {
			if (codecs[c] == ref.codec) {
				s->count[c]++;
				s->bytes[c] += ref.len;
			}
		}
	}
	*out = t;
	return 0;
}

static void print_how(const struct summary *s)
{
	char a[32];
	bool first = true;

	for (size_t c = 0; c < ARRAY_SIZE(codecs); c++) {
		if (!s->count[c])
			continue;
		printf("%s%" PRIu64 " %s", first ? "" : ", ", s->count[c], wfs_codec_name(codecs[c]));
		if (s->bytes[c])
			printf(" (%s)", wfs_human_size(a, s->bytes[c]));
		first = false;
	}
	printf(first ? "empty" : " of %" PRIu64 " blocks", s->blocks);
}

static void json_how(const struct summary *s)
{
	printf(",\"blocks\":%" PRIu64 ",\"stored\":%" PRIu64 ",\"table_bytes\":%zu,\"codecs\":{", s->blocks, s->stored,
	       s->table_len);
	for (size_t c = 0; c < ARRAY_SIZE(codecs); c++)
		printf("%s\"%s\":{\"blocks\":%" PRIu64 ",\"bytes\":%" PRIu64 "}", c ? "," : "", wfs_codec_name(codecs[c]),
		       s->count[c], s->bytes[c]);
	printf("}");
}

static int print_quoted(const char *text)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf b = WFS_BUF_INIT;

	if (wfs_json_quote(&b, text) < 0)
		return -ENOMEM;
	printf("%.*s", (int)b.len, (const char *)b.data);
	return 0;
}

/* Blocks of a tensor that hold anything but zeros or the base's bytes, of all it touches. */
static void tensor_blocks(const struct wfs_table *t, const struct wfs_tensor *tensor, uint32_t *changed, uint32_t *n)
{
	*changed = *n = 0;
	if (tensor->begin == tensor->end)
		return;
	for (uint64_t b = tensor->begin >> WFS_BLOCK_SHIFT; b <= (tensor->end - 1) >> WFS_BLOCK_SHIFT; b++) {
		unsigned codec = wfs_table_block(t, (uint32_t)b).codec;

		++*n;
		*changed += codec != WFS_CODEC_SAME && codec != WFS_CODEC_ZERO;
	}
}

static void print_tensor(const struct wfs_tensor *tensor, const struct wfs_table *t, bool json, bool first)
{
	uint32_t changed, n;

	tensor_blocks(t, tensor, &changed, &n);
	if (json) {
		printf("%s{\"name\":", first ? "" : ",");
		print_quoted(tensor->name);
		printf(",\"dtype\":\"%s\",\"offset\":%" PRIu64 ",\"size\":%" PRIu64 ",\"shape\":[",
		       wfs_dtype_name(tensor->dtype), tensor->begin, tensor->end - tensor->begin);
		for (uint32_t d = 0; d < tensor->n_dims; d++)
			printf("%s%" PRIu64, d ? "," : "", tensor->shape[d]);
		printf("],\"blocks\":%u,\"blocks_stored\":%u}", n, changed);
		return;
	}
	printf("    %-8s [", wfs_dtype_name(tensor->dtype));
	for (uint32_t d = 0; d < tensor->n_dims; d++)
		printf("%s%" PRIu64, d ? ", " : "", tensor->shape[d]);
	printf("]  %u of %u blocks stored  ", changed, n);
	print_quoted(tensor->name);
	printf("\n");
}

static int show_tensors(struct wfs_store *st, const struct wfs_file *f, const struct wfs_table *t, bool json,
			struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	struct wfs_safetensors *header;
	int r;

	r = cmd_get_object(&raw, st, "layouts", &f->layout, WFS_HEADER_MAX + 8u, err);
	if (r == 0)
		r = wfs_safetensors_open(&header, raw.data, raw.len, f->size, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < wfs_safetensors_count(header); i++)
		if (wfs_safetensors_at(header, i)->end > wfs_table_size(t)) {
			wfs_safetensors_close(header);
			return wfs_fail(err, -EBADMSG, "layout and table of %s do not fit each other", f->path);
		}
	if (json)
		printf(",\"tensors\":[");
	for (size_t i = 0; i < wfs_safetensors_count(header); i++)
		print_tensor(wfs_safetensors_at(header, i), t, json, i == 0);
	if (json)
		printf("]");
	wfs_safetensors_close(header);
	return 0;
}

static void json_strides(const struct wfs_file *f)
{
	printf(",\"strides\":[");
	for (unsigned k = 0; k < f->n_strides; k++)
		printf("%s{\"back\":%" PRIu64 ",\"table\":\"%s\",\"travel\":%" PRIu64 "}", k ? "," : "", f->strides[k].back,
		       wfs_hex(&f->strides[k].id).s, f->strides[k].travel);
	printf("]");
}

static int show_file(struct wfs_store *st, const struct wfs_file *f, bool json, bool tensors, bool first,
		     struct wfs_err *err)
{
	char size[32], travel[32];
	struct wfs_table *t = NULL;
	struct summary s;
	int r = 0;

	if (!f->whole)
		r = summarize(st, &f->table, &s, &t, err);
	if (r < 0)
		return wfs_wrap(err, r, "%s", f->path);
	if (json) {
		printf("%s{\"path\":", first ? "" : ",");
		print_quoted(f->path);
		printf(",\"size\":%" PRIu64 ",\"travel\":%" PRIu64 ",\"%s\":\"%s\"", f->size, f->travel,
		       f->whole ? "sha256" : "table", wfs_hex(f->whole ? &f->sha256 : &f->table).s);
		if (f->has_anchor)
			printf(",\"anchor\":\"%s\"", wfs_hex(&f->anchor).s);
		if (f->has_plain)
			printf(",\"plain\":\"%s\"", wfs_hex(&f->plain).s);
		if (f->cold)
			printf(",\"cold\":%" PRIu64, f->cold);
		json_strides(f);
		if (t)
			json_how(&s);
	} else {
		printf("  %10s  %10s travel  ", wfs_human_size(size, f->size), wfs_human_size(travel, f->travel));
		print_quoted(f->path);
		printf("  ");
		if (t)
			print_how(&s);
		else
			printf("whole");
		printf("%s", f->has_anchor && !wfs_digest_equal(&f->anchor, &f->table) ? "; in full too" : "");
		if (f->has_plain)
			printf("; plain, packs/%s", wfs_hex(&f->plain).s);
		printf("\n");
		for (unsigned k = 0; k < f->n_strides; k++)
			printf("  %10s  %10s travel  from %" PRIu64 " versions back\n", "",
			       wfs_human_size(travel, f->strides[k].travel), f->strides[k].back);
	}
	if (tensors && t && f->has_layout)
		r = show_tensors(st, f, t, json, err);
	if (json)
		printf("}");
	wfs_table_close(t);
	return r;
}

static int show(struct wfs_store *st, const struct wfs_version *v, const struct wfs_commit *c, const char *only,
		bool json, struct wfs_err *err)
{
	bool first = true;
	int r = 0;

	if (only && !wfs_version_find(v, only))
		return wfs_fail(err, -ENOENT, "version %" PRIu64 " has no file %s", v->sequence, only);
	if (json) {
		printf("{\"run\":\"%s\",\"sequence\":%" PRIu64 ",\"version\":\"%s\",\"time\":%" PRIu64 ",\"label\":", v->run.s,
		       v->sequence, wfs_hex(&c->version).s, v->time_ns);
		print_quoted(v->label);
		printf(",\"files\":[");
	} else {
		printf("version %" PRIu64 " of run %s", v->sequence, v->run.s);
		if (v->label[0]) {
			printf(", label ");
			print_quoted(v->label);
		}
		printf("\n");
	}
	for (size_t i = 0; r == 0 && i < v->n_files; i++) {
		if (only && strcmp(v->files[i].path, only) != 0)
			continue;
		r = cmd_interrupted ? -ECANCELED : show_file(st, &v->files[i], json, only != NULL, first, err);
		first = false;
	}
	if (json)
		printf("]}\n");
	return r;
}

int cmd_show(int argc, char **argv)
{
	struct cmd_store s = { NULL, NULL, NULL };
	struct wfs_err err = { "" };
	struct wfs_version v;
	struct wfs_commit commit;
	uint64_t version = 0;
	size_t raw_len;
	bool json = false;
	int c, r;

	while ((c = cmd_getopt(argc, argv, options, show_help)) != -1) {
		if (c == O_JSON)
			json = true;
		else if (c == O_CACERT)
			s.cacert = optarg;
		else
			return EXIT_USAGE;
	}
	if (argc - optind < 1 || argc - optind > 3)
		return cmd_usage("show takes a store, a version and a file; `weightsync show --help' says more");
	if (argc - optind > 1 && !cmd_number(argv[optind + 1], &version))
		return EXIT_USAGE;
	s.url = argv[optind];
	r = cmd_open(&s, false, &err);
	if (r < 0)
		return r == -EINVAL ? cmd_usage("%s", err.msg) : cmd_fail(r, &err);
	r = cmd_load_version(s.st, version, &commit, &v, &raw_len, &err);
	if (r == 0) {
		r = show(s.st, &v, &commit, argc - optind > 2 ? argv[optind + 2] : NULL, json, &err);
		wfs_version_free(&v);
	}
	wfs_store_close(s.st);
	return r < 0 ? cmd_fail(r, &err) : 0;
}
