/* SPDX-License-Identifier: Apache-2.0 */
/*
 * toystore.h - a store written object by object, for tests that need shapes a publisher would not make
 *
 * Files are byte arrays in memory, the oracle for every read.  One file a version.
 */
#ifndef TOYSTORE_H
#define TOYSTORE_H

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "weightfs/base.h"
#include "weightfs/block.h"
#include "weightfs/digest.h"
#include "weightfs/io.h"
#include "weightfs/safetensors.h"
#include "weightfs/store.h"
#include "weightfs/table.h"
#include "weightfs/version.h"

struct toy_version {
	uint8_t *data;
	size_t len;
	struct wfs_digest table, anchor, pack, id;
	bool has_anchor;
	uint64_t shift;		/* bytes by which the data moved against the parent */
};

struct toy {
	char dir[64];
	struct wfs_store *store;
	struct wfs_run run;
	struct toy_version v[64];
	unsigned n;
};

static inline void toy_open(struct toy *t, const char *run)
{
	struct wfs_buf b = WFS_BUF_INIT;

	memset(t, 0, sizeof(*t));
	strcpy(t->dir, "/tmp/weightfs-toy-XXXXXX");
	if (!mkdtemp(t->dir))
		abort();
	strcpy(t->run.s, run);
	if (wfs_store_open(&t->store, t->dir, NULL, true, NULL) < 0 || wfs_store_info_format(&b, &t->run) < 0 ||
	    wfs_store_create(t->store, "weightfs-store", b.data, b.len, NULL) < 0)
		abort();
	wfs_buf_free(&b);
}

static inline void toy_close(struct toy *t)
{
	for (unsigned i = 0; i < t->n; i++)
		free(t->v[i].data);
	wfs_store_close(t->store);
	wfs_remove_tree(AT_FDCWD, t->dir, NULL);
}

/* Table and pack of v, against p (NULL: every block in full); p's bytes begin `shift` bytes later in v. */
static inline void toy_table(struct toy *t, struct toy_version *v, const struct toy_version *p,
			     struct wfs_digest *table, struct wfs_digest *pack)
{
	struct wfs_piece pieces[2] = { { .base = WFS_NO_BASE, .dtype = WFS_DT_BYTES } };
	struct wfs_table_writer *w;
	struct wfs_buf all = WFS_BUF_INIT, obj = WFS_BUF_INIT;
	char name[WFS_OBJECT_NAME];
	size_t n_pieces = 1;
	uint32_t index;
	uint8_t *base = calloc(1, v->len);

	if (wfs_table_writer_new(&w, v->len, NULL) < 0)
		abort();
	if (p) {
		struct wfs_base b = { .table = p->table, .size = p->len };

		if (p->has_anchor)
			b.anchor = p->anchor;
		wfs_table_add_base(w, &b, &index, NULL);
		if (v->shift)
			n_pieces = 2;
		pieces[n_pieces - 1] = (struct wfs_piece){ .off = v->shift, .base = index, .dtype = WFS_DT_BF16,
							   .phase = 0 };
		memcpy(base + v->shift, p->data, v->len - v->shift);
	} else {
		pieces[0].dtype = WFS_DT_BF16;
	}
	for (size_t i = 0; i < n_pieces; i++)
		if (wfs_table_add_piece(w, &pieces[i], NULL) < 0)
			abort();
	wfs_table_begin_pack(w, 0, NULL);
	for (uint64_t off = 0; off < v->len; off += WFS_BLOCK_SIZE) {
		uint32_t len = (uint32_t)WFS_MIN((uint64_t)WFS_BLOCK_SIZE, v->len - off);
		struct wfs_buf one = WFS_BUF_INIT;
		struct wfs_span *spans;
		unsigned codec;
		size_t n;

		if (wfs_pieces_spans(&spans, &n, pieces, n_pieces, off, len, NULL) < 0 ||
		    wfs_block_encode(&one, &codec, p ? base + off : NULL, v->data + off, len, spans, n, NULL) < 0 ||
		    wfs_table_add_block(w, wfs_xxh3(v->data + off, len), codec, one.data, one.len, NULL) < 0)
			abort();
		wfs_buf_append(&all, one.data, one.len);
		wfs_buf_free(&one);
		free(spans);
	}
	wfs_sha256(pack, all.data, all.len);
	wfs_table_end_pack(w, pack, all.len, NULL);
	if (wfs_table_finish(w, &obj, NULL) < 0)
		abort();
	wfs_sha256(table, obj.data, obj.len);
	wfs_object_name(name, "packs", pack);
	wfs_store_put(t->store, name, all.data, all.len, NULL);
	wfs_object_name(name, "tables", table);
	wfs_store_put(t->store, name, obj.data, obj.len, NULL);
	wfs_table_writer_free(w);
	wfs_buf_free(&all);
	wfs_buf_free(&obj);
	free(base);
}

