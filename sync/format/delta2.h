/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delta2.h - what the files of codec delta2 share
 *
 * delta2.c cuts a block into sections, one a kind of unit, whose units lie side by side in
 * memory; the other files see one such array.  Format: weightfs-format(5), "Codec delta2".
 *
 * Everything is integer arithmetic, so that all machines write and read the same bytes.  A path
 * for one kind of processor must yield what the portable one yields; test-delta compares them.
 */
#ifndef FORMAT_DELTA2_H
#define FORMAT_DELTA2_H

#include "format/format.h"

/* What decides how likely a unit changes: its class is some of the old value's bits. */
struct wfs_d2_kind {
	uint8_t width;			/* bytes of a unit: 1, 2, 4, 8 */
	uint8_t bits;			/* of the unit's value: 8 * width, or 4 */
	uint8_t shift;			/* (old >> shift & mask): a float's exponent */
	uint16_t mask;			/* 0: nothing is known; at most WFS_D2_RAW_MAX - 1 */
};

#define WFS_D2_KINDS	11
#define WFS_D2_RAW_MAX	2048
#define WFS_D2_CLASSES	16

extern const struct wfs_d2_kind wfs_d2_kinds[WFS_D2_KINDS];

/* Classes in use: exponents first .. first + n - 1; those beyond count as the nearest. */
struct wfs_d2_window {
	uint16_t first;
	uint8_t n;			/* 1 .. WFS_D2_CLASSES */
};

static inline unsigned wfs_d2_class(const struct wfs_d2_window *w, unsigned raw)
{
	unsigned above = raw > w->first ? raw - w->first : 0;

	return WFS_MIN(above, w->n - 1u);
}

/* Two bytes in the object. */
#define WFS_D2_WINDOW_LEN 2
void wfs_d2_put_window(uint8_t out[WFS_D2_WINDOW_LEN], const struct wfs_d2_window *w);
struct wfs_d2_window wfs_d2_get_window(const uint8_t in[WFS_D2_WINDOW_LEN]);

static inline __attribute__((always_inline))
uint64_t wfs_d2_load(const uint8_t *units, size_t i, unsigned width)
{
	const uint8_t *p = units + i * width;

	switch (width) {
	case 1:	return *p;
	case 2:	return wfs_get16(p);
	case 4:	return wfs_get32(p);
	default: return wfs_get64(p);
	}
}

static inline __attribute__((always_inline))
void wfs_d2_store(uint8_t *units, size_t i, unsigned width, uint64_t v)
{
	uint8_t *p = units + i * width;

	switch (width) {
	case 1:	*p = (uint8_t)v; break;
	case 2:	wfs_put16(p, (uint16_t)v); break;
	case 4:	wfs_put32(p, (uint32_t)v); break;
	default: wfs_put64(p, v); break;
	}
}

/* new - old as a signed number of so many bits, folded: 0, -1, 1, -2, 2 .. become 0, 1, 2, 3, 4 .. */
static inline uint64_t wfs_d2_fold(uint64_t old, uint64_t new, unsigned bits)
{
	unsigned unused = 64 - bits;
	int64_t d = (int64_t)((new - old) << unused);

	return (((uint64_t)d << 1) ^ (uint64_t)(d >> 63)) >> unused;
}

static inline uint64_t wfs_d2_unfold(uint64_t z)
{
	return (z >> 1) ^ (0 - (z & 1));
}

/* The units of one section, side by side. */
struct wfs_d2_units {
	const struct wfs_d2_kind *kind;
	uint32_t n;
	const uint8_t *old;
	const uint8_t *new;		/* when encoding */
};

/* Base-2 logarithm of x > 0 in units of 2^-24. */
uint32_t wfs_d2_log2(uint32_t x);
/* How many units of each exponent there are. */
void wfs_d2_count(uint32_t cells[WFS_D2_RAW_MAX], const struct wfs_d2_units *u);
/* The class of every unit. */
void wfs_d2_classify(uint8_t *classes, const struct wfs_d2_units *u, const struct wfs_d2_window *w);

#define WFS_D2_GROUP 16
/* sums[g]: the weights of all units before group g of WFS_D2_GROUP units, for all groups and the
 * end; a weight is below 2^15; weights[] by class. */
void wfs_d2_sums(uint64_t *sums, const struct wfs_d2_units *u, const struct wfs_d2_window *w,
		 const uint16_t weights[WFS_D2_CLASSES]);

/* The same for the first units, as far as this processor has something better than the portable
 * loop (delta2_x86.c).  They return for how many units, 0 if not at all; *sum becomes their weight. */
uint32_t wfs_d2_classify_fast(uint8_t *classes, const struct wfs_d2_units *u, const struct wfs_d2_window *w);
uint32_t wfs_d2_sums_fast(uint64_t *sums, const struct wfs_d2_units *u, const struct wfs_d2_window *w,
			  const uint16_t *weights, uint64_t *sum);
/* For tests: the portable loops do everything. */
extern _Thread_local bool wfs_d2_portable;

/* 4-bit elements of len bytes one to a byte, the low one first, and back; from and to may not overlap. */
void wfs_d2_unpack(uint8_t *to, const uint8_t *from, size_t len);
void wfs_d2_pack(uint8_t *to, const uint8_t *from, size_t len);
/* About what changes of integers of so many bytes take, as they are and as those of 4-bit units packed into
 * them, in 2^-24 bits. */
void wfs_d2_packed_costs(uint64_t *whole, uint64_t *packed, const uint8_t *old, const uint8_t *new, size_t len,
			 unsigned width);

/* Positions and changes of few units (delta2_sparse*.c). */
int wfs_d2_sparse_encode(struct wfs_buf *out, const struct wfs_d2_units *u, const uint32_t *changed,
			 uint32_t n_changed, struct wfs_err *err);
int wfs_d2_sparse_decode(uint8_t *units, const struct wfs_d2_units *u, const uint8_t *in, size_t len,
			 struct wfs_err *err);

/* The change of every unit, 0 too (delta2_dense*.c). */
int wfs_d2_dense_encode(struct wfs_buf *out, const struct wfs_d2_units *u, struct wfs_err *err);
int wfs_d2_dense_decode(uint8_t *units, const struct wfs_d2_units *u, const uint8_t *in, size_t len,
			struct wfs_err *err);

#endif
