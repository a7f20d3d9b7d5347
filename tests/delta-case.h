/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delta-case.h - random blocks for codec delta2, and files that keep one
 *
 * A file is: length of the block, number of spans, length of the stored bytes (4 bytes each);
 * for each span offset, length (4 bytes each), type, phase and 2 bytes of 0; base; result; stored.
 */
#ifndef DELTA_CASE_H
#define DELTA_CASE_H

#include "test.h"

#include "weightfs/block.h"
#include "weightfs/safetensors.h"

#define CASE_SPANS 8

struct delta_case {
	struct wfs_span spans[CASE_SPANS];
	size_t n_spans;
	uint32_t len;
	uint8_t *base, *next;
};

static inline uint32_t case_below(uint64_t *state, uint32_t n)
{
	return (uint32_t)(test_random(state) >> 32) % n;
}

static inline void case_free(struct delta_case *c)
{
	free(c->base);
	free(c->next);
}

static inline void case_spans(struct delta_case *c, uint64_t *state)
{
	uint32_t at = 0, n = 1 + case_below(state, CASE_SPANS);

	for (c->n_spans = 0; at < c->len; c->n_spans++) {
		unsigned dtype = case_below(state, WFS_DT_COUNT);
		uint32_t left = c->len - at;
		uint32_t take = c->n_spans + 1 == n ? left : 1 + case_below(state, left);

		c->spans[c->n_spans] = (struct wfs_span){ at, take, (uint8_t)dtype,
							  (uint8_t)case_below(state, wfs_dtype_width(dtype)) };
		at += take;
	}
}

/* Something like weights: bf16 values of which most have a few exponents; in other types noise. */
static inline void case_base(struct delta_case *c, uint64_t *state)
{
	for (uint32_t i = 0; i < c->len; i++) {
		uint64_t r = test_random(state);
		unsigned exponent = 122 - (unsigned)__builtin_ctzll(r | 1ull << 40);

		c->base[i] = (uint8_t)(i % 2 ? (r >> 50 & 0x80) | exponent >> 1 : (exponent & 1) << 7 | (r >> 50 & 0x7f));
	}
}

/* Of 1000 bytes `rate` change, most of them by a little. */
static inline void case_next(struct delta_case *c, uint64_t *state, uint32_t rate)
{
	bool far = case_below(state, 3) == 0;

	for (uint32_t i = 0; i < c->len; i++) {
		uint32_t r = case_below(state, 1000);
		int step = (int)case_below(state, far ? 256 : 3) - (far ? 0 : 1);

		c->next[i] = (uint8_t)(c->base[i] + (r < rate ? step : 0));
	}
}

static inline void case_random(struct delta_case *c, uint64_t *state, uint32_t len)
{
	static const uint32_t rates[] = { 0, 1, 4, 12, 30, 60, 200, 650, 1000 };

	*c = (struct delta_case){ .len = len, .base = malloc(len), .next = malloc(len) };
	if (!c->base || !c->next)
		abort();
	case_spans(c, state);
	case_base(c, state);
	case_next(c, state, rates[case_below(state, ARRAY_SIZE(rates))]);
}

/* 4-bit values, of which in 1000 `rate` go up or down by one. */
static inline void case_nibbles(struct delta_case *c, uint64_t *state, uint32_t rate)
{
	memset(c->next, 0, c->len);
	for (uint64_t i = 0; i < 2 * (uint64_t)c->len; i++) {
		unsigned old = c->base[i / 2] >> i % 2 * 4;
		unsigned step = case_below(state, 1000) >= rate ? 0 : case_below(state, 2) ? 1 : 15;

		c->next[i / 2] |= (uint8_t)(((old + step) & 0xf) << i % 2 * 4);
	}
}

/* Such values in integers, as quantizers pack them, and in types where nobody does. */
static inline void case_packed(struct delta_case *c, uint64_t *state, uint32_t len)
{
	static const uint8_t types[] = { WFS_DT_U8, WFS_DT_I8, WFS_DT_I16, WFS_DT_I32, WFS_DT_U32, WFS_DT_I64, WFS_DT_F32 };
	static const uint32_t rates[] = { 0, 2, 10, 30, 100, 400, 1000 };

	*c = (struct delta_case){ .len = len, .base = malloc(len), .next = malloc(len) };
	if (!c->base || !c->next)
		abort();
	case_spans(c, state);
	for (size_t i = 0; i < c->n_spans; i++) {
		c->spans[i].dtype = types[case_below(state, ARRAY_SIZE(types))];
		c->spans[i].phase %= (uint8_t)wfs_dtype_width(c->spans[i].dtype);
	}
	for (uint32_t i = 0; i < len; i++)
		c->base[i] = (uint8_t)(test_random(state) >> 40);
	case_nibbles(c, state, rates[case_below(state, ARRAY_SIZE(rates))]);
}

/* The file's bytes. */
static inline void case_write(struct wfs_buf *out, const struct delta_case *c, const struct wfs_buf *stored)
{
	uint8_t head[12 + 12 * CASE_SPANS] = { 0 };

	wfs_put32(head, c->len);
	wfs_put32(head + 4, (uint32_t)c->n_spans);
	wfs_put32(head + 8, (uint32_t)stored->len);
	for (size_t i = 0; i < c->n_spans; i++) {
		uint8_t *p = head + 12 + 12 * i;

		wfs_put32(p, c->spans[i].off);
		wfs_put32(p + 4, c->spans[i].len);
		p[8] = c->spans[i].dtype;
		p[9] = c->spans[i].phase;
	}
	if (wfs_buf_append(out, head, 12 + 12 * c->n_spans) < 0 || wfs_buf_append(out, c->base, c->len) < 0 ||
	    wfs_buf_append(out, c->next, c->len) < 0 || wfs_buf_append(out, stored->data, stored->len) < 0)
		abort();
}

#endif
