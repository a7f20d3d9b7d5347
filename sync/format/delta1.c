/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delta1.c - codec delta1: which units changed, and by how much
 *
 * Positions and changes go into separate streams, because they look nothing alike: gaps are
 * nearly random and only their bytes' frequencies can be squeezed, changes of a trained weight are
 * mostly +1 and -1 code points, so that every plane but the first is zero.
 *
 * Values are taken as integers whatever the type says, so NaN payloads and -0.0 survive.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "format/format.h"
#include "weightfs/codec.h"

#define HEADER_LEN	12		/* and 4 bytes a plane */
#define AS_IT_IS	0x80000000u	/* in a stored form: not compressed */
#define WIDTH_MAX	8

/* Measured on consecutive bf16 checkpoints, 1.2 % changed.  Gaps are as small at level 1 as at any
 * other.  Short planes lose a fifth more at 12, where encoding still runs at over 1 GB/s of blocks a core;
 * long ones, of which everything changed, would take too long. */
#define GAP_LEVEL	1
#define PLANE_LEVEL	12
#define PLANE_LEVEL_LONG 1
#define LONG_PLANE	(64u << 10)

/* Changed units so far.  The planes lie in one allocation behind the gaps. */
struct changes {
	uint8_t *gaps, *gap;		/* begin, and where the next byte goes */
	uint8_t *planes[WIDTH_MAX], *plane[WIDTH_MAX];
	uint32_t n, next;		/* next: number of the unit behind the last changed one */
};

/* Units in the block, by width: units[j] are wider than j bytes. */
static void count_units(uint32_t units[WIDTH_MAX], const struct wfs_span *spans, size_t n_spans)
{
	struct wfs_units_iter it = { .spans = spans, .n_spans = n_spans };
	struct wfs_units u;

	memset(units, 0, WIDTH_MAX * sizeof(*units));
	while (wfs_units_next(&it, &u))
		for (unsigned j = 0; j < u.width; j++)
			units[j] += u.n;
}

static unsigned count_planes(const uint32_t units[WIDTH_MAX])
{
	unsigned p = WIDTH_MAX;

	while (units[p - 1] == 0)
		p--;
	return p;
}

/* ---- encoding ---- */

static inline uint64_t load(const uint8_t *p, unsigned width)
{
	switch (width) {
	case 1:	return *p;
	case 2:	return wfs_get16(p);
	case 4:	return wfs_get32(p);
	default: return wfs_get64(p);
	}
}

/* The difference as a signed number of that width, folded so that small ones of both signs are small. */
static inline uint64_t zigzag(uint64_t old, uint64_t new, unsigned width)
{
	unsigned unused = 64 - 8 * width;
	int64_t d = (int64_t)((new - old) << unused);

	return (((uint64_t)d << 1) ^ (uint64_t)(d >> 63)) >> unused;
}

static inline void add_change(struct changes *c, uint32_t unit, uint64_t z, unsigned width)
{
	uint32_t gap = unit - c->next;

	for (; gap >= 255; gap -= 255)
		*c->gap++ = 255;
	*c->gap++ = (uint8_t)gap;
	for (unsigned j = 0; j < width; j++)
		*c->plane[j]++ = (uint8_t)(z >> 8 * j);
	c->next = unit + 1;
	c->n++;
}

/* Inlined for every width, so that the loops below are over constants. */
static inline __attribute__((always_inline))
void compare(struct changes *c, uint32_t unit, const uint8_t *base, const uint8_t *next, uint32_t n, unsigned width)
{
	const uint32_t lanes = 8 / width;
	uint32_t i = 0;

	for (; i + lanes <= n; i += lanes) {
		const uint8_t *a = base + (size_t)i * width, *b = next + (size_t)i * width;
		uint64_t x, y;

		memcpy(&x, a, 8);
		memcpy(&y, b, 8);
		if (x == y)
			continue;
		for (uint32_t k = 0; k < lanes; k++) {
			uint64_t old = load(a + k * width, width), new = load(b + k * width, width);

			if (old != new)
				add_change(c, unit + i + k, zigzag(old, new, width), width);
		}
	}
	for (; i < n; i++) {
		uint64_t old = load(base + (size_t)i * width, width), new = load(next + (size_t)i * width, width);

		if (old != new)
			add_change(c, unit + i, zigzag(old, new, width), width);
	}
}

