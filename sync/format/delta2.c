/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delta2.c - codec delta2: a block as sections, one a kind of unit
 *
 * Units of one kind share statistics wherever they lie in the block.  Each section is stored in
 * whichever way is smallest.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "format/delta2.h"
#include "weightfs/codec.h"

/* Written in sections: never renumber. */
enum form {
	FORM_SAME = 0,			/* nothing changed; no bytes */
	FORM_RAW = 1,			/* the new units */
	FORM_ZSTD = 2,			/* the new units, one frame */
	FORM_SPARSE = 3,
	FORM_DENSE = 4,
	FORM_PACKED = 16,		/* a flag of the last two: integers that hold 4-bit units */
};

#define LEN_LEN	4			/* of a section's length, in all but the last */

/* Above one changed unit in so many, coding every unit is faster, and hardly longer. */
#define SPARSE_SHARE 24
/* A section shorter than its units by this factor is not compressed beside. */
#define SURE 4
/* Packed values come in large tensors; in less than so many bytes it is not worth looking. */
#define PACKED_MIN 4096
/* By this factor shorter, reckoned, and the other way is not tried. */
#define CLEARLY 2

#define KIND_4BIT 1

/* By element type; bytes that are no whole element are kind 0. */
static const uint8_t kinds[WFS_DT_COUNT] = {
	[WFS_DT_F4] = KIND_4BIT,
	[WFS_DT_F8_E4M3] = 2, [WFS_DT_F8_E4M3FNUZ] = 2,
	[WFS_DT_F8_E5M2] = 3, [WFS_DT_F8_E5M2FNUZ] = 3,
	[WFS_DT_I16] = 4, [WFS_DT_U16] = 4,
	[WFS_DT_F16] = 5,
	[WFS_DT_BF16] = 6,
	[WFS_DT_I32] = 7, [WFS_DT_U32] = 7,
	[WFS_DT_F32] = 8, [WFS_DT_C64] = 8,
	[WFS_DT_I64] = 9, [WFS_DT_U64] = 9,
	[WFS_DT_F64] = 10,
};

/* Integers, which quantizers pack 4-bit values into. */
static const bool integers[WFS_D2_KINDS] = { [0] = true, [4] = true, [7] = true, [9] = true };

/* Where units of one kind lie in the block. */
struct part {
	uint32_t off, len;		/* bytes; of all of them */
	bool scattered;			/* other kinds lie between */
};

struct runs {
	struct wfs_units_iter it;
	struct wfs_units units;
	unsigned kind;
};

static bool next_run(struct runs *r)
{
	unsigned dtype;

	if (!wfs_units_next(&r->it, &r->units))
		return false;
	dtype = r->it.spans[r->it.span].dtype;
	r->kind = r->units.width == wfs_dtype_width(dtype) ? kinds[dtype] : 0;
	return true;
}

static void find_parts(struct part parts[WFS_D2_KINDS], const struct wfs_span *spans, size_t n_spans)
{
	struct runs r = { .it = { .spans = spans, .n_spans = n_spans } };

	memset(parts, 0, WFS_D2_KINDS * sizeof(*parts));
	while (next_run(&r)) {
		struct part *p = &parts[r.kind];

		if (p->len == 0)
			p->off = r.units.off;
		else if (p->off + p->len != r.units.off)
			p->scattered = true;
		p->len += r.units.n * r.units.width;
	}
}

static unsigned last_part(const struct part parts[WFS_D2_KINDS])
{
	unsigned k = WFS_D2_KINDS - 1;

	while (parts[k].len == 0)
		k--;
	return k;
}

/* The bytes of one kind between the block and one array. */
static void gather(uint8_t *out, const uint8_t *block, unsigned kind, const struct wfs_span *spans, size_t n_spans)
{
	struct runs r = { .it = { .spans = spans, .n_spans = n_spans } };

	while (next_run(&r))
		if (r.kind == kind) {
			memcpy(out, block + r.units.off, (size_t)r.units.n * r.units.width);
			out += (size_t)r.units.n * r.units.width;
		}
}

static void scatter(uint8_t *block, const uint8_t *in, unsigned kind, const struct wfs_span *spans, size_t n_spans)
{
	struct runs r = { .it = { .spans = spans, .n_spans = n_spans } };

	while (next_run(&r))
		if (r.kind == kind) {
			memcpy(block + r.units.off, in, (size_t)r.units.n * r.units.width);
			in += (size_t)r.units.n * r.units.width;
		}
}

