/* SPDX-License-Identifier: Apache-2.0 */
/*
 * span.c - what the bytes of a block are: from pieces to spans to units
 *
 * An element that a block boundary or a piece boundary cuts has no neighbour to be compared with
 * inside the block, so its bytes are units of their own.
 */
#include "format/format.h"

#include <errno.h>

/* Bytes of the span before its first whole element, and how long the whole elements are. */
static void span_shape(const struct wfs_span *s, uint32_t width, uint32_t *head, uint32_t *body)
{
	*head = s->phase ? WFS_MIN(width - s->phase, s->len) : 0;
	*body = (s->len - *head) / width * width;
}

bool wfs_units_next(struct wfs_units_iter *it, struct wfs_units *out)
{
	const struct wfs_span *s;
	uint32_t width, head, body, take;

	while (it->span < it->n_spans && it->done == it->spans[it->span].len) {
		it->span++;
		it->done = 0;
	}
	if (it->span == it->n_spans)
		return false;
	s = &it->spans[it->span];
	width = wfs_dtype_width(s->dtype);
	span_shape(s, width, &head, &body);
	if (it->done < head) {
		width = 1;
		take = head;
	} else if (it->done < head + body) {
		take = body;
	} else {
		width = 1;
		take = s->len - head - body;
	}
	*out = (struct wfs_units){ .off = s->off + it->done, .n = take / width, .width = width };
	it->done += take;
	return true;
}

int wfs_spans_check(const struct wfs_span *spans, size_t n, size_t len, struct wfs_err *err)
{
	size_t at = 0;

	for (size_t i = 0; i < n; i++) {
		const struct wfs_span *s = &spans[i];

		if (s->off != at || s->len == 0 || s->len > len - at)
			return wfs_fail(err, -EINVAL, "span %zu is not where the one before it ends", i);
		if (s->dtype >= WFS_DT_COUNT || s->phase >= wfs_dtype_width(s->dtype))
			return wfs_fail(err, -EINVAL, "span %zu: type %u phase %u", i, s->dtype, s->phase);
		at += s->len;
	}
	if (at != len)
		return wfs_fail(err, -EINVAL, "spans cover %zu of %zu bytes", at, len);
	return 0;
}

size_t wfs_piece_at(const struct wfs_piece *pieces, size_t n, uint64_t off)
{
	size_t lo = 0, hi = n;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (pieces[mid].off <= off)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

int wfs_pieces_spans(struct wfs_span **out, size_t *n, const struct wfs_piece *pieces, size_t n_pieces,
		     uint64_t off, uint32_t len, struct wfs_err *err)
{
	size_t first, last;
	struct wfs_span *spans;

	if (n_pieces == 0 || len == 0 || pieces[0].off > off)
		return wfs_fail(err, -EINVAL, "no piece covers offset %llu", (unsigned long long)off);
	first = wfs_piece_at(pieces, n_pieces, off);
	last = wfs_piece_at(pieces, n_pieces, off + len - 1);
	spans = calloc(last - first + 1, sizeof(*spans));
	if (!spans)
		return wfs_fail(err, -ENOMEM, "no memory for %zu spans", last - first + 1);
	for (size_t i = first; i <= last; i++) {
		const struct wfs_piece *p = &pieces[i];
		uint64_t begin = WFS_MAX(p->off, off);
		uint64_t end = i < last ? pieces[i + 1].off : off + len;

		spans[i - first] = (struct wfs_span){
			.off = (uint32_t)(begin - off),
			.len = (uint32_t)(end - begin),
			.dtype = p->dtype,
			.phase = (uint8_t)((p->phase + (begin - p->off)) % wfs_dtype_width(p->dtype)),
		};
	}
	*out = spans;
	*n = last - first + 1;
	return 0;
}