static void find_changes(struct changes *c, const uint8_t *base, const uint8_t *next,
			 const struct wfs_span *spans, size_t n_spans)
{
	struct wfs_units_iter it = { .spans = spans, .n_spans = n_spans };
	struct wfs_units u;
	uint32_t first = 0;

	while (wfs_units_next(&it, &u)) {
		const uint8_t *a = base + u.off, *b = next + u.off;

		switch (u.width) {
		case 1:	compare(c, first, a, b, u.n, 1); break;
		case 2:	compare(c, first, a, b, u.n, 2); break;
		case 4:	compare(c, first, a, b, u.n, 4); break;
		default: compare(c, first, a, b, u.n, 8); break;
		}
		first += u.n;
	}
}

/* Room for the worst case; pages that are never written cost nothing. */
static int changes_init(struct changes *c, const uint32_t units[WIDTH_MAX], unsigned n_planes, struct wfs_err *err)
{
	size_t size = (size_t)units[0] + units[0] / 255 + 1, at = size;

	for (unsigned j = 0; j < n_planes; j++)
		size += units[j];
	c->gap = c->gaps = malloc(size);
	if (!c->gaps)
		return wfs_fail(err, -ENOMEM, "delta1: no memory for %zu bytes", size);
	for (unsigned j = 0; j < n_planes; j++) {
		c->plane[j] = c->planes[j] = c->gaps + at;
		at += units[j];
	}
	return 0;
}

