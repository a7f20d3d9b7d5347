/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delta2_model.c - codec delta2: kinds of units, and which class a unit is of
 *
 * Spacing of floats doubles with the exponent, so the same nudge flips a weight half as often and
 * half as far.  Nothing else that is at hand says as much about what changes.
 */
#include <string.h>

#include "format/delta2.h"

_Thread_local bool wfs_d2_portable;

/* By kind in weightfs-format(5); the order is that of sections in a block. */
const struct wfs_d2_kind wfs_d2_kinds[WFS_D2_KINDS] = {
	{ 1, 8, 4, 0xf },		/* bytes */
	{ 1, 4, 0, 0xf },		/* 4-bit elements */
	{ 1, 8, 3, 0xf },		/* E4M3 */
	{ 1, 8, 2, 0x1f },		/* E5M2 */
	{ 2, 16, 0, 0 },		/* integers */
	{ 2, 16, 10, 0x1f },		/* F16 */
	{ 2, 16, 7, 0xff },		/* BF16 */
	{ 4, 32, 0, 0 },
	{ 4, 32, 23, 0xff },		/* F32 */
	{ 8, 64, 0, 0 },
	{ 8, 64, 52, 0x7ff },		/* F64 */
};

void wfs_d2_put_window(uint8_t out[WFS_D2_WINDOW_LEN], const struct wfs_d2_window *w)
{
	wfs_put16(out, (uint16_t)(w->first | (w->n - 1u) << 12));
}

struct wfs_d2_window wfs_d2_get_window(const uint8_t in[WFS_D2_WINDOW_LEN])
{
	unsigned v = wfs_get16(in);

	return (struct wfs_d2_window){ .first = v & 0xfff, .n = (uint8_t)((v >> 12) + 1) };
}

uint32_t wfs_d2_log2(uint32_t x)
{
	unsigned e = 31 - (unsigned)__builtin_clz(x);
	uint64_t m = (uint64_t)x << (31 - e);
	uint32_t r = e;

	for (int i = 0; i < 24; i++) {		/* squaring doubles the logarithm */
		m = m * m >> 31;
		r <<= 1;
		if (m >> 32) {
			m >>= 1;
			r |= 1;
		}
	}
	return r;
}

/* Four counters a value, since the same one comes again before an increment is done. */
static inline __attribute__((always_inline))
void count(uint32_t cells[WFS_D2_RAW_MAX], const struct wfs_d2_units *u, unsigned width)
{
	unsigned shift = u->kind->shift, mask = u->kind->mask;
	uint32_t part[4][256], i = 0;

	if (mask < 256) {
		memset(part, 0, sizeof(part));
		for (; i + 4 <= u->n; i += 4)
			for (unsigned k = 0; k < 4; k++)
				part[k][wfs_d2_load(u->old, i + k, width) >> shift & mask]++;
		for (unsigned v = 0; v <= mask; v++)
			cells[v] += part[0][v] + part[1][v] + part[2][v] + part[3][v];
	}
	for (; i < u->n; i++)
		cells[wfs_d2_load(u->old, i, width) >> shift & mask]++;
}

void wfs_d2_count(uint32_t cells[WFS_D2_RAW_MAX], const struct wfs_d2_units *u)
{
	memset(cells, 0, WFS_D2_RAW_MAX * sizeof(*cells));
	switch (u->kind->width) {
	case 1:	count(cells, u, 1); break;
	case 2:	count(cells, u, 2); break;
	case 4:	count(cells, u, 4); break;
	default: count(cells, u, 8); break;
	}
}

static inline __attribute__((always_inline))
void classify(uint8_t *restrict classes, uint32_t i, const struct wfs_d2_units *u, const struct wfs_d2_window *w, unsigned width)
{
	const uint8_t *restrict old = u->old;
	const unsigned shift = u->kind->shift, mask = u->kind->mask, n = u->n;
	const uint16_t first = w->first, most = (uint16_t)(w->n - 1);

	for (; i < n; i++) {
		uint64_t v = wfs_d2_load(old, i, width);
		uint16_t raw = (width == 8 ? v >> shift : (uint32_t)v >> shift) & mask;
		uint16_t above = raw > first ? (uint16_t)(raw - first) : 0;

		classes[i] = (uint8_t)WFS_MIN(above, most);
	}
}

void wfs_d2_classify(uint8_t *classes, const struct wfs_d2_units *u, const struct wfs_d2_window *w)
{
	uint32_t done = wfs_d2_portable ? 0 : wfs_d2_classify_fast(classes, u, w);

	switch (u->kind->width) {
	case 1:	classify(classes, done, u, w, 1); break;
	case 2:	classify(classes, done, u, w, 2); break;
	case 4:	classify(classes, done, u, w, 4); break;
	default: classify(classes, done, u, w, 8); break;
	}
}

static inline __attribute__((always_inline))
void sums_of(uint64_t *sums, uint32_t i, uint64_t sum, const struct wfs_d2_units *u, const uint16_t *lut, unsigned width)
{
	unsigned shift = u->kind->shift, mask = u->kind->mask;

	sums += i / WFS_D2_GROUP;
	for (; i + WFS_D2_GROUP <= u->n; i += WFS_D2_GROUP) {
		uint32_t group = 0;

		*sums++ = sum;
		for (unsigned k = 0; k < WFS_D2_GROUP; k++)
			group += lut[wfs_d2_load(u->old, i + k, width) >> shift & mask];
		sum += group;
	}
	*sums++ = sum;
	for (; i < u->n; i++)
		sum += lut[wfs_d2_load(u->old, i, width) >> shift & mask];
	if (u->n % WFS_D2_GROUP)
		*sums = sum;
}

void wfs_d2_sums(uint64_t *sums, const struct wfs_d2_units *u, const struct wfs_d2_window *w,
		 const uint16_t weights[WFS_D2_CLASSES])
{
	uint16_t lut[WFS_D2_RAW_MAX];
	uint64_t sum = 0;
	uint32_t done = wfs_d2_portable ? 0 : wfs_d2_sums_fast(sums, u, w, weights, &sum);

	for (unsigned v = 0; v <= u->kind->mask; v++)
		lut[v] = weights[wfs_d2_class(w, v)];
	switch (u->kind->width) {
	case 1:	sums_of(sums, done, sum, u, lut, 1); break;
	case 2:	sums_of(sums, done, sum, u, lut, 2); break;
	case 4:	sums_of(sums, done, sum, u, lut, 4); break;
	default: sums_of(sums, done, sum, u, lut, 8); break;
	}
}
