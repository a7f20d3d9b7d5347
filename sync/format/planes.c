/* SPDX-License-Identifier: Apache-2.0 */
/*
 * planes.c - codec planes: a block in full, its elements taken apart into bytes
 *
 * Of a trained weight the exponent is predictable and the mantissa is not, and in memory they share
 * bytes.  Rotated by one bit, so that the sign joins the mantissa, a floating-point number has its
 * exponent in a byte of its own.  Such a byte is worth two to three bits by its frequency alone;
 * looking for repetitions in it takes longer and makes it larger.  Mantissas stay as they are, and are
 * not even copied when a block is decoded.
 *
 * The loops over bytes are plain, and this file is compiled so that compilers make vectors of them.
 */
#include <errno.h>
#include <string.h>

#include "format/format.h"
#include "weightfs/codec.h"

#define AS_IT_IS	0x80000000u	/* in a stored form: not compressed */
#define N_WIDTHS	4		/* of 1, 2, 4, 8 bytes */
#define PLANES_MAX	15
#define REPEATS_LEVEL	1		/* of zstd, where looking for repetitions pays */
#define SAMPLE		(16u << 10)	/* bytes of a plane that are tried both ways */
#define WORTH		64		/* a plane that does not lose 1 in 64 bytes is stored as it is */

/* Every byte of a block is in one plane.  Width k has its planes from index first[k]. */
struct planes {
	uint32_t units[N_WIDTHS];	/* of 1 << k bytes */
	uint8_t first[N_WIDTHS];
	unsigned n;
	uint32_t len[PLANES_MAX];
};

static void count_planes(struct planes *p, const struct wfs_span *spans, size_t n_spans)
{
	struct wfs_units_iter it = { .spans = spans, .n_spans = n_spans };
	struct wfs_units u;

	memset(p, 0, sizeof(*p));
	while (wfs_units_next(&it, &u))
		p->units[__builtin_ctz(u.width)] += u.n;
	for (unsigned k = 0; k < N_WIDTHS; k++) {
		p->first[k] = (uint8_t)p->n;
		for (unsigned j = 0; p->units[k] && j < 1u << k; j++)
			p->len[p->n++] = p->units[k];
	}
}

/* How far units of the span that `it` stands in are rotated. */
static unsigned rotation(const struct wfs_units_iter *it, const struct wfs_units *u)
{
	switch (it->spans[it->span].dtype) {
	case WFS_DT_F16:
	case WFS_DT_BF16:
	case WFS_DT_F32:
	case WFS_DT_F64:
	case WFS_DT_C64:
		return u->width > 1;
	default:
		return 0;
	}
}

/* ---- apart and together, for each width ---- */

static void split2(uint8_t *restrict p0, uint8_t *restrict p1, const uint8_t *restrict src, uint32_t n, unsigned rot)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t x = wfs_get16(src + 2 * (size_t)i);

		x = x << rot | x >> (16 - rot);
		p0[i] = (uint8_t)x;
		p1[i] = (uint8_t)(x >> 8);
	}
}

static void join2(uint8_t *restrict dst, const uint8_t *restrict p0, const uint8_t *restrict p1, uint32_t n, unsigned rot)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t x = (uint32_t)p0[i] | (uint32_t)p1[i] << 8;

		wfs_put16(dst + 2 * (size_t)i, (uint16_t)(x >> rot | x << (16 - rot)));
	}
}

static void split4(uint8_t *const p[], const uint8_t *restrict src, uint32_t n, unsigned rot)
{
	uint8_t *restrict p0 = p[0], *restrict p1 = p[1], *restrict p2 = p[2], *restrict p3 = p[3];

	for (uint32_t i = 0; i < n; i++) {
		uint32_t x = wfs_get32(src + 4 * (size_t)i);

		x = rot ? x << 1 | x >> 31 : x;
		p0[i] = (uint8_t)x;
		p1[i] = (uint8_t)(x >> 8);
		p2[i] = (uint8_t)(x >> 16);
		p3[i] = (uint8_t)(x >> 24);
	}
}

static void join4(uint8_t *restrict dst, const uint8_t *const p[], uint32_t n, unsigned rot)
{
	const uint8_t *restrict p0 = p[0], *restrict p1 = p[1], *restrict p2 = p[2], *restrict p3 = p[3];

	for (uint32_t i = 0; i < n; i++) {
		uint32_t x = (uint32_t)p0[i] | (uint32_t)p1[i] << 8 | (uint32_t)p2[i] << 16 | (uint32_t)p3[i] << 24;

		wfs_put32(dst + 4 * (size_t)i, rot ? x >> 1 | x << 31 : x);
	}
}

