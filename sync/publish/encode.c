/* SPDX-License-Identifier: Apache-2.0 */
/*
 * encode.c - one file becomes a table and packs, on all cores, in constant memory
 *
 * Workers take block numbers from a counter; each reads the block and its base, encodes, decodes
 * what it encoded and compares that with the directory's bytes, and then waits for its turn to
 * append, so that stored bytes follow one another in block order.  What is in memory is a few
 * blocks a worker.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "publish/internal.h"
#include "weightfs/base.h"
#include "weightfs/draft.h"
#include "weightfs/io.h"

#define PACK_CUT	(4ull << 30)	/* stored bytes after which a new pack begins */
#define WORKERS_MAX	32u

struct pipe {
	struct wfs_encode *e;
	uint32_t n_blocks;
	pthread_mutex_t lock;
	pthread_cond_t turn_cond;
	uint32_t next, turn;
	int result;
	struct wfs_err err;
	/* touched only by whose turn it is */
	struct wfs_table_writer *table;
	struct wfs_put *put;
	struct wfs_sha256 *sha;
	uint64_t pack_len;
	bool in_pack;
	bool differs;			/* some block is not the parent's */
};

struct worker {
	struct pipe *p;
	uint8_t *next, *base, *proof;	/* a block each */
	struct wfs_buf stored;
	struct wfs_span *spans;
	size_t n_spans;
	unsigned codec;
	uint64_t hash, changed;
	bool same, hole;
};

static uint32_t block_len(const struct wfs_encode *e, uint32_t b)
{
	uint64_t left = (uint64_t)e->in->st.st_size - ((uint64_t)b << WFS_BLOCK_SHIFT);

	return (uint32_t)WFS_MIN(left, (uint64_t)WFS_BLOCK_SIZE);
}

/* A block in a hole is zeros without being read: a sparse terabyte costs next to nothing. */
static int read_block(const struct wfs_encode *e, uint32_t b, uint8_t *buf, bool *hole, struct wfs_err *err)
{
	off_t off = (off_t)b << WFS_BLOCK_SHIFT, data = e->from ? off : lseek(e->in->fd, off, SEEK_DATA);
	uint32_t len = block_len(e, b);
	int r;

	if (e->from) {
		*hole = false;
		return wfs_model_peek(e->from, e->from_file, buf, len, (uint64_t)b << WFS_BLOCK_SHIFT, err);
	}
	*hole = (data < 0 && errno == ENXIO) || data >= off + (off_t)len;
	if (*hole) {
		memset(buf, 0, len);
		return 0;
	}
	r = wfs_pread(e->in->fd, buf, len, (uint64_t)off, err);
	if (r == -ENODATA)
		return wfs_fail(err, -EBUSY, "%s became shorter while it was being published", e->in->path);
	return r < 0 ? wfs_wrap(err, r, "read %s", e->in->path) : 0;
}

static const struct wfs_piece *piece_of(const struct wfs_pieces *p, uint64_t off, size_t *i)
{
	size_t lo = 0, hi = p->n;

	while (hi - lo > 1) {
		size_t mid = (lo + hi) / 2;

		if (p->v[mid].off <= off)
			lo = mid;
		else
			hi = mid;
	}
	*i = lo;
	return &p->v[lo];
}

/* The base's bytes; *straight: they lie at the same place of one file, so "equal" means unchanged. */
static int read_base(const struct wfs_encode *e, uint32_t b, uint8_t *buf, bool *straight, struct wfs_err *err)
{
	uint64_t off = (uint64_t)b << WFS_BLOCK_SHIFT, end = off + block_len(e, b);
	const struct wfs_piece *piece;
	size_t i;
	int r = 0;

	*straight = true;
	piece = piece_of(e->pieces, off, &i);
	while (r == 0 && off < end) {
		uint64_t stop = i + 1 < e->pieces->n ? e->pieces->v[i + 1].off : end, len = WFS_MIN(stop, end) - off;
		uint64_t from = piece->base_off + (off - piece->off);

		*straight &= piece->base == 0 && from == off;
		if (piece->base == WFS_NO_BASE)
			memset(buf, 0, len);
		else
			r = wfs_model_peek(e->parent->model, e->pieces->base_file[piece->base], buf, len, from, err);
		buf += len;
		off += len;
		piece = &e->pieces->v[++i];
	}
	return r < 0 ? wfs_wrap(err, r, "last version's bytes for %s", e->in->path) : 0;
}

/* What was encoded must decode to the directory's bytes, or nothing is published. */
static int prove(struct worker *w, uint32_t len, bool with_base, struct wfs_err *err)
{
	int r;

	if (with_base)
		memcpy(w->proof, w->base, len);
	r = wfs_block_decode(w->proof, len, w->codec, w->stored.data, w->stored.len, w->spans, w->n_spans, err);
	if (r == 0 && memcmp(w->proof, w->next, len) != 0)
		r = wfs_fail(err, -EIO, "codec %s does not give the bytes back: a defect of weightsync or of memory",
			     wfs_codec_name(w->codec));
	return r;
}

