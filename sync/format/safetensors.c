/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safetensors.c - the header of a shard, from JSON to a checked list of tensors
 *
 * Names and shapes are collected in two arenas while the JSON streams by.  Arenas move when they
 * grow, so pointers into them are set afterwards, in the order of the JSON; only then the tensors
 * are sorted and compared with one another.
 */
#include "weightfs/safetensors.h"

#include <errno.h>
#include <string.h>

#include "format/format.h"
#include "weightfs/buf.h"
#include "weightfs/json.h"

#define PREFIX_LEN 8

struct wfs_safetensors {
	struct wfs_tensor *tensors;	/* in file order */
	uint32_t *by_name;		/* places in tensors */
	size_t n, cap;
	struct wfs_buf names, shapes;
	uint64_t data;
};

int wfs_safetensors_header_len(uint64_t *out, const uint8_t prefix[8], uint64_t file_size, struct wfs_err *err)
{
	uint64_t n = wfs_get64(prefix);

	if (file_size < PREFIX_LEN)
		return wfs_fail(err, -EBADMSG, "safetensors: a file of %llu bytes", (unsigned long long)file_size);
	if (n > WFS_HEADER_MAX)
		return wfs_fail(err, -EBADMSG, "safetensors: header of %llu bytes, at most %u are possible",
				(unsigned long long)n, WFS_HEADER_MAX);
	if (n > file_size - PREFIX_LEN)
		return wfs_fail(err, -EBADMSG, "safetensors: header of %llu bytes in a file of %llu",
				(unsigned long long)n, (unsigned long long)file_size);
	*out = n + PREFIX_LEN;
	return 0;
}

/* ---- the JSON ---- */

enum { HAS_DTYPE = 1, HAS_SHAPE = 2, HAS_OFFSETS = 4, HAS_ALL = 7 };

struct parse {
	struct wfs_safetensors *st;
	uint64_t file_size;
	struct wfs_tensor t;		/* the one being read */
	uint64_t offsets[2];		/* in the data */
	uint32_t n_offsets;
	unsigned has;
	bool metadata;			/* seen */
};

static int no_memory(struct wfs_err *err)
{
	return wfs_fail(err, -ENOMEM, "safetensors: out of memory");
}

static int bad(const struct wfs_json_event *ev, const char *rule, struct wfs_err *err)
{
	return wfs_fail(err, -EBADMSG, "safetensors: tensor %s: %s", ev->key[0], rule);
}

static int begin_tensor(struct parse *p, const struct wfs_json_event *ev, struct wfs_err *err)
{
	size_t len = strlen(ev->key[0]);

	if (p->st->n == WFS_TENSORS_MAX)
		return wfs_fail(err, -EBADMSG, "safetensors: more than %u tensors", WFS_TENSORS_MAX);
	if (len > WFS_TENSOR_NAME_MAX)
		return wfs_fail(err, -EBADMSG, "safetensors: a tensor's name of %zu bytes, at most %u are possible", len,
				WFS_TENSOR_NAME_MAX);
	if (wfs_buf_append(&p->st->names, ev->key[0], len + 1) < 0)
		return no_memory(err);
	p->t = (struct wfs_tensor){ 0 };
	p->n_offsets = 0;
	p->has = 0;
	return 0;
}

/* The product of the dimensions and the element's bits, which must make whole bytes. */
static int tensor_size(uint64_t *out, const struct parse *p, const struct wfs_json_event *ev, struct wfs_err *err)
{
	size_t dims = p->st->shapes.len - p->t.n_dims * sizeof(uint64_t);
	uint64_t n = 1, dim;

	for (uint32_t i = 0; i < p->t.n_dims; i++) {
		memcpy(&dim, p->st->shapes.data + dims + i * sizeof(dim), sizeof(dim));
		if (__builtin_mul_overflow(n, dim, &n))
			return bad(ev, "the product of its shape is over 2^64", err);
	}
	if (__builtin_mul_overflow(n, (uint64_t)wfs_dtype_bits(p->t.dtype), &n))
		return bad(ev, "its size in bits is over 2^64", err);
	if (n % 8 != 0)
		return bad(ev, "it does not end with a whole byte", err);
	*out = n / 8;
	return 0;
}

static int push_tensor(struct wfs_safetensors *st, const struct wfs_tensor *t, struct wfs_err *err)
{
	if (st->n == st->cap) {
		size_t cap = st->cap ? 2 * st->cap : 64;
		struct wfs_tensor *grown = realloc(st->tensors, cap * sizeof(*grown));

		if (!grown)
			return no_memory(err);
		st->tensors = grown;
		st->cap = cap;
	}
	st->tensors[st->n++] = *t;
	return 0;
}