static void split8(uint8_t *const p[], const uint8_t *src, uint32_t n, unsigned rot)
{
	for (uint32_t i = 0; i < n; i++) {
		uint64_t x = wfs_get64(src + 8 * (size_t)i);

		x = rot ? x << 1 | x >> 63 : x;
		for (unsigned j = 0; j < 8; j++)
			p[j][i] = (uint8_t)(x >> 8 * j);
	}
}

static void join8(uint8_t *dst, const uint8_t *const p[], uint32_t n, unsigned rot)
{
	for (uint32_t i = 0; i < n; i++) {
		uint64_t x = 0;

		for (unsigned j = 0; j < 8; j++)
			x |= (uint64_t)p[j][i] << 8 * j;
		wfs_put64(dst + 8 * (size_t)i, rot ? x >> 1 | x << 63 : x);
	}
}

/* at[i]: where the next byte of plane i goes. */
static void split(uint8_t *at[PLANES_MAX], const struct planes *p, const uint8_t *block, const struct wfs_span *spans,
		  size_t n_spans)
{
	struct wfs_units_iter it = { .spans = spans, .n_spans = n_spans };
	struct wfs_units u;

	while (wfs_units_next(&it, &u)) {
		uint8_t **a = at + p->first[__builtin_ctz(u.width)];
		unsigned rot = rotation(&it, &u);

		switch (u.width) {
		case 1:	memcpy(a[0], block + u.off, u.n); break;
		case 2:	split2(a[0], a[1], block + u.off, u.n, rot); break;
		case 4:	split4(a, block + u.off, u.n, rot); break;
		default: split8(a, block + u.off, u.n, rot); break;
		}
		for (unsigned j = 0; j < u.width; j++)
			a[j] += u.n;
	}
}

static void join(uint8_t *block, const struct planes *p, const uint8_t *at[PLANES_MAX], const struct wfs_span *spans,
		 size_t n_spans)
{
	struct wfs_units_iter it = { .spans = spans, .n_spans = n_spans };
	struct wfs_units u;

	while (wfs_units_next(&it, &u)) {
		const uint8_t **a = at + p->first[__builtin_ctz(u.width)];
		unsigned rot = rotation(&it, &u);

		switch (u.width) {
		case 1:	memcpy(block + u.off, a[0], u.n); break;
		case 2:	join2(block + u.off, a[0], a[1], u.n, rot); break;
		case 4:	join4(block + u.off, a, u.n, rot); break;
		default: join8(block + u.off, a, u.n, rot); break;
		}
		for (unsigned j = 0; j < u.width; j++)
			a[j] += u.n;
	}
}

/* ---- encoding ---- */

static int compress(struct wfs_buf *out, const uint8_t *data, size_t len, bool repeats, struct wfs_err *err)
{
	return repeats ? wfs_zstd_compress(out, data, len, REPEATS_LEVEL, err)
		       : wfs_zstd_compress_bytes(out, data, len, err);
}

/* Frequencies are all that an exponent has, but a header or a counter repeats itself: try both on a part. */
static int find_repeats(bool *repeats, struct wfs_buf *out, const uint8_t *data, size_t len, struct wfs_err *err)
{
	size_t start = out->len, n = WFS_MIN(len, (size_t)SAMPLE), bytes;
	const uint8_t *sample = data + (len - n) / 2;
	int r = compress(out, sample, n, false, err);

	bytes = out->len - start;
	out->len = start;
	if (r == 0)
		r = compress(out, sample, n, true, err);
	*repeats = out->len - start < bytes;
	out->len = start;
	return r;
}

/* Append a plane in its stored form, which is written at `form` (an offset in out). */
static int put_plane(struct wfs_buf *out, size_t form, const uint8_t *data, uint32_t len, struct wfs_err *err)
{
	size_t start = out->len;
	bool repeats;
	int r;

	if (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0)
		return 0;		/* the form is 0 already */
	r = find_repeats(&repeats, out, data, len, err);
	if (r == 0)
		r = compress(out, data, len, repeats, err);
	if (r < 0)
		return r;
	if (out->len - start < len - len / WORTH) {
		wfs_put32(out->data + form, (uint32_t)(out->len - start));
		return 0;
	}
	out->len = start;
	wfs_put32(out->data + form, len | AS_IT_IS);
	return wfs_buf_append(out, data, len);
}