/* Bytes of elements that differ; equal stretches, nearly everything, go by in words. */
static uint64_t count_changed(const struct worker *w)
{
	uint64_t n = 0;

	for (size_t s = 0; s < w->n_spans; s++) {
		unsigned width = wfs_dtype_width(w->spans[s].dtype);
		uint32_t i = w->spans[s].off, end = i + w->spans[s].len;

		while (i < end) {
			uint32_t step = i + 8 <= end ? 8 : end - i;

			if (memcmp(w->base + i, w->next + i, step) != 0)
				for (uint32_t k = i; k < i + step; k += width)
					if (memcmp(w->base + k, w->next + k, WFS_MIN(width, i + step - k)) != 0)
						n += WFS_MIN(width, i + step - k);
			i += step;
		}
	}
	return n;
}

static int work_block(struct worker *w, uint32_t b, struct wfs_err *err)
{
	struct wfs_encode *e = w->p->e;
	bool based = e->pieces->n_bases > 0, straight = false;
	uint32_t len = block_len(e, b);
	int r;

	w->stored.len = 0;
	free(w->spans);
	w->spans = NULL;
	r = read_block(e, b, w->next, &w->hole, err);
	if (r == 0 && based)
		r = read_base(e, b, w->base, &straight, err);
	if (r == 0 && e->plain && !based) {
		w->codec = WFS_CODEC_RAW;
		r = wfs_buf_append(&w->stored, w->next, len);
		goto coded;
	}
	if (r == 0 && w->hole && !based) {
		w->codec = WFS_CODEC_ZERO;	/* known without looking at a byte */
		goto coded;
	}
	if (r == 0)
		r = wfs_pieces_spans(&w->spans, &w->n_spans, e->pieces->v, e->pieces->n, (uint64_t)b << WFS_BLOCK_SHIFT,
				     len, err);
	if (r == 0)
		r = wfs_block_encode(&w->stored, &w->codec, based ? w->base : NULL, w->next, len, w->spans, w->n_spans,
				     err);
	if (r == 0 && !e->undo)
		r = prove(w, len, based, err);
coded:
	if (r == 0 && e->draft)
		r = wfs_draft_write(e->draft, b, w->next, len, err);
	w->hash = wfs_xxh3(w->next, len);
	w->same = straight && memcmp(w->base, w->next, len) == 0;
	w->changed = r == 0 && based && !w->same ? count_changed(w) : 0;
	return r;
}

static int begin_pack(struct pipe *p, struct wfs_err *err)
{
	int r = p->e->undo ? 0 : wfs_put_begin(&p->put, p->e->store, err);

	p->in_pack = r == 0;
	return r < 0 ? r : wfs_table_begin_pack(p->table, 0, err);
}

static int end_pack(struct pipe *p, struct wfs_err *err)
{
	char name[WFS_OBJECT_NAME];
	struct wfs_digest id;
	int r = 0;

	if (!p->in_pack)
		return 0;
	p->in_pack = false;
	wfs_sha256_final(p->sha, &id);
	wfs_object_name(name, "packs", &id);
	if (p->put)
		r = wfs_put_commit(p->put, name, err);
	p->put = NULL;
	if (r == 0)
		r = wfs_table_end_pack(p->table, &id, p->pack_len, err);
	p->e->stored += p->pack_len;
	p->e->pack = id;
	p->pack_len = 0;
	return r;
}

static int append(struct worker *w, struct wfs_err *err)
{
	struct pipe *p = w->p;
	struct wfs_encode *e = p->e;
	int r = 0;

	if (e->limit && e->stored + p->pack_len + w->stored.len >= e->limit)
		return wfs_fail(err, -EDQUOT, "takes more than %llu bytes", (unsigned long long)e->limit);
	if (p->in_pack && p->pack_len >= PACK_CUT && !e->plain && !e->undo)
		r = end_pack(p, err);
	if (r == 0 && w->stored.len && !p->in_pack)
		r = begin_pack(p, err);
	if (r == 0 && w->stored.len) {
		r = e->undo ? wfs_undo_write(e->undo, w->stored.data, w->stored.len, err)
			    : wfs_put_write(p->put, w->stored.data, w->stored.len, err);
		wfs_sha256_update(p->sha, w->stored.data, w->stored.len);
		p->pack_len += w->stored.len;
	}
	if (r == 0)
		r = wfs_table_add_block(p->table, w->hash, w->codec, w->stored.data, w->stored.len, err);
	p->differs |= !w->same;
	e->based |= wfs_codec_needs_base(w->codec);
	return r;
}

static void fail(struct pipe *p, int r, const struct wfs_err *err)
{
	pthread_mutex_lock(&p->lock);
	if (p->result == 0) {
		p->result = r;
		p->err = *err;
	}
	pthread_cond_broadcast(&p->turn_cond);
	pthread_mutex_unlock(&p->lock);
}

