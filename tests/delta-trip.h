/* SPDX-License-Identifier: Apache-2.0 */
/* delta-trip.h - encode a block, decode it, compare; with the portable loops too */
#ifndef DELTA_TRIP_H
#define DELTA_TRIP_H

#include "delta-case.h"
#include "format/delta2.h"

#define GUARD 64
#define GUARD_BYTE 0xa5

/* A block between guard bytes. */
static inline uint8_t *guarded_new(size_t len)
{
	uint8_t *p = malloc(len + 2 * GUARD);

	if (!p)
		abort();
	memset(p, GUARD_BYTE, len + 2 * GUARD);
	return p + GUARD;
}

static inline bool guards_hold(const uint8_t *block, size_t len)
{
	for (size_t i = 0; i < GUARD; i++)
		if (block[-1 - (ptrdiff_t)i] != GUARD_BYTE || block[len + i] != GUARD_BYTE)
			return false;
	return true;
}

/* The codec that is smallest, and delta2 even where it is not. */
static inline void round_trip(const struct delta_case *c)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT, delta = WFS_BUF_INIT, portable = WFS_BUF_INIT;
	uint8_t *block = guarded_new(c->len);
	struct wfs_err err = { "" };
	unsigned codec = 99;
	bool fits;

	CHECK_INT(wfs_block_encode(&out, &codec, c->base, c->next, c->len, c->spans, c->n_spans, &err), 0, err.msg);
	memcpy(block, c->base, c->len);
	CHECK_INT(wfs_block_decode(block, c->len, codec, out.data, out.len, c->spans, c->n_spans, &err), 0, err.msg);
	CHECK(memcmp(block, c->next, c->len) == 0 && out.len <= c->len);
	CHECK_INT(wfs_delta2_encode(&delta, &fits, c->base, c->next, c->len, c->spans, c->n_spans, SIZE_MAX, &err), 0, err.msg);
	memcpy(block, c->base, c->len);
	CHECK_INT(wfs_delta2_decode(block, delta.data, delta.len, c->spans, c->n_spans, &err), 0, err.msg);
	CHECK(memcmp(block, c->next, c->len) == 0 && guards_hold(block, c->len));
	/* The portable loops read and write the same. */
	wfs_d2_portable = true;
	memcpy(block, c->base, c->len);
	CHECK_INT(wfs_delta2_decode(block, delta.data, delta.len, c->spans, c->n_spans, &err), 0, err.msg);
	CHECK(memcmp(block, c->next, c->len) == 0 && guards_hold(block, c->len));
	CHECK_INT(wfs_delta2_encode(&portable, &fits, c->base, c->next, c->len, c->spans, c->n_spans, SIZE_MAX, &err), 0, err.msg);
	CHECK(portable.len == delta.len && memcmp(portable.data, delta.data, delta.len) == 0);
	wfs_d2_portable = false;
	/* Never much longer than the block: a form and a length for each kind. */
	CHECK(delta.len <= c->len + 5 * 11);
	free(block - GUARD);
}

#endif