static int end_tensor(struct parse *p, const struct wfs_json_event *ev, struct wfs_err *err)
{
	uint64_t room = p->file_size - p->st->data, size = 0;
	int r;

	if (p->has != HAS_ALL)
		return bad(ev, "dtype, shape or data_offsets is missing", err);
	if (p->n_offsets != 2)
		return bad(ev, "data_offsets are not two numbers", err);
	if (p->offsets[0] > p->offsets[1] || p->offsets[1] > room)
		return bad(ev, "its data_offsets do not lie within the file", err);
	r = tensor_size(&size, p, ev, err);
	if (r < 0)
		return r;
	if (size != p->offsets[1] - p->offsets[0])
		return bad(ev, "its data_offsets do not fit its dtype and shape", err);
	p->t.begin = p->st->data + p->offsets[0];
	p->t.end = p->st->data + p->offsets[1];
	return push_tensor(p->st, &p->t, err);
}

static int mark(struct parse *p, unsigned member, const struct wfs_json_event *ev, struct wfs_err *err)
{
	if (p->has & member)
		return wfs_fail(err, -EBADMSG, "safetensors: tensor %s: %s occurs twice", ev->key[0], ev->key[1]);
	p->has |= member;
	return 0;
}

/* {"NAME": {"dtype": ..., "shape": [...], "data_offsets": [...]}}, at the level of these keys.
 * Other members are passed over, as the reference reader does. */
static int tensor_member(struct parse *p, const struct wfs_json_event *ev, struct wfs_err *err)
{
	if (strcmp(ev->key[1], "dtype") == 0) {
		if (ev->kind != WFS_JSON_STRING)
			return bad(ev, "dtype is not a string", err);
		p->t.dtype = (uint8_t)wfs_dtype_find(ev->text);
		if (p->t.dtype == WFS_DT_COUNT)
			return wfs_fail(err, -EBADMSG, "safetensors: tensor %s: dtype %s, which this program does not know",
					ev->key[0], ev->text);
		return mark(p, HAS_DTYPE, ev, err);
	}
	if (ev->kind == WFS_JSON_ARRAY_END)
		return 0;
	if (strcmp(ev->key[1], "shape") == 0)
		return ev->kind == WFS_JSON_ARRAY ? mark(p, HAS_SHAPE, ev, err) : bad(ev, "shape is not an array", err);
	if (strcmp(ev->key[1], "data_offsets") == 0)
		return ev->kind == WFS_JSON_ARRAY ? mark(p, HAS_OFFSETS, ev, err) : bad(ev, "data_offsets are not an array", err);
	return 0;
}

static int tensor_number(struct parse *p, const struct wfs_json_event *ev, struct wfs_err *err)
{
	bool shape = strcmp(ev->key[1], "shape") == 0;

	if (!shape && strcmp(ev->key[1], "data_offsets") != 0)
		return 0;
	if (ev->depth > 3 || ev->kind != WFS_JSON_UINT)
		return bad(ev, "shape and data_offsets take whole numbers from 0 to 2^64-1 only", err);
	if (!shape) {
		if (p->n_offsets == 2)
			return bad(ev, "data_offsets are not two numbers", err);
		p->offsets[p->n_offsets++] = ev->uint;
		return 0;
	}
	if (p->t.n_dims == WFS_TENSOR_DIMS_MAX)
		return wfs_fail(err, -EBADMSG, "safetensors: tensor %s: more than %u dimensions", ev->key[0],
				WFS_TENSOR_DIMS_MAX);
	p->t.n_dims++;
	return wfs_buf_append(&p->st->shapes, &ev->uint, sizeof(ev->uint)) < 0 ? no_memory(err) : 0;
}

static int metadata_event(struct parse *p, const struct wfs_json_event *ev, struct wfs_err *err)
{
	if (ev->depth > 1)
		return ev->kind == WFS_JSON_STRING ? 0
			: wfs_fail(err, -EBADMSG, "safetensors: __metadata__ has more than strings");
	if (ev->kind == WFS_JSON_OBJECT_END)
		return 0;
	if (ev->kind != WFS_JSON_OBJECT && ev->kind != WFS_JSON_NULL)
		return wfs_fail(err, -EBADMSG, "safetensors: __metadata__ is not an object");
	if (p->metadata)
		return wfs_fail(err, -EBADMSG, "safetensors: __metadata__ occurs twice");
	p->metadata = true;
	return 0;
}

static int header_event(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	struct parse *p = arg;

	if (ev->depth == 0)
		return ev->kind == WFS_JSON_OBJECT || ev->kind == WFS_JSON_OBJECT_END ? 0
			: wfs_fail(err, -EBADMSG, "safetensors: the header is not an object");
	if (strcmp(ev->key[0], "__metadata__") == 0)
		return metadata_event(p, ev, err);
	if (ev->depth > 1)
		return ev->depth == 2 ? tensor_member(p, ev, err) : tensor_number(p, ev, err);
	if (ev->kind == WFS_JSON_OBJECT)
		return begin_tensor(p, ev, err);
	return ev->kind == WFS_JSON_OBJECT_END ? end_tensor(p, ev, err) : bad(ev, "it is not an object", err);
}