static bool is_zero(const uint8_t *p, size_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* Append one stream in its shortest form, which is written at `form` (an offset in out). */
static int put_stream(struct wfs_buf *out, size_t form, const uint8_t *data, size_t len, int level,
		      struct wfs_err *err)
{
	size_t start = out->len;
	int r;

	r = wfs_zstd_compress(out, data, len, level, err);
	if (r < 0)
		return r;
	if (out->len - start < len) {
		wfs_put32(out->data + form, (uint32_t)(out->len - start));
		return 0;
	}
	out->len = start;
	wfs_put32(out->data + form, (uint32_t)len | AS_IT_IS);
	return wfs_buf_append(out, data, len);
}

static int put_plane(struct wfs_buf *out, size_t form, const uint8_t *data, size_t len, struct wfs_err *err)
{
	if (is_zero(data, len)) {
		wfs_put32(out->data + form, 0);
		return 0;
	}
	return put_stream(out, form, data, len, len < LONG_PLANE ? PLANE_LEVEL : PLANE_LEVEL_LONG, err);
}

static int put_changes(struct wfs_buf *out, const struct changes *c, unsigned n_planes, struct wfs_err *err)
{
	uint8_t header[HEADER_LEN + 4 * WIDTH_MAX] = { 0 };
	size_t start = out->len, gap_len = (size_t)(c->gap - c->gaps);
	int r;

	wfs_put32(header, c->n);
	wfs_put32(header + 4, (uint32_t)gap_len);
	r = wfs_buf_append(out, header, HEADER_LEN + 4 * n_planes);
	if (r == 0)
		r = put_stream(out, start + 8, c->gaps, gap_len, GAP_LEVEL, err);
	for (unsigned j = 0; j < n_planes && r == 0; j++)
		r = put_plane(out, start + HEADER_LEN + 4 * j, c->planes[j],
			      (size_t)(c->plane[j] - c->planes[j]), err);
	return r;
}

int wfs_delta1_encode(struct wfs_buf *out, bool *fits, const uint8_t *base, const uint8_t *next, size_t len,
		      const struct wfs_span *spans, size_t n_spans, size_t limit, struct wfs_err *err)
{
	struct changes c = { 0 };
	uint32_t units[WIDTH_MAX];
	size_t start = out->len;
	unsigned n_planes;
	int r;

	assert(len > 0 && memcmp(base, next, len) != 0);
	(void)len;
	count_units(units, spans, n_spans);
	n_planes = count_planes(units);
	r = changes_init(&c, units, n_planes, err);
	if (r < 0)
		return r;
	find_changes(&c, base, next, spans, n_spans);
	r = put_changes(out, &c, n_planes, err);
	free(c.gaps);
	if (r < 0) {
		out->len = start;
		return r == -ENOMEM ? wfs_fail(err, r, "delta1: out of memory") : r;
	}
	*fits = out->len - start < limit;
	if (!*fits)
		out->len = start;
	return 0;
}

/* ---- decoding ---- */

/* A stored stream, and where its bytes go. */
struct stream {
	const uint8_t *stored;
	uint32_t stored_len;
	bool as_it_is;
	uint8_t *data;
	uint32_t len;
};

struct delta {
	uint32_t n;
	uint32_t units[WIDTH_MAX];
	unsigned n_planes;
	struct stream gaps, plane[WIDTH_MAX];
	uint32_t *changed;		/* byte offset in the block and log2 of the width above WIDTH_BIT */
	uint8_t *planes;		/* memory of all planes */
};

#define WIDTH_BIT	24
_Static_assert(WFS_BLOCK_SIZE <= 1u << WIDTH_BIT, "a block offset lies below the width");

static int take_form(struct stream *s, const uint8_t *form, size_t *left, const char *what, struct wfs_err *err)
{
	uint32_t v = wfs_get32(form);

	s->as_it_is = v & AS_IT_IS;
	s->stored_len = v & ~AS_IT_IS;
	if (s->stored_len > *left)
		return wfs_fail(err, -EBADMSG, "delta1: %s of %u bytes, %zu are left", what, s->stored_len, *left);
	*left -= s->stored_len;
	return 0;
}

static int read_header(struct delta *d, const uint8_t *stored, size_t stored_len, struct wfs_err *err)
{
	size_t header_len = HEADER_LEN + 4 * d->n_planes, left;
	const uint8_t *at;
	int r;

	if (stored_len < header_len)
		return wfs_fail(err, -EBADMSG, "delta1: %zu bytes, shorter than its header", stored_len);
	left = stored_len - header_len;
	d->n = wfs_get32(stored);
	d->gaps.len = wfs_get32(stored + 4);
	if (d->n == 0 || d->n > d->units[0])
		return wfs_fail(err, -EBADMSG, "delta1: %u changes in %u units", d->n, d->units[0]);
	if (d->gaps.len < d->n || d->gaps.len > d->n + d->units[0] / 255)
		return wfs_fail(err, -EBADMSG, "delta1: gap stream of %u bytes for %u changes", d->gaps.len, d->n);
	r = take_form(&d->gaps, stored + 8, &left, "gap stream", err);
	for (unsigned j = 0; j < d->n_planes && r == 0; j++)
		r = take_form(&d->plane[j], stored + HEADER_LEN + 4 * j, &left, "plane", err);
	if (r < 0)
		return r;
	if (left != 0)
		return wfs_fail(err, -EBADMSG, "delta1: %zu bytes left over", left);
	at = stored + header_len;
	d->gaps.stored = at;
	at += d->gaps.stored_len;
	for (unsigned j = 0; j < d->n_planes; j++) {
		d->plane[j].stored = at;
		at += d->plane[j].stored_len;
	}
	return 0;
}

static int read_stream(const struct stream *s, const char *what, struct wfs_err *err)
{
	int r;

	if (s->as_it_is) {
		if (s->stored_len != s->len)
			return wfs_fail(err, -EBADMSG, "delta1: %s of %u bytes where %u belong", what,
					s->stored_len, s->len);
		memcpy(s->data, s->stored, s->len);
		return 0;
	}
	r = wfs_zstd_decompress(s->data, s->len, s->stored, s->stored_len, err);
	return r < 0 ? wfs_wrap(err, r, "delta1: %s", what) : 0;
}

/* Find the changed units, and how long that makes the planes. */
static int walk_gaps(struct delta *d, const struct wfs_span *spans, size_t n_spans, struct wfs_err *err)
{
	const uint8_t *g = d->gaps.data, *end = g + d->gaps.len;
	struct wfs_units_iter it = { .spans = spans, .n_spans = n_spans };
	struct wfs_units u = { 0 };
	uint64_t unit = 0, first = 0;
	uint32_t n = 0;

	while (g < end) {
		while (g < end && *g == 255) {
			unit += 255;
			g++;
		}
		if (g == end)
			return wfs_fail(err, -EBADMSG, "delta1: the gap stream ends inside a number");
		unit += *g++;
		if (unit >= d->units[0])
			return wfs_fail(err, -EBADMSG, "delta1: unit %llu of %u", (unsigned long long)unit, d->units[0]);
		if (n == d->n)
			return wfs_fail(err, -EBADMSG, "delta1: more than %u gaps", d->n);
		while (unit - first >= u.n) {
			first += u.n;
			if (!wfs_units_next(&it, &u))
				return wfs_fail(err, -EBADMSG, "delta1: a unit beyond the last");
		}
		d->changed[n++] = (u.off + (uint32_t)(unit - first) * u.width) |
				  (uint32_t)__builtin_ctz(u.width) << WIDTH_BIT;
		for (unsigned j = 0; j < u.width; j++)
			d->plane[j].len++;
		unit++;
	}
	if (n != d->n)
		return wfs_fail(err, -EBADMSG, "delta1: %u gaps where %u belong", n, d->n);
	return 0;
}

static int read_planes(struct delta *d, struct wfs_err *err)
{
	size_t size = 0;
	uint8_t *at;
	int r = 0;

	for (unsigned j = 0; j < d->n_planes; j++)
		size += d->plane[j].len;
	at = d->planes = malloc(size);
	if (!at)
		return wfs_fail(err, -ENOMEM, "delta1: no memory for %zu bytes", size);
	for (unsigned j = 0; j < d->n_planes && r == 0; j++) {
		struct stream *s = &d->plane[j];

		s->data = at;
		at += s->len;
		if (s->stored_len == 0 && !s->as_it_is)
			memset(s->data, 0, s->len);
		else
			r = read_stream(s, "plane", err);
	}
	return r;
}

/* The inverse of zigzag, added. */
static inline uint64_t unfold(uint64_t z)
{
	return (z >> 1) ^ (0 - (z & 1));
}

static int apply(uint8_t *block, struct delta *d, struct wfs_err *err)
{
	const uint8_t *plane[WIDTH_MAX];
	bool unchanged = false;

	for (unsigned j = 0; j < d->n_planes; j++)
		plane[j] = d->plane[j].data;
	for (uint32_t i = 0; i < d->n; i++) {
		uint8_t *p = block + (d->changed[i] & ((1u << WIDTH_BIT) - 1));
		unsigned width = 1u << (d->changed[i] >> WIDTH_BIT);
		uint64_t z = *plane[0]++;

		for (unsigned j = 1; j < width; j++)
			z |= (uint64_t)*plane[j]++ << 8 * j;
		unchanged |= z == 0;
		z = unfold(z);
		switch (width) {
		case 1:	*p = (uint8_t)(*p + z); break;
		case 2:	wfs_put16(p, (uint16_t)(wfs_get16(p) + z)); break;
		case 4:	wfs_put32(p, (uint32_t)(wfs_get32(p) + z)); break;
		default: wfs_put64(p, wfs_get64(p) + z); break;
		}
	}
	if (unchanged)
		return wfs_fail(err, -EBADMSG, "delta1: a change of 0");
	return 0;
}

int wfs_delta1_decode(uint8_t *block, const uint8_t *stored, size_t stored_len,
		      const struct wfs_span *spans, size_t n_spans, struct wfs_err *err)
{
	struct delta d = { 0 };
	int r;

	count_units(d.units, spans, n_spans);
	d.n_planes = count_planes(d.units);
	r = read_header(&d, stored, stored_len, err);
	if (r < 0)
		return r;
	/* Both bounded by the block: n by its units, the gap stream by n and the units. */
	d.gaps.data = malloc(d.gaps.len);
	d.changed = malloc((size_t)d.n * sizeof(*d.changed));
	if (!d.gaps.data || !d.changed)
		r = wfs_fail(err, -ENOMEM, "delta1: no memory for %u changes", d.n);
	if (r == 0)
		r = read_stream(&d.gaps, "gap stream", err);
	if (r == 0)
		r = walk_gaps(&d, spans, n_spans, err);
	if (r == 0)
		r = read_planes(&d, err);
	if (r == 0)
		r = apply(block, &d, err);
	free(d.gaps.data);
	free(d.changed);
	free(d.planes);
	return r;
}