/* A part's bytes side by side: in the block itself, or in *own, which the caller frees. */
static int bytes_of(const uint8_t **bytes, uint8_t **own, const uint8_t *block, const struct part *p, unsigned kind,
		    const struct wfs_span *spans, size_t n_spans, struct wfs_err *err)
{
	*own = NULL;
	*bytes = block + p->off;
	if (!p->scattered)
		return 0;
	*own = malloc(p->len);
	if (!*own)
		return wfs_fail(err, -ENOMEM, "delta2: no memory for %u bytes of units", p->len);
	gather(*own, block, kind, spans, n_spans);
	*bytes = *own;
	return 0;
}

/* ---- encoding ---- */

/* Inlined for every width, so that the loops are over constants.  Stops behind `max` changes. */
static inline __attribute__((always_inline))
uint32_t compare(uint32_t *changed, uint32_t max, const struct wfs_d2_units *u, unsigned width)
{
	const uint32_t lanes = 8 / width;
	uint32_t i = 0, n = 0;

	for (; i + lanes <= u->n && n <= max; i += lanes) {
		uint64_t x, y;

		memcpy(&x, u->old + (size_t)i * width, 8);
		memcpy(&y, u->new + (size_t)i * width, 8);
		if (x == y)
			continue;
		for (uint32_t k = i; k < i + lanes; k++) {	/* which of them is not guessed */
			changed[n] = k;
			n += wfs_d2_load(u->old, k, width) != wfs_d2_load(u->new, k, width);
		}
	}
	for (; i < u->n && n <= max; i++)
		if (wfs_d2_load(u->old, i, width) != wfs_d2_load(u->new, i, width))
			changed[n++] = i;
	return n;
}

/* Room for max + 8 in `changed`.  More than max: there are more. */
static uint32_t find_changes(uint32_t *changed, uint32_t max, const struct wfs_d2_units *u)
{
	switch (u->kind->width) {
	case 1:	return compare(changed, max, u, 1);
	case 2:	return compare(changed, max, u, 2);
	case 4:	return compare(changed, max, u, 4);
	default: return compare(changed, max, u, 8);
	}
}

static int encode_changes(struct wfs_buf *out, enum form *form, const struct wfs_d2_units *u, struct wfs_err *err)
{
	uint32_t max = u->n / SPARSE_SHARE + 1, n;
	uint32_t *changed = malloc((max + 8u) * sizeof(*changed));
	int r = 0;

	if (!changed)
		return wfs_fail(err, -ENOMEM, "delta2: no memory for %u changes", max);
	n = find_changes(changed, max, u);
	*form = n == 0 ? FORM_SAME : n <= max ? FORM_SPARSE : FORM_DENSE;
	if (*form == FORM_SPARSE)
		r = wfs_d2_sparse_encode(out, u, changed, n, err);
	else if (*form == FORM_DENSE)
		r = wfs_d2_dense_encode(out, u, err);
	free(changed);
	return r;
}

/* Unless the changes are surely shorter, the units themselves, as they are or compressed. */
static int encode_units(struct wfs_buf *out, enum form *form, size_t start, const uint8_t *new, uint32_t len,
			struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf frame = WFS_BUF_INIT;
	size_t have = out->len - start;
	bool worth;
	int r;

	if (have < len / SURE)
		return 0;
	r = wfs_zstd_worth(&worth, &frame, new, len, have, err);
	if (r == 0 && worth)
		r = wfs_zstd_compress(&frame, new, len, WFS_BLOCK_LEVEL, err);
	if (r < 0 || !worth)
		return r;
	if (frame.len >= WFS_MIN(have, len) && have < len)
		return 0;
	out->len = start;
	*form = frame.len < len ? FORM_ZSTD : FORM_RAW;
	if (*form == FORM_ZSTD)
		r = wfs_buf_append(out, frame.data, frame.len);
	else
		r = wfs_buf_append(out, new, len);
	return r < 0 ? wfs_fail(err, r, "delta2: no memory for a section") : 0;
}

/* The changes of 4-bit units in so many bytes. */
static int encode_packed(struct wfs_buf *out, enum form *form, const uint8_t *old, const uint8_t *new, uint32_t len,
			 struct wfs_err *err)
{
	uint8_t *units = malloc(4 * (size_t)len);
	struct wfs_d2_units u = { .kind = &wfs_d2_kinds[KIND_4BIT], .n = 2 * len, .old = units };
	int r;

	if (!units)
		return wfs_fail(err, -ENOMEM, "delta2: no memory for %u bytes of 4-bit units", len);
	u.new = units + 2 * (size_t)len;
	wfs_d2_unpack(units, old, len);
	wfs_d2_unpack(units + 2 * (size_t)len, new, len);
	r = encode_changes(out, form, &u, err);
	free(units);
	return r;
}