/* Stops at `limit` bytes, which are too many. */
static int put_planes(struct wfs_buf *out, const struct planes *p, const uint8_t *data, size_t limit, struct wfs_err *err)
{
	static const uint8_t forms[4 * PLANES_MAX];
	size_t start = out->len;
	int r = wfs_buf_append(out, forms, (size_t)4 * p->n);

	for (unsigned i = 0; i < p->n && r == 0 && out->len - start < limit; i++) {
		r = put_plane(out, start + 4 * i, data, p->len[i], err);
		data += p->len[i];
	}
	return r;
}

int wfs_planes_encode(struct wfs_buf *out, bool *fits, const uint8_t *block, size_t len, const struct wfs_span *spans,
		      size_t n_spans, size_t limit, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) uint8_t *data = malloc(len);
	size_t start = out->len, sum = 0;
	uint8_t *at[PLANES_MAX];
	struct planes p;
	int r;

	if (!data)
		return wfs_fail(err, -ENOMEM, "planes: no memory for %zu bytes", len);
	count_planes(&p, spans, n_spans);
	for (unsigned i = 0; i < p.n; i++) {
		at[i] = data + sum;
		sum += p.len[i];
	}
	split(at, &p, block, spans, n_spans);
	r = put_planes(out, &p, data, limit, err);
	*fits = r == 0 && out->len - start < limit;
	if (!*fits)
		out->len = start;
	return r == -ENOMEM ? wfs_fail(err, r, "planes: out of memory") : r;
}

/* ---- decoding ---- */

/* Where each stored plane begins; s->stored_len of all add up to what there is. */
struct stored {
	const uint8_t *data;
	uint32_t len;
	bool as_it_is;
};

static int read_forms(struct stored s[PLANES_MAX], const struct planes *p, const uint8_t *stored, size_t stored_len,
		      struct wfs_err *err)
{
	size_t at = 4 * p->n;

	if (stored_len < at)
		return wfs_fail(err, -EBADMSG, "planes: %zu bytes, shorter than the header", stored_len);
	for (unsigned i = 0; i < p->n; i++) {
		uint32_t form = wfs_get32(stored + 4 * i);

		s[i] = (struct stored){ stored + at, form & ~AS_IT_IS, form & AS_IT_IS };
		if (s[i].len > stored_len - at)
			return wfs_fail(err, -EBADMSG, "planes: plane %u of %u bytes, %zu are left", i, s[i].len,
					stored_len - at);
		if (s[i].as_it_is && s[i].len != p->len[i])
			return wfs_fail(err, -EBADMSG, "planes: plane %u of %u bytes where %u belong", i, s[i].len,
					p->len[i]);
		at += s[i].len;
	}
	if (at != stored_len)
		return wfs_fail(err, -EBADMSG, "planes: %zu bytes left over", stored_len - at);
	return 0;
}

int wfs_planes_decode(uint8_t *block, size_t len, const uint8_t *stored, size_t stored_len,
		      const struct wfs_span *spans, size_t n_spans, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) uint8_t *data = NULL;
	struct stored s[PLANES_MAX];
	const uint8_t *at[PLANES_MAX];
	struct planes p;
	size_t used = 0;
	int r;

	count_planes(&p, spans, n_spans);
	r = read_forms(s, &p, stored, stored_len, err);
	if (r < 0)
		return r;
	data = malloc(len);		/* all planes together, at most */
	if (!data)
		return wfs_fail(err, -ENOMEM, "planes: no memory for %zu bytes", len);
	for (unsigned i = 0; i < p.n; i++) {
		at[i] = s[i].as_it_is ? s[i].data : data + used;
		if (s[i].as_it_is)
			continue;
		if (s[i].len == 0)
			memset(data + used, 0, p.len[i]);
		else
			r = wfs_zstd_decompress(data + used, p.len[i], s[i].data, s[i].len, err);
		if (r < 0)
			return wfs_wrap(err, r, "planes: plane %u", i);
		used += p.len[i];
	}
	join(block, &p, at, spans, n_spans);
	return 0;
}