/* Commit t->v[t->n], whose data is set, as the next version. */
static inline void toy_commit(struct toy *t, bool full, bool anchor)
{
	struct toy_version *v = &t->v[t->n], *p = t->n && !full ? &t->v[t->n - 1] : NULL;
	struct wfs_file file = { .path = (char *)"model.bin", .size = v->len };
	struct wfs_version ver = { .sequence = t->n + 1, .time_ns = 1000 + t->n, .label = (char *)"toy",
				   .files = &file, .n_files = 1, .run = t->run };
	struct wfs_commit c = { .run = t->run, .sequence = t->n + 1 };
	struct wfs_buf b = WFS_BUF_INIT, cb = WFS_BUF_INIT;
	struct wfs_digest ignored;
	char name[WFS_OBJECT_NAME];
	int r;

	toy_table(t, v, p, &v->table, &v->pack);
	if (anchor)
		toy_table(t, v, NULL, &v->anchor, &ignored);
	v->has_anchor = file.has_anchor = anchor;
	file.table = v->table;
	file.anchor = v->anchor;
	if (t->n) {
		ver.parents[0] = t->v[t->n - 1].id;
		ver.n_parents = 1;
	}
	wfs_version_format(&b, &ver);
	wfs_sha256(&v->id, b.data, b.len);
	c.version = v->id;
	wfs_object_name(name, "versions", &v->id);
	wfs_store_put(t->store, name, b.data, b.len, NULL);
	wfs_commit_format(&cb, &c);
	wfs_commit_name(name, c.sequence);
	r = wfs_store_create(t->store, name, cb.data, cb.len, NULL);
	if (r < 0 && r != -EEXIST)
		abort();
	wfs_store_replace(t->store, "latest", cb.data, cb.len, NULL);
	wfs_buf_free(&b);
	wfs_buf_free(&cb);
	t->n++;
}

/* The next version: the last one's bytes moved by shift, about one bf16 in a hundred changed. */
static inline void toy_step(struct toy *t, size_t len, uint64_t shift, uint64_t *seed)
{
	struct toy_version *v = &t->v[t->n], *p = t->n ? v - 1 : NULL;
	uint64_t *x = seed;

	v->len = p ? p->len + shift : len;
	v->shift = shift;
	v->data = malloc(v->len + 8);
	if (!v->data)
		abort();
	for (size_t i = 0; i < v->len; i += 8) {
		uint64_t r = 0x3f803f803f803f80ull ^ (p ? 0 : (uint64_t)0);

		r ^= (*x = *x * 6364136223846793005ull + 1442695040888963407ull) >> 33 << 3;
		memcpy(v->data + i, &r, 8);
	}
	if (p)
		memcpy(v->data + shift, p->data, p->len);
	for (size_t i = 0; p && i < v->len / 200; i++) {
		*x = *x * 6364136223846793005ull + 1442695040888963407ull;
		v->data[((*x >> 20) % (v->len / 2)) * 2] += 1;
	}
}

#endif