/* If it is shorter than what is there from `start` on, it takes its place. */
static int try_packed(struct wfs_buf *out, enum form *form, size_t start, const uint8_t *old, const uint8_t *new,
		      uint32_t len, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf packed = WFS_BUF_INIT;
	enum form packed_form;
	int r = encode_packed(&packed, &packed_form, old, new, len, err);

	if (r < 0 || packed.len >= out->len - start)
		return r;
	out->len = start;
	*form = packed_form | FORM_PACKED;
	r = wfs_buf_append(out, packed.data, packed.len);
	return r < 0 ? wfs_fail(err, r, "delta2: no memory for a section") : 0;
}

/* Integers as such, as what may be packed into them, or as both where it is not clear which is shorter. */
static int encode_integers(struct wfs_buf *out, enum form *form, const struct wfs_d2_units *u, uint32_t len,
			   struct wfs_err *err)
{
	uint64_t whole, packed;
	size_t start = out->len;
	int r;

	if (len < PACKED_MIN || memcmp(u->old, u->new, len) == 0)
		return encode_changes(out, form, u, err);
	wfs_d2_packed_costs(&whole, &packed, u->old, u->new, len, u->kind->width);
	if (packed < whole / CLEARLY) {
		r = encode_packed(out, form, u->old, u->new, len, err);
		*form |= FORM_PACKED;
		return r;
	}
	r = encode_changes(out, form, u, err);
	if (r < 0 || packed >= whole)
		return r;
	return try_packed(out, form, start, u->old, u->new, len, err);
}

/* In whichever form is shortest. */
static int encode_part(struct wfs_buf *out, enum form *form, const uint8_t *old, const uint8_t *new, uint32_t len,
		       unsigned kind, struct wfs_err *err)
{
	unsigned width = wfs_d2_kinds[kind].width;
	struct wfs_d2_units u = { .kind = &wfs_d2_kinds[kind], .n = len / width, .old = old, .new = new };
	size_t start = out->len;
	int r;

	if (kind == KIND_4BIT)
		r = encode_packed(out, form, old, new, len, err);
	else if (integers[kind])
		r = encode_integers(out, form, &u, len, err);
	else
		r = encode_changes(out, form, &u, err);
	if (r < 0 || *form == FORM_SAME)
		return r;
	return encode_units(out, form, start, new, len, err);
}

static int encode_section(struct wfs_buf *out, const uint8_t *base, const uint8_t *next, const struct part *p,
			  unsigned kind, bool last, const struct wfs_span *spans, size_t n_spans, struct wfs_err *err)
{
	uint8_t *own_old = NULL, *own_new = NULL, head[1 + LEN_LEN] = { 0 };
	size_t head_at = out->len, start;
	enum form form = FORM_SAME;
	const uint8_t *old, *new;
	int r;

	r = wfs_buf_append(out, head, last ? 1 : sizeof(head));
	if (r < 0)
		return wfs_fail(err, r, "delta2: no memory for a section");
	start = out->len;
	r = bytes_of(&old, &own_old, base, p, kind, spans, n_spans, err);
	if (r == 0)
		r = bytes_of(&new, &own_new, next, p, kind, spans, n_spans, err);
	if (r == 0)
		r = encode_part(out, &form, old, new, p->len, kind, err);
	free(own_old);
	free(own_new);
	out->data[head_at] = (uint8_t)form;
	if (!last)
		wfs_put32(out->data + head_at + 1, (uint32_t)(out->len - start));
	return r;
}

int wfs_delta2_encode(struct wfs_buf *out, bool *fits, const uint8_t *base, const uint8_t *next, size_t len,
		      const struct wfs_span *spans, size_t n_spans, size_t limit, struct wfs_err *err)
{
	struct part parts[WFS_D2_KINDS];
	size_t start = out->len;
	unsigned last;
	int r = 0;

	assert(len > 0);
	(void)len;
	find_parts(parts, spans, n_spans);
	last = last_part(parts);
	for (unsigned k = 0; k <= last && r == 0; k++)
		if (parts[k].len > 0)
			r = encode_section(out, base, next, &parts[k], k, k == last, spans, n_spans, err);
	*fits = r == 0 && out->len - start < limit;
	if (!*fits)
		out->len = start;
	return r;
}

/* ---- decoding ---- */

static int decode_form(uint8_t *units, unsigned form, const struct wfs_d2_units *u, const uint8_t *in, size_t len,
		       struct wfs_err *err)
{
	if (form == FORM_SPARSE)
		return wfs_d2_sparse_decode(units, u, in, len, err);
	return wfs_d2_dense_decode(units, u, in, len, err);
}