/* Wait until block b is next; false: something failed. */
static bool my_turn(struct pipe *p, uint32_t b)
{
	bool ok;

	pthread_mutex_lock(&p->lock);
	while (p->turn != b && p->result == 0)
		pthread_cond_wait(&p->turn_cond, &p->lock);
	ok = p->result == 0;
	pthread_mutex_unlock(&p->lock);
	return ok;
}

static void end_turn(struct pipe *p, uint64_t changed)
{
	const struct wfs_progress *pr = p->e->progress;
	uint64_t done;

	pthread_mutex_lock(&p->lock);
	p->e->changed += changed;
	p->turn++;
	done = WFS_MIN((uint64_t)p->turn << WFS_BLOCK_SHIFT, (uint64_t)p->e->in->st.st_size);
	if (pr && pr->cancel && *pr->cancel && p->result == 0)
		p->result = wfs_fail(&p->err, -ECANCELED, "interrupted");
	pthread_cond_broadcast(&p->turn_cond);
	if (pr && pr->fn)
		pr->fn(pr->arg, p->e->in->path, p->e->done_before + done, p->e->total);
	pthread_mutex_unlock(&p->lock);
}

static bool take(struct pipe *p, uint32_t *b)
{
	bool got;

	pthread_mutex_lock(&p->lock);
	got = p->result == 0 && p->next < p->n_blocks;
	if (got)
		*b = p->next++;
	pthread_mutex_unlock(&p->lock);
	return got;
}

static void *worker_main(void *arg)
{
	struct worker w = { .p = arg };
	struct wfs_err err = { "" };
	uint32_t b;
	int r = 0;

	w.next = malloc(WFS_BLOCK_SIZE);
	w.base = malloc(WFS_BLOCK_SIZE);
	w.proof = malloc(WFS_BLOCK_SIZE);
	if (!w.next || !w.base || !w.proof)
		r = wfs_fail(&err, -ENOMEM, "out of memory");
	while (r == 0 && take(w.p, &b)) {
		r = work_block(&w, b, &err);
		if (r < 0 || !my_turn(w.p, b))
			break;
		r = append(&w, &err);
		if (r == 0)
			end_turn(w.p, w.changed);
	}
	if (r < 0)
		fail(w.p, r, &err);
	wfs_buf_free(&w.stored);
	free(w.spans);
	free(w.next);
	free(w.base);
	free(w.proof);
	return NULL;
}

static int run_workers(struct pipe *p)
{
	unsigned n = WFS_MIN(WFS_MAX(p->e->workers, 1u), WORKERS_MAX), i;
	pthread_t threads[WORKERS_MAX];

	for (i = 0; i < n; i++)
		if (pthread_create(&threads[i], NULL, worker_main, p) != 0)
			break;
	if (i == 0)
		p->result = wfs_fail(&p->err, -EAGAIN, "cannot start a thread");
	while (i)
		pthread_join(threads[--i], NULL);
	return p->result;
}

static int begin_table(struct pipe *p, struct wfs_err *err)
{
	const struct wfs_pieces *pieces = p->e->pieces;
	uint32_t index;
	int r;

	r = wfs_table_writer_new(&p->table, (uint64_t)p->e->in->st.st_size, err);
	for (uint32_t i = 0; r == 0 && i < pieces->n_bases; i++)
		r = wfs_table_add_base(p->table, &pieces->bases[i], &index, err);
	for (size_t i = 0; r == 0 && i < pieces->n; i++)
		r = wfs_table_add_piece(p->table, &pieces->v[i], err);
	return r;
}

int wfs_encode_file(struct wfs_encode *e, struct wfs_err *err)
{
	struct pipe p = { .e = e };
	int r;

	p.n_blocks = (uint32_t)(((uint64_t)e->in->st.st_size + WFS_BLOCK_SIZE - 1) >> WFS_BLOCK_SHIFT);
	pthread_mutex_init(&p.lock, NULL);
	pthread_cond_init(&p.turn_cond, NULL);
	p.sha = wfs_sha256_new();
	if (e->plain && (uint64_t)e->in->st.st_size > WFS_PACK_MAX)
		r = wfs_fail(err, -EFBIG, "a plain copy is one object, of at most %llu bytes: publish with --anchor packed",
			     WFS_PACK_MAX);
	else
		r = p.sha ? begin_table(&p, err) : wfs_fail(err, -ENOMEM, "out of memory");
	if (r == 0 && e->replica)
		r = wfs_draft_new(&e->draft, e->replica, (uint64_t)e->in->st.st_size, err);
	if (r == 0) {
		r = run_workers(&p);
		if (r < 0 && err)
			*err = p.err;
	}
	if (r == 0)
		r = end_pack(&p, err);
	if (r == 0)
		r = wfs_table_finish(p.table, &e->table, err);
	e->all_same = !p.differs;
	wfs_put_abort(p.put);
	wfs_table_writer_free(p.table);
	wfs_sha256_free(p.sha);
	pthread_mutex_destroy(&p.lock);
	pthread_cond_destroy(&p.turn_cond);
	return r < 0 ? wfs_wrap(err, r, "%s", e->in->path) : 0;
}