/* ---- the whole ---- */

static void set_pointers(struct wfs_safetensors *st)
{
	const char *name = (const char *)st->names.data;
	const uint64_t *shape = (const uint64_t *)(const void *)st->shapes.data;

	for (size_t i = 0; i < st->n; i++) {
		st->tensors[i].name = name;
		st->tensors[i].shape = shape;
		name += strlen(name) + 1;
		if (shape)
			shape += st->tensors[i].n_dims;
	}
}

static int by_offset(const void *a, const void *b)
{
	const struct wfs_tensor *x = a, *y = b;

	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	if (x->end != y->end)
		return x->end < y->end ? -1 : 1;
	return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b, void *arg)
{
	const struct wfs_tensor *tensors = arg;

	return strcmp(tensors[*(const uint32_t *)a].name, tensors[*(const uint32_t *)b].name);
}

static int check_offsets(const struct wfs_safetensors *st, uint64_t file_size, struct wfs_err *err)
{
	uint64_t at = st->data;

	for (size_t i = 0; i < st->n; i++) {
		if (st->tensors[i].begin != at)
			return wfs_fail(err, -EBADMSG, "safetensors: tensor %s: %s before it", st->tensors[i].name,
					st->tensors[i].begin > at ? "a hole" : "it overlaps the tensor");
		at = st->tensors[i].end;
	}
	if (at != file_size)
		return wfs_fail(err, -EBADMSG, "safetensors: tensors end at %llu, the file at %llu",
				(unsigned long long)at, (unsigned long long)file_size);
	return 0;
}

static int index_names(struct wfs_safetensors *st, struct wfs_err *err)
{
	st->by_name = calloc(st->n + 1, sizeof(*st->by_name));
	if (!st->by_name)
		return no_memory(err);
	for (size_t i = 0; i < st->n; i++)
		st->by_name[i] = (uint32_t)i;
	qsort_r(st->by_name, st->n, sizeof(*st->by_name), by_name, st->tensors);
	for (size_t i = 1; i < st->n; i++)
		if (by_name(&st->by_name[i - 1], &st->by_name[i], st->tensors) == 0)
			return wfs_fail(err, -EBADMSG, "safetensors: tensor %s occurs twice",
					st->tensors[st->by_name[i]].name);
	return 0;
}

static int read_header(struct wfs_safetensors *st, const uint8_t *head, size_t head_len, uint64_t file_size,
		       struct wfs_err *err)
{
	struct parse p = { .st = st, .file_size = file_size };
	int r;

	r = head_len < PREFIX_LEN ? wfs_fail(err, -EBADMSG, "safetensors: %zu bytes of header", head_len)
				  : wfs_safetensors_header_len(&st->data, head, file_size, err);
	if (r < 0)
		return r;
	if (st->data != head_len)
		return wfs_fail(err, -EBADMSG, "safetensors: %zu bytes of a header of %llu", head_len,
				(unsigned long long)st->data);
	if (head_len == PREFIX_LEN || head[PREFIX_LEN] != '{')
		return wfs_fail(err, -EBADMSG, "safetensors: the header does not begin with {");
	r = wfs_json_parse(head + PREFIX_LEN, head_len - PREFIX_LEN, WFS_JSON_EVENTS_MAX, header_event, &p, err);
	if (r < 0)
		return wfs_wrap(err, r, "header");
	set_pointers(st);
	if (st->n > 0)
		qsort(st->tensors, st->n, sizeof(*st->tensors), by_offset);
	r = check_offsets(st, file_size, err);
	return r < 0 ? r : index_names(st, err);
}

int wfs_safetensors_open(struct wfs_safetensors **out, const void *head, size_t head_len,
			 uint64_t file_size, struct wfs_err *err)
{
	struct wfs_safetensors *st = calloc(1, sizeof(*st));
	int r;

	if (!st)
		return no_memory(err);
	r = read_header(st, head, head_len, file_size, err);
	if (r < 0) {
		wfs_safetensors_close(st);
		return r;
	}
	*out = st;
	return 0;
}

void wfs_safetensors_close(struct wfs_safetensors *st)
{
	if (!st)
		return;
	free(st->tensors);
	free(st->by_name);
	wfs_buf_free(&st->names);
	wfs_buf_free(&st->shapes);
	free(st);
}

size_t wfs_safetensors_count(const struct wfs_safetensors *st)
{
	return st->n;
}

const struct wfs_tensor *wfs_safetensors_at(const struct wfs_safetensors *st, size_t i)
{
	return &st->tensors[i];
}

const struct wfs_tensor *wfs_safetensors_find(const struct wfs_safetensors *st, const char *name)
{
	size_t lo = 0, hi = st->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct wfs_tensor *t = &st->tensors[st->by_name[mid]];
		int c = strcmp(t->name, name);

		if (c == 0)
			return t;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

uint64_t wfs_safetensors_data(const struct wfs_safetensors *st)
{
	return st->data;
}