/* Changes to 4-bit units in so many bytes. */
static int decode_packed(uint8_t *bytes, uint32_t n, unsigned form, const uint8_t *in, size_t len, struct wfs_err *err)
{
	uint8_t *units = malloc(2 * (size_t)n);
	struct wfs_d2_units u = { .kind = &wfs_d2_kinds[KIND_4BIT], .n = 2 * n, .old = units };
	int r;

	if (!units)
		return wfs_fail(err, -ENOMEM, "delta2: no memory for %u bytes of 4-bit units", n);
	wfs_d2_unpack(units, bytes, n);
	r = decode_form(units, form, &u, in, len, err);
	if (r == 0)
		wfs_d2_pack(bytes, units, n);
	free(units);
	return r;
}

/* Changes to units that may have to be gathered first and put back after. */
static int decode_changes(uint8_t *block, unsigned form, const struct part *p, unsigned kind, const uint8_t *in,
			  size_t len, const struct wfs_span *spans, size_t n_spans, struct wfs_err *err)
{
	struct wfs_d2_units u = { .kind = &wfs_d2_kinds[kind], .n = p->len / wfs_d2_kinds[kind].width };
	uint8_t *own, *bytes;
	int r;

	r = bytes_of(&u.old, &own, block, p, kind, spans, n_spans, err);
	if (r < 0)
		return r;
	bytes = own ? own : block + p->off;
	if (kind == KIND_4BIT || form & FORM_PACKED)
		r = decode_packed(bytes, p->len, form & ~FORM_PACKED, in, len, err);
	else
		r = decode_form(bytes, form, &u, in, len, err);
	if (r == 0 && own)
		scatter(block, own, kind, spans, n_spans);
	free(own);
	return r;
}

static int decode_units(uint8_t *block, unsigned form, const struct part *p, unsigned kind, const uint8_t *in,
			size_t len, const struct wfs_span *spans, size_t n_spans, struct wfs_err *err)
{
	uint8_t *units;
	int r;

	if (form == FORM_RAW) {
		if (len != p->len)
			return wfs_fail(err, -EBADMSG, "delta2: %zu bytes for %u bytes of units", len, p->len);
		scatter(block, in, kind, spans, n_spans);
		return 0;
	}
	units = malloc(p->len);
	if (!units)
		return wfs_fail(err, -ENOMEM, "delta2: no memory for %u bytes of units", p->len);
	r = wfs_zstd_decompress(units, p->len, in, len, err);
	if (r == 0)
		scatter(block, units, kind, spans, n_spans);
	free(units);
	return r < 0 ? wfs_wrap(err, r, "delta2: units") : 0;
}

static int decode_section(uint8_t *block, unsigned form, const struct part *p, unsigned kind, const uint8_t *in,
			  size_t len, const struct wfs_span *spans, size_t n_spans, struct wfs_err *err)
{
	switch (form) {
	case FORM_SAME:
		return len == 0 ? 0 : wfs_fail(err, -EBADMSG, "delta2: %zu bytes where nothing changes", len);
	case FORM_RAW:
	case FORM_ZSTD:
		return decode_units(block, form, p, kind, in, len, spans, n_spans, err);
	case FORM_SPARSE | FORM_PACKED:
	case FORM_DENSE | FORM_PACKED:
		if (!integers[kind])
			return wfs_fail(err, -EBADMSG, "delta2: a section of form %u, but units of kind %u are no integers "
					"that 4-bit ones could be packed into", form, kind);
		__attribute__((fallthrough));
	case FORM_SPARSE:
	case FORM_DENSE:
		return decode_changes(block, form, p, kind, in, len, spans, n_spans, err);
	default:
		return wfs_fail(err, -EBADMSG, "delta2: a section of form %u", form);
	}
}

int wfs_delta2_decode(uint8_t *block, const uint8_t *stored, size_t stored_len,
		      const struct wfs_span *spans, size_t n_spans, struct wfs_err *err)
{
	const uint8_t *at = stored, *end = stored + stored_len;
	struct part parts[WFS_D2_KINDS];
	unsigned last;
	int r = 0;

	find_parts(parts, spans, n_spans);
	last = last_part(parts);
	for (unsigned k = 0; k <= last && r == 0; k++) {
		size_t head = k == last ? 1 : 1 + LEN_LEN, len;
		const uint8_t *section = at;

		if (parts[k].len == 0)
			continue;
		if ((size_t)(end - at) < head)
			return wfs_fail(err, -EBADMSG, "delta2: %zu bytes end before the section of kind %u", stored_len, k);
		at += head;
		len = k == last ? (size_t)(end - at) : wfs_get32(section + 1);
		if (len > (size_t)(end - at))
			return wfs_fail(err, -EBADMSG, "delta2: a section of %zu bytes, %zu are left", len, (size_t)(end - at));
		r = decode_section(block, section[0], &parts[k], k, at, len, spans, n_spans, err);
		at += len;
	}
	return r;
}
